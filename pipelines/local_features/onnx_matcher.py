"""Runs an .onnx file of the user that matches local features, such as an export of LightGlue for ALIKED or SuperPoint.

The file is recognised by its inputs and outputs. It has four inputs: the keypoints of both photos, (1, n, 2), whose
names contain "kpt" or "keypoint", and their descriptors, (1, n, D), whose names contain "desc"; the first photo's come
first, or their names end in 0 and 1. Keypoints are from -1 to 1 along the longer side of the photo; with two more
inputs whose names contain "size", (1, 2), width and height, they are in pixels. Its output whose name contains "match"
and not "score" is the pairs of matched features, (p, 2), or the number of each feature's partner, (1, n), -1 for none;
scores, whose names contain "score", may be missing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.errors import first_line

from ..networks.errors import NetworkError
from ..networks.onnx_network import open_session
from .errors import LocalFeaturesError
from .features import LocalFeatures

KEYPOINTS, DESCRIPTORS, SIZES, MATCHES, SCORES = "keypoints", "descriptors", "size", "match", "score"
_WORDS = {KEYPOINTS: ("kpt", "keypoint"), DESCRIPTORS: ("desc",), SIZES: ("size",)}
_TYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}


class OnnxMatcher:
    """Matches local features with ONNX Runtime. The instance is a function of the features of two photos.

    Args:
        path: the .onnx file, see the module.

    Raises:
        LocalFeaturesError: the file cannot be loaded, or its inputs and outputs are not those of a matcher.
        MissingExtraError: ONNX Runtime is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._session = open_session(path)
        except NetworkError as error:
            raise LocalFeaturesError(str(error)) from error
        given = self._session.get_inputs()
        found = {kind: _pair(words, given) for kind, words in _WORDS.items()}
        if not found[KEYPOINTS] or not found[DESCRIPTORS] or sum(map(len, found.values())) != len(given):
            listed = ", ".join(f"{one.name} {one.type} {one.shape}" for one in given)
            raise LocalFeaturesError(
                f"{path} is not a matcher of local features: its inputs must be the keypoints and the descriptors of "
                f"two photos, and are {listed}"
            )
        self._inputs = found
        names = [output.name for output in self._session.get_outputs()]
        matches = [name for name in names if MATCHES in name.lower() and SCORES not in name.lower()]
        if not matches:
            raise LocalFeaturesError(
                f"{path} is not a matcher of local features: of its outputs {', '.join(names)} none is named matches"
            )
        self._output = matches[0]

    def __call__(self, query: LocalFeatures, other: LocalFeatures) -> tuple[np.ndarray, np.ndarray]:
        """Matches the features of two photos; see `matchers.Matcher`.

        Raises:
            LocalFeaturesError: the network fails on these features, for example because they are of another extractor,
                or its output does not have the expected form.
        """
        if not len(query) or not len(other):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        feed: dict[str, np.ndarray] = {}
        for place, features in enumerate((query, other)):
            sides = np.array([features.width, features.height], np.float32)
            points = features.keypoints - np.float32(0.5)
            if not self._inputs[SIZES]:
                points = (features.keypoints - sides / 2) / (sides.max() / 2)
            arrays = {KEYPOINTS: points, DESCRIPTORS: features.descriptors, SIZES: sides}
            for kind, pair in self._inputs.items():
                if pair:
                    feed[pair[place].name] = arrays[kind][None].astype(_TYPES[pair[place].type])
        try:
            (found,) = self._session.run([self._output], feed)
        except Exception as error:  # ONNX Runtime has an exception class for each status
            raise LocalFeaturesError(f"{self._path.name} fails on these features: {first_line(error)}") from error
        return self._rows(np.asarray(found), len(query), len(other))

    def _rows(self, found: np.ndarray, count: int, others: int) -> tuple[np.ndarray, np.ndarray]:
        if found.ndim == 3 and len(found) == 1:
            found = found[0]
        if found.ndim == 2 and found.shape[1] == 3:  # the first column is the number of the pair of photos
            found = found[:, 1:]
        if found.shape in ((1, count), (count,)) and found.shape != (1, 2):
            partners = found.reshape(-1)
            rows = np.flatnonzero(partners >= 0)
            found = np.stack([rows, partners[rows]], axis=1)
        if found.ndim != 2 or found.shape[1] != 2:
            raise LocalFeaturesError(f"the output {self._output} of {self._path.name} has the shape {found.shape}")
        rows, columns = found.astype(np.int64).T
        if len(rows) and not (rows.min() >= 0 <= columns.min() and rows.max() < count and columns.max() < others):
            raise LocalFeaturesError(f"the output {self._output} of {self._path.name} names features that do not exist")
        return rows, columns


def _pair(words: Sequence[str], inputs: Sequence[Any]) -> list[Any]:
    """The two inputs whose names contain one of the words, those of the first photo first; [] if there are not two."""
    found = [one for one in inputs if any(word in one.name.lower() for word in words) and one.type in _TYPES]
    found.sort(key=lambda one: one.name.rstrip("_").endswith(("1", "b")))
    return found if len(found) == 2 else []

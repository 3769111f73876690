"""Runs an .onnx file of the user that finds local features, such as an export of ALIKED, DISK or SuperPoint.

The file is recognised by its inputs and outputs. It has one input, an image (1, 3, H, W), (1, 1, H, W), (1, H, W, 3) or
the same without the first axis, whose height and width may be fixed; numbers are from 0 to 1, or from 0 to 255 if their
type is uint8. Its outputs are keypoints, (n, 2): x and y in pixels, or from -1 to 1 across the image; descriptors,
(n, D) or (D, n); and scores, (n,), which may be missing if the keypoints are in the order of their quality. An axis of
length 1 in front is allowed. Names of outputs need only contain these words.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_retrieval.errors import first_line

from ..networks.errors import NetworkError
from ..networks.onnx_network import open_session
from ..photos.reader import PhotoError
from .errors import LocalFeaturesError

Found = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Keypoints (n, 2) in pixels of the given photo, where the centre of the first pixel is 0; scores (n,); descriptors
(n, D)."""

KEYPOINTS, SCORES, DESCRIPTORS = "keypoint", "score", "descriptor"
_TYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}
_GREY = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class _Input:
    """The input of an extractor.

    Attributes:
        name: its name.
        dtype: the type of its numbers.
        batched: whether its first axis is that of the batch.
        channels: 3, or 1 for grey.
        last: whether the channels are the last axis.
        sides: its height and width, None where any is accepted.
    """

    name: str
    dtype: Any
    batched: bool
    channels: int
    last: bool
    sides: tuple[int | None, int | None]

    def tensor(self, pixels: np.ndarray) -> np.ndarray:
        """Converts a photo (H, W, 3) uint8, resized to the fixed sides if there are any."""
        height, width = (fixed or side for fixed, side in zip(self.sides, pixels.shape[:2], strict=True))
        if (height, width) != pixels.shape[:2]:
            pixels = np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
        photo = pixels.astype(np.float32)
        if self.channels == 1:
            photo = (photo @ _GREY)[..., None]
        photo = np.rint(photo) if self.dtype == np.uint8 else photo / 255.0
        photo = photo if self.last else photo.transpose(2, 0, 1)
        return np.ascontiguousarray(photo[None] if self.batched else photo, self.dtype)

    def extent(self, tensor: np.ndarray) -> tuple[int, int]:
        """The width and the height of a tensor of this input."""
        height, width = tensor.shape[-3:-1] if self.last else tensor.shape[-2:]
        return width, height


class OnnxExtractor:
    """Finds local features with ONNX Runtime. The instance is a function of a photo, (H, W, 3) uint8.

    Args:
        path: the .onnx file, see the module.

    Raises:
        LocalFeaturesError: the file cannot be loaded, or its inputs and outputs are not those of an extractor.
        MissingExtraError: ONNX Runtime is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._session = open_session(path)
        except NetworkError as error:
            raise LocalFeaturesError(str(error)) from error
        self._input = _photo_input(path, self._session.get_inputs())
        names = [output.name for output in self._session.get_outputs()]
        self._outputs = {word: _named(word, names) for word in (KEYPOINTS, DESCRIPTORS, SCORES)}
        for word in (KEYPOINTS, DESCRIPTORS):
            if self._outputs[word] is None:
                raise LocalFeaturesError(
                    f"{path} is not an extractor of local features: of its outputs {', '.join(names)} none is named "
                    f"{word}s"
                )

    def __call__(self, pixels: np.ndarray) -> Found:
        """Finds the features of a photo.

        Raises:
            PhotoError: the network fails on this photo, or its outputs do not have the expected shapes.
        """
        photo = self._input.tensor(pixels)
        wanted = {word: name for word, name in self._outputs.items() if name is not None}
        try:
            results = self._session.run(list(wanted.values()), {self._input.name: photo})
        except Exception as error:  # ONNX Runtime has an exception class for each status
            raise PhotoError(self._path.name, f"{self._path.name} fails on it: {first_line(error)}") from error
        found = dict(zip(wanted, results, strict=True))
        keypoints: Any = _squeezed(found[KEYPOINTS], 2).astype(np.float32)
        descriptors = _squeezed(found[DESCRIPTORS], 2).astype(np.float32)
        if descriptors.shape[0] != len(keypoints) and descriptors.shape[-1] == len(keypoints):
            descriptors = descriptors.T
        scores = _squeezed(found[SCORES], 1) if SCORES in found else -np.arange(len(keypoints))
        shapes = keypoints.shape[1:] == (2,) and len(keypoints) == len(descriptors) == len(scores)
        if not shapes:
            given = ", ".join(f"{word}s {result.shape}" for word, result in found.items())
            raise PhotoError(self._path.name, f"the outputs of {self._path.name} for it are not of one number: {given}")
        width, height = self._input.extent(photo)
        if len(keypoints) and np.abs(keypoints).max() <= 1.0 + 1e-4:
            keypoints = (keypoints + 1) / 2 * np.array([width - 1, height - 1], np.float32)
        ratio = np.array([pixels.shape[1] / width, pixels.shape[0] / height], np.float32)
        return (keypoints + 0.5) * ratio - 0.5, scores.astype(np.float32), descriptors


def _photo_input(path: Path, inputs: list[Any]) -> _Input:
    """Recognises the input of an extractor.

    Raises:
        LocalFeaturesError: it is not one image.
    """
    listed = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
    if len(inputs) == 1 and inputs[0].type in _TYPES and len(inputs[0].shape) in (3, 4):
        (one,) = inputs
        shape = [side if isinstance(side, int) else None for side in one.shape]
        batched, image = len(shape) == 4, shape[-3:]
        one_photo = not batched or shape[0] in (None, 1)
        if one_photo and image[0] in (1, 3):
            return _Input(one.name, _TYPES[one.type], batched, image[0], False, (image[1], image[2]))
        if one_photo and image[2] in (1, 3):
            return _Input(one.name, _TYPES[one.type], batched, image[2], True, (image[0], image[1]))
    raise LocalFeaturesError(
        f"{path} is not an extractor of local features: its input must be one image with 1 or 3 channels, and its "
        f"inputs are {listed}"
    )


def _named(word: str, names: list[str]) -> str | None:
    """The first output whose name contains a word; "kpts" and "desc" are understood, too."""
    short = {KEYPOINTS: "kpt", DESCRIPTORS: "desc"}.get(word, word)
    # "keypoint_scores" are scores.
    names = [name for name in names if word == SCORES or SCORES not in name.lower()]
    return next((name for part in (word, short) for name in names if part in name.lower()), None)


def _squeezed(array: np.ndarray, axes: int) -> np.ndarray:
    """Removes axes of length 1 in front, and at the end of scores, until there are `axes`."""
    while array.ndim > axes and array.shape[0] == 1:
        array = array[0]
    while array.ndim > axes and array.shape[-1] == 1:
        array = array[..., 0]
    return array

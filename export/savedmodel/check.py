"""Whether a written SavedModel describes photos as its network does in Keras: it is loaded as a server loads it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from keras_retrieval.pipelines.descriptors.describer import DescribeFn
from keras_retrieval.pipelines.photos.reader import PhotoError, photo_size
from keras_retrieval.pipelines.photos.reading import Reading

from ..contract.signatures import DESCRIPTORS, IMAGE_BYTES, OK, REASONS, SERVING_DEFAULT, STATUS

COSINE, COSINE_AT_SIZE = 0.9999, 0.99999
"""The least cosine to Keras' descriptor of the same file: of a photo that is shrunk, and of one that is not."""


@dataclass(frozen=True)
class Agreement:
    """What came of a comparison.

    Attributes:
        photos: how many were compared.
        lowest: the least cosine.
        refused: why the server would not take the others, which Python reads.
    """

    photos: int
    lowest: float
    refused: dict[str, str]


@contextmanager
def served(folder: Path) -> Iterator["Served"]:
    """Loads a version folder in a Session of its own, by the C++ loader, and closes it behind."""
    import tensorflow as tf

    v1 = tf.compat.v1
    v1.logging.set_verbosity(v1.logging.ERROR)  # that this loader is an old one is what it is here for
    graph = tf.Graph()
    with graph.as_default():
        session = v1.Session(graph=graph)
        meta = v1.saved_model.loader.load(session, ["serve"], str(folder))
    try:
        yield Served(session, meta.signature_def)
    finally:
        session.close()


class Served:
    """A loaded version: `predict` feeds and fetches tensors by name, as TensorFlow Serving does."""

    def __init__(self, session: Any, signatures: Mapping[str, Any]) -> None:
        self._session, self.signatures = session, signatures

    def predict(self, signature: str, **inputs: Any) -> dict[str, np.ndarray]:
        """All outputs of a signature."""
        found = self.signatures[signature]
        feeds = {found.inputs[name].name: value for name, value in inputs.items()}
        return self._session.run({name: output.name for name, output in found.outputs.items()}, feeds)


def compare(folder: Path, describe: DescribeFn, reading: Reading, names: Sequence[str]) -> Agreement:
    """Describes photos by a written version and by Keras.

    Args:
        folder: of the version.
        describe: from `describer`, of the same network.
        reading: how Python reads the photos.
        names: of the photos; those that Python does not read are left out.

    Raises:
        ValueError: a descriptor is too far from Keras'; the message names the photo. Or no photo was compared.
    """
    lowest, compared, refused = 1.0, 0, {}
    with served(folder) as version:
        for name in names:
            try:
                pixels = reading.read(name)
            except PhotoError:
                continue
            answer = version.predict(SERVING_DEFAULT, **{IMAGE_BYTES: [(reading.folder / name).read_bytes()]})
            if answer[STATUS][0] != OK:
                refused[name] = REASONS[int(answer[STATUS][0])]
                continue
            cosine = _cosine(describe(pixels[None])[0], answer[DESCRIPTORS][0])
            _require(cosine, reading, name)
            lowest, compared = min(lowest, cosine), compared + 1
    if not compared:
        raise ValueError(f"{reading.folder}: none of {len(names)} photos could be compared {refused or ''}".rstrip())
    return Agreement(compared, lowest, refused)


def _cosine(x: np.ndarray, y: np.ndarray) -> float:
    # A descriptor's own length is 1 but for the floor under its norm, which a short vector feels.
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def _require(cosine: float, reading: Reading, name: str) -> None:
    at_size = max(photo_size(reading.folder / name)) <= (reading.size or np.inf)
    least = COSINE_AT_SIZE if at_size else COSINE
    if not cosine >= least:
        raise ValueError(
            f"{name}: the served descriptor has a cosine of {cosine:.6f} to Keras', and {least} is the least: "
            "nothing was written"
        )

"""Compares the descriptors of a written SavedModel with those of Keras. The SavedModel is loaded as servers load it."""

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
from .errors import SavedModelError

COSINE, COSINE_AT_SIZE = 0.9999, 0.99999
"""Minimum cosine similarity to Keras' descriptor of the same photo: if the photo is shrunk, and if it is not shrunk."""


@dataclass(frozen=True)
class Agreement:
    """The result of comparing the descriptors of an exported network with those of Keras.

    Attributes:
        photos: number of photos that were compared.
        lowest: smallest cosine similarity between the two descriptors of a photo.
        refused: photos that Keras could describe although the exported network rejected them; the reason by photo name.
    """

    photos: int
    lowest: float
    refused: dict[str, str]


@contextmanager
def loaded_version(folder: Path) -> Iterator["LoadedVersion"]:
    """Loads a version into a Session with TensorFlow's C++ loader, and closes the Session at the end of the context.

    Args:
        folder: folder of the version, a SavedModel.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    v1.logging.set_verbosity(v1.logging.ERROR)  # the loader warns that it is deprecated, but servers use it as well
    graph = tf.Graph()
    with graph.as_default():
        session = v1.Session(graph=graph)
        meta = v1.saved_model.loader.load(session, ["serve"], str(folder))
    try:
        yield LoadedVersion(session, meta.signature_def)
    finally:
        session.close()


class LoadedVersion:
    """A loaded version of a network, which computes the outputs of its signatures as TensorFlow Serving does.

    Args:
        session: tf.compat.v1.Session into which the SavedModel was loaded.
        signatures: SignatureDef of each signature, by name.
    """

    def __init__(self, session: Any, signatures: Mapping[str, Any]) -> None:
        self._session, self.signatures = session, signatures

    def predict(self, signature: str, **inputs: Any) -> dict[str, np.ndarray]:
        """Computes all outputs of a signature.

        Args:
            signature: name of the signature.
            **inputs: value of each input tensor, by input name.

        Returns:
            The output tensors, by output name.
        """
        found = self.signatures[signature]
        feeds = {found.inputs[name].name: value for name, value in inputs.items()}
        return self._session.run({name: output.name for name, output in found.outputs.items()}, feeds)


def compare(folder: Path, describe: DescribeFn, reading: Reading, names: Sequence[str]) -> Agreement:
    """Compares the descriptors that a written version computes from photo files with those of Keras.

    Args:
        folder: folder of the version.
        describe: function that computes the descriptors in Keras, from `pipelines.descriptors.describer.describer`.
        reading: photo folder, and settings with which Python reads the photos for Keras.
        names: names of the photos; photos that Python cannot read are skipped.

    Returns:
        The number of photos compared, the smallest cosine similarity, and the photos that only the version rejected.

    Raises:
        SavedModelError: the cosine similarity for a photo is below 0.9999, or below 0.99999 for a photo that is not
            shrunk (the message names the photo), or no photo could be compared.
    """
    lowest, compared, refused = 1.0, 0, {}
    with loaded_version(folder) as version:
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
            _require_close(cosine, reading, name)
            lowest, compared = min(lowest, cosine), compared + 1
    if not compared:
        reasons = f": {refused}" if refused else ""
        raise SavedModelError(f"{reading.folder}: not one of {len(names)} photos could be compared{reasons}")
    return Agreement(compared, lowest, refused)


def _cosine(x: np.ndarray, y: np.ndarray) -> float:
    # Because of the epsilon in the L2 normalisation, descriptors of small activations are slightly shorter than 1.
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def _require_close(cosine: float, reading: Reading, name: str) -> None:
    at_size = max(photo_size(reading.folder / name)) <= (reading.size or np.inf)
    least = COSINE_AT_SIZE if at_size else COSINE
    if not cosine >= least:
        raise SavedModelError(
            f"{name}: the exported version's descriptor has a cosine of {cosine:.6f} to Keras', below {least}: "
            "nothing was written"
        )

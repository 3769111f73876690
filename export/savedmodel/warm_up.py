"""Requests that a server answers before a version is ready, so that no user waits for the first one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..contract.signatures import (
    EMBED_REGIONS,
    IMAGE_BYTES,
    IMAGES,
    IMAGES_UINT8,
    LEAVES,
    NEIGHBOURS,
    PIXELS,
    SEARCH,
    SERVING_DEFAULT,
    WARM_UP,
)

_SIDE = 224  # of the pixels that warm the signatures which take pixels


def require_extra() -> None:
    """Raises ImportError with the pip command if TensorFlow Serving's messages are not installed."""
    try:
        import tensorflow_serving.apis  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'TensorFlow Serving\'s messages are not installed ({error}): pip install "keras-retrieval[serving]"'
        ) from error


def write_warm_up(folder: Path, name: str, signatures: Sequence[str], photos: Sequence[bytes]) -> None:
    """Writes one record for each signature and photo.

    Args:
        folder: of the version.
        name: of the model, as its users will ask for it.
        signatures: of `signatures.py`.
        photos: files, one of each kind whose reading is to be warm.
    """
    import numpy as np
    import tensorflow as tf

    pixels = np.zeros((1, _SIDE, _SIDE, 3))
    one = {IMAGE_BYTES: list(photos[:1])}
    inputs: dict[str, list[dict[str, Any]]] = {
        SERVING_DEFAULT: [{IMAGE_BYTES: [photo]} for photo in photos],
        EMBED_REGIONS: [one],
        SEARCH: [one | {NEIGHBOURS: 1, LEAVES: 0}],
        IMAGES: [{PIXELS: pixels.astype("float32")}],
        IMAGES_UINT8: [{PIXELS: pixels.astype("uint8")}],
    }
    records = [_record(name, signature, given) for signature in signatures for given in inputs[signature]]
    path = folder / WARM_UP
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


def _record(name: str, signature: str, inputs: Mapping[str, Any]) -> bytes:
    import tensorflow as tf
    from tensorflow_serving.apis.predict_pb2 import PredictRequest
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog, PredictLog

    request = PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return PredictionLog(predict_log=PredictLog(request=request)).SerializeToString()

"""Writes the warm-up requests of a version, which a server runs after loading the version, before it serves clients."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_retrieval.errors import missing_extra

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

_SIDE = 224  # height and width in pixels of the images for signatures whose input is pixels


def require_extra() -> None:
    """Checks that TensorFlow Serving's message types (the package tensorflow-serving-api) are installed.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        import tensorflow_serving.apis  # noqa: F401
    except ImportError as error:
        raise missing_extra("tensorflow-serving-api", "serving", error) from error


def write_warm_up(folder: Path, name: str, signatures: Sequence[str], photos: Sequence[bytes]) -> None:
    """Writes warm-up requests for every signature of a version to a TFRecord file in its folder.

    Args:
        folder: folder of the version.
        name: name under which the model will be served.
        signatures: names of the version's signatures.
        photos: bytes of photo files, at least one, which cover the formats to warm up. `serving_default` gets one
            request per photo, and every other signature gets one request.
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
    records = [_record(name, signature, request) for signature in signatures for request in inputs[signature]]
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

"""Warm-up replayed: the requests that a version brings are run before any client's, so that none of these is slow.

They are PredictionLog records in a TFRecord file, which `warm_up.py` writes. One that is broken or fails is a sign of
a broken model: it fails the load.
"""

from typing import Any

from ..contract.signatures import WARM_UP
from .classify_regress import classify, multi_inference, regress
from .errors import Code, ServingError, invalid
from .limits import Deadline
from .predict import predict, run_at_once
from .servable import Servable

MOST_RECORDS = 1000
ANSWERS = {
    "predict_log": predict,
    "classify_log": classify,
    "regress_log": regress,
    "multi_inference_log": multi_inference,
}


def warm_up(servable: Servable) -> int:
    """Runs a version's warm-up requests.

    Returns:
        How many there were.

    Raises:
        ServingError: more than MOST_RECORDS, or one that cannot be read.
        tf.errors.OpError: one that the model cannot answer.
    """
    path = servable.path / WARM_UP
    if not path.is_file():
        return 0
    count = 0
    for count, record in enumerate(_records(str(path)), 1):
        if count > MOST_RECORDS:
            raise invalid(f"Number of warmup records exceeds the maximum ({MOST_RECORDS}) at {path}")
        _run(servable, record, str(path))
    return count


def _records(path: str) -> Any:
    import tensorflow as tf

    try:
        yield from tf.data.TFRecordDataset(path).as_numpy_iterator()
    except tf.errors.DataLossError as error:
        advice = f"{error.message}. Please verify your warmup data is in TFRecord format."
        raise ServingError(Code.DATA_LOSS, advice) from None


def _run(servable: Servable, record: bytes, path: str) -> None:
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import prediction_log_pb2

    try:
        log = prediction_log_pb2.PredictionLog.FromString(record)
    except DecodeError:
        raise invalid(f"Failed to parse warmup record: {record[:64]!r} from {path}") from None
    kind = log.WhichOneof("log_type")
    if kind == "session_run_log":
        raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind}")
    if kind is not None:
        ANSWERS[kind](servable, getattr(log, kind).request, run_at_once, Deadline())

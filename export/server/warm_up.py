"""Runs the warm-up requests of a version before it becomes available, so that no client waits for a slow first request.

The requests are PredictionLog records in a TFRecord file, as `export.savedmodel.warm_up` writes them. If a record is
damaged or its request fails, the version is not served, because either indicates a broken model.
"""

import time
from typing import Any

from ..contract.signatures import WARM_UP
from .classify_regress import classify, multi_inference, regress
from .errors import Code, ServingError, as_serving_error, invalid
from .limits import Deadline
from .metrics import WARM_UP_LATENCY, WARM_UP_RECORDS, Metrics
from .predict import predict, run_directly
from .servable import Servable

MOST_RECORDS = 1000
ANSWERS = {
    "predict_log": predict,
    "classify_log": classify,
    "regress_log": regress,
    "multi_inference_log": multi_inference,
}


def warm_up(servable: Servable, iterations: int = 1, metrics: Metrics | None = None, check_method: bool = False) -> int:
    """Runs all warm-up requests of a version.

    Args:
        servable: the loaded version.
        iterations: number of times that each request is run.
        metrics: metrics in which the records and the duration are counted.
        check_method: whether a signature must have the method of the request.

    Returns:
        The number of records that were read; 0 if the version has no file of warm-up requests.

    Raises:
        ServingError: there are more than 1,000 records, a record cannot be read, or a request is invalid.
        tf.errors.OpError: the model fails on a request.
    """
    path = servable.path / WARM_UP
    if not path.is_file():
        return 0
    metrics, started, count, status = metrics or Metrics(), time.monotonic(), 0, Code.OK
    try:
        for count, record in enumerate(_records(str(path)), 1):
            if count > MOST_RECORDS:
                raise invalid(f"Number of warmup records exceeds the maximum ({MOST_RECORDS}) at {path}")
            _run(servable, record, str(path), iterations, check_method)
            metrics.count(WARM_UP_RECORDS, model_path=str(servable.path))
    except Exception as error:
        failure = as_serving_error(error)
        status = Code.UNKNOWN if failure is None else failure.code
        raise
    finally:
        seconds = time.monotonic() - started
        metrics.time(WARM_UP_LATENCY, seconds, model_path=str(servable.path), status=status.name)
    return count


def _records(path: str) -> Any:
    import tensorflow as tf

    try:
        yield from tf.data.TFRecordDataset(path).as_numpy_iterator()
    except tf.errors.DataLossError as error:
        advice = f"{error.message}. Please verify your warmup data is in TFRecord format."
        raise ServingError(Code.DATA_LOSS, advice) from None


def _run(servable: Servable, record: bytes, path: str, iterations: int, check_method: bool) -> None:
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import prediction_log_pb2

    try:
        log = prediction_log_pb2.PredictionLog.FromString(record)
    except DecodeError:
        raise invalid(f"Failed to parse warmup record: {record[:64]!r} from {path}") from None
    kind = log.WhichOneof("log_type")
    if kind == "session_run_log":
        raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind}")
    for _ in range(iterations if kind is not None else 0):
        ANSWERS[kind](servable, getattr(log, kind).request, run_directly, Deadline(), check_method)

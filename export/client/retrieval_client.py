"""retrieval_client."""

import itertools
import random
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from keras_retrieval.pipelines.photos.formats import PhotoError, Source

from ..contract.signatures import (
    BOXES,
    DESCRIPTORS,
    IMAGE_BYTES,
    NAMES,
    NEIGHBOURS,
    OK,
    REASONS,
    SCORES,
    SEARCH,
    SERVING_DEFAULT,
    STATUS,
)
from ..index_contract.contract import Hits

PORT = 8500
MODEL = "retrieval"
BATCH, TIMEOUT, RETRIES = 16, 30.0, 5
FIRST_WAIT, LONGEST_WAIT = 0.1, 3.0  # seconds between attempts: each wait is twice as long, but for chance

CHANNEL = {
    "grpc.max_receive_message_length": -1,  # 4 MB by default: 2,000 descriptors of 512 numbers
    "grpc.max_send_message_length": -1,
    "grpc.enable_retries": 0,
    # A new attempt is a new connection, not the answer of the last one.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1000,
}


Box = tuple[float, float, float, float]
WHOLE: Box = (0, 0, 0, 0)  # the box of a photo that is looked for as a whole
Server = Annotated[str, typer.Option(help="HOST or HOST:PORT of gRPC.")]
Model = Annotated[str, typer.Option(help="Name that the network is served by.")]
Version = Annotated[int | None, typer.Option(help="Version of it; the newest if left out.")]
Batch = Annotated[int, typer.Option(help="Photos in a request.")]
Timeout = Annotated[float, typer.Option(help="Seconds for a request with all its attempts.")]
Tls = Annotated[bool, typer.Option(help="Encrypt; the system's authorities vouch for the server.")]
Ca = Annotated[Path | None, typer.Option(help="PEM file of the authorities that do.")]
Certificate = Annotated[Path | None, typer.Option(help="PEM file of your certificate, where asked for.")]
Key = Annotated[Path | None, typer.Option(help="PEM file of its key.")]


class RetrievalClient:
    """Asks a server for descriptors of photos, or for their neighbours. Threads may share it.

    Args:
        address: HOST or HOST:PORT of gRPC.
        model: the name that it is served by.
        version: a version of it; None for the newest.
        batch: photos in a request.
        timeout: seconds for a request with all its attempts.
        retries: attempts after the first, with waits that double, where the server is UNAVAILABLE; every other error
            is final.
        tls: encrypt, and check the server's certificate against the system's authorities.
        ca: PEM file of the authorities to check it against; encrypts.
        certificate: PEM file of the client's own certificate chain, for servers that ask; encrypts.
        key: PEM file of its private key.

    Raises:
        ImportError: TensorFlow Serving's message types are not installed.
        ValueError: a batch below 1, or a certificate without its key.
        OSError: a PEM file cannot be read.

    Example:
        >>> with RetrievalClient("localhost:8500", model="landmarks") as client:
        ...     client.describe(["a.jpg", "b.jpg"]).shape
        (2, 512)
    """

    def __init__(
        self,
        address: str = f"localhost:{PORT}",
        *,
        model: str = MODEL,
        version: int | None = None,
        batch: int = BATCH,
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        tls: bool = False,
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
    ) -> None:
        if batch < 1:
            raise ValueError(f"a request has at least 1 photo, not batch={batch}")
        if (certificate is None) != (key is None):
            raise ValueError("a client's certificate and its key go together: give both or none")
        grpc, service = _grpc()
        self.address = address if re.search(r":\d+$", address) else f"{address}:{PORT}"
        self.model, self.version = model, version
        self._batch, self._timeout, self._retries = batch, timeout, retries
        options = list(CHANNEL.items())
        if tls or ca or certificate:
            pem = [None if path is None else Path(path).read_bytes() for path in (ca, key, certificate)]
            self._channel = grpc.secure_channel(self.address, grpc.ssl_channel_credentials(*pem), options)
        else:
            self._channel = grpc.insecure_channel(self.address, options)
        self._predict = service.PredictionServiceStub(self._channel).Predict

    def describe(self, photos: Sequence[Source]) -> np.ndarray:
        """Descriptors of photos.

        Args:
            photos: paths, or bytes of files.

        Returns:
            (B, D) float32, in the order of the photos.

        Raises:
            PhotoError: the server cannot read one of the photos; the message names it.
            ConnectionError: the server is not reached, or not ready, after all attempts.
            TimeoutError: it has not answered in time.
            ValueError: it refuses the request, as for an unknown model; or there is no photo.
            OSError: a photo's file cannot be opened.
        """
        rows, status = self.describe_readable(photos)
        for number in np.flatnonzero(status != OK).tolist():
            raise PhotoError(_name(photos, number), _reason(status[number]))
        return rows

    def describe_readable(self, photos: Sequence[Source]) -> tuple[np.ndarray, np.ndarray]:
        """As `describe`, but a photo that the server cannot read is no error.

        Returns:
            (B, D) float32, zero for such a photo, and (B,) int32: the codes of `export.signatures`, 0 for a descriptor.
        """
        if not photos:
            raise ValueError("no photo to describe")
        answers = [self._described(photos[start : start + self._batch]) for start in self._starts(photos)]
        rows, status = (np.concatenate(parts) for parts in zip(*answers, strict=True))
        return rows, status

    def search(self, photos: Sequence[Source], k: int = 10, boxes: Sequence[Box | None] = ()) -> list[Hits]:
        """Neighbours of photos, by `keras-retrieval serve --index`, or by a version that was exported with its index.

        Args:
            photos: paths, or bytes of files.
            k: how many of each, at most.
            boxes: of each photo the part to look for, (left, top, right, bottom) in pixels of the upright photo, or
                None for the whole; () for none at all.

        Returns:
            Of each photo its neighbours, best first, as many as there are.

        Raises:
            PhotoError: the server cannot read one of the photos, or its box; the message names it.
            Exception: as `describe`.
        """
        if boxes and len(boxes) != len(photos):
            raise ValueError(f"{len(boxes)} boxes for {len(photos)} photos: give one for each, or None")
        found = []
        for start in self._starts(photos):
            end = start + self._batch
            hits, status = self._searched(photos[start:end], k, boxes[start:end])
            for number in np.flatnonzero(status != OK).tolist():
                raise PhotoError(_name(photos, start + number), _reason(status[number]))
            found += hits
        return found

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def __enter__(self) -> "RetrievalClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _starts(self, photos: Sequence[Source]) -> range:
        if isinstance(photos, str | bytes | Path):
            raise ValueError(f"give a list of photos, paths or bytes, not {photos!r:.60}")
        return range(0, len(photos), self._batch)

    def _described(self, photos: Sequence[Source]) -> tuple[np.ndarray, np.ndarray]:
        response = self._call(self._request(SERVING_DEFAULT, photos, [DESCRIPTORS, STATUS]))
        rows = _array(response.outputs[DESCRIPTORS], "float_val", np.float32)
        status = _array(response.outputs[STATUS], "int_val", np.int32)
        if rows.shape[:1] != (len(photos),) or rows.ndim != 2 or status.shape != (len(photos),):
            raise ValueError(f"{self.address} answers {len(photos)} photos with {rows.shape} and {status.shape}")
        return rows, status

    def _searched(self, photos: Sequence[Source], k: int, boxes: Sequence[Box | None]) -> tuple[list[Hits], np.ndarray]:
        request = self._request(SEARCH, photos, [NAMES, SCORES, STATUS])
        _fill(request.inputs[NEIGHBOURS], "int", np.array(k))
        if any(boxes):
            _fill(request.inputs[BOXES], "float", np.array([box or WHOLE for box in boxes], np.float32))
        response = self._call(request)
        scores = _array(response.outputs[SCORES], "float_val", np.float32)
        status = _array(response.outputs[STATUS], "int_val", np.int32)
        names = [name.decode("utf-8", "surrogatepass") for name in response.outputs[NAMES].string_val]
        if scores.shape[:1] != (len(photos),) or len(names) != scores.size or status.shape != (len(photos),):
            raise ValueError(f"{self.address} answers {len(photos)} photos with {scores.shape} and {status.shape}")
        return _hits(names, scores), status

    def _request(self, signature: str, photos: Sequence[Source], outputs: Sequence[str]) -> Any:
        from tensorflow.core.framework import types_pb2
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest(output_filter=outputs)
        request.model_spec.name, request.model_spec.signature_name = self.model, signature
        if self.version is not None:
            request.model_spec.version.value = self.version
        tensor = request.inputs[IMAGE_BYTES]
        tensor.dtype = types_pb2.DT_STRING
        tensor.tensor_shape.dim.add(size=len(photos))
        tensor.string_val.extend(map(_bytes, photos))
        return request

    def _call(self, request: Any) -> Any:
        import grpc

        end = time.monotonic() + self._timeout
        for attempt in itertools.count():
            try:
                return self._predict(request, timeout=max(end - time.monotonic(), 0))
            except grpc.RpcError as error:
                wait = min(FIRST_WAIT * 2**attempt, LONGEST_WAIT) * random.uniform(0.5, 1)
                again = error.code() is grpc.StatusCode.UNAVAILABLE and attempt < self._retries
                if not again or time.monotonic() + wait >= end:
                    raise self._explained(error, attempt + 1) from error
            time.sleep(wait)
        raise AssertionError("itertools.count ends")

    def _explained(self, error: Any, attempts: int) -> Exception:
        name, details = error.code().name, error.details()
        if name == "UNAVAILABLE":
            return ConnectionError(f"{self.address} is not available after {attempts} attempts: {details}")
        if name == "DEADLINE_EXCEEDED":
            return TimeoutError(f"{self.address} has not answered within {self._timeout:g} s: {details}")
        return ValueError(f"{self.address} refuses what is asked of the model {self.model} ({name}): {details}")


def _grpc() -> tuple[Any, Any]:
    try:
        import grpc
        from tensorflow_serving.apis import prediction_service_pb2_grpc
    except ImportError as error:
        raise ImportError(
            f'{error.name} speaks to servers and is not installed: pip install "keras-retrieval[serving]"'
        ) from error
    return grpc, prediction_service_pb2_grpc


def _bytes(photo: Source) -> bytes:
    return photo if isinstance(photo, bytes) else Path(photo).read_bytes()


def _name(photos: Sequence[Source], number: int) -> str:
    photo = photos[number]
    return f"photo {number}" if isinstance(photo, bytes) else str(photo)


def _reason(code: int) -> str:
    return REASONS.get(int(code), f"the server gives it the status {code}")


def _hits(names: Sequence[str], scores: np.ndarray) -> list[Hits]:
    """Rows of neighbours; what fills a shorter row up has a score of -infinity."""
    ends, width = np.isfinite(scores).sum(axis=1).tolist(), scores.shape[1]
    return [Hits(list(names[row * width : row * width + end]), scores[row, :end]) for row, end in enumerate(ends)]


def _fill(tensor: Any, kind: str, values: np.ndarray) -> None:
    """Writes numbers, "int" or "float", into a TensorProto."""
    from tensorflow.core.framework import types_pb2

    tensor.dtype = {"int": types_pb2.DT_INT32, "float": types_pb2.DT_FLOAT}[kind]
    tensor.tensor_shape.SetInParent()
    for size in values.shape:
        tensor.tensor_shape.dim.add(size=size)
    getattr(tensor, f"{kind}_val").extend(values.reshape(-1).tolist())


def _array(tensor: Any, field: str, dtype: type) -> np.ndarray:
    """A TensorProto of numbers; TensorFlow Serving fills typed fields, others the plain bytes."""
    shape = [dimension.size for dimension in tensor.tensor_shape.dim]
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, dtype).reshape(shape)
    return np.array(getattr(tensor, field), dtype).reshape(shape)

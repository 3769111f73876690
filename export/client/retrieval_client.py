"""A gRPC client of served networks, which sends photos and receives descriptors or neighbours.

The client connects to TensorFlow Serving or to `keras-retrieval serve`, which must serve a version written by
`keras-retrieval export-saved-model`. It sends the bytes of photo files, which the server decodes.
"""

import random
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from keras_retrieval.pipelines.photos.formats import PhotoError, Source

from keras_retrieval.errors import ArgumentError, RetrievalError, missing_extra

from ..contract.signatures import (
    BOXES,
    DESCRIPTORS,
    HIT_BOXES,
    INLIERS,
    MATCH_BOXES,
    NAMES,
    NEIGHBOURS,
    OK,
    PROBABILITIES,
    QUERY_BOXES,
    REASONS,
    SCORES,
    SEARCH,
    SERVING_DEFAULT,
    STATUS,
    WHERE,
)
from .errors import RequestRefusedError, ResponseError, ServerTimeoutError, ServerUnavailableError
from .messages import ServedHits, photo_request, read_numbers, read_strings, split_hits, write_numbers, write_text
from .predict_messages import METHOD, Messages, predict_messages

PORT = 8500
MODEL = "retrieval"
BATCH, TIMEOUT, RETRIES = 16, 30.0, 5
FIRST_WAIT, LONGEST_WAIT = 0.1, 3.0  # seconds before the first retry, and the limit after doubling; with random jitter

CHANNEL = {
    "grpc.max_receive_message_length": -1,  # no limit; the default, 4 MB, is 2,000 descriptors of 512 numbers
    "grpc.max_send_message_length": -1,
    "grpc.enable_retries": 0,
    "grpc.lb_policy_name": "round_robin",  # requests to a name go to all of its servers in turn
    # With short backoffs, each attempt opens a new connection instead of repeating the last error.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1000,
}

Box = tuple[float, float, float, float]
_MORE = {
    "boxes": (HIT_BOXES, "float", (4,)),
    "inliers": (INLIERS, "int", ()),
    "match_boxes": (MATCH_BOXES, "float", (4,)),
    "query_boxes": (QUERY_BOXES, "float", (4,)),
    "probabilities": (PROBABILITIES, "float", ()),
}
"""Attributes of `ServedHits` from outputs that not every server has: name, kind and shape of a neighbour's value."""
WHOLE: Box = (0, 0, 0, 0)  # the box of the whole photo


class RetrievalClient:
    """Computes descriptors of photos, or finds their neighbours, on a server. Several threads may use one client.

    Args:
        address: HOST or HOST:PORT at which the server listens for gRPC; the default port is 8500. If the name has
            several addresses, as that of a headless service of Kubernetes, their servers get requests in turn.
        model: name of the served model.
        version: version number of the model; None for the newest version.
        batch: maximum number of photos per request.
        timeout: time limit of a request in seconds, including all retries.
        retries: maximum number of retries, with exponential backoff. A request is only retried if the server answers
            UNAVAILABLE or cannot be reached.
        tls: whether to encrypt the connection, and to verify the server's certificate with the system's certificate
            authorities.
        ca: PEM file of the certificate authorities to trust instead of those of the system; enables TLS.
        certificate: PEM file of the client's certificate chain, for servers that require one; enables TLS.
        key: PEM file of the private key of `certificate`.
        token: secret of a server that was started with --token; None for none.

    Raises:
        MissingExtraError: gRPC or protobuf, which are dependencies of TensorFlow, cannot be imported.
        ArgumentError: `batch` is below 1, or only one of `certificate` and `key` is given.
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
        token: str | None = None,
    ) -> None:
        if batch < 1:
            raise ArgumentError(f"batch must be at least 1, got {batch}")
        if (certificate is None) != (key is None):
            raise ArgumentError("certificate and key belong together: give both or neither")
        grpc, messages = _grpc()
        self.address = address if re.search(r":\d+$", address) else f"{address}:{PORT}"
        self.model, self.version = model, version
        self._batch, self._timeout, self._retries = batch, timeout, retries
        self._metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        options = list(CHANNEL.items())
        if tls or ca or certificate:
            pem = [None if path is None else Path(path).read_bytes() for path in (ca, key, certificate)]
            self._channel = grpc.secure_channel(self.address, grpc.ssl_channel_credentials(*pem), options)
        else:
            self._channel = grpc.insecure_channel(self.address, options)
        self._predict = self._channel.unary_unary(
            METHOD,
            request_serializer=messages.request.SerializeToString,
            response_deserializer=messages.response.FromString,
        )

    def describe(self, photos: Sequence[Source]) -> np.ndarray:
        """Computes the descriptors of photos.

        Args:
            photos: paths of B photo files, or their bytes.

        Returns:
            The descriptors, (B, D) float32, in the order of the photos.

        Raises:
            PhotoError: the server cannot read one of the photos; the message names the photo.
            MissingPhotoError: a photo does not exist.
            OSError: a photo file cannot be read.
            ArgumentError: `photos` is empty, or is a single photo instead of a sequence.
            ServerUnavailableError: the server cannot be reached or is not ready, after all attempts.
            ServerTimeoutError: the server has not answered before the time limit.
            RequestRefusedError: the server rejects the request, for example because the model is unknown.
            ResponseError: the tensors in the response have unexpected shapes.
        """
        rows, status = self.describe_readable(photos)
        _require_read(photos, status)
        return rows

    def describe_readable(self, photos: Sequence[Source]) -> tuple[np.ndarray, np.ndarray]:
        """Computes descriptors like `describe`, but raises no error for photos that the server cannot read.

        Args:
            photos: paths of B photo files, or their bytes.

        Returns:
            The descriptors, (B, D) float32, and the status codes, (B,) int32. The row of a photo that cannot be read is
            zero, and its status is a nonzero code of `export.contract.signatures`. The status of other photos is 0.

        Raises:
            RetrievalError: as for `describe`, except PhotoError.
            OSError: a photo file cannot be read.
        """
        if not photos:
            raise ArgumentError("photos must contain at least one photo, got none")
        responses = [self._describe_batch(photos[start : start + self._batch]) for start in self._starts(photos)]
        rows, status = (np.concatenate(parts) for parts in zip(*responses, strict=True))
        return rows, status

    def search(
        self,
        photos: Sequence[Source],
        k: int = 10,
        boxes: Sequence[Box | None] = (),
        where: str | Sequence[str] = (),
    ) -> list[ServedHits]:
        """Finds the nearest neighbours of photos in an index on the server.

        The server is `keras-retrieval serve --index`, or serves a version that was exported with its index.

        Args:
            photos: paths of photo files, or their bytes.
            k: maximum number of neighbours per photo.
            boxes: for each photo, the part to search for, as (left, top, right, bottom) in pixels of the upright photo,
                or None for the whole photo; () to search for all photos as a whole. A version that was exported with
                its index does not support boxes.
            where: conditions on the columns of the index that neighbours must satisfy, such as "year >= 2010", as the
                step `search` takes them. A version that was exported with its index does not support them.

        Returns:
            The neighbours of each photo, by descending score; fewer than `k` if the search finds fewer. Those of an
            index with crops have `boxes`, without `sizes`. Those of a server that verifies (`serve --verify`) are in
            the order of verification, with the number of points that agree and their boxes.

        Raises:
            ArgumentError: the number of boxes differs from the number of photos, or `photos` is a single photo.
            PhotoError: the server cannot read one of the photos, or its box is invalid; the message names the photo.
            RetrievalError: further errors as for `describe`.
        """
        if boxes and len(boxes) != len(photos):
            raise ArgumentError(
                f"boxes must contain one box or None for each of {len(photos)} photos, got {len(boxes)}"
            )
        found: list[ServedHits] = []
        condition = where if isinstance(where, str) else "\n".join(where)
        for start in self._starts(photos):
            end = start + self._batch
            hits, status = self._search_batch(photos[start:end], k, boxes[start:end], condition)
            _require_read(photos, status, start)
            found += hits
        return found

    def close(self) -> None:
        """Closes the connection to the server."""
        self._channel.close()

    def __enter__(self) -> "RetrievalClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _starts(self, photos: Sequence[Source]) -> range:
        if isinstance(photos, str | bytes | Path):
            raise ArgumentError(f"photos must be a list of paths or bytes, got {photos!r:.60}")
        return range(0, len(photos), self._batch)

    def _describe_batch(self, photos: Sequence[Source]) -> tuple[np.ndarray, np.ndarray]:
        request = photo_request(self.model, self.version, SERVING_DEFAULT, photos, [DESCRIPTORS, STATUS])
        response = self._call(request)
        rows = read_numbers(response.outputs[DESCRIPTORS], "float")
        status = read_numbers(response.outputs[STATUS], "int")
        if rows.ndim != 2 or len(rows) != len(photos) or status.shape != (len(photos),):
            raise self._misshapen(photos, rows, status)
        return rows, status

    def _search_batch(
        self, photos: Sequence[Source], k: int, boxes: Sequence[Box | None], where: str
    ) -> tuple[list[ServedHits], np.ndarray]:
        request = photo_request(self.model, self.version, SEARCH, photos, [])  # all that the server has
        write_numbers(request.inputs[NEIGHBOURS], "int", np.array(k))
        if any(boxes):
            write_numbers(request.inputs[BOXES], "float", np.array([box or WHOLE for box in boxes], np.float32))
        if where:
            write_text(request.inputs[WHERE], where)
        response = self._call(request)
        names, scores = read_strings(response.outputs[NAMES]), read_numbers(response.outputs[SCORES], "float")
        status = read_numbers(response.outputs[STATUS], "int")
        more = {
            attribute: read_numbers(response.outputs[output], kind)
            for attribute, (output, kind, _) in _MORE.items()
            if output in response.outputs
        }
        if scores.shape[:1] != (len(photos),) or len(names) != scores.size or status.shape != (len(photos),):
            raise self._misshapen(photos, scores, status)
        for attribute, values in more.items():
            if values.shape != (*scores.shape, *_MORE[attribute][2]):
                raise self._misshapen(photos, values, status)
        return split_hits(names, scores, more), status

    def _misshapen(self, photos: Sequence[Source], rows: np.ndarray, status: np.ndarray) -> ResponseError:
        shapes = f"{rows.shape} and status {status.shape}"
        return ResponseError(f"{self.address} answers {len(photos)} photos with tensors of the shapes {shapes}")

    def _call(self, request: Any) -> Any:
        import grpc

        end = time.monotonic() + self._timeout
        attempt = 0
        while True:
            try:
                return self._predict(request, timeout=max(end - time.monotonic(), 0), metadata=self._metadata)
            except grpc.RpcError as error:
                wait = min(FIRST_WAIT * 2**attempt, LONGEST_WAIT) * random.uniform(0.5, 1)
                retry = error.code() is grpc.StatusCode.UNAVAILABLE and attempt < self._retries
                if not retry or time.monotonic() + wait >= end:
                    raise self._error(error, attempt + 1) from error
            time.sleep(wait)
            attempt += 1

    def _error(self, error: Any, attempts: int) -> RetrievalError:
        code, details = error.code().name, error.details()
        if code == "UNAVAILABLE":
            return ServerUnavailableError(f"{self.address} is not available after {attempts} attempts: {details}")
        if code == "DEADLINE_EXCEEDED":
            return ServerTimeoutError(f"{self.address} has not answered within {self._timeout:g} s: {details}")
        return RequestRefusedError(f"{self.address} refuses the request for the model {self.model} ({code}): {details}")


def photo_error(photos: Sequence[Source], number: int, code: int) -> PhotoError:
    """Makes the error for a photo that the server could not read.

    Args:
        photos: photos of the request, paths or bytes.
        number: position of the photo in `photos`.
        code: status code of the photo in the response, other than OK.
    """
    photo = photos[number]
    name = f"photo {number}" if isinstance(photo, bytes) else str(photo)
    return PhotoError(name, REASONS.get(code, f"the server gives it the status {code}"))


def _require_read(photos: Sequence[Source], status: np.ndarray, start: int = 0) -> None:
    """Raises the `PhotoError` of the first photo whose status is not OK; status[0] belongs to photos[start]."""
    for number in np.flatnonzero(status != OK).tolist():
        raise photo_error(photos, start + number, int(status[number]))


def _grpc() -> tuple[Any, Messages]:
    try:
        import grpc

        return grpc, predict_messages()
    except ImportError as error:
        raise missing_extra(error.name or "grpcio", "serving", error) from error

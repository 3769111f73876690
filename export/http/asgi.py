"""The ASGI application between the HTTP library and the functions that answer: bodies, limits, threads."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from .bodies import BodyLimits, HeldBody, HeldBytes, is_gzip, unzipped, unzipped_size
from .content import reduced
from .errors import ClientGoneError, HttpRefusalError
from .messages import Answer, Request, Response, error_response

log = logging.getLogger("keras_retrieval")

LARGEST_HEAD = 2**15  # maximum size in bytes of the request line and the headers
READ_SECONDS = 30.0  # to receive a body, in addition to a second for each LEAST_RATE bytes
LEAST_RATE = 2048
LINGER_SECONDS = 5.0  # during which the rest of a refused request is read and discarded
LARGE, MOST_LARGE = 2**23, 2  # bytes of a large body, and large bodies that are parsed and answered at once
UNZIPPING, MOST_UNZIPPING = 2, 32  # threads that unzip, and bodies that wait for them or are being unzipped

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Admit = Callable[[Request], Response | None]
"""Function that decides on a request whose body has not been read; None admits it."""


class Answers:
    """An ASGI application that reads requests completely and answers them with a function.

    Args:
        answer: function that answers a request, called on `threads` threads.
        admit: function that refuses requests before their body is read, called in the event loop.
        limits: function that returns the limits of the body of a request, which has no body yet.
        held: memory of all bodies.
        threads: number of requests that are answered concurrently.
        most_requests: maximum number of requests that are complete and wait for their response or are being answered.
        stopping: function that returns whether the server is being stopped.
    """

    def __init__(
        self,
        answer: Answer,
        *,
        admit: Admit,
        limits: Callable[[Request], BodyLimits],
        held: HeldBytes,
        threads: int,
        most_requests: int,
        stopping: Callable[[], bool],
    ) -> None:
        self._answer, self._admit, self._limits, self._held = answer, admit, limits, held
        self._most_requests, self._running, self._unzipping = most_requests, 0, 0
        self._stopping = stopping
        self._large = asyncio.Semaphore(MOST_LARGE)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="http")
        self._unzip = ThreadPoolExecutor(UNZIPPING, thread_name_prefix="unzip")

    def close(self) -> None:
        """Ends the threads; calls that have not begun are dropped."""
        for pool in (self._pool, self._unzip):
            pool.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one request; called by the HTTP library."""
        incoming = _Incoming(receive)
        try:
            request = _head(scope)
            with self._held.body() as held:
                response = self._admit(request) or await self._response(request, incoming, held)
        except HttpRefusalError as refusal:
            response = error_response(refusal.status, str(refusal), refusal.headers)
        except ClientGoneError:
            return
        await _send(send, response, self._stopping(), incoming)

    async def _response(self, head: Request, incoming: "_Incoming", held: HeldBody) -> Response:
        limits = self._limits(head)
        limits.check(_declared_length(head))
        zipped = is_gzip(head.headers.get("content-encoding", ""), limits)
        body = await _body(incoming, limits, held)
        if zipped:
            body = await self._unzipped(body, limits, held)
        request = Request(head.method, head.path, head.query, head.headers, body)
        async with self._large if len(body) > LARGE else contextlib.nullcontext():
            return await self._counted(request)

    async def _counted(self, request: Request) -> Response:
        if self._running >= self._most_requests:
            raise HttpRefusalError(429, f"{self._most_requests} requests are waiting already; try again")
        self._running += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._answered, request)
        finally:
            self._running -= 1

    async def _unzipped(self, body: bytes, limits: BodyLimits, held: HeldBody) -> bytes:
        if self._unzipping >= MOST_UNZIPPING:
            raise HttpRefusalError(503, f"{MOST_UNZIPPING} bodies are being unzipped already; try again")
        self._unzipping += 1
        loop = asyncio.get_running_loop()
        try:
            held.add(await loop.run_in_executor(self._unzip, unzipped_size, body, limits))
            return await loop.run_in_executor(self._unzip, unzipped, body, limits)
        finally:
            self._unzipping -= 1

    def _answered(self, request: Request) -> Response:
        try:
            return reduced(request, self._answer(request))
        except Exception as error:
            log.exception("%s %s failed", request.method, request.path)
            return error_response(500, f"The server failed, and its log says why: {type(error).__name__}")


class _Incoming:
    """The messages of a request.

    Attributes:
        ended: whether the whole request has arrived, or its client is gone.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive, self.ended = receive, False

    async def receive(self) -> Message:
        message = await self._receive()
        self.ended = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def discard(self) -> None:
        """Reads the rest of the request, for a limited time.

        A connection that is closed while its client still sends is reset by the system, which can take the response
        from the client.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while not self.ended:
                    await self.receive()


def _head(scope: Message) -> Request:
    """Makes a request without its body from an ASGI scope; a target in absolute form becomes its path and Host."""
    size = len(scope["raw_path"]) + len(scope["query_string"])
    if size + sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > LARGEST_HEAD:
        raise HttpRefusalError(431, "Request head too large")
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    target, query = scope["raw_path"].decode("ascii"), scope["query_string"].decode("latin-1")
    if target.lower().startswith(("http://", "https://")):
        try:
            parts = urlsplit(target)
        except ValueError:
            raise HttpRefusalError(400, "Malformed request line") from None
        target, headers["host"] = parts.path or "/", parts.netloc
    if not target.startswith("/") and (target, scope["method"]) != ("*", "OPTIONS"):
        raise HttpRefusalError(400, "Malformed request line")
    if "transfer-encoding" in headers and "content-length" in headers:
        problem = "Transfer-Encoding must be chunked, without a Content-Length"
        raise HttpRefusalError(400, problem, {"Connection": "close"})  # another server may see two requests in it
    return Request(scope["method"], target, query, headers)


def _declared_length(request: Request) -> int:
    """Returns the length of the body, which the HTTP library has checked to be a number; 0 if it is not declared."""
    return int(request.headers.get("content-length", "0").split(",")[0])


async def _body(incoming: _Incoming, limits: BodyLimits, held: HeldBody) -> bytes:
    pieces: list[bytes] = []
    size, started = 0, asyncio.get_running_loop().time()
    while True:
        try:
            async with asyncio.timeout_at(started + READ_SECONDS + size / LEAST_RATE):
                message = await incoming.receive()
        except TimeoutError:
            raise HttpRefusalError(408, "The body did not arrive in time") from None
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        piece = message.get("body", b"")
        size += len(piece)
        limits.check(size)
        held.add(len(piece))
        pieces.append(piece)
        if not message.get("more_body", False):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def _send(send: Send, response: Response, close: bool, incoming: _Incoming) -> None:
    body = response.body.encode() if isinstance(response.body, str) else response.body
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers.items()]
    if response.status != 304:
        headers.append((b"Content-Type", response.content_type.encode("latin-1")))
        headers.append((b"Content-Length", str(len(body)).encode()))
    if close:
        headers.append((b"Connection", b"close"))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": not incoming.ended})
    if not incoming.ended:
        await incoming.discard()
        await send({"type": "http.response.body", "body": b""})

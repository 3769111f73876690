"""A small HTTP/1.1 server with limits on the size of everything that a client sends, and on the time to send it.

One event loop reads and writes for all connections, so that idle connections cost little. A fixed number of threads
computes the responses.
"""

import asyncio
import contextlib
import http
import io
import logging
import re
import ssl
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from http.client import parse_headers

from .content import reduced
from .errors import HttpRefusalError, ListenError
from .messages import Answer, Request, Response, error_response

log = logging.getLogger("keras_retrieval")


LARGEST_HEAD = 2**16  # maximum size in bytes of the request line and the headers
MOST_CONNECTIONS = 1024
IDLE_SECONDS = 75.0  # seconds that a connection waits for its next request
READ_SECONDS = 30.0  # seconds to receive the request line and headers, and each READ_BYTES of a body
READ_BYTES = 2**16
LINGER_SECONDS = 5.0  # seconds during which the rest of a refused request is read and discarded
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class HttpServer:
    """A running HTTP or HTTPS server, which answers requests with a function.

    Args:
        answer: function that answers a request, called on `threads` threads. Its responses are compressed, or replaced
            by 304, where the client allows it; see `content.reduced`. An error that it raises is logged and answered
            with status 500.
        host: address to listen on.
        port: port to listen on; 0 selects any free port.
        threads: number of requests that are answered concurrently.
        most_requests: maximum number of requests that are being read or answered; further requests get status 429.
        max_body: maximum size of a body in bytes; larger bodies get status 413.
        ssl_context: TLS context; None for plaintext.

    Attributes:
        port: port on which the server listens.

    Raises:
        ListenError: the server cannot listen on the address.
    """

    def __init__(
        self,
        answer: Answer,
        *,
        host: str,
        port: int,
        threads: int,
        most_requests: int,
        max_body: int,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._answer, self._most_requests, self._max_body = answer, most_requests, max_body
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="rest")
        self._connections: dict[asyncio.Task[None], bool] = {}  # whether a request is being read or answered
        self._stopping = False
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="rest", daemon=True).start()
        listening = asyncio.start_server(self._connected, host, port, limit=LARGEST_HEAD, backlog=1024, ssl=ssl_context)
        try:
            self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result()
        except OSError as error:
            self._loop.call_soon_threadsafe(self._loop.stop)
            raise ListenError(f"HTTP cannot listen at {host}:{port}: {error}") from None
        self.port: int = self._server.sockets[0].getsockname()[1]

    def stop(self, grace: float) -> None:
        """Refuses new requests, waits until running requests are finished, and stops the server.

        Args:
            grace: maximum time to wait in seconds; requests that are still running afterwards are cancelled.
        """
        asyncio.run_coroutine_threadsafe(self._stop(grace), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _stop(self, grace: float) -> None:
        self._stopping = True
        self._server.close()
        for task, busy in list(self._connections.items()):
            if not busy:
                task.cancel()
        if self._connections:
            _, late = await asyncio.wait(self._connections, timeout=grace)
            for task in late:
                task.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = False
        try:
            if len(self._connections) > MOST_CONNECTIONS:
                await _send(writer, error_response(503, "Too many connections"), close=True)
            else:
                await self._serve_connection(task, reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError, TimeoutError):
            pass  # the client disconnected or was too slow
        finally:
            del self._connections[task]
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _serve_connection(
        self, task: "asyncio.Task[None]", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        keep = True
        while keep and not self._stopping:
            self._connections[task] = False
            first = await asyncio.wait_for(reader.readexactly(1), IDLE_SECONDS)
            self._connections[task] = True
            try:
                keep = await self._serve_request(first, reader, writer)
            except HttpRefusalError as refusal:
                self._connections[task] = False
                await _send(writer, error_response(refusal.status, str(refusal)), close=True)
                await _discard(reader)
                return

    async def _serve_request(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        method, (path, _, query), version, headers = await _head(first, reader)
        if sum(self._connections.values()) > self._most_requests:
            raise HttpRefusalError(429, f"{self._most_requests} requests are waiting already; try again")
        if headers.get("Expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = _unzipped(await _body(reader, headers, self._max_body), headers, self._max_body)
        request = Request(method, path, query, _by_name(headers), body)
        response = await self._loop.run_in_executor(self._pool, self._answered, request)
        wanted = headers.get("Connection", "").lower()
        close = self._stopping or wanted == "close" or (version == "HTTP/1.0" and wanted != "keep-alive")
        await _send(writer, response, close, without_body=method == "HEAD")
        return not close

    def _answered(self, request: Request) -> Response:
        try:
            return reduced(request, self._answer(request))
        except Exception as error:
            log.exception("%s %s failed", request.method, request.path)
            return error_response(500, f"The server failed, and its log says why: {type(error).__name__}")


async def _head(first: bytes, reader: asyncio.StreamReader) -> tuple[str, tuple[str, str, str], str, Message]:
    try:
        rest = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), READ_SECONDS)
    except asyncio.LimitOverrunError:
        raise HttpRefusalError(431, "Request head too large") from None
    line, _, lines = (first + rest).lstrip(b"\r\n").partition(b"\r\n")
    words = line.decode("latin-1").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1.") or _CONTROL.search(words[1]):
        raise HttpRefusalError(400, "Malformed request line")
    try:
        headers = parse_headers(io.BytesIO(lines))
    except http.client.HTTPException:
        raise HttpRefusalError(431, "Too many headers") from None
    return words[0], words[1].partition("?"), words[2], headers


def _by_name(headers: Message) -> dict[str, str]:
    return {name.lower(): ", ".join(headers.get_all(name, [])) for name in headers}


async def _body(reader: asyncio.StreamReader, headers: Message, most: int) -> bytes:
    lengths = headers.get_all("Content-Length", [])
    if headers.get("Transfer-Encoding"):
        if lengths or headers["Transfer-Encoding"].lower() != "chunked":
            raise HttpRefusalError(400, "Transfer-Encoding must be chunked, without a Content-Length")
        return await _chunks(reader, most)
    if len(set(lengths)) > 1 or not all(length.isascii() and length.isdigit() for length in lengths):
        raise HttpRefusalError(400, "Content-Length must be one whole number")
    length = int(lengths[0]) if lengths else 0
    _check_size(length, most)
    return await _read(reader, length)


async def _chunks(reader: asyncio.StreamReader, most: int) -> bytes:
    body = bytearray()
    while True:
        line = await asyncio.wait_for(reader.readuntil(b"\r\n"), READ_SECONDS)
        try:
            size = int(line.split(b";")[0], 16)
        except ValueError:
            raise HttpRefusalError(400, "Chunk size must be a hexadecimal number") from None
        _check_size(len(body) + size, most)
        body += await _read(reader, size)
        if size == 0:
            while await asyncio.wait_for(reader.readuntil(b"\r\n"), READ_SECONDS) != b"\r\n":
                pass  # trailers
            return bytes(body)
        await asyncio.wait_for(reader.readexactly(2), READ_SECONDS)


async def _read(reader: asyncio.StreamReader, size: int) -> bytes:
    body = bytearray()
    while len(body) < size:
        piece = await asyncio.wait_for(reader.readexactly(min(READ_BYTES, size - len(body))), READ_SECONDS)
        body += piece
    return bytes(body)


async def _discard(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while await reader.read(READ_BYTES):
                pass


def _check_size(size: int, most: int) -> None:
    if not 0 <= size <= most:
        raise HttpRefusalError(413, f"The body is larger than {most} bytes")


def _unzipped(body: bytes, headers: Message, most: int) -> bytes:
    encoding = headers.get("Content-Encoding", "identity").lower()
    if encoding == "identity":
        return body
    if encoding != "gzip":
        raise HttpRefusalError(415, f"Content-Encoding must be gzip or identity, got {encoding}")
    unzip = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        plain = unzip.decompress(body, most + 1)
    except zlib.error:
        raise HttpRefusalError(400, "The body is not in gzip format") from None
    _check_size(len(plain), most)
    if not unzip.eof:
        raise HttpRefusalError(400, "The gzip data of the body is truncated")
    return plain


async def _send(writer: asyncio.StreamWriter, response: Response, close: bool, without_body: bool = False) -> None:
    body = response.body.encode() if isinstance(response.body, str) else response.body
    more = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
    content = f"Content-Type: {response.content_type}\r\nContent-Length: {len(body)}\r\n"
    head = (
        f"HTTP/1.1 {response.status} {_phrase(response.status)}\r\n"
        f"{'' if response.status == 304 else content}{more}"
        f"Connection: {'close' if close else 'keep-alive'}\r\n\r\n"
    )
    writer.write(head.encode() + (b"" if without_body else body))
    await asyncio.wait_for(writer.drain(), READ_SECONDS)


def _phrase(status: int) -> str:
    return http.HTTPStatus(status).phrase if status in {known.value for known in http.HTTPStatus} else "Error"

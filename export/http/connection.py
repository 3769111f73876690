"""One HTTP connection: uvicorn's protocol, with the limits on slow, stuck and numerous clients that it lacks."""

import asyncio
import math
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from .asgi import LARGEST_HEAD, LINGER_SECONDS
from .messages import error_response

HEAD_SECONDS = 30.0  # to receive the request line and the headers
IDLE_SECONDS = 75.0  # that a connection waits for its first or next request
WRITE_SECONDS = 30.0  # in which a client has to take WRITE_BYTES of a response, or the rest of it
WRITE_BYTES = 2**16
WATCH_SECONDS = 1.0  # between two checks of all connections

MOST_CHUNKS, CHUNK_BYTES = 10_000, 256  # chunks of a body, and one more for each CHUNK_BYTES, because each takes time

_IDLE, _HEAD, _ANSWERED, _REST, _DISCARD = "idle", "head", "answered", "rest", "discard"
_REASONS = {
    413: "Too many small chunks",
    431: "Request head too large",
    501: "Transfer-Encoding must be chunked, without a Content-Length",
}


class Parser(h11.Connection):
    """h11's parser, which refuses bodies of many small chunks."""

    _chunks = 0.0

    def next_event(self) -> Any:
        """Returns the next event of the connection."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = 0.0
        elif isinstance(event, h11.Data) and event.chunk_start:
            self._chunks += 1 - len(event.data) / CHUNK_BYTES
            if self._chunks > MOST_CHUNKS:
                raise h11.RemoteProtocolError("too many small chunks", error_status_hint=413)
        return event


class Connection(H11Protocol):
    """A connection of a client.

    Args:
        connections: all connections of the server.
        **arguments: those of uvicorn's protocol.
    """

    def __init__(self, connections: "Connections", **arguments: Any) -> None:
        super().__init__(**arguments)
        self.conn = Parser(h11.SERVER, LARGEST_HEAD)
        self._all = connections
        self._discarding = self._ended = False
        self._state, self.since = _IDLE, time.monotonic()
        self._unsent, self._unsent_since = 0, 0.0
        self.peer = ""

    @property
    def waits(self) -> bool:
        """Whether the server waits for the client: for a request, or for the rest of one."""
        return self._state != _ANSWERED or self.cycle.more_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.peer = self.client[0] if self.client else ""
        if not self._all.admit(self):
            self._refuse(503, "Too many connections")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._all.remove(self)

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), LARGEST_HEAD):  # h11 checks the size of a head that is not complete
            if not self._discarding:
                super().data_received(data[start : start + LARGEST_HEAD])
        self._note()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keeps a connection whose client has sent its requests and waits for the responses."""
        self._ended = True
        if self.waits and self._state == _ANSWERED:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        return not self.waits and self.scheme == "http"  # TLS has no half-closed connections

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._note()
        if self._ended and self.waits:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answers a request that is not HTTP; called while the error of the parser is handled."""
        status = getattr(sys.exc_info()[1], "error_status_hint", 400)
        self._refuse(status, _REASONS.get(status, "Malformed request"))

    def shutdown(self) -> None:
        try:
            super().shutdown()
        except h11.LocalProtocolError:  # a refused request is being discarded
            self.transport.abort()

    def check(self, now: float) -> None:
        """Ends the connection if its client has been too slow.

        Args:
            now: the present time of `time.monotonic`.
        """
        if self._stuck(now):
            self.transport.abort()
        elif now - self.since > _patience(self._state):
            if self._state == _HEAD:
                self._refuse(408, "The request did not arrive in time")
            else:
                self.transport.abort()

    def _stuck(self, now: float) -> bool:
        unsent = self.transport.get_write_buffer_size()
        if not self._unsent - WRITE_BYTES < unsent <= self._unsent:  # less, or those of another response
            self._unsent, self._unsent_since = unsent, now
        return bool(unsent) and now - self._unsent_since > WRITE_SECONDS

    def _note(self) -> None:
        """Notes what the connection waits for, and since when."""
        state = _DISCARD if self._discarding else self._present_state()
        if state != self._state:
            self._state, self.since = state, time.monotonic()

    def _present_state(self) -> str:
        if self.cycle is not None and not self.cycle.response_complete:
            return _ANSWERED
        if self.conn.their_state is h11.SEND_BODY:
            return _REST
        return _HEAD if self.conn.trailing_data[0] else _IDLE

    def _refuse(self, status: int, reason: str) -> None:
        """Answers and ends the connection, after the client has had time to read the answer."""
        if self._discarding or self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        body = str(error_response(status, reason).body).encode()
        headers = [
            (b"Content-Type", b"application/json"),
            (b"Content-Length", str(len(body)).encode()),
            (b"Connection", b"close"),
        ]
        response = h11.Response(status_code=status, headers=headers, reason=STATUS_PHRASES[status])
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self._discarding = True
        self._note()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()


def _patience(state: str) -> float:
    """Returns for how many seconds a client may leave its connection in a state."""
    seconds = {_IDLE: IDLE_SECONDS, _HEAD: HEAD_SECONDS, _REST: LINGER_SECONDS, _DISCARD: LINGER_SECONDS}
    return seconds.get(state, math.inf)


class Connections:
    """All connections of a server, of which there are limits: in all, and for each address of a client.

    A new connection beyond a limit takes the place of the one that has kept the server waiting for longest, so that
    clients that are slow on purpose do not keep others out.

    Args:
        most: maximum number of connections.
        most_a_peer: maximum number of connections from one address.
    """

    def __init__(self, most: int, most_a_peer: int) -> None:
        self.most, self.most_a_peer = most, most_a_peer
        self._by_peer: dict[str, set[Connection]] = defaultdict(set)
        self._count = 0

    def admit(self, connection: Connection) -> bool:
        """Adds a connection, for which another one may be ended.

        Returns:
            Whether there is room for it. It is added in any case.
        """
        others = self._by_peer[connection.peer]
        full = len(others) >= self.most_a_peer and not self._end_longest(others)
        full = full or (self._count >= self.most and not self._end_longest(self._every()))
        others.add(connection)
        self._count += 1
        return not full

    def remove(self, connection: Connection) -> None:
        """Removes a connection that has ended."""
        others = self._by_peer[connection.peer]
        if connection in others:
            others.remove(connection)
            self._count -= 1
        if not others:
            del self._by_peer[connection.peer]

    async def watch(self) -> None:
        """Ends connections that are too slow, until it is cancelled."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            now = time.monotonic()
            for connection in list(self._every()):
                connection.check(now)

    def end(self) -> None:
        """Ends all connections."""
        for connection in list(self._every()):
            connection.transport.abort()

    def _every(self) -> Iterable[Connection]:
        return (connection for connections in self._by_peer.values() for connection in connections)

    def _end_longest(self, connections: Iterable[Connection]) -> bool:
        waiting = [connection for connection in connections if connection.waits]
        if not waiting:
            return False
        longest = min(waiting, key=lambda connection: connection.since)
        longest.transport.abort()
        self.remove(longest)
        return True


class Server(uvicorn.Server):
    """uvicorn's server, with a watch over its connections.

    Args:
        config: uvicorn's configuration.
        connections: the connections of the server.
    """

    def __init__(self, config: uvicorn.Config, connections: Connections) -> None:
        super().__init__(config)
        self._all = connections

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self._watch = asyncio.create_task(self._all.watch())

    async def shutdown(self, sockets: Any = None) -> None:
        await super().shutdown(sockets)
        self._watch.cancel()
        self._all.end()

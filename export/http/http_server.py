"""A running HTTP server: uvicorn in a thread of its own, with limits on everything that a client sends."""

import asyncio
import errno
import functools
import logging
import resource
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

from .asgi import Admit, Answers
from .bodies import HELD_BYTES, BodyLimits, HeldBytes
from .errors import ListenError
from .messages import Answer, Request

MOST_CONNECTIONS, BACKLOG = 1024, 1024
NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)  # of the system, or switched off


class HttpServer:
    """A running HTTP or HTTPS server, which answers requests with a function.

    Args:
        answer: function that answers a request, called on `threads` threads. Its responses are compressed, or replaced
            by 304, where the client allows it; see `content.reduced`. An error that it raises is logged and answered
            with status 500.
        host: address to listen on; "" for all addresses of this machine, those of IPv6 included if it has any.
        port: port to listen on; 0 selects any free port.
        threads: number of requests that are answered concurrently.
        most_requests: maximum number of requests that have arrived completely and are not answered yet; further
            requests get status 429.
        limits: limits of the body of a request; or a function that returns them for a request without its body.
            Larger bodies get status 413.
        held_bytes: maximum size in bytes of all bodies in memory together, of those over 1 MiB each; further ones get
            status 503.
        admit: function that may refuse a request, with its response, before its body is read. It is called in the
            event loop, so it must not wait.
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
        limits: BodyLimits | Callable[[Request], BodyLimits],
        held_bytes: int = HELD_BYTES,
        admit: Admit = lambda _: None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        sockets = _listen(host, port)
        self.port: int = sockets[0].getsockname()[1]
        of_request = (lambda _: limits) if isinstance(limits, BodyLimits) else limits
        self._answers = Answers(
            answer,
            admit=admit,
            limits=of_request,
            held=HeldBytes(held_bytes),
            threads=threads,
            most_requests=most_requests,
            stopping=lambda: self._server.should_exit,
        )
        self._server = _server(self._answers, ssl_context)
        self._thread = threading.Thread(target=self._run, args=(sockets,), name="http", daemon=True)
        self._thread.start()

    def stop(self, grace: float) -> None:
        """Refuses new requests, waits until running requests are finished, and stops the server.

        Args:
            grace: maximum time to wait in seconds; requests that are still running afterwards are cancelled.
        """
        self._server.config.timeout_graceful_shutdown = grace
        self._server.should_exit = True
        self._thread.join()
        self._answers.close()

    def _run(self, sockets: list[socket.socket]) -> None:
        asyncio.run(self._server.serve(sockets))


def _server(answers: Answers, ssl_context: ssl.SSLContext | None) -> Any:
    import uvicorn

    from .connection import IDLE_SECONDS, Connection, Connections, Server

    most = min(MOST_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
    connections = Connections(most, most // 2)
    config = uvicorn.Config(
        answers,
        http=functools.partial(Connection, connections),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level=logging.CRITICAL,  # a request that is not HTTP is no event; errors of answers are logged by `Answers`
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=int(IDLE_SECONDS),
        backlog=BACKLOG,
    )
    config.load()
    config.ssl = ssl_context
    return Server(config, connections)


def _listen(host: str, port: int) -> list[socket.socket]:
    """Opens a socket for each address of a host, all with one port."""
    sockets: list[socket.socket] = []
    try:
        for family, *kind, _, address in socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            chosen = port or (sockets[0].getsockname()[1] if sockets else 0)
            try:
                sockets.append(_opened(socket.socket(family, *kind), (address[0], chosen, *address[2:])))
            except OSError as error:
                if host or family != socket.AF_INET6 or error.errno not in NO_IPV6:
                    raise
    except OSError as error:
        for listening in sockets:
            listening.close()
        raise ListenError(f"HTTP cannot listen at {host or '0.0.0.0'}:{port}: {error}") from None
    return sockets


def _opened(listening: socket.socket, address: tuple[Any, ...]) -> socket.socket:
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listening.family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening

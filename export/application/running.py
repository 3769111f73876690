"""Runs the page of a collection until Ctrl-C or SIGTERM."""

import contextlib
import logging
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable

from ..collection.collection import Collection
from ..collection.progress_line import ProgressLine
from ..collection.work import Work
from ..http.base_path import below, checked_base_path
from ..http.bodies import BodyLimits
from ..http.errors import ListenError
from ..http.guard import Guard
from ..http.host_names import HostNames, is_loopback
from ..http.hosts import address
from ..http.http_server import HttpServer
from ..http.messages import NOT_FOUND
from ..http.stop_signals import stop_signals
from ..http.tokens import read_token
from ..search_page.routes import LARGEST_SEARCH, SearchPage
from ..search_page.sign_in import STYLE, sign_in
from .background import Background
from .options import AppOptions
from .source import CollectionSource

log = logging.getLogger("keras_retrieval")

FIRST_PORT, PORTS = 8000, 100
THREADS, MOST_REQUESTS = 16, 256
GRACE_SECONDS, END_SECONDS = 1.0, 2.0  # for requests in progress, and for the unit of photos in progress
_SHOWN = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # what a browser on this machine opens for all addresses
NO_TOKEN = "Everybody who can reach this address can see the photos; --token FILE asks for a token."
NO_TLS = "The token and the photos are sent unencrypted: let a reverse proxy add TLS, or trust the network."


def run(options: AppOptions, say: Callable[[str], None]) -> None:
    """Shows a collection on a page, and works on it, until the process is asked to end.

    Args:
        options: the options of the step `app`.
        say: function that prints a line.

    Raises:
        RetrievalError: as for `app`.
    """
    base = checked_base_path(options.base_path)
    collection = Collection(
        options.photos,
        state=options.state,
        model=options.model,
        size=options.size,
        crops=options.crops,
        precision=options.precision,
        runtime=options.runtime,
        **options.passed_on,
    )
    line = ProgressLine(sys.stderr)
    background = Background(
        collection,
        watch=options.watch,
        train=options.train,
        intake=options.intake,
        report=_reporter(line),
    )
    source = CollectionSource(collection, background)
    page = SearchPage(source, thumbnails=collection.state / "thumbnails", judging=source.judge)
    try:
        server = _listen(options, base, page)
    except ListenError:
        collection.close()
        raise
    page_address = f"http://{address(_SHOWN.get(options.host, options.host), server.port)}{base}/"
    collection.announce(page_address)
    say(f"{options.photos}: {page_address} (Ctrl-C ends it)")
    if not is_loopback(options.host):
        say(NO_TOKEN if options.token is None else NO_TLS)
    log.addFilter(line.make_way)
    with stop_signals() as stopped:
        background.start()
        if options.open and _has_browser():
            threading.Thread(target=webbrowser.open, args=(page_address,), daemon=True).start()
        stopped.wait()
        line.clear()
        with contextlib.suppress(OSError):  # the terminal may be gone
            say("stopping")
        server.stop(GRACE_SECONDS)
        page.close()
        log.removeFilter(line.make_way)
        if background.stop(END_SECONDS):
            closing = threading.Thread(target=collection.close, daemon=True)
            closing.start()
            closing.join(END_SECONDS)  # longer while an index of many photos is being compacted
        elif _is_command():
            # The import of TensorFlow and the network's kernels cannot be interrupted. Nothing is lost.
            _end()
    if _is_command() and "tensorflow" in sys.modules:
        _end()  # TensorFlow takes seconds to leave memory


def _is_command() -> bool:
    """Whether this process is the command, and not another program that calls `app`."""
    return os.path.basename(sys.argv[0]) in ("keras-retrieval", "__main__.py")  # noqa: PTH119 - argv[0] may be ""


def _end() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _reporter(line: ProgressLine) -> Callable[[Work | None], None]:
    def report(work: Work | None) -> None:
        if work is None:
            line.clear()
        else:
            line.show(work.label, work.line)

    return report


def _listen(options: AppOptions, base: str, page: SearchPage) -> HttpServer:
    token = None if options.token is None else read_token(options.token)
    guard = Guard(
        HostNames(options.host, options.allow_host or ()), token, base=base, form=sign_in, open_paths=(STYLE,)
    )
    answer = guard.answering(lambda request: page.answer(request) or NOT_FOUND)
    port = options.port if options.port is not None else _free_port(options.host)
    try:
        return HttpServer(
            below(base, answer),
            host=options.host,
            port=port,
            threads=THREADS,
            most_requests=MOST_REQUESTS,
            limits=guard.limits(lambda _: BodyLimits(LARGEST_SEARCH)),
            admit=guard.admit,
        )
    except ListenError as error:
        raise ListenError(
            f"the page cannot be served at {options.host}:{port} ({_cause(error)}): name another --port, or --host"
        ) from None


def _cause(error: Exception) -> str:
    return str(error).rpartition("] ")[2] or str(error)


def _free_port(host: str) -> int:
    """Returns the first free port from 8000 on."""
    for port in range(FIRST_PORT, FIRST_PORT + PORTS):
        with contextlib.suppress(OSError):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            socket.create_server((host, port), family=family).close()
            return port
    return FIRST_PORT


def _has_browser() -> bool:
    """Whether there is a graphical session; without one, `webbrowser` would take over the terminal."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))

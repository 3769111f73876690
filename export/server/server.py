"""A running server: its models, its gRPC and REST ports, and its search page."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..http.base_path import below
from ..http.hosts import address
from ..http.http_server import HttpServer
from ..http.messages import Answer, Request, Response
from ..index_contract.contract import NeighbourIndex
from ..search_page.routes import UPLOAD_BYTES, SearchPage
from .batching import Batcher, BatchingParameters
from .config import SSLConfig, tls_context
from .core import ServingCore, run_in_slot
from .grpc_services import GrpcServer
from .limits import ComputeSlots, RequestLimit
from .model_registry import ModelRegistry
from .photo_search import PhotoSearch
from .rest import Rest
from .servable import Servable
from .served_photos import ServedPhotos

CPUS = os.cpu_count() or 1
LARGEST_MESSAGE = 2**31 - 1


@dataclass(frozen=True)
class ServerSettings:
    """The addresses, limits and index of a server.

    Args:
        host: address to listen on.
        port: gRPC port; 0 selects any free port.
        rest_port: port for REST and the search page; 0 selects any free port.
        batching: parameters of dynamic batching; None for no batching.
        ssl: TLS configuration of both ports; None for plaintext.
        poll_seconds: seconds between two scans of each model's folder for new versions; 0 to scan only once.
        rest_seconds: time limit of a REST request in seconds.
        max_in_flight: maximum number of concurrent requests, waiting or being computed; further requests are refused.
        max_message_bytes: maximum size of a request in bytes.
        index: index for the signature `search` and for the search page at /; None for neither.
        photos: folder of the indexed photos, for the search page; None for the folder that the index states.
        base_path: prefix of all paths of the REST port, such as "/photos"; "" for none; see `base_path.below`.
    """

    host: str = "127.0.0.1"
    port: int = 8500
    rest_port: int = 8501
    batching: BatchingParameters | None = None
    ssl: SSLConfig | None = None
    poll_seconds: float = 1.0
    rest_seconds: float = 30.0
    max_in_flight: int = 64
    max_message_bytes: int = LARGEST_MESSAGE
    index: NeighbourIndex | None = None
    photos: Path | None = None
    base_path: str = ""


class Server:
    """A running server. `stop`, or the end of a `with` statement, stops the server.

    Args:
        config: ModelServerConfig of the models to serve.
        settings: addresses, limits and index of the server.

    Attributes:
        core: request handling shared by gRPC and REST.
        port: gRPC port.
        rest_port: port for REST and the search page.

    Raises:
        ServingError: a model cannot be served, or no model is the network with which the index was made.
        ListenError: a port is in use, or the address is not one of this machine.
        ServerConfigError: the key or a certificate of the TLS configuration cannot be used.
    """

    def __init__(self, config: Any, settings: ServerSettings) -> None:
        self._batcher = None if settings.batching is None else Batcher(settings.batching)
        self._rest: HttpServer | None = None
        self._grpc: GrpcServer | None = None
        self._page: SearchPage | None = None
        search = None if settings.index is None else PhotoSearch(settings.index, ComputeSlots(CPUS))
        read = Servable if search is None else search.load
        self._models = ModelRegistry(settings.poll_seconds, self._models_changed, read)
        run = self._batcher or run_in_slot(ComputeSlots(CPUS))
        self.core = ServingCore(self._models, RequestLimit(settings.max_in_flight), run)
        try:
            self._models.configure(config)
            if search is not None:
                search.model(self._models)
                self._page = _search_page(self.core, settings, search)
            self._rest = _http_server(self.core, settings, self._page)
            self._grpc = _grpc_server(self.core, settings)
        except BaseException:
            self.stop()
            raise
        self.port, self.rest_port = self._grpc.port, self._rest.port

    def stop(self, grace: float = 30.0) -> None:
        """Refuses new requests, waits until running requests are finished, and unloads the models.

        Args:
            grace: maximum time to wait in seconds; requests that are still running afterwards are cancelled.
        """
        ended = None if self._grpc is None else self._grpc.stop(grace)
        if self._rest is not None:
            self._rest.stop(grace)
        if self._page is not None:
            self._page.close()
        if ended is not None:
            ended.wait()
        if self._batcher is not None:
            self._batcher.stop()
        self._models.stop()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _models_changed(self) -> None:
        if self._grpc is not None:
            self._grpc.update_health()


def _grpc_server(core: ServingCore, settings: ServerSettings) -> GrpcServer:
    return GrpcServer(core, address(settings.host, settings.port), settings.max_message_bytes, settings.ssl)


def _search_page(core: ServingCore, settings: ServerSettings, search: PhotoSearch) -> SearchPage:
    folder = settings.photos or Path(search.index.facts["photos"])
    photos = ServedPhotos(search, core, folder, settings.rest_seconds)
    largest = min(UPLOAD_BYTES, settings.max_message_bytes * 3 // 4)  # base64 takes four bytes for three
    return SearchPage(photos, upload_bytes=largest)


def _http_server(core: ServingCore, settings: ServerSettings, page: SearchPage | None) -> HttpServer:
    answer: Answer = Rest(core, settings.rest_seconds).answer
    if page is not None:
        answer = _first_of(page, answer)
    return HttpServer(
        below(settings.base_path, answer),
        host=settings.host,
        port=settings.rest_port,
        threads=settings.max_in_flight,
        most_requests=settings.max_in_flight,
        max_body=settings.max_message_bytes,
        ssl_context=None if settings.ssl is None else tls_context(settings.ssl),
    )


def _first_of(page: SearchPage, rest: Answer) -> Answer:
    """Makes a function that answers requests of the page, and passes all others to the REST API."""

    def answer(request: Request) -> Response:
        found = page.answer(request)
        return rest(request) if found is None else found

    return answer

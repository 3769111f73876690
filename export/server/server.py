"""A running server: its models, its gRPC and REST ports, and its search page."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from keras_retrieval.pipelines.files.machine import cores

from ..http.base_path import below
from ..http.bodies import BodyLimits
from ..http.guard import Guard
from ..http.host_names import HostNames
from ..http.hosts import address
from ..http.http_server import HttpServer
from ..http.messages import Answer, Request, Response
from ..http.tokens import Token
from ..index_contract.contract import NeighbourIndex
from ..search_page.probabilities import Judging, no_judge
from ..search_page.routes import LARGEST_SEARCH, UPLOAD_BYTES, SearchPage, is_path_of_page
from ..search_page.sign_in import STYLE, sign_in
from ..search_page.verification import HitVerifier
from .batching import Batcher
from .batching_parameters import BatchingParameters
from .config import SSLConfig, tls_context
from .core import ServingCore, run_in_slot
from .grpc_services import GrpcServer
from .limits import ComputeSlots, RequestLimit
from .loading import LoadSettings
from .metrics import IN_FLIGHT, METRICS_PATH, QUEUE_LENGTH, Metrics
from .model_registry import ModelRegistry
from .photo_search import PhotoSearch
from .readiness import Readiness
from .rest import Rest
from .servable import Run
from .served_photos import ServedPhotos

logger = logging.getLogger(__name__)
SEARCHES = cores()  # of indexes at once
COMPUTATIONS = cores() + 2  # of networks at once: the two keep cores busy while the results of others are sent
LARGEST_MESSAGE = 2**31 - 1
REST_BYTES = 2**28
UNZIPPED_BYTES = 100 * 2**20  # of a REST request, as in TensorFlow Serving


@dataclass(frozen=True)
class ServerSettings:
    """The addresses, limits and index of a server.

    Args:
        host: address to listen on.
        port: gRPC port; 0 selects any free port; None for no gRPC port.
        rest_port: port for REST and the search page; 0 selects any free port; None for neither.
        batching: parameters of dynamic batching; None for no batching.
        ssl: TLS configuration of both ports; None for plaintext.
        poll_seconds: seconds between two scans of each model's folder for new versions; 0 to scan only once, a negative
            number not to scan.
        rest_seconds: time limit of a REST request in seconds.
        max_in_flight: maximum number of concurrent requests, waiting or being computed; further requests are refused.
        max_message_bytes: maximum size of a request in bytes.
        max_rest_bytes: maximum size of a REST request in bytes, if that is less; see `REST_BYTES`.
        index: index for the signature `search` and for the search page at /; None for neither.
        photos: folder of the indexed photos, for the search page; None for the folder that the index states.
        verifier: verifies the first hits of searches by local features, of the page and of the signature `search`; None
            for no verification.
        judging: gives what judges hits by their probabilities, of the page and of the signature `search`.
        base_path: prefix of all paths of the REST port, such as "/photos"; "" for none; see `base_path.below`.
        allow_hosts: further names of the server in HTTP requests; ("*",) for any. See `host_names.HostNames`.
        token: secret that requests must contain; None for none.
        cors: whether pages of other servers may use the REST API.
        loading: how versions are loaded.
        labels_of_unavailable: whether a label that is not in use may name a version that is not available.
        grpc_socket: path of a Unix socket on which gRPC listens in addition to `port`; "" for none.
        grpc_threads: number of threads for gRPC requests; None for one per request of `max_in_flight` and some more.
        grpc_arguments: channel arguments of the gRPC server, such as ("grpc.max_connection_age_ms", 2000).
        rest_threads: number of threads for REST requests; None for `max_in_flight`.
        metrics_path: path of the metrics page on the REST port; "" for no such page.
        wait: whether to wait for the first version of each model.
        rest_tls: whether the TLS configuration applies to the REST port, too.
        check_method_names: whether a signature must have the method of the request, such as tensorflow/serving/classify
            for Classify.
    """

    host: str = "127.0.0.1"
    port: int | None = 8500
    rest_port: int | None = 8501
    batching: BatchingParameters | None = None
    ssl: SSLConfig | None = None
    poll_seconds: float = 1.0
    rest_seconds: float = 30.0
    max_in_flight: int = 64
    max_message_bytes: int = LARGEST_MESSAGE
    max_rest_bytes: int = REST_BYTES
    index: NeighbourIndex | None = None
    photos: Path | None = None
    verifier: HitVerifier | None = None
    judging: Judging = no_judge
    base_path: str = ""
    allow_hosts: tuple[str, ...] = ()
    token: Token | None = None
    cors: bool = False
    loading: LoadSettings = field(default_factory=LoadSettings)
    labels_of_unavailable: bool = False
    grpc_socket: str = ""
    grpc_threads: int | None = None
    grpc_arguments: tuple[tuple[str, int | str], ...] = ()
    rest_threads: int | None = None
    metrics_path: str = METRICS_PATH
    wait: bool = False
    rest_tls: bool = True
    check_method_names: bool = False


class Server:
    """A running server. `stop`, or the end of a `with` statement, stops the server.

    Args:
        config: ModelServerConfig of the models to serve.
        settings: addresses, limits and index of the server.
        stopped: event that ends the wait for the first versions of models; see `settings.wait`.

    Attributes:
        core: request handling shared by gRPC and REST.
        port: gRPC port; 0 if there is none.
        rest_port: port for REST and the search page; 0 if there is none.

    Raises:
        ServingError: a model cannot be served, or no model is the network with which the index was made, or `stopped`
            was set before each model had a version (CANCELLED).
        ListenError: a port is in use, or the address is not one of this machine.
        ServerConfigError: the key or a certificate of the TLS configuration cannot be used.
    """

    def __init__(self, config: Any, settings: ServerSettings, stopped: threading.Event | None = None) -> None:
        slots, metrics = [ComputeSlots(COMPUTATIONS), ComputeSlots(SEARCHES)], Metrics()
        run = run_in_slot(slots[0])
        self._readiness: Readiness | None = None
        self._batcher = _batcher(settings, run, metrics)
        self._rest: HttpServer | None = None
        self._grpc: GrpcServer | None = None
        self._page: SearchPage | None = None
        search = (
            None
            if settings.index is None
            else PhotoSearch(settings.index, slots[1], settings.verifier, settings.judging)
        )
        self._models = ModelRegistry(
            settings.poll_seconds,
            self._models_changed,
            None if search is None else search.load,
            replace(settings.loading, metrics=metrics, check_method_names=settings.check_method_names),
            settings.labels_of_unavailable,
        )
        self.core = ServingCore(
            self._models,
            RequestLimit(settings.max_in_flight),
            self._batcher or run,
            metrics,
            check_method_names=settings.check_method_names,
        )
        try:
            self._models.configure(config, (stopped or threading.Event()) if settings.wait else None)
            if search is not None:
                search.model(self._models)
                self._page = _search_page(self.core, settings, search)
            self._readiness = Readiness(self._models, search, self._models_changed)
            metrics.watch(self._readiness.metrics)
            metrics.watch(lambda: self._load_of(slots))
            if settings.rest_port is not None:
                self._rest = _http_server(self.core, settings, self._page, self._readiness)
            if settings.port is not None or settings.grpc_socket:
                self._grpc = _grpc_server(self.core, settings, self._readiness)
        except BaseException:
            self.stop()
            raise
        self.port = 0 if self._grpc is None else self._grpc.port
        self.rest_port = 0 if self._rest is None else self._rest.port
        self._log_addresses(settings)

    def reconfigure(self, config: Any) -> None:
        """Sets the served models; see `ModelRegistry.configure`.

        Args:
            config: ModelServerConfig.

        Raises:
            ServingError: the configuration is invalid, or a model or a label cannot be served.
        """
        self._models.configure(config)

    def _log_addresses(self, settings: ServerSettings) -> None:
        """Logs the lines for which scripts that start TensorFlow Serving wait."""
        if settings.port is not None:
            logger.info("Running gRPC ModelServer at %s ...", address(settings.host, self.port))
        if settings.grpc_socket:
            logger.info("Running gRPC ModelServer at UNIX socket %s ...", settings.grpc_socket)
        if settings.rest_port is not None:
            logger.info("Exporting HTTP/REST API at:localhost:%d ...", self.rest_port)

    def stop(self, grace: float = 30.0) -> None:
        """Refuses new requests, waits until running requests are finished, and unloads the models.

        Args:
            grace: maximum time to wait in seconds; requests that are still running afterwards are cancelled.
        """
        if self._readiness is not None:
            self._readiness.stopping()
        ended = None if self._grpc is None else self._grpc.stop(grace)
        if self._rest is not None:
            self._rest.stop(grace)
        if self._page is not None:
            self._page.close()
        if ended is not None:
            ended.wait()
        if self._batcher is not None:
            self._batcher.stop()
        if self._readiness is not None:
            self._readiness.close()
        self._models.stop()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _models_changed(self) -> None:
        if self._grpc is not None:
            self._grpc.update_health()

    def _load_of(self, slots: Sequence[ComputeSlots]) -> Mapping[str, float]:
        """The metrics of the requests that wait and are being computed."""
        waiting = sum(one.waiting for one in slots) + (0 if self._batcher is None else self._batcher.waiting)
        return {QUEUE_LENGTH: waiting, IN_FLIGHT: self.core.in_flight.count}


def _batcher(settings: ServerSettings, otherwise: Run, metrics: Metrics) -> Batcher | None:
    if settings.batching is None:
        return None
    return Batcher(settings.batching, otherwise if settings.loading.batching_by_version else None, metrics)


def _grpc_server(core: ServingCore, settings: ServerSettings, readiness: Readiness) -> GrpcServer:
    addresses = [] if settings.port is None else [address(settings.host, settings.port)]
    addresses += [f"unix:{settings.grpc_socket}"] if settings.grpc_socket else []
    return GrpcServer(
        core,
        addresses,
        settings.max_message_bytes,
        settings.ssl,
        threads=settings.grpc_threads,
        arguments=settings.grpc_arguments,
        token=settings.token,
        ready=lambda: not readiness.reason(),
    )


def _search_page(core: ServingCore, settings: ServerSettings, search: PhotoSearch) -> SearchPage:
    folder = settings.photos or Path(search.index.facts["photos"])
    photos = ServedPhotos(search, core, folder, settings.rest_seconds)
    largest = min(UPLOAD_BYTES, settings.max_message_bytes * 3 // 4)  # base64 takes four bytes for three
    return SearchPage(photos, upload_bytes=largest, verifier=settings.verifier, judging=settings.judging)


def _http_server(
    core: ServingCore, settings: ServerSettings, page: SearchPage | None, readiness: Readiness
) -> HttpServer:
    answer: Answer = Rest(core, settings.rest_seconds, settings.metrics_path, settings.cors).answer
    if page is not None:
        answer = _first_of(page, answer)
    guard = Guard(
        HostNames(settings.host, settings.allow_hosts),
        settings.token,
        base=settings.base_path,
        secure=settings.ssl is not None and settings.rest_tls,
        form=None if page is None else sign_in,
        open_paths=(STYLE,),
        unready=readiness.reason,
    )
    assert settings.rest_port is not None
    return HttpServer(
        below(settings.base_path, guard.answering(answer)),
        host="" if settings.host == "0.0.0.0" else settings.host,  # gRPC takes 0.0.0.0 for IPv6, too
        port=settings.rest_port,
        threads=settings.rest_threads or settings.max_in_flight,
        most_requests=settings.max_in_flight,
        limits=guard.limits(_body_limits(settings)),
        admit=guard.admit,
        held_bytes=2 * _rest_bytes(settings),
        ssl_context=tls_context(settings.ssl) if settings.ssl is not None and settings.rest_tls else None,
    )


def _rest_bytes(settings: ServerSettings) -> int:
    return min(settings.max_rest_bytes, settings.max_message_bytes)


def _body_limits(settings: ServerSettings) -> Callable[[Request], BodyLimits]:
    """Makes a function that returns the limits of a request's body: those of TensorFlow Serving below /v1/."""
    rest = _rest_bytes(settings)
    of_rest = BodyLimits(rest, min(rest, UNZIPPED_BYTES), any_encoding=True)
    of_page = BodyLimits(min(LARGEST_SEARCH, settings.max_message_bytes))

    def limits(request: Request) -> BodyLimits:
        return of_page if is_path_of_page(request.path.removeprefix(settings.base_path)) else of_rest

    return limits


def _first_of(page: SearchPage, rest: Answer) -> Answer:
    """Makes a function that answers requests of the page, and passes all others to the REST API."""

    def answer(request: Request) -> Response:
        found = page.answer(request)
        return rest(request) if found is None else found

    return answer

"""Serves SavedModels with TensorFlow Serving's gRPC and REST protocol: `keras-retrieval serve SERVING`.

The embedded stand-in for tensorflow_model_server: any SavedModel, the official message types, the same ports,
configuration files, answers and errors. Models are loaded, swapped and unloaded while requests go on.
"""

import gc
import importlib.util
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ..index_contract.contract import NeighbourIndex
from ..indexes.open_index import open_index
from .batching import Batcher, BatchingParameters
from .config import SSLConfig, model_config, read_batching_parameters, read_model_config, read_ssl_config
from .core import ServingCore, run_in_turn
from .errors import ServingError
from .grpc_services import GrpcServer
from .http_server import HttpServer
from .limits import InFlight, Turns
from .model_registry import ServedModels
from .photo_search import PhotoSearch
from .rest import Rest
from .search_page import SearchPage
from .servable import Servable
from .version_folders import find_models

CPUS = os.cpu_count() or 1
LARGEST_MESSAGE = 2**31 - 1
NEEDED = ("grpc_health", "tensorflow_serving")
INSTALL = 'Serving needs an extra: pip install "keras-retrieval[serving]"'


@dataclass(frozen=True)
class Settings:
    """How a server listens and what it bears.

    Args:
        host: address to listen at.
        port: of gRPC; 0 for any free one.
        rest_port: of REST; 0 for any free one.
        batching: parameters of dynamic batching; None for none.
        ssl: TLS of both ports; None for plaintext.
        poll_seconds: between two looks at each model's folder; 0 to look once.
        rest_seconds: that a REST request may take.
        max_in_flight: requests waiting and computing; more are refused.
        max_message_bytes: largest request.
        index: what the signature `search` and the page at / look into; None for neither.
        photos: folder of the index's photos, which the page shows; None for where the index was made of them.
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


class Server:
    """A running server. `stop` it, or use it as a context.

    Args:
        config: ModelServerConfig of what it serves.
        settings: how.

    Raises:
        ServingError: a model that cannot be served, or none that is the network of the index.
        OSError: a port that is taken.
    """

    def __init__(self, config: Any, settings: Settings) -> None:
        self._batcher = None if settings.batching is None else Batcher(settings.batching)
        self._rest: HttpServer | None = None
        self._grpc: GrpcServer | None = None
        search = None if settings.index is None else PhotoSearch(settings.index, Turns(CPUS))
        read = Servable if search is None else search.load
        self._models = ServedModels(settings.poll_seconds, self._models_changed, read)
        run = self._batcher or run_in_turn(Turns(CPUS))
        self.core = ServingCore(self._models, InFlight(settings.max_in_flight), run)
        try:
            self._models.configure(config)
            if search is not None:
                search.model(self._models)
            self._rest = _http_server(self.core, settings, search)
            self._grpc = _grpc_server(self.core, settings)
        except BaseException:
            self.stop()
            raise
        self.port, self.rest_port = self._grpc.port, self._rest.port

    def stop(self, grace: float = 30.0) -> None:
        """Refuses new requests, answers those in the house, at most `grace` seconds, and unloads the models."""
        ended = None if self._grpc is None else self._grpc.stop(grace)
        if self._rest is not None:
            self._rest.stop(grace)
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
            self._grpc.tell_health()


def _grpc_server(core: ServingCore, settings: Settings) -> GrpcServer:
    return GrpcServer(core, _address(settings.host, settings.port), settings.max_message_bytes, settings.ssl)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _http_server(core: ServingCore, settings: Settings, search: PhotoSearch | None) -> HttpServer:
    answer = Rest(core, settings.rest_seconds).answer
    if search is not None:
        folder = settings.photos or Path(search.index.facts["photos"])
        answer = SearchPage(search, core.models, folder, answer).answer
    return HttpServer(
        answer,
        host=settings.host,
        port=settings.rest_port,
        threads=settings.max_in_flight,
        most_requests=settings.max_in_flight,
        max_body=settings.max_message_bytes,
        ssl=settings.ssl,
    )


def serve(
    serving: Annotated[Path | None, typer.Argument(help="SERVING/NAME/1 or SERVING/1: models, or one.")] = None,
    *,
    index: Annotated[
        str | None, typer.Option(help="Folder or milvus://HOST:PORT/COLLECTION: answer `search`, and a page at /.")
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="The index's photos, for the page, if they are no longer there.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for other machines, too.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="gRPC port.")] = 8500,
    rest_port: Annotated[int, typer.Option(help="REST port.")] = 8501,
    model_name: Annotated[str, typer.Option(help="Serve only this model, or one model's folder by this name.")] = "",
    model_config_file: Annotated[Path | None, typer.Option(help="ModelServerConfig to serve, not SERVING.")] = None,
    enable_batching: Annotated[bool, typer.Option(help="Compute requests that come together in batches.")] = False,
    batching_parameters_file: Annotated[Path | None, typer.Option(help="BatchingParameters; batches.")] = None,
    ssl_config_file: Annotated[Path | None, typer.Option(help="SSLConfig, PEM texts: TLS on both ports.")] = None,
    file_system_poll_wait_seconds: Annotated[
        float, typer.Option(help="Seconds between looks for new versions; 0: look once.")
    ] = 1.0,
    rest_timeout_seconds: Annotated[float, typer.Option(help="Seconds that a REST request may take.")] = 30.0,
    max_in_flight: Annotated[int, typer.Option(help="Requests in the house; more are refused.")] = 64,
    max_message_bytes: Annotated[int, typer.Option(help="Bytes of the largest request.")] = LARGEST_MESSAGE,
    grace_seconds: Annotated[float, typer.Option(help="Seconds to answer open requests when stopped.")] = 30.0,
) -> None:
    """Serves SavedModels over gRPC and REST until it is stopped (Ctrl-C or SIGTERM), as TensorFlow Serving does."""
    if photos is not None and index is None:
        raise ValueError("--photos are those of --index: give both")
    config = _config(serving, model_name, model_config_file)
    settings = Settings(
        host=host,
        port=port,
        rest_port=rest_port,
        batching=_batching(enable_batching, batching_parameters_file),
        ssl=None if ssl_config_file is None else read_ssl_config(ssl_config_file),
        poll_seconds=_at_least("--file-system-poll-wait-seconds", file_system_poll_wait_seconds, 0),
        rest_seconds=_at_least("--rest-timeout-seconds", rest_timeout_seconds, 0.001),
        max_in_flight=int(_at_least("--max-in-flight", max_in_flight, 1)),
        max_message_bytes=int(_at_least("--max-message-bytes", max_message_bytes, 1)),
        index=None if index is None else open_index(index),
        photos=photos,
    )
    _quiet()
    with _stop_signals() as stopped:
        try:
            server = Server(config, settings)
        except ServingError as error:
            raise ValueError(error.message) from None
        gc.freeze()  # what is here stays: collecting what an unloaded version leaves need not look at it
        told = ", ".join(server.core.models.names())
        print(f"serving {told}: gRPC at {host}:{server.port}, REST at {host}:{server.rest_port}", flush=True)
        if settings.index is not None:
            scheme = "http" if settings.ssl is None else "https"
            print(f"page: {scheme}://{_address(host, server.rest_port)}/", flush=True)
        stopped.wait()
        print("stopping: open requests are answered", flush=True)
        server.stop(grace_seconds)
        if settings.index is not None:
            settings.index.close()


def _config(serving: Path | None, model_name: str, model_config_file: Path | None) -> Any:
    if not all(importlib.util.find_spec(name) for name in NEEDED):
        raise ImportError(INSTALL)
    if model_config_file is not None:
        return read_model_config(model_config_file)
    if serving is None:
        raise ValueError("Give SERVING, a folder with models, or --model-config-file")
    return model_config(find_models(serving, model_name))


def _batching(enable: bool, file: Path | None) -> BatchingParameters | None:
    if file is not None:
        return read_batching_parameters(file)
    return BatchingParameters() if enable else None


def _at_least(option: str, value: float, least: float) -> float:
    if value < least:
        raise ValueError(f"{option} is at least {least}, not {value}")
    return value


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set while this lasts."""
    stopped = threading.Event()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(*_: object) -> None:
        stopped.set()
        restore()  # who asks twice will not wait for open requests

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopped
    finally:
        restore()


def _quiet() -> None:
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")

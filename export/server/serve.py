"""Serves models over the gRPC and REST protocols of TensorFlow Serving: `keras-retrieval serve SERVING`."""

import gc
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from keras_retrieval.pipelines.command.options import takes

from ..indexes.open_index import open_index
from .errors import ServerConfigError, ServingError
from .options import ServeOptions, require_serving, served_models, server_settings
from .server import Server, address


@takes(ServeOptions)
def serve(options: ServeOptions) -> None:
    """Serves SavedModels over gRPC and REST, as TensorFlow Serving does, until Ctrl-C or SIGTERM.

    Any SavedModel is served, with TensorFlow Serving's message types, ports, configuration files, answers and error
    messages. New versions are loaded, and old ones unloaded, while requests are answered.

    Raises:
        ServerConfigError: SERVING or a configuration file cannot be used, or a model cannot be loaded.
        ListenError: a port is in use.
    """
    require_serving()
    config = served_models(options)
    index = None if options.index is None else open_index(options.index)
    settings = server_settings(options, index)
    _quiet()
    with _stop_signals() as stopped:
        try:
            server = Server(config, settings)
        except ServingError as error:
            raise ServerConfigError(error.message) from None
        gc.freeze()  # these objects are permanent: garbage collection after a version is unloaded can skip them
        names = ", ".join(server.core.models.names())
        print(
            f"serving {names}: gRPC at {options.host}:{server.port}, REST at {options.host}:{server.rest_port}",
            flush=True,
        )
        if settings.index is not None:
            scheme = "http" if settings.ssl is None else "https"
            print(f"page: {scheme}://{address(options.host, server.rest_port)}/", flush=True)
        stopped.wait()
        print("stopping after the requests in progress", flush=True)
        server.stop(options.grace_seconds)
        if settings.index is not None:
            settings.index.close()


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Provides an event that Ctrl-C and SIGTERM set until the context exits."""
    stopped = threading.Event()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(*_: object) -> None:
        stopped.set()
        restore()  # a second signal ends the process at once

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopped
    finally:
        restore()


def _quiet() -> None:
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")

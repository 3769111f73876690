"""Serves models over the gRPC and REST protocols of TensorFlow Serving: `keras-retrieval serve SERVING`."""

import gc
import logging

from keras_retrieval.pipelines.command.options import takes

from keras_retrieval.standard_streams import drop_output

from ..http.hosts import address
from ..http.stop_signals import stop_signals
from ..indexes.open_index import follow_index
from .errors import ServerConfigError, ServingError
from .options import ServeOptions, served_models, server_settings
from .server import Server


@takes(ServeOptions)
def serve(options: ServeOptions) -> None:
    """Serves SavedModels over gRPC and REST, as TensorFlow Serving does, until Ctrl-C or SIGTERM.

    Any SavedModel can be served. Message types, ports, configuration files, responses and error messages are those of
    TensorFlow Serving. New versions are loaded and old versions are unloaded while requests are answered. With --index,
    photos can be searched for in an index, through the signature `search` and on a web page at /.

    Raises:
        ServerConfigError: SERVING or a configuration file cannot be used, or a model cannot be loaded.
        MissingConfigError: a configuration file does not exist.
        ListenError: a port is in use, or the address is not one of this machine.
        FolderError, CollectionError, RemoteError: the index cannot be opened; see `follow_index`.
        MissingExtraError: a package for serving is not installed.
    """
    with stop_signals() as stopped:
        config = served_models(options, stopped)
        if stopped.is_set():
            return
        index = None if options.index is None else follow_index(options.index, options.following, options.index_copy)
        settings = server_settings(options, index)
        _quiet()
        try:
            server = Server(config, settings, stopped)
        except ServingError as error:
            if options.wait and stopped.is_set():
                return
            raise ServerConfigError(error.message) from None
        gc.freeze()  # exempts the present, permanent objects from garbage collection after a version is unloaded
        try:
            names = ", ".join(server.core.models.names())
            _say(f"serving {names}: gRPC at {options.host}:{server.port}, REST at {options.host}:{server.rest_port}")
            if settings.index is not None:
                scheme = "http" if settings.ssl is None else "https"
                _say(f"page: {scheme}://{address(options.host, server.rest_port)}{settings.base_path}/")
            stopped.wait()
            _say("stopping after the requests in progress")
        finally:
            server.stop(options.grace_seconds)
            if settings.index is not None:
                settings.index.close()


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError:  # a server goes on when nobody reads its output any more, or its log has no space
        drop_output()


def _quiet() -> None:
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")

"""The command `keras-retrieval-model-server`, also installed as `tensorflow_model_server`.

It takes the flags of TensorFlow Serving's `tensorflow_model_server` and starts as that does: it waits for the first
version of each model, and writes the log lines for which scripts wait. The step `serve` is the other way to start the
same server, with options in this package's form, an index and a search page.
"""

import contextlib
import errno
import gc
import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from keras_retrieval.pipelines.files.child_process import clean_environment

from keras_retrieval.errors import RetrievalError
from keras_retrieval.library_logs import hide
from keras_retrieval.standard_streams import open_closed

from ..http.host_names import ANY
from ..http.stop_signals import stop_signals
from .batching_parameters import BatchingParameters
from .config import (
    model_config,
    read_batching_parameters,
    read_metrics_path,
    read_model_config,
    read_session_config,
    read_ssl_config,
)
from .errors import Code, MissingConfigError, ServerConfigError, ServingError, TextFormatError
from .limits import LONGEST_WAIT
from .loading import LoadSettings
from .model_server_flags import ParsedFlags, parse_flags, usage
from .options import check_packages
from .server import Server, ServerSettings

logger = logging.getLogger(__name__)

NAME = "tensorflow_model_server"  # the name of the real server's program
HANDED_OVER = "KERAS_RETRIEVAL_HANDED_OVER"  # environment variable: the real server was preferred once already
FAILED = 255  # exit status of a server that did not start, by the real server's -1
HOST = "0.0.0.0"
MOST_REQUESTS = 1024  # the real server has no limit, and its requests wait for a thread
NO_LIMIT = 1e9  # seconds
Read = TypeVar("Read")


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves models until Ctrl-C or SIGTERM, as the flags of TensorFlow Serving say.

    Args:
        arguments: flags; None for those of the process.

    Raises:
        SystemExit: with the status 0 after `--version` and after a regular end, with 255 if the server did not start.
    """
    open_closed()
    program = Path(sys.argv[0]).name if arguments is None else NAME
    if arguments is None:
        _prefer_the_real_one(program)
        arguments = sys.argv[1:]
    flags = parse_flags(arguments)
    if flags.errors or list(arguments[:1]) == ["--help"]:
        print(*flags.errors, sep="\n", file=sys.stderr)
        _end(usage(program))
    if flags.values["version"]:
        print(_version())
        sys.exit(0)
    if flags.unknown:
        print(f"unknown argument: {flags.unknown[0]}\n{usage(program)}", flush=True)
    hide()
    _log_as_the_real_one()
    for sentence in flags.idle:
        logger.warning(sentence)
    try:
        _serve(flags)
    except ServingError as error:
        _fail(error)
    except (RetrievalError, OSError) as error:
        _fail(ServingError(Code.UNKNOWN, str(error)))


def _serve(flags: ParsedFlags) -> None:
    if flags.refused:
        raise ServingError(Code.UNIMPLEMENTED, " ".join(flags.refused))
    _check(flags.values)
    check_packages()
    config = _models(flags.values)
    settings = server_settings(flags.values)
    with stop_signals() as stopped:
        try:
            server = Server(config, settings, stopped)
        except ServingError:
            if stopped.is_set():
                return
            raise
        gc.freeze()  # exempts the present, permanent objects from garbage collection after a version is unloaded
        _poll(server, flags.values, stopped)
        stopped.wait()
        server.stop()


def server_settings(values: dict[str, Any]) -> ServerSettings:
    """Makes the settings of a server from the values of flags, and reads the configuration files that they name.

    Args:
        values: value of every flag, by name.

    Raises:
        ServingError: a configuration file or a value cannot be used.
    """
    port, rest_port = values["port"], values["rest_api_port"]
    if rest_port and rest_port == port:
        logger.error("--rest_api_port must differ from --port; there is no REST API.")
        rest_port = 0
    monitoring, ssl = values["monitoring_config_file"], values["ssl_config_file"]
    seconds = values["rest_api_timeout_in_ms"] / 1000
    return ServerSettings(
        host=HOST,
        port=port or None,
        rest_port=rest_port or None,
        batching=_batching(values),
        ssl=_read(read_ssl_config, ssl) if ssl else None,
        rest_tls=False,
        poll_seconds=values["file_system_poll_wait_seconds"],
        rest_seconds=seconds if seconds > 0 else NO_LIMIT,
        max_in_flight=MOST_REQUESTS,
        allow_hosts=(ANY,),
        loading=_loading(values),
        labels_of_unavailable=values["allow_version_labels_for_unavailable_models"],
        grpc_socket=values["grpc_socket_path"],
        grpc_threads=max(values["grpc_max_threads"], 1),
        grpc_arguments=_channel_arguments(values["grpc_channel_arguments"]),
        rest_threads=max(values["rest_api_num_threads"], 1),
        metrics_path=_read(read_metrics_path, monitoring) if monitoring else "",
        cors=values["rest_api_enable_cors_support"],
        check_method_names=values["enable_signature_method_name_check"],
        wait=True,
    )


def _check(values: dict[str, Any]) -> None:
    def invalid(message: str) -> ServingError:
        return ServingError(Code.INVALID_ARGUMENT, message)

    for name in ("port", "rest_api_port"):
        if not 0 <= values[name] <= 65535:
            raise invalid(f"--{name} must be 0 to 65535, got {values[name]}")
    if not values["port"] and not values["grpc_socket_path"]:
        raise invalid("At least one of server_options.grpc_port or server_options.grpc_socket_path must be set.")
    if not values["model_base_path"] and not values["model_config_file"]:
        raise invalid("Both server_options.model_base_path and server_options.model_config_file are empty!")
    for name in ("model_name", "model_base_path"):
        if values[name] != values[name].encode(errors="replace").decode():
            raise invalid(f"--{name} must be UTF-8, got {values[name]!r}")
    for name in ("session", "intra_op", "inter_op"):
        if not -(2**31) <= values[f"tensorflow_{name}_parallelism"] < 2**31:
            number = values[f"tensorflow_{name}_parallelism"]
            raise invalid(f"--tensorflow_{name}_parallelism must be a number of threads, got {number}")
    if values["batching_parameters_file"] and not values["enable_batching"]:
        raise invalid(
            "server_options.batching_parameters_file is set without setting server_options.enable_batching to true."
        )
    if min(values[f"tensorflow_{name}_parallelism"] for name in ("session", "intra_op", "inter_op")) > 0:
        raise invalid(
            "--tensorflow_session_parallelism and both of --tensorflow_intra_op_parallelism and "
            "--tensorflow_inter_op_parallelism are set: set the first, or the other two"
        )


def _models(values: dict[str, Any]) -> Any:
    """Makes the ModelServerConfig that the flags name."""
    if values["model_config_file"]:
        return _read(read_model_config, values["model_config_file"])
    name, base = values["model_name"], values["model_base_path"]
    logger.info("Building single TensorFlow model file config:  model_name: %s model_base_path: %s", name, base)
    config = model_config({name: Path(base)})
    config.model_config_list.config[0].base_path = base  # a relative path is refused, as by the real server
    return config


def _batching(values: dict[str, Any]) -> BatchingParameters | None:
    if values["batching_parameters_file"]:
        return _read(read_batching_parameters, values["batching_parameters_file"])
    return BatchingParameters() if values["enable_batching"] else None


def _loading(values: dict[str, Any]) -> LoadSettings:
    iterations = max(values["num_request_iterations_for_warmup"], 1) if values["enable_model_warmup"] else 0
    return LoadSettings(
        tags=tuple(tag for tag in (values["saved_model_tags"] or "serve").split(",") if tag),
        session_config=_session_config(values),
        warm_up_iterations=iterations,
        batching_by_version=values["enable_batching"] and values["enable_per_model_batching_parameters"],
        tensor_content=values["enable_serialization_as_tensor_content"],
        retries=max(values["max_num_load_retries"], 0),
        retry_seconds=min(values["load_retry_interval_micros"] / 1e6, LONGEST_WAIT),
    )


def _session_config(values: dict[str, Any]) -> Any:
    from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2

    file = values["tensorflow_session_config_file"]
    config = _read(read_session_config, file) if file else config_pb2.ConfigProto()
    if values["per_process_gpu_memory_fraction"]:
        config.gpu_options.per_process_gpu_memory_fraction = values["per_process_gpu_memory_fraction"]
    both, intra, inter = (values[f"tensorflow_{name}_parallelism"] for name in ("session", "intra_op", "inter_op"))
    if intra > 0 or inter > 0:
        config.intra_op_parallelism_threads, config.inter_op_parallelism_threads = intra, inter
    elif both:
        config.intra_op_parallelism_threads = config.inter_op_parallelism_threads = both
    if config.intra_op_parallelism_threads < 0:  # which TensorFlow answers by ending the process
        threads = config.intra_op_parallelism_threads
        raise ServingError(Code.INVALID_ARGUMENT, f"intra_op_parallelism_threads must be 0 or more, got {threads}")
    precision = values["mixed_precision"]
    if precision == "bfloat16":
        rewriting = config.graph_options.rewrite_options
        rewriting.auto_mixed_precision_onednn_bfloat16 = rewriter_config_pb2.RewriterConfig.ON
    elif precision:
        logger.warning("--mixed_precision=%s has no effect: only bfloat16 is supported.", precision)
    return config


def _channel_arguments(text: str) -> tuple[tuple[str, int | str], ...]:
    arguments: list[tuple[str, int | str]] = []
    for part in filter(None, text.split(",")):
        name, assigned, value = part.partition("=")
        if not assigned or not name:
            message = f"--grpc_channel_arguments must be a list NAME=VALUE,NAME=VALUE, got {text}"
            raise ServingError(Code.INVALID_ARGUMENT, message)
        number = value.removeprefix("-").isascii() and value.removeprefix("-").isdigit() and abs(int(value)) < 2**31
        arguments.append((name, int(value) if number else value))
    return tuple(arguments)


def _read(read: Callable[[Path], Read], path: str) -> Read:
    """Reads a configuration file; its errors become those of the real server."""
    try:
        return read(Path(path))
    except MissingConfigError:
        raise ServingError(Code.NOT_FOUND, f"{path}; No such file or directory") from None
    except TextFormatError as error:
        logger.error("%s", str(error).removeprefix(f"{path}: "))
        raise ServingError(Code.INVALID_ARGUMENT, f"Invalid protobuf file: '{path}'") from None
    except ServerConfigError as error:
        raise ServingError(Code.INVALID_ARGUMENT, str(error)) from None


def _poll(server: Server, values: dict[str, Any], stopped: threading.Event) -> None:
    """Starts a thread that reads --model_config_file again and again, if that is wished."""
    path, seconds = values["model_config_file"], values["model_config_file_poll_wait_seconds"]
    if path and seconds > 0:
        follow = threading.Thread(target=follow_config, args=(server, Path(path), seconds, stopped), daemon=True)
        follow.start()


def follow_config(server: Server, path: Path, seconds: float, stopped: threading.Event) -> None:
    """Sets the served models from a file at intervals; an error is logged once, and leaves the served models.

    Args:
        server: the running server.
        path: ModelServerConfig in text format.
        seconds: seconds between two readings.
        stopped: event that ends the work.
    """
    last = ""
    while not stopped.wait(seconds):
        problem = ""
        try:
            server.reconfigure(read_model_config(path))
        except ServingError as error:
            problem = f"PollFilesystemAndReloadConfig failed to ReloadConfig: {error.message}"
        except (ServerConfigError, OSError) as error:
            problem = f"Failed to read ModelServerConfig file: {error}"
        if problem and problem != last:
            logger.error("%s", problem)
        last = problem


def _log_as_the_real_one() -> None:
    """Logs to stderr in the form of TensorFlow's log, which has a letter for the level: `.. I server.py:12] TEXT`."""
    for level in (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        logging.addLevelName(level, logging.getLevelName(level)[0])
    form = "%(asctime)s.%(msecs)03d: %(levelname)s %(name)s:%(lineno)d] %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, datefmt="%Y-%m-%d %H:%M:%S", stream=sys.stderr)


def _prefer_the_real_one(program: str) -> None:
    """Continues as TensorFlow Serving's own program, if this one was started under its name and PATH has the other."""
    if program != NAME or os.environ.get(HANDED_OVER):
        return
    other = real_server(clean_environment().get("PATH", os.defpath), Path(sys.argv[0]))
    if other is not None:
        line = f"keras-retrieval: {other} is run; this package's server is keras-retrieval-model-server"
        print(line, file=sys.stderr, flush=True)
        os.environ[HANDED_OVER] = "1"
        os.execv(other, [NAME, *sys.argv[1:]])


def real_server(folders: str, own: Path) -> str | None:
    """Finds TensorFlow Serving's program `tensorflow_model_server`.

    Args:
        folders: folders to search, as in the environment variable PATH.
        own: the program that runs. Programs that this package installs, also into other environments, are not
            TensorFlow Serving's.

    Returns:
        The path of the program; None if there is none.
    """
    for folder in folders.split(os.pathsep):
        found = shutil.which(NAME, path=folder) if Path(folder).is_absolute() else None  # never in the current folder
        if found is None or Path(found).resolve() == own.resolve():
            continue
        with contextlib.suppress(OSError), Path(found).open("rb") as file:
            if b"keras_retrieval" not in file.read(2**16):
                return found
    return None


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    def installed(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "0"

    protocol, own = installed("tensorflow-serving-api"), installed("keras-retrieval")
    return f"TensorFlow ModelServer: {protocol}+keras-retrieval.{own}\nTensorFlow Library: {installed('tensorflow')}"


def _fail(error: ServingError) -> NoReturn:
    _end(f"Failed to start server. Error: {error.code.name}: {error.message}")


def _end(text: str) -> NoReturn:
    try:
        print(text, flush=True)
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise
    sys.exit(FAILED)

"""The flags of TensorFlow Serving's command `tensorflow_model_server`, and what this package's server does with each.

Flags are parsed as the real server parses them: `--name=value`; a switch also as `--name`; the last of two counts;
arguments that are no flags are left over.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from keras_retrieval.pipelines.files.machine import cores

THREADS = 4 * cores()
INT32, INT64 = "int32", "int64"
LIMITS = {INT32: 2**31, INT64: 2**63}

Value = bool | int | float | str


class Use(Enum):
    """What the server does with a flag."""

    SERVED = "served"
    IDLE = "accepted, without effect"
    REFUSED = "refused"


@dataclass(frozen=True)
class Flag:
    """A flag of the command line.

    Attributes:
        name: name without the dashes.
        kind: "bool", "int32", "int64", "float" or "string", as the usage text of the real server names them.
        default: value of a flag that is not given.
        use: what the server does with the flag.
        note: what the flag does; for a flag without effect, why; for a refused one, what to do instead.
    """

    name: str
    kind: str
    default: Value
    use: Use
    note: str


def _served(name: str, kind: str, default: Value, note: str) -> Flag:
    return Flag(name, kind, default, Use.SERVED, note)


def _idle(name: str, kind: str, default: Value, note: str) -> Flag:
    return Flag(name, kind, default, Use.IDLE, note)


def _refused(name: str, kind: str, default: Value, note: str) -> Flag:
    return Flag(name, kind, default, Use.REFUSED, note)


FLAGS = [
    _served("port", INT32, 8500, "gRPC port; 0 for none, which needs `--grpc_socket_path`"),
    _served("grpc_socket_path", "string", "", "Unix socket on which gRPC listens, besides the port"),
    _served("rest_api_port", INT32, 0, "REST port; 0 for none"),
    _served("rest_api_num_threads", INT32, THREADS, "threads that answer REST requests; four per CPU by default"),
    _served("rest_api_timeout_in_ms", INT32, 30000, "time limit of a REST request; 0 for none"),
    _served("rest_api_enable_cors_support", "bool", False, "CORS headers in REST responses, for every origin"),
    _served("enable_batching", "bool", False, "requests that arrive together are computed as one batch"),
    _served(
        "allow_version_labels_for_unavailable_models",
        "bool",
        False,
        "a label that is not in use may name a version that is not available",
    ),
    _served("batching_parameters_file", "string", "", "BatchingParameters; needs `--enable_batching`"),
    _served(
        "enable_per_model_batching_parameters",
        "bool",
        False,
        "parameters are read from `batching_params.pbtxt` in each version's folder, and a version without this file is "
        "not batched; only the threads are those of `--batching_parameters_file`",
    ),
    _served("model_config_file", "string", "", "ModelServerConfig, in place of one model's name and folder"),
    _served(
        "model_config_file_poll_wait_seconds",
        INT32,
        0,
        "seconds between two readings of `--model_config_file`; 0 to read it only at the start",
    ),
    _served("model_name", "string", "default", "name of the one model"),
    _served("model_base_path", "string", "", "absolute path of the one model's folder; a local folder"),
    _idle("num_load_threads", INT32, 0, "each model is loaded by its own thread"),
    _idle("num_unload_threads", INT32, 0, "each model is unloaded by its own thread"),
    _served("max_num_load_retries", INT32, 5, "further tries to load a version after a failure"),
    _served(
        "load_retry_interval_micros", INT64, 60_000_000, "microseconds between two tries; a negative number for none"
    ),
    _served(
        "file_system_poll_wait_seconds",
        INT32,
        1,
        "seconds between two scans for versions; 0 scans once; a negative number never, and the server waits",
    ),
    _idle("flush_filesystem_caches", "bool", True, "the system's cache of files is left to the system"),
    _served("tensorflow_session_parallelism", INT64, 0, "threads of an operation, and operations at a time"),
    _served("tensorflow_session_config_file", "string", "", "ConfigProto of TensorFlow's sessions"),
    _served("tensorflow_intra_op_parallelism", INT64, 0, "threads of an operation"),
    _served("tensorflow_inter_op_parallelism", INT64, 0, "operations at a time"),
    _refused("use_alts_credentials", "bool", False, "Google's ALTS is not supported; --ssl_config_file configures TLS"),
    _served("ssl_config_file", "string", "", "SSLConfig: TLS for gRPC; REST stays without TLS"),
    _refused(
        "platform_config_file",
        "string",
        "",
        "other platforms than TensorFlow are not supported; --tensorflow_session_config_file and "
        "--batching_parameters_file configure TensorFlow",
    ),
    _served("per_process_gpu_memory_fraction", "float", 0.0, "share of a GPU's memory; 0 for TensorFlow's choice"),
    _served("saved_model_tags", "string", "serve", "tags of the graph to load, separated by commas"),
    _served("grpc_channel_arguments", "string", "", "`NAME=VALUE,..` for the gRPC server"),
    _served("grpc_max_threads", INT32, THREADS, "threads that answer gRPC requests; four per CPU by default"),
    _served("enable_model_warmup", "bool", True, "warm-up requests are run before a version is available"),
    _served("num_request_iterations_for_warmup", INT32, 0, "times that each warm-up request is run, if above 0"),
    _served("version", "bool", False, "prints the version and ends"),
    _served("monitoring_config_file", "string", "", "MonitoringConfig; without it there is no metrics page"),
    _idle(
        "remove_unused_fields_from_bundle_metagraph",
        "bool",
        True,
        "only the signatures of a graph stay in memory anyway",
    ),
    _refused("prefer_tflite_model", "bool", False, "TensorFlow Lite models are not supported; export a SavedModel"),
    _refused("use_tflite_model", "bool", False, "TensorFlow Lite models are not supported; export a SavedModel"),
    _idle("num_tflite_pools", INT32, 0, "there are no TensorFlow Lite models"),
    _idle("num_tflite_interpreters_per_pool", INT32, 1, "there are no TensorFlow Lite models"),
    _served(
        "enable_signature_method_name_check",
        "bool",
        False,
        "Classify, Regress and MultiInference accept only signatures with their method name",
    ),
    _idle("xla_cpu_compilation_enabled", "bool", False, "models that use XLA are compiled in any case"),
    _idle("xla_gpu_compilation_enabled", "bool", False, "models that use XLA are compiled in any case"),
    _idle("enable_profiler", "bool", True, "there is no profiler service"),
    _refused(
        "thread_pool_factory_config_file",
        "string",
        "",
        "thread pools of other makers are not supported; --tensorflow_intra_op_parallelism and "
        "--tensorflow_inter_op_parallelism set the numbers of threads",
    ),
    _served("mixed_precision", "string", "", "`bfloat16`: TensorFlow computes in bfloat16 where it considers it safe"),
    _idle("skip_initialize_tpu", "bool", False, "TPUs are not used"),
    _idle("enable_grpc_healthcheck_service", "bool", False, "the health service always answers"),
    _served(
        "enable_serialization_as_tensor_content", "bool", False, "tensors of Predict responses are in `tensor_content`"
    ),
]
"""The flags of the real server's current version, 48, and one of earlier versions, `use_tflite_model`."""


@dataclass(frozen=True)
class ParsedFlags:
    """The result of parsing a command line.

    Attributes:
        values: value of every flag, by name.
        given: names of the flags on the command line.
        unknown: arguments that are not flags, in their order.
        errors: one text per value that cannot be used.
    """

    values: dict[str, Any]
    given: frozenset[str]
    unknown: list[str]
    errors: list[str]

    @property
    def refused(self) -> list[str]:
        """One sentence per refused flag that is set."""
        return [
            f"--{flag.name} is refused: {flag.note}."
            for flag in FLAGS
            if flag.use is Use.REFUSED and self.values[flag.name] != flag.default
        ]

    @property
    def idle(self) -> list[str]:
        """One sentence per flag on the command line that has no effect."""
        return [
            f"--{flag.name} has no effect: {flag.note}."
            for flag in FLAGS
            if flag.use is Use.IDLE and flag.name in self.given
        ]


def parse_flags(arguments: Sequence[str]) -> ParsedFlags:
    """Parses the arguments of a command line.

    Args:
        arguments: arguments after the name of the program. What follows an argument "--" is not parsed.
    """
    by_name = {flag.name: flag for flag in FLAGS}
    values: dict[str, Any] = {flag.name: flag.default for flag in FLAGS}
    given: set[str] = set()
    unknown: list[str] = []
    errors: list[str] = []
    flags = list(arguments)
    if "--" in flags:
        unknown = flags[flags.index("--") :]
        flags = flags[: flags.index("--")]
    left_over = []
    for argument in flags:
        flag, text = _found(argument, by_name)
        if flag is None:
            left_over.append(argument)
            continue
        value = _value(flag, text)
        given.add(flag.name)
        if value is None:
            errors.append(f"Couldn't interpret value {text} for flag {flag.name}.")
        else:
            values[flag.name] = value
    return ParsedFlags(values, frozenset(given), left_over + unknown, errors)


def _found(argument: str, by_name: dict[str, Flag]) -> tuple[Flag | None, str]:
    """The flag of an argument, and its value as the real server prints it, which is "" for a switch without one.

    There, an argument that begins with the name of a switch is that switch, with a value that cannot be interpreted.
    """
    name, assigned, text = argument.removeprefix("--").partition("=")
    if not argument.startswith("--"):
        return None, ""
    if assigned and name in by_name and by_name[name].kind != "bool":
        return by_name[name], text
    switches = (flag for flag in by_name.values() if flag.kind == "bool" and argument.startswith(f"--{flag.name}"))
    flag = next(switches, None)
    return flag, "" if flag is None else argument.removeprefix(f"--{flag.name}")


def usage(program: str) -> str:
    """Returns the help text of the command, one line per flag."""
    lines = [f"\t{f'--{flag.name}={_text(flag)}':<33}\t{flag.kind}\t{_note(flag)}" for flag in FLAGS]
    return "\n".join([f"usage: {program}", "Flags:", *lines])


def _value(flag: Flag, text: str) -> Value | None:
    """Converts a text to the kind of the flag; returns None if that is impossible."""
    if flag.kind == "bool":
        return {"": True, "=true": True, "=false": False}.get(text)
    if flag.kind == "string":
        return text
    try:
        number = float(text) if flag.kind == "float" else int(text)
    except ValueError:
        return None
    limit = LIMITS.get(flag.kind, math.inf)
    return number if -limit <= number < limit and text.isascii() and "_" not in text else None


def _text(flag: Flag) -> str:
    if flag.kind == "string":
        return f'"{flag.default}"'
    return str(flag.default).lower()


def _note(flag: Flag) -> str:
    note = flag.note.replace("`", "")
    return {Use.SERVED: note, Use.IDLE: f"no effect: {note}", Use.REFUSED: f"refused: {note}"}[flag.use]

"""Reads TensorFlow Serving's configuration files: protocol buffers in text format.

The files configure models, batching, TLS, the metrics page and TensorFlow's sessions. The package
tensorflow-serving-api contains no Python code for some of the message types. This module declares them.
"""

import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_retrieval.errors import ArgumentError

from .batching_parameters import THREADS, BatchingParameters
from .errors import MissingConfigError, ServerConfigError, TextFormatError
from .metrics import METRICS_PATH

PLATFORM = "tensorflow"
INT64, BOOL, STRING = (f".google.protobuf.{kind}Value" for kind in ("Int64", "Bool", "String"))
WRAPPED = (INT64, BOOL, STRING)
Fields = dict[str, tuple[int, str, bool]]

# name of a field -> its number, its type (a message type if it begins with a dot), and whether it is repeated
BATCHING_FIELDS = {
    "max_batch_size": (1, INT64, False),
    "batch_timeout_micros": (2, INT64, False),
    "max_enqueued_batches": (3, INT64, False),
    "num_batch_threads": (4, INT64, False),
    "thread_pool_name": (5, STRING, False),
    "allowed_batch_sizes": (6, "int64", True),
    "pad_variable_length_inputs": (7, "bool", False),
    "enable_large_batch_splitting": (8, BOOL, False),
    "max_execution_batch_size": (9, INT64, False),
}
SSL_FIELDS = {
    "server_key": (1, "string", False),
    "server_cert": (2, "string", False),
    "custom_ca": (3, "string", False),
    "client_verify": (4, "bool", False),
}
PROMETHEUS_FIELDS = {"enable": (1, "bool", False), "path": (2, "string", False)}
MONITORING_FIELDS = {"prometheus_config": (1, ".tensorflow.serving.PrometheusConfig", False)}


@dataclass(frozen=True)
class SSLConfig:
    """The TLS configuration of a server. Keys and certificates are texts in PEM format.

    Args:
        server_key: private key of the server.
        server_cert: certificate of the server.
        custom_ca: certificate of the authority that signs client certificates; "" for the system's authorities.
        client_verify: whether clients must present a certificate.
    """

    server_key: str
    server_cert: str
    custom_ca: str = ""
    client_verify: bool = False


def read_model_config(path: Path) -> Any:
    """Reads the configuration of the served models from a file.

    Args:
        path: ModelServerConfig in text format, such as `model_config_list { config { name: "m" ... } }`.

    Returns:
        The ModelServerConfig.

    Raises:
        TextFormatError: the file cannot be parsed as a ModelServerConfig.
        MissingConfigError: the file does not exist.
        OSError: the file cannot be read.
    """
    from tensorflow_serving.config import model_server_config_pb2

    return _parse(path, model_server_config_pb2.ModelServerConfig())


def model_config(models: dict[str, Path]) -> Any:
    """Makes a ModelServerConfig that serves the newest version of each model.

    Args:
        models: base folder of each model, which contains its version folders, by model name.
    """
    from tensorflow_serving.config import model_server_config_pb2

    config = model_server_config_pb2.ModelServerConfig()
    for name, base in models.items():
        config.model_config_list.config.add(name=name, base_path=str(base.resolve()), model_platform=PLATFORM)
    return config


def read_batching_parameters(path: Path) -> BatchingParameters:
    """Reads the parameters of dynamic batching from a file.

    Args:
        path: BatchingParameters in text format, such as `max_batch_size { value: 32 } ...`.

    Raises:
        TextFormatError: the file cannot be parsed as BatchingParameters.
        ServerConfigError: a parameter is out of range.
        MissingConfigError: the file does not exist.
        OSError: the file cannot be read.
    """
    message = _parse(path, _message({"BatchingParameters": BATCHING_FIELDS}))
    wrapped = [name for name, (_, kind, _) in BATCHING_FIELDS.items() if kind in WRAPPED and message.HasField(name)]
    values = {name: getattr(message, name).value for name in wrapped}
    try:
        return BatchingParameters(
            **{**values, "thread_pool_name": values.get("thread_pool_name") or THREADS},
            allowed_batch_sizes=tuple(message.allowed_batch_sizes),
            pad_variable_length_inputs=message.pad_variable_length_inputs,
        )
    except ArgumentError as error:
        raise ServerConfigError(f"{path}: {error}") from None


def read_metrics_path(path: Path) -> str:
    """Reads the path of the metrics page from a file.

    Args:
        path: MonitoringConfig in text format, such as `prometheus_config { enable: true path: "/metrics" }`.

    Returns:
        The path on the REST port, METRICS_PATH if the file enables the page without a path; "" if it does not enable
        the page.

    Raises:
        TextFormatError: the file cannot be parsed as a MonitoringConfig.
        MissingConfigError: the file does not exist.
        OSError: the file cannot be read.
    """
    fields = {"PrometheusConfig": PROMETHEUS_FIELDS, "MonitoringConfig": MONITORING_FIELDS}
    prometheus = _parse(path, _message(fields)).prometheus_config
    return (prometheus.path or METRICS_PATH) if prometheus.enable else ""


def read_session_config(path: Path) -> Any:
    """Reads the configuration of TensorFlow's sessions from a file.

    Args:
        path: ConfigProto in text format, such as `intra_op_parallelism_threads: 4`.

    Returns:
        The ConfigProto.

    Raises:
        TextFormatError: the file cannot be parsed as a ConfigProto.
        MissingConfigError: the file does not exist.
        OSError: the file cannot be read.
    """
    from tensorflow.core.protobuf import config_pb2

    return _parse(path, config_pb2.ConfigProto())


def read_ssl_config(path: Path) -> SSLConfig:
    """Reads the TLS configuration of a server from a file.

    Args:
        path: SSLConfig in text format, such as `server_key: "-----BEGIN ..." server_cert: "..." client_verify: false`.

    Raises:
        TextFormatError: the file cannot be parsed as an SSLConfig.
        ServerConfigError: the file lacks the key or the certificate, or sets client_verify without custom_ca.
        MissingConfigError: the file does not exist.
        OSError: the file cannot be read.
    """
    message = _parse(path, _message({"SSLConfig": SSL_FIELDS}))
    if not message.server_key or not message.server_cert:
        raise ServerConfigError(f"{path} must contain server_key and server_cert, each as PEM text")
    if message.client_verify and not message.custom_ca:
        raise ServerConfigError(f"{path}: client_verify needs custom_ca, the authority of the clients' certificates")
    return SSLConfig(message.server_key, message.server_cert, message.custom_ca, message.client_verify)


def tls_context(config: SSLConfig) -> ssl.SSLContext:
    """Makes the TLS context of an HTTPS server, with TLS 1.2 or later.

    Args:
        config: TLS configuration.

    Raises:
        ServerConfigError: the key or a certificate cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with tempfile.TemporaryDirectory() as folder:
        # The ssl module reads key and certificate only from files. Only the owner of the process can read the folder.
        key, certificate = Path(folder, "key.pem"), Path(folder, "cert.pem")
        key.write_text(config.server_key)
        certificate.write_text(config.server_cert)
        try:
            context.load_cert_chain(certificate, key)
            if config.custom_ca:
                context.load_verify_locations(cadata=config.custom_ca)
        except (ssl.SSLError, ValueError) as error:
            raise ServerConfigError(
                f"key, certificate or authority of the TLS configuration cannot be used: {error}"
            ) from None
    if config.client_verify:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _parse(path: Path, message: Any) -> Any:
    from google.protobuf import text_format

    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), message)
    except FileNotFoundError:
        raise MissingConfigError(f"{path} does not exist") from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise TextFormatError(f"{path}: Error parsing text-format {message.DESCRIPTOR.full_name}: {error}") from None


def _message(messages: dict[str, Fields]) -> Any:
    """Makes an empty message of the last of the declared types; earlier ones are types of its fields."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

    *_, name = messages
    types = descriptor_pb2.FieldDescriptorProto
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package="tensorflow.serving", syntax="proto3")
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    for message, fields in messages.items():
        declared = file.message_type.add(name=message)
        for field, (number, kind, repeated) in fields.items():
            label = types.LABEL_REPEATED if repeated else types.LABEL_OPTIONAL
            added = declared.field.add(name=field, number=number, label=label)
            if kind.startswith("."):
                added.type, added.type_name = types.TYPE_MESSAGE, kind
            else:
                added.type = types.Type.Value(f"TYPE_{kind.upper()}")
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tensorflow.serving.{name}"))()

"""Reads TensorFlow Serving's configuration files for models, batching and TLS: protocol buffers in text format.

The package tensorflow-serving-api contains no Python code for two of the message types. This module declares them.
"""

import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_retrieval.errors import ArgumentError

from .batching import BatchingParameters
from .errors import MissingConfigError, ServerConfigError
from .model_registry import PLATFORM

WRAPPED = ".google.protobuf.Int64Value"

# name of a field -> its number, its type (a message type if it begins with a dot), and whether it is repeated
BATCHING_FIELDS = {
    "max_batch_size": (1, WRAPPED, False),
    "batch_timeout_micros": (2, WRAPPED, False),
    "max_enqueued_batches": (3, WRAPPED, False),
    "num_batch_threads": (4, WRAPPED, False),
    "thread_pool_name": (5, ".google.protobuf.StringValue", False),
    "allowed_batch_sizes": (6, "int64", True),
    "pad_variable_length_inputs": (7, "bool", False),
}
SSL_FIELDS = {
    "server_key": (1, "string", False),
    "server_cert": (2, "string", False),
    "custom_ca": (3, "string", False),
    "client_verify": (4, "bool", False),
}


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
        ServerConfigError: the file cannot be parsed as a ModelServerConfig.
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
        ServerConfigError: the file cannot be parsed as BatchingParameters, or a parameter is out of range.
        MissingConfigError: the file does not exist.
        OSError: the file cannot be read.
    """
    message = _parse(path, _message("BatchingParameters", BATCHING_FIELDS))
    wrapped = [name for name, (_, kind, _) in BATCHING_FIELDS.items() if kind == WRAPPED and message.HasField(name)]
    try:
        return BatchingParameters(
            **{name: getattr(message, name).value for name in wrapped},
            allowed_batch_sizes=tuple(message.allowed_batch_sizes),
            pad_variable_length_inputs=message.pad_variable_length_inputs,
        )
    except ArgumentError as error:
        raise ServerConfigError(f"{path}: {error}") from None


def read_ssl_config(path: Path) -> SSLConfig:
    """Reads the TLS configuration of a server from a file.

    Args:
        path: SSLConfig in text format, such as `server_key: "-----BEGIN ..." server_cert: "..." client_verify: false`.

    Raises:
        ServerConfigError: the file cannot be parsed as an SSLConfig, lacks the key or the certificate, or sets
            client_verify without custom_ca.
        MissingConfigError: the file does not exist.
        OSError: the file cannot be read.
    """
    message = _parse(path, _message("SSLConfig", SSL_FIELDS))
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
        raise ServerConfigError(f"{path} is not {message.DESCRIPTOR.name} in text format: {error}") from None


def _message(name: str, fields: dict[str, tuple[int, str, bool]]) -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

    types = descriptor_pb2.FieldDescriptorProto
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package="tensorflow.serving", syntax="proto3")
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    declared = file.message_type.add(name=name)
    for field, (number, kind, repeated) in fields.items():
        label = types.LABEL_REPEATED if repeated else types.LABEL_OPTIONAL
        added = declared.field.add(name=field, number=number, label=label)
        if kind.startswith("."):
            added.type, added.type_name = types.TYPE_MESSAGE, kind
        else:
            added.type = types.Type.Value(f"TYPE_{kind.upper()}")
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tensorflow.serving.{name}"))()

"""The protocol-buffer messages of TensorFlow Serving's method Predict, without TensorFlow.

The package tensorflow-serving-api has the same messages, but its modules import TensorFlow, which takes seconds. Here
they are described by a table of the fields that a client of photos uses; protobuf keeps all other fields of a received
message as unknown fields. The numbers and types of the fields are those of `tensorflow_serving/apis/predict.proto`,
`tensorflow_serving/apis/model.proto`, `tensorflow/core/framework/tensor.proto` and `tensor_shape.proto`.

protobuf and gRPC are dependencies of TensorFlow. Both are imported only when a function is called.
"""

import functools
from typing import Any, NamedTuple

METHOD = "/tensorflow.serving.PredictionService/Predict"

DT_FLOAT, DT_INT32, DT_STRING = 1, 3, 7
"""Values of `TensorProto.dtype`, an enumeration of tensorflow/core/framework/types.proto."""


class Messages(NamedTuple):
    """The classes of the messages of a call.

    Attributes:
        request: PredictRequest, what the client sends.
        response: PredictResponse, what the server answers.
    """

    request: Any
    response: Any


# Of each message its fields: number, name, type. A type in brackets is repeated, and one in braces is the value of a
# map from text. An enumeration is sent as an int32.
_FIELDS: dict[str, tuple[tuple[int, str, str], ...]] = {
    "Dim": ((1, "size", "int64"), (2, "name", "string")),
    "TensorShapeProto": ((2, "dim", "[Dim]"), (3, "unknown_rank", "bool")),
    "TensorProto": (
        (1, "dtype", "int32"),
        (2, "tensor_shape", "TensorShapeProto"),
        (3, "version_number", "int32"),
        (4, "tensor_content", "bytes"),
        (5, "float_val", "[float]"),
        (7, "int_val", "[int32]"),
        (8, "string_val", "[bytes]"),
    ),
    "ModelSpec": (
        (1, "name", "string"),
        (2, "version", "Int64Value"),
        (3, "signature_name", "string"),
        (4, "version_label", "string"),
    ),
    "Int64Value": ((1, "value", "int64"),),
    "PredictRequest": (
        (1, "model_spec", "ModelSpec"),
        (2, "inputs", "{TensorProto}"),
        (3, "output_filter", "[string]"),
    ),
    "PredictResponse": ((1, "outputs", "{TensorProto}"), (2, "model_spec", "ModelSpec")),
}
_PACKAGE = "keras_retrieval.predict"


@functools.cache
def predict_messages() -> Messages:
    """Returns the classes of the messages of the method Predict.

    They are made in a pool of their own, so that they do not collide with those of tensorflow-serving-api in the same
    process.

    Raises:
        ImportError: protobuf is not installed.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for number, field, kind in fields:
            _add_field(message, number, field, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)

    def made(name: str) -> Any:
        return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))

    return Messages(made("PredictRequest"), made("PredictResponse"))


def _add_field(message: Any, number: int, name: str, kind: str) -> None:
    field = message.field.add(name=name, number=number)
    if kind.startswith("{"):
        entry = message.nested_type.add(name=f"{name.title()}Entry")
        entry.options.map_entry = True
        _add_field(entry, 1, "key", "string")
        _add_field(entry, 2, "value", kind[1:-1])
        kind = f"[{message.name}.{entry.name}]"
    field.label = field.LABEL_REPEATED if kind.startswith("[") else field.LABEL_OPTIONAL
    kind = kind.strip("[]")
    scalar = getattr(field, f"TYPE_{kind.upper()}", None)
    if scalar is None:
        field.type, field.type_name = field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    else:
        field.type = scalar

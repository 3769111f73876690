"""Converts TensorProto messages to numpy arrays and back, as TensorFlow Serving reads and writes them.

TensorFlow's own parser reads the messages: every field, every dtype, and values that are repeated to fill the shape.
The declared size is checked before, so that a shape of 2^40 elements is rejected before memory is allocated.
"""

import math
from typing import Any

import numpy as np

from .errors import invalid

LARGEST_FILL = 2**28  # maximum size in bytes of a tensor whose values are repeated to fill its shape
LARGEST_ELEMENT = 24  # maximum memory in bytes per byte of a message, which tensors of empty strings need

# FIELDS: dtype -> field of TensorProto that contains its values. BITS: dtype -> numpy type of the field's numbers.
FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    "int8": "int_val",
    "int16": "int_val",
    "int32": "int_val",
    "int64": "int64_val",
    "uint8": "int_val",
    "uint16": "int_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "bool": "bool_val",
    "float16": "half_val",
    "bfloat16": "half_val",
    "complex64": "scomplex_val",
    "complex128": "dcomplex_val",
    "string": "string_val",
}
BITS = {"float16": np.uint16, "bfloat16": np.uint16, "complex64": np.float32, "complex128": np.float64}
FIXED_WIDTH = (np.float32, np.float64)  # types with the same layout in a message as in memory


def from_proto(proto: Any, alias: str) -> np.ndarray:
    """Reads a TensorProto.

    Args:
        proto: TensorProto, with its values in the typed field or in tensor_content.
        alias: name of the input, for the error message.

    Returns:
        The array, in the shape of the TensorProto; an object array of bytes for strings.

    Raises:
        ServingError: INVALID_ARGUMENT if the message is damaged, declares an implausible size or has an unsupported
            dtype.
    """
    import tensorflow as tf

    try:
        dtype = tf.as_dtype(proto.dtype)
        if dtype.name in FIELDS and _is_plausible(proto, dtype):
            return as_array(tf.io.parse_tensor(proto.SerializeToString(), dtype).numpy())
    except (TypeError, ValueError, tf.errors.InvalidArgumentError):
        pass
    raise invalid(f"tensor parsing error: {alias}")


def as_array(value: Any) -> np.ndarray:
    """Converts a tensor's value to an array; a scalar string stays bytes, because numpy drops trailing zero bytes."""
    return np.array(value, object) if isinstance(value, bytes) else np.asarray(value)


def _is_plausible(proto: Any, dtype: Any) -> bool:
    sizes = [dimension.size for dimension in proto.tensor_shape.dim]
    element = LARGEST_ELEMENT if dtype.name == "string" else dtype.size
    declared = math.prod(sizes) * element
    return min(sizes, default=0) >= 0 and declared <= max(LARGEST_FILL, proto.ByteSize() * LARGEST_ELEMENT)


def to_proto(array: np.ndarray, tensor_content: bool = False) -> Any:
    """Writes an array as a TensorProto.

    Args:
        array: the array; an object array of bytes for strings.
        tensor_content: whether the values are written to the field tensor_content, as they are in memory, instead of
            the typed field (float_val, ...). TensorFlow Serving has this as an option; its Python clients cannot read
            strings from this field.

    Raises:
        ServingError: INVALID_ARGUMENT if the dtype is not supported.
    """
    import tensorflow as tf
    from tensorflow.core.framework import tensor_pb2

    dtype = tf.string if array.dtype == object else tf.as_dtype(array.dtype)
    if dtype.name not in FIELDS:
        raise invalid(f"Tensors of type {dtype.name} cannot be returned")
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    values = np.ascontiguousarray(array).reshape(-1)
    if tensor_content:
        proto.tensor_content = _content(values)
        return proto
    _fill(proto, FIELDS[dtype.name], values.view(BITS[dtype.name]) if dtype.name in BITS else values)
    return proto


def _fill(proto: Any, field: str, values: np.ndarray) -> None:
    if values.dtype.type in FIXED_WIDTH and values.size:
        # A packed field consists of tag, length and values. Writing them at once is ten times as fast as one by one.
        tag = proto.DESCRIPTOR.fields_by_name[field].number << 3 | 2
        little_endian = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
        proto.MergeFromString(bytes([tag]) + _varint(len(little_endian)) + little_endian)
    else:
        getattr(proto, field).extend(values.tolist())


def _content(values: np.ndarray) -> bytes:
    if values.dtype == object:  # TensorFlow's encoding of strings: all lengths, then all strings
        return b"".join([*(_varint(len(value)) for value in values), *values])
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def _varint(number: int) -> bytes:
    digits = []
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])

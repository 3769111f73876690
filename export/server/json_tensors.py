"""Converts JSON values to arrays and back, with the checks and error messages of TensorFlow Serving's REST API.

Nested lists are read level by level with built-in functions, so that an image as nested lists takes only milliseconds.
Only where that fails, `Elements` repeats TensorFlow Serving's checks value by value, in its order, to find the error
that TensorFlow Serving reports.
"""

import base64
import binascii
import itertools
from contextlib import suppress
from typing import Any

import numpy as np

from .errors import Code, ServingError, invalid
from .json_reader import to_bytes
from .json_writer import byte_string, debug_text, decimals, quoted

BYTES_KEY = "b64"
BYTES_SUFFIX = "_bytes"  # strings of outputs whose names have this suffix are written as {"b64": ...}
MOST_DIMENSIONS = 64 if int(np.__version__.partition(".")[0]) >= 2 else 32  # of an array of numpy; TensorFlow has 254
SPACES, PADDING = b" \t\n\v\f\r", b"=."
JSON_TYPES = {list: "Array", str: "String", int: "Number", float: "Number", type(None): "Null"}
FLOATS: dict[str, Any] = {"float": np.float32, "double": np.float64}
# Input type -> (type that limits the accepted numbers, type of the tensor). As in TensorFlow Serving, the smaller types
# accept the numbers of int32, of which the tensor keeps the lowest bits.
INTEGERS: dict[str, tuple[Any, Any]] = {
    "int8": (np.int32, np.int8),
    "int16": (np.int32, np.int16),
    "int32": (np.int32, np.int32),
    "int64": (np.int64, np.int64),
    "uint8": (np.int32, np.uint8),
    "uint32": (np.uint32, np.uint32),
    "uint64": (np.uint64, np.uint64),
}
WRITABLE_INTEGERS = {kind for _, kind in INTEGERS.values()}


def type_name(value: Any) -> str:
    """Returns RapidJSON's name of a JSON value's type: Null, False, True, Object, Array, String or Number."""
    if isinstance(value, dict):
        return "Object"
    return str(value) if isinstance(value, bool) else JSON_TYPES[type(value)]


def is_bytes(value: Any) -> bool:
    """Returns whether a JSON value is an object of the form {"b64": "..."}, which stands for a byte string."""
    return type(value) is dict and len(value) == 1 and isinstance(value.get(BYTES_KEY), str)


def decode(value: dict[str, str]) -> bytes:
    """Decodes the byte string of {"b64": "..."}: base64 with or without padding, in which white space is ignored.

    Raises:
        ServingError: INVALID_ARGUMENT if the text is not base64.
    """
    text = to_bytes(value[BYTES_KEY]).translate(None, SPACES)
    digits = text.rstrip(PADDING)
    padding = -len(digits) % 4
    if len(text) - len(digits) in (0, padding):
        try:
            return base64.b64decode(digits + b"=" * padding, validate=True)
        except binascii.Error:
            pass
    raise invalid("Unable to base64 decode")


def from_json(value: Any, dtype: str, alias: str) -> np.ndarray:
    """Converts a JSON value to an array.

    Args:
        value: scalar, or nested lists of uniform depth and size.
        dtype: TensorFlow's name of the data type, such as "float", "int64" or "string".
        alias: name of the input, for the error message.

    Returns:
        The array; for "string", an object array of bytes.

    Raises:
        ServingError: INVALID_ARGUMENT if the lists are ragged, or a value has another type; UNIMPLEMENTED if the data
            type is not supported.
    """
    array = try_from_json(value, dtype)
    if array is None:
        elements = Elements(dtype)
        elements.add(value)
        array = elements.array(elements.last_shape, alias)
    return array


def try_from_json(value: Any, dtype: str) -> np.ndarray | None:
    """Converts a JSON value to an array; see `from_json`. Returns None if it cannot, so that `Elements` finds why."""
    shape: list[int] = []
    values = [value]
    while values and isinstance(values[0], list):
        if len(shape) == MOST_DIMENSIONS or set(map(type, values)) != {list} or len(set(map(len, values))) > 1:
            return None
        shape.append(len(values[0]))
        values = list(itertools.chain.from_iterable(values))
    array = _array(values, dtype)
    return None if array is None else array.reshape(shape)


def _array(values: list[Any], dtype: str) -> np.ndarray | None:
    types = set(map(type, values))
    if dtype in FLOATS and types <= {int, float}:
        return _floats(values, dtype)
    if dtype in INTEGERS and types <= {int}:
        accepted, kind = INTEGERS[dtype]
        limits = np.iinfo(accepted)
        if not values or (limits.min <= min(values) and max(values) <= limits.max):
            return np.array(values, accepted).astype(kind)
    elif dtype == "bool" and types <= {bool}:
        return np.array(values, bool)
    elif dtype == "string" and types <= {str, dict} and all(isinstance(v, str) or is_bytes(v) for v in values):
        with suppress(ServingError):
            return _strings(values)
    return None


def _floats(values: list[Any], dtype: str) -> np.ndarray:
    # Through double precision, as RapidJSON's numbers; numbers beyond the range of float32 become infinite.
    with np.errstate(over="ignore"):
        return np.array(values, np.float64).astype(FLOATS[dtype])


def _strings(values: list[Any]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = [to_bytes(value) if isinstance(value, str) else decode(value) for value in values]
    return array


class Elements:
    """The values of a tensor, added in TensorFlow Serving's order and with its checks.

    Args:
        dtype: TensorFlow's name of the data type.

    Attributes:
        values: checked values of all JSON values that were added.
        last_shape: shape of the JSON value that was added last.
    """

    def __init__(self, dtype: str) -> None:
        self.values: list[Any] = []
        self.last_shape: list[int] = []
        self._dtype = dtype

    def add(self, value: Any) -> int:
        """Adds a scalar or nested lists.

        Returns:
            The number of values that were added.

        Raises:
            ServingError: a value does not fit the data type, or the lists are ragged.
        """
        shape, before = _dense_shape(value), len(self.values)
        self.last_shape = shape
        if not isinstance(value, list):
            self._add_scalar(value, 0, shape)
            return 1
        levels = [iter(self._checked(value, 0, shape))]
        while levels:
            item = next(levels[-1], _END)
            if item is _END:
                levels.pop()
            elif isinstance(item, list):
                levels.append(iter(self._checked(item, len(levels), shape)))
            else:
                self._add_scalar(item, len(levels), shape)
        return len(self.values) - before

    def array(self, shape: list[int], alias: str) -> np.ndarray:
        """Makes the tensor. As in TensorFlow, surplus values are dropped.

        Args:
            shape: shape of the tensor.
            alias: name of the input, for the error message.

        Raises:
            ServingError: there are no arrays of so many dimensions.
        """
        if len(shape) > MOST_DIMENSIONS:
            raise invalid(f"tensor parsing error: {alias}")
        array = _array(self.values[: int(np.prod(shape))], self._dtype)
        if array is None:  # of a type without a form in JSON, and therefore without values
            import tensorflow as tf

            array = np.empty(0, tf.as_dtype(self._dtype).as_numpy_dtype)
        return array.reshape(shape)

    def _checked(self, values: list[Any], level: int, shape: list[int]) -> list[Any]:
        if level >= len(shape):
            raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
        if len(values) != shape[level]:
            sizes = f"{len(values)} at level: {level} expected size: {shape[level]}"
            raise invalid(f"Encountered list at unexpected size: {sizes}")
        return values

    def _add_scalar(self, value: Any, level: int, shape: list[int]) -> None:
        if level != len(shape):
            place = f"level: {level + 1} in the JSON DOM. Expected at level: {len(shape)}"
            raise invalid(f"JSON Value: {debug_text(value)} found at incorrect {place}")
        if isinstance(value, dict) and self._dtype == "string":
            if not is_bytes(value):
                raise invalid(f"JSON Value: {debug_text(value)} not formatted correctly for base64 data")
            decode(value)
        elif isinstance(value, dict) or not self._fits(value):
            kind = f"Type: {type_name(value)} is not of expected type: {self._dtype}"
            raise invalid(f"JSON Value: {debug_text(value)} {kind}")
        self.values.append(value)

    def _fits(self, value: Any) -> bool:
        if self._dtype not in {*FLOATS, *INTEGERS, "bool", "string"}:
            message = f"Conversion of JSON Value: {debug_text(value)} to type: {self._dtype}"
            raise ServingError(Code.UNIMPLEMENTED, message)
        return _array([value], self._dtype) is not None


_END = object()


def _dense_shape(value: Any) -> list[int]:
    """Returns the sizes of a list, its first element, the first element of that, and so on."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return shape


def tokens(array: np.ndarray, alias: str, depth: int) -> list[bytes]:
    """Writes each number or string of an array as JSON.

    Args:
        array: array of any shape; an object array of bytes for strings.
        alias: name of the output; if it ends in "_bytes", strings are written as {"b64": ...}.
        depth: number of JSON arrays and objects around each.

    Raises:
        ServingError: INVALID_ARGUMENT if the data type is not supported.
    """
    flat = array.reshape(-1)
    if array.dtype in (np.float32, np.float64):
        return decimals(flat)
    if array.dtype == object:
        if alias.endswith(BYTES_SUFFIX):
            return [byte_string(value, depth) for value in flat]
        return [quoted(value) for value in flat]
    if array.dtype == bool:
        return [b"true" if value else b"false" for value in flat]
    if array.dtype.type in WRITABLE_INTEGERS:
        return [b"%d" % value for value in flat.tolist()]
    if not flat.size:
        return []
    name = {"float16": "half"}.get(array.dtype.name, array.dtype.name)
    raise invalid(f"Failed to write JSON value for tensor type: {name}")

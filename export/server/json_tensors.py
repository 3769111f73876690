"""Converts JSON values to arrays and back, with the checks and error messages of TensorFlow Serving's REST API.

Nested lists are checked level by level with built-in functions, so that reading an image as nested lists takes only
milliseconds.
"""

import base64
import binascii
import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .errors import Code, ServingError, invalid

BYTES_KEY = "b64"
BYTES_SUFFIX = "_bytes"  # strings of outputs whose names have this suffix are written as {"b64": ...}
JSON_TYPES = {dict: "Object", list: "Array", str: "String", int: "Number", float: "Number", type(None): "Null"}
FLOATS: dict[str, Any] = {"float": np.float32, "double": np.float64}
INTEGERS: dict[str, Any] = {
    "int8": np.int8,
    "int16": np.int16,
    "int32": np.int32,
    "int64": np.int64,
    "uint8": np.uint8,
    "uint32": np.uint32,
    "uint64": np.uint64,
}
NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def parse(body: bytes) -> dict[str, Any]:
    """Parses the body of a request, which must be a JSON object. NaN and Infinity are allowed as numbers.

    Raises:
        ServingError: INVALID_ARGUMENT if the body is not a JSON object.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        document = json.loads(body)
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: Invalid value. at offset: {error.pos}") from None
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise invalid(f"JSON Parse error: {error}") from None
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {as_text(document)} Is not object")
    return document


def as_text(value: Any) -> str:
    """Formats a JSON value as indented text for error messages."""
    return json.dumps(value, indent=4)


def is_bytes(value: Any) -> bool:
    """Returns whether a JSON value is an object of the form {"b64": "..."}, which stands for a byte string."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get(BYTES_KEY), str)


def decode(value: dict[str, str]) -> bytes:
    """Decodes the byte string of {"b64": "..."}, base64 with or without padding.

    Raises:
        ServingError: INVALID_ARGUMENT if the text is not base64.
    """
    text = value[BYTES_KEY]
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None


def from_json(value: Any, dtype: str) -> np.ndarray:
    """Converts a JSON value to an array.

    Args:
        value: scalar, or nested lists of uniform depth and size.
        dtype: TensorFlow's name of the data type, such as "float", "int64" or "string".

    Returns:
        The array; for "string", an object array of bytes.

    Raises:
        ServingError: INVALID_ARGUMENT if the lists are ragged, or a value has another type or would lose precision;
            UNIMPLEMENTED if the data type is not supported.
    """
    shape: list[int] = []
    values = [value]
    while values and isinstance(values[0], list):
        _check_level(values, len(shape))
        shape.append(len(values[0]))
        values = list(itertools.chain.from_iterable(values))
    if any(isinstance(item, list) for item in values):
        raise invalid(f"Encountered list at unexpected level: {len(shape)} expected < {len(shape)}")
    return _leaves(values, dtype).reshape(shape)


def _check_level(values: list[Any], level: int) -> None:
    if set(map(type, values)) != {list}:
        scalar = next(item for item in values if not isinstance(item, list))
        raise invalid(f"JSON Value: {as_text(scalar)} found at incorrect level: {level + 1} in the JSON DOM.")
    if len(set(map(len, values))) > 1:
        wrong = next(len(item) for item in values if len(item) != len(values[0]))
        sizes = f"{wrong} at level: {level} expected size: {len(values[0])}"
        raise invalid(f"Encountered list at unexpected size: {sizes}")


def _leaves(values: list[Any], dtype: str) -> np.ndarray:
    if dtype in FLOATS:
        _check_types(values, {int, float}, dtype)
        return _floats(values, dtype)
    if dtype in INTEGERS:
        _check_types(values, {int}, dtype)
        limits = np.iinfo(INTEGERS[dtype])
        _check(values, lambda value: limits.min <= value <= limits.max, dtype)
        return np.array(values, INTEGERS[dtype])
    if dtype == "bool":
        _check_types(values, {bool}, dtype)
        return np.array(values, bool)
    if dtype == "string":
        _check_types(values, {str, dict}, dtype)
        return _strings(values)
    first = as_text(values[0]) if values else "[]"
    raise ServingError(Code.UNIMPLEMENTED, f"Conversion of JSON Value: {first} to type: {dtype}")


def _check_types(values: list[Any], allowed: set[type], dtype: str) -> None:
    if not set(map(type, values)) <= allowed:
        _check(values, lambda value: type(value) in allowed, dtype)


def _check(values: list[Any], fits: Callable[[Any], bool], dtype: str) -> None:
    for value in values:
        if not fits(value):
            kind = str(value) if isinstance(value, bool) else JSON_TYPES[type(value)]
            raise invalid(f"JSON Value: {as_text(value)} Type: {kind} is not of expected type: {dtype}")


def _floats(values: list[Any], dtype: str) -> np.ndarray:
    kind = FLOATS[dtype]
    limits = np.finfo(kind)
    largest_integer, largest = 2 ** (limits.nmant + 1) - 1, float(limits.max)
    for value in values:
        lossy = abs(value) > largest_integer if type(value) is int else largest < abs(value) < math.inf
        if lossy:
            raise invalid(f"Cannot convert JSON value: {as_text(value)} to {dtype} without loss of precision.")
    return np.array(values, kind)


def _strings(values: list[Any]) -> np.ndarray:
    for value in values:
        if isinstance(value, dict) and not is_bytes(value):
            raise invalid(f"JSON Value: {as_text(value)} not formatted correctly for base64 data")
    array = np.empty(len(values), object)
    array[:] = [v.encode("utf-8", "surrogatepass") if isinstance(v, str) else decode(v) for v in values]
    return array


def row_texts(array: np.ndarray, alias: str) -> list[str]:
    """Writes each row of an array as JSON text.

    Args:
        array: array, (B, ...); an object array of bytes for strings.
        alias: name of the output; if it ends in "_bytes", strings are written as {"b64": ...}.

    Returns:
        B texts.

    Raises:
        ServingError: INVALID_ARGUMENT if the data type is not supported.
    """
    return _nested(_tokens(array, alias), array.shape, 1)


def tensor_text(array: np.ndarray, alias: str) -> str:
    """Writes an array as JSON text.

    Args:
        array: array of any shape; an object array of bytes for strings.
        alias: name of the output; if it ends in "_bytes", strings are written as {"b64": ...}.

    Raises:
        ServingError: INVALID_ARGUMENT if the data type is not supported.
    """
    return _nested(_tokens(array, alias), array.shape, 0)[0]


def _tokens(array: np.ndarray, alias: str) -> list[str]:
    flat = array.reshape(-1)
    if array.dtype in (np.float32, np.float64):
        return [NOT_FINITE.get(text, text) for text in flat.astype(str).tolist()]
    if array.dtype == object:
        as_bytes = alias.endswith(BYTES_SUFFIX)
        return [json.dumps({BYTES_KEY: base64.b64encode(v).decode()} if as_bytes else _text(v)) for v in flat]
    if array.dtype == bool or array.dtype.name in INTEGERS:
        return list(map(json.dumps, flat.tolist()))
    raise invalid(f"Failed to write JSON value for tensor type: {array.dtype.name}")


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _nested(tokens: list[str], shape: tuple[int, ...], outermost: int) -> list[str]:
    for axis in range(len(shape) - 1, outermost - 1, -1):
        size = shape[axis]
        starts = [group * size for group in range(math.prod(shape[:axis]))]
        tokens = [f"[{', '.join(tokens[start : start + size])}]" for start in starts]
    return tokens

"""What a pickle of plain data may name: sets, bytes in old protocols, numpy's data types, arrays and scalars.

`unpickle` asks `CALLS` for a name; nothing is looked up anywhere else. No function here is the one that the file
names: each makes the value itself, from arguments that it checks.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np


class RefusalError(Exception):
    """Why the file is not read; `load_pickle` adds the file's name."""


class Name:
    """A function that the file names: a text, and the reader of its arguments where it is admitted."""

    def __init__(self, name: str) -> None:
        if name not in CALLS:
            raise RefusalError(f"it names {name[:120]!r}, which is not admitted")
        self.name = name


class Unfinished:
    """An array or a data type between its making and its state, with the memo entries that stand for it."""

    def __init__(self, finish: Callable[[Any], Any]) -> None:
        self.finish = finish
        self.memo_keys: list[int] = []


def as_key(value: Any) -> Any:
    """Only flat keys: the hash of a deeply nested tuple would overflow the C stack."""
    flat = (str, bytes, int, float, type(None))
    if isinstance(value, flat) or (isinstance(value, tuple) and all(isinstance(part, flat) for part in value)):
        return value
    raise RefusalError(f"a {type(value).__name__} is not admitted as a key")


def _bytes(text: Any, encoding: Any) -> bytes:
    """`_codecs.encode`, which is how bytes are written to old protocols."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise RefusalError("it encodes text otherwise than as latin-1")
    return text.encode("latin-1")


def _no_bytes() -> bytes:
    return b""


def _set_of(items: list) -> set:
    return set(map(as_key, _listed(items)))


def _frozenset_of(items: list) -> frozenset:
    return frozenset(map(as_key, _listed(items)))


def _listed(items: Any) -> list:
    if not isinstance(items, list):
        raise RefusalError("a set is made of something other than a list")
    return items


def _dtype(description: str, align: Any = False, copy: Any = True) -> Unfinished:
    """A plain data type; its byte order comes as its state."""
    if not isinstance(description, str) or description[:1] not in "biufcSUO" or not description[1:].isdigit():
        raise RefusalError(f"the data type {str(description)[:40]!r} is not admitted")
    plain = np.dtype("O" if description[0] == "O" else description)

    def finish(state: Any) -> np.dtype:
        _, order, subtype, names, fields, *_ = state
        if subtype is not None or names is not None or fields is not None or order not in ("<", ">", "|", "="):
            raise RefusalError("a data type with fields is not admitted")
        return plain if order == "|" else plain.newbyteorder(order)

    return Unfinished(finish)


def _array(subtype: Any, shape: Any, typecode: Any) -> Unfinished:
    """`_reconstruct`: an empty array, which gets its shape, type and data as its state."""
    if not isinstance(subtype, Name) or subtype.name != "numpy.ndarray":
        raise RefusalError("an array of another class is not admitted")

    def finish(state: Any) -> np.ndarray:
        shape, dtype, by_columns, data = state[-4:]
        return _filled(shape, dtype, "F" if by_columns else "C", data)

    return Unfinished(finish)


def _array_of_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """`_frombuffer`, which protocol 5 uses."""
    return _filled(shape, dtype, order, data)


def _scalar(dtype: Any, data: Any) -> Any:
    return _filled((), dtype, "C", data)[()]


def _filled(shape: Any, dtype: Any, order: Any, data: Any) -> np.ndarray:
    whole = isinstance(shape, tuple) and all(isinstance(size, int) and size >= 0 for size in shape)
    if not whole or not isinstance(dtype, np.dtype) or order not in ("C", "F"):
        raise RefusalError("an array's shape or data type is broken")
    if dtype.hasobject:
        flat = np.empty(len(_listed(data)), object)
        flat[:] = data
    else:
        raw = data.encode("latin-1") if isinstance(data, str) else bytes(memoryview(data))
        flat = np.frombuffer(raw, dtype).copy() if raw and dtype.itemsize else np.zeros(0, dtype)
    if len(flat) != prod(shape):
        raise RefusalError(f"an array of shape {shape} has data for {len(flat):,} values")
    return flat.reshape(shape, order=order)


# What a file may name. None: only as an argument of another call.
CALLS: dict[str, Callable[..., Any] | None] = {
    "_codecs.encode": _bytes,
    "__builtin__.bytes": _no_bytes,
    "builtins.bytes": _no_bytes,
    "__builtin__.set": _set_of,
    "builtins.set": _set_of,
    "__builtin__.frozenset": _frozenset_of,
    "builtins.frozenset": _frozenset_of,
    "numpy.ndarray": None,
    "numpy.dtype": _dtype,
}
for _module in ("numpy.core", "numpy._core"):
    CALLS[f"{_module}.multiarray._reconstruct"] = _array
    CALLS[f"{_module}.multiarray.scalar"] = _scalar
    CALLS[f"{_module}.numeric._frombuffer"] = _array_of_buffer

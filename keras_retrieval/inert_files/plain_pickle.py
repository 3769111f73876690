"""Reads pickles of numbers, text, builtin containers and NumPy arrays without executing code in them.

Ground truth is often published as a pickle, which is a program that may call any function. The module `inert_pickle`
interprets the pickle, and this module provides safe replacements for the NumPy functions that a pickle may call. Each
replacement checks its arguments and creates the array, scalar or data type. Text of Python 2 is read as latin-1.
"""

import os
from collections.abc import Callable
from functools import partial
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RetrievalError
from .inert_pickle import Function, PickleRefusedError, Stateful, run

# A list of 1,000,000 names takes up to 3,000,000 instructions; the worst file found takes 1.7 GB of memory.
MAX_BYTES = 64 * 2**20
MAX_INSTRUCTIONS = 10_000_000

_SMALL = 64  # strings up to this length in bytes may be used repeatedly, because an array object is larger
_MAX_DIMENSIONS = 32


class UnpickleError(RetrievalError, ValueError):
    """A file is not a pickle of plain data, is damaged or too large, or contains objects that are not allowed."""


def load_pickle(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """Reads a pickle of plain data without executing code in it.

    These types are allowed: None, bool, int, float, str, bytes, bytearray, tuple, list, dict, set and frozenset; NumPy
    arrays and scalars of bool, integer, float, complex, byte string and text; NumPy arrays of Python objects of the
    allowed types.

    Args:
        path: the pickle, in protocol 0 to 5, written by Python 2 or 3 and any version of NumPy.
        max_bytes: the largest file size in bytes; a larger file is refused before it is read.

    Returns:
        The object in the pickle.

    Raises:
        UnpickleError: the file is not a pickle of plain data. The message contains the path and the first object or
            instruction that is not allowed.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise UnpickleError(f"{path}: the file has more than {max_bytes:,} bytes, the limit for a pickle")
        content = file.read(size)
    try:
        return run(BytesIO(content), numpy_calls("biufcSUO"), sets=True, max_instructions=MAX_INSTRUCTIONS)
    except PickleRefusedError as refusal:
        raise UnpickleError(f"{path} cannot be read: {refusal}") from refusal


def numpy_calls(kinds: str) -> dict[str, Callable[..., Any] | None]:
    """Returns the functions with which `inert_pickle.run` creates NumPy arrays, scalars and data types.

    Args:
        kinds: the allowed data types as NumPy's `dtype.kind` letters, a subset of "biufcSUO".

    Returns:
        The table to pass as `calls` to `inert_pickle.run`, for one pickle only. The arrays that its functions create
        are writable.
    """
    contents = _Contents()
    array, scalar = partial(_Array, contents), partial(_scalar, contents)
    calls: dict[str, Callable[..., Any] | None] = {
        "_codecs.encode": contents.encode,
        "__builtin__.bytes": _no_bytes,
        "builtins.bytes": _no_bytes,
        "numpy.ndarray": None,
        "numpy.dtype": partial(_DType, kinds),
    }
    for core in ("numpy.core", "numpy._core"):
        calls[f"{core}.multiarray._reconstruct"] = array
        calls[f"{core}.multiarray.scalar"] = scalar
        calls[f"{core}.numeric._frombuffer"] = partial(_filled, contents)
    return calls


def _no_bytes() -> bytes:
    """Returns b"", the only value for which old pickle protocols call `bytes`."""
    return b""


class _Contents:
    """Provides the bytes of arrays. Each large string is used only once, so that the file's size bounds the memory."""

    def __init__(self) -> None:
        self.encoded: dict[int, tuple[str, bytes]] = {}
        self.taken: dict[int, Any] = {}

    def encode(self, text: Any, encoding: Any = "latin1") -> bytes:
        """Replaces `_codecs.encode`, with which old pickle protocols create bytes."""
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise PickleRefusedError("it encodes text with another encoding than latin-1")
        if id(text) not in self.encoded:
            self.encoded[id(text)] = (text, text.encode("latin-1"))
        return self.encoded[id(text)][1]

    def take(self, content: Any) -> bytearray:
        """Copies the bytes of one array; a pickle of Python 2 has them as text."""
        if not isinstance(content, bytes | bytearray | str):
            raise PickleRefusedError("an array's content is damaged")
        if len(content) > _SMALL:
            if id(content) in self.taken:
                raise PickleRefusedError("two arrays are made of the same bytes")
            self.taken[id(content)] = content
        return bytearray(self.encode(content) if isinstance(content, str) else content)


class _DType(Stateful):
    """Replaces `numpy.dtype(description)` for data types without fields; the state sets the byte order."""

    __slots__ = ("dtype",)

    def __init__(self, kinds: str, description: Any, align: Any = False, copy: Any = True) -> None:
        if not isinstance(description, str) or description[:1] not in kinds or not description[1:].isdigit():
            named = repr(description[:40]) if isinstance(description, str) else type(description).__name__
            raise PickleRefusedError(f"arrays of type {named} are not allowed")
        self.dtype = np.dtype("O" if description[0] == "O" else description)

    def set_state(self, state: Any) -> None:
        order, *fields = state[1:5] if isinstance(state, tuple) and len(state) > 4 else (None,)
        if order not in ("<", ">", "|", "=") or fields != [None] * 3:
            raise PickleRefusedError("a data type's state is damaged, or it has fields")
        self.dtype = self.dtype if order == "|" else self.dtype.newbyteorder(order)

    def value(self) -> np.dtype:
        return self.dtype


class _Array(Stateful):
    """Replaces NumPy's `_reconstruct(ndarray, (0,), b"b")`; the state sets the shape, data type and content."""

    __slots__ = ("array", "contents")

    def __init__(self, contents: _Contents, kind: Any, shape: Any, typecode: Any) -> None:
        if not isinstance(kind, Function) or kind.name != "numpy.ndarray":
            raise PickleRefusedError("an array of another class than numpy.ndarray is not allowed")
        self.contents = contents
        self.array: np.ndarray | None = None

    def set_state(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) not in (4, 5) or self.array is not None:
            raise PickleRefusedError("an array's state is damaged")
        shape, dtype, by_columns, content = state[-4:]
        self.array = _filled(self.contents, content, dtype, shape, "F" if by_columns else "C")

    def value(self) -> np.ndarray:
        if self.array is None:
            raise PickleRefusedError("an array is used before its content is set")
        return self.array


def _scalar(contents: _Contents, dtype: Any, content: Any) -> Any:
    return _filled(contents, content, dtype, (), "C")[()]


def _filled(contents: _Contents, content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """Creates an array that owns its memory; also replaces NumPy's `_frombuffer`, which protocol 5 calls."""
    sizes_fit = isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)
    if not sizes_fit or len(shape) > _MAX_DIMENSIONS or order not in ("C", "F"):
        raise PickleRefusedError("an array's shape is damaged")
    if not isinstance(dtype, np.dtype) or not dtype.itemsize:
        raise PickleRefusedError("an array's type is damaged")
    if dtype.hasobject and isinstance(content, list):
        return np.fromiter(content, object, len(content)).reshape(shape, order=order)
    taken = contents.take(content)
    if prod(shape) * dtype.itemsize != len(taken):
        raise PickleRefusedError(f"an array of shape {shape} and type {dtype} has {len(taken):,} bytes")
    return np.frombuffer(taken, dtype).reshape(shape, order=order)

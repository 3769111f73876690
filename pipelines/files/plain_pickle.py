"""Reads a published pickle that holds numbers, text, builtin containers and numpy arrays, and nothing else.

A pickle is a program: `inert_pickle` runs it, and what it may call of numpy stands here. No function here is the one
that the file names: each makes the value itself, from arguments that it checks. Files of Python 2 are read as latin-1.
"""

import os
from collections.abc import Callable
from functools import partial
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from .inert_pickle import Function, PickleRefusedError, Stateful, run

# A list of 1,000,000 names takes up to 3,000,000 instructions; the worst file found takes 1.7 GB of memory.
MAX_BYTES = 64 * 2**20
MAX_INSTRUCTIONS = 10_000_000

_SMALL = 64  # bytes that may be copied again and again: a new array takes more
_MAX_DIMENSIONS = 32


class UnpickleError(ValueError):
    """The file is no pickle of plain data: broken, too large, or it holds something that is not admitted."""


def load_pickle(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """Reads a pickle of plain data without executing anything in it.

    Admitted: None, bool, int, float, str, bytes, bytearray, tuple, list, dict, set, frozenset; numpy arrays and
    scalars of bool, integer, float, complex, byte string, text, and arrays of Python objects that are themselves
    admitted.

    Args:
        path: the file; protocols 0 to 5, written by Python 2 or 3 and any numpy.
        max_bytes: a larger file is refused unread.

    Returns:
        The object.

    Raises:
        UnpickleError: the message names the file and what it holds that is not admitted.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise UnpickleError(f"{path}: more than {max_bytes:,} bytes are not read as a pickle")
        content = file.read(size)
    try:
        return run(BytesIO(content), numpy_calls("biufcSUO"), sets=True, max_instructions=MAX_INSTRUCTIONS)
    except PickleRefusedError as refusal:
        raise UnpickleError(f"{path} is not read: {refusal}") from refusal


def numpy_calls(kinds: str) -> dict[str, Callable[..., Any] | None]:
    """What `inert_pickle.run` calls for numpy's arrays, scalars and data types.

    Args:
        kinds: numpy's letters of the data types that are admitted, of "biufcSUO".

    Returns:
        The table for one pickle. The arrays can be written to.
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
    """How old protocols make b"", the only call of `bytes` that they need."""
    return b""


class _Contents:
    """Bytes for arrays. Large ones are made once of what the file holds, so that nothing multiplies."""

    def __init__(self) -> None:
        self.encoded: dict[int, tuple[str, bytes]] = {}
        self.taken: dict[int, Any] = {}

    def encode(self, text: Any, encoding: Any = "latin1") -> bytes:
        """`_codecs.encode`, which is how bytes are written to old protocols."""
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise PickleRefusedError("it encodes text otherwise than as latin-1")
        if id(text) not in self.encoded:
            self.encoded[id(text)] = (text, text.encode("latin-1"))
        return self.encoded[id(text)][1]

    def take(self, content: Any) -> bytearray:
        """A copy for an array; Python 2's bytes are text here."""
        if not isinstance(content, bytes | bytearray | str):
            raise PickleRefusedError("an array's content is damaged")
        if len(content) > _SMALL:
            if id(content) in self.taken:
                raise PickleRefusedError("two arrays are made of the same bytes")
            self.taken[id(content)] = content
        return bytearray(self.encode(content) if isinstance(content, str) else content)


class _DType(Stateful):
    """numpy.dtype(description), a plain data type, whose byte order is its state."""

    __slots__ = ("dtype",)

    def __init__(self, kinds: str, description: Any, align: Any = False, copy: Any = True) -> None:
        if not isinstance(description, str) or description[:1] not in kinds or not description[1:].isdigit():
            named = repr(description[:40]) if isinstance(description, str) else type(description).__name__
            raise PickleRefusedError(f"arrays of type {named} are not admitted")
        self.dtype = np.dtype("O" if description[0] == "O" else description)

    def set_state(self, state: Any) -> None:
        order, *fields = state[1:5] if isinstance(state, tuple) and len(state) > 4 else (None,)
        if order not in ("<", ">", "|", "=") or fields != [None] * 3:
            raise PickleRefusedError("a data type's state is damaged, or it has fields")
        self.dtype = self.dtype if order == "|" else self.dtype.newbyteorder(order)

    def value(self) -> np.dtype:
        return self.dtype


class _Array(Stateful):
    """numpy's `_reconstruct(ndarray, (0,), b"b")`: shape, type and bytes are its state."""

    __slots__ = ("array", "contents")

    def __init__(self, contents: _Contents, kind: Any, shape: Any, typecode: Any) -> None:
        if not isinstance(kind, Function) or kind.name != "numpy.ndarray":
            raise PickleRefusedError("an array of another class than numpy.ndarray is not admitted")
        self.contents = contents
        self.array: np.ndarray | None = None

    def set_state(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) not in (4, 5) or self.array is not None:
            raise PickleRefusedError("an array's state is damaged")
        shape, dtype, by_columns, content = state[-4:]
        self.array = _filled(self.contents, content, dtype, shape, "F" if by_columns else "C")

    def value(self) -> np.ndarray:
        if self.array is None:
            raise PickleRefusedError("an array is used before its content comes")
        return self.array


def _scalar(contents: _Contents, dtype: Any, content: Any) -> Any:
    return _filled(contents, content, dtype, (), "C")[()]


def _filled(contents: _Contents, content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """An array of its own memory, also what protocol 5 names `_frombuffer`."""
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

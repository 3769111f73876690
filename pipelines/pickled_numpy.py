"""What `inert_pickle.run` calls for numpy's arrays, scalars and data types: values made from checked arguments."""

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import numpy as np

from .inert_pickle import Function, RefusedError, Stateful


class _DType(Stateful):
    """numpy.dtype(description), whose byte order is its state."""

    def __init__(self, description: Any, align: Any = False, copy: Any = True) -> None:
        if not isinstance(description, str) or description[:1] not in "biuf" or not description[1:].isdigit():
            raise RefusedError(f"arrays of type {str(description)[:40]!r} are not admitted")
        self.dtype = np.dtype(description)

    def set_state(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise RefusedError("a data type's state is damaged")
        self.dtype = self.dtype if state[1] == "|" else self.dtype.newbyteorder(state[1])

    def value(self) -> np.dtype:
        return self.dtype


class _Array(Stateful):
    """numpy's `_reconstruct(ndarray, (0,), b"b")`: shape, type and bytes are its state."""

    def __init__(self, encoder: "_Encoder", kind: Any, shape: Any, typecode: Any) -> None:
        self.encoder = encoder
        if not isinstance(kind, Function) or kind.name != "numpy.ndarray":
            raise RefusedError("an array of another class than numpy.ndarray is not admitted")
        self.array: np.ndarray | None = None

    def set_state(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or self.array is not None:
            raise RefusedError("an array's state is damaged")
        _, shape, dtype, by_columns, content = state
        self.array = _view(shape, dtype, self.encoder(content), "F" if by_columns else "C")

    def value(self) -> np.ndarray:
        if self.array is None:
            raise RefusedError("an array is used before its content comes")
        return self.array


def _view(shape: Any, dtype: Any, content: Any, order: Any) -> np.ndarray:
    """A read-only array on bytes of the pickle, without a copy."""
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
        raise RefusedError("an array's shape is damaged")
    if not isinstance(dtype, np.dtype) or not isinstance(content, bytes):
        raise RefusedError("an array's type or content is damaged")
    if prod(shape) * dtype.itemsize != len(content):
        raise RefusedError(f"an array of shape {shape} and type {dtype} has {len(content):,} bytes")
    return np.frombuffer(content, dtype).reshape(shape, order=order) if content else np.zeros(shape, dtype)


def _scalar(encoder: "_Encoder", dtype: Any, content: Any) -> Any:
    return _view((), dtype, encoder(content), "C").item()


class _Encoder:
    """Text to bytes (`_codecs.encode` in old protocols, Python 2's strings): each text once, so nothing multiplies."""

    def __init__(self) -> None:
        self.made: dict[int, tuple[str, bytes]] = {}

    def __call__(self, text: Any, encoding: Any = "latin1") -> Any:
        if not isinstance(text, str):
            return text
        if encoding not in ("latin1", "latin-1"):
            raise RefusedError("it encodes text otherwise than as latin-1")
        if id(text) not in self.made:
            self.made[id(text)] = (text, text.encode("latin-1"))
        return self.made[id(text)][1]


def _no_bytes() -> bytes:
    """How old protocols make b"", the only call of `bytes` that they need."""
    return b""


def numpy_calls() -> dict[str, Callable[..., Any] | None]:
    """The part of the table for numpy arrays and scalars of bool, integers and floats, for one pickle."""
    encoder = _Encoder()
    calls: dict[str, Callable[..., Any] | None] = {
        "_codecs.encode": encoder,
        "__builtin__.bytes": _no_bytes,
        "builtins.bytes": _no_bytes,
        "numpy.ndarray": None,
        "numpy.dtype": _DType,
    }
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        calls |= {f"{module}._reconstruct": partial(_Array, encoder), f"{module}.scalar": partial(_scalar, encoder)}
    return calls

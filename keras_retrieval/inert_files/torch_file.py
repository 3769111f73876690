"""Reads files that torch.save wrote, without torch and without executing code in them.

Tensors are views on storages, which are one-dimensional arrays. The old format consists of five pickles (magic number,
version, system, the object, the names of the storages), followed by the bytes of the storages. The new format is an
uncompressed zip with the object in data.pkl and a member data/NAME for each storage.
"""

import os
import struct
import zipfile
from collections.abc import Callable, Iterable
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np

from ..errors import RetrievalError
from .inert_pickle import Function, PickleRefusedError, cut_off, run
from .mistaken import mistaken_for_weights
from .plain_pickle import numpy_calls

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_START = 512  # bytes by which a format is recognised
_DTYPES: dict[str, str] = {
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}


class TorchFileError(RetrievalError, ValueError):
    """A file was not written by torch.save, is damaged, or contains something other than data, such as code."""


class _Storages(Protocol):
    def __call__(self, key: str, dtype: str, count: int) -> np.ndarray:
        """Returns the `count` values of the storage `key`; every call with this key returns the same array."""


def read_torch(path: Path, *, objects: bool = False) -> Any:
    """Reads a file that torch.save wrote, such as a state dict or a checkpoint.

    Args:
        path: path of the file.
        objects: whether objects of other classes are read, as `inert_pickle.Opaque`, as training checkpoints contain
            them beside the weights; otherwise they are refused.

    Returns:
        The saved object, made of None, bool, int, float, str, bytes, tuple, list, dict, and numpy arrays and scalars.
        Tensors become numpy arrays, those in bfloat16 float32 arrays, and an OrderedDict becomes a dict. Tensors that
        shared memory when they were saved become arrays that share memory.

    Raises:
        TorchFileError: the file was not written by torch.save, is damaged, or contains something other than data; the
            message has the path and the first problem.
        OSError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            size, start = os.fstat(file.fileno()).st_size, file.read(_START)
            if not start:
                raise PickleRefusedError("it is empty: download or copy it again")
            file.seek(0)
            return _read_zip(file, size, objects) if start[:4] == b"PK\x03\x04" else _read_old(file, size, objects)
    except PickleRefusedError as refusal:
        raise TorchFileError(f"{path} cannot be read: {refusal}") from refusal


class _Bounded:
    """A file whose `read` allocates no more memory than for the bytes that are left of it.

    The file is not mapped into memory: a mapped file that another program cuts off ends the process.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size

    def read(self, count: int) -> bytes:
        return self._file.read(max(0, min(count, self._size - self._file.tell())))

    def readline(self) -> bytes:
        return self._file.readline()


def _read_old(file: BinaryIO, size: int, objects: bool) -> Any:
    start = file.read(_START)
    file.seek(0)
    if start[257:262] == b"ustar":
        raise PickleRefusedError("it is a tar, the format of torch before 0.1.10: load and save it with a newer torch")
    stream = cast(BinaryIO, _Bounded(file, size))
    if start[:2] != b"\x80\x02" or run(stream, {}) != _MAGIC:
        raise PickleRefusedError(mistaken_for_weights(start) or "it does not start like a file of torch.save")
    if run(stream, {}) != _VERSION:
        raise PickleRefusedError(f"its version is not {_VERSION}")
    system = run(stream, {})
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise PickleRefusedError("it was written on a big-endian machine: load and save it on a little-endian one")
    storages = _OldStorages(size)
    result = run(stream, _calls(), _persistent(storages), objects=objects)
    storages.fill(run(stream, {}), stream)
    return result


class _OldStorages:
    """The storages of the old format, allocated while the object is read and then filled from the bytes after it."""

    def __init__(self, available: int) -> None:
        self.available = available
        self.made: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def __call__(self, key: str, dtype: str, count: int) -> np.ndarray:
        if key not in self.made:
            stored = _stored(dtype)
            self.available -= count * stored.itemsize
            if self.available < 0:
                raise PickleRefusedError(cut_off(f"storage {key[:40]!r} of {count:,} values is larger than the file"))
            raw = np.zeros(count, stored)
            self.made[key] = (raw, np.zeros(count, "<f4") if dtype == "bfloat16" else raw)
        return self.made[key][1]

    def fill(self, keys: Any, content: BinaryIO) -> None:
        named = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
        if not named or sorted(keys) != sorted(self.made):
            raise PickleRefusedError("its list of storages is not that of its tensors")
        for key in keys:
            raw, values = self.made[key]
            header = content.read(8)
            if len(header) < 8 or struct.unpack("<q", header)[0] != len(raw):
                raise PickleRefusedError(cut_off(f"storage {key!r} does not start with its size"))
            stored = content.read(raw.nbytes)
            if len(stored) < raw.nbytes:
                raise PickleRefusedError(cut_off(f"storage {key!r} has {len(stored):,} of {raw.nbytes:,} bytes"))
            raw[:] = np.frombuffer(stored, raw.dtype)
            if values is not raw:
                values[:] = _bfloat16(raw)


def _read_zip(file: BinaryIO, size: int, objects: bool) -> Any:
    try:
        with zipfile.ZipFile(file) as archive:
            members = _members(archive.infolist(), size)
            program = next((name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")), None)
            if program is None:
                raise PickleRefusedError("it is a zip without data.pkl: not written by torch.save")
            storages = _ZipStorages(archive, members, program.removesuffix("data.pkl"))
            if storages.bytes_of("byteorder", b"little") != b"little":
                raise PickleRefusedError(
                    "it was written on a big-endian machine: load and save it on a little-endian one"
                )
            stream = BytesIO(storages.bytes_of("data.pkl"))
            return run(stream, _calls(), _persistent(storages), objects=objects)
    except PickleRefusedError:
        raise
    except (zipfile.BadZipFile, ValueError, RuntimeError, EOFError, struct.error, OverflowError, OSError) as error:
        raise PickleRefusedError(cut_off(str(error) or "it ends early")) from error


def _members(entries: Iterable[zipfile.ZipInfo], size: int) -> dict[str, zipfile.ZipInfo]:
    """Maps names to members; refuses compressed members, so that all together are not larger than the file."""
    members: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise PickleRefusedError(f"its member {entry.filename[:80]!r} is compressed, which torch.save never does")
        if entry.filename in members:
            raise PickleRefusedError(f"it has two members {entry.filename[:80]!r}")
        members[entry.filename] = entry
    declared = sum(entry.file_size for entry in members.values())
    if declared > size:
        raise PickleRefusedError(f"its members declare {declared:,} bytes, and the whole file has {size:,}")
    return members


class _ZipStorages:
    """The storages of the new format; each storage is read once, and zipfile checks its CRC."""

    def __init__(self, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], root: str) -> None:
        self.archive = archive
        self.members = members
        self.root = root
        self.made: dict[str, np.ndarray] = {}

    def bytes_of(self, name: str, default: bytes | None = None) -> bytes:
        entry = self.members.get(self.root + name)
        if entry is None and default is not None:
            return default
        if entry is None:
            raise PickleRefusedError(f"its member {name[:80]!r} is missing")
        return self.archive.read(entry)

    def __call__(self, key: str, dtype: str, count: int) -> np.ndarray:
        if key not in self.made:
            stored = _stored(dtype)
            content = self.bytes_of(f"data/{key}")
            if len(content) != count * stored.itemsize:
                raise PickleRefusedError(f"storage {key[:40]!r} of {count:,} values has {len(content):,} bytes")
            values = np.frombuffer(content, stored)
            self.made[key] = _bfloat16(values) if dtype == "bfloat16" else values
        return self.made[key]


def _stored(dtype: str) -> np.dtype:
    return np.dtype("<u2" if dtype == "bfloat16" else dtype)


def _bfloat16(upper: np.ndarray) -> np.ndarray:
    """Converts bfloat16, the upper halves of float32 numbers as uint16, to float32."""
    return (upper.astype("<u4") << 16).view("<f4")


def _persistent(storages: _Storages) -> Callable[[Any], np.ndarray]:
    """Returns a function from ("storage", type, key, location, count[, view]) to the values of the storage."""
    kinds: dict[str, str] = {}

    def storage(identifier: Any) -> np.ndarray:
        if not isinstance(identifier, tuple) or len(identifier) not in (5, 6) or identifier[0] != "storage":
            raise PickleRefusedError("it refers to something that is not a storage")
        _, kind, key, _, count = identifier[:5]
        if not isinstance(kind, Function) or kind.name not in _DTYPES or not isinstance(key, str):
            raise PickleRefusedError("a storage has no type or name")
        if kinds.setdefault(key, kind.name) != kind.name:
            raise PickleRefusedError(f"storage {key[:40]!r} is used as two types")
        values = storages(key, _DTYPES[kind.name], _count(count))
        view = identifier[5] if len(identifier) == 6 else None
        if view is None:
            return values
        _, offset, length = view if isinstance(view, tuple) and len(view) == 3 else (None, None, None)
        return _strided(values, offset, (length,), (1,))

    return storage


def _calls() -> dict[str, Callable[..., Any] | None]:
    return {
        **numpy_calls("biuf"),
        **dict.fromkeys(_DTYPES),
        "collections.OrderedDict": _ordered_dict,
        "torch.Size": _size,
        "torch._utils._rebuild_tensor": _strided,
        "torch._utils._rebuild_tensor_v2": lambda values, offset, shape, strides, *_: _strided(
            values, offset, shape, strides
        ),
        "torch._utils._rebuild_parameter": lambda tensor, *_: _tensor(tensor),
        "torch._utils._rebuild_parameter_with_state": lambda tensor, *_: _tensor(tensor),
    }


def _ordered_dict(pairs: Any = ()) -> dict:
    if (not isinstance(pairs, list) and pairs != ()) or not all(isinstance(pair, list | tuple) for pair in pairs):
        raise PickleRefusedError("an OrderedDict is made of something that is not pairs")
    if not all(len(pair) == 2 and isinstance(pair[0], str | int) for pair in pairs):
        raise PickleRefusedError("an OrderedDict is made of pairs whose keys are not plain")
    return {key: value for key, value in pairs}  # noqa: C416 (dict() would accept more than pairs)


def _size(sizes: Any = ()) -> tuple[int, ...]:
    if not isinstance(sizes, list | tuple) or any(_count(size) != size for size in sizes):
        raise PickleRefusedError("a torch.Size is made of something that is not numbers")
    return tuple(sizes)  # a tuple is not copied


def _tensor(value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray):
        raise PickleRefusedError("a parameter is made of something that is not a tensor")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**62:
        raise PickleRefusedError("a size, stride or offset is not a whole number from 0")
    return value


def _strided(values: Any, offset: Any, shape: Any, strides: Any) -> np.ndarray:
    """Returns a tensor as a view on its storage `values`, which must contain all elements of the tensor."""
    if not isinstance(values, np.ndarray) or values.ndim != 1:
        raise PickleRefusedError("a tensor is made of something that is not a storage")
    if not isinstance(shape, tuple) or not isinstance(strides, tuple) or len(shape) != len(strides):
        raise PickleRefusedError("a tensor's shape and strides do not fit each other")
    start, sizes, steps = _count(offset), tuple(map(_count, shape)), tuple(map(_count, strides))
    if 0 in sizes:
        return np.zeros(sizes, values.dtype)
    last = start + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
    if last >= len(values) or prod(sizes) > len(values):
        raise PickleRefusedError(f"a tensor of shape {sizes} reaches beyond its storage of {len(values):,} values")
    bytes_steps = tuple(step * values.itemsize for step in steps)
    return np.lib.stride_tricks.as_strided(values[start:], sizes, bytes_steps, writeable=False)

"""Writes files in torch.save's two formats, instruction by instruction, valid and hostile ones."""

import math
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
KINDS = {"f8": "Double", "f4": "Float", "f2": "Half", "i8": "Long", "i4": "Int", "i2": "Short", "i1": "Char"}
KINDS |= {"u1": "Byte", "b1": "Bool"}


@dataclass(frozen=True)
class Global:
    module: str
    name: str


@dataclass(frozen=True)
class Call:
    function: Any
    arguments: tuple = ()
    state: Any = None


@dataclass(frozen=True)
class Persistent:
    identifier: Any


@dataclass(frozen=True)
class Raw:
    """Instructions as they are."""

    code: bytes


@dataclass(frozen=True)
class Pickled:
    """An array that is stored as numpy pickles it, not as a tensor."""

    array: np.ndarray


@dataclass
class Program:
    """One object's pickle and the storages that it refers to."""

    storages: dict[str, bytes] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def code(self, value: Any) -> bytes:
        return b"\x80\x02" + self._code(value) + b"."

    def _code(self, value: Any) -> bytes:
        match value:
            case Raw(code):
                return code
            case None:
                return b"N"
            case bool():
                return b"\x88" if value else b"\x89"
            case int():
                size = value.bit_length() // 8 + 1
                return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)
            case float():
                return b"G" + struct.pack(">d", value)
            case str():
                return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
            case bytes():
                return self._code(Call(Global("_codecs", "encode"), (value.decode("latin-1"), "latin1")))
            case tuple():
                return b"(" + b"".join(map(self._code, value)) + b"t"
            case list():
                return b"](" + b"".join(map(self._code, value)) + b"e"
            case dict():
                return b"}(" + b"".join(self._code(part) for item in value.items() for part in item) + b"u"
            case Global(module, name):
                return f"c{module}\n{name}\n".encode()
            case Call(function, arguments, state):
                build = b"" if state is None else self._code(state) + b"b"
                return self._code(function) + self._code(arguments) + b"R" + build
            case Persistent(identifier):
                return self._code(identifier) + b"Q"
            case Pickled(array):
                return self._code(_pickled(array))
            case np.ndarray():
                return self._code(self.tensor(value))
        raise TypeError(type(value))

    def tensor(self, array: np.ndarray) -> Call:
        key = str(len(self.storages))
        self.storages[key] = np.ascontiguousarray(array).tobytes()
        self.counts[key] = array.size
        strides = tuple(math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim))
        return rebuild(key, f"{KINDS[array.dtype.str[1:]]}Storage", array.size, 0, array.shape, strides)


def rebuild(key: str, kind: str, count: int, offset: int, shape: tuple, strides: tuple, view: tuple = ()) -> Call:
    storage = Persistent(("storage", Global("torch", kind), key, "cuda:0", count, *view))
    hooks = Call(Global("collections", "OrderedDict"))
    return Call(Global("torch._utils", "_rebuild_tensor_v2"), (storage, offset, shape, strides, False, hooks))


def _pickled(array: np.ndarray) -> Call:
    dtype = Call(
        Global("numpy", "dtype"),
        (array.dtype.str[1:], False, True),
        (3, array.dtype.str[0], None, None, None, -1, -1, 0),
    )
    empty = (Global("numpy", "ndarray"), (0,), b"b")
    state = (1, array.shape, dtype, bool(array.flags.fnc), array.tobytes("A"))
    return Call(Global("numpy.core.multiarray", "_reconstruct"), empty, state)


def old_bytes(tree: Any, program: Program | None = None, *, little_endian: bool = True) -> bytes:
    """The old form. `program` may hold storages that `tree` names by itself."""
    program = program or Program()
    code = program.code(tree)
    head = [MAGIC, 1001, {"protocol_version": 1001, "little_endian": little_endian, "type_sizes": {}}]
    parts = [*map(Program().code, head), code, Program().code(list(program.storages))]
    for key, content in program.storages.items():
        parts += [struct.pack("<q", program.counts[key]), content]
    return b"".join(parts)


def zip_bytes(
    tree: Any,
    program: Program | None = None,
    *,
    byteorder: bytes = b"little",
    compression: int = zipfile.ZIP_STORED,
    leave_out: str = "",
) -> bytes:
    """The new form."""
    program = program or Program()
    members = {"data.pkl": program.code(tree), "byteorder": byteorder, "version": b"3\n"}
    members |= {f"data/{key}": content for key, content in program.storages.items()}
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            if name != leave_out:
                archive.writestr(zipfile.ZipInfo(f"net/{name}"), content, compression)
    return buffer.getvalue()


FORMS: dict[str, Callable[..., bytes]] = {"old": old_bytes, "zip": zip_bytes}


def save(path: Path, tree: Any, form: str = "zip") -> Path:
    """Writes `tree`, its arrays as tensors."""
    path.write_bytes(FORMS[form](tree))
    return path

"""Reads a published pickle that holds numbers, text, builtin containers and numpy arrays, and nothing else.

A pickle is a program. This is an interpreter of the part of its language that plain data needs: it imports
nothing, calls nothing that the file names, and refuses every other instruction by name. `pickletools.genops` splits
the file into instructions; a name of a function is only ever looked up in the table `CALLS` of `unpickle_calls`.
Files of Python 2 are read as latin-1.
"""

import pickletools
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from .unpickle_calls import CALLS, Name, RefusalError, Unfinished, as_key

# One byte of a pickle can make an object of 200 bytes, and a few can copy an array that it already holds:
# these bounds keep the worst file near 2 GB of memory.
MAX_BYTES = 64 * 2**20
MAX_INSTRUCTIONS = 10_000_000
MAX_CONTAINERS = 1_000_000
MAX_MADE = 256 * 2**20

_VALUES = frozenset(
    (
        "INT",
        "LONG",
        "LONG1",
        "LONG4",
        "BININT",
        "BININT1",
        "BININT2",
        "FLOAT",
        "BINFLOAT",
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "UNICODE",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
    )
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
    "EMPTY_TUPLE": tuple,
}
_FROM_MARK: dict[str, Callable[[list], Any]] = {
    "TUPLE": tuple,
    "LIST": list,
    "DICT": lambda items: _put_items({}, items),
    "FROZENSET": lambda items: frozenset(map(as_key, items)),
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


class UnpickleError(ValueError):
    """The file is no pickle of plain data: broken, too large, or it holds something that is not admitted."""


def load_pickle(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """Reads a pickle of plain data without executing anything in it.

    Admitted: None, bool, int, float, str, bytes, tuple, list, dict, set, frozenset; numpy arrays and
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
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise UnpickleError(f"{path}: more than {max_bytes:,} bytes are not read as a pickle")
    try:
        return _Reader().read(content)
    except RefusalError as refusal:
        raise UnpickleError(f"{path} is not read: {refusal}") from None
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        reason = str(error)[:200]
        raise UnpickleError(f"{path} is not a whole pickle of plain data: {reason}") from error


class _Reader:
    """The stack, the marks and the memo of one pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.containers = 0
        self.unfinished = 0
        self.names = 0
        self.made = 0

    def read(self, content: bytes) -> Any:
        actions = {name[4:].upper(): getattr(self, name) for name in dir(type(self)) if name.startswith("_op_")}
        push, memo = self.stack.append, self.memo
        for count, (opcode, argument, _) in enumerate(pickletools.genops(BytesIO(content))):
            name = opcode.name
            if count >= MAX_INSTRUCTIONS:
                raise RefusalError(f"it holds more than {MAX_INSTRUCTIONS:,} instructions")
            if name in _VALUES:
                push(_CONSTANTS.get(name) if name in _CONSTANTS else argument)
            elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
                self._remember(argument)
            elif name == "MEMOIZE":
                self._remember(len(memo))
            elif name == "STOP":
                return self._result()
            elif name in actions:
                actions[name](argument)
            else:
                self._build(name)
        raise RefusalError("it ends before its end mark")

    def _build(self, name: str) -> None:
        self._count_container()
        if name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _FROM_MARK:
            self.stack.append(_FROM_MARK[name](self._to_mark()))
        elif name in _TUPLES:
            items = self._pop(_TUPLES[name])
            self.stack.append(tuple(items))
        else:
            raise RefusalError(f"it holds the instruction {name}, which is not admitted")

    def _op_proto(self, version: int) -> None:
        pass  # genops itself reads protocols 0 to 5 and refuses an instruction that it does not know

    def _op_frame(self, size: int) -> None:
        pass  # a hint for reading ahead

    def _op_mark(self, _: None) -> None:
        self.stack.append(_MARK)

    def _op_pop(self, _: None) -> None:
        self._pop(1)

    def _op_pop_mark(self, _: None) -> None:
        self._to_mark()

    def _op_get(self, key: int) -> None:
        value = self.memo[key]
        if isinstance(value, Unfinished):
            raise RefusalError("an array refers to itself")
        self.names += isinstance(value, Name)
        self.stack.append(value)

    _op_binget = _op_long_binget = _op_get

    def _op_append(self, _: None) -> None:
        (item,) = self._pop(1)
        self._top(list).append(item)

    def _op_appends(self, _: None) -> None:
        items = self._to_mark()
        self._top(list).extend(items)

    def _op_setitem(self, _: None) -> None:
        items = self._pop(2)
        _put_items(self._top(dict), items)

    def _op_setitems(self, _: None) -> None:
        items = self._to_mark()
        _put_items(self._top(dict), items)

    def _op_additems(self, _: None) -> None:
        items = self._to_mark()
        self._top(set).update(map(as_key, items))

    def _op_global(self, name: str) -> None:
        self._push_name(name.replace(" ", ".", 1))

    def _op_stack_global(self, _: None) -> None:
        module, name = self._pop(2)
        self._push_name(f"{module}.{name}")

    def _op_reduce(self, _: None) -> None:
        function, arguments = self._pop(2)
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise RefusalError("it calls something that is not a function")
        call = CALLS[function.name]
        if call is None:
            raise RefusalError(f"it calls {function.name}, which is only admitted as an argument")
        self.names -= 1 + sum(isinstance(argument, Name) for argument in arguments)
        self._count_container()
        made = call(*arguments)
        self.unfinished += isinstance(made, Unfinished)
        self._weigh(made)
        self.stack.append(made)

    def _op_build(self, _: None) -> None:
        (state,) = self._pop(1)
        target = self._top(Unfinished)
        finished = self.stack[-1] = target.finish(state)
        self.unfinished -= 1
        self._weigh(finished)
        for key in target.memo_keys:
            self.memo[key] = finished

    def _push_name(self, name: str) -> None:
        self.names += 1
        self.stack.append(Name(name))

    def _count_container(self) -> None:
        self.containers += 1
        if self.containers > MAX_CONTAINERS:
            raise RefusalError(f"it holds more than {MAX_CONTAINERS:,} containers")

    def _weigh(self, made: Any) -> None:
        self.made += getattr(made, "nbytes", 0) or sys.getsizeof(made)
        if self.made > MAX_MADE:
            raise RefusalError(f"it makes arrays, sets and bytes of more than {MAX_MADE:,} bytes")

    def _remember(self, key: Any) -> None:
        value = self._top(object)
        self.memo[key] = value
        if isinstance(value, Unfinished):
            value.memo_keys.append(key)

    def _top(self, kind: type) -> Any:
        if not self.stack or self.stack[-1] is _MARK or not isinstance(self.stack[-1], kind):
            raise RefusalError(f"an instruction needs a {kind.__name__.strip('_').lower()} that is not there")
        return self.stack[-1]

    def _pop(self, count: int) -> list[Any]:
        items = self.stack[-count:]
        if len(items) < count or any(item is _MARK for item in items):
            raise RefusalError("an instruction needs more values than there are")
        del self.stack[-count:]
        return items

    def _to_mark(self) -> list[Any]:
        start = len(self.stack) - 1
        while start >= 0 and self.stack[start] is not _MARK:
            start -= 1
        if start < 0:
            raise RefusalError("an instruction needs a mark that is not there")
        items = self.stack[start + 1 :]
        del self.stack[start:]
        return items

    def _result(self) -> Any:
        (result,) = self._pop(1)
        if self.stack or self.unfinished:
            raise RefusalError("it ends with unfinished values")
        if self.names:
            raise RefusalError("it holds a function, not only what the function makes")
        return result


def _put_items(target: dict, items: list[Any]) -> dict:
    if len(items) % 2:
        raise RefusalError("a dict has a key without a value")
    target.update(zip(map(as_key, items[::2]), items[1::2], strict=True))
    return target

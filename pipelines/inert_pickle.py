"""Runs the part of pickle's language that plain data needs; the caller gives every function that a file may call.

Nothing is imported and nothing that the file names is looked up outside of the caller's table, so a hostile file can
only be refused. Memory is bounded by the size of the file: no instruction copies what another one made.
"""

import pickletools
import re
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

MAX_INSTRUCTIONS = 2_000_000  # a ResNet152 with its optimizer's state takes 50,000

_VALUES = re.compile(
    "(BIN)?INT[12]?|LONG[14]?|(BIN)?FLOAT|(SHORT_)?BINSTRING|STRING|UNICODE|(SHORT_)?BINUNICODE8?|(SHORT_)?BINBYTES8?"
)
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = frozenset({"PROTO", "FRAME"})


class RefusedError(ValueError):
    """The pickle is broken or asks for something that is not admitted."""


class Function:
    """What a pickle gets for a name of the table: it can only be called, and nothing in it can be changed."""

    __slots__ = ("call", "name")
    call: Callable[..., Any] | None
    name: str

    def __init__(self, name: str, call: Callable[..., Any] | None) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "call", call)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{self.name} is constant")


class Stateful:
    """A value that a call makes and the state after it completes, in place."""

    def set_state(self, state: Any) -> None:
        raise NotImplementedError

    def value(self) -> Any:
        """What stands for it in containers."""
        raise NotImplementedError


def run(
    stream: BinaryIO,
    calls: Mapping[str, Callable[..., Any] | None],
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Reads one pickle and leaves the stream behind its end.

    Args:
        stream: where the pickle starts; `read` must not return or allocate more than there is (BytesIO, mmap).
        calls: "module.name" -> what makes the value from the arguments, or None for a name that is only passed on as
            an argument (a `Function` with that name).
        persistent: makes the value of a persistent id; None refuses them.

    Returns:
        None, bool, int, float, str, bytes, tuple, list, dict and what `calls` and `persistent` make.

    Raises:
        RefusedError: with the instruction or the name that is not admitted.
    """
    try:
        return _Machine(calls, persistent).run(stream)
    except RefusedError:
        raise
    except (ValueError, TypeError, LookupError, OverflowError, AttributeError, MemoryError) as error:
        raise RefusedError(f"it is cut off or damaged ({str(error)[:150]})") from error


class _Machine:
    def __init__(self, calls: Mapping[str, Callable[..., Any] | None], persistent: Callable[[Any], Any] | None) -> None:
        self.calls = calls
        self.persistent = persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under each mark
        self.memo: dict[int, Any] = {}
        self.actions = {
            name.removeprefix("_do_").upper(): getattr(self, name) for name in dir(self) if name.startswith("_do_")
        }

    def run(self, stream: BinaryIO) -> Any:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            name = opcode.name
            if name == "STOP":
                return self._result()
            if count >= MAX_INSTRUCTIONS:
                raise RefusedError(f"it has more than {MAX_INSTRUCTIONS:,} instructions")
            if _VALUES.fullmatch(name):
                self.stack.append(argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name])
            elif name in _TUPLES:
                self.stack.append(tuple(map(_settled, self._pop(_TUPLES[name]))))
            elif name in self.actions:
                self.actions[name](argument)
            elif name not in _IGNORED:
                raise RefusedError(f"it holds the instruction {name}, which plain data does not need")
        raise RefusedError("it has no end")

    def _result(self) -> Any:
        (result,) = self._pop(1)
        if self.stack or self.below:
            raise RefusedError("it ends with values left over")
        return _plain(result)

    def _pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise RefusedError("an instruction lacks its values")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def _top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise RefusedError(f"an instruction lacks its {kind.__name__}")
        return self.stack[-1]

    def _from_mark(self) -> list[Any]:
        if not self.below:
            raise RefusedError("an instruction lacks its mark")
        values, self.stack = self.stack, self.below.pop()
        return values

    def _do_mark(self, _: None) -> None:
        self.below.append(self.stack)
        self.stack = []

    def _do_tuple(self, _: None) -> None:
        values = tuple(map(_settled, self._from_mark()))
        self.stack.append(values)

    def _do_empty_list(self, _: None) -> None:
        self.stack.append([])

    def _do_list(self, _: None) -> None:
        values = list(map(_plain, self._from_mark()))
        self.stack.append(values)

    def _do_append(self, _: None) -> None:
        (value,) = self._pop(1)
        self._top(list).append(_plain(value))

    def _do_appends(self, _: None) -> None:
        values = self._from_mark()
        self._top(list).extend(map(_plain, values))

    def _do_empty_dict(self, _: None) -> None:
        self.stack.append({})

    def _do_dict(self, _: None) -> None:
        values = _put({}, self._from_mark())
        self.stack.append(values)

    def _do_setitem(self, _: None) -> None:
        pair = self._pop(2)
        _put(self._top(dict), pair)

    def _do_setitems(self, _: None) -> None:
        values = self._from_mark()
        _put(self._top(dict), values)

    def _do_put(self, key: int) -> None:
        self.memo[key] = self._top(object)

    _do_binput = _do_long_binput = _do_put

    def _do_memoize(self, _: None) -> None:
        self._do_put(len(self.memo))

    def _do_get(self, key: int) -> None:
        self.stack.append(self.memo[key])

    _do_binget = _do_long_binget = _do_get

    def _do_global(self, names: str) -> None:
        module, _, name = names.partition(" ")
        self._name(f"{module}.{name}")

    def _do_stack_global(self, _: None) -> None:
        module, name = self._pop(2)
        self._name(f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else "?")

    def _name(self, name: str) -> None:
        if name not in self.calls:
            raise RefusedError(f"it names {name[:120]!r}, which is not admitted")
        self.stack.append(Function(name, self.calls[name]))

    def _do_reduce(self, _: None) -> None:
        function, arguments = self._pop(2)
        if not isinstance(function, Function) or function.call is None or not isinstance(arguments, tuple):
            raise RefusedError("it calls something that is not a function of the table")
        self.stack.append(function.call(*arguments))

    def _do_build(self, _: None) -> None:
        (state,) = self._pop(1)
        target = self._top(object)
        if isinstance(target, Stateful):
            target.set_state(_settled(state))
        elif not isinstance(target, dict):  # attributes of an OrderedDict are no data
            raise RefusedError(f"it sets the state of a {type(target).__name__}")

    def _do_binpersid(self, _: None) -> None:
        (identifier,) = self._pop(1)
        if self.persistent is None:
            raise RefusedError("it refers to objects outside of it")
        self.stack.append(self.persistent(identifier))


def _settled(value: Any) -> Any:
    return value.value() if isinstance(value, Stateful) else value


def _plain(value: Any) -> Any:
    value = _settled(value)
    if isinstance(value, Function):
        raise RefusedError(f"it holds {value.name} itself as data")
    return value


def _put(target: dict, values: list[Any]) -> dict:
    """Only str and int are keys: the hash of a deeply nested tuple would overflow the C stack."""
    if len(values) % 2 or not all(isinstance(key, str | int) for key in values[::2]):
        raise RefusedError("a dict's key is no text or whole number")
    target.update(zip(values[::2], map(_plain, values[1::2]), strict=True))
    return target

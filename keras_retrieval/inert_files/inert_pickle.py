"""Interprets pickles of plain data without executing code: the caller supplies every function that may be called.

Only the pickle instructions that plain data needs are implemented. Nothing is imported, and function names in the
pickle are looked up only in a table from the caller, so that a malicious pickle is refused instead of executed. No
instruction copies an existing object: each byte of the pickle creates at most one object, and each list is passed to at
most one call. Memory is therefore bounded by the size of the pickle.
"""

import pickletools
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

from ..errors import RetrievalError

MAX_INSTRUCTIONS = 2_000_000  # a checkpoint of ResNet152 with its optimizer state has 50,000
MAX_MADE = 1_000_000  # largest number of containers and results of calls; each takes up to 1 kB

_VALUES = re.compile(
    "(BIN)?INT[12]?|LONG[14]?|(BIN)?FLOAT|(SHORT_)?BINSTRING|STRING|UNICODE|(SHORT_)?BINUNICODE8?"
    "|(SHORT_)?BINBYTES8?|BYTEARRAY8|NONE|NEWTRUE|NEWFALSE"
)
_VALUE_NAMES = frozenset(code.name for code in pickletools.opcodes if _VALUES.fullmatch(code.name))
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_SETS = ("EMPTY_SET", "ADDITEMS", "FROZENSET")
_OBJECTS = ("NEWOBJ", "NEWOBJ_EX")
_IGNORED = frozenset({"PROTO", "FRAME"})
# Modules of Python's library whose objects are plain data, and its builtin types that are.
_DATA_MODULES: tuple[str, ...] = (
    "argparse",
    "collections",
    "copy_reg",
    "copyreg",
    "datetime",
    "decimal",
    "enum",
    "fractions",
)
_DATA_MODULES += ("functools", "pathlib", "types", "typing", "uuid")
_DATA_BUILTINS: tuple[str, ...] = (
    "bool",
    "bytearray",
    "bytes",
    "complex",
    "dict",
    "float",
    "frozenset",
    "int",
    "list",
    "object",
)
_DATA_BUILTINS += ("range", "set", "slice", "str", "tuple", "type", "long", "unicode", "xrange")


class PickleRefusedError(RetrievalError, ValueError):
    """A pickle is damaged, or contains an instruction, a function or a type that is not allowed in plain data."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function that a pickle refers to by name. The pickle can call the function, but not inspect or change it.

    Attributes:
        name: the name in the pickle, "module.name".
        call: the function of the caller's table that is called instead; None if the name may only be an argument.
    """

    name: str
    call: Callable[..., Any] | None


class Stateful:
    """Base class of values, such as arrays, that a pickle creates by a call and completes by a BUILD instruction."""

    __slots__ = ()

    def set_state(self, state: Any) -> None:
        """Completes the value with the argument of the BUILD instruction.

        Args:
            state: the state as it is in the pickle, unchecked.

        Raises:
            PickleRefusedError: the state does not have the type or size that this value needs.
        """
        raise NotImplementedError

    def value(self) -> Any:
        """Returns the completed value, which replaces this object in the containers of the pickle.

        Raises:
            PickleRefusedError: the value is not complete.
        """
        raise NotImplementedError


class Opaque(Stateful):
    """An object of a class that is not in the caller's table: its name and contents. The class is never imported.

    Attributes:
        name: "module.name" of the class or function.
        state: what BUILD would have set, usually a dict of attributes.
        items: what would have been put into it as into a dict.
    """

    __slots__ = ("items", "name", "state")

    def __init__(self, name: str) -> None:
        self.name = name
        self.state: Any = None
        self.items: dict[Any, Any] = {}

    def set_state(self, state: Any) -> None:
        """Keeps the state."""
        self.state = state

    def value(self) -> Any:
        """The object itself."""
        return self


class _Unknown(Function):
    """A name that is not in the caller's table."""

    __slots__ = ()


class _Arguments(tuple):
    """A tuple that contains a `Function`: allowed as the arguments of a call or as a persistent id, but not as data."""


def run(
    stream: BinaryIO,
    calls: Mapping[str, Callable[..., Any] | None],
    persistent: Callable[[Any], Any] | None = None,
    *,
    sets: bool = False,
    objects: bool = False,
    max_instructions: int = MAX_INSTRUCTIONS,
) -> Any:
    """Reads one pickle from a stream and leaves the stream positioned after the pickle.

    Args:
        stream: a binary stream, positioned at the start of the pickle. Its `read(n)` must not allocate memory for more
            bytes than the stream has, even if n is larger, as that of BytesIO.
        calls: maps each allowed name "module.name" to the function that computes the result of a call from the
            arguments in the pickle. None marks a name that may be an argument but may not be called; the argument is
            then a `Function` with that name. No list is passed to two calls, so that a function may keep its list.
        persistent: computes the value of a persistent id; if None, a pickle with persistent ids is refused.
        sets: whether sets are allowed. If so, sets and the keys of dicts may contain str, int, bytes, float, None and
            tuples of these; otherwise keys may be str and int only.
        objects: whether objects of unknown classes are read, as `Opaque`; implies `sets`. Names of Python's library
            whose objects are not plain data, such as os.system, are refused all the same.
        max_instructions: the largest number of instructions; a longer pickle is refused.

    Returns:
        The object: None, bool, int, float, str, bytes, bytearray, a tuple, list or dict, with `sets` also a set or
        frozenset, with `objects` also an `Opaque`, or a result of `calls` or `persistent`.

    Raises:
        PickleRefusedError: the pickle is damaged, or contains an instruction or a name that is not allowed. The message
            names the instruction or name.
    """
    try:
        return _Machine(calls, persistent, sets or objects, objects).run(stream, max_instructions)
    except PickleRefusedError:
        raise
    except (ValueError, TypeError, LookupError, OverflowError, AttributeError, MemoryError) as error:
        raise PickleRefusedError(cut_off(str(error)[:150])) from error


def cut_off(reason: str) -> str:
    """The message about a file whose content ends early or is damaged."""
    return f"it is cut off or damaged ({reason}): download or copy it again"


class _Machine:
    """The state of the interpreter for one pickle: stack, marks and memo. Method `_do_x` executes instruction X."""

    def __init__(
        self,
        calls: Mapping[str, Callable[..., Any] | None],
        persistent: Callable[[Any], Any] | None,
        sets: bool,
        objects: bool,
    ) -> None:
        self.calls = {**calls, **(_set_calls() if sets else {})}
        self.persistent = persistent
        self.objects = objects
        self.is_key = _is_flat if sets else _is_name
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}
        self.spent: dict[int, list[Any]] = {}  # the lists that were passed to calls, by id
        self.made = 0
        methods = {name.removeprefix("_do_").upper(): name for name in dir(self) if name.startswith("_do_")}
        left_out = (() if sets else _SETS) + (() if objects else _OBJECTS)
        self.actions = {name: getattr(self, does) for name, does in methods.items() if name not in left_out}

    def run(self, stream: BinaryIO, max_instructions: int) -> Any:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            name = opcode.name
            if name == "STOP":
                return self._result()
            if count >= max_instructions:
                raise PickleRefusedError(f"it has more than {max_instructions:,} instructions")
            if name in _VALUE_NAMES:
                self.stack.append(_CONSTANTS.get(name, argument))
            elif name in _EMPTY:
                self._push(_EMPTY[name]())
            elif name in _TUPLES:
                self._push(_tuple(self._pop(_TUPLES[name])))
            elif name in self.actions:
                self.actions[name](argument)
            elif name not in _IGNORED:
                raise PickleRefusedError(f"it has the instruction {name}, which plain data does not need")
        raise PickleRefusedError("it has no STOP instruction")

    def _result(self) -> Any:
        (result,) = self._pop(1)
        if self.stack or self.below:
            raise PickleRefusedError("it ends with values left over")
        return _plain(result)

    def _push(self, made: Any) -> None:
        self.made += 1
        if self.made > MAX_MADE:
            raise PickleRefusedError(f"it makes more than {MAX_MADE:,} containers and arrays")
        self.stack.append(made)

    def _pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise PickleRefusedError("an instruction lacks its values")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def _top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise PickleRefusedError(f"an instruction lacks its {kind.__name__}")
        return self.stack[-1]

    def _from_mark(self) -> list[Any]:
        if not self.below:
            raise PickleRefusedError("an instruction lacks its mark")
        values, self.stack = self.stack, self.below.pop()
        return values

    def _put(self, target: dict, values: list[Any]) -> dict:
        if len(values) % 2:
            raise PickleRefusedError("a dict has a key without a value")
        keys = [Opaque(key.name) if isinstance(key, _Unknown) else key for key in values[::2]]
        keys = _checked(keys, self.is_key)
        target.update(zip(keys, map(_plain, values[1::2]), strict=True))
        return target

    def _spend(self, values: Any) -> None:
        """Refuses a list that an earlier call received, so that a short pickle cannot copy a long list many times."""
        for value in values if isinstance(values, tuple) else ():
            if id(value) in self.spent:
                raise PickleRefusedError("it passes a list to a call that another call got")
            if isinstance(value, list):
                self.spent[id(value)] = value

    def _do_mark(self, _: None) -> None:
        self.below.append(self.stack)
        self.stack = []

    def _do_tuple(self, _: None) -> None:
        values = self._from_mark()
        self._push(_tuple(values))

    def _do_list(self, _: None) -> None:
        values = self._from_mark()
        self._push(list(map(_plain, values)))

    def _do_append(self, _: None) -> None:
        self._extend(self._pop(1))

    def _do_appends(self, _: None) -> None:
        self._extend(self._from_mark())

    def _extend(self, values: list[Any]) -> None:
        plain = list(map(_plain, values))
        if not self._on_opaque():
            self._top(list).extend(plain)

    def _on_opaque(self) -> bool:
        return bool(self.stack) and isinstance(self.stack[-1], Opaque)

    def _target(self) -> dict:
        return self.stack[-1].items if self._on_opaque() else self._top(dict)

    def _do_dict(self, _: None) -> None:
        values = self._from_mark()
        self._push(self._put({}, values))

    def _do_setitem(self, _: None) -> None:
        pair = self._pop(2)
        self._put(self._target(), pair)

    def _do_setitems(self, _: None) -> None:
        values = self._from_mark()
        self._put(self._target(), values)

    def _do_empty_set(self, _: None) -> None:
        self._push(set())

    def _do_additems(self, _: None) -> None:
        values = _checked(self._from_mark(), _is_flat)
        if not self._on_opaque():
            self._top(set).update(values)

    def _do_frozenset(self, _: None) -> None:
        values = self._from_mark()
        self._push(frozenset(_checked(values, _is_flat)))

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
        if name not in self.calls and self.objects and _is_data(name):
            self._push(_Unknown(name, partial(_opaque, name)))
            return
        if name not in self.calls:
            raise PickleRefusedError(f"it refers to {name[:120]!r}, which is not allowed")
        self._push(Function(name, self.calls[name]))

    def _do_reduce(self, _: None) -> None:
        function, arguments = self._pop(2)
        if not isinstance(function, Function) or function.call is None or not isinstance(arguments, tuple):
            raise PickleRefusedError("it calls something that is not a function of the table")
        self._spend(arguments)
        self._push(function.call(*arguments))

    def _do_newobj(self, _: None) -> None:
        kind, arguments = self._pop(2)
        self._make(kind, (arguments,))

    def _do_newobj_ex(self, _: None) -> None:
        kind, *arguments = self._pop(3)
        self._make(kind, arguments)

    def _make(self, kind: Any, arguments: Any) -> None:
        if not isinstance(kind, _Unknown):
            raise PickleRefusedError("it makes an object of something that is not a class of data")
        for each in arguments:
            self._spend(each)
        self._push(Opaque(kind.name))

    def _do_build(self, _: None) -> None:
        (state,) = self._pop(1)
        target = self._top(object)
        if isinstance(target, Stateful):
            self._spend(state)
            target.set_state(_settled(state))
        elif not isinstance(target, dict):  # the state of an OrderedDict, its attributes, is ignored
            raise PickleRefusedError(f"it sets the state of a {type(target).__name__}")

    def _do_binpersid(self, _: None) -> None:
        (identifier,) = self._pop(1)
        if self.persistent is None:
            raise PickleRefusedError("it refers to objects outside of it")
        self._push(self.persistent(identifier))


def _settled(value: Any) -> Any:
    return value.value() if isinstance(value, Stateful) else value


def _opaque(name: str, *_: Any) -> Opaque:
    return Opaque(name)


def _is_data(name: str) -> bool:
    """Whether an unknown name may belong to data: that of a package, or of a plain type of Python's library."""
    module = name.partition(".")[0]
    if module in ("builtins", "__builtin__"):
        return name.partition(".")[2] in _DATA_BUILTINS
    return name != "?" and (module in _DATA_MODULES or module not in sys.stdlib_module_names)


def _plain(value: Any) -> Any:
    if isinstance(value, _Unknown):
        return Opaque(value.name)
    if isinstance(value, _Arguments) and not any(type(part) is Function for part in value):
        return tuple(map(_plain, value))
    if isinstance(value, Function | _Arguments):
        raise PickleRefusedError("it contains a function as data")
    return _settled(value)


def _tuple(values: list[Any]) -> tuple:
    kind = _Arguments if any(isinstance(value, Function) for value in values) else tuple
    return kind(value if isinstance(value, Function) else _plain(value) for value in values)


def _is_name(key: Any) -> bool:
    return isinstance(key, str | int)


def _is_flat(key: Any) -> bool:
    parts = key if isinstance(key, tuple) else (key,)
    return all(isinstance(part, str | bytes | int | float | Opaque | None) for part in parts)


def _checked(keys: list[Any], is_key: Callable[[Any], bool]) -> list[Any]:
    """Checks keys before they are hashed: the hash of a deeply nested tuple would overflow the C stack."""
    for key in keys:
        if not is_key(key):
            raise PickleRefusedError(f"a key is not text or a number, but of type {type(key).__name__}")
    return keys


def _set_calls() -> dict[str, Callable[..., Any]]:
    """Returns the table of the functions with which pickle protocols before 4 create sets."""
    kinds: tuple[type, ...] = (set, frozenset)
    modules = ("builtins", "__builtin__")
    return {f"{module}.{kind.__name__}": partial(_set_of, kind) for module in modules for kind in kinds}


def _set_of(kind: type, members: Any = ()) -> Any:
    if not isinstance(members, list) and members != ():
        raise PickleRefusedError("a set is made of something that is not a list")
    return kind(_checked(list(members), _is_flat))

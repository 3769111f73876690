"""Options of a step, declared once as an annotated dataclass.

    @dataclass(frozen=True, kw_only=True)
    class TrainOptions(Options):
        tuples: Annotated[Path, Argument("tuples.npz, made by `keras-retrieval tuples`.")] = field(kw_only=False)
        epochs: Annotated[int, Option("Epochs in total.", at_least=1)] = 30
        loss: Annotated[str, Option("Loss on tuples.", choices=LOSSES, resumed=True)] = "contrastive"

    @takes(TrainOptions)
    def train(options: TrainOptions) -> dict[str, Any]: ...

    train("tuples.npz", epochs=3)          # Python; typed as TrainOptions' constructor
    keras-retrieval train tuples.npz --epochs 3

The shell command, the checks of ranges, the fingerprint of a run that can be resumed and the reference pages are all
made from the annotations.
"""

import dataclasses
import functools
import inspect
import math
import numbers
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

import typer

from keras_retrieval.errors import ArgumentError

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Option:
    """An option of a step.

    Attributes:
        help: one sentence for `--help` and the reference; ranges and choices are added to it.
        at_least: the smallest value.
        above: a bound that the value must exceed.
        at_most: the largest value.
        below: a bound that the value must not reach.
        choices: the values that are allowed; None for any.
        flags: the option in the shell, such as "--padded/--exact" or "--k -k"; derived from the field's name if empty.
        resumed: whether a resumed run must have the same value.
    """

    help: str
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    choices: tuple[str, ...] | None = None
    flags: str = ""
    resumed: bool = False

    def text(self) -> str:
        """The help with the range and the choices."""
        limits = [f"one of {', '.join(self.choices)}"] if self.choices else []
        limits += [] if self.above is None else [f"above {_number(self.above)}"]
        limits += [] if self.at_least is None else [f"at least {_number(self.at_least)}"]
        limits += [] if self.at_most is None else [f"at most {_number(self.at_most)}"]
        limits += [] if self.below is None else [f"below {_number(self.below)}"]
        return f"{self.help} [{', '.join(limits)}]" if limits else self.help

    def parameter(self, name: str) -> Any:
        """The option in Typer's form."""
        return typer.Option(*self.flags.split(), help=self.text())

    def label(self, name: str) -> str:
        """The name of the option in messages: its first flag."""
        return self.flags.replace("/", " ").partition(" ")[0] or f"--{name.replace('_', '-')}"

    def check(self, name: str, value: Any) -> None:
        """Checks one value.

        Raises:
            ArgumentError: the value is not among the choices, not finite or out of range.
        """
        label = self.label(name)
        if value is None:
            return
        if self.choices is not None and value not in self.choices:
            raise ArgumentError(f"{label} must be one of {', '.join(self.choices)}, got {value}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ArgumentError(f"{label} must be a finite number, got {value}")
        if self.above is not None and not value > self.above:
            raise ArgumentError(f"{label} must be above {_number(self.above)}, got {value}")
        if self.at_least is not None and value < self.at_least:
            raise ArgumentError(f"{label} must be at least {_number(self.at_least)}, got {value}")
        if self.at_most is not None and value > self.at_most:
            raise ArgumentError(f"{label} must be at most {_number(self.at_most)}, got {value}")
        if self.below is not None and not value < self.below:
            raise ArgumentError(f"{label} must be below {_number(self.below)}, got {value}")


@dataclass(frozen=True)
class Argument(Option):
    """A positional argument of a step; the attributes are those of `Option`."""

    def parameter(self, name: str) -> Any:
        """The argument in Typer's form."""
        return typer.Argument(help=self.text())

    def label(self, name: str) -> str:
        """The name of the argument in messages: in capitals, as in the usage line."""
        return name.upper()


@dataclass(frozen=True, kw_only=True)
class Options:
    """The base of the options of a step, which are checked when the object is made.

    Paths may be given as text, alone and in lists; other values of a wrong type are errors. A subclass adds checks that
    compare options in `check`, and calls `super().check()` first. Values that follow from other options are filled in
    by `complete`.

    Raises:
        ArgumentError: an option has a wrong type or is out of range.
    """

    def __post_init__(self) -> None:
        hints, declared = get_type_hints(type(self)), declarations(type(self))
        for entry in dataclasses.fields(self):
            value = getattr(self, entry.name)
            if value is not None or entry.default is not None:  # a default of None is for `complete` to replace
                label = declared[entry.name].label(entry.name)
                object.__setattr__(self, entry.name, _of_kind(value, hints[entry.name], label))
        self.complete()
        self.check()

    def complete(self) -> None:
        """Sets options that were not given to values that follow from others; called before `check`."""

    def check(self) -> None:
        """Checks every option against its range and choices.

        Raises:
            ArgumentError: the first option that is out of range, with its range and its value.
        """
        for name, declared in declarations(type(self)).items():
            declared.check(name, getattr(self, name))

    def resumed(self) -> dict[str, Any]:
        """The options that a resumed run must have in common with the run that it continues, JSON-able."""
        return {
            name: _plain(getattr(self, name)) for name, option in declarations(type(self)).items() if option.resumed
        }

    def facts(self, *, arguments: bool = True) -> dict[str, Any]:
        """All options as JSON-able values, without the positional arguments if `arguments` is false."""
        return {
            name: _plain(getattr(self, name))
            for name, option in declarations(type(self)).items()
            if arguments or not isinstance(option, Argument)
        }


def _of_kind(value: Any, hint: Any, label: str) -> Any:
    """The value in the type of its hint: text and paths are converted to each other, NumPy's numbers to Python's.

    Raises:
        ArgumentError: the value has another type, such as text for a number, or text for a list of texts.
    """
    lists = [kind for kind in (hint, *get_args(hint)) if get_origin(kind) is list]
    if lists and isinstance(value, list | tuple):
        (entry,) = get_args(lists[0])
        convert = Path if entry is Path else str if entry is str else None
        return [convert(one) if convert and isinstance(one, str | os.PathLike) else one for one in value]
    kinds = lists or get_args(hint) or (hint,)
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if str in kinds and isinstance(value, str | os.PathLike):
        return os.fspath(value)
    if Path in kinds and isinstance(value, str | os.PathLike):
        return Path(value)
    if int in kinds and number and isinstance(value, numbers.Integral):
        return int(value)
    if float in kinds and number:
        return value if isinstance(value, int) else float(value)
    known = {str: "text", Path: "a path", int: "a whole number", float: "a number", bool: "True or False"}
    names = ["a list" if kind in lists else known.get(kind, "") for kind in kinds if kind is not type(None)]
    if (value is None and type(None) in kinds) or (isinstance(value, bool) and bool in kinds) or "" in names:
        return value
    raise ArgumentError(f"{label} must be {' or '.join(names)}, got {value!r}")


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def declarations(options: type[Options]) -> dict[str, Option]:
    """Maps each field of an options class to its declaration, in order.

    Raises:
        TypeError: a field has no declaration.
    """
    hints = get_type_hints(options, include_extras=True)
    found = {}
    for entry in dataclasses.fields(options):
        declared = [fact for fact in get_args(hints[entry.name])[1:] if isinstance(fact, Option)]
        if get_origin(hints[entry.name]) is not Annotated or len(declared) != 1:
            raise TypeError(f"{options.__name__}.{entry.name} needs one Option or Argument in its annotation")
        found[entry.name] = declared[0]
    return found


def takes(options: Callable[P, Any]) -> Callable[[Callable[[Any], R]], Callable[P, R]]:
    """Makes a decorator for a step with one options object: the decorated step takes that object's fields as arguments.

    Args:
        options: a subclass of `Options`.

    Returns:
        The decorator. Type checkers see the constructor of the class as the signature of the decorated step.
    """

    def decorate(function: Callable[[Any], R]) -> Callable[P, R]:
        @functools.wraps(function)
        def step(*args: P.args, **kwargs: P.kwargs) -> R:
            return function(options(*args, **kwargs))

        del step.__wrapped__  # inspect.signature would show its signature
        step.__signature__ = inspect.signature(options).replace(  # type: ignore[attr-defined]
            return_annotation=inspect.signature(function).return_annotation
        )
        step.__annotations__ = get_type_hints(options, include_extras=True)
        step.options = options  # type: ignore[attr-defined]
        return step

    return decorate


def typer_signature(function: Callable[..., Any]) -> inspect.Signature:
    """The signature of a step for Typer, with `Option` and `Argument` converted to Typer's.

    The signature of a step that declares its options with typer.Option is not changed.
    """
    hints = get_type_hints(function, include_extras=True)
    signature = inspect.signature(function)
    return signature.replace(
        parameters=[
            parameter.replace(annotation=_for_typer(name, hints.get(name, parameter.annotation)))
            for name, parameter in signature.parameters.items()
        ]
    )


def _for_typer(name: str, hint: Any) -> Any:
    if get_origin(hint) is not Annotated:
        return hint
    kind, *facts = get_args(hint)
    turned = [fact.parameter(name) if isinstance(fact, Option) else fact for fact in facts]
    return Annotated[(kind, *turned)]


def help_texts(function: Callable[..., Any]) -> dict[str, str]:
    """Maps each option of a step to its help text."""
    parameters: Iterable[inspect.Parameter] = typer_signature(function).parameters.values()
    return {
        parameter.name: next((fact.help for fact in get_args(parameter.annotation)[1:] if hasattr(fact, "help")), "")
        for parameter in parameters
    }

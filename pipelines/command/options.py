"""Declares the options of a step as an annotated dataclass.

A step is a function that is also a command of the shell. For example:

    @dataclass(frozen=True, kw_only=True)
    class TrainOptions(Options):
        tuples: Annotated[Path, Argument("tuples.npz, made by `keras-retrieval tuples`.")] = field(kw_only=False)
        epochs: Annotated[int, Option("Epochs in total.", at_least=1)] = 30
        loss: Annotated[str, Option("Loss on tuples.", choices=LOSSES, resumed=True)] = "contrastive"

    @takes(TrainOptions)
    def train(options: TrainOptions) -> dict[str, Any]: ...

    train("tuples.npz", epochs=3)          # Python; typed as TrainOptions' constructor
    keras-retrieval train tuples.npz --epochs 3

The shell command, the checks of ranges, the options that a resumed run must have in common with the interrupted run,
and the reference pages are all derived from the annotations.
"""

import dataclasses
import difflib
import functools
import inspect
import math
import numbers
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

import typer

from keras_retrieval.errors import ArgumentError

from .kinds import Kind, Reads, Writes, refuse_address

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Option:
    """Declares an option of a step, in the annotation of a field of an :class:`Options` subclass.

    Attributes:
        help: one or two sentences for `--help` and the reference pages. The range and the choices are appended.
        at_least: the smallest allowed value; None for no limit.
        above: the value must be greater than this bound; None for no limit.
        at_most: the largest allowed value; None for no limit.
        below: the value must be less than this bound; None for no limit.
        choices: the allowed values; None for any value.
        flags: the names of the option in the shell, such as "--padded/--exact" or "--k -k". If empty, the name is
            derived from the name of the field, so that `min_photos` becomes --min-photos.
        resumed: whether a resumed run must have the same value as the interrupted run.
        kind: what the value refers to, such as a folder that must exist; see `kinds`. None for a value of its own.
    """

    help: str
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    choices: tuple[str, ...] | None = None
    flags: str = ""
    resumed: bool = False
    kind: Kind | None = None

    def text(self) -> str:
        """Returns the help text followed by the choices and the range in brackets."""
        limits = [f"one of {', '.join(self.choices)}"] if self.choices else []
        limits += [] if self.above is None else [f"above {_number(self.above)}"]
        limits += [] if self.at_least is None else [f"at least {_number(self.at_least)}"]
        limits += [] if self.at_most is None else [f"at most {_number(self.at_most)}"]
        limits += [] if self.below is None else [f"below {_number(self.below)}"]
        return f"{self.help} [{', '.join(limits)}]" if limits else self.help

    def parameter(self, name: str) -> Any:
        """Returns the declaration of the option for Typer.

        Args:
            name: the name of the field.

        Returns:
            A `typer.Option`.
        """
        return typer.Option(*self.flags.split(), help=self.text())

    def label(self, name: str) -> str:
        """Returns the name of the option for error messages, which is its first flag, such as "--min-photos".

        Args:
            name: the name of the field, from which the flag is derived if `flags` is empty.
        """
        return self.flags.replace("/", " ").partition(" ")[0] or f"--{name.replace('_', '-')}"

    def check(self, name: str, value: Any) -> None:
        """Checks a value against the choices and the range of the option.

        Args:
            name: the name of the field, for the error message.
            value: the value to check; None is always valid.

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

    def check_kind(self, name: str, value: Any) -> None:
        """Checks what a value refers to, such as that a folder exists; nothing for None and for an option without kind.

        Args:
            name: the name of the field, for the error message.
            value: the value, or a list of values.

        Raises:
            RetrievalError: the error of the kind.
        """
        if self.kind is not None and value is not None:
            for one in value if isinstance(value, list) else [value]:
                refuse_address(self.kind, self.label(name), one)
                self.kind(self.label(name), one)


@dataclass(frozen=True)
class Argument(Option):
    """Declares a positional argument of a step, with the same attributes as :class:`Option`."""

    def parameter(self, name: str) -> Any:
        """Returns the declaration of the argument for Typer, a `typer.Argument`.

        Args:
            name: the name of the field, which is not used.
        """
        return typer.Argument(help=self.text())

    def label(self, name: str) -> str:
        """Returns the name of the argument for error messages: the field's name in capitals, as in the usage line.

        Args:
            name: the name of the field.
        """
        return name.upper()


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base class of the options of a step, a dataclass whose values are checked when an object is created.

    Every field of a subclass is annotated with an :class:`Option` or :class:`Argument`. A path, or a list of paths, may
    be given as strings; any other value of a wrong type is an error. A subclass overrides `check` to compare options
    with each other, and calls `super().check()` there first. It overrides `complete` to compute values that depend on
    other options.

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
        """Computes options that were not given from other options. Called before `check`; does nothing by default."""

    def check(self) -> None:
        """Checks the value of every option against its range and choices.

        Raises:
            ArgumentError: an option is out of range. The message names the first such option, its range and its value.
        """
        for name, declared in declarations(type(self)).items():
            declared.check(name, getattr(self, name))

    def check_packages(self) -> None:
        """Checks that the packages of extras that the step needs are installed; a step without extras needs none.

        Raises:
            MissingExtraError: a package is not installed.
        """

    def check_kinds(self) -> None:
        """Checks what every option refers to, such as folders that must exist.

        Called with `check_packages` before a step begins, and not when an object is created.

        Raises:
            RetrievalError: the error of the first option that refers to something missing or of another kind.
            ArgumentError: a file to write is one of the files to read, which would be lost.
        """
        read, written = dict[Path, str](), dict[Path, str]()
        for name, declared in declarations(type(self)).items():
            value = getattr(self, name)
            declared.check_kind(name, value)
            kept = {Reads: read, Writes: written}.get(type(declared.kind))
            for one in value if isinstance(value, list | tuple) else [value]:
                if kept is not None and one is not None and Path(one).is_file():
                    kept[Path(one).resolve()] = declared.label(name)
        for path in read.keys() & written.keys():
            raise ArgumentError(
                f"{written[path]} is the same file as {read[path]}, {path}, which would be lost: name another file"
            )

    def resumed(self) -> dict[str, Any]:
        """Returns the options that a resumed run must have in common with the interrupted run.

        Returns:
            A dict from the name of each field that is declared with `resumed=True` to its value, serialisable as JSON.
        """
        return {
            name: _plain(getattr(self, name)) for name, option in declarations(type(self)).items() if option.resumed
        }

    def facts(self, *, arguments: bool = True) -> dict[str, Any]:
        """Returns all options as values that can be serialised as JSON.

        Args:
            arguments: whether positional arguments are included.

        Returns:
            A dict from the names of fields to values, with paths as strings.
        """
        return {
            name: _plain(getattr(self, name))
            for name, option in declarations(type(self)).items()
            if arguments or not isinstance(option, Argument)
        }


def _of_kind(value: Any, hint: Any, label: str) -> Any:
    """Converts a value to the type of its annotation: text and paths to each other, NumPy's numbers to Python's.

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
        if not os.fspath(value):  # Path("") is the current folder, which nobody means by an unset variable
            raise ArgumentError(f"{label} is empty: name a file or folder")
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
    """Returns the declarations of the fields of an options class.

    Args:
        options: a subclass of :class:`Options`.

    Returns:
        A dict, in the order of the fields, that maps the name of each field to the `Option` or `Argument` in its
        annotation.

    Raises:
        TypeError: the annotation of a field does not contain exactly one `Option` or `Argument`.
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
    """Returns a decorator for a function of one options object, so that callers pass the fields as arguments instead.

    The decorated function creates the options object from its arguments, which checks them, and checks what they refer
    to before it calls the function.

    Args:
        options: a subclass of `Options`.

    Returns:
        The decorator. The decorated function has the parameters of the constructor of `options`, also for type
        checkers. If it is called with an unknown or without a required argument, it raises a TypeError that names the
        function.
    """
    signature = inspect.signature(options)

    def decorate(function: Callable[[Any], R]) -> Callable[P, R]:
        @functools.wraps(function)
        def step(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                unknown = [name for name in kwargs if name not in signature.parameters]
                near = difflib.get_close_matches(unknown[0], signature.parameters, 1) if unknown else []
                hint = f". Did you mean '{near[0]}'?" if near else ""
                raise TypeError(f"{function.__name__}(): {error}{hint}") from None
            made = options(*args, **kwargs)
            made.check_packages()
            made.check_kinds()
            return function(made)

        del step.__wrapped__  # inspect.signature would show its signature
        step.__signature__ = signature.replace(  # type: ignore[attr-defined]
            return_annotation=inspect.signature(function).return_annotation
        )
        step.__annotations__ = get_type_hints(options, include_extras=True)
        step.options = options  # type: ignore[attr-defined]
        return step

    return decorate


def typer_signature(function: Callable[..., Any]) -> inspect.Signature:
    """Returns the signature of a step in the form that Typer expects.

    Each `Option` and `Argument` in an annotation is converted to `typer.Option` or `typer.Argument`. Annotations that
    already contain a `typer.Option` are not changed.

    Args:
        function: the step, a function whose parameters are annotated.
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


def check_no_path_is_empty(options: type[Options], arguments: Sequence[str]) -> None:
    """Refuses an empty path on the command line, as of an unset variable; Typer would make the current folder of it.

    Args:
        options: the options of the step.
        arguments: the words of the command line after the step.

    Raises:
        ArgumentError: a path is empty.
    """
    hints, declared = get_type_hints(options), declarations(options)
    paths = {name for name, hint in hints.items() if name in declared and _is_path(hint)}
    labels = {declared[name].label(name): name for name in declared}
    positional = [name for name in declared if isinstance(declared[name], Argument) and name in paths]
    for before, word in zip(["", *arguments], arguments, strict=False):
        name = labels.get(word[:-1]) if word.endswith("=") else labels.get(before) if word == "" else None
        if word == "" and (name is None or hints[name] is bool):
            name = positional[0] if positional else None
        if name in paths:
            raise ArgumentError(f"{declared[name].label(name)} is empty: name a file or folder")


def _is_path(hint: Any) -> bool:
    return hint is Path or any(_is_path(part) for part in get_args(hint))


def help_texts(function: Callable[..., Any]) -> dict[str, str]:
    """Returns the help texts of the options of a step.

    Args:
        function: the step, a function whose parameters are annotated.

    Returns:
        A dict from the name of each parameter to its help text, or "" if the parameter has none.
    """
    parameters: Iterable[inspect.Parameter] = typer_signature(function).parameters.values()
    return {
        parameter.name: next((fact.help for fact in get_args(parameter.annotation)[1:] if hasattr(fact, "help")), "")
        for parameter in parameters
    }

"""Messages of errors in the words of the shell: options as `--weights none` instead of `weights=None`."""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, get_args

import typer.models

from .options import typer_signature

_VALUE = r"(None|True|False|'[^']*'|[-+.\w]+)"


def in_shell_words(message: str, step: Callable[..., Any]) -> str:
    """Replaces the arguments that a message names by the options of a step.

    Messages name an argument as their first word ("levels of the grid must be at least 1, got 0") or with a value, as
    Python code ("give weights=None"). Names that are not arguments of the step stay as they are.

    Args:
        message: the message of an ArgumentError.
        step: the function of the step that the user ran.

    Returns:
        The message with options: "--levels of the grid must be at least 1, got 0", "give --weights none".
    """
    flags = _flags(step)
    names = "|".join(map(re.escape, flags))
    message = re.sub(rf"^({names})(?= (?:of|must)\b)", lambda found: flags[found[1]][0], message)
    return re.sub(rf"(?<![\w.-])({names})={_VALUE}", lambda found: _assigned(flags[found[1]], found[2]), message)


def _flags(step: Callable[..., Any]) -> Mapping[str, tuple[str, str]]:
    """Maps each argument of a step to its flag and the flag that negates it ("" if there is none)."""
    found = {}
    for name, parameter in typer_signature(step).parameters.items():
        declared = [fact for fact in get_args(parameter.annotation)[1:] if isinstance(fact, typer.models.ParameterInfo)]
        found[name] = _flag(name, parameter, declared)
    return found


def _flag(name: str, parameter: inspect.Parameter, declared: list[Any]) -> tuple[str, str]:
    if any(isinstance(fact, typer.models.ArgumentInfo) for fact in declared):
        return name.upper(), ""
    plain = name.replace("_", "-")
    words = [word for fact in declared for word in fact.param_decls or () if word.startswith("-")]
    flag, _, negation = (words or [f"--{plain}"])[0].partition("/")
    is_switch = bool in (parameter.annotation, *get_args(parameter.annotation)[:1])
    return flag, negation or (f"--no-{plain}" if is_switch and not words else "")


def _assigned(flags: tuple[str, str], value: str) -> str:
    flag, negation = flags
    if value in ("True", "False") and negation:
        return flag if value == "True" else negation
    return f"{flag} {'none' if value == 'None' else value.strip(chr(39))}"

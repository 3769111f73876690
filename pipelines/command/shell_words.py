"""Converts error messages from the syntax of Python to that of the shell: `weights=None` becomes `--weights none`."""

import re
from collections.abc import Iterable
from typing import Any

_VALUE = r"(None|True|False|'[^']*'|[-+.\w]+)"


def in_shell_words(message: str, parameters: Iterable[Any]) -> str:
    """Replaces the names of Python arguments in an error message by the options of a shell command.

    An argument is recognised as the first word of the message ("levels of the grid must be at least 1, got 0") or where
    it has a value as in Python code ("give weights=None"). Names that are not parameters of the command are not
    changed.

    Args:
        message: the message of a RetrievalError.
        parameters: the parameters of the command, as `click.Parameter` objects.

    Returns:
        The message with options, such as "--levels of the grid must be at least 1, got 0" or "give --weights none".
    """
    known = {parameter.name: parameter for parameter in parameters}
    if not known:
        return message
    names = "|".join(map(re.escape, known))
    message = re.sub(rf"^({names})(?= (?:of|must)\b)", lambda found: _flag(known[found[1]]), message)
    return re.sub(rf"(?<![\w.-])({names})={_VALUE}", lambda found: _assigned(known[found[1]], found[2]), message)


def _flag(parameter: Any) -> str:
    return parameter.name.upper() if parameter.param_type_name == "argument" else parameter.opts[0]


def _assigned(parameter: Any, value: str) -> str:
    if value in ("True", "False") and parameter.secondary_opts:
        return parameter.opts[0] if value == "True" else parameter.secondary_opts[0]
    return f"{_flag(parameter)} {'none' if value == 'None' else value.strip(chr(39))}"

"""Docstrings are plain text with `code` in backquotes: what reStructuredText would take for markup is escaped."""

import inspect
import re
from typing import Any

from sphinx.util.inspect import stringify_signature

CODE = re.compile(r"(``[^`]+``|`[^`]+`)")
MARKUP = re.compile(r"(?<!\\)(\*|\||(?<=\w)_(?=\W|$))")
ARGUMENT = re.compile(r"^\s*\*{1,2}\w+( \(.*\))?:")


def escape(line: str) -> str:
    """A line of a docstring in which stars, bars and trailing underscores stand for themselves."""
    if ARGUMENT.match(line) or line.lstrip().startswith((">>>", "...")):
        return line
    pieces = CODE.split(line)
    pieces[::2] = [MARKUP.sub(r"\\\1", piece) for piece in pieces[::2]]
    return "".join(pieces)


def _process(_app: Any, what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    if what in ("data", "attribute", "property") and lines and ":" in lines[0]:
        lines[0] = f": {lines[0]}"  # or napoleon takes what is before the colon for a type
    block = False
    for number, line in enumerate(lines):
        if block and line.strip() and not line.startswith("    "):
            block = False
        if not block:
            lines[number] = escape(line)
        block = block or line.endswith("::")


def _signature(
    _app: Any, what: str, _name: str, thing: Any, _options: Any, _signature: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """The signature of a class is that of its constructor, also where Keras' __new__ takes anything."""
    ours = getattr(thing, "__module__", "").startswith("keras_retrieval")
    if what != "class" or not ours or "__init__" not in vars(thing):
        return None
    found = inspect.signature(thing.__init__)
    bound = found.replace(parameters=list(found.parameters.values())[1:], return_annotation=found.empty)
    return stringify_signature(bound, unqualified_typehints=True), returns


def setup(app: Any) -> dict[str, Any]:
    """Before napoleon, which turns sections into fields of reStructuredText."""
    app.connect("autodoc-process-docstring", _process, priority=400)
    app.connect("autodoc-process-signature", _signature)
    return {"parallel_read_safe": True}

"""One page for each step of the command line, written at build time from the step's own typed signature.

No option is listed here: names, types, ranges, defaults and help come from Typer, from which the command comes too.
"""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer
from keras_retrieval.pipelines.command.options import Option, typer_signature
from sphinx.ext.napoleon import Config, GoogleDocstring

from docs.extensions.docstrings import escape
from keras_retrieval.steps import STEPS, function_name, module_name

FOLDER = Path("reference", "commands")
SECTIONS = re.compile(r"\n\n(?:Args|Returns|Raises):")


def function_of(step: str) -> Any:
    """The public function of a step."""
    return getattr(importlib.import_module(module_name(step)), function_name(step))


def command_of(step: str) -> Any:
    """The command that Typer makes of the function."""
    function = function_of(step)

    def command(*args: Any, **kwargs: Any) -> None:
        function(*args, **kwargs)

    command.__signature__ = signature = typer_signature(function)  # type: ignore[attr-defined]
    command.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name=step)(command)
    return typer.main.get_command(app)


def declared(step: str) -> dict[str, Option]:
    """The declarations of a step's options, with ranges and choices; empty for a step that uses Typer's own."""
    hints = get_type_hints(function_of(step), include_extras=True)
    return {name: fact for name, hint in hints.items() for fact in get_args(hint)[1:] if isinstance(fact, Option)}


def page(step: str) -> str:
    """The page of a step, in MyST Markdown."""
    function, command, facts = function_of(step), command_of(step), declared(step)
    text = SECTIONS.split(inspect.getdoc(function) or "")[0]
    arguments = [item for item in command.params if not item.opts[0].startswith("-")]
    options = [item for item in command.params if item.opts[0].startswith("-") and item.name != "help"]
    usage = " ".join([f"keras-retrieval {step}", *map(_usage, arguments), "[OPTIONS]" if options else ""]).strip()
    wing, name = STEPS[step].room.partition(".")[0], function_name(step)
    lines = [f"# {step}", "", _escape(text), "", "```sh", usage, "```", ""]
    lines += ["## Arguments", ""] + [line for item in arguments for line in _argument(item, facts.get(item.name))]
    panels: dict[str, list[Any]] = {}
    for item in options:
        panels.setdefault(getattr(item, "rich_help_panel", None) or "Options", []).append(item)
    for panel, items in panels.items():
        lines += [f"## {panel}", "", f"```{{program}} keras-retrieval {step}", "```", ""]
        lines += [line for item in items for line in _option(item, facts.get(item.name))]
    lines += [
        "## In Python",
        "",
        f"`keras_retrieval.{wing}.{name}` is the same step as a function of the same",
        "arguments, with underscores for hyphens. It raises a `RetrievalError`, `ValueError`, `OSError` or",
        "`ImportError` where the command ends with a message; see [Errors](../errors.md).",
        "",
        "```{eval-rst}",
        *_python(f"keras_retrieval.{wing}.{name}", function),
        "```",
        "",
    ]
    return "\n".join(lines)


def _python(path: str, function: Any) -> list[str]:
    """The function of a step in reStructuredText: its signature, and what it returns and raises."""
    parameters, keyword = [], False
    for item in inspect.signature(function).parameters.values():
        if item.kind is item.KEYWORD_ONLY and not keyword:
            keyword = True
            parameters.append("*")
        default = getattr(item.default, "value", item.default)
        text = (
            "" if item.default is item.empty else f"={str(default)!r}" if isinstance(default, Path) else f"={default!r}"
        )
        parameters.append(("**" if item.kind is item.VAR_KEYWORD else "") + item.name + text)
    sections = SECTIONS.search(inspect.getdoc(function) or "")
    rest = (inspect.getdoc(function) or "")[sections.start() :].strip() if sections else ""
    fields = str(GoogleDocstring("\n".join(map(escape, rest.split("\n"))), Config(napoleon_use_rtype=False)))
    return [f".. py:function:: {path}({', '.join(parameters)})", ""] + [
        f"   {line}".rstrip() for line in fields.split("\n")
    ]


def _usage(item: Any) -> str:
    name = (item.metavar or item.name).upper() + ("..." if item.nargs == -1 else "")
    return name if item.required else f"[{name}]"


def _argument(item: Any, fact: Option | None) -> list[str]:
    return [f"`{_usage(item)}` : {_type(item)}", f": {_escape(fact.help if fact else item.help or '')}", ""]


def _option(item: Any, fact: Option | None) -> list[str]:
    names = " / ".join([*item.opts, *getattr(item, "secondary_opts", [])])
    value = "" if getattr(item, "is_flag", False) else f" <{_type(item)}>"
    facts = [f"**Default:** {_default(item)}"]
    if span := _range(item, fact):
        facts.append(f"**Range:** {span}")
    if fact and fact.choices:
        facts.append("**Choices:** " + ", ".join(f"`{choice}`" for choice in fact.choices))
    if item.multiple:
        facts.append("may be given several times")
    text = _escape(fact.help if fact else item.help or "")
    return [f"````{{option}} {names}{value}", text, "", " · ".join(facts), "````", ""]


def _type(item: Any) -> str:
    kind = getattr(item, "type_descriptor", None)
    annotation = kind.annotation if kind is not None else None
    if annotation is None:  # before Typer had types of its own
        return str(item.type.name)
    text = annotation.__name__ if isinstance(annotation, type) and not hasattr(annotation, "__args__") else ""
    choices = getattr(annotation, "__args__", ())
    if not text and choices and all(isinstance(choice, str) for choice in choices):
        return "|".join(choices)
    if not text:
        text = re.sub(r"[\w.]+\.", "", str(annotation))
    names = {"int": "integer", "float": "number", "str": "text", "bool": "flag"}
    text = re.sub(r"\blist\[(\w+)\]", r"\1", text)
    return names.get(text, text).lower()


def _range(item: Any, fact: Option | None) -> str:
    limits = [
        ("above", fact.above if fact else None),
        ("at least", fact.at_least if fact else getattr(item, "min", None)),
        ("at most", fact.at_most if fact else getattr(item, "max", None)),
    ]
    return ", ".join(f"{word} {limit:g}" for word, limit in limits if limit is not None)


def _default(item: Any) -> str:
    default, secondary = item.default, getattr(item, "secondary_opts", [])
    if item.required:
        return "required"
    if isinstance(default, bool) and secondary:
        return f"`{(item.opts if default else secondary)[0]}`"
    if default is None or default == "" or default == []:
        return "not set"
    return f"`{getattr(default, 'value', default)}`"


def _escape(text: str) -> str:
    """Text in which only backquotes are markup."""
    pieces = re.split(r"(`[^`]*`)", text)
    pieces[::2] = [re.sub(r"([\\<>*\[\]{}|])", r"\\\1", piece) for piece in pieces[::2]]
    return "".join(pieces)


def overview() -> str:
    """The page that lists all steps."""
    lines = [
        "# Commands",
        "",
        "`keras-retrieval STEP --help` prints what these pages say. They are generated from the steps' typed",
        "signatures when the documentation is built.",
        "",
    ]
    for group in dict.fromkeys(step.group for step in STEPS.values()):
        steps = [name for name, step in STEPS.items() if step.group == group]
        rows = [f"| [`{step}`](commands/{step}.md) | {_escape(STEPS[step].summary)} |" for step in steps]
        toc = ["```{toctree}", ":hidden:", ":caption: " + group, "", *(f"commands/{step}" for step in steps), "```", ""]
        lines += [f"## {group}", "", "| step | what it does |", "|---|---|", *rows, "", *toc]
    return "\n".join(lines)


def write(source: Path) -> None:
    """Writes all pages below the documentation's folder; a page that has not changed keeps its time."""
    folder = source / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    pages = {folder / f"{step}.md": page(step) for step in STEPS} | {folder.with_suffix(".md"): overview()}
    for place, text in pages.items():
        if not place.exists() or place.read_text() != text:
            place.write_text(text)
    for old in set(folder.glob("*.md")) - set(pages):
        old.unlink()


def setup(app: Any) -> dict[str, Any]:
    """Writes the pages before Sphinx looks for documents."""
    app.connect("config-inited", lambda app, _config: write(Path(app.srcdir)))
    return {"parallel_read_safe": True}

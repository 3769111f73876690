"""Tables of measurements: `{measured} NAME` shows docs/measured/NAME.json, which `bench/record.py` writes.

A file holds `command`, `machine`, `date`, `rows` (a list of objects with the same keys) and, where there is more to
say, `title` and `notes`.
"""

import json
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

FOLDER = "measured"
NUMBER = re.compile(r"[-+]?[\d,]+(\.\d+)?( ?%)?|-")


def read(path: Path) -> dict[str, Any]:
    """The content of a file of measurements."""
    return json.loads(path.read_text(encoding="utf-8"))


def table(facts: dict[str, Any]) -> str:
    """A recorded measurement as a Markdown table with its command, machine and date."""
    columns = list(dict.fromkeys(key for row in facts["rows"] for key in row))
    numeric = {key for key in columns if all(_is_number(row.get(key)) for row in facts["rows"])}
    lines = [
        "| " + " | ".join(columns) + " |",
        "|" + "|".join("---:" if key in numeric else "---" for key in columns) + "|",
        *("| " + " | ".join(_cell(row.get(key)) for key in columns) + " |" for row in facts["rows"]),
        "",
        f"`{facts['command']}` · {machine(facts['machine'])} · {facts['date']}",
    ]
    return "\n".join(lines + (["", facts["notes"]] if facts.get("notes") else []))


def machine(facts: dict[str, Any]) -> str:
    """A machine in one line."""
    return ", ".join(str(value) for value in facts.values() if value not in (None, ""))


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, int | float) or bool(NUMBER.fullmatch(str(value)))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value).replace("|", "\\|")


class Measured(SphinxDirective):
    """`{measured} NAME`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The table; the page is built again when the file changes."""
        path = Path(self.env.srcdir, FOLDER, f"{self.arguments[0]}.json")
        self.env.note_dependency(str(path))
        return [nodes.container("", *self.parse_text_to_nodes(table(read(path))), classes=["measured"])]


def setup(app: Any) -> dict[str, Any]:
    """Adds the directive."""
    app.add_directive("measured", Measured)
    return {"parallel_read_safe": True}

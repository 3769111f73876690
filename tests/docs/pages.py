"""Parses the pages of the documentation: their code blocks, inline code and links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GENERATED = (ROOT / "docs" / "reference" / "commands", ROOT / "docs" / "_build")
WRITTEN = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
FENCE = re.compile(r"^(?P<ticks>`{3,})(?P<info>[^`\n]*)\n(?P<body>.*?)^(?P=ticks)\s*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block: the file and line it begins at, the language, what follows the language, and its text."""

    path: Path
    line: int
    language: str
    note: str
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """README, the other pages at the root and docs/, without what is generated."""
    found = sorted((ROOT / "docs").rglob("*.md"))
    commands = ROOT / "docs" / "reference" / "commands.md"
    return WRITTEN + [path for path in found if path != commands and not set(GENERATED) & set(path.parents)]


def blocks(*languages: str) -> Iterator[Block]:
    """The fenced blocks of all pages in these languages."""
    for path in pages():
        text = path.read_text(encoding="utf-8")
        for found in FENCE.finditer(text):
            language, _, note = found["info"].strip().partition(" ")
            if language in languages:
                line = text.count("\n", 0, found.start()) + 1
                yield Block(path, line, language, note.strip(), found["body"])


def prose(path: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def inline_code(path: Path) -> list[str]:
    """The inline code of a page."""
    return [code.strip() for code in CODE.findall(prose(path))]


def links(path: Path) -> list[str]:
    """The targets of a page's links that are not in the web."""
    found = LINK.findall(CODE.sub("", prose(path)))
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(path: Path) -> set[str]:
    """The anchors of a page: its headings as GitHub and MyST make them, and the labels that are written out."""
    text = prose(path)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = {
        re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).strip().replace(" ", "-") for heading in headings
    }
    return slugs | set(re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE))

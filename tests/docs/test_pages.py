"""Pages of the documentation: generated ones are complete, links have targets, measurements are shown."""

import ast
import inspect
import re

import pytest

from bench.record import record, recorded
from docs.extensions import commands, measured, tables
from keras_retrieval.__main__ import main
from keras_retrieval.networks.backbones import BACKBONES
from keras_retrieval.networks.build import POOLINGS
from keras_retrieval.steps import STEPS
from tests.docs.pages import ROOT, anchors, links, pages

MEASURED = sorted((ROOT / "docs" / "measured").glob("*.json"))
LONGEST_README = 150
OPTION = re.compile(r"^ {2,}(?:-\w, )?(--[a-z0-9-]+)(?: / (--[a-z0-9-]+))?", re.MULTILINE)


@pytest.mark.parametrize("step", STEPS)
def test_a_command_page_has_every_option_of_the_help(step, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        main([step, "--help"])
    text = commands.page(step)
    shown = {word for words in OPTION.findall(capsys.readouterr().out) for word in words if word} - {"--help"}
    missing = {word for word in shown if not re.search(rf"{{option}}.* {word}(?= |$)", text, re.MULTILINE)}
    assert shown
    assert not missing


@pytest.mark.parametrize("step", STEPS)
def test_a_command_page_has_every_parameter_with_its_help_and_default(step):
    text = commands.page(step)
    entries = re.findall(r"^````\{option\} (.+)\n(.*)\n\n(.*)\n````$", text, re.MULTILINE)
    arguments = re.findall(r"^`\[?([A-Z_.]+)\]?` : .+\n: (.*)$", text, re.MULTILINE)
    assert len(entries) + len(arguments) == len(inspect.signature(commands.function_of(step)).parameters)
    assert all(help and "**Default:**" in facts for _, help, facts in entries)
    assert all(help for _, help in arguments)


def test_the_overview_has_every_step():
    assert all(f"[`{step}`](commands/{step}.md)" in commands.overview() for step in STEPS)


def test_command_pages_are_written_once_and_cleared(tmp_path):
    old = tmp_path / "reference" / "commands" / "gone.md"
    old.parent.mkdir(parents=True)
    old.touch()
    commands.write(tmp_path)
    page = tmp_path / "reference" / "commands" / "train.md"
    time = page.stat().st_mtime_ns
    commands.write(tmp_path)
    assert not old.exists()
    assert page.stat().st_mtime_ns == time


def test_tables_from_the_code_have_every_row():
    assert all(f"| `{name}` |" in "\n".join(tables.backbones()) for name in BACKBONES)
    assert all(f"| `{name}` |" in "\n".join(tables.poolings()) for name in POOLINGS)
    for name, rows in tables.TABLES.items():
        assert len("\n".join(rows())) > 100, name


def test_errors_are_listed_below_their_base():
    lines = list(tables.errors())
    assert lines[0].startswith("- `RetrievalError`")
    assert any(line.startswith("  - `ArgumentError` (also `ValueError`)") for line in lines)


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= LONGEST_README


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in links(page):
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        made = path.parent.name == "commands" and path.stem in STEPS
        assert made or path.exists() or path == ROOT / "docs" / "reference" / "commands.md", link
        if anchor and path.suffix == ".md" and not made:
            assert anchor in anchors(path), link


def test_every_measurement_is_shown_once():
    shown = re.findall(r"\{measured\} ([\w-]+)", "".join(page.read_text(encoding="utf-8") for page in pages()))
    assert sorted(shown) == sorted(path.stem for path in MEASURED)


@pytest.mark.parametrize("path", MEASURED, ids=lambda path: path.stem)
def test_a_measurement_has_its_command_machine_and_date(path):
    facts = measured.read(path)
    assert facts["command"]
    assert facts["machine"]["processor"]
    assert facts["rows"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", facts["date"])
    lines = measured.table(facts).split("\n")
    assert len({line.count(" | ") for line in lines[2 : 2 + len(facts["rows"])] if "\\|" not in line}) == 1


def test_a_recorded_table_is_read_and_keeps_its_notes(tmp_path, capsys):
    with recorded("speed", "python -m bench.speed", tmp_path) as add:
        add({"method": "ours", "ms": 1.5, "cores": None})
        add({"method": "a|b", "ms": 12345, "cores": 2})
    path = tmp_path / "speed.json"
    facts = measured.read(path)
    assert measured.table(facts).split("\n")[:4] == [
        "| method | ms | cores |", "|---|---:|---:|", "| ours | 1.5 |  |", "| a\\|b | 12,345 | 2 |",
    ]  # fmt: skip
    assert "| ours | 1.5 |  |" in capsys.readouterr().out
    path.write_text(path.read_text(encoding="utf-8").replace('"rows"', '"notes": "On a Monday.",\n "rows"'), "utf-8")
    record("speed", [{"method": "ours", "ms": 1}], folder=tmp_path)
    assert measured.read(path)["notes"] == "On a Monday."


def test_a_measurement_that_fails_is_not_recorded(tmp_path):
    def fails() -> None:
        with recorded("speed", folder=tmp_path) as add:
            add({"ms": 1})
            add({"ms": 1 / 0})

    with pytest.raises(ZeroDivisionError):
        fails()
    assert not list(tmp_path.iterdir())


def test_messages_in_troubleshooting_are_those_of_the_code():
    folders = (ROOT / name for name in ("keras_retrieval", "pipelines", "export"))
    source = "".join(path.read_text(encoding="utf-8") for folder in folders for path in folder.rglob("*.py"))
    source = re.sub(r'"\s*\n\s*f?"', "", source)  # adjacent literals
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r'"([^"\n]+)"', re.sub(r"`[^`]*`", "", text))
    assert len(quoted) > 5
    missing = [part for message in quoted for part in message.split(" ... ") if part not in source]
    assert not missing


def test_file_formats_name_every_kind_of_folder_with_its_version():
    text = (ROOT / "docs" / "reference" / "file-formats.md").read_text(encoding="utf-8")
    sources = [
        path.read_text(encoding="utf-8") for name in ("pipelines", "export") for path in (ROOT / name).rglob("*.py")
    ]
    kinds = [
        found
        for source in sources
        for found in re.findall(r'^KIND, VERSION\b.* = "([^"]+)", (\d+)', source, re.MULTILINE)
    ]
    assert len(kinds) >= 5
    assert [kind for kind in kinds if f"| `{kind[0]}` | {kind[1]} |" not in text] == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_files_in_the_text_exist(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w/.])(?:keras_retrieval|pipelines|export|tests|bench|docs|examples)/[\w/.-]+\.\w+", text)
    assert [name for name in named if "NAME" not in name and not (ROOT / name).exists()] == []


@pytest.mark.parametrize("path", sorted((ROOT / "bench").glob("*.py")), ids=lambda path: path.stem)
def test_every_option_of_a_benchmark_has_a_help(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
            assert "help" in {keyword.arg for keyword in node.keywords}, f"line {node.lineno}"

"""Code in README and docs: Python runs, shell commands use steps and options that exist."""

import ast
import importlib
import json
import re
import shlex
from pathlib import Path

import pytest

from docs.extensions.commands import command_of
from export.server.model_server_flags import FLAGS
from keras_retrieval.steps import STEPS
from tests.docs.pages import ROOT, blocks, inline_code, pages

NOT_RUN = "not run: "
OTHERS = {
    "--no-deps",
    "--host",
    "--user",
    "--init",
    "--read-only",
    "--tmpfs",
}  # options of pip, docker and servers that are not ours
PYTHON = list(blocks("python"))
RUN = [block for block in PYTHON if not block.note]
MEASURED = sorted((ROOT / "docs" / "measured").glob("*.json"))


def options_of(step: str) -> set[str]:
    """The options of a step, both words of a switch."""
    return {word for item in command_of(step).params for word in [*item.opts, *getattr(item, "secondary_opts", [])]}


OPTIONS = {step: options_of(step) for step in STEPS}
ALL_OPTIONS = set().union(*OPTIONS.values(), OTHERS, {f"--{flag.name}" for flag in FLAGS})


def commands(text: str) -> list[list[str]]:
    """The calls of keras-retrieval in a shell script, as words."""
    lines = [shlex.split(line, comments=True) for line in text.replace("\\\n", " ").split("\n")]
    return [words[1:] for words in lines if words[:1] == ["keras-retrieval"]]


SHELL = [(str(block), words) for block in blocks("sh") for words in commands(block.text)]


@pytest.mark.parametrize("block", RUN, ids=str)
def test_python_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block.text, str(block), "exec"), {"__name__": "example"})


@pytest.mark.parametrize("block", [block for block in PYTHON if block.note], ids=str)
def test_python_that_is_not_run_says_why_and_imports_what_exists(block):
    assert block.note.startswith(NOT_RUN)
    assert len(block.note) > len(NOT_RUN) + 10
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


@pytest.mark.parametrize(("place", "words"), SHELL, ids=[f"{place} {words[0]}" for place, words in SHELL])
def test_shell_commands_are_taken_by_their_step(place, words):
    step, *arguments = words
    assert step in STEPS, place
    if arguments and arguments != ["[OPTIONS]"]:
        command_of(step).make_context(step, arguments)  # raises a usage error; nothing is run


def test_there_are_examples():
    assert len(RUN) >= 4
    assert len(SHELL) >= 50
    assert {words[0] for _, words in SHELL} == set(STEPS)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_options_in_the_text_exist(page):
    for code in inline_code(page):
        check_options(code)


@pytest.mark.parametrize("path", MEASURED, ids=lambda path: path.stem)
def test_options_in_measurements_exist(path):
    facts = json.loads(path.read_text(encoding="utf-8"))
    texts = [facts["command"], facts.get("notes", ""), *(str(cell) for row in facts["rows"] for cell in row.values())]
    for code in [code for text in texts for code in re.findall(r"`([^`]+)`", text)]:
        check_options(code)


def check_options(code: str) -> None:
    """Checks the options in a piece of code that is a command of ours, or that begins with a step or an option."""
    words = code.removeprefix("keras-retrieval ").split()
    if not words or not (words[0] in STEPS or words[0].startswith("--")):
        return
    known = OPTIONS.get(words[0], ALL_OPTIONS)
    for option in re.findall(r"(?<![\w-])--[a-z0-9][a-z0-9_-]*", code):
        assert option in known, f"`{code}`: {option}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_make_targets_in_the_text_exist(page):
    makefile = Path(ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    shell = [line for block in blocks("sh") if block.path == page for line in block.text.split("\n")]
    for code in [*inline_code(page), *shell]:
        if found := re.match(r"make ([a-z-]+)", code):
            assert found[1] in targets, code

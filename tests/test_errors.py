"""Errors, output and call style of the whole source, read without importing anything.

Every exception class descends from RetrievalError, code raises those instead of built-in ones, and only steps print.
"""

import ast
import builtins
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

from keras_retrieval.steps import STEPS, function_name

ROOT = Path(__file__).resolve().parents[1]
WINGS = ("keras_retrieval", "pipelines", "export")
BASE = "RetrievalError"
BUILT_IN = {name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, BaseException)}
# What Python's own protocols ask for: operators, mappings, attributes, abstract methods, iterators, exit codes.
PROTOCOL = {"TypeError", "KeyError", "AttributeError", "NotImplementedError", "StopIteration", "SystemExit"}
# The modules that write to the terminal beside the steps: the commands themselves, and the meter on stderr.
TERMINAL = {
    "keras_retrieval/__main__.py",
    "export/server/model_server.py",
    "pipelines/files/progress.py",
    "keras_retrieval/stopping.py",
}
STEP_FILES = {f"{room.replace('.', '/')}/{function_name(step)}.py" for step, (room, _, _) in STEPS.items()}


parsed = functools.cache(ast.parse)  # several tests read all files


def sources(root: Path) -> Iterator[tuple[str, ast.Module]]:
    """(path from the root, syntax tree) of every file of the three wings."""
    for wing in WINGS:
        for path in sorted((root / wing).rglob("*.py")):
            yield path.relative_to(root).as_posix(), parsed(path.read_text(encoding="utf-8"))


def room(file: str) -> str:
    """keras_retrieval/layers/gem.py -> keras_retrieval/layers; a wing's own files belong to the wing."""
    return "/".join(file.split("/")[:-1][:2])


def last_name(node: ast.expr | None) -> str:
    """`a.b.Error("x")`, `a.b.Error` or `Error` -> Error; "" for anything else."""
    node = node.func if isinstance(node, ast.Call) else node
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def parents(root: Path) -> dict[str, set[str]]:
    """Maps each class of the source to all that it descends from, by name."""
    direct: dict[str, set[str]] = {}
    for _, tree in sources(root):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                direct.setdefault(node.name, set()).update(map(last_name, node.bases))

    def above(name: str, seen: frozenset[str]) -> set[str]:
        fresh = direct.get(name, set()) - seen
        return fresh.union(*(above(parent, seen | fresh) for parent in fresh))

    return {name: above(name, frozenset()) for name in direct}


def violations(root: Path) -> list[tuple[str, str]]:
    """Every breach of the rules in the tree at `root`, as (room, "file:line: reason")."""
    family, found = parents(root), []
    for file, tree in sources(root):
        for node in ast.walk(tree):
            reason = _wrong(node, file, family)
            if reason:
                found.append((room(file), f"{file}:{getattr(node, 'lineno', 0)}: {reason}"))
    return found


def _wrong(node: ast.AST, file: str, family: dict[str, set[str]]) -> str:
    if isinstance(node, ast.ClassDef):
        above = family[node.name]
        return (
            f"{node.name} does not descend from {BASE}" if above & BUILT_IN and BASE not in {node.name, *above} else ""
        )
    if isinstance(node, ast.Raise):
        name = last_name(node.exc)
        return f"raises the bare {name}" if name in BUILT_IN - PROTOCOL else ""
    if isinstance(node, ast.Call):
        name = last_name(node)
        if isinstance(node.func, ast.Name) and name == "locals":
            return "calls locals()"
        return "prints" if name == "print" and file not in TERMINAL | STEP_FILES else ""
    return ""


def test_rooms_raise_errors_of_ours_print_in_steps_only_and_read_no_locals():
    assert [reason for _, reason in violations(ROOT)] == []


def test_the_files_that_may_print_exist():
    assert {file for file, _ in sources(ROOT)} > TERMINAL | STEP_FILES


BAD = [
    ("class AError(ValueError): ...", "AError does not descend from RetrievalError"),
    ("class A(Exception): ...\nclass B(A): ...", "does not descend from RetrievalError"),
    ("class A(zipfile.BadZipFile, OSError): ...", "A does not descend from RetrievalError"),
    ("raise ValueError('x')", "raises the bare ValueError"),
    ("raise FileNotFoundError", "raises the bare FileNotFoundError"),
    (
        "def f():\n    try: ...\n    except KeyError as e:\n        raise RuntimeError from e",
        "raises the bare RuntimeError",
    ),
    ("print('x')", "prints"),
    ("console.print('x')", "prints"),
    ("dict(locals())", "calls locals()"),
]


@pytest.mark.parametrize(("source", "reason"), BAD)
def test_a_breach_is_found(tmp_path, source, reason):
    path = tmp_path / "pipelines" / "photos" / "a.py"
    path.parent.mkdir(parents=True)
    path.write_text(source)
    found = violations(tmp_path)
    assert found
    assert all(place == "pipelines/photos" and text.startswith("pipelines/photos/a.py:") for place, text in found)
    assert reason in found[-1][1]


GOOD = [
    "class RetrievalError(Exception): ...\nclass A(RetrievalError, ValueError): ...\nclass B(A): ...\nraise B('x')",
    "try: ...\nexcept ValueError:\n    raise",
    "def f(error):\n    raise error\ndef __getattr__(name):\n    raise AttributeError(name)",
    "class Table(dict): ...\nraise made_error('x')",
    "log.info('x')\nfootprint('x')\nself.locals()",
]


@pytest.mark.parametrize("source", GOOD)
def test_what_is_allowed_passes(tmp_path, source):
    path = tmp_path / "pipelines" / "photos" / "a.py"
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert violations(tmp_path) == []


def test_steps_print(tmp_path):
    path = tmp_path / "pipelines" / "descriptors" / "extract.py"
    path.parent.mkdir(parents=True)
    path.write_text("print('3 photos')")
    assert violations(tmp_path) == []

"""Which way imports run, read from the source without importing anything.

- keras_retrieval/ stands on the standard library, numpy and keras, so that it runs on every Keras backend. h5py in
  weights.py and typer in __main__.py are imported by the one function that needs them.
- pipelines/ imports keras_retrieval and its own modules, these relatively; never export.
- export/ imports keras_retrieval, its own modules relatively, and of keras_retrieval.pipelines only TOOLS: one photo
  reader, one way to describe photos and one way to write a folder must not be written twice. Never a step: steps
  meet through files.
- Nothing heavy is imported when a module is: the command line answers at once, and extras may be absent.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("keras_retrieval", "pipelines", "export")
TOOLS = {"images", "photo_files", "folders", "describe", "descriptors", "edges", "sketches", "onnx_network", "progress"}
LIGHT = {"numpy", "PIL", "typer"}  # what pipelines/ and export/ import at the top, beside the standard library
IN_A_FUNCTION = {"keras_retrieval/weights.py": {"h5py"}, "keras_retrieval/__main__.py": {"typer"}}


@dataclass(frozen=True)
class Import:
    """An import statement's target: `level` dots, then `module`; `top` where it runs when the module is imported."""

    module: str
    level: int
    line: int
    top: bool


def imports(source: str) -> Iterator[Import]:
    """All imports of a source, but for those that only type checkers see."""
    yield from _imports(ast.parse(source), top=True)


def _imports(node: ast.AST, top: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from (Import(alias.name, 0, node.lineno, top) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        names = [f"{node.module}.{alias.name}" if node.module else alias.name for alias in node.names]
        yield from (Import(name, node.level, node.lineno, top) for name in names)
    inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    only_types = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    for child in [] if only_types else ast.iter_child_nodes(node):
        yield from _imports(child, top and not inside)


def violations(root: Path) -> list[str]:
    """Every import of the tree at `root` that runs the wrong way, as "file:line: what"."""
    found = []
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            name = path.relative_to(root).as_posix()
            for statement in imports(path.read_text(encoding="utf-8")):
                reason = _wrong(name, statement)
                found += [f"{name}:{statement.line}: {reason}"] if reason else []
    return found


def _wrong(file: str, statement: Import) -> str:
    if statement.level:
        return "a relative import leaves its room" if statement.level > file.count("/") else ""
    package, *parts = statement.module.split(".")
    if package in sys.stdlib_module_names:
        return ""
    return {"keras_retrieval": _in_library, "pipelines": _in_pipelines, "export": _in_export}[file.split("/")[0]](
        file, statement, package, parts
    )


def _in_library(file: str, statement: Import, package: str, parts: list[str]) -> str:
    allowed = {"numpy", "keras"} | (set() if statement.top else IN_A_FUNCTION.get(file, set()))
    return "" if package in allowed else f"the library imports {package}"


def _in_pipelines(file: str, statement: Import, package: str, parts: list[str]) -> str:
    if package in ROOMS[1:]:
        return f"{package} is imported absolutely"
    if package == "keras_retrieval":
        return "pipelines or export by its installed name" if parts[:1] in (["pipelines"], ["export"]) else ""
    return f"{package} at the module's top" if statement.top and package not in LIGHT else ""


def _in_export(file: str, statement: Import, package: str, parts: list[str]) -> str:
    if package in ROOMS[1:]:
        return f"{package} is imported by the checkout's name"
    if package == "keras_retrieval":
        if parts[:1] == ["export"]:
            return "export by its installed name"
        if parts[:1] == ["pipelines"]:
            return "" if parts[1:2] and parts[1] in TOOLS else "a step of pipelines"
        return ""
    return f"{package} at the module's top" if statement.top and package not in LIGHT else ""


def test_imports_run_the_right_way():
    assert violations(ROOT) == []


def test_the_tools_that_export_uses_are_no_steps():
    from keras_retrieval.__main__ import STEPS

    steps = {module.removeprefix("pipelines.") for module, _, _ in STEPS.values()}
    assert not TOOLS & steps
    assert all((ROOT / "pipelines" / f"{tool}.py").is_file() for tool in TOOLS)


def test_every_room_is_read():
    for room in ROOMS:
        sources = [path.read_text(encoding="utf-8") for path in (ROOT / room).rglob("*.py")]
        assert sum(len(list(imports(source))) for source in sources) > 10


BAD = [
    ("keras_retrieval/a.py", "import tensorflow as tf", "the library imports tensorflow"),
    ("keras_retrieval/a.py", "def f():\n    import jax.numpy", "the library imports jax"),
    ("keras_retrieval/a.py", "from torch import nn", "the library imports torch"),
    ("keras_retrieval/a.py", "def f():\n    import h5py", "the library imports h5py"),
    ("keras_retrieval/weights.py", "import h5py", "the library imports h5py"),
    ("keras_retrieval/layers/a.py", "from PIL import Image", "the library imports PIL"),
    ("keras_retrieval/layers/a.py", "from keras_retrieval import losses", "the library imports keras_retrieval"),
    ("keras_retrieval/layers/a.py", "from ...pipelines import images", "leaves its room"),
    ("keras_retrieval/a.py", "def f():\n    from pipelines import images", "the library imports pipelines"),
    ("pipelines/a.py", "import keras", "keras at the module's top"),
    ("pipelines/a.py", "try:\n    import pycolmap\nexcept ImportError:\n    pass", "pycolmap at the module's top"),
    ("pipelines/a.py", "class A:\n    import h5py", "h5py at the module's top"),
    ("pipelines/a.py", "def f():\n    from export import report", "export is imported absolutely"),
    ("pipelines/a.py", "from pipelines.images import read_photo", "pipelines is imported absolutely"),
    ("pipelines/a.py", "from keras_retrieval.pipelines import images", "by its installed name"),
    ("pipelines/a.py", "def f():\n    from keras_retrieval import export", "by its installed name"),
    ("pipelines/a.py", "from ..export import report", "leaves its room"),
    ("export/a.py", "from pipelines.images import read_photo", "by the checkout's name"),
    ("export/a.py", "from keras_retrieval.pipelines.extract import extract", "a step of pipelines"),
    ("export/a.py", "from keras_retrieval.pipelines import extract", "a step of pipelines"),
    ("export/a.py", "import keras_retrieval.pipelines", "a step of pipelines"),
    ("export/a.py", "from keras_retrieval import pipelines", "a step of pipelines"),
    ("export/a.py", "from keras_retrieval.export import report", "export by its installed name"),
    ("export/a.py", "import scann", "scann at the module's top"),
    ("export/a.py", "if True:\n    import tensorflow", "tensorflow at the module's top"),
]


@pytest.mark.parametrize(("file", "source", "reason"), BAD)
def test_an_import_that_runs_the_wrong_way_is_found(tmp_path, file, source, reason):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    (found,) = violations(tmp_path)
    assert found.startswith(f"{file}:")
    assert reason in found


GOOD = [
    ("keras_retrieval/a.py", "import os\nimport keras\nfrom numpy import linalg\nfrom . import layers"),
    ("keras_retrieval/layers/a.py", "from ..losses import loss\nfrom .gem import GeM"),
    ("keras_retrieval/weights.py", "def f():\n    import h5py"),
    ("keras_retrieval/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import tensorflow"),
    ("pipelines/a.py", "from .images import read_photo\nfrom keras_retrieval import metrics\nimport typer"),
    ("pipelines/samples/a.py", "from ..images import read_photo\nfrom .mesh import mesh"),
    ("pipelines/a.py", "def f():\n    import tensorflow\n    import keras"),
    ("export/a.py", "from keras_retrieval.pipelines.images import read_photo\nfrom .report import page"),
    ("export/a.py", "def f():\n    import scann\n    from keras_retrieval import metrics"),
]


@pytest.mark.parametrize(("file", "source"), GOOD)
def test_an_import_that_runs_the_right_way_passes(tmp_path, file, source):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert violations(tmp_path) == []

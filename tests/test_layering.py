"""Imports run down only: rooms, files, steps and packages, read from the source without importing anything.

The table is tests/layering.toml. In pipelines/ and export/ siblings import each other relatively, since the two are
installed below keras_retrieval; export/ imports pipelines/ by its installed name.
"""

import ast
import functools
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from keras_retrieval.steps import STEPS, function_name

ROOT = Path(__file__).resolve().parents[1]
TABLE = tomllib.loads((ROOT / "tests" / "layering.toml").read_text(encoding="utf-8"))
WINGS = {"keras_retrieval": "library", "pipelines": "pipelines", "export": "export"}


@dataclass(frozen=True)
class Import:
    """The target of an import statement.

    Attributes:
        module: its module, as it is written.
        name: the name that is taken from it; "" for `import module`.
        level: the dots in front.
        line: of the statement.
        top: whether it runs when the importing module is imported.
    """

    module: str
    name: str
    level: int
    line: int
    top: bool


@functools.cache
def imports(source: str) -> tuple[Import, ...]:
    """All imports of a source except those under TYPE_CHECKING."""
    return tuple(_imports(ast.parse(source), top=True))


def _imports(node: ast.AST, top: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from (Import(alias.name, "", 0, node.lineno, top) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (Import(node.module or "", alias.name, node.level, node.lineno, top) for alias in node.names)
    inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    only_types = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    for child in [] if only_types else ast.iter_child_nodes(node):
        yield from _imports(child, top and not inside)


def modules(root: Path) -> dict[str, Path]:
    """Maps each module, by its name in the checkout, to its file."""
    found = {}
    for wing in WINGS:
        for path in sorted((root / wing).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def installed_to_checkout(module: str) -> str:
    """keras_retrieval.pipelines.X -> pipelines.X."""
    inner = module.removeprefix("keras_retrieval.")
    return inner if inner.split(".")[0] in ("pipelines", "export") else module


def target(importer: str, path: Path, statement: Import, known: Iterable[str]) -> str:
    """The module of ours that a statement imports, by its name in the checkout; "" for one of others."""
    base = statement.module
    if statement.level:
        parts = importer.split(".")
        package = parts if path.name == "__init__.py" else parts[:-1]
        base = ".".join([*package[: len(package) - statement.level + 1], *filter(None, [statement.module])])
    base = installed_to_checkout(base)
    named = installed_to_checkout(f"{base}.{statement.name}")
    if statement.name and named in known:
        return named
    return base if base.split(".")[0] in WINGS else ""


def room_of(module: str, known: dict[str, Path]) -> tuple[str, str]:
    """(wing, room) of a module; the room of a wing's own files is ""."""
    wing, *rest = module.split(".")
    inside = len(rest) > 1 or (rest and f"{wing}.{rest[0]}" in known and known[module].name == "__init__.py")
    return wing, rest[0] if rest and inside else ""


def violations(root: Path) -> list[str]:
    """Every import of the tree at `root` that the table does not allow, as "file:line: reason"."""
    known, found = modules(root), []
    for module, path in known.items():
        for statement in imports(path.read_text(encoding="utf-8")):
            reason = _wrong(module, path, statement, known, path.relative_to(root).as_posix())
            found += [f"{path.relative_to(root).as_posix()}:{statement.line}: {reason}"] if reason else []
    return found


def _wrong(module: str, path: Path, statement: Import, known: dict[str, Path], file: str) -> str:
    wing = module.split(".")[0]
    depth = module.count(".") + (path.name == "__init__.py")
    if statement.level > depth:
        return "a relative import leaves its wing"
    imported = target(module, path, statement, known)
    if not imported:
        return _wrong_package(wing, statement, file)
    if not statement.level:
        reason = _wrong_spelling(wing, statement)
        if reason:
            return reason
    return _wrong_room(module, statement, imported, known)


def _wrong_package(wing: str, statement: Import, file: str) -> str:
    package = statement.module.split(".")[0]
    light = package in sys.stdlib_module_names or package in TABLE["packages"][WINGS[wing]]
    own = TABLE["packages"]["at_top"].get(file.removesuffix(".py").replace("/", "."), [])
    if light or package in own:
        return ""
    if wing == "keras_retrieval":
        allowed = [] if statement.top else TABLE["packages"]["in_functions"].get(file, [])
        return "" if package in allowed else f"the library imports {package}"
    return f"{package} at the module's top" if statement.top else ""


def _wrong_spelling(wing: str, statement: Import) -> str:
    package = statement.module.split(".")[0]
    inner = installed_to_checkout(f"{statement.module}.{statement.name}").split(".")[0]
    if wing == "keras_retrieval":
        return f"the library imports {package} absolutely"
    if package in ("pipelines", "export"):
        return f"{package} is imported by the checkout's name"
    return f"{wing} by its installed name" if inner == wing else ""


def _light(imported: str, known: dict[str, Path]) -> bool:
    """Whether a module of ours can be imported without Keras."""
    wing, room = room_of(imported, known)
    if imported in TABLE["packages"]["with_keras"]:
        return False
    return wing != "keras_retrieval" or {imported, f"{wing}.{room}"} & set(TABLE["packages"]["light"]) != set()


def _wrong_room(module: str, statement: Import, imported: str, known: dict[str, Path]) -> str:
    if imported not in known:
        return f"there is no module {imported}"
    keras_at_top = module in TABLE["packages"]["with_keras"] or module.split(".")[0] == "keras_retrieval"
    if statement.top and not keras_at_top and not _light(imported, known):
        return f"{imported}, which imports Keras, at the module's top"
    if statement.top and (packages := TABLE["packages"]["at_top"].get(imported)):
        return f"{imported}, which imports {packages[0]}, at the module's top"
    if imported in TABLE["ground"]:
        return ""
    (wing, room), (other_wing, other) = room_of(module, known), room_of(imported, known)
    if (wing, room) == (other_wing, other):
        return ""
    if wing != "keras_retrieval" and not room:
        return "" if other_wing == "keras_retrieval" else f"a file outside the rooms imports {imported}"
    if wing == "keras_retrieval" and other_wing == wing and not other:
        return f"the room {room} imports the library's face"
    allowed = TABLE[WINGS[wing]].get(room)
    if allowed is None:
        return f"{wing}/{room} has no line in tests/layering.toml"
    name = "keras_retrieval" if other_wing == "keras_retrieval" != wing else other
    name = f"{other_wing}.{other}" if other_wing != wing and other_wing != "keras_retrieval" else name
    return "" if name in allowed else f"{wing}/{room} may not import {name}"


def test_imports_run_down():
    assert violations(ROOT) == []


def test_the_table_lists_the_rooms_that_are_there():
    for wing, table in WINGS.items():
        folders = {path.parent.name for path in (ROOT / wing).glob("*/__init__.py")}
        assert folders == set(TABLE[table]) - {""}, wing


def edges(root: Path) -> dict[str, set[str]]:
    """The files of ours that each file imports, at its top or within a function."""
    known = modules(root)
    return {
        module: {
            imported
            for statement in imports(path.read_text(encoding="utf-8"))
            if (imported := target(module, path, statement, known)) in known and imported != module
        }
        for module, path in known.items()
    }


def test_files_import_each_other_without_circles():
    graph = edges(ROOT)
    assert sum(map(len, graph.values())) > 500
    list(TopologicalSorter(graph).static_order())


def test_what_is_light_imports_no_keras():
    """So that a step's --help, and its checks of options, need not wait for TensorFlow."""
    names = [f"keras_retrieval.{room}.{function_name(step)}" for step, (room, _, _) in STEPS.items()]
    code = f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\n"
    code += "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_rooms_import_each_other_without_circles():
    known, graph = modules(ROOT), {}
    for module, others in edges(ROOT).items():
        rooms = {room_of(other, known) for other in others if other not in TABLE["ground"]}
        graph.setdefault(room_of(module, known), set()).update(rooms - {room_of(module, known)})
    assert len(graph) > 25
    list(TopologicalSorter(graph).static_order())


def test_a_circle_is_found(tmp_path):
    for name, source in {"a": "from .b import x", "b": "def f():\n    from .a import y"}.items():
        path = tmp_path / "pipelines" / "files" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    with pytest.raises(CycleError):
        list(TopologicalSorter(edges(tmp_path)).static_order())


STEP_MODULES = {f"{room}.{function_name(step)}": function_name(step) for step, (room, _, _) in STEPS.items()}


def step_violations(root: Path, steps: dict[str, str]) -> list[str]:
    """Imports of anything from a step's module but its function, and of that by anything but another step."""
    known, found = modules(root), []
    for module, path in known.items():
        for statement in imports(path.read_text(encoding="utf-8")):
            imported = target(module, path, statement, known)
            if imported not in steps or imported == module:
                continue
            line = f"{path.relative_to(root).as_posix()}:{statement.line}"
            if statement.name != steps[imported]:
                found.append(f"{line}: takes {statement.name or 'the module'} from the step {imported}")
            elif module not in steps:
                found.append(f"{line}: {module}, which is no step, calls the step {imported}")
    return found


def test_a_step_gives_nothing_but_its_function_and_that_to_steps_only():
    assert step_violations(ROOT, STEP_MODULES) == []


def test_what_is_taken_from_a_step_is_found(tmp_path):
    folder = tmp_path / "pipelines" / "sfm"
    folder.mkdir(parents=True)
    (folder / "pairs.py").write_text("def pairs(): ...\nHELP = ''")
    (folder / "step.py").write_text("from .pairs import pairs")
    (folder / "helper.py").write_text("from .pairs import pairs\ndef f():\n    from .pairs import HELP")
    steps = {"pipelines.sfm.pairs": "pairs", "pipelines.sfm.step": "step"}
    first, second = step_violations(tmp_path, steps)
    assert first.startswith("pipelines/sfm/helper.py:1: pipelines.sfm.helper, which is no step")
    assert second.startswith("pipelines/sfm/helper.py:3: takes HELP from the step")


@pytest.mark.parametrize("step", STEPS)
def test_a_step_has_the_name_of_its_command_and_one_public_function(step):
    path = ROOT / STEPS[step].room.replace(".", "/") / f"{function_name(step)}.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    public = [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    assert public == [function_name(step)]


@pytest.mark.parametrize("wing", ["pipelines", "export"])
def test_short_paths_give_the_functions_of_the_steps(wing):
    import importlib

    package = importlib.import_module(wing)
    expected = {function_name(step) for step, (room, _, _) in STEPS.items() if room.startswith(wing)}
    assert set(package.__all__) == expected
    assert set(dir(package)) == expected, "what a shell completes"
    assert not expected & {path.parent.name for path in (ROOT / wing).glob("*/__init__.py")}, "a room hides a step"
    for name in expected:
        assert getattr(package, name).__name__ == name
    typed = {
        alias.asname
        for node in ast.walk(ast.parse((ROOT / wing / "__init__.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    assert typed == expected, "what type checkers see"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing


BAD = [
    (
        "pipelines/sfm/a.py",
        "from keras_retrieval.networks.build import build",
        "which imports Keras, at the module's top",
    ),
    ("export/indexes/a.py", "from keras_retrieval import layers", "which imports Keras, at the module's top"),
    ("keras_retrieval/layers/a.py", "import tensorflow as tf", "the library imports tensorflow"),
    ("keras_retrieval/layers/a.py", "def f():\n    import jax.numpy", "the library imports jax"),
    ("keras_retrieval/ranking/a.py", "from torch import nn", "the library imports torch"),
    ("keras_retrieval/layers/a.py", "def f():\n    import h5py", "the library imports h5py"),
    ("keras_retrieval/inert_files/keras_file.py", "import h5py", "the library imports h5py"),
    ("keras_retrieval/layers/a.py", "from PIL import Image", "the library imports PIL"),
    ("keras_retrieval/layers/a.py", "from keras_retrieval import losses", "the library imports keras_retrieval"),
    ("keras_retrieval/layers/a.py", "from ...pipelines import photos", "leaves its wing"),
    ("keras_retrieval/layers/a.py", "def f():\n    from pipelines import photos", "the library imports pipelines"),
    ("keras_retrieval/layers/a.py", "from ..networks.build import build", "layers may not import networks"),
    ("keras_retrieval/layers/a.py", "from ..nothing import build", "there is no module"),
    ("pipelines/photos/a.py", "import keras", "keras at the module's top"),
    (
        "pipelines/photos/a.py",
        "try:\n    import pycolmap\nexcept ImportError:\n    pass",
        "pycolmap at the module's top",
    ),
    ("pipelines/photos/a.py", "class A:\n    import h5py", "h5py at the module's top"),
    ("pipelines/photos/a.py", "def f():\n    from export import server", "by the checkout's name"),
    ("pipelines/photos/a.py", "from pipelines.photos.reader import read_photo", "by the checkout's name"),
    ("pipelines/photos/a.py", "from keras_retrieval.pipelines.photos import reader", "by its installed name"),
    ("pipelines/photos/a.py", "from ...export import report", "leaves its wing"),
    ("pipelines/photos/a.py", "from keras_retrieval.metrics import x", "may not import keras_retrieval"),
    ("pipelines/files/a.py", "from ..photos.reader import read_photo", "files may not import photos"),
    ("pipelines/files/a.py", "def f():\n    from ..photos import reader", "files may not import photos"),
    ("export/server/a.py", "from pipelines.photos.reader import read_photo", "by the checkout's name"),
    ("export/server/a.py", "from keras_retrieval.pipelines.sfm import x", "server may not import pipelines.sfm"),
    ("export/server/a.py", "from keras_retrieval.export import server", "export by its installed name"),
    ("export/server/a.py", "import scann", "scann at the module's top"),
    ("export/http/a.py", "import uvicorn", "uvicorn at the module's top"),
    ("export/http/a.py", "from .connection import Server", "which imports uvicorn, at the module's top"),
    ("export/http/connection.py", "import scann", "scann at the module's top"),
    ("export/server/a.py", "if True:\n    import tensorflow", "tensorflow at the module's top"),
    ("export/new_room/a.py", "from ..server import x", "export/new_room has no line in tests/layering.toml"),
]


def tree(root, file, source):
    """A small checkout with one file of interest."""
    for name in ("keras_retrieval/layers/gem", "keras_retrieval/losses/on_tuples", "keras_retrieval/networks/build",
                 "keras_retrieval/metrics", "pipelines/files/durable", "pipelines/photos/reader", "pipelines/sfm/x",
                 "export/server/rest", "export/contract/signatures", "export/http/connection"):  # fmt: skip
        path = root / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        (path.parent / "__init__.py").touch()
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / "__init__.py").touch()
    path.write_text(source)


@pytest.mark.parametrize(("file", "source", "reason"), BAD)
def test_an_import_that_runs_the_wrong_way_is_found(tmp_path, file, source, reason):
    tree(tmp_path, file, source)
    (found,) = violations(tmp_path)
    assert found.startswith(f"{file}:")
    assert reason in found


GOOD = [
    ("pipelines/sfm/a.py", "from keras_retrieval.metrics import x\ndef f():\n    from keras_retrieval import layers"),
    ("keras_retrieval/layers/a.py", "import os\nimport keras\nfrom numpy import linalg\nfrom .gem import GeM"),
    ("keras_retrieval/networks/a.py", "from ..layers.gem import GeM\nfrom .. import layers"),
    ("keras_retrieval/inert_files/keras_file.py", "def f():\n    import h5py"),
    ("keras_retrieval/layers/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import tensorflow"),
    ("pipelines/photos/a.py", "from ..files.durable import write_file\nfrom .reader import x\nimport typer"),
    ("pipelines/sfm/a.py", "def f():\n    import tensorflow\n    from keras_retrieval import metrics"),
    ("export/server/a.py", "from keras_retrieval.pipelines.photos.reader import x\nfrom .rest import page"),
    ("export/server/a.py", "def f():\n    import scann\n    from ..contract import signatures"),
]


@pytest.mark.parametrize(("file", "source"), GOOD)
def test_an_import_that_runs_the_right_way_passes(tmp_path, file, source):
    tree(tmp_path, file, source)
    assert violations(tmp_path) == []

"""The notebooks of the documentation run, and store results that are small and show nothing of a machine."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

from pipelines.files.durable import seal
from pipelines.samples import collection as samples
from tests.docs.pages import ROOT
from tests.helpers.small_network import draw_photo, save_network

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

execute = pytest.importorskip("docs.notebooks.execute")

# Values with which a notebook takes seconds.
SMALL = {
    "search-your-photos": {"MODEL": "small.keras"},
    "train-on-synthetic-photos": {"BUILDINGS": 5, "VIEWS": 6, "SIZE": 400, "EPOCHS": 1, "QUERIES": 6, "NEGATIVES": 2},
}
LARGEST = 400_000  # bytes


def read(path):
    return nbformat.read(path, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text_of(cell):
    """What a cell shows as text."""
    found = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "".join(found)


def test_every_notebook_is_run_and_in_the_index():
    names = {path.stem for path in execute.NOTEBOOKS}
    index = (ROOT / "docs" / "notebooks" / "index.md").read_text("utf-8")
    assert names == set(SMALL) == set(re.findall(r"^([\w-]+)$", index.partition(":maxdepth: 1")[2], re.MULTILINE))


def calls(cells):
    """The calls of functions that a notebook imports, and of methods of its collections, each with its arguments."""
    known, collections = {}, set()
    for node in (node for cell in cells for node in ast.walk(ast.parse(cell.source))):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            known |= {alias.name: getattr(module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            known |= {alias.asname or alias.name: importlib.import_module(alias.name) for alias in node.names}
        elif isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("keras_retrieval.Collection("):
            collections |= {target.id for target in node.targets}
    for node in (node for cell in cells for node in ast.walk(ast.parse(cell.source))):
        if isinstance(node, ast.Call):
            owner, _, name = ast.unparse(node.func).rpartition(".")
            if owner in collections:
                yield node, getattr(known["keras_retrieval"].Collection, name), 1
            elif owner in known and inspect.ismodule(known[owner]):
                yield node, getattr(known[owner], name), 0
            elif not owner and name in known:
                yield node, known[name], 0


@pytest.mark.parametrize("path", execute.NOTEBOOKS, ids=lambda path: path.stem)
def test_calls_have_arguments_that_exist(path):
    found = 0
    for node, function, instance in calls(code(read(path))):
        if getattr(function, "__module__", "").startswith("keras_retrieval"):
            arguments = [None] * (instance + len(node.args))
            inspect.signature(function).bind(*arguments, **{word.arg: None for word in node.keywords})
            found += 1
    assert found >= 7


@pytest.fixture
def drawn(tmp_path):
    """The folder that the first cell would draw in seven seconds, finished already, with photos of other content."""
    for number, name in enumerate(f"{scene}/{view}.png" for scene in range(4) for view in range(3)):
        draw_photo(tmp_path / "partial" / name, number // 3, number % 3, 240, 322)
    options = {"buildings": 4, "views": 3, "size": 320, "seed": 0}
    seal(tmp_path / "partial", tmp_path / "photos", kind=samples.KIND, version=samples.VERSION, options=options)


def test_own_photos_are_searched(tmp_path, drawn):
    save_network(tmp_path / "small.keras")
    cells = code(execute.execute(execute.FOLDER / "search-your-photos.ipynb", tmp_path, SMALL["search-your-photos"]))
    galleries = [cell for cell in cells if any("text/html" in output.get("data", {}) for output in cell.outputs)]
    assert len(galleries) >= 5
    assert all(output.data["text/html"].count("<img") >= 3 for cell in galleries for output in cell.outputs)
    assert (tmp_path / "state" / "index-001").is_dir()


@pytest.mark.long
def test_training_on_synthetic_photos(tmp_path):
    name = "train-on-synthetic-photos"
    cells = code(execute.execute(execute.FOLDER / f"{name}.ipynb", tmp_path, SMALL[name]))
    before, after = map(float, re.findall(r"mAP ([\d.]+) before, ([\d.]+) after", text_of(cells[-1]))[0])
    assert 0 < before <= 100
    assert 0 < after <= 100
    assert (tmp_path / "run" / "model.keras").is_file()


@pytest.mark.parametrize("path", execute.NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_results_are_those_of_a_whole_run(path):
    notebook, text = read(path), path.read_text("utf-8")
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    assert not [output for cell in code(notebook) for output in cell.outputs if output.output_type == "error"]
    assert len(text) < LARGEST
    assert not re.search(r"/(home|root|tmp|work|Users|site-packages)/|\.py:\d+", text)


@pytest.mark.parametrize("path", execute.NOTEBOOKS, ids=lambda path: path.stem)
def test_links_of_a_notebook_lead_somewhere(path):
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        assert (Path(path).parent / target).exists(), target


def test_a_parameter_that_a_notebook_does_not_have_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not all are in the cell"):
        execute.execute(execute.FOLDER / "search-your-photos.ipynb", tmp_path, {"COLOUR": 1})

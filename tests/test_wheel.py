"""The wheel, installed outside the checkout, adds one name to site-packages and its command works there."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import keras_retrieval

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("keras_retrieval", "pipelines", "export")
FILES = ("setup.py", "pyproject.toml", "README.md")


def run(*command, cwd, **environment):
    """A command's output; it runs without what the checkout and the tests' own Python put on the path."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    found = subprocess.run(
        list(map(str, command)), cwd=cwd, env={**clean, **environment}, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of the sources, so that the checkout gets no build folder."""
    pytest.importorskip("build")
    copy = tmp_path_factory.mktemp("checkout")
    for folder in SOURCES:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(ROOT / file, copy)
    # With the setuptools that is here, of whatever version: a newer one would have to be downloaded.
    here = ("--no-isolation", "--skip-dependency-check")
    run(sys.executable, "-m", "build", "--wheel", *here, "--outdir", copy / "dist", cwd=copy)
    (built,) = (copy / "dist").iterdir()
    return built


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """An empty folder that the wheel was installed in, without its dependencies."""
    folder = tmp_path_factory.mktemp("site")
    quiet = ("--quiet", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "install", *quiet, "--target", folder, wheel, cwd=folder)
    return folder


def test_the_wheel_is_of_this_version_and_for_every_machine(wheel):
    assert wheel.name == f"keras_retrieval-{keras_retrieval.__version__}-py3-none-any.whl"


def test_every_module_is_in_the_wheel_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {"keras_retrieval/py.typed", "keras_retrieval/export/search_page/LICENSE.world-atlas"}
    expected |= {
        f"keras_retrieval/export/search_page/static/{path.name}"
        for path in (ROOT / "export" / "search_page" / "static").iterdir()
    }
    expected |= {
        f"keras_retrieval/pipelines/pages/templates/{path.name}"
        for path in (ROOT / "pipelines" / "pages" / "templates").iterdir()
    }
    expected |= {f"keras_retrieval/pipelines/pages/viewer/{name}" for name in ("viewer.min.js", "LICENSE.three")}
    for folder in SOURCES:
        for path in (ROOT / folder).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            expected.add(name if folder == "keras_retrieval" else f"keras_retrieval/{name}")
    assert packed == expected


def test_the_page_is_small(wheel):
    with zipfile.ZipFile(wheel) as archive:
        files = [file for file in archive.infolist() if "/search_page/static/" in file.filename]
    assert sum(file.file_size for file in files) < 1_000_000


def test_one_name_is_added_to_site_packages(site):
    version = keras_retrieval.__version__
    assert {path.name for path in site.iterdir()} == {"keras_retrieval", f"keras_retrieval-{version}.dist-info", "bin"}


def test_the_command_works_outside_the_checkout(site, tmp_path):
    command = site / "bin" / "keras-retrieval"
    assert run(command, "--version", cwd=tmp_path, PYTHONPATH=str(site)).strip() == keras_retrieval.__version__
    assert "Usage: keras-retrieval STEP" in run(command, "--help", cwd=tmp_path, PYTHONPATH=str(site))
    assert "--scales" in run(command, "extract", "--help", cwd=tmp_path, PYTHONPATH=str(site))
    assert "--html" in run(command, "search", "--help", cwd=tmp_path, PYTHONPATH=str(site))


def test_only_keras_retrieval_can_be_imported(site, tmp_path):
    """-S keeps the tests' own site-packages, where the checkout may be installed, off the path."""
    code = """
import importlib.util, sys
sys.path.insert(0, sys.argv[1])
import keras_retrieval
assert keras_retrieval.__file__.startswith(sys.argv[1]), keras_retrieval.__file__
import keras_retrieval.pipelines, keras_retrieval.export
print([name for name in ("pipelines", "export", "tests", "bench") if importlib.util.find_spec(name)])
"""
    assert run(sys.executable, "-S", "-c", code, site, cwd=tmp_path).strip() == "[]"


def test_type_checkers_find_the_marker(site):
    assert (site / "keras_retrieval" / "py.typed").is_file()


def test_the_extras_and_the_python_are_stated(site):
    (metadata,) = site.glob("*.dist-info/METADATA")
    text = metadata.read_text(encoding="utf-8")
    for extra in ("sfm", "index", "serving", "onnx", "matlab", "all", "dev"):
        assert f"Provides-Extra: {extra}\n" in text
    (python,) = re.findall(r"^Requires-Python: (.*)$", text, re.MULTILINE)
    assert set(python.replace(" ", "").split(",")) == {">=3.11", "<3.14"}

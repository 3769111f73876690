"""examples/edge.py gives the descriptors of `extract` with only ONNX Runtime, Pillow and numpy."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.descriptors.extract import extract
from pipelines.networks.files import load_model
from pipelines.photos.reader import read_photo
from tests.helpers.small import draw, saved_network, shards

pytest.importorskip("tf2onnx")

from examples import edge
from export.onnx_file.export_onnx import export_onnx

ROOT = Path(__file__).resolve().parents[3]
EDGE = ROOT / "examples" / "edge.py"
SIZE = 64


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return export_onnx(str(saved_network(folder)), folder / "model.onnx", size=SIZE)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photos of all formats, modes and EXIF orientations, larger, smaller and tiny ones."""
    folder = tmp_path_factory.mktemp("photos")
    draw(folder / "drawn.png", 90, 140)
    picture = Image.open(folder / "drawn.png")
    picture.save(folder / "plain.jpg", quality=90)
    picture.resize((500, 311)).save(folder / "drafted.jpg", quality=90)
    picture.convert("L").save(folder / "grey.jpg", quality=90)
    picture.convert("CMYK").save(folder / "cmyk.jpg", quality=90)
    picture.convert("P").save(folder / "palette.gif")
    picture.convert("P").save(folder / "palette.png")
    clear = picture.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(picture.size))
    clear.save(folder / "clear.png")
    picture.save(folder / "lossy.webp")
    picture.resize((40, 50)).save(folder / "small.bmp")
    picture.resize((2, 3)).save(folder / "tiny.png")
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture.resize((401, 263)).save(folder / f"turned{orientation}.jpg", exif=exif)
    return sorted(folder.iterdir())


def run(python, *arguments, cwd):
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        [python, EDGE, *arguments], cwd=cwd, env=clean, capture_output=True, text=True, check=True, timeout=300
    ).stdout


def lengths(rows):
    return np.linalg.norm(rows, axis=1)


def test_its_rows_are_those_of_extract(model, photos, tmp_path):
    run(sys.executable, model, *photos, "--output", tmp_path / "rows.npy", cwd=tmp_path)
    rows = np.load(tmp_path / "rows.npy")
    folder = extract(str(model), photos[0].parent, tmp_path / "out", size=SIZE)
    names = [line.strip('"') for line in (folder / "names.txt").read_text().splitlines()]
    expected = dict(zip(names, shards(folder), strict=True))
    assert len(rows) == len(expected) == 19
    for path, row in zip(photos, rows, strict=True):
        cosine = row @ expected[path.name] / np.linalg.norm(row) / np.linalg.norm(expected[path.name])
        assert cosine >= 0.99999, path.name


def test_it_reads_the_same_pixels(photos):
    for path in photos:
        for size in (SIZE, 33, 200):
            pixels = edge.read(str(path), size, 1)[0]
            np.testing.assert_array_equal(pixels, read_photo(path, size=size), err_msg=f"{path.name} at {size}")


def test_it_reads_real_photos_as_the_reader_does(shared):
    for path in sorted((shared / "data" / "photos").rglob("*.jpg"))[::12]:
        pixels = edge.read(str(path), 362, 1)[0]
        np.testing.assert_array_equal(pixels, read_photo(path, size=362), err_msg=path.name)


def test_the_matrix_has_a_line_for_each_photo(model, photos, tmp_path):
    lines = run(sys.executable, model, *photos[:3], cwd=tmp_path).splitlines()
    network = load_model(model)
    rows = np.concatenate([network.describe(read_photo(path, size=SIZE)[None]) for path in photos[:3]])
    for line, path, similarities in zip(lines, photos, rows @ rows.T, strict=False):
        *printed, name = line.split()
        assert name == str(path)
        np.testing.assert_allclose([float(number) for number in printed], similarities, atol=1e-3)


def test_it_is_short():
    lines = EDGE.read_text().splitlines()
    assert len(lines) < 60
    imported = {line.split()[1] for line in lines if line.startswith(("import ", "from "))}
    assert imported == {"argparse", "numpy", "onnxruntime", "PIL"}


@pytest.fixture(scope="module")
def clean_python(tmp_path_factory):
    """The Python of an environment with ONNX Runtime, Pillow and numpy only."""
    uv = shutil.which("uv") or Path(sys.executable).with_name("uv")
    if not Path(uv).exists():
        pytest.skip("uv, which makes the environment, is not installed")
    folder = tmp_path_factory.mktemp("clean")
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, folder / "venv"], check=True, timeout=120)
    python = folder / "venv" / "bin" / "python"
    command = [uv, "pip", "install", "-q", "--python", python, "onnxruntime", "pillow", "numpy"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("the packages could not be had within two minutes")
    if done.returncode:
        pytest.skip(f"the packages could not be had: {done.stderr[-200:]}")
    return python


def test_it_runs_in_an_environment_of_its_own(clean_python, model, photos, tmp_path):
    missing = "import importlib.util as u; print([n for n in ('tensorflow', 'keras', 'typer') if u.find_spec(n)])"
    found = subprocess.run([clean_python, "-c", missing], capture_output=True, text=True, timeout=60)
    assert found.stdout.strip() == "[]"
    run(clean_python, model, *photos, "--output", tmp_path / "there.npy", cwd=tmp_path)
    run(sys.executable, model, *photos, "--output", tmp_path / "here.npy", cwd=tmp_path)
    here, there = np.load(tmp_path / "here.npy"), np.load(tmp_path / "there.npy")
    assert ((here * there).sum(axis=1) / lengths(here) / lengths(there)).min() >= 0.9999

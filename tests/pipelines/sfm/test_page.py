"""The page of a reconstruction."""

import base64
import re

import pytest

from pipelines.sfm.mapping import Model
from pipelines.sfm.options import ReconstructOptions
from pipelines.sfm.page import _most_points, page
from pipelines.sfm.report import make_report
from pipelines.sfm.scene import read_scene

pycolmap = pytest.importorskip("pycolmap")


def reconstruction(tmp_path, name):
    """A report of one model of four cameras and 50 points, with its files."""
    options = pycolmap.SyntheticDatasetOptions(num_rigs=1, num_cameras_per_rig=1, num_frames_per_rig=4, num_points3D=50)
    model = pycolmap.synthesize_dataset(options)
    folder = tmp_path / "models" / "x" / "0"
    folder.mkdir(parents=True)
    model.write(folder)
    assert len(read_scene(folder).centres) == 4
    found = [Model(folder, [name, "b"], 50, 200, 0.1)]
    report = make_report(
        tmp_path,
        [name, "b", "c"],
        {"c": "<damaged>"},
        {("b", name): 99},
        found,
        ReconstructOptions(tmp_path / "photos", tmp_path, min_photos=2),
    )
    return report | {"photos": "photos", "rounds": [], "seconds": {"pairs": 1.0}}


def test_the_page_escapes_names_and_shows_every_cluster(tmp_path):
    text = page(reconstruction(tmp_path, "<i>&.jpg"), tmp_path)
    assert "Cluster 0" in text
    assert "data:image/png;base64," in text
    assert "<i>" not in text
    assert "&lt;i&gt;&amp;.jpg" in text
    assert "&lt;damaged&gt;" in text


def test_large_models_are_thinned_and_the_page_says_so(tmp_path, monkeypatch):
    report = reconstruction(tmp_path, "a.jpg")
    whole = page(report, tmp_path)
    assert "drawn at random" not in whole
    monkeypatch.setattr("pipelines.sfm.page.MOST_POINTS", 20)
    text = page(report, tmp_path)
    assert "50 points (20 shown, drawn at random)" in text
    sizes = [len(base64.b64decode(re.search('"points": "([^"]*)"', html).group(1))) // 12 for html in (whole, text)]
    assert sizes == [50, 20]


@pytest.mark.parametrize(("counts", "most"), [
    ([], 100_000), ([90_000, 90_000], 100_000), ([250_000], 100_000), ([90_000] * 4, 75_000),
    ([10_000] * 10 + [300_000] * 4, 50_000),
])  # fmt: skip
def test_small_models_leave_their_share_to_large_ones(counts, most):
    assert _most_points(counts) == most
    assert sum(min(count, most) for count in counts) <= 300_000

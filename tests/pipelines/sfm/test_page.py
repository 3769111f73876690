"""The page of a reconstruction."""

import pytest

from pipelines.sfm.mapping import Model
from pipelines.sfm.options import ReconstructOptions
from pipelines.sfm.page import page
from pipelines.sfm.plan_view import read_scene
from pipelines.sfm.report import make_report

pycolmap = pytest.importorskip("pycolmap")


def test_the_page_escapes_names_and_shows_every_cluster(tmp_path):
    options = pycolmap.SyntheticDatasetOptions(num_rigs=1, num_cameras_per_rig=1, num_frames_per_rig=4, num_points3D=50)
    model = pycolmap.synthesize_dataset(options)
    folder = tmp_path / "models" / "x" / "0"
    folder.mkdir(parents=True)
    model.write(folder)
    assert len(read_scene(folder).centres) == 4
    name = "<b>&.jpg"
    found = [Model(folder, [name, "b"], 50, 200, 0.1)]
    report = make_report(
        tmp_path,
        [name, "b", "c"],
        {"c": "<damaged>"},
        {("b", name): 99},
        found,
        ReconstructOptions(tmp_path / "photos", tmp_path, min_photos=2),
    )
    report |= {"photos": "photos", "rounds": [], "seconds": {"pairs": 1.0}}
    text = page(report, tmp_path)
    assert "Cluster 0" in text
    assert "data:image/png;base64," in text
    assert "<b>" not in text
    assert "&lt;damaged&gt;" in text

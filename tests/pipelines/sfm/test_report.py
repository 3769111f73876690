"""The report of a reconstruction."""

from pipelines.sfm.mapping import Model
from pipelines.sfm.options import ReconstructOptions
from pipelines.sfm.report import make_report


def test_every_photo_left_out_has_its_reason(tmp_path):
    names = [*"abcdefgh"]
    inliers = {
        ("a", "b"): 50,
        ("b", "c"): 50,
        ("c", "d"): 30,
        ("e", "f"): 30,
        ("a", "g"): 14,
        ("g", "h"): 0,
        ("a", "z"): 90,
    }
    models = [Model(tmp_path / "models/x/0", ["a", "b", "c"], 100, 300, 0.5)]
    report = make_report(
        tmp_path,
        names,
        {"h": "damaged"},
        inliers,
        models,
        ReconstructOptions(tmp_path / "photos", tmp_path, min_photos=3),
    )
    assert report["left_out"] == {
        "h": "damaged",
        "d": "COLMAP could not place it in a model of its group",
        "e": "its group has 2 photos, and 3 are needed",
        "f": "its group has 2 photos, and 3 are needed",
        "g": "none of its 2 pairs was verified",
    }
    assert report["clusters"][0]["left_out"] == {"d": report["left_out"]["d"]}
    assert report["pairs"] == {"all": 28, "tried": 6, "verified": 4}

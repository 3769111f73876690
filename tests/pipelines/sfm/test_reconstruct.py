"""Structure from motion end to end: one small real reconstruction, killed, continued and extended."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest
from PIL import Image

from pipelines.sfm.candidate_pairs import vocabulary_pairs
from pipelines.sfm.colmap import Database, ordered
from pipelines.sfm.reconstruct import reconstruct
from tests.helpers.owned_files import replaceable

pycolmap = pytest.importorskip("pycolmap")


SCENES = {"fountain_p11": 6, "et": 5}


@pytest.fixture(scope="module")
def mixed(shared, tmp_path_factory):
    """Six photos of a fountain and five of a doll thrown together, small, and one that is broken."""
    folder = tmp_path_factory.mktemp("mixed")
    number = 0
    for scene, count in SCENES.items():
        for path in sorted((shared / "data" / "photos" / scene).glob("*.jpg"))[:count]:
            Image.open(path).resize((480, 320)).save(folder / f"photo {number:02} {scene}.jpg", quality=95)
            number += 1
    (folder / "broken.jpg").write_bytes((folder / "photo 00 fountain_p11.jpg").read_bytes()[:9000])
    return folder


RUN = """
import sys
from pathlib import Path
from pipelines.sfm.reconstruct import reconstruct
reconstruct(Path(sys.argv[1]), Path(sys.argv[2]), pairs="exhaustive", feature_count=1500)
"""


def scenes(report):
    return sorted(sorted(name.split()[-1] for name in cluster["photos"]) for cluster in report["clusters"])


def count(work, table):
    path = work / "database.db"
    if not path.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
            return database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def kill_when(photos, work, reached):
    """Starts a run and ends it by SIGKILL as soon as it got so far. Returns whether it was still running."""
    with subprocess.Popen([sys.executable, "-c", RUN, str(photos), str(work)], stdout=subprocess.DEVNULL) as run:
        while run.poll() is None and not reached():
            time.sleep(0.01)
        alive = run.poll() is None
        run.send_signal(signal.SIGKILL)
    return alive


def test_killed_three_times_it_reconstructs_two_objects(mixed, tmp_path):
    work = tmp_path / "work"
    assert kill_when(mixed, work, lambda: count(work, "descriptors") >= 1)
    found = count(work, "descriptors")
    assert kill_when(mixed, work, lambda: count(work, "two_view_geometries") >= 3)
    assert count(work, "descriptors") == 11 >= found
    tried = count(work, "two_view_geometries")
    assert kill_when(mixed, work, lambda: any((work / "models").glob("*.partial")))
    assert count(work, "two_view_geometries") == 55 >= tried
    reconstruct(mixed, work, pairs="exhaustive", feature_count=1500)
    report = json.loads((work / "report.json").read_text())
    assert not replaceable(work)
    assert scenes(report) == [["et.jpg"] * 5, ["fountain_p11.jpg"] * 6]
    assert report["same_object"] == []
    assert report["left_out"].keys() == {"broken.jpg"}
    assert not list((work / "models").glob("*.partial"))
    models = [model for cluster in report["clusters"] for model in cluster["models"]]
    for model in models:
        opened = pycolmap.Reconstruction(work / model["folder"])
        assert opened.num_reg_images() == len(model["photos"])
        assert opened.num_points3D() == model["points"] > 100
        assert opened.compute_mean_reprojection_error() < 1
    assert (work / "index.html").read_text().count("data:image/jpeg") == 11
    _run_again(mixed, work, models)
    _other_ways(mixed, work, tmp_path)


def _other_ways(photos, work, tmp_path):
    """Visual words prefer photos of the same object; the global mapper comes to the same clusters."""
    words = vocabulary_pairs(work / "database.db", [path.name for path in photos.glob("*.jpg")], 2, None)
    own = [pair for pair in words if pair[0].split()[-1] == pair[1].split()[-1]]
    assert len(own) > 0.7 * len(words) > 7
    (tmp_path / "other").mkdir()
    for name in ("database.db", "options.json", "photos.json"):
        (tmp_path / "other" / name).write_bytes((work / name).read_bytes())
    (tmp_path / "other" / "images").symlink_to(work / "images")
    reconstruct(photos, tmp_path / "other", pairs="vocabulary-tree", mapper="global", feature_count=1500)
    report = json.loads((tmp_path / "other" / "report.json").read_text())
    assert scenes(report) == [["et.jpg"] * 5, ["fountain_p11.jpg"] * 6]
    assert report["options"]["mapper"] == "global"


def _run_again(photos, work, models):
    """A second run touches neither pairs nor models; a photo that is added costs its own pairs only."""
    made = {path: path.stat().st_mtime_ns for model in models for path in (work / model["folder"]).iterdir()}
    reconstruct(photos, work, pairs="exhaustive", feature_count=1500)
    assert {path: path.stat().st_mtime_ns for path in made} == made
    pairs = Database(work / "database.db").inliers()
    added = photos / "one more.jpg"
    Image.open(photos / "photo 10 et.jpg").transpose(Image.Transpose.ROTATE_90).save(added, quality=90)
    try:
        reconstruct(photos, work, pairs="exhaustive", feature_count=1500)
    finally:
        added.unlink()
    more = Database(work / "database.db").inliers()
    assert pairs.items() <= more.items()
    assert {pair for pair in more if pair not in pairs} == {
        ordered(name, added.name) for pair in pairs for name in pair
    }
    report = json.loads((work / "report.json").read_text())
    folders = {model["folder"] for cluster in report["clusters"] for model in cluster["models"]}
    assert len(folders & {model["folder"] for model in models}) == 1
    with pytest.raises(ValueError, match="was started with --features sift --feature-count 1500"):
        reconstruct(photos, work, pairs="exhaustive")

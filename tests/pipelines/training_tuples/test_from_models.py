"""Tuples from reconstructions and from models made elsewhere."""

import json
from itertools import combinations

import numpy as np
import pytest

from pipelines.sfm.colmap import colmap_name, photo_name
from pipelines.sfm.mapping import Model
from pipelines.sfm.options import ReconstructOptions
from pipelines.sfm.report import make_report
from pipelines.training_tuples.data import TuplesError
from pipelines.training_tuples.positives import read_views
from pipelines.training_tuples.tuples import tuples as make_tuples
from tests.helpers.read_back import load, make_photos, named_pairs
from tests.helpers.small_models import write_model

pycolmap = pytest.importorskip("pycolmap")


def test_a_reconstruction_gives_clusters_and_links(tmp_path):
    names = [[f"{scene}/{number}.jpg" for number in range(6)] for scene in "abcd"]
    photos = make_photos(tmp_path / "photos", [name for some in names for name in some])
    models = [
        Model(write_model(tmp_path / "work" / "models" / f"{row}" / "0", some, row), some, 300, 900, 0.5)
        for row, some in enumerate(names)
    ]
    inliers = {pair: 50 for some in names for pair in combinations(some, 2)} | {(names[0][0], names[1][0]): 20}
    every = [name for some in names for name in some]
    report = make_report(tmp_path / "work", every, {}, inliers, models, ReconstructOptions(photos, tmp_path / "work"))
    (tmp_path / "work" / "report.json").write_text(json.dumps(report | {"photos": str(photos)}))
    fields = load(make_tuples(tmp_path / "work", tmp_path / "tuples.npz", negatives=0, validation=0.3))
    assert fields["images"].tolist() == every
    assert fields["cluster"].tolist() == [0] * 6 + [1] * 6 + [2] * 6 + [3] * 6
    assert fields["same_object"].tolist() == [[0, 1]]
    assert fields["validation"].tolist() == [False] * 12 + [True] * 12
    assert fields["version"] == 1
    assert json.loads(str(fields["about"]))["counts"]["validation"]["photos"] == 12
    assert all(query[0] == positive[0] for query, positive in named_pairs(fields))
    (photos / "a/0.jpg").unlink()
    with pytest.raises(TuplesError, match=r"1 of 24 photos do not exist: photo 0: .*photos/a/0\.jpg; --missing skip"):
        make_tuples(tmp_path / "work", tmp_path / "tuples.npz", negatives=0)


def write_database(path, every, inliers):
    """A database of COLMAP with the photos `every`, and pairs with so many verified matches."""
    with pycolmap.Database.open(path) as database:
        camera = database.write_camera(pycolmap.Camera.create_from_model_name(1, "SIMPLE_PINHOLE", 30.0, 40, 30))
        number = {}
        for name in every:
            number[name] = database.write_image(pycolmap.Image(colmap_name(name), pycolmap.Point2DList(), camera))
        for (one, other), count in inliers.items():
            geometry = pycolmap.TwoViewGeometry()
            geometry.config = int(pycolmap.TwoViewGeometryConfiguration.UNCALIBRATED)
            geometry.inlier_matches = np.repeat(np.arange(count, dtype=np.uint32)[:, None], 2, 1)
            database.write_two_view_geometry(number[one], number[other], geometry)


def test_verified_pairs_give_clusters_also_of_photos_in_no_model(tmp_path):
    every = [f"{scene}/{number} .jpg" for scene in "abc" for number in range(4)]
    photos = make_photos(tmp_path / "photos", every)
    work = tmp_path / "work"
    work.mkdir()
    inliers = {(every[0], every[1]): 40, (every[1], every[2]): 20, (every[0], every[2]): 14, (every[4], every[5]): 15}
    write_database(work / "database.db", every, inliers)
    report = make_report(work, every, {}, inliers, [], ReconstructOptions(photos, work))
    (work / "report.json").write_text(json.dumps(report | {"photos": str(photos)}))
    options = {"rule": "verified", "negatives": 0, "validation": 0, "copies": False}
    fields = load(make_tuples(work, tmp_path / "tuples.npz", **options))
    assert fields["images"].tolist() == [every[row] for row in (0, 1, 2, 4, 5)]
    assert fields["cluster"].tolist() == [0, 0, 0, 1, 1]
    rows = [(0, 1), (1, 0), (1, 2), (2, 1), (4, 5), (5, 4)]
    assert sorted(named_pairs(fields)) == sorted((every[one], every[other]) for one, other in rows)
    fields = load(make_tuples(work, tmp_path / "tuples.npz", positives=1, **options))
    rows = [(0, 1), (1, 0), (2, 1), (4, 5), (5, 4)]  # the one with most inliers
    assert sorted(named_pairs(fields)) == sorted((every[one], every[other]) for one, other in rows)
    (work / "database.db").unlink()
    with pytest.raises(TuplesError, match=r"database\.db does not exist, in which"):
        make_tuples(work, tmp_path / "tuples.npz", **options)
    write_model(tmp_path / "models" / "0", every, 1)
    with pytest.raises(TuplesError, match="--rule verified needs a folder that `keras-retrieval reconstruct` made"):
        make_tuples(tmp_path / "models", tmp_path / "tuples.npz", **options)


def test_models_made_elsewhere_that_share_a_photo_become_one_cluster(tmp_path):
    one = [f"{number}.jpg" for number in range(8)]
    write_model(tmp_path / "models" / "0", one, 1)
    write_model(tmp_path / "models" / "1", [*one[:2], "x.jpg", "y.jpg", "z.jpg"], 2)
    write_model(tmp_path / "models" / "2", ["k.jpg", "l.jpg", "m.jpg"], 3)
    fields = load(make_tuples(tmp_path / "models", tmp_path / "t.npz", negatives=1, validation=0, shared=0.01))
    assert sorted(fields["images"]) == sorted([*one, "x.jpg", "y.jpg", "z.jpg", "k.jpg", "l.jpg", "m.jpg"])
    assert np.unique(fields["cluster"], return_counts=True)[1].tolist() == [11, 3]
    near = fields["camera_neighbours"]
    assert near.shape == (14, 7)
    rows = {str(name): row for row, name in enumerate(fields["images"])}
    assert {str(fields["images"][row]) for row in near[rows["k.jpg"]] if row >= 0} == {"l.jpg", "m.jpg"}
    assert set(near[rows["0.jpg"]].tolist()) == {rows[name] for name in one if name != "0.jpg"}


def test_names_of_photos_are_those_of_a_model_made_elsewhere(tmp_path):
    names = [f"{number}%20a.jpg" for number in range(8)]
    write_model(tmp_path / "models" / "0", names, 1)
    fields = load(make_tuples(tmp_path / "models", tmp_path / "t.npz", negatives=0, shared=0.01))
    assert fields["images"].tolist() == names
    views = read_views(tmp_path / "models" / "0", photo_name)
    assert views.names == [f"{number} a.jpg" for number in range(8)]


def without_points(folder, names):
    """A model with the poses of `write_model` and no points."""
    model = pycolmap.Reconstruction(write_model(folder, names))
    model.delete_all_points2D_and_points3D()
    model.write(folder)
    return folder


def in_text(folder):
    """Writes a model as text in place of binary files."""
    model = pycolmap.Reconstruction(folder)
    for path in folder.iterdir():
        path.unlink()
    model.write_text(folder)


def test_models_that_cannot_be_used_are_named_and_cost_only_themselves(tmp_path, caplog):
    source = tmp_path / "models"
    names = [f"my photo {number}.jpg" for number in range(8)]
    in_text(write_model(source / "0", names, 1))
    pycolmap.Reconstruction().write(write_model(source / "1", ["x.jpg"]))
    in_text(without_points(source / "2", ["k l.jpg", "m n.jpg"]))
    (source / "3").mkdir()
    fields = load(make_tuples(source, tmp_path / "t.npz", negatives=1, validation=0, shared=0.01))
    assert fields["images"].tolist() == [*names, "k l.jpg", "m n.jpg"]
    assert fields["cluster"].tolist() == [0] * 8 + [1] * 2
    assert max(fields["qidxs"]) < 8
    assert "models/1 has no registered image and is left out: remove the folder" in caplog.text
    assert "models/2 has no 2D points of 3D points, from which --rule m3 chooses" in caplog.text
    assert "its 2 photos are only negatives of others" in caplog.text
    assert "models/3 is an empty folder and no model" in caplog.text


def test_models_of_which_none_can_be_used_are_an_error(tmp_path):
    pycolmap.Reconstruction().write(write_model(tmp_path / "empty", ["x.jpg"]))
    with pytest.raises(TuplesError, match=r"no photo is in its models: the first is .*empty; give models with"):
        make_tuples(tmp_path / "empty", tmp_path / "t.npz", negatives=0)
    without_points(tmp_path / "pointless", ["a.jpg", "b.jpg", "c.jpg"])
    with pytest.raises(TuplesError, match=r"pointless has no 2D points .*: use --rule m1 .*point_triangulator"):
        make_tuples(tmp_path / "pointless", tmp_path / "t.npz", negatives=0)
    write_model(tmp_path / "damaged/0", ["a.jpg", "b.jpg"])
    (tmp_path / "damaged/0/images.bin").unlink()
    with pytest.raises(TuplesError, match=r"damaged/0 is not a whole COLMAP model, it lacks images\.bin"):
        make_tuples(tmp_path / "damaged", tmp_path / "t.npz", negatives=0)


def test_paths_of_windows_are_found_among_the_photos(tmp_path, caplog):
    names = [f"my house/{number}.jpg" for number in range(6)]
    photos = make_photos(tmp_path / "photos", names)
    windows = [f"C:\\Users\\me\\photos\\{name}".replace("/", "\\") for name in names]
    write_model(tmp_path / "models/0", [*windows, "C:\\gone.jpg"], 1)
    with pytest.raises(TuplesError, match=r"models/0: the image 'C:\\Users.*' is not a path below .*: give --photos"):
        make_tuples(tmp_path / "models", tmp_path / "t.npz", negatives=0, shared=0.01)
    path = make_tuples(tmp_path / "models", tmp_path / "t.npz", negatives=0, shared=0.01, photos=photos)
    assert load(path)["images"].tolist() == names
    assert "models: 1 of its images are no photo and are left out: C:\\gone.jpg" in caplog.text
    other = make_photos(tmp_path / "other", ["z.jpg"])
    with pytest.raises(TuplesError, match=r"no photo is in its models.*--photos, which is now .*other"):
        make_tuples(tmp_path / "models", tmp_path / "t.npz", negatives=0, photos=other)


def test_observations_of_points_that_the_model_lacks_are_ignored(tmp_path):
    in_text(write_model(tmp_path / "0", ["a.jpg", "b.jpg", "c.jpg"]))
    for name in ("rigs", "frames"):
        (tmp_path / "0" / f"{name}.txt").unlink()
    lines = (tmp_path / "0/points3D.txt").read_text().splitlines(keepends=True)
    (tmp_path / "0/points3D.txt").write_text("".join(lines[:3] + lines[13:-10]))
    views = read_views(tmp_path / "0")
    full = len(lines) - 3
    assert views.point_count == full - 20
    assert max(map(max, views.points)) < views.point_count


def test_photos_verified_with_no_other_are_added_as_clusters_of_their_own(tmp_path):
    every = [f"{number}.jpg" for number in range(20)]
    photos = make_photos(tmp_path / "photos", every)
    work = tmp_path / "work"
    placed = every[:6]
    models = [Model(write_model(work / "models" / "0" / "0", placed, 0), placed, 300, 900, 0.5)]
    inliers = dict.fromkeys(combinations(placed, 2), 50)
    inliers |= {(every[6], every[7]): 40, (every[0], every[8]): 14, (every[9], every[10]): 0}
    write_database(work / "database.db", every, inliers)  # 11 and all after it were matched with none
    report = make_report(work, every, {}, inliers, models, ReconstructOptions(photos, work))
    (work / "report.json").write_text(json.dumps(report | {"photos": str(photos)}))
    options = {"negatives": 0, "validation": 0, "copies": False}
    for rule, numbers, cluster in (
        ("m3", [*range(6), 10, 8, 9], [0] * 6 + [1, 2, 3]),
        ("verified", [*range(8), 10, 8, 9], [0] * 6 + [1, 1, 2, 3, 4]),
    ):
        fields = load(make_tuples(work, tmp_path / "tuples.npz", rule=rule, singletons=True, **options))
        assert sorted(fields["images"].tolist()) == sorted(every[number] for number in numbers)
        of = dict(zip(fields["images"].tolist(), fields["cluster"].tolist(), strict=True))
        assert [of[every[number]] for number in numbers] == cluster
        assert fields["cluster"][fields["qidxs"]].max() < 2
        plain = load(make_tuples(work, tmp_path / "plain.npz", rule=rule, **options))
        assert plain["images"].tolist() == fields["images"].tolist()[: len(plain["images"])]
        for name in plain.keys() & {"qidxs", "pidxs", "camera_neighbours", "shared"}:
            np.testing.assert_array_equal(fields[name][: len(plain[name])], plain[name])
            assert name != "camera_neighbours" or (len(fields[name]) == len(fields["images"]))
    report = make_report(work, every, {}, inliers, [], ReconstructOptions(photos, work))
    (work / "report.json").write_text(json.dumps(report | {"photos": str(photos)}))
    with pytest.raises(TuplesError, match="there are 3 photos and 0 pairs: nothing to learn from"):
        make_tuples(work, tmp_path / "tuples.npz", singletons=True, **options)
    with pytest.raises(TuplesError, match=r"--singletons needs a folder that reconstruct made, and .* contains 3D mod"):
        make_tuples(write_model(tmp_path / "models" / "0", every, 1).parent, tmp_path / "tuples.npz", singletons=True)

"""The rules m1, m2 and m3 against a count from points3D by hand."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.training_tuples.options import TuplesOptions
from pipelines.training_tuples.positives import camera_neighbours, choose_positives, read_views
from pipelines.training_tuples.tuples import tuples as make_tuples
from tests.helpers.small_models import write_model

pycolmap = pytest.importorskip("pycolmap")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "0", [f"{number:02}.jpg" for number in range(14)])


def options(**changes):
    return TuplesOptions(Path("model"), Path("tuples.npz"), **changes)


def by_hand(folder):
    """Per ordered pair of names: the share of the first one's points, and the change of scale, from points3D."""
    model = pycolmap.Reconstruction(folder)
    sees = {image: {} for image in model.reg_image_ids()}
    for number, point in model.points3D.items():
        for element in point.track.elements:
            image = model.images[element.image_id]
            depth = (image.cam_from_world() * point.xyz)[2]
            camera = model.cameras[image.camera_id]
            scale = camera.params[0] / max(camera.width, camera.height) / depth
            sees[element.image_id][number] = scale
    found = {}
    for query, points in sees.items():
        for other, others in sees.items():
            common = points.keys() & others.keys()
            if query != other and common:
                middle = np.median([others[point] / points[point] for point in common])
                names = model.images[query].name, model.images[other].name
                found[names] = len(common) / len(points), max(middle, 1 / middle)
    return found


def test_m3_shares_points_at_a_similar_scale(model, tmp_path):
    path = make_tuples(model, tmp_path / "tuples.npz", positives=99, negatives=0)
    truth = by_hand(model)
    with np.load(path, allow_pickle=False) as file:
        images = file["images"].tolist()
        pairs = [(images[q], images[p]) for q, p in zip(file["qidxs"], file["pidxs"], strict=True)]
        shared, change = file["shared"], file["scale_change"]
    assert set(pairs) == {pair for pair, (share, ratio) in truth.items() if share >= 0.2 and ratio <= 1.5}
    assert 10 < len(pairs) < len(truth)
    assert sum(share < 0.2 for share, _ in truth.values()) > 3 < sum(ratio > 1.5 for _, ratio in truth.values())
    np.testing.assert_allclose(shared, [truth[pair][0] for pair in pairs], rtol=1e-6)
    np.testing.assert_allclose(change, [truth[pair][1] for pair in pairs], rtol=1e-6)


@pytest.mark.parametrize(("shared", "scale_change"), [(0.6, 1.5), (0.2, 1.1), (0.05, 9)])
def test_the_thresholds_of_m3_are_options(model, shared, scale_change):
    views = read_views(model)
    found = choose_positives(
        views, options(cameras=99, shared=shared, scale_change=scale_change, positives=99), np.random.default_rng(0)
    )
    truth = by_hand(model)
    expected = {pair for pair, (share, ratio) in truth.items() if share >= shared and ratio <= scale_change}
    assert {(views.names[pair.query], views.names[pair.positive]) for pair in found} == expected


def test_m2_takes_most_shared_points(model):
    views = read_views(model)
    truth = by_hand(model)
    for pair in choose_positives(views, options(rule="m2", cameras=99, positives=1), np.random.default_rng(0)):
        query = views.names[pair.query]
        most = max(share for (one, _), (share, _) in truth.items() if one == query)
        assert pair.shared == pytest.approx(most)


def test_m1_takes_the_nearest_descriptor_of_the_nearest_cameras(model):
    views = read_views(model)
    rng = np.random.default_rng(1)
    rows = {name: row / np.linalg.norm(row) for name, row in zip(views.names, rng.normal(size=(14, 8)), strict=True)}
    chosen = choose_positives(views, options(rule="m1", cameras=4, positives=1), rng, rows)
    assert len(chosen) == 14
    for pair in chosen:
        distance = np.linalg.norm(views.centres - views.centres[pair.query], axis=1)
        near = [row for row in np.argsort(distance) if row != pair.query][:4]
        assert pair.positive == max(near, key=lambda row: rows[views.names[row]] @ rows[views.names[pair.query]])
    with pytest.raises(ValueError, match=r"1 have none, the first: 00\.jpg"):
        choose_positives(views, options(rule="m1"), rng, {name: row for name, row in rows.items() if name != "00.jpg"})


def test_m3_is_random_and_repeatable(model):
    views = read_views(model)
    rule = options(positives=1)
    runs = [choose_positives(views, rule, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert len(runs[0]) == len({pair.query for pair in runs[0]})


def test_camera_neighbours_equal_a_sort():
    centres = np.random.default_rng(0).normal(size=(9, 3))
    found = camera_neighbours(centres, 3)
    for row in range(9):
        order = sorted(range(9), key=lambda other: np.linalg.norm(centres[other] - centres[row]))
        assert found[row].tolist() == order[1:4]
    assert camera_neighbours(centres[:2], 100).tolist() == [[1], [0]]

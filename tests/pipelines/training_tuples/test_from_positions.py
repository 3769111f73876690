"""Tuples from positions: near photos, queries and positives, against plain loops."""

import numpy as np
import pytest

from pipelines.training_tuples.file import read_tuples
from pipelines.training_tuples.tuples import tuples as make_tuples
from tests.helpers.small import draw


def spots(seed=0, count=60, length=600):
    """Positions along a street, some photos at one spot."""
    rng = np.random.default_rng(seed)
    positions = np.column_stack([rng.uniform(0, length, count), rng.uniform(0, 8, count)]).round(2)
    positions[5:9] = positions[5]
    return positions


def table(path, names, positions):
    rows = [f"{name},{east},{north}" for name, (east, north) in zip(names, positions.tolist(), strict=True)]
    path.write_text("\n".join(["photo,east,north", *rows]))
    return path


def test_all_photos_within_ten_metres_are_positives_and_all_beyond_twenty_five_negatives(tmp_path):
    positions = spots()
    names = [f"{row}.jpg" for row in range(60)]
    source = table(tmp_path / "places.csv", names, positions)
    tuples = read_tuples(make_tuples(source, tmp_path / "tuples.npz", validation=0))
    apart = np.linalg.norm(positions[:, None] - positions[None], axis=2)
    positives = set(zip(tuples.qidxs.tolist(), tuples.pidxs.tolist(), strict=True))
    assert positives == {tuple(pair) for pair in np.argwhere((apart <= 10) & ~np.eye(60, dtype=bool)).tolist()}
    links = {tuple(pair) for pair in tuples.same_object.tolist()}
    cluster = tuples.cluster.tolist()
    for one in range(60):
        for other in range(60):
            barred = cluster[one] == cluster[other] or tuple(sorted((cluster[one], cluster[other]))) in links
            assert barred == (apart[one, other] <= 25)
    assert len(set(cluster[5:9])) == 1
    few = read_tuples(make_tuples(source, tmp_path / "few.npz", validation=0, positives=2))
    for query in range(60):
        wanted = sorted(few_of(tuples, query), key=lambda row: apart[query, row])[:2]
        found = few_of(few, query)
        np.testing.assert_allclose(apart[query, found], apart[query, wanted])


def few_of(tuples, query):
    return tuples.pidxs[tuples.qidxs == query].tolist()


def test_positions_in_names_of_photos_are_read_and_queries_ask_the_database(tmp_path):
    positions = spots(1, 24, 120)
    names = [f"@{355000 + east}@{5700000 + north}@17@T@@@@{row}@.png" for row, (east, north) in enumerate(positions)]
    names = [f"{'queries' if row % 3 == 0 else 'database'}/{name}" for row, name in enumerate(names)]
    for row, name in enumerate(names):
        draw(tmp_path / "photos" / name, 20, 30, seed=row)
    tuples = read_tuples(make_tuples(tmp_path / "photos", tmp_path / "tuples.npz", validation=0))
    assert sorted(tuples.images) == sorted(names)
    assert {tuples.images[row].split("/")[0] for row in tuples.qidxs} == {"queries"}
    assert {tuples.images[row].split("/")[0] for row in tuples.pidxs} == {"database"}
    rows = [names.index(name) for name in tuples.images]
    apart = np.linalg.norm(positions[rows][:, None] - positions[rows][None], axis=2)
    asks = np.array(rows) % 3 == 0
    assert len(tuples.qidxs) == ((apart <= 10) & asks[:, None] & ~asks).sum() > 5


@pytest.mark.parametrize("wrong", ["@1@x@a@.png", "plain.png"])
def test_a_name_without_a_position_among_others_is_named(tmp_path, wrong):
    for name in ("database/@1@2@a@.png", "queries/@1@2@b@.png", f"queries/{wrong}"):
        draw(tmp_path / "photos" / name, 20, 30)
    with pytest.raises(ValueError, match=rf"{wrong}: no position in the name"):
        make_tuples(tmp_path / "photos", tmp_path / "tuples.npz", negatives=0)

"""Tuples from descriptors alone: names, lists and links in the file, and the stream reads it."""

import json

import numpy as np
import pytest

from pipelines.descriptors.folder import KIND, VERSION
from pipelines.files.durable import partial_of, seal, write_array, write_names
from pipelines.training_tuples.file import read_tuples
from pipelines.training_tuples.tuples import tuples as make_tuples
from tests.keras_retrieval.mining.test_manifolds import curves


@pytest.fixture
def described(tmp_path):
    rows, curve = curves(3, 40)
    names = [f"{number}/{row:03}.jpg" for row, number in enumerate(curve)]
    partial = partial_of(tmp_path / "descriptors")
    partial.mkdir()
    write_array(partial / "descriptors-0.npy", rows[:70])
    write_array(partial / "descriptors-1.npy", rows[70:])
    write_names(partial / "names.txt", names)
    return seal(partial, tmp_path / "descriptors", kind=KIND, version=VERSION)


OPTIONS = {"manifold": True, "neighbours": 4, "alike": 10, "unlike": 40, "anchors": "all", "validation": 0}


def test_pairs_are_of_one_curve_and_lists_of_others(described, tmp_path):
    path = make_tuples(described, tmp_path / "tuples.npz", **OPTIONS)
    tuples = read_tuples(path)
    curve = np.array([name.split("/")[0] for name in tuples.images])
    assert len(tuples.qidxs) > 100
    assert (curve[tuples.qidxs] == curve[tuples.pidxs]).mean() > 0.95
    queries = np.unique(tuples.qidxs)
    assert np.flatnonzero((tuples.negatives >= 0).any(axis=1)).tolist() == queries.tolist()
    place, rank = np.nonzero(tuples.negatives >= 0)
    assert (curve[place] != curve[tuples.negatives[place, rank]]).mean() > 0.98
    used = {*tuples.qidxs.tolist(), *tuples.pidxs.tolist(), *tuples.negatives[tuples.negatives >= 0].tolist()}
    assert used == set(range(len(tuples.images)))
    with np.load(path) as file:
        options = json.loads(str(file["about"]))["options"]
    assert {key: options[key] for key in ("neighbours", "alike", "unlike", "anchors")} == {
        "neighbours": 4, "alike": 10, "unlike": 40, "anchors": "all",
    }  # fmt: skip


def test_the_maxima_of_the_graph_are_fewer_and_positives_are_limited(described, tmp_path):
    every = read_tuples(make_tuples(described, tmp_path / "all.npz", **OPTIONS))
    maxima = OPTIONS | {"anchors": "maxima", "positives": 1}
    few = read_tuples(make_tuples(described, tmp_path / "few.npz", **maxima))
    assert ((few.negatives >= 0).sum(axis=1)[few.qidxs] >= 5).all()
    assert 3 < len(few.qidxs) == len(set(few.qidxs.tolist())) < len(set(every.qidxs.tolist())) / 2


def test_a_looser_graph_leaves_fewer_negatives_and_the_same_positives(described, tmp_path):
    one, other = (
        read_tuples(make_tuples(described, tmp_path / f"{loose}.npz", **OPTIONS | {"loose": loose}))
        for loose in (None, 8)
    )
    counts, pairs = [], []
    for tuples in (one, other):
        counts.append({tuples.images[row]: (tuples.negatives[row] >= 0).sum() for row in np.unique(tuples.qidxs)})
        pairs.append({(tuples.images[q], tuples.images[p]) for q, p in zip(tuples.qidxs, tuples.pidxs, strict=True)})
    assert pairs[1] <= pairs[0]
    assert all(counts[1][name] <= counts[0][name] for name in counts[1])
    assert sum(counts[1].values()) < sum(counts[0].values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alike": 0}, "--alike must be at least 1, got 0"),
        ({"anchors": "some"}, "--anchors must be one of maxima, all, got some"),
        ({"neighbours": 0}, "--neighbours must be at least 1, got 0"),
        ({"loose": -1}, "--loose must be at least 1, got -1"),
        ({"alike": 500, "unlike": 500}, "not one has a positive and 5 negatives: lower --alike 500"),
        ({"loose": 0}, "--loose must be at least 1, got 0"),
    ],
)
def test_options_that_yield_no_tuples_are_named(described, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        make_tuples(described, tmp_path / "tuples.npz", **OPTIONS | changes)
    assert not (tmp_path / "tuples.npz").exists()


def test_a_row_that_is_not_finite_is_named(described, tmp_path):
    rows = np.load(described / "descriptors-1.npy")
    rows[5] = np.nan
    np.save(described / "descriptors-1.npy", rows)
    with pytest.raises(ValueError, match="row 75 contains NaN"):
        make_tuples(described, tmp_path / "tuples.npz", **OPTIONS)


def test_descriptors_are_no_source_without_the_option_nor_photos_with_it(described, tmp_path):
    with pytest.raises(ValueError, match="--manifold"):
        make_tuples(described, tmp_path / "tuples.npz")
    with pytest.raises(ValueError, match="manifest"):
        make_tuples(tmp_path, tmp_path / "tuples.npz", manifold=True)

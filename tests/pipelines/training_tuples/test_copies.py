import json

import numpy as np
import pytest

from keras_retrieval.errors import ArgumentError
from keras_retrieval.mining.hard_negatives import mine_negatives
from pipelines.training_tuples.copies import MOST_OBJECTS, separate_copies
from pipelines.training_tuples.data import Tuples, TuplesError
from pipelines.training_tuples.file import read_tuples
from pipelines.training_tuples.tuples import tuples as make_tuples
from tests.helpers.copied_photos import CHANGES, save, scene
from tests.helpers.read_back import load, named_pairs


@pytest.fixture
def photos(tmp_path):
    """Eight objects of three photos each; one photo of object 0 has a copy in it and one in object 1."""
    for seed in range(24):
        save(tmp_path / "photos", f"{seed // 3}/{seed}.jpg", scene(seed, 160, 120), quality=92)
    save(tmp_path / "photos", "0/copy.jpg", CHANGES["resized"](scene(0, 160, 120)), quality=80)
    save(tmp_path / "photos", "1/copy.jpg", CHANGES["cropped"](scene(0, 160, 120)), quality=80)
    return tmp_path / "photos"


def links(fields):
    images = fields["images"].tolist()
    top = {int(number): images[row].split("/")[0] for row, number in enumerate(fields["cluster"])}
    return {tuple(sorted((top[one], top[other]))) for one, other in fields["same_object"].tolist()}


def test_copies_are_neither_positives_nor_negatives(photos, tmp_path, capsys):
    fields = load(make_tuples(photos, tmp_path / "t.npz", positives=2, negatives=3))
    pairs = named_pairs(fields)
    assert not {("0/0.jpg", "0/copy.jpg"), ("0/copy.jpg", "0/0.jpg")} & set(pairs)
    # Each query has as many positives as without copies: others are chosen in their place.
    assert {query: sum(one == query for one, _ in pairs) for query in fields["images"].tolist()} == dict.fromkeys(
        fields["images"].tolist(), 2
    )
    assert links(fields) == {("0", "1")}
    assert np.unique(fields["copies"], return_counts=True)[1].tolist() == [23, 3]
    assert "3 photos are copies of 1, and neither positives nor negatives" in capsys.readouterr().out


def test_without_the_search_copies_become_pairs(photos, tmp_path, capsys):
    fields = load(make_tuples(photos, tmp_path / "t.npz", positives=3, negatives=3, copies=False))
    assert ("0/0.jpg", "0/copy.jpg") in named_pairs(fields)
    assert links(fields) == set()
    assert "copies" not in fields
    assert "copies of" not in capsys.readouterr().out


def test_groups_come_from_a_file(photos, tmp_path):
    groups = [{"photos": [{"name": "2/6.jpg"}, {"name": "3/9.jpg"}]}]
    (tmp_path / "duplicates.json").write_text(json.dumps({"version": 1, "groups": groups}))
    fields = load(make_tuples(photos, tmp_path / "t.npz", negatives=3, duplicates=tmp_path))
    assert links(fields) == {("2", "3")}
    with pytest.raises(ArgumentError, match="--no-copies"):
        make_tuples(photos, tmp_path / "t.npz", duplicates=tmp_path, copies=False)


def test_a_table_of_pairs_loses_those_of_copies(photos, tmp_path, capsys):
    rows = ["query,positive", "0/0.jpg,0/copy.jpg", "0/0.jpg,0/1.jpg", "1/3.jpg,1/4.jpg", "2/6.jpg,2/7.jpg"]
    (tmp_path / "pairs.csv").write_text("\n".join(rows) + "\n")
    options = {"negatives": 1, "validation": 0}
    fields = load(make_tuples(tmp_path / "pairs.csv", tmp_path / "t.npz", photos=photos, **options))
    assert ("0/0.jpg", "0/copy.jpg") not in named_pairs(fields)
    assert len(fields["qidxs"]) == 3
    load(make_tuples(tmp_path / "pairs.csv", tmp_path / "t.npz", **options))
    assert "not searched for copies of photos: give --photos" in capsys.readouterr().out


def test_pairs_of_copies_alone_are_an_error(photos, tmp_path):
    (tmp_path / "pairs.csv").write_text("query,positive\n0/0.jpg,0/copy.jpg\n")
    with pytest.raises(TuplesError, match="all 1 pairs are of copies of one photo"):
        make_tuples(tmp_path / "pairs.csv", tmp_path / "t.npz", photos=photos, negatives=0)


def test_a_placeholder_in_many_objects_does_not_link_them(photos, tmp_path, capsys):
    for number in range(MOST_OBJECTS + 1):
        save(photos, f"{number}/missing.png", scene(999, 100, 100))
    path = make_tuples(photos, tmp_path / "t.npz", negatives=3)
    assert links(load(path)) == {("0", "1")}
    assert not any("missing" in name for pair in named_pairs(load(path)) for name in pair)
    assert f"{MOST_OBJECTS + 1} photos are in no pair" in capsys.readouterr().out
    read_tuples(path)


def test_no_negative_is_a_copy_of_a_photo_that_is_none():
    rng = np.random.default_rng(0)
    for _ in range(200):
        count, clusters = 14, 7
        cluster, group = rng.integers(0, clusters, count), rng.integers(-6, 3, count)
        group[group < 0] = -1
        same = rng.integers(0, clusters, (2, 2))
        pairs = np.argwhere((cluster[:, None] == cluster) & ~np.eye(count, dtype=bool))
        if not len(pairs):
            continue
        tuples = Tuples(
            [str(row) for row in range(count)], cluster, pairs[:, 0], pairs[:, 1], same[same[:, 0] < same[:, 1]]
        )
        try:
            made, _ = separate_copies(tuples, group)
        except TuplesError:
            continue
        copy = ((group[:, None] == group) & (group >= 0)) | np.eye(count, dtype=bool)
        linked = cluster[:, None] == cluster
        for one, other in tuples.same_object.tolist():
            linked |= ((cluster[:, None] == one) & (cluster == other)) | (
                (cluster[:, None] == other) & (cluster == one)
            )
        barred = copy @ linked @ copy  # photos that are copies of photos that are no negatives of each other
        assert not copy[made.qidxs, made.pidxs].any()
        rows = rng.standard_normal((count, 8)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        for query in range(count):
            free = (
                len(np.unique(made.cluster))
                - 1
                - len(made.same_object[(made.same_object == made.cluster[query]).any(1)])
            )
            if free:
                chosen, _ = mine_negatives(
                    rows[query : query + 1], made.cluster[query : query + 1], rows, made.cluster, free,
                    same_object=made.same_object,
                )  # fmt: skip
                assert not barred[query, chosen[0]].any()

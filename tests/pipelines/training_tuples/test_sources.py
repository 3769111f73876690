"""The kind of each source; published pickles and folders of objects."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from pipelines.photos.formats import PhotoFolderError
from pipelines.photos.object_folders import ObjectFoldersError
from pipelines.training_tuples.data import TuplesError
from pipelines.training_tuples.tuples import tuples as make_tuples
from tests.helpers.faulty_storage import faulty_storage, upload
from tests.helpers.read_back import load, make_photos, named_pairs


@pytest.fixture
def published(tmp_path):
    """A file in the form of retrieval-SfM-120k.pkl."""
    rng = np.random.default_rng(0)

    def part(letter, clusters, first):
        cluster = np.repeat(np.arange(clusters) + first, 4)
        cids = [f"{letter}{number:031x}" for number in range(len(cluster))]
        pairs = [(q, p) for q in range(len(cids)) for p in range(len(cids)) if q != p and cluster[q] == cluster[p]]
        pairs = [pairs[row] for row in rng.permutation(len(pairs))[:30]]
        return {
            "cids": cids,
            "cluster": cluster.tolist(),
            "qidxs": [q for q, _ in pairs],
            "pidxs": [p for _, p in pairs],
        }

    return {"train": part("a", 8, 10), "val": part("b", 3, 10)}, tmp_path / "retrieval-SfM-120k.pkl"


@pytest.mark.parametrize("protocol", [2, 4])
def test_the_published_pickle(published, tmp_path, protocol):
    content, path = published
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    fields = load(make_tuples(path, tmp_path / "tuples.npz"))
    train, val = content["train"], content["val"]
    cid = train["cids"][17]
    assert fields["images"][17] == f"ims/{cid[-2:]}/{cid[-4:-2]}/{cid[-6:-4]}/{cid}"
    assert fields["validation"].tolist() == [False] * 32 + [True] * 12
    assert len(np.unique(fields["cluster"])) == 11
    assert fields["qidxs"].tolist() == [*train["qidxs"], *(row + 32 for row in val["qidxs"])]
    assert fields["pidxs"].tolist() == [*train["pidxs"], *(row + 32 for row in val["pidxs"])]


def test_the_published_whitening_pickle_has_no_clusters(tmp_path):
    path = tmp_path / "retrieval-SfM-120k-whiten.pkl"
    content = {"cids": [f"{row:032x}" for row in range(6)], "qidxs": np.array([0, 1, 3]), "pidxs": np.array([1, 2, 4])}
    path.write_bytes(pickle.dumps(content))
    fields = load(make_tuples(path, tmp_path / "tuples.npz", negatives=2, validation=0))
    assert fields["cluster"].tolist() == [0, 0, 0, 1, 1, 2]


def test_a_row_of_a_pickle_that_is_out_of_range_is_named(published, tmp_path):
    content, path = published
    content["val"]["pidxs"][7] = 12
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(TuplesError, match="val: pidxs 7 is 12, but there are 12 images"):
        make_tuples(path, tmp_path / "tuples.npz")


def test_a_pickle_is_not_executed(tmp_path):
    path = tmp_path / "evil.pkl"
    path.write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "owned").encode() + b"'\ntR.")
    with pytest.raises(ValueError, match="cannot be read"):
        make_tuples(path, tmp_path / "tuples.npz")
    assert not (tmp_path / "owned").exists()


def test_a_folder_for_each_object(tmp_path):
    names = [f"{scene}/{number}.jpg" for scene in ("a", "b/c", "d", "e") for number in range(4)]
    photos = make_photos(tmp_path / "photos", names)
    fields = load(make_tuples(photos, tmp_path / "tuples.npz", positives=2, negatives=1, validation=0.3))
    assert fields["images"].tolist() == sorted(names)
    assert len(fields["qidxs"]) == 32
    assert all(query.rsplit("/", 1)[0] == positive.rsplit("/", 1)[0] for query, positive in named_pairs(fields))
    assert fields["validation"].sum() == 8  # two objects, each the other's negatives
    with pytest.raises(ObjectFoldersError, match="has no sub-folders with photos"):
        make_tuples(make_photos(tmp_path / "flat", ["a.jpg", "b.jpg"]), tmp_path / "tuples.npz")


def test_photos_at_an_address_make_the_tuples_of_a_local_folder(tmp_path, monkeypatch, caplog, capsys):
    caplog.set_level("INFO")
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", str(tmp_path / "cache"))
    names = [f"{scene}/{number}.jpg" for scene in "abcd" for number in range(3)]
    photos, place = make_photos(tmp_path / "photos", names), Path("faulty://bucket/photos")
    (photos / "b" / "copy.jpg").write_bytes((photos / "a" / "0.jpg").read_bytes())
    (tmp_path / "pairs.csv").write_text("query,positive\na/0.jpg,a/1.jpg\nb/0.jpg,b/1.jpg\nc/0.jpg,gone.jpg\n")
    options = {"negatives": 1, "validation": 0}
    local = [make_tuples(photos, tmp_path / "1.npz", **options)]
    local += [make_tuples(tmp_path / "pairs.csv", tmp_path / "2.npz", photos=photos, **options)]
    with faulty_storage(monkeypatch) as faults:
        upload(photos, "bucket/photos")
        faults.every, faults.outage = 5, (0.0, 60.0)
        there = [make_tuples(place, tmp_path / "3.npz", **options)]
        there += [make_tuples(tmp_path / "pairs.csv", tmp_path / "4.npz", photos=place, **options)]
        with pytest.raises(PhotoFolderError, match="faulty://bucket/nothing does not exist"):
            make_tuples("faulty://bucket/nothing", tmp_path / "5.npz")
    assert "faulty://bucket/photos: 4 objects" in caplog.text
    assert "faulty:/b" not in caplog.text + capsys.readouterr().out
    for one, other in zip(map(load, local), map(load, there), strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[field], other[field]) for field in one.keys() - {"about"})
    assert load(there[0])["copies"].max() == 0


def test_folders_that_are_no_objects_are_refused_unless_the_option_says_so(tmp_path, caplog):
    names = [f"{folder}/{number}.jpg" for folder in ("database", "queries") for number in range(4)]
    photos = make_photos(tmp_path / "photos", names)
    with pytest.raises(ObjectFoldersError, match=r"the folder queries beside database .*--objects"):
        make_tuples(photos, tmp_path / "tuples.npz", negatives=1)
    assert not (tmp_path / "tuples.npz").exists()
    with caplog.at_level("INFO", "keras_retrieval"):
        fields = load(make_tuples(photos, tmp_path / "tuples.npz", negatives=1, objects="folders", validation=0))
    assert len(np.unique(fields["cluster"])) == 2
    assert "2 objects, each folder with photos is one; the first: database (4 photos)" in caplog.text


def test_folders_of_two_splits_are_one_cluster(tmp_path):
    names = [f"{part}/{one}/{n}.jpg" for part in ("train", "test") for one in "ab" for n in (1, 2)]
    photos = make_photos(tmp_path / "photos", names)
    fields = load(make_tuples(photos, tmp_path / "tuples.npz", negatives=1, validation=0))
    assert [len(np.unique(fields["cluster"])), len(fields["qidxs"])] == [2, 8 * 3]


def test_a_file_that_is_no_source_is_named(tmp_path):
    (tmp_path / "notes.md").write_text("hello")
    for source, message in (
        (tmp_path / "notes.md", "is not a source of tuples"),
        (tmp_path / "nowhere", "does not exist"),
    ):
        with pytest.raises(TuplesError, match=message):
            make_tuples(source, tmp_path / "tuples.npz")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "report.json").write_text('{"version": 99, "clusters": []}')
    with pytest.raises(TuplesError, match="has version 99"):
        make_tuples(tmp_path / "work", tmp_path / "tuples.npz")

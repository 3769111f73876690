"""An index of crops: the best row of a photo counts, whatever is added, replaced, deleted or built again."""

import numpy as np
import pytest

from export.folder_index import folder_index as module
from export.folder_index.folder_index import FolderIndex
from export.folder_index.layout import CROPS_VERSION
from export.folder_index.writer import write_index
from export.index_contract.contract import Filter
from export.index_contract.index_settings import IndexSettings
from export.index_contract.photo_crops import PhotoCrops
from export.index_contract.photos_to_index import PhotosToIndex, RowBlocks
from keras_retrieval.errors import ArgumentError
from pipelines.files.durable import read_manifest
from tests.helpers.small_crops import LEVELS, assert_best, joined, photos_with_crops
from tests.helpers.small_index import FACTS, names_of, random_rows

pytest.importorskip("scann")

QUERIES = random_rows(4, seed=5)


def written(folder, photos, **settings):
    rows, crops = joined(photos)
    blocks = RowBlocks(lambda: iter(np.array_split(rows, 3)))
    kind = [name[-5:] for name in photos]
    facts = FACTS | {"crops": LEVELS, "dimensions": rows.shape[1]}
    given = PhotosToIndex(list(photos), blocks, rows.shape[1], {"kind": kind}, crops=crops)
    write_index(folder, given, facts, IndexSettings(**settings))
    return FolderIndex(folder)


def assert_same(index, photos):
    """Whether an index finds what a loop over the photos finds, and knows all their rows."""
    assert (len(index), index.row_count) == (len(photos), sum(len(rows) for rows, _ in photos.values()))
    for k in (1, 10, len(photos) + 5):
        for query, hits in zip(QUERIES, index.search(QUERIES, k, exact=True), strict=True):
            assert_best(hits, photos, query, k)
        for query, hits in zip(QUERIES, index.search(QUERIES, k), strict=True):
            assert len(hits.names) == len({*hits.names}) == min(k, len(photos))
            # Approximate or not, each photo has the score and the box of its best row.
            assert_best(hits, {name: photos[name] for name in hits.names}, query, k)
    some = list(photos)[::5]
    rows, crops = index.crops(some)
    expected, boxes = joined({name: photos[name] for name in some})
    np.testing.assert_allclose(rows, expected, atol=1e-6)
    np.testing.assert_array_equal(crops.boxes, boxes.boxes)
    np.testing.assert_allclose(index.vectors(some), [photos[name][0][0] for name in some], atol=1e-6)


TREE = {"leaves": 20, "leaves_to_search": 8, "reorder": 40}


@pytest.mark.parametrize("settings", [{}, TREE], ids=["exact", "tree"])
def test_photos_come_and_go_with_all_their_rows(tmp_path, settings):
    photos = photos_with_crops(names_of(120))
    index = written(tmp_path / "index", photos, **settings)
    assert_same(index, photos)
    added = set()
    for seed in (1, 2):
        new = photos_with_crops(names_of(20, first=110 + 10 * seed), seed)
        rows, crops = joined(new)
        index.add(list(new), rows, {"kind": ["new"] * 20}, crops=crops)
        photos |= new
        added |= new.keys()
        gone = list(photos)[5::25]
        assert index.delete([*gone, "unknown"]) == len(gone)
        photos = {name: found for name, found in photos.items() if name not in gone}
    assert_same(index, photos)
    assert_same(FolderIndex(tmp_path / "index"), photos)
    found = index.search(QUERIES[:1], 50, where=Filter(columns={"kind": ["new"]}))[0].names
    assert {*found} == added & photos.keys()
    names = list(photos)[3:9]
    assert {*index.search(QUERIES[:1], 50, where=Filter(names))[0].names} == {*names}
    index.compact()
    assert_same(index, photos)
    manifest = read_manifest(tmp_path / "index", kind="ScaNN index", version=CROPS_VERSION)
    assert (manifest["version"], manifest["count"]) == (CROPS_VERSION, len(photos))
    assert manifest["row_count"] == index.row_count


def test_large_additions_are_divided_between_photos(tmp_path, monkeypatch):
    photos = photos_with_crops(names_of(40))
    index = written(tmp_path / "index", photos, exact=True)
    monkeypatch.setattr(module, "MAX_CHANGES", 40)
    monkeypatch.setattr(FolderIndex, "_compact_if_due", lambda self: None)
    new = photos_with_crops(names_of(30, first=30), 3)
    rows, crops = joined(new)
    index.add(list(new), rows, crops=crops)
    assert_same(index, photos | new)


def test_what_does_not_fit_is_refused(tmp_path):
    photos = photos_with_crops(names_of(20))
    index = written(tmp_path / "index", photos)
    rows, box = random_rows(2), [0, 0, 5, 5]
    with pytest.raises(ArgumentError, match="several rows per photo: extract with --crops 1,2, and give the crops"):
        index.add(["a", "b"], rows)
    for counts, boxes, reason in (
        ([1], [box, box], "got 2 names and the counts of 1 photos"),
        ([2, 0], [box, box], "photo 1 has no row"),
        ([1, 2], [box, box], "got 2 rows, counts of 3 rows"),
        ([1, 1], [box, [0, 0, 0, 5]], "row 1: the box .* is empty"),
    ):
        with pytest.raises(ArgumentError, match=reason):
            index.add(["a", "b"], rows, crops=PhotoCrops(np.array(counts), np.array(boxes, np.float32)))
    plain = PhotosToIndex(["a", "b"], RowBlocks(lambda: iter([rows])), 8)
    write_index(tmp_path / "plain", plain, FACTS | {"dimensions": 8}, IndexSettings())
    other = FolderIndex(tmp_path / "plain")
    for refused in (
        lambda: other.add(["c"], rows[:1], crops=PhotoCrops(np.array([1]), np.array([box], np.float32))),
        lambda: other.crops(["a"]),
    ):
        with pytest.raises(ArgumentError, match="one row per photo, and no crops"):
            refused()
    assert other.search(rows, 1)[0].boxes is None
    assert_same(index, photos)

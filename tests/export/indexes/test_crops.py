"""Steps on descriptors of crops: index, update and search; an index with one row per photo stays as it was."""

import json

import numpy as np
import pytest
from keras_retrieval.pipelines.descriptors import folder as described
from keras_retrieval.pipelines.files.durable import FolderError, read_manifest

from export.folder_index.layout import KIND, PHOTOS_VERSION, VERSION
from export.index_contract.photo_crops import box_text
from export.indexes.index import index
from export.indexes.kinds import index_to_export
from export.indexes.open_index import open_index
from export.indexes.page import _part
from export.indexes.ranking import SearchResult, search_queries
from export.indexes.search import search
from export.indexes.update import update
from keras_retrieval.errors import ArgumentError
from tests.helpers.small_crops import assert_best, crop_descriptors, photos_with_crops
from tests.helpers.small_index import indexed, names_of, random_rows

QUERIES = random_rows(3, seed=5)


@pytest.fixture
def photos():
    return photos_with_crops(names_of(30))


@pytest.fixture
def place(tmp_path, photos):
    return index(crop_descriptors(tmp_path / "described", photos), str(tmp_path / "index"))


def test_photos_and_rows_are_told_apart(tmp_path, photos, place, capsys):
    rows = sum(len(found) for found, _ in photos.values())
    opened = open_index(place)
    assert (len(opened), opened.row_count, opened.facts["crops"]) == (30, rows, [1, 2])
    for query, hits in zip(QUERIES, opened.search(QUERIES, 7), strict=True):
        assert_best(hits, photos, query, 7)
    assert opened.facts["configuration"]["bytes_per_photo"] > 4 * 8 * rows / 30
    index(tmp_path / "described", str(place), replace=True)
    assert f"30 photos, {rows:,} crops, exact search" in capsys.readouterr().out


def test_an_update_replaces_all_rows_of_a_photo(tmp_path, photos, place, monkeypatch, capsys):
    monkeypatch.setattr("export.indexes.update.ROWS_PER_WRITE", 7)
    new = photos_with_crops(names_of(12, first=25), seed=2)
    assert update(str(place), add=crop_descriptors(tmp_path / "new", new), delete=["3.jpg"]) == 36
    photos = {name: found for name, found in (photos | new).items() if name != "3.jpg"}
    opened = open_index(place)
    for query, hits in zip(QUERIES, opened.search(QUERIES, 40), strict=True):
        assert_best(hits, photos, query, 40)
    assert f"36 photos, {opened.row_count:,} crops" in capsys.readouterr().out


def test_other_levels_do_not_mix(tmp_path, place):
    other = crop_descriptors(tmp_path / "other", photos_with_crops(["a.jpg", "b.jpg"]), levels=[1, 3])
    with pytest.raises(ArgumentError, match=r"made with crops \[1, 3\], the index with \[1, 2\]"):
        update(str(place), add=other)
    plain = indexed(tmp_path / "plain", random_rows(5))
    with pytest.raises(ArgumentError, match=r"made with crops \[1, 3\], the index with \[\]"):
        update(str(plain), add=other)
    assert read_manifest(plain, kind=KIND, version=VERSION)["version"] == PHOTOS_VERSION


def test_what_needs_one_row_per_photo_refuses_crops_at_once(tmp_path, place, photos):
    with pytest.raises(ArgumentError, match="--rerank needs one descriptor per photo, and the index has crops"):
        search(str(place), [tmp_path], rerank="aqe:5")
    with pytest.raises(ArgumentError, match="several rows per photo, which a version cannot contain: serve it with"):
        index_to_export("--index", str(place))
    with pytest.raises(FolderError, match=r"several descriptors per photo \(--crops 1,2\)"):
        described.read_descriptors(tmp_path / "described")


def test_the_box_of_the_best_crop_is_in_each_result(photos, place):
    described_queries = dict(enumerate(QUERIES))
    results = search_queries(open_index(place).search, described_queries, dict.fromkeys(described_queries, None), 4)
    for query, result in zip(QUERIES, results, strict=True):
        assert_best(result, photos, query, 4)
    sizes, boxes = np.array([[60, 40], [60, 40]]), np.array([[0, 0, 60, 40], [0, 0.4, 30, 40]])
    result = SearchResult("q", ["a", "b"], np.ones(2), None, boxes, sizes)
    assert [_part(result, 0), _part(result, 1)] == [None, (0, 0.4, 30, 40)]
    assert box_text(boxes[1]) == "0,0,30,40"


def test_without_scann_an_index_of_few_photos_is_searched_exactly(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("export.index_contract.index_settings.CROPS_EXACT_BELOW", 10)
    monkeypatch.setattr("export.indexes.index.find_spec", lambda name: None)
    place = index(crop_descriptors(tmp_path / "described", photos_with_crops(names_of(30))), str(tmp_path / "index"))
    assert json.loads((place / "manifest.json").read_text())["configuration"]["kind"] == "exact"
    assert "ScaNN makes searches faster" in capsys.readouterr().out

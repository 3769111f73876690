"""The step `update`: an open index sees what a shell adds and deletes."""

import pytest
from keras_retrieval.pipelines.files.durable import FolderError

from export.index_contract.contract import Filter
from export.index_contract.errors import IndexFileNotFoundError
from export.indexes.open_index import open_index
from export.indexes.update import update
from keras_retrieval.errors import ArgumentError
from tests.helpers.small_index import FACTS, descriptors, indexed, names_of, random_rows


def test_an_index_is_changed_from_the_shell(tmp_path, capsys):
    rows = random_rows(40)
    table = tmp_path / "table.csv"
    table.write_text("photo,city\n3.jpg,Paris\nnew.jpg,Rom\n")
    folder = indexed(tmp_path, rows, columns=table)
    index = open_index(folder)
    more = descriptors(tmp_path / "more", rows[:3], ["new.jpg", "3.jpg", "other.jpg"])
    (tmp_path / "names.txt").write_text("5.jpg\nunknown\n")
    assert update(str(folder), delete=["1.jpg"], delete_list=tmp_path / "names.txt") == 38
    assert "2 of 3 photos deleted; not in the index: 1, such as " in capsys.readouterr().out
    assert update(str(folder), add=more, columns=table, compact=True) == 40
    index.search(rows[:1])
    index.close()  # the new segment is loaded beside searches
    assert index.search(rows[:1], 2)[0].names in (["0.jpg", "new.jpg"], ["new.jpg", "0.jpg"])
    found = [index.search(rows[:1], where=Filter(columns={"city": [city]}))[0].names for city in ("Rom", "Paris")]
    assert found == [["new.jpg"], ["3.jpg"]]
    assert update(str(folder)) == 40


def test_columns_without_photos_and_a_name_that_is_no_list_are_refused(tmp_path):
    folder = str(indexed(tmp_path, random_rows(4)))
    with pytest.raises(ArgumentError, match="--columns needs --add"):
        update(folder, columns=tmp_path / "table.csv")
    with pytest.raises(ArgumentError, match=r"--delete must be a list, got '0\.jpg'"):
        update(folder, delete="0.jpg")
    assert update(folder) == 4


def test_what_is_missing_is_reported(tmp_path):
    with pytest.raises(FolderError, match="missing does not exist"):
        update(str(tmp_path / "missing"), compact=True)
    folder = str(indexed(tmp_path, random_rows(4)))
    with pytest.raises(FolderError, match="missing does not exist"):
        update(folder, add=tmp_path / "missing")
    with pytest.raises(IndexFileNotFoundError, match=r"missing\.txt does not exist"):
        update(folder, delete_list=tmp_path / "missing.txt")
    more = descriptors(tmp_path / "more", random_rows(2), names_of(2, first=7))
    with pytest.raises(IndexFileNotFoundError, match=r"missing\.csv does not exist"):
        update(folder, add=more, columns=tmp_path / "missing.csv")


def test_descriptors_that_were_made_otherwise_are_refused(tmp_path, monkeypatch):
    folder = indexed(tmp_path, random_rows(40))
    monkeypatch.setitem(FACTS, "size", 1024)
    other = descriptors(tmp_path / "other", random_rows(3))
    with pytest.raises(
        ValueError, match=r"was made with size 1024, the index with 64: extract with the settings of the index"
    ):
        update(str(folder), add=other)
    monkeypatch.setitem(FACTS, "size", 64)
    monkeypatch.setitem(FACTS, "model", {"name": "small", "path": "/moved"})
    assert update(str(folder), add=descriptors(tmp_path / "moved", random_rows(3), names_of(3, first=90))) == 43


def test_a_name_is_deleted_in_either_unicode_form(tmp_path, capsys):
    names = ["Ko\u0308ln.jpg", "B\u00e4r.jpg", "B\u00e4r\u0301.jpg", *(f"{number}.jpg" for number in range(40))]
    folder = indexed(tmp_path, random_rows(len(names)), names)
    update(folder, delete=["K\u00f6ln.jpg", "Ba\u0308r.jpg", "M\u00fcnster.jpg"])
    assert "2 of 3 photos deleted; not in the index: 1, such as M\u00fcnster.jpg" in capsys.readouterr().out

"""The step `update`: an open index sees what a shell adds and deletes."""

import os
import shutil
import signal

import numpy as np
import pytest
from keras_retrieval.pipelines.descriptors.extract import extract
from keras_retrieval.pipelines.descriptors.folder import read_crops
from keras_retrieval.pipelines.files.durable import FolderError
from keras_retrieval.pipelines.files.space import DiskSpaceError

from export.folder_index.folder_index import FolderIndex
from export.index_contract.contract import Filter, parse_where
from export.index_contract.errors import ColumnTableError, IndexFileNotFoundError
from export.indexes import described_alike
from export.indexes import update as module
from export.indexes.index import index
from export.indexes.open_index import open_index
from export.indexes.update import UpdateOptions, update
from keras_retrieval.errors import ArgumentError
from tests.helpers.faulty_storage import faulty_storage, upload
from tests.helpers.small_index import FACTS, descriptors, indexed, names_of, random_rows
from tests.helpers.small_network import draw_photo, save_network


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


def test_columns_are_changed_without_descriptors(tmp_path, capsys):
    """Typed columns; photos without a row and cells that are not stated stay, empty cells make values empty."""
    (tmp_path / "t.csv").write_text("photo,year,tags\n0.jpg,1999,red\n1.jpg,2001,\n2.jpg,2010,blue\n")
    folder = indexed(tmp_path, random_rows(4), columns=tmp_path / "t.csv", types=["tags=texts"])
    assert open_index(folder).facts["column_types"] == {"tags": "texts", "year": "number"}
    (tmp_path / "u.jsonl").write_text(
        '{"photo": "0.jpg", "tags": ["red", "round"]}\n{"photo": "3.jpg", "year": 5}\n'
        '{"photo": "2.jpg", "year": null}\n{"photo": "gone.jpg", "year": 7}\n'
    )
    assert update(str(folder), columns=tmp_path / "u.jsonl") == 4
    assert "columns of 3 photos changed" in capsys.readouterr().out
    index = open_index(folder)
    assert index.columns() == {"tags": ['["red", "round"]', "", '["blue"]', ""], "year": ["1999", "2001", "", "5"]}
    for conditions, names in (
        (["year >= 1999"], ["0.jpg", "1.jpg"]),
        (["tags all red, round", "year < 2000"], ["0.jpg"]),
        (["tags empty"], ["1.jpg", "3.jpg"]),
        (["year = 5", "year = 2001"], ["1.jpg", "3.jpg"]),
        (["photo not in 0.jpg, 1.jpg"], ["2.jpg", "3.jpg"]),
    ):
        assert sorted(index.search(random_rows(1), 9, where=parse_where(conditions))[0].names) == names
    (tmp_path / "v.csv").write_text("photo,year\n1.jpg,young\n")
    with pytest.raises(ColumnTableError, match=r"v\.csv, line 2: year: 'young' is not a number"):
        update(str(folder), columns=tmp_path / "v.csv")


def test_a_column_that_the_index_lacks_is_added(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("photo,year\n0.jpg,1999\n1.jpg,2001\n")
    folder = indexed(tmp_path, random_rows(4), columns=tmp_path / "t.csv")
    running = open_index(folder)
    (tmp_path / "u.jsonl").write_text(
        '{"photo": "0.jpg", "tags": ["red"], "seen": "2017-07", "year": 2000}\n{"photo": "2.jpg", "size": "10"}\n'
    )
    update(str(folder), columns=tmp_path / "u.jsonl", types=["size=text"])
    assert "new columns: seen (time), size (text), tags (texts)" in capsys.readouterr().out
    values = {
        "year": ["2000", "2001", "", ""],
        "seen": ["2017-07", "", "", ""],
        "size": ["", "", "10", ""],
        "tags": ['["red"]', "", "", ""],
    }
    types = {"year": "number", "seen": "time", "size": "text", "tags": "texts"}
    for number, place in enumerate((running, open_index(folder), running)):
        if number == 2:
            place.compact()
        assert place.facts["column_types"] == types
        assert place.columns() == values
        for conditions, names in (
            (["tags all red"], ["0.jpg"]),
            (["tags empty"], ["1.jpg", "2.jpg", "3.jpg"]),
            (["seen <= 2017"], ["0.jpg"]),
            (["size not in 10"], ["0.jpg", "1.jpg", "3.jpg"]),
        ):
            assert sorted(place.search(random_rows(1), 9, where=parse_where(conditions))[0].names) == names
    # Photos that are added have the column as well, of the same table.
    (tmp_path / "w.csv").write_text("photo,colour\n9.jpg,blue\n0.jpg,red\n")
    update(str(folder), add=descriptors(tmp_path / "b", random_rows(2), ["9.jpg", "0.jpg"]), columns=tmp_path / "w.csv")
    assert running.columns(["0.jpg", "9.jpg", "1.jpg"])["colour"] == ["red", "blue", ""]
    assert running.columns(["0.jpg", "9.jpg"])["size"] == ["", ""]
    assert running.columns(["0.jpg"])["tags"] == ['["red"]']


@pytest.mark.parametrize(
    ("table", "types", "message"),
    [
        (
            "photo,year\n1.jpg,young\n",
            [],
            r"v\.csv, line 2: year: 'young' is not a number; the index has this column as",
        ),
        (
            "photo,age\n1.jpg,3\n0.jpg,x\n",
            ["age=number"],
            r"v\.csv, line 3: age: 'x' is not a number; --types age=text",
        ),
        ("photo,year\n1.jpg,1\n", ["year=text"], "--types year=text: the index has 'year' as a number"),
        ("photo,age\n1.jpg,1\n", ["aeg=text"], r"v\.csv has no column 'aeg'; its columns: age"),
        (None, ["year=text"], "--types needs --columns"),
        (
            '{"photo": "0.jpg", "\\ud800": "x"}\n',
            [],
            r"v\.jsonl, line 1 is not a JSON object: .*surrogates not allowed",
        ),
        ('{"photo": "0.jpg", " ": "x"}\n', [], r"v\.jsonl: a column cannot be named ' ': give it another name"),
    ],
)
def test_columns_of_other_types_are_refused_and_change_nothing(tmp_path, table, types, message):
    (tmp_path / "t.csv").write_text("photo,year\n0.jpg,1999\n1.jpg,2001\n")
    folder = indexed(tmp_path, random_rows(4), columns=tmp_path / "t.csv")
    before = open_index(folder).version
    file = tmp_path / ("v.jsonl" if table and table.startswith("{") else "v.csv")
    file.write_text(table or "")
    with pytest.raises((ColumnTableError, ArgumentError), match=message):
        update(str(folder), delete=["3.jpg"], columns=None if table is None else file, types=types)
    assert open_index(folder).version == before


def test_photos_that_are_replaced_keep_their_columns(tmp_path):
    (tmp_path / "t.csv").write_text("photo,year,city\n0.jpg,1999,Rome\n1.jpg,2001,Bonn\n")
    folder = indexed(tmp_path, random_rows(4), columns=tmp_path / "t.csv")
    update(str(folder), add=descriptors(tmp_path / "a", random_rows(2), ["0.jpg", "new.jpg"]))
    (tmp_path / "u.csv").write_text("photo,city\n1.jpg,Ulm\n")
    update(str(folder), add=descriptors(tmp_path / "b", random_rows(2), ["1.jpg", "0.jpg"]), columns=tmp_path / "u.csv")
    assert open_index(folder).columns(["0.jpg", "1.jpg", "new.jpg"]) == {
        "city": ["Rome", "Ulm", ""],
        "year": ["1999", "2001", ""],
    }


def test_a_change_that_does_not_fit_on_the_disk_changes_nothing(tmp_path, monkeypatch):
    folder = indexed(tmp_path, random_rows(40))
    more = descriptors(tmp_path / "more", random_rows(30), names_of(30, first=100))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=5_000))
    with pytest.raises(DiskSpaceError, match=r"index needs 1\d\.\d kB, and 5\.0 kB are free.*no photo was changed"):
        update(str(folder), add=more, delete=["1.jpg"])
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    monkeypatch.undo()
    assert update(str(folder), add=more, delete=["1.jpg"]) == 69


def test_a_disk_that_becomes_full_meanwhile_is_told_with_what_is_kept(tmp_path, monkeypatch):
    folder = indexed(tmp_path, random_rows(40))
    more = descriptors(tmp_path / "more", random_rows(30), names_of(30, first=100))
    monkeypatch.setattr(module, "ROWS_PER_WRITE", 10)
    real, calls = FolderIndex.add, []

    def add(*arguments, **options):
        calls.append(1)
        if len(calls) > 2:
            raise DiskSpaceError("index needs 9 kB")
        real(*arguments, **options)

    monkeypatch.setattr(FolderIndex, "add", add)
    with pytest.raises(
        DiskSpaceError, match="1 photos were deleted, 15 of 30 photos were added or replaced: these changes are kept"
    ):
        update(str(folder), add=more, delete=["1.jpg"])
    assert len(open_index(folder)) == 54


def test_a_change_that_is_stopped_says_what_is_kept(tmp_path, monkeypatch, capsys):
    folder = indexed(tmp_path, random_rows(40))

    def stop(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(FolderIndex, "compact", stop)
    with pytest.raises(SystemExit) as ended:
        update(str(folder), delete=["1.jpg", "2.jpg"], compact=True)
    assert ended.value.code == 143
    assert (
        "2 photos were deleted: these changes are kept, and the index goes on with its old" in capsys.readouterr().err
    )
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert len(open_index(folder)) == 38


def test_a_name_that_is_no_list_is_refused(tmp_path):
    folder = str(indexed(tmp_path, random_rows(4)))
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


def test_photos_are_described_as_those_of_the_index(tmp_path, capsys, monkeypatch):
    """With crops, from inside the index; on the local engine: the descriptors of a cluster are those of one process."""
    network = str(save_network(tmp_path / "small.keras"))
    for view in range(6):
        draw_photo(tmp_path / ("photos" if view < 4 else "more") / f"{view}.png", view, 0)
    (tmp_path / "more" / "broken.png").write_bytes(b"\x89PNG")
    common = {"size": 40, "crops": "1,2", "runtime": "tensorflow", "precision": "float32"}
    folder = index(extract(network, tmp_path / "photos", tmp_path / "rows", **common), tmp_path / "index")
    whole = extract(network, tmp_path / "more", tmp_path / "more-rows", **common)
    monkeypatch.chdir(folder)
    assert update(".", photos=tmp_path / "more", runtime="tensorflow") == 6
    assert "2 photos added or replaced" in capsys.readouterr().out
    opened = open_index(folder)
    rows, crops = opened.crops(["4.png", "5.png"])
    np.testing.assert_array_equal(rows, read_crops(whole).shards[0])
    assert crops.counts.tolist() == [5, 5]
    with faulty_storage(monkeypatch) as faults:
        upload(tmp_path / "more", "bucket/more")
        faults.every, faults.outage = 5, (0.0, 60.0)
        assert update(".", delete=["4.png", "5.png"]) == 4
        describe, asked = described_alike.describe_alike, []

        def here(*arguments, engine, workers, **options):
            asked.append((arguments[4], engine, workers))
            return describe(*arguments, **options)

        monkeypatch.setattr(described_alike, "describe_alike", here)
        options = {"model": network, "engine": "dask", "workers": 2, "runtime": "tensorflow"}
        assert update(".", photos="faulty://bucket/more", **options) == 6
        assert asked == [(network, "dask", 2)]
    np.testing.assert_array_equal(open_index(folder).crops(["4.png", "5.png"])[0], rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "index",
        "index.added-left_out.json",
        "more",
        "more-rows",
        "photos",
        "rows",
        "small.keras",
    ]


def test_an_index_at_an_address_is_refused_before_anything_is_asked():
    with pytest.raises(FolderError, match=r"s3://bucket/index is an address, and this step takes an index of this"):
        update("s3://user:s3cret@bucket/index", delete=["0.jpg"])


def test_photos_to_describe_need_an_index_folder_and_no_descriptors(tmp_path):
    folder = indexed(tmp_path, random_rows(4))
    (tmp_path / "photos").mkdir()
    for options, said in (
        ({"photos": tmp_path / "photos", "add": tmp_path / "descriptors"}, "--photos and --add both"),
        ({"model": "vgg16_gem"}, "--model describes photos: give --photos"),
        ({"engine": "dask"}, "--engine dask needs --photos"),
    ):
        with pytest.raises(ArgumentError, match=said):
            update(str(folder), **options)
    with pytest.raises(ArgumentError, match="--photos is for index folders, got milvus://"):
        UpdateOptions("milvus://host:1/rows", photos=tmp_path / "photos")

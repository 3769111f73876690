"""Descriptors at addresses: indexed, added, and read by the steps of pipelines as those of a folder are."""

from pathlib import Path

import numpy as np
import pytest
from keras_retrieval.pipelines.files.durable import FolderError
from keras_retrieval.pipelines.files.remote import RemoteError, RemoteFolder

from export.folder_index.copied_index import CopiedIndex
from export.indexes.index import index
from export.indexes.open_index import open_index
from export.indexes.update import update
from pipelines.training_tuples.data import TuplesError
from pipelines.training_tuples.tuples import tuples
from tests.helpers.small_index import descriptors, names_of, numbers, random_rows

pytest.importorskip("fsspec")

from tests.helpers.faulty_storage import faulty_storage, upload

PLACE = "faulty://bucket/descriptors"
ROWS = random_rows(30)


@pytest.fixture
def faults(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", str(tmp_path / "cache"))
    with faulty_storage(monkeypatch) as faults:
        upload(descriptors(tmp_path / "first", ROWS[:20]), "bucket/descriptors")
        upload(descriptors(tmp_path / "second", ROWS[20:], names_of(10, 20)), "bucket/more")
        faults.every = 7
        yield faults


def test_an_index_is_made_of_descriptors_at_an_address_and_added_to(faults, tmp_path):
    folder = index(PLACE, tmp_path / "index", exact=True)
    assert update(folder, add="faulty://bucket/more") == 30
    opened = open_index(folder)
    assert [found[0] for found in numbers(opened.search(ROWS, 1))] == list(range(30))
    opened.close()


def test_a_file_that_does_not_fit_its_checksum_is_named(faults, tmp_path):
    faults.every = 0
    RemoteFolder(PLACE).write("descriptors-00000.npy", b"other content")
    with pytest.raises(FolderError, match=rf"{PLACE} is damaged: {PLACE}/descriptors-00000\.npy has changed since"):
        index(PLACE, tmp_path / "index")
    RemoteFolder(PLACE).remove(["descriptors-00000.npy", "not there"])
    with pytest.raises(FolderError, match=rf"{PLACE} is damaged: {PLACE}/descriptors-00000\.npy does not exist"):
        index(PLACE, tmp_path / "index")


def test_a_folder_that_is_replaced_while_it_is_copied_is_copied_as_it_is_then(faults, tmp_path):
    other = descriptors(tmp_path / "third", -ROWS[:20])
    met, replaced = faults.met, []

    def replace(request, path):
        met(request, path)
        if request == "fetch" and not replaced:
            replaced.append(path)
            upload(other, "bucket/descriptors")

    faults.every, faults.met = 0, replace
    opened = open_index(index(PLACE, tmp_path / "index", exact=True))
    assert replaced
    np.testing.assert_array_equal(opened.search(-ROWS[:1], 1)[0].names, ["0.jpg"])
    opened.close()


INDEX = "faulty://bucket/index"


def stored():
    return set(RemoteFolder(INDEX).files(required=False))


def served(tmp_path):
    copy = CopiedIndex(INDEX, tmp_path / "copy", seconds=60.0)
    try:
        return [hits[0] for hits in numbers(copy.search(ROWS, 1))]
    finally:
        copy.close()


def test_an_index_is_written_to_an_address_and_replaced_there(faults, tmp_path, capsys):
    assert index(PLACE, INDEX, exact=True) == Path(INDEX)
    assert f"{INDEX}: 20 photos" in capsys.readouterr().out
    assert served(tmp_path)[:20] == list(range(20))
    RemoteFolder(INDEX).write("calibration.json", b"{}")
    with pytest.raises(FolderError, match=rf"^{INDEX} exists already: name another place, or give --replace"):
        index(PLACE, INDEX, exact=True)
    index("faulty://bucket/more", INDEX, exact=True, replace=True)
    assert {name.split("/")[0] for name in stored()} == {"manifest.json", "segment-000002", "calibration.json"}
    assert served(tmp_path)[20:] == list(range(20, 30))


@pytest.mark.parametrize("refused", ["names.txt", "manifest.json"])
def test_an_index_that_is_not_sent_whole_is_not_there_or_as_before(faults, tmp_path, monkeypatch, refused):
    faults.every = 0
    index(PLACE, INDEX, exact=True)
    before = served(tmp_path)

    def met(request, path):
        if path.startswith("/bucket/index/") and path.endswith(refused) and request not in ("read", "info"):
            raise PermissionError("no access any more")

    with monkeypatch.context() as patch:
        patch.setattr(faults, "met", met)
        with pytest.raises(RemoteError):
            index("faulty://bucket/more", INDEX, exact=True, replace=True)
    assert served(tmp_path) == before
    index("faulty://bucket/more", INDEX, exact=True, replace=True)
    assert len({name.split("/")[0] for name in stored()}) == 2
    assert served(tmp_path)[20:] == list(range(20, 30))


@pytest.mark.parametrize(("name", "content"), [("thesis.txt", b""), ("manifest.json", b"{}"), ("manifest.json", b"[")])
def test_an_address_with_something_else_is_left_alone(faults, name, content):
    RemoteFolder(INDEX).write(name, content)
    with pytest.raises(FolderError, match=rf"{INDEX} is not an index and will not be replaced \(it contains {name}\)"):
        index(PLACE, INDEX, replace=True)
    assert stored() == {name}


@pytest.mark.parametrize("place", ["faulty://bucket/nothing", "faulty://bucket"])
def test_an_address_without_descriptors_is_refused(faults, tmp_path, place):
    with pytest.raises(FolderError, match=rf"{place} does not contain manifest\.json: it is not a folder of descript"):
        index(place, tmp_path / "index")


def test_tuples_are_mined_of_descriptors_at_an_address(faults, tmp_path):
    made = tuples(PLACE, tmp_path / "tuples.npz", manifold=True, neighbours=3, alike=3, unlike=4, anchors="all",
                  negatives=1, validation=0)  # fmt: skip
    assert made.is_file()
    with pytest.raises(TuplesError, match=f"{PLACE} contains what a step wrote: add --manifold for descriptors"):
        tuples(PLACE, tmp_path / "tuples.npz")
    with pytest.raises(TuplesError, match=r"faulty://bucket/a\.csv is an address, where only photos, and descriptors"):
        tuples("faulty://bucket/a.csv", tmp_path / "tuples.npz")

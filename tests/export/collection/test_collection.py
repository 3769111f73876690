"""A collection follows its folder: what is added, changed, renamed, deleted, unreadable, or not there for a while."""

import json
import os
import shutil
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from keras_retrieval.pipelines.files.durable import FolderError
from keras_retrieval.pipelines.photos.formats import PhotoFolderError
from keras_retrieval.pipelines.photos.reader import PhotoError
from keras_retrieval.pipelines.training_tuples.data import Tuples
from keras_retrieval.pipelines.training_tuples.file import write_tuples
from PIL import Image

from export.collection import collection as collections
from export.collection import network_choice
from export.collection.collection import Collection
from export.collection.errors import StateBusyError, StateError, StoppedError
from export.collection.state import StateFolder
from export.folder_index.folder_index import FolderIndex
from export.index_contract.errors import CalibrationError
from keras_retrieval.errors import ArgumentError
from tests.helpers.gps_photos import ASCII, exif, gps
from tests.helpers.gps_photos import photo as photo_with
from tests.helpers.odd_collection import make_odd_collection, photo
from tests.helpers.owned_files import replaceable
from tests.helpers.small_collection import (
    mean_colours,
    network_file,
    opened,
    use_fake_network,
    write_photo,
    write_photos,
)


@pytest.fixture
def calls(monkeypatch):
    """The numbers of photos that the network described."""
    log = []
    use_fake_network(monkeypatch, log=log)
    return log


@pytest.fixture
def names(tmp_path):
    return write_photos(tmp_path / "photos")


def test_photos_are_found_by_name_path_bytes_and_pixels(tmp_path, calls, names):
    with opened(tmp_path) as collection:
        report = collection.update()
        assert (report.photos, report.searchable, report.described) == (6, 6, 6)
        path = tmp_path / "photos" / names[2]
        for query in (names[2], path, path.read_bytes(), np.array(Image.open(path)), [path, names[2]]):
            result = collection.search(query, k=3)
            assert (result[0].name, result[0].path, len(result)) == (names[2], path, 3)
            assert result.scores[0] == pytest.approx(1, abs=1e-5)
            assert result.scores == sorted(result.scores, reverse=True)
        assert collection.search(names[0], where={"bytes": str(path.stat().st_size)}).names
        assert sorted(collection.names) == sorted(names)


def test_a_box_and_photos_that_are_not_wanted(tmp_path, calls, names):
    with opened(tmp_path) as collection:
        collection.update()
        whole = collection.search(names[0], k=6)
        assert collection.search(names[0], k=6, box=(0, 0, 8, 6)).scores != whole.scores
        assert names[1] not in collection.search(names[0], k=6, unlike=[names[1]]).names
        assert set(collection.search(like=names[:2], k=2).names) == set(names[:2])
        with pytest.raises(PhotoError, match="outside"):
            collection.search(names[0], box=(0, 0, 800, 6))
        with pytest.raises(ArgumentError, match="box"):
            collection.search(names[:2], box=[None])


def test_a_calibrated_collection_gives_probabilities(tmp_path, calls):
    pytest.importorskip("sklearn", reason='pip install "keras-retrieval[calibrate]"')
    chance, names = np.random.default_rng(0), []
    quarters = chance.integers(0, 256, (5, 2, 2, 3))
    for number, one in enumerate(quarters):
        for view in range(7):
            names.append(f"{number} {view}.png")
            seen = np.clip(one + chance.normal(0, 12, one.shape), 0, 255).astype(np.uint8)
            (tmp_path / "photos").mkdir(exist_ok=True)
            Image.fromarray(seen.repeat(6, 0).repeat(8, 1)).save(tmp_path / "photos" / names[-1])
    known = names[:28]
    pairs = np.array([(a, b) for a in range(28) for b in range(28) if a != b and a // 7 == b // 7])
    cluster = np.arange(28) // 7
    write_tuples(tmp_path / "tuples.npz", Tuples(known, cluster, *pairs.T, np.zeros((0, 2), np.int64)), {})
    with opened(tmp_path) as collection:
        with pytest.raises(ArgumentError, match=r"call update\(\) first"):
            collection.calibrate(tmp_path / "tuples.npz")
        collection.update()
        assert collection.search(names[0], k=1)[0].probability is None
        with pytest.raises(CalibrationError, match=r"photos is not calibrated: call calibrate\(TUPLES\) first"):
            collection.search(names[0], min_probability=0.5)
        with pytest.raises(CalibrationError, match="0 objects, 0 queries"):
            collection.calibrate(tmp_path / "tuples.npz", validation_only=True)
        collection.calibrate(tmp_path / "tuples.npz")
        result = collection.search(names[0], k=10)
        assert min(hit.probability for hit in result[:6]) > 0.9 > 0.1 > result[7].probability
        assert " %  0 " in repr(result)
        with pytest.raises(CalibrationError, match=r"^min_probability 0\.99: .* 28 queries, .* at most 0\.966"):
            collection.search(names[0], min_probability=0.99)
        assert set(collection.search(names[0], k=30, min_probability=0.9).names) == set(names[:7])
        for wrong in ("0.9", True, None, np.nan, -0.1, 1.0):
            with pytest.raises(ArgumentError, match="min_probability must be a number from 0 to below 1, got "):
                collection.search(names[0], min_probability=wrong)
        stranger = chance.integers(0, 256, (2, 2, 3), np.uint8).repeat(6, 0).repeat(8, 1)
        assert collection.search(stranger, min_probability=0.9).names == []


def test_what_cannot_be_searched_says_so(tmp_path, calls, names):
    with opened(tmp_path) as collection:
        with pytest.raises(ArgumentError, match=r"call update\(\) first"):
            collection.search(names[0])
        collection.update()
        with pytest.raises(FileNotFoundError, match="neither a photo"):
            collection.search("nowhere.jpg")
        with pytest.raises(ArgumentError, match="not a photo that can be searched"):
            collection.search(names[0], unlike=["nowhere.jpg"])
        with pytest.raises(ArgumentError, match="give a query"):
            collection.search()
        with pytest.raises(PhotoError):
            collection.search(b"no photo")
        for query in (3, None, [names[0], 3]):
            with pytest.raises(ArgumentError, match=r"a query must be .*, got (int|NoneType)"):
                collection.search(query)
        with pytest.raises(PhotoError, match=f"^{names[0]}: "):
            collection.search(names[0], box=(5, 5, 1, 1))
        (tmp_path / "broken.jpg").write_bytes(b"no photo")
        with pytest.raises(PhotoError, match=r"broken\.jpg: "):
            collection.search(tmp_path / "broken.jpg")


def test_a_second_update_describes_only_what_is_new_or_changed(tmp_path, calls, names):
    folder = tmp_path / "photos"
    with opened(tmp_path) as collection:
        collection.update()
    calls.clear()
    write_photo(folder / "new.png", 20)
    write_photo(folder / names[0], 21)
    (folder / names[1]).unlink()
    with opened(tmp_path, model=None) as collection:
        report = collection.update()
        assert (report.described, report.deleted, sum(calls)) == (2, 1, 2)
        assert sorted(collection.names) == sorted([*names, "new.png"][:1] + names[2:] + ["new.png"])
        assert collection.search(folder / names[0], k=1)[0].name == names[0]
        assert collection.update().described == 0


def test_what_a_network_is_good_for_is_said_once(tmp_path, calls, names, monkeypatch, caplog):
    """`app` updates the collection every minute."""
    prepare = collections.prepare
    monkeypatch.setattr(collections, "prepare", lambda *given: replace(prepare(*given), message="A trunk only."))
    caplog.set_level("INFO", "keras_retrieval")
    with opened(tmp_path) as collection:
        for _ in range(3):
            collection.update()
    assert [record.message for record in caplog.records if "trunk" in record.message] == ["A trunk only."]


def test_photos_that_are_added_during_an_update_are_described_first(tmp_path, names, monkeypatch):
    monkeypatch.setattr("export.collection.describing.UNIT_SECONDS", 0)
    monkeypatch.setattr("export.collection.describing.FIRST_CHUNK", 1)
    monkeypatch.setattr("export.collection.describing.CHUNK", 1)
    monkeypatch.setattr(collections, "AGAIN_SECONDS", 0)
    monkeypatch.setattr(collections, "SHARE", 0)
    use_fake_network(monkeypatch)
    works, order = [], []
    changes = iter([True])

    def progress(work):
        works.append(work)
        if work.done == 1 and not (tmp_path / "photos" / "z.png").exists():
            write_photo(tmp_path / "photos" / "z.png", 30)
            (tmp_path / "photos" / names[5]).unlink()

    with opened(tmp_path) as collection:
        store = collection._store
        monkeypatch.setattr(collection, "_store", lambda *unit: (order.extend(unit[1].names), store(*unit)))
        report = collection.update(progress, lambda: next(changes, False))
        assert order == [names[0], "z.png", names[2], names[4], names[1], names[3]]
        assert (report.photos, report.searchable, report.described) == (6, 6, 6)
        assert [(work.done, work.total) for work in works[-7:]] == [
            (1, 6),
            (1, 6),
            *((done, 6) for done in range(2, 7)),
        ]
        assert sorted(collection.names) == sorted(order)


def test_renamed_photos_and_folders_are_not_described_again(tmp_path, calls, names):
    folder = tmp_path / "photos"
    with opened(tmp_path) as collection:
        collection.update()
        calls.clear()
        (folder / "a").rename(folder / "moved")
        (folder / "b" / "1.png").rename(folder / "b" / "one.png")
        report = collection.update()
        assert (report.renamed, report.described, report.deleted, calls) == (4, 0, 0, [])
        assert collection.search(folder / "moved" / "0.png", k=1)[0].name == "moved/0.png"
        assert collection.search("b/one.png", k=1)[0].name == "b/one.png"
        assert len(collection) == 6


def test_another_photo_of_the_same_second_and_size_is_no_renamed_one(tmp_path, calls):
    folder, second = tmp_path / "photos", 1_600_000_000_000_000_000
    first = write_photo(folder / "first.bmp", 1, when=second)
    write_photo(folder / "stays.bmp", 5, when=second + 1)
    with opened(tmp_path) as collection:
        collection.update()
        size = first.stat().st_size
        first.unlink()
        assert write_photo(folder / "second.bmp", 2, when=second).stat().st_size == size
        report = collection.update()
        assert (report.renamed, report.described) == (0, 1)
        assert collection.search(folder / "second.bmp", k=1).scores[0] == pytest.approx(1, abs=1e-5)


def test_unreadable_photos_are_left_out_once_and_tried_again_when_they_change(tmp_path, calls, names):
    folder = tmp_path / "photos"
    (folder / "cut.png").write_bytes((folder / names[0]).read_bytes()[:-20])
    write_photo(folder / "black.png").write_bytes(b"")
    from PIL import Image

    Image.new("RGB", (16, 12)).save(folder / "black.png")
    with opened(tmp_path) as collection:
        report = collection.update()
        assert (report.searchable, report.left_out) == (6, 2)
        assert set(collection.left_out) == {"cut.png", "black.png"}
        assert collection.left_out_count == 2
        assert "zero or not finite" in collection.left_out["black.png"]
    calls.clear()
    with opened(tmp_path) as collection:
        collection.update()
        assert (calls, set(collection.left_out)) == ([], {"cut.png", "black.png"})
        write_photo(folder / "cut.png", 30)
        assert collection.update().described == 1
        assert set(collection.left_out) == {"black.png"}


def test_a_photo_that_becomes_unreadable_is_not_found_any_more(tmp_path, calls, names):
    with opened(tmp_path) as collection:
        collection.update()
        path = tmp_path / "photos" / names[0]
        path.write_bytes(path.read_bytes()[:-20])
        report = collection.update()
        assert names[0] not in collection.names
        assert names[0] in collection.left_out
        assert report.searchable == 5


def test_odd_files_are_accounted_for(tmp_path, calls):
    entries = make_odd_collection(tmp_path / "photos")
    with opened(tmp_path) as collection:
        report = collection.update()
        photos = {name for name, entry in entries.items() if not entry.outcome}
        readable = {name for name in photos if entries[name].readable}
        assert set(collection.names) == readable
        assert photos - readable <= set(collection.left_out)
        assert report.photos == len(photos)
        assert collection.update().described == 0


def test_a_folder_without_photos_is_no_error(tmp_path, calls):
    (tmp_path / "photos").mkdir()
    with opened(tmp_path) as collection:
        assert collection.update().searchable == 0
        assert len(collection) == 0
        write_photos(tmp_path / "photos", 2)
        assert collection.update().searchable == 2


def emptied(folder):
    for path in folder.iterdir():
        shutil.rmtree(path)


@pytest.mark.parametrize("vanish", [shutil.rmtree, emptied])
def test_the_index_of_a_folder_that_vanishes_stays(tmp_path, calls, names, vanish):
    with opened(tmp_path) as collection:
        collection.update()
        shutil.copytree(tmp_path / "photos", tmp_path / "kept")
        vanish(tmp_path / "photos")
        with pytest.raises(PhotoFolderError, match=r"does not exist|its drive mounted"):
            collection.update()
        assert collection.search(names[0], k=1).names == [names[0]]
        calls.clear()
        shutil.copytree(tmp_path / "kept", tmp_path / "photos", dirs_exist_ok=True)
        assert collection.update().searchable == 6
        assert calls == []


def test_photos_of_a_folder_that_cannot_be_read_stay(tmp_path, calls, names, monkeypatch):
    outside = tmp_path / "drive"
    write_photos(outside, 4, first=50)
    (tmp_path / "photos" / "drive").symlink_to(outside)
    with opened(tmp_path) as collection:
        assert collection.update().searchable == 10
        outside.rename(tmp_path / "away")
        report = collection.update()
        assert (report.searchable, report.unreachable, report.deleted) == (10, 4, 0)
        (tmp_path / "photos" / "drive").unlink()
        assert collection.update().deleted == 4


def test_photos_of_a_drive_that_is_not_mounted_stay(tmp_path, calls, names, monkeypatch):
    mounted = {str(tmp_path / "photos" / "b")}
    real = os.path.ismount
    monkeypatch.setattr(os.path, "ismount", lambda path: str(path) in mounted or real(path))
    with opened(tmp_path) as collection:
        collection.update()
        for path in (tmp_path / "photos" / "b").iterdir():
            path.unlink()
        mounted.clear()
        assert collection.update().unreachable == 3
        (tmp_path / "photos" / "b").rmdir()
        assert collection.update().deleted == 3


def test_one_process_at_a_time_uses_a_state_and_learns_where_the_page_is(tmp_path, calls, names):
    state = StateFolder(tmp_path / "state", tmp_path / "photos")
    with pytest.raises(StateBusyError, match="another process"):
        opened(tmp_path)
    state.announce("http://127.0.0.1:8000/")
    with pytest.raises(StateBusyError, match=r"shown already, at http://127.0.0.1:8000/"):
        opened(tmp_path)
    state.close()
    opened(tmp_path).close()


def test_a_cell_of_a_notebook_can_be_run_again(tmp_path, calls, names):
    collection = opened(tmp_path)
    collection.update()
    first = collection
    collection = opened(tmp_path, model=None)
    assert collection.update().described == 0
    assert first.search(names[0], k=1).names == [names[0]]
    with pytest.raises(StoppedError):
        first.update()
    collection.close()


def test_another_size_or_network_gets_an_index_beside_the_old_one(tmp_path, calls, names, monkeypatch):
    with opened(tmp_path) as collection:
        collection.update()
    with opened(tmp_path, size=8) as collection:
        seen = []

        def watched(work):
            if work.step == 3 and work.done:
                seen.append((collection.size, len(collection), collection.search(names[0], k=1).names))

        report = collection.update(watched)
        assert seen == [(16, 6, [names[0]])]
        assert (report.described, collection.size) == (6, 8)
        assert [path.name for path in collection.state.glob("index-*")] == ["index-002"]
    network_file(tmp_path, b"another network")
    with opened(tmp_path) as collection:
        assert collection.size == 8
    with opened(tmp_path, size=None) as collection:
        assert collection.update().described == 6
        assert [path.name for path in collection.state.glob("index-*")] == ["index-003"]
        assert FolderIndex(collection.state / "index-003").facts["size"] == 8


def test_an_index_that_was_not_finished_goes_on(tmp_path, calls, names, monkeypatch):
    with opened(tmp_path) as collection:
        collection.update()
    monkeypatch.setattr("export.collection.describing.UNIT_SECONDS", 0)
    monkeypatch.setattr("keras_retrieval.pipelines.descriptors.describer.BATCH_PIXELS", 1)
    with opened(tmp_path, size=8) as collection:
        with pytest.raises(StoppedError):
            collection.update(lambda work: collection.stop() if work.done == 2 else None)
        assert (collection.size, len(collection)) == (16, 6)
    calls.clear()
    with opened(tmp_path, size=8) as collection:
        assert collection.update().searchable == 6
        assert sum(calls) == 4
        assert collection.size == 8


@pytest.mark.parametrize("damaged", ["left_out.json", "index-001/manifest.json", "rows", "head"])
def test_a_damaged_state_is_made_again(tmp_path, calls, names, damaged):
    with opened(tmp_path) as collection:
        collection.update()
    state = tmp_path / "state"
    paths = {"rows": "index-001/segment-000001/rows.npy", "head": "index-001/segment-000001/head.json"}
    path = state / paths.get(damaged, damaged)
    path.write_bytes(path.read_bytes()[:-3] + b"\0\0\0")
    with opened(tmp_path, model=tmp_path / "network.keras") as collection:
        assert collection.update().searchable == 6
        assert collection.search(names[0], k=1).names == [names[0]]
        told = damaged != "left_out.json"
        assert any("described again" in message for message in collection.messages) == told
        assert not any("make the folder again" in message for message in collection.messages)
    with opened(tmp_path) as collection:
        calls.clear()
        collection.update()
        assert calls == []


BOTH = ("collection.json", "collection-copy.json")


@pytest.mark.parametrize("content", [b"[]", b'{"kind": "collection", "version": 1, "current": {"index": "index-001"}}'])
def test_a_manifest_of_other_content_is_made_again(tmp_path, calls, names, content):
    with opened(tmp_path) as collection:
        collection.update()
    for name in BOTH:
        (tmp_path / "state" / name).write_bytes(content)
    with opened(tmp_path, model=tmp_path / "network.keras") as collection:
        assert collection.update().searchable == 6
        assert "was damaged" in collection.messages[0]


def test_a_state_without_its_manifest_says_that_the_network_is_chosen_again(tmp_path, calls, names):
    with opened(tmp_path) as collection:
        collection.update()
    for name in BOTH:
        (tmp_path / "state" / name).unlink()
    with opened(tmp_path) as collection:
        assert "was gone" in collection.messages[0]


def folder_in_its_place(path):
    path.unlink()
    path.mkdir()


def one_digit_of_the_size(path):
    size = json.loads(path.read_text())["current"]["size"]
    path.write_text(path.read_text().replace(f'"size": {size}', f'"size": {size + 1}'))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b"\0" * path.stat().st_size),
        one_digit_of_the_size,
        folder_in_its_place,
    ],
)
@pytest.mark.parametrize("name", BOTH)
def test_one_damaged_manifest_loses_nothing(tmp_path, calls, names, name, damage):
    with opened(tmp_path) as collection:
        collection.update()
        size = collection.size
    damage(tmp_path / "state" / name)
    calls.clear()
    with opened(tmp_path, model=None) as collection:
        assert collection.update().described == 0
        assert (collection.size, collection.messages, calls) == (size, [], [])
    assert len({(tmp_path / "state" / name).read_bytes() for name in BOTH}) == 1


@pytest.mark.parametrize("index", ["", "..", "index-001/..", "../photos"])
def test_a_record_names_no_folder_but_an_index(tmp_path, calls, names, index):
    with opened(tmp_path) as collection:
        collection.update()
        record = dict(collection._state.manifest()["current"], index=index)
        collection._state.write_manifest({"current": record})
        assert collection._state.manifest() == {}


@pytest.mark.parametrize("name", ["left_out.json", "lock", "running.json"])
def test_folders_in_the_place_of_files_are_removed(tmp_path, calls, names, name):
    (tmp_path / "state" / name).mkdir(parents=True)
    with opened(tmp_path) as collection:
        collection.announce("http://127.0.0.1:8000/")
        assert collection.update().searchable == 6


@pytest.fixture
def converted(monkeypatch):
    """Weights become a network file, without Keras; each file is another one."""
    made = []

    def save(model, path):
        made.append(path)
        path.write_bytes(b"network %d" % len(made))

    monkeypatch.setattr("keras_retrieval.pipelines.networks.files.save_model", save)
    monkeypatch.setattr(network_choice, "_trunk_network", lambda path: None)
    return made


@pytest.mark.parametrize(
    "damage", [lambda path: path.write_bytes(b"x"), lambda path: path.unlink(), folder_in_its_place]
)
def test_a_damaged_network_of_the_state_is_made_again(tmp_path, calls, names, converted, damage):
    weights = tmp_path / "alexnet.npz"
    weights.write_bytes(b"weights")
    with opened(tmp_path, model=weights) as collection:
        collection.update()
    damage(converted[0])
    with opened(tmp_path, model=None) as collection:
        assert collection.update().described == 6
        assert "made and the photos are described again" in collection.messages[0]
        assert collection.network.choice == "given"
    with opened(tmp_path, model=None) as collection:
        assert collection.update().described == 0
        assert (collection.messages, len(converted)) == ([], 2)


def test_a_state_can_be_moved_and_used_from_another_folder(tmp_path, calls, names, converted, monkeypatch):
    weights = tmp_path / "alexnet.npz"
    weights.write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)
    with Collection("photos", state="state", model=weights) as collection:
        collection.update()
    weights.unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with Collection("../photos", state="../state") as collection:
        assert collection.update().described == 0
    shutil.move(tmp_path / "state", tmp_path / "moved")
    with Collection("../photos", state="../moved") as collection:
        assert collection.update().described == 0


def test_an_index_without_its_manifest_is_made_again_with_a_sentence(tmp_path, calls, names):
    with opened(tmp_path) as collection:
        collection.update()
    (tmp_path / "state" / "index-001" / "manifest.json").unlink()
    with opened(tmp_path) as collection:
        assert collection.update().described == 6
        assert any("described again" in message for message in collection.messages)


@pytest.mark.parametrize("seconds", [-1, -(10**9), 0, 2**31 + 5, 2**33])
def test_a_photo_of_any_time_is_described_once(tmp_path, calls, names, seconds):
    os.utime(tmp_path / "photos" / names[0], (seconds, seconds))
    with opened(tmp_path) as collection:
        assert collection.update().described == 6
        assert collection.update().described == 0


def test_truncated_photos_are_tried_again_once_they_are_accepted(tmp_path, calls):
    path = tmp_path / "photos" / "cut.jpg"
    path.parent.mkdir()
    path.write_bytes(photo(3)[:-900])
    with opened(tmp_path) as collection:
        assert collection.update().searchable == 0
        assert "truncated" in collection.left_out["cut.jpg"]
    with opened(tmp_path, accept_truncated=True) as collection:
        assert collection.update().searchable == 1
        assert collection.left_out == {}


def test_metadata_that_fails_costs_no_photo(tmp_path, calls, names, monkeypatch):
    monkeypatch.setattr("export.collection.photo_facts.read_record", lambda path: 1 / 0)
    with opened(tmp_path) as collection:
        assert collection.update().searchable == 6


def test_times_and_positions_of_photos_are_columns(tmp_path, calls):
    (tmp_path / "photos").mkdir()
    camera = {0x9003: (ASCII, "2017:07:18 12:00:00"), 0x9011: (ASCII, "+02:00")}
    (tmp_path / "photos" / "a.jpg").write_bytes(photo_with(exif(gps(), camera)))
    with opened(tmp_path) as collection:
        collection.update()
        facts = {column: values[0] for column, values in collection.index().columns(["a.jpg"]).items()}
        assert (facts["latitude"], facts["longitude"]) == ("50.0861667", "14.4250000")
        assert facts["time"] == "2017-07-18T10:00:00Z"


def test_the_index_of_the_state_is_an_ordinary_one(tmp_path, calls, names):
    with opened(tmp_path) as collection:
        collection.update()
        index = FolderIndex(collection.state / "index-001")
        assert index.facts["photos"] == str((tmp_path / "photos").resolve())
        assert index.facts["columns"] == ["modified", "bytes", "time", "latitude", "longitude"]
        state = (tmp_path / "photos" / names[0]).stat()
        facts = {column: values[0] for column, values in index.columns([names[0]]).items()}
        assert facts["modified"] == str(state.st_mtime_ns)
        assert facts["bytes"] == str(state.st_size)


def test_nothing_is_written_into_the_photo_folder(tmp_path, calls, names):
    folder = tmp_path / "photos"
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
    with opened(tmp_path) as collection:
        collection.update()
        collection.search(names[0])
    assert {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]} == before
    with pytest.raises(FolderError, match="is inside"):
        opened(tmp_path, state=folder / "state")


def test_a_folder_of_something_else_is_no_state(tmp_path, names):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "thesis.tex").write_text("x")
    with pytest.raises(StateError, match=r"thesis.tex"):
        opened(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StateError, match="is a file"):
        opened(tmp_path, state=tmp_path / "file")


def test_the_state_of_another_folder_is_refused_and_that_of_a_moved_one_goes_on(tmp_path, calls, names):
    with opened(tmp_path) as collection:
        collection.update()
    write_photos(tmp_path / "others", 2)
    others = {"state": tmp_path / "state", "model": tmp_path / "network.keras", "size": 16, "precision": "float32"}
    with pytest.raises(StateError, match=r"is the state of .*photos: name another"):
        Collection(tmp_path / "others", **others)
    (tmp_path / "photos").rename(tmp_path / "moved")
    calls.clear()
    with Collection(tmp_path / "moved", **others) as collection:
        assert (collection.update().searchable, calls) == (6, [])


def test_the_size_of_an_onnx_file_is_that_of_its_export(tmp_path, calls, names, monkeypatch):
    (tmp_path / "network.onnx").write_bytes(b"x")
    monkeypatch.setattr(collections, "load_model", lambda model: SimpleNamespace(size=24))
    with opened(tmp_path, model=tmp_path / "network.onnx", size=None) as collection:
        collection.update()
        assert collection.size == 24
    with opened(tmp_path, model=tmp_path / "network.onnx", size=8) as collection:
        collection.update()
    with opened(tmp_path, model=tmp_path / "network.onnx", size=None) as collection:
        assert collection.update().described == 0
        assert collection.size == 8


def test_a_state_on_a_read_only_disk_is_an_error_that_says_what_to_do(tmp_path, names, monkeypatch):
    def read_only(*_, **__):
        raise OSError(30, "Read-only file system", str(tmp_path / "state"))

    monkeypatch.setattr("pathlib.Path.mkdir", read_only)
    with pytest.raises(
        StateError, match=r"cannot be written \(read-only file system\): name another folder with --state"
    ):
        opened(tmp_path)


def test_a_full_disk_is_an_error_after_which_it_goes_on(tmp_path, calls, names, monkeypatch):
    real = FolderIndex.add

    def full(*_, **__):
        raise OSError(28, "No space left on device", "log")

    with opened(tmp_path) as collection:
        collection.update()
        write_photos(tmp_path / "photos", 3, first=10)
        monkeypatch.setattr(FolderIndex, "add", full)
        with pytest.raises(OSError, match="No space left"):
            collection.update()
        assert collection.search(names[0], k=1).names == [names[0]]
        monkeypatch.setattr(FolderIndex, "add", real)
        assert collection.update().searchable == 9


def test_queries_go_before_the_photos_of_the_collection(tmp_path, monkeypatch):
    """While a unit of photos is in the network, a query waits for that unit only, and not for the rest of the batch."""
    from export.collection.network import LoadedNetwork

    order, entered, release = [], threading.Event(), threading.Event()

    def describe(images):
        if len(images) == 1:
            order.append("query")
        else:
            entered.set()
            assert release.wait(20)
            order.append("photos")
        return mean_colours(images)

    monkeypatch.setattr("export.collection.network.PART_PIXELS", 2 * 16 * 12)
    network = LoadedNetwork(describe, 1, 16)
    images = np.ones((6, 12, 16, 3), "uint8")
    batch = threading.Thread(target=network.batch, args=(images,))
    batch.start()
    assert entered.wait(20)
    query = threading.Thread(target=network.query, args=(images[0],))
    query.start()
    while not network._turns._queries:
        pass
    release.set()
    batch.join(20)
    query.join(20)
    assert order == ["photos", "query", "photos", "photos"]


def test_a_closed_collection_stops_its_update(tmp_path, calls, names):
    collection = opened(tmp_path)
    collection.close()
    with pytest.raises(StoppedError):
        collection.update()


def test_notebooks_show_pictures(tmp_path, calls, names):
    write_photo(tmp_path / "photos" / "<b>&.png", 40)
    with opened(tmp_path) as collection:
        collection.update()
        shown = collection.search(names[0], k=7)._repr_html_()
        assert shown.count("data:image/jpeg;base64,") == 7
        assert "&lt;b&gt;&amp;.png" in shown
        assert "<b>&" not in shown
        assert "7 photos can be searched" in collection._repr_html_()
        (tmp_path / "photos" / names[0]).unlink()
        assert "cannot be read any more" in collection.search(names[0], k=1)._repr_html_()


def test_where_the_state_is_by_default(tmp_path, monkeypatch, names):
    from export.collection.state import default_state

    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", str(tmp_path / "cache"))
    state = default_state(tmp_path / "photos")
    assert state.parent == tmp_path / "cache" / "collections"
    assert state.name.startswith("photos-")
    assert default_state(tmp_path / "photos" / ".." / "photos") == state
    assert default_state(tmp_path / "photos" / "a") != state
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", "")
    with pytest.raises(ArgumentError, match="--state"):
        default_state(tmp_path / "photos")


def test_the_library_has_it_without_an_import_of_keras(tmp_path):
    import subprocess
    import sys

    program = "import sys, keras_retrieval; keras_retrieval.Collection; print('keras' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False\n"
    )
    assert collections.Collection.__module__ == "export.collection.collection"


def test_a_notebook_shows_no_lines_of_tensorflow(tmp_path, names):
    import subprocess
    import sys

    program = (
        "import sys, keras_retrieval; keras_retrieval.Collection(sys.argv[1], state=sys.argv[2]).close(); "
        "import tensorflow"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "-c", program, str(tmp_path / "photos"), str(tmp_path / "state")]
    assert subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stderr == ""


def test_the_manifest_names_the_network(tmp_path, calls, names):
    with opened(tmp_path) as collection:
        collection.update()
    manifest = json.loads((tmp_path / "state" / "collection.json").read_text())
    assert not replaceable(tmp_path / "state")
    assert manifest["photos"] == str((tmp_path / "photos").resolve())
    assert manifest["current"]["model"] == str((tmp_path / "network.keras").resolve())


def test_the_best_crop_of_a_photo_is_found_and_follows_its_file(tmp_path, calls):
    from PIL import Image

    photos = tmp_path / "photos"
    photos.mkdir()
    object_ = write_photo(tmp_path / "object.png", seed=7, size=(16, 12))
    ground = Image.new("RGB", (64, 48), "green")
    ground.paste(Image.open(object_).resize((32, 24), Image.Resampling.NEAREST), (32, 24))
    ground.save(photos / "scene.png")
    for number in range(3):
        write_photo(photos / f"{number}.png", number, size=(64, 48))
    with opened(tmp_path, crops="1,2,3") as collection:
        collection.update()
        hit = collection.search(object_)[0]
        assert (hit.name, hit.box, len(collection)) == ("scene.png", (32, 24, 64, 48), 4)
        assert hit.score == pytest.approx(1, abs=1e-4)
        assert collection.index().row_count == 4 * 14
        (photos / "scene.png").rename(photos / "moved.png")
        assert collection.update().renamed == 1
        assert (collection.search(object_)[0].name, collection.index().row_count) == ("moved.png", 56)
        assert "<figure" in collection.search(object_)._repr_html_()
    with opened(tmp_path) as collection:  # the state remembers its crops
        assert collection.update().described == 0
        assert collection.index().row_count == 56
    with opened(tmp_path, crops=[1]) as collection:
        assert collection.update().described == 4
        assert (collection.index().row_count, collection.search(object_)[0].box) == (4, None)
    with pytest.raises(ArgumentError, match="--crops must begin with 1"):
        opened(tmp_path, crops=(2, 3))

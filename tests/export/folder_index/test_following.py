"""Replicas: several open indexes of one folder that another process changes."""

import shutil
import threading

import numpy as np
import pytest
from keras_retrieval.pipelines.files.durable import FolderError

from export.folder_index import folder_index, following, layout
from export.folder_index.folder_index import FolderIndex
from export.folder_index.following import Following, Loader
from keras_retrieval.errors import ArgumentError
from tests.helpers.deadlines import join, wait_until
from tests.helpers.small_index import clustered_rows, indexed

ROWS = clustered_rows(200)
SERVED = Following(steadfast=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return indexed(tmp_path_factory.mktemp("built"), ROWS)


@pytest.fixture
def folder(built, tmp_path):
    return shutil.copytree(built, tmp_path / "index")


def segment(index):
    return index.state.build


def test_replicas_answer_while_segments_are_swapped(folder, monkeypatch):
    """Three replicas, 20 segments, 8 clients: no search fails, and each finds the photo that it asks for."""
    monkeypatch.setattr(layout, "file_time", lambda folder: 10**9)  # the grace periods last
    replicas = [FolderIndex(folder, Following(0.01, number, 3, steadfast=True)) for number in (1, 2, 3)]
    errors, done = [], threading.Event()

    def search(number):
        chance = np.random.default_rng(number)
        while not done.wait(0.01):
            row = chance.integers(100, 200)
            (hits,) = replicas[number % 3].search(ROWS[row : row + 1], 5)
            if hits.names[0] != f"{row}.jpg" or len(hits.names) != 5:
                errors.append(hits)

    def client(number):
        try:
            search(number)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    writer = FolderIndex(folder)
    for number in range(20):
        writer.delete([f"{number}.jpg"])
        writer.compact()
    wait_until(lambda: all(segment(one) == "segment-000021" for one in replicas), "all replicas have the last segment")
    done.set()
    join(threads)
    assert errors == []
    for one in replicas:
        assert len(one) == 180
        assert one.state.failures == 0
        one.close()


def test_each_replica_waits_for_its_part_of_the_time():
    waits = [Following(60, number, 4).wait(grace=3600) for number in (1, 2, 3, 4)]
    assert waits == [0, 15, 30, 45]
    assert [Following(60, 4, 4).wait(grace) for grace in (0, 40)] == [0, 15]  # the old files must be there
    chosen = [Following(60).wait(3600) for _ in range(50)]
    assert 0 <= min(chosen) < max(chosen) < 60
    assert Following().wait(3600) == 0


@pytest.mark.parametrize("values", [(-1.0,), (float("nan"),), (float("inf"),), (1.0, 3, 2), (1.0, 0, 2), (1.0, 1, 0)])
def test_times_and_numbers_that_make_no_sense_are_refused(values):
    with pytest.raises(ArgumentError, match="replica"):
        Following(*values)


def test_a_new_segment_is_loaded_at_its_moment(folder, monkeypatch):
    """And at once if the old files vanish before. Until then the changes before it are visible, not those after it."""
    replica = FolderIndex(folder, Following(3000, 2, 2, steadfast=True))
    asked = []
    monkeypatch.setattr(Following, "wait", lambda self, grace: asked.append(grace) or 3000)
    writer = FolderIndex(folder)
    writer.delete(["0.jpg"])
    writer.compact(grace=100)
    writer.delete(["1.jpg"])
    for _ in range(3):
        first, second = replica.search(ROWS[:2], 1)
        assert (first.names != ["0.jpg"], second.names) == (True, ["1.jpg"])
    assert asked == [pytest.approx(6000, abs=60)]
    assert segment(replica) == "segment-000001"
    shutil.rmtree(folder / "segment-000001")
    assert replica.search(ROWS[1:2], 1)[0].names != ["1.jpg"]
    assert segment(replica) == "segment-000002"


def test_changes_are_visible_from_the_next_search_on(folder):
    replica, writer = FolderIndex(folder, Following(3000, steadfast=True)), FolderIndex(folder)
    for row in range(3):
        writer.delete([f"{row}.jpg"])
        assert replica.search(ROWS[row : row + 1], 1)[0].names != [f"{row}.jpg"]


def test_a_build_that_cannot_be_read_is_tried_again(folder, monkeypatch, caplog):
    monkeypatch.setattr(following, "FIRST_PAUSE", 0.01)
    replica, writer = FolderIndex(folder, SERVED), FolderIndex(folder)
    rows = folder / "segment-000002" / "rows.npy"
    real = folder_index.publish

    def damaged(*arguments):
        real(*arguments)
        rows.rename(rows.with_name("away"))

    monkeypatch.setattr(folder_index, "publish", damaged)
    writer.delete(["0.jpg"])
    with pytest.raises(FolderError, match=r"rows.npy is missing"):
        writer.compact()
    assert replica.search(ROWS[:1], 1)[0].names != ["0.jpg"]
    state = wait_until(lambda: replica.state if replica.state.failures > 1 else None, "a second attempt")
    assert (state.build, state.loads) == ("segment-000001", 1)
    assert "rows.npy is missing" in state.problem
    assert [message.count("stays in use") for message in caplog.messages] == [1]  # however often it is tried
    rows.with_name("away").rename(rows)
    state = wait_until(lambda: replica.state if replica.state.loads > 1 else None, "the build is loaded")
    assert (state.build, state.problem) == ("segment-000002", "")
    assert replica.search(ROWS[:1], 1)[0].names != ["0.jpg"]


def test_a_log_that_cannot_be_read_does_not_end_the_searches_of_a_server(folder, monkeypatch):
    """A network file system may show the log of a moment ago, or not answer."""
    monkeypatch.setattr(following, "FIRST_PAUSE", 0.01)
    replica, writer = FolderIndex(folder, SERVED), FolderIndex(folder)
    writer.delete(["0.jpg"])
    log = folder / "segment-000001" / "log"
    whole = log.read_bytes()
    log.write_bytes(whole[:-1])
    assert replica.search(ROWS[:1], 1)[0].names == ["0.jpg"]
    assert "acknowledged changes" in replica.state.problem
    log.write_bytes(whole)
    wait_until(lambda: not replica.state.problem, "the log is read")
    assert replica.search(ROWS[:1], 1)[0].names != ["0.jpg"]
    FolderIndex(folder).delete(["1.jpg"])
    assert replica.search(ROWS[1:2], 1)[0].names != ["1.jpg"]


def test_a_folder_that_vanishes_does_not_end_the_searches_of_a_server(folder):
    replica = FolderIndex(folder, SERVED)
    folder.rename(folder.with_name("elsewhere"))
    for _ in range(2):
        assert replica.search(ROWS[:1], 1)[0].names == ["0.jpg"]
    assert "does not exist" in replica.state.problem
    folder.with_name("elsewhere").rename(folder)
    replica.close()
    assert replica.search(ROWS[:1], 1)[0].names == ["0.jpg"]


def test_nothing_is_written_into_a_folder_that_is_only_searched(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")} | {folder: folder.stat().st_mtime_ns}
    replica = FolderIndex(folder, SERVED)
    replica.search(ROWS[:1], 5)
    replica.close()
    assert {path: path.stat().st_mtime_ns for path in [*folder.rglob("*"), folder]} == before


def test_a_segment_is_searched_before_it_is_used(folder, monkeypatch):
    searched = []
    real = folder_index.Snapshot.search

    def search(self, queries, *arguments, **options):
        searched.append((self.segment.facts["segment"], len(queries)))
        return real(self, queries, *arguments, **options)

    monkeypatch.setattr(folder_index.Snapshot, "search", search)
    FolderIndex(folder, SERVED)
    assert searched == [("segment-000001", 8)]
    FolderIndex(folder)
    assert len(searched) == 1


def test_an_empty_index_is_followed(folder):
    FolderIndex(folder).delete([f"{row}.jpg" for row in range(200)])
    writer = FolderIndex(folder)
    writer.compact()
    replica = FolderIndex(folder, SERVED)
    assert replica.search(ROWS[:1], 5)[0].names == []
    writer.add(["new"], ROWS[:1])
    assert replica.search(ROWS[:1], 5)[0].names == ["new"]


def test_a_loader_ends_although_nothing_can_be_loaded(monkeypatch):
    failed = []

    def fail():
        raise KeyError("configuration")

    loader = Loader(fail, failed.append)
    loader.start(wait=3000)
    loader.start()
    loader.hurry()
    assert len(failed) >= 1
    loader.hurry()  # does not wait for the next attempt
    loader.close()
    assert not loader.running
    assert isinstance(failed[0], KeyError)

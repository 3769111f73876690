"""Behind the page: photos that come and go, a folder that vanishes, a full disk, and a training that is switched to."""

import re
import shutil

import pytest
from keras_retrieval.pipelines.networks.errors import NetworkError
from keras_retrieval.pipelines.photos.intake_options import IntakeOptions

from export.application import background as backgrounds
from export.application.background import Background
from export.application.source import CollectionSource
from export.application.training import Outcome
from export.folder_index.folder_index import FolderIndex
from export.search_page.errors import NotReadyError
from tests.helpers.small_collection import opened, until, use_fake_network, write_photo, write_photos


@pytest.fixture
def running(tmp_path, monkeypatch):
    """A function that starts the work on the collection of tmp_path."""
    use_fake_network(monkeypatch)
    monkeypatch.setattr(backgrounds, "AGAIN_SECONDS", 0.1)
    monkeypatch.setattr("export.application.watching.QUIET_SECONDS", 0.05)
    monkeypatch.setattr("export.application.watching.RESCAN_SECONDS", 0.3)
    monkeypatch.setattr("export.application.watching._STEP_SECONDS", 0.02)
    started = []

    def start(watch=True, train=False, **options):
        collection = opened(tmp_path, **options)
        background = Background(collection, watch=watch, train=train, intake=IntakeOptions())
        source = CollectionSource(collection, background)
        background.start()
        started.append((collection, background))
        return collection, background, source

    yield start
    for collection, background in started:
        assert background.stop(20)
        collection.close()


def settled(source, count):
    until(lambda: source.status().state == "ready" and source.status().searchable == count)


def test_the_page_shows_all_photos_and_follows_the_folder(tmp_path, running):
    names = write_photos(tmp_path / "photos", 4)
    _, _, source = running()
    settled(source, 4)
    catalogue = source.catalogue()
    assert sorted(catalogue.names) == sorted(names)
    assert catalogue.searchable.all()
    assert source.catalogue() is catalogue
    write_photo(tmp_path / "photos" / "new.png", 30)
    settled(source, 5)
    (tmp_path / "photos" / "new.png").unlink()
    settled(source, 4)
    (tmp_path / "photos" / "broken.jpg").write_bytes((tmp_path / "photos" / names[0]).read_bytes()[:60])
    until(lambda: "broken.jpg" in source.left_out())
    status = source.status()
    assert (status.photos, status.left_out, status.size, status.message) == (5, 1, 16, "")
    assert [bool(flag) for flag in source.catalogue().searchable].count(False) == 1
    row = source.describe((tmp_path / "photos" / names[1]).read_bytes(), None)
    assert source.index().search(row[None], 1)[0].names == [names[1]]


def test_the_catalogue_is_there_before_the_first_photo_is_described(tmp_path, monkeypatch):
    names = write_photos(tmp_path / "photos", 4)
    use_fake_network(monkeypatch)
    collection = opened(tmp_path)
    source = CollectionSource(collection, Background(collection, watch=False, train=False, intake=IntakeOptions()))
    assert len(source.catalogue()) == 0
    assert source.index() is None
    collection._look()
    catalogue = source.catalogue()
    assert (sorted(catalogue.names), catalogue.searchable.any()) == (sorted(names), False)
    assert source.status().state == "working"
    monkeypatch.setattr("export.application.source.NETWORK_SECONDS", 0.01)
    with pytest.raises(NotReadyError, match="still being loaded"):
        source.describe(b"", None)
    collection.close()


def test_a_folder_that_vanishes_keeps_its_index_and_goes_on_when_it_is_back(tmp_path, running):
    write_photos(tmp_path / "photos", 4)
    _, background, source = running()
    settled(source, 4)
    (tmp_path / "photos").rename(tmp_path / "away")
    until(lambda: source.status().state == "failed")
    assert "does not exist" in source.status().message
    assert "goes on by itself" in source.status().message
    assert source.status().searchable == 4
    (tmp_path / "away").rename(tmp_path / "photos")
    settled(source, 4)
    assert background.problem == ""
    for path in list((tmp_path / "photos").iterdir()):
        shutil.move(path, tmp_path / f"kept-{path.name}")
    until(lambda: "is its drive mounted?" in source.status().message)
    assert source.status().searchable == 4
    (tmp_path / "kept-a").rename(tmp_path / "photos" / "a")
    settled(source, 2)


def test_a_full_disk_is_said_and_ends(tmp_path, running, monkeypatch):
    write_photos(tmp_path / "photos", 2)
    _, _, source = running()
    settled(source, 2)
    real = FolderIndex.add

    def full(*_, **__):
        raise OSError(28, "No space left on device", "/state/log")

    monkeypatch.setattr(FolderIndex, "add", full)
    write_photo(tmp_path / "photos" / "new.png", 30)
    until(lambda: source.status().state == "failed")
    assert source.status().message.startswith("/state/log cannot be written: no space left on device.")
    monkeypatch.setattr(FolderIndex, "add", real)
    settled(source, 3)


def test_an_unexpected_error_does_not_end_the_page(tmp_path, running, monkeypatch):
    write_photos(tmp_path / "photos", 2)
    monkeypatch.setattr("export.collection.collection.photo_states", lambda intake: 1 / 0)
    _, _, source = running()
    until(lambda: source.status().state == "failed")
    assert "ZeroDivisionError" in source.status().message


def test_an_error_is_said_once_and_tried_again_after_growing_pauses(tmp_path, monkeypatch, caplog):
    write_photos(tmp_path / "photos", 2)
    tries, steps = [], []

    def fails(self):
        tries.append(1)
        raise NetworkError("the network is damaged")

    monkeypatch.setattr("export.collection.collection.Collection._prepare", fails)
    monkeypatch.setattr(backgrounds, "AGAIN_SECONDS", 0.01)
    collection = opened(tmp_path)
    report = steps.append
    background = Background(collection, watch=True, train=False, intake=IntakeOptions(), report=report)
    with caplog.at_level("WARNING", "keras_retrieval"):
        background.start()
        until(lambda: len(tries) > 3)
        assert background.stop(20)
    assert background.problem == "the network is damaged"
    assert [record.message for record in caplog.records] == ["the network is damaged"]
    assert CollectionSource(collection, background).status().message.startswith("the network is damaged.")
    assert [work.step for work in steps if work is not None] == [1, 2]
    background._failures = 3
    assert background._pause() == 0.04
    background._failures = 1000
    assert background._pause() <= backgrounds.LONGEST_SECONDS
    collection.close()


def test_requests_do_not_wait_for_a_catalogue_that_another_one_makes(tmp_path, running):
    write_photos(tmp_path / "photos", 2)
    _, _, source = running()
    settled(source, 2)
    before = source.catalogue()
    with source._lock:
        write_photo(tmp_path / "photos" / "new.png", 30)
        settled(source, 3)
        assert source.catalogue() is before
    assert "new.png" in source.catalogue().names


@pytest.mark.parametrize(("watch", "then"), [(True, "they are found"), (False, "start again")])
def test_an_empty_folder_is_said_with_what_to_do(tmp_path, running, caplog, watch, then):
    (tmp_path / "photos").mkdir()
    with caplog.at_level("INFO", "keras_retrieval"):
        _, _, source = running(watch=watch)
        until(lambda: source.status().state == "ready")
    assert any(
        record.message.endswith(f"put photos into {tmp_path / 'photos'}, and {then}") for record in caplog.records
    )


def test_without_watching_the_work_ends(tmp_path, running):
    write_photos(tmp_path / "photos", 2)
    _, background, source = running(watch=False)
    settled(source, 2)
    until(lambda: not background._threads[0].is_alive())


@pytest.mark.parametrize(("before", "after", "switched"), [(0.3, 0.5, True), (0.5, 0.3, False), (None, None, False)])
def test_a_trained_network_is_used_if_it_is_better(tmp_path, running, monkeypatch, before, after, switched):
    write_photos(tmp_path / "photos", 4)
    trained = tmp_path / "trained.keras"
    trained.write_bytes(b"a trained network")

    def train(options, report, stopped):
        assert options.photos == tmp_path / "photos"
        assert (options.size, options.model) == (16, (tmp_path / "network.keras").resolve())
        assert options.work == tmp_path / "state" / "training"
        network = trained if before is not None else None
        return Outcome(network, before, after, 10, 4, "Measured on 10 photos")

    monkeypatch.setattr(backgrounds, "train_on_photos", train)
    collection, _, source = running(train=True)
    until(lambda: source.status().training.state in ("ready", "failed"))
    training = source.status().training
    assert (training.before, training.after) == (before, after)
    assert training.state == ("failed" if before is None else "ready")
    assert training.message.startswith("Measured on 10 photos" + ("" if before is None else ". The page "))
    if before is not None:
        reason = ", because the network was trained on all objects" if switched else ": .*tuples.npz.* does not exist"
        assert re.search(f"Results have no probabilities{reason}", training.message)
    used = collection.network.model
    assert ("trained-" in used) == switched
    assert [path.name for path in collection.state.glob("index-*")] == ["index-002" if switched else "index-001"]
    assert len(collection) == 4


def test_a_trained_network_stays_and_is_not_trained_again(tmp_path, running, monkeypatch):
    write_photos(tmp_path / "photos", 4)
    trained = tmp_path / "trained.keras"
    trained.write_bytes(b"a trained network")
    runs = []

    def train(*_):
        runs.append(1)
        return Outcome(trained, 0.3, 0.5, 10, 4, "Measured on 10 photos")

    monkeypatch.setattr(backgrounds, "train_on_photos", train)
    collection, background, source = running(train=True)
    until(lambda: source.status().training.state == "ready")
    assert background.stop(20)
    collection.close()
    trained.unlink()
    collection, _, source = running(train=True, model=None)
    until(lambda: source.status().training.state == "ready")
    assert (source.status().training.before, source.status().training.after, runs) == (0.3, 0.5, [1])
    assert "trained earlier" in source.status().training.message
    assert "trained-" in collection.network.model

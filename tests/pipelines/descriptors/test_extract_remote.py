"""Extraction of photos at addresses: nothing is lost to faults of the storage, and nothing is left out for them."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from keras_retrieval.errors import ArgumentError
from pipelines.descriptors.extract import extract
from pipelines.descriptors.folder import read_crops, read_descriptors
from pipelines.files.durable import FolderError, partial_of
from pipelines.files.remote import RemoteError
from pipelines.files.shards import read_left_out
from pipelines.local_features import extraction
from pipelines.local_features.features import LocalFeatures
from pipelines.local_features.folder import local_features_of, open_features
from pipelines.photos.formats import PhotoFolderError
from pipelines.photos.reader import photo_size, read_photo
from tests.helpers.faulty_storage import FaultyFileSystem, faulty_storage, upload
from tests.helpers.small import draw_folder, saved_network, shards

PLACE = "faulty://bucket/photos"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return str(saved_network(tmp_path_factory.mktemp("network")))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "photos"
    draw_folder(folder, 20)
    draw_folder(folder / "deep er" / "é", 3)
    (folder / "text.jpg").write_text("no photo")
    (folder / "cut.png").write_bytes((folder / "000.png").read_bytes()[:200])
    (folder / "empty.png").write_bytes(b"")
    (folder / ".hidden.png").write_bytes((folder / "000.png").read_bytes())
    return folder


@pytest.fixture(scope="module")
def local(small, photos, tmp_path_factory):
    return extract(small, photos, tmp_path_factory.mktemp("local") / "out", shard=8)


@pytest.fixture
def faults(monkeypatch, photos):
    with faulty_storage(monkeypatch) as faults:
        upload(photos, "bucket/photos")
        yield faults


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", str(tmp_path / "cache"))


def assert_same(folder, local):
    np.testing.assert_array_equal(shards(folder), shards(local))
    assert read_descriptors(folder)[1] == read_descriptors(local)[1]
    assert read_left_out(folder) == read_left_out(local)


def test_photos_at_an_address_get_the_rows_of_a_local_folder(small, local, faults, tmp_path):
    folder = extract(small, PLACE, tmp_path / "out", shard=8)
    assert_same(folder, local)
    assert read_descriptors(folder)[2]["photos"] == PLACE
    assert faults.count("find") == 1


def test_faults_and_an_outage_lose_nothing(small, local, faults, tmp_path):
    faults.every, faults.outage = 7, (0.0, 60.0)
    assert_same(extract(small, PLACE, tmp_path / "out", shard=8), local)
    assert faults.clock.now > 60


def test_an_outage_that_lasts_ends_the_run_and_the_next_one_continues(small, local, faults, tmp_path):
    met = faults.met

    def fails_late(request, path):
        met(request, path)
        if faults.count("read") > 40:
            raise TimeoutError("timed out")

    FaultyFileSystem.faults.met = fails_late
    with pytest.raises(RemoteError, match=r"faulty://bucket/photos/.*: no answer in \d+ s \(TimeoutError"):
        extract(small, PLACE, tmp_path / "out", shard=8)
    done = {path: path.stat().st_mtime_ns for path in partial_of(tmp_path / "out").glob("descriptors-*.npy")}
    FaultyFileSystem.faults.met = met
    folder = extract(small, PLACE, tmp_path / "out", shard=8)
    assert_same(folder, local)
    assert all((folder / path.name).stat().st_mtime_ns == time for path, time in done.items())


def test_a_finished_run_reads_only_the_listing(small, faults, tmp_path, caplog):
    caplog.set_level("INFO")
    extract(small, PLACE, tmp_path / "out")
    faults.requests.clear()
    extract(small, PLACE, tmp_path / "out")
    assert [request for request, _ in faults.requests] == ["find"]
    assert "already complete" in caplog.text


def test_a_photo_that_changes_or_vanishes(small, faults, tmp_path, monkeypatch):
    extract(small, PLACE, tmp_path / "out")
    store = FaultyFileSystem.store
    store["/bucket/photos/001.png"].created = datetime.now(tz=UTC)
    with pytest.raises(ValueError, match="other photos or options: --replace"):
        extract(small, PLACE, tmp_path / "out")
    met = faults.met

    def gone(request, path):
        met(request, path)
        if path.endswith("003.png") and "deep" not in path:
            raise FileNotFoundError(path)

    FaultyFileSystem.faults.met = gone
    folder = extract(small, PLACE, tmp_path / "out", replace=True)
    assert read_left_out(folder)["003.png"] == "there is no such file"
    assert len(shards(folder)) == 22


@pytest.mark.parametrize(
    ("error", "said"), [(PermissionError("Access Denied"), "PermissionError: Access Denied"), (TypeError("x"), "x")]
)
def test_what_no_repetition_helps_is_an_error_at_once(small, faults, tmp_path, error, said):
    faults.every, faults.error = 1, error
    with pytest.raises(RemoteError, match=said):
        extract(small, PLACE, tmp_path / "out")
    assert len(faults.requests) == 1


def test_bytes_that_are_lost_on_their_way_do_not_leave_a_photo_out(small, local, faults, tmp_path, monkeypatch):
    read, spoilt = FaultyFileSystem.cat_file, set()

    def cat_file(self, path, start=None, end=None, **kwargs):
        content = read(self, path, start, end, **kwargs)
        if (path, start) in spoilt or "cut" in path:
            return content
        spoilt.add((path, start))
        return content[: len(content) // 2]

    monkeypatch.setattr(FaultyFileSystem, "cat_file", cat_file)
    assert_same(extract(small, PLACE, tmp_path / "out", shard=8), local)


@pytest.mark.parametrize(
    ("place", "error", "said"),
    [
        ("faulty://bucket/nothing", PhotoFolderError, "faulty://bucket/nothing does not exist"),
        ("nosuch://bucket/photos", ArgumentError, "PHOTOS nosuch://bucket/photos: there is no storage"),
    ],
)
def test_addresses_that_cannot_be_read_are_named(small, faults, tmp_path, place, error, said):
    with pytest.raises(error, match=said):
        extract(small, place, tmp_path / "out")


OUTPUT = "faulty://bucket/descriptors"


def test_descriptors_are_written_to_an_address_and_read_from_it(small, local, faults, photos, tmp_path, capsys):
    faults.every = 5
    output = extract(small, PLACE, OUTPUT, shard=8)
    assert f"{OUTPUT}: 23 photos x" in capsys.readouterr().out
    rows, names, manifest = read_descriptors(output)
    right, expected, facts = read_descriptors(local)
    np.testing.assert_array_equal(np.concatenate(rows), np.concatenate(right))
    assert names == expected
    assert {key for key in manifest if manifest[key] != facts[key]} <= {
        "fingerprint",
        "sha256",
        "photos",
        "photos_per_second",
        "network_share",
    }
    faults.requests.clear()
    rows, _, _ = read_descriptors(output)
    np.testing.assert_array_equal(np.concatenate(rows), np.concatenate(right))
    assert {path for _, path in faults.requests} == {"/bucket/descriptors/manifest.json"}  # the copy is kept


def test_crops_are_written_to_an_address(small, faults, photos, tmp_path):
    local = extract(small, photos, tmp_path / "out", crops="1,2", shard=8)
    output = extract(small, photos, OUTPUT, crops="1,2", shard=8)
    one, other = read_crops(local), read_crops(output)
    np.testing.assert_array_equal(np.concatenate(one.shards), np.concatenate(other.shards))
    np.testing.assert_array_equal(one.boxes, other.boxes)
    assert one.names == other.names


def test_an_output_at_an_address_is_finished_continued_and_replaced(small, local, faults, photos, caplog):
    caplog.set_level("INFO")
    met = faults.met

    def ends(request, path):
        met(request, path)
        if request == "write" and path.endswith("shard-00001.json"):
            raise KeyboardInterrupt

    FaultyFileSystem.faults.met = ends
    with pytest.raises(KeyboardInterrupt):
        extract(small, PLACE, OUTPUT, shard=8)
    with pytest.raises(FolderError, match=rf"{OUTPUT} does not contain manifest\.json"):
        read_descriptors(Path(OUTPUT))
    FaultyFileSystem.faults.met = met
    extract(small, PLACE, OUTPUT, shard=8)
    assert "1 of 3 shards are already complete" in caplog.text
    extract(small, PLACE, OUTPUT, shard=8)
    assert f"{OUTPUT} is already complete" in caplog.text
    with pytest.raises(FolderError, match=f"{OUTPUT} was made from other photos or options: --replace"):
        extract(small, PLACE, OUTPUT, shard=8, size=32)
    extract(small, PLACE, OUTPUT, shard=8, size=32, replace=True)
    assert read_descriptors(Path(OUTPUT))[2]["size"] == 32


@pytest.mark.parametrize(
    ("output", "error", "said"),
    [
        ("faulty://bucket/photos/out", FolderError, "is inside faulty://bucket/photos, and its files would be taken"),
        ("faulty://bucket/photos", FolderError, "is inside faulty://bucket/photos"),
        ("http://user:secret@host/out", ArgumentError, "http://host/out: folders are not written to http:// addresses"),
        ("nosuch://bucket/out", ArgumentError, "nosuch://bucket/out: there is no storage of the kind"),
        ("faulty://bucket", FolderError, "faulty://bucket is not a folder of descriptors .*it contains photos/"),
    ],
)
def test_outputs_that_cannot_be_are_refused(small, faults, output, error, said):
    with pytest.raises(error, match=said):
        extract(small, PLACE, output)


class Extracted:
    """In place of an extractor: one feature in the middle of each photo."""

    def read(self, source, *, accept_truncated):
        height, width = photo_size(source)
        return read_photo(source, accept_truncated=accept_truncated), (width, height)

    def features(self, pixels, extent):
        middle = np.array([extent], np.float32) / 2
        return LocalFeatures(middle, np.full((1, 64), 1 / 8, np.float32), *extent)


def test_local_features_are_written_beside_the_descriptors_and_go_with_them(
    small, photos, faults, tmp_path, capsys, monkeypatch
):
    (tmp_path / "weights.npz").write_bytes(b"weights")
    monkeypatch.setattr(extraction, "open_extractor", lambda *_, **__: Extracted())
    options = {"shard": 8, "local": str(tmp_path / "weights.npz")}
    extract(small, PLACE, OUTPUT, **options)
    assert f"{OUTPUT}/local: 23 local features of 23 photos" in capsys.readouterr().out
    stored = open_features(local_features_of(Path(OUTPUT)))
    assert stored.names == read_descriptors(Path(OUTPUT))[1]
    size = np.array([stored.read("deep er/é/000.png").width, stored.read("deep er/é/000.png").height])
    np.testing.assert_allclose(stored.read("deep er/é/000.png").keypoints, [size / 2], atol=0.01)
    faults.requests.clear()
    extract(small, PLACE, OUTPUT, **options)
    assert not {request for request, _ in faults.requests} & {"write", "remove"}
    assert {path for request, path in faults.requests if path.endswith((".npy", ".png"))} == set()
    extract(small, PLACE, OUTPUT, shard=8, size=32, replace=True)
    assert local_features_of(Path(OUTPUT)) is None
    assert not [name for name in FaultyFileSystem.store if "/local/" in name]

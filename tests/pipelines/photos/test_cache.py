"""The photo cache: the reader's pixels exactly, odd photos, killed runs, and folders with other content."""

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from pipelines.files.durable import FolderError, partial_of
from pipelines.files.shards import PLAN
from pipelines.photos import cache as photo_cache
from pipelines.photos.cache import PhotoCache, build_cache
from pipelines.photos.reader import PhotoError
from pipelines.photos.reading import Reading
from tests.helpers.faulty_storage import FaultyFileSystem, faulty_storage, upload
from tests.helpers.small import draw, draw_folder

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def photos(tmp_path):
    names = draw_folder(tmp_path / "photos", 12)
    return names, Reading(tmp_path / "photos", 40)


def test_the_pixels_are_the_readers(photos, tmp_path, monkeypatch):
    names, reading = photos
    monkeypatch.setattr(photo_cache, "SHARD_BYTES", 5 * 3 * 40 * 40)
    cache = build_cache(tmp_path / "cache", names, reading)
    assert len(list(cache.folder.glob("photos-*.bin"))) == 3
    for name in names:
        pixels = cache.read(name)
        np.testing.assert_array_equal(pixels, reading.read(name))
        assert cache.shape(name) == pixels.shape[:2] == reading.shape(name)
    sizes = [cache.read(name).size for name in names]
    assert cache.manifest["bytes"] == sum(sizes) == sum(path.stat().st_size for path in cache.folder.glob("*.bin"))
    assert not [path for path in cache.folder.iterdir() if path.name.startswith(".")]


def test_small_photos_grow_to_what_the_network_needs(photos, tmp_path):
    names, reading = photos
    draw(reading.folder / "tiny.png", 9, 50)
    cache = build_cache(tmp_path / "cache", [*names, "tiny.png"], Reading(reading.folder, 40, smallest=20))
    assert cache.shape("tiny.png") == (20, 40)


def test_odd_photos_are_left_out_with_the_reason(photos, tmp_path):
    names, reading = photos
    (reading.folder / "empty.jpg").touch()
    (reading.folder / names[3]).write_bytes((reading.folder / names[3]).read_bytes()[:200])
    cache = build_cache(tmp_path / "cache", [*names, "empty.jpg", "gone.jpg"], reading)
    assert cache.names == [name for name in names if name != names[3]]
    assert cache.left_out.keys() == {names[3], "empty.jpg", "gone.jpg"}
    assert cache.left_out["empty.jpg"] == "empty file"
    assert cache.left_out["gone.jpg"] == "there is no such file"
    with pytest.raises(PhotoError, match=r"empty\.jpg: empty file"):
        cache.read("empty.jpg")
    with pytest.raises(PhotoError, match=names[3]):
        cache.shape(names[3])
    with pytest.raises(FolderError, match=r"was built without other\.jpg"):
        cache.read("other.jpg")


def test_none_readable_is_an_error_and_leaves_nothing(tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(ValueError, match=r"none of the 1 photos can be read; the first: a\.jpg: empty file"):
        build_cache(tmp_path / "cache", ["a.jpg"], Reading(tmp_path, 40))
    assert not partial_of(tmp_path / "cache").exists()
    with pytest.raises(ValueError, match="needs a reading with a size"):
        build_cache(tmp_path / "cache", ["a.jpg"], Reading(tmp_path, None))


def test_a_cache_that_fits_is_used_again(photos, tmp_path, caplog):
    caplog.set_level("INFO")
    names, reading = photos
    build_cache(tmp_path / "cache", names, reading)
    before = (tmp_path / "cache" / "photos-00000.bin").stat().st_mtime_ns
    assert "cache: 12 photos, " in caplog.text
    caplog.clear()
    build_cache(tmp_path / "cache", names, reading)
    assert (tmp_path / "cache" / "photos-00000.bin").stat().st_mtime_ns == before
    assert caplog.text == ""
    for others in ({"size": 30}, {"size": 40, "exif": False}, {"size": 40, "smallest": 30}):
        with pytest.raises(FolderError, match="other photos or options: name another folder, or remove it"):
            build_cache(tmp_path / "cache", names, Reading(reading.folder, **others))
    draw(reading.folder / names[0], 30, 30, seed=99)
    with pytest.raises(FolderError, match="was made from other photos or options"):
        build_cache(tmp_path / "cache", names, reading)
    assert build_cache(tmp_path / "cache", names, reading, replace=True).shape(names[0]) == (30, 30)


def test_what_is_no_cache_is_never_replaced(photos, tmp_path):
    names, reading = photos
    with pytest.raises(FolderError, match=r"does not contain manifest\.json"):
        build_cache(reading.folder, names, reading)
    with pytest.raises(FolderError, match="is not a folder of photo cache"):
        build_cache(reading.folder, names, reading, replace=True)


def test_damage_is_found(photos, tmp_path):
    names, reading = photos
    cache = build_cache(tmp_path / "cache", names, reading)
    shard = cache.folder / "photos-00000.bin"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    PhotoCache(cache.folder)
    with pytest.raises(FolderError, match=r"photos-00000\.bin has changed"):
        PhotoCache(cache.folder, verify=True)
    shard.write_bytes(content[:-1])
    with pytest.raises(FolderError, match=r"photos-00000\.bin has .* bytes instead of"):
        PhotoCache(cache.folder)
    with pytest.raises(FolderError, match="has become shorter"):
        cache.read(names[-1])


def test_it_holds_no_more_than_a_few_shards(tmp_path, monkeypatch):
    for number in range(40):
        draw(tmp_path / "photos" / f"{number}.png", 200, 200, seed=number)
    names = [f"{number}.png" for number in range(40)]
    monkeypatch.setattr(photo_cache, "SHARD_BYTES", 2 * 3 * 200 * 200)
    tracemalloc.start()
    cache = build_cache(tmp_path / "cache", names, Reading(tmp_path / "photos", 200))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert cache.manifest["bytes"] == 40 * 3 * 200 * 200
    assert peak < 0.5 * cache.manifest["bytes"]


SLOW_BUILD = """
import sys, time
from pathlib import Path
from pipelines.photos import cache, reading
cache.SHARD_BYTES = 2 * 3 * 40 * 40
read = reading.read_photo
reading.read_photo = lambda *args, **options: (time.sleep(0.1), read(*args, **options))[1]
photos = Path(sys.argv[1])
cache.build_cache(Path(sys.argv[2]), sorted(p.name for p in photos.iterdir()), reading.Reading(photos, 40))
"""


def test_a_killed_build_goes_on(photos, tmp_path, monkeypatch):
    names, reading = photos
    partial = partial_of(tmp_path / "cache")
    command = [sys.executable, "-c", SLOW_BUILD, str(reading.folder), str(tmp_path / "cache")]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    deadline = time.monotonic() + 30
    while len(list(partial.glob(".shard-*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cache").exists()
    done = {path: path.stat().st_mtime_ns for path in partial.glob("photos-*.bin")}
    finished = [path for path in done if (partial / f".shard-{path.stem[-5:]}.json").exists()]
    assert 2 <= len(finished) < 6
    monkeypatch.setattr(photo_cache, "SHARD_BYTES", 2 * 3 * 40 * 40)
    cache = build_cache(tmp_path / "cache", names, reading)
    for path in finished:
        assert (cache.folder / path.name).stat().st_mtime_ns == done[path]
    assert PhotoCache(cache.folder, verify=True).names == names
    for name in names:
        np.testing.assert_array_equal(cache.read(name), reading.read(name))


def test_work_on_other_photos_is_begun_anew(photos, tmp_path, caplog):
    names, reading = photos
    partial = partial_of(tmp_path / "cache")
    partial.mkdir()
    (partial / "mine.txt").touch()
    with pytest.raises(FolderError, match="exists and is not unfinished work of this kind"):
        build_cache(tmp_path / "cache", names, reading)
    (partial / PLAN).write_text(json.dumps("another run"))
    cache = build_cache(tmp_path / "cache", names, reading)
    assert "starting over" in caplog.text
    assert cache.names == names
    assert not (cache.folder / "mine.txt").exists()


def test_photos_at_an_address_are_read_once_and_none_is_lost_to_faults(photos, tmp_path, monkeypatch):
    pytest.importorskip("fsspec")
    names, reading = photos
    monkeypatch.setattr(photo_cache, "SHARD_BYTES", 5 * 3 * 40 * 40)
    local = build_cache(tmp_path / "local", names, reading)
    with faulty_storage(monkeypatch) as faults:
        upload(reading.folder, "bucket/photos")
        there = Reading(Path("faulty://bucket/photos"), 40)
        met = faults.met

        def killed(request, path):
            met(request, path)
            if path.endswith(names[7]):
                raise KeyboardInterrupt

        faults.met = killed
        with pytest.raises(KeyboardInterrupt):
            build_cache(tmp_path / "cache", names, there)
        faults.met = met
        faults.requests.clear()
        faults.every, faults.outage = 6, (0.0, 60.0)
        cache = build_cache(tmp_path / "cache", [*names, "gone.png"], there, replace=True)
        assert cache.left_out == {"gone.png": "there is no such file"}
        faults.requests.clear()
        faults.every = 0
        cache = build_cache(tmp_path / "cache", names, there, replace=True)
        assert [request for request, _ in faults.requests] == ["find"] + ["read"] * len(names)
        assert build_cache(tmp_path / "cache", names, there).manifest["photos"] == "faulty://bucket/photos"
        assert faults.count("read") == len(names)
        for name in names:
            np.testing.assert_array_equal(cache.read(name), local.read(name))
        FaultyFileSystem.store[f"/bucket/photos/{names[0]}"].created += timedelta(days=1)
        with pytest.raises(FolderError, match="was made from other photos or options"):
            build_cache(tmp_path / "cache", names, there)

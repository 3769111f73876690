"""Thumbnails: upright, kept in memory and in a folder within limits, made once, and anew when their photo changes."""

import io
import os
import threading

import numpy as np
import pytest
from keras_retrieval.pipelines.photos.reader import PhotoError, read_photo
from PIL import Image

from export.search_page import thumbnails as module
from export.search_page.thumbnails import ByteCache, FileCache, Thumbnails
from tests.helpers.deadlines import join


@pytest.fixture
def reads(monkeypatch):
    """The sides that were made."""
    made = []

    def read(path, **options):
        made.append(options["size"])
        return read_photo(path, **options)

    monkeypatch.setattr(module, "read_photo", read)
    return made


def photo(path, size=(600, 400), **options):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    Image.fromarray(pixels).resize(size).save(path, **options)
    return path


def test_a_thumbnail_is_upright_and_never_enlarged(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = photo(tmp_path / "a.jpg", exif=exif)
    kept = Thumbnails()
    assert Image.open(io.BytesIO(kept.jpeg(path, 256))).size == (171, 256)
    assert Image.open(io.BytesIO(kept.jpeg(path, 256, exif=False))).size == (256, 171)
    assert Image.open(io.BytesIO(kept.full(path))).size == (400, 600)
    assert Image.open(io.BytesIO(kept.jpeg(photo(tmp_path / "small.png", (20, 10)), 512))).size == (20, 10)


def test_it_is_made_once_and_anew_when_the_photo_changes(tmp_path, reads):
    path, kept = photo(tmp_path / "a.jpg"), Thumbnails(tmp_path / "cache")
    first = kept.jpeg(path, 256)
    assert kept.jpeg(path, 256) == first
    assert Thumbnails(tmp_path / "cache").jpeg(path, 256) == first  # in the next run
    assert reads == [256]
    kept.jpeg(path, 512)
    photo(path, (500, 300))
    assert Image.open(io.BytesIO(kept.jpeg(path, 256))).size == (256, 154)
    assert reads == [256, 512, 256]
    with pytest.raises(OSError):
        kept.jpeg(tmp_path / "none.jpg", 256)
    path.write_bytes(b"no photo")
    with pytest.raises(PhotoError):
        kept.jpeg(path, 256)


def test_many_who_ask_at_once_get_what_one_makes(tmp_path, monkeypatch):
    path, kept, made, got = photo(tmp_path / "a.jpg"), Thumbnails(), [], []
    waiting = threading.Barrier(8)

    def read(*arguments, **options):
        made.append(1)
        return read_photo(*arguments, **options)

    monkeypatch.setattr(module, "read_photo", read)

    def ask():
        waiting.wait(10)
        got.append(kept.jpeg(path, 256))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    join(threads)
    assert (len({*got}), len(got), len(made)) == (1, 8, 1)


def test_the_memory_forgets_what_was_not_asked_for_longest():
    cache = ByteCache(10)
    for key in "abc":
        cache.put(key, b"1234")
        assert cache.get("a")
    assert [cache.get(key) for key in "abc"] == [b"1234", None, b"1234"]
    cache.put("c", b"12345678")
    assert [cache.get(key) for key in "abc"] == [None, None, b"12345678"]
    cache.put("d", bytes(11))
    assert [cache.get(key) for key in "abcd"] == [None] * 4
    threads = [threading.Thread(target=lambda n=n: [cache.put(n, bytes(n % 5)) for _ in range(50)]) for n in range(8)]
    for thread in threads:
        thread.start()
    join(threads)
    assert sum(len(cache.get(n) or b"") for n in range(8)) <= 10


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_folder_stays_within_its_limit_and_keeps_what_was_read_last(tmp_path):
    cache = FileCache(tmp_path, 1_000)
    for number in range(9):
        cache.put(number, bytes(100) + bytes([number]))
        os.utime(cache._path(number), (number, number))
    assert cache.get(0) == bytes(101)  # now the latest
    cache.put("next", bytes(200))
    assert sum(path.stat().st_size for path in files(tmp_path)) <= 900
    assert cache.get(0) is not None
    assert cache.get("next") is not None
    assert cache.get(1) is None
    assert cache.get(8) == bytes(100) + b"\x08"
    again = FileCache(tmp_path, 1_000)  # counts what is there already
    again.put("x", bytes(500))
    assert sum(path.stat().st_size for path in files(tmp_path)) <= 900


def test_a_kill_while_writing_leaves_no_half_file(tmp_path, monkeypatch, caplog):
    cache = FileCache(tmp_path, 1_000)

    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(module.Path, "replace", fail)
    for key in ("a", "b"):
        cache.put(key, b"data")
    assert [cache.get("a"), files(tmp_path)] == [None, []]
    assert [record.getMessage() for record in caplog.records] == [
        f"thumbnails are not kept in {tmp_path}: No space left on device"
    ]


def test_a_folder_that_cannot_be_made_costs_the_cache_only(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    path = photo(tmp_path / "a.jpg")
    assert Thumbnails(tmp_path / "file" / "cache").jpeg(path, 256)
    assert "thumbnails are not kept in" in caplog.text


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[:5],
        lambda content: bytes(len(content)),
        lambda content: content[:9] + bytes([content[9] ^ 1]) + content[10:],
    ],
)
def test_a_damaged_file_of_the_cache_counts_as_absent(tmp_path, damage):
    cache = FileCache(tmp_path, 1_000)
    cache.put("key", b"the bytes of a picture")
    assert cache.get("key") == b"the bytes of a picture"
    (path,) = files(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get("key") is None
    cache.put("key", b"the bytes of a picture")
    assert cache.get("key") == b"the bytes of a picture"

"""The intake of a folder: each file is taken, left out with a reason, or ignored by a rule, and the account adds up."""

import builtins
import json
import os
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.photos import formats, intake
from pipelines.photos.formats import HEIC_MISSING, PhotoError, PhotoFolderError, printable
from pipelines.photos.ignore_rules import IntakeRules
from pipelines.photos.intake import IGNORED, list_photos, take_photos
from pipelines.photos.reader import read_photo
from tests.helpers.odd_collection import entries_on_disk, heic, make_odd_collection, odd_entries, photo

pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A folder with every kind of odd file, and its entries by their names in the account."""
    folder = tmp_path_factory.mktemp("odd") / "photos"
    return folder, make_odd_collection(folder)


def write(folder: Path, *names: str, data: bytes | None = None) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(photo(number) if data is None else data)


def test_the_odd_collection_has_enough_kinds():
    assert len(odd_entries()) >= 80


@pytest.mark.parametrize("name", [entry.account or entry.name for entry in odd_entries()])
def test_an_odd_file_has_its_declared_outcome(odd, name):
    folder, entries = odd
    taken, entry = take_photos(folder), entries[name]
    if entry.outcome:
        assert entry.outcome in taken.reasons[name]
        assert name not in taken.photos
    else:
        assert name in taken.photos
        assert name not in taken.reasons
        if entry.readable:
            assert read_photo(folder / name).ndim == 3
        else:
            with pytest.raises(PhotoError):
                read_photo(folder / name)


def test_the_account_adds_up_to_what_the_file_system_lists(odd):
    folder, entries = odd
    taken = take_photos(folder)
    groups = [set(taken.photos), set(taken.left_out), set(taken.ignored)]
    assert sum(map(len, groups)) == len(set.union(*groups)) == len(entries)
    assert set.union(*groups) == set(entries) == entries_on_disk(folder)
    assert taken.photos == sorted(taken.photos)
    counts = f"{len(taken.photos)} photos, {len(taken.left_out)} files left out, {len(taken.ignored)} files ignored\n"
    assert counts in taken.account
    for group, files in (("left out", taken.left_out), ("ignored", taken.ignored)):
        lines = [line.split() for line in taken.account.splitlines() if line.startswith(f"  {group}: ")]
        assert sum(int(line[2 if group == "left out" else 1]) for line in lines) == len(files)


def test_rules_are_switched_off(odd):
    folder, _ = odd
    usual, hidden = take_photos(folder), take_photos(folder, IntakeRules(hidden=True))
    everything = take_photos(folder, IntakeRules(hidden=True, system_files=True))
    assert "share/.hidden/d.jpg" in hidden.photos
    assert "share/@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg" not in hidden.photos
    assert {"share/@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", "share/#recycle/b.jpg"} < set(everything.photos)
    assert "share/Mine.photoslibrary/originals/1/1.heic" in everything.photos
    assert set(usual.photos) < set(hidden.photos) < set(everything.photos)
    assert everything.left_out["share/._a.jpg"] == "a resource fork (AppleDouble), not a photo"
    assert all("link" in rule for rule in everything.ignored.values())


def test_patterns_choose_files_as_gitignore_does(tmp_path):
    write(tmp_path, "a.jpg", "b.png", "italy/c.jpg", "italy/rome/d.jpg", "2024/x/best-e.jpg", "2024/f.jpg")

    def taken(**rules):
        return take_photos(tmp_path, IntakeRules(**rules))

    assert taken(include=["*.png"]).photos == ["b.png"]
    assert taken(include=["italy/"]).photos == ["italy/c.jpg", "italy/rome/d.jpg"]
    assert taken(include=["/2024/**/best*"]).photos == ["2024/x/best-e.jpg"]
    assert taken(exclude=["italy/rome", "*.png"]).photos == ["2024/f.jpg", "2024/x/best-e.jpg", "a.jpg", "italy/c.jpg"]
    both = taken(include=["*.jpg"], exclude=["2024/"])
    assert both.photos == ["a.jpg", "italy/c.jpg", "italy/rome/d.jpg"]
    assert both.ignored == {
        "2024/f.jpg": "it matches --exclude",
        "2024/x/best-e.jpg": "it matches --exclude",
        "b.png": "it matches no --include",
    }
    with pytest.raises(PhotoFolderError, match=r"contains no photo; ignored: 6 x it matches no --include"):
        taken(include=["*.heic"])


def test_a_library_that_is_named_itself_is_read(tmp_path):
    write(tmp_path, "Mine.photoslibrary/originals/0/0.jpg", "@eaDir/1.jpg")
    assert take_photos(tmp_path / "Mine.photoslibrary").photos == ["originals/0/0.jpg"]
    assert take_photos(tmp_path / "@eaDir").photos == ["1.jpg"]


def test_a_folder_that_gives_no_photos_says_why(tmp_path):
    with pytest.raises(PhotoFolderError, match="missing does not exist"):
        take_photos(tmp_path / "missing")
    with pytest.raises(PhotoFolderError, match="contains no photo: it is empty"):
        take_photos(tmp_path)
    write(tmp_path, "notes.txt", data=b"notes")
    with pytest.raises(PhotoFolderError, match="is a file, not a folder"):
        take_photos(tmp_path / "notes.txt")
    with pytest.raises(PhotoFolderError, match=r"left out: 1 x a text file; the first: notes\.txt: a text file"):
        take_photos(tmp_path)
    assert take_photos(tmp_path, required=False).left_out == {"notes.txt": "a text file"}


def test_a_folder_that_may_not_be_listed_costs_itself(tmp_path, monkeypatch):
    write(tmp_path, "a.jpg", "lost+found/b.jpg", "open/c.jpg")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("lost+found"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(intake.os, "scandir", refuse)
    taken = take_photos(tmp_path)
    assert taken.photos == ["a.jpg", "open/c.jpg"]
    assert taken.left_out == {"lost+found/": "the folder cannot be listed (Permission denied)"}
    with pytest.raises(PhotoFolderError, match=r"lost\+found: the folder cannot be listed \(Permission denied\)"):
        take_photos(tmp_path / "lost+found")


def test_a_file_that_may_not_be_opened_costs_itself(tmp_path, monkeypatch):
    write(tmp_path, "a.jpg", "b.jpg")
    opened = os.open

    def refuse(path, *args, **kwargs):
        if str(path).endswith("b.jpg"):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(intake.os, "open", refuse)
    assert take_photos(tmp_path).left_out == {"b.jpg": "no permission to read it"}


def test_names_in_two_unicode_forms_are_two_photos_and_told(tmp_path, caplog):
    names = [unicodedata.normalize(form, "Bär/Köln.jpg") for form in ("NFC", "NFD")]
    write(tmp_path, *names, "plain.jpg")
    assert set(take_photos(tmp_path).photos) == {*names, "plain.jpg"}
    assert "1 name stored in two Unicode forms of one text (NFC and NFD)" in caplog.text


def test_heic_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    write(tmp_path, "a.jpg")
    write(tmp_path, "b.heic", data=heic(3))
    assert take_photos(tmp_path).photos == ["a.jpg", "b.heic"]
    monkeypatch.setattr(formats, "_heif_reader", lambda: None)
    taken = take_photos(tmp_path)
    assert taken.left_out == {"b.heic": HEIC_MISSING}
    assert (
        '\n  left out: 1 x a HEIC photo, which needs pillow-heif: pip install "keras-retrieval[heif]"' in taken.account
    )
    with pytest.raises(PhotoError, match=r"pip install \"keras-retrieval\[heif\]\""):
        read_photo(tmp_path / "b.heic")


@pytest.fixture
def opened(monkeypatch):
    """The names of the files that the intake opens."""
    names = []
    plain = intake.file_content

    def noted(path):
        names.append(Path(path).name)
        return plain(path)

    monkeypatch.setattr(intake, "file_content", noted)
    return names


def test_a_second_run_opens_only_what_has_changed(tmp_path, opened):
    write(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    write(tmp_path, "notes.txt", data=b"notes")
    long_ago = time.time() - 3600
    for path in tmp_path.iterdir():
        os.utime(path, (long_ago, long_ago))
    first = take_photos(tmp_path)
    assert sorted(opened) == ["a.jpg", "b.jpg", "c.jpg", "notes.txt"]
    opened.clear()
    assert take_photos(tmp_path) == first
    assert opened == []
    (tmp_path / "b.jpg").write_bytes(b"no photo any more")
    os.utime(tmp_path / "c.jpg", (long_ago + 60, long_ago + 60))
    (tmp_path / "a.jpg").unlink()
    write(tmp_path, "d.jpg")
    second = take_photos(tmp_path)
    assert sorted(opened) == ["b.jpg", "c.jpg", "d.jpg"]
    assert second.photos == ["c.jpg", "d.jpg"]
    assert second.left_out["b.jpg"] == "a text file"


def test_a_file_that_was_just_written_is_opened_again(tmp_path, opened):
    write(tmp_path, "a.jpg")
    take_photos(tmp_path)
    take_photos(tmp_path)
    assert opened == ["a.jpg", "a.jpg"]


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no archive", None], ids=["empty", "garbage", "a folder"])
def test_a_damaged_cache_is_made_anew(tmp_path, monkeypatch, opened, damage):
    cache, photos = tmp_path / "cache", tmp_path / "photos"
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", str(cache))
    write(photos, "a.jpg")
    os.utime(photos / "a.jpg", (1e9, 1e9))
    take_photos(photos)
    (file,) = cache.rglob("*.npz")
    file.unlink()
    file.mkdir() if damage is None else file.write_bytes(damage)
    assert take_photos(photos).photos == ["a.jpg"]
    assert take_photos(photos).photos == ["a.jpg"]
    assert len(opened) == (3 if damage is None else 2)  # nothing is remembered where it cannot be written


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    write(tmp_path, "photos/a.jpg", "file")
    os.utime(tmp_path / "photos" / "a.jpg", (1e9, 1e9))
    for place in (tmp_path / "file", ""):
        monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", str(place))
        assert take_photos(tmp_path / "photos").photos == ["a.jpg"]


def test_slow_disks_are_read_side_by_side(tmp_path, monkeypatch):
    write(tmp_path, *(f"{number:03}.jpg" for number in range(200)), data=photo(0))
    plain, started = intake.file_content, time.perf_counter()

    def slow(path):
        time.sleep(0.01)
        return plain(path)

    monkeypatch.setattr(intake, "file_content", slow)
    assert len(take_photos(tmp_path).photos) == 200
    assert time.perf_counter() - started < 1.5  # one after the other, they would take 2 s


def test_listing_logs_what_is_left_out(tmp_path, caplog):
    caplog.set_level("INFO")
    write(tmp_path, "a.jpg")
    assert list_photos(tmp_path) == ["a.jpg"]
    assert not caplog.text
    write(tmp_path, "a.txt", data=b"text")
    list_photos(tmp_path)
    assert "1 photo, 1 file left out\n  left out: 1 x a text file" in caplog.text


def test_a_name_is_printable_in_a_message():
    assert printable("bell\x07\x1b[31m é 雪 \udcff\u202e") == "bell\\x07\\x1b[31m é 雪 \\udcff\\u202e"
    with pytest.raises(PhotoError, match=r"no\\x1bphoto\.jpg: there is no such file"):
        read_photo("no\x1bphoto.jpg")


def test_reasons_are_json(odd, tmp_path):
    from pipelines.files.shards import read_left_out, write_left_out

    folder, _ = odd
    reasons = take_photos(folder).reasons
    write_left_out(tmp_path / "left_out.json", reasons)
    assert read_left_out(tmp_path) == reasons
    assert json.loads((tmp_path / "left_out.json").read_text(encoding="utf-8")) == reasons
    assert any(reason.startswith(IGNORED) for reason in reasons.values())


def test_nothing_is_opened_that_is_not_a_file(tmp_path, monkeypatch):
    write(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "b.jpg")
    monkeypatch.setattr(builtins, "open", None)
    assert take_photos(tmp_path).left_out == {"b.jpg": "not a regular file"}  # opening it would wait for ever


def test_truncated_photos_are_accepted_on_demand(tmp_path):
    whole = np.asarray(Image.fromarray(np.arange(256 * 256 * 3, dtype=np.uint32).astype(np.uint8).reshape(256, 256, 3)))
    Image.fromarray(whole).save(tmp_path / "whole.jpg", quality=95)
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: -len(content) // 3])
    with pytest.raises(PhotoError, match="truncated"):
        read_photo(tmp_path / "cut.jpg")
    expected, found = read_photo(tmp_path / "whole.jpg"), read_photo(tmp_path / "cut.jpg", accept_truncated=True)
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found[:100], expected[:100])
    Image.fromarray(whole).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:-2000])
    with pytest.raises(PhotoError, match="truncated"):
        read_photo(tmp_path / "cut.png", accept_truncated=True)

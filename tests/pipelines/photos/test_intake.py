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

from keras_retrieval.errors import ArgumentError, printable
from pipelines.files.cache_folder import cache_folder
from pipelines.photos import content_cache, formats, intake
from pipelines.photos.formats import HEIC_MISSING, PhotoError, PhotoFolderError
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


def link(path: Path, target: Path | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target, target_is_directory=True)


def test_a_link_to_a_hidden_folder_is_read(tmp_path):
    write(tmp_path, "a.jpg", ".store/b.jpg", "@eaDir/sub/c.jpg", "old/d.jpg")
    link(tmp_path / "album", ".store")
    link(tmp_path / "deep", "@eaDir/sub")
    link(tmp_path / "old-link", "old")
    taken = take_photos(tmp_path)
    assert taken.photos == ["a.jpg", "album/b.jpg", "deep/c.jpg", "old/d.jpg"]
    assert taken.ignored["old-link/"] == "a link to a folder that is read under its own name"
    assert taken.ignored[".store/b.jpg"].startswith("hidden")
    excluded = take_photos(tmp_path, IntakeRules(exclude=["/old"]))
    assert excluded.ignored["old-link/"] == "a link to a folder that matches --exclude"
    assert excluded.photos == ["a.jpg", "album/b.jpg", "deep/c.jpg"]


@pytest.mark.parametrize("ignored", [".a", "@eaDir", "z"])
def test_a_link_that_is_ignored_does_not_take_the_folder_of_another_link(tmp_path, ignored):
    photos, outside = tmp_path / "photos", tmp_path / "outside"
    write(outside, "a.jpg")
    link(photos / ignored / "link", outside)
    link(photos / "m" / "link", outside)
    taken = take_photos(photos, IntakeRules(exclude=["z/"]))
    assert taken.photos == ["m/link/a.jpg"]
    assert list(taken.ignored) == [f"{ignored}/link/"]


def test_the_first_of_several_links_is_followed_in_whatever_order_the_system_lists_them(tmp_path, monkeypatch):
    photos, outside = tmp_path / "photos", tmp_path / "outside"
    write(outside, "a.jpg", "sub/b.jpg")
    for name in ("c", "b", "a"):
        link(photos / name, outside)
    link(photos / "0", outside / "sub")
    link(photos / "chain", "c")
    scandir, found = os.scandir, []

    class Listed(list):
        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    for backwards in (False, True):
        monkeypatch.setattr(
            intake.os,
            "scandir",
            lambda path, last=backwards: Listed(sorted(scandir(path), key=lambda e: e.name, reverse=last)),
        )
        found.append(take_photos(photos))
    assert found[0] == found[1]
    assert found[0].photos == ["0/b.jpg", "a/a.jpg"]
    another = "a link to a folder that is read under another name"
    assert found[0].ignored == {
        "a/sub/": "a folder that is read under the name of a link",
        **dict.fromkeys(["b/", "c/", "chain/"], another),
    }


def test_patterns_match_names_in_either_unicode_form(tmp_path):
    for form, other in (("NFC", "NFD"), ("NFD", "NFC")):
        folder = tmp_path / form
        write(folder, unicodedata.normalize(form, "Köln/a.jpg"), "b.jpg")
        pattern = unicodedata.normalize(other, "Köln/")
        assert take_photos(folder, IntakeRules(exclude=[pattern])).photos == ["b.jpg"]
        assert len(take_photos(folder, IntakeRules(include=[pattern])).photos) == 1


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("#recycle", r"is a comment and would match nothing: write '\\#recycle'"),
        ("!", "is not a pattern"),
        ("/", "is not a pattern"),
        ("\\", "is not a pattern"),
        ("[", "is not a pattern"),
    ],
)
def test_a_pattern_that_cannot_match_is_an_error(tmp_path, pattern, message):
    write(tmp_path, "a.jpg")
    for option in ("include", "exclude"):
        with pytest.raises(ArgumentError, match=f"--{option} '.*' {message}"):
            take_photos(tmp_path, IntakeRules(**{option: ["*.jpg", pattern]}))


def test_a_pattern_that_matches_nothing_is_told(tmp_path, caplog):
    write(tmp_path, "a.jpg", "b/c.jpg", ".git/d.jpg")
    patterns = ["b/", ".git/", "*.heic", str(tmp_path / "a.jpg")]
    take_photos(tmp_path, IntakeRules(exclude=patterns, include=["*.jpg", "!*.txt"]))
    told = [record.getMessage().split(": no file")[0] for record in caplog.records]
    assert told == ["--include !*.txt", "--exclude *.heic", f"--exclude {tmp_path / 'a.jpg'}"]


def test_a_folder_whose_name_is_odd_is_shown_escaped(tmp_path):
    for name, shown in (("bell\x07\nline", "bell\\x07\\nline"), (os.fsdecode(b"latin-\xe9"), "latin-\\udce9")):
        write(tmp_path / name, "a.jpg")
        write(tmp_path / name, "a.txt", data=b"text")
        assert take_photos(tmp_path / name).account.startswith(f"{tmp_path}/{shown}: 1 photo, 1 file left out\n")
        with pytest.raises(PhotoFolderError) as error:
            take_photos(tmp_path / name / "missing")
        assert str(error.value) == f"{tmp_path}/{shown}/missing does not exist"


def test_a_path_that_is_too_long_is_an_error_of_ours(tmp_path):
    with pytest.raises(PhotoFolderError, match=r"the system cannot read it \(File name too long\)"):
        take_photos(tmp_path / ("x" * 300))
    place, here = tmp_path / "deep", Path.cwd()
    place.mkdir()
    write(place, "a.jpg")
    try:
        os.chdir(place)
        for _ in range(25):
            Path("d" * 200).mkdir()
            os.chdir("d" * 200)
        Path("b.jpg").write_bytes(photo(1))
    finally:
        os.chdir(here)
    taken = take_photos(place)
    assert taken.photos == ["a.jpg"]
    assert list(taken.left_out.values()) == ["the folder cannot be listed (File name too long)"]


def test_a_tiff_with_an_offset_that_no_file_can_have_is_damaged(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II+\0\x08\0\0\0" + (2**62).to_bytes(8, "little"))
    assert take_photos(tmp_path).photos == ["a.tif"]
    with pytest.raises(PhotoError, match="truncated"):
        read_photo(tmp_path / "a.tif")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder that remembers a folder of one photo, written long ago."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", str(folder))
    write(tmp_path / "photos", "a.jpg")
    os.utime(tmp_path / "photos" / "a.jpg", (1e9, 1e9))
    take_photos(tmp_path / "photos")
    return folder


def test_what_other_code_told_of_a_file_is_not_trusted(tmp_path, monkeypatch, cache, opened):
    take_photos(tmp_path / "photos")
    assert opened == []
    monkeypatch.setattr(content_cache, "_layout", lambda: "that of a later version")
    for _ in range(2):
        assert take_photos(tmp_path / "photos").photos == ["a.jpg"]
    assert opened == ["a.jpg"]


def test_only_files_of_the_cache_are_deleted_from_it(tmp_path, cache):
    (own,) = cache.rglob("*.npz")
    old, foreign = own.with_name("0" * 24 + ".npz"), own.with_name("my descriptors.npz")
    for file in (old, foreign):
        file.write_bytes(b"")
        os.utime(file, (1e9, 1e9))
    write(tmp_path / "photos", "b.jpg")
    os.utime(tmp_path / "photos" / "b.jpg", (1e9, 1e9))
    take_photos(tmp_path / "photos")
    assert {*cache.rglob("*.npz")} == {own, foreign}


def test_a_cache_folder_is_never_a_folder_named_tilde(tmp_path, monkeypatch):
    write(tmp_path / "photos", "a.jpg")
    os.utime(tmp_path / "photos" / "a.jpg", (1e9, 1e9))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", "~/cache")
    take_photos(tmp_path / "photos")
    assert len([*(tmp_path / "home" / "cache").rglob("*.npz")]) == 1
    assert not (tmp_path / "~").exists()


def test_a_user_without_a_home_takes_photos(tmp_path, monkeypatch):
    write(tmp_path, "a.jpg")
    for variable in ("KERAS_RETRIEVAL_CACHE", "HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda user: {}[user])  # as for a number that has no account
    assert cache_folder() is None
    assert take_photos(tmp_path).photos == ["a.jpg"]

"""The photos that COLMAP reads: the same pixels as everywhere, prepared once."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from pipelines.files.remote import RemoteError
from pipelines.files.space import DiskSpaceError
from pipelines.photos.reader import read_photo
from pipelines.sfm.colmap import colmap_name
from pipelines.sfm.photos import NOTES, prepare
from tests.helpers.faulty_storage import FaultyFileSystem, faulty_storage, upload

pycolmap = pytest.importorskip("pycolmap")


@pytest.fixture
def odd_photos(tmp_path):
    """The same picture in many forms, some of which COLMAP would misread."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8)).resize((160, 120), Image.Resampling.BICUBIC)
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    turned[ExifTags.Base.Model] = "Lens"
    turned.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 28
    picture.save(folder / "plain.jpg")
    picture.save(folder / "plain.png")
    picture.save(folder / "turned.jpg", exif=turned)
    picture.save(folder / "moving.gif")
    picture.save(folder / "a web page.webp", lossless=True)
    picture.convert("CMYK").save(folder / "print.jpg")
    Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257).save(folder / "deep.png")
    (folder / "half.jpg").write_bytes((folder / "plain.jpg").read_bytes()[:1500])
    return folder


def test_colmap_sees_the_pixels_that_the_photo_reader_sees(odd_photos, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    names = sorted(path.name for path in odd_photos.iterdir())
    left_out = prepare(odd_photos, names, work)
    assert list(left_out) == ["half.jpg"]
    assert "truncated" in left_out["half.jpg"]
    for name in set(names) - set(left_out):
        seen = pycolmap.Bitmap.read(work / "images" / colmap_name(name), True).to_array()
        difference = seen.astype(float) - read_photo(odd_photos / name)
        assert np.abs(difference).mean() < 8, name
    links = {path.name for path in (work / "images").iterdir() if path.is_symlink()}
    assert links == {"plain.jpg", "plain.png"}
    with Image.open(work / "images" / "turned.jpg") as copy:
        exif = copy.getexif()
        assert ExifTags.Base.Orientation not in exif
        assert exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] == 28


def test_photos_are_prepared_once_and_must_not_change(odd_photos, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    prepare(odd_photos, ["plain.jpg", "turned.jpg", "half.jpg"], work)
    copy = work / "images" / "turned.jpg"
    made = copy.stat().st_mtime_ns
    os.utime(odd_photos / "turned.jpg")
    assert list(prepare(odd_photos, ["plain.jpg", "turned.jpg", "half.jpg"], work)) == ["half.jpg"]
    assert copy.stat().st_mtime_ns >= made
    (odd_photos / "half.jpg").write_bytes((odd_photos / "plain.jpg").read_bytes())
    assert prepare(odd_photos, ["half.jpg"], work) == {}
    (odd_photos / "plain.jpg").write_bytes((odd_photos / "turned.jpg").read_bytes())
    with pytest.raises(ValueError, match="has changed since"):
        prepare(odd_photos, ["plain.jpg"], work)


def test_photos_that_were_moved_are_linked_anew(odd_photos, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    prepare(odd_photos, ["plain.jpg", "half.jpg"], work)
    moved = odd_photos.rename(tmp_path / "elsewhere")
    assert not (work / "images" / "plain.jpg").exists()
    assert list(prepare(moved, ["plain.jpg", "half.jpg"], work)) == ["half.jpg"]
    assert (work / "images" / "plain.jpg").resolve() == moved / "plain.jpg"


def test_a_disk_without_links_gets_copies(odd_photos, tmp_path, monkeypatch):
    def refuse(self, target, target_is_directory=False):
        raise PermissionError(errno.EPERM, "Operation not permitted", str(self))

    monkeypatch.setattr(Path, "symlink_to", refuse)
    work = tmp_path / "work"
    work.mkdir()
    assert prepare(odd_photos, ["plain.jpg"], work) == {}
    image = work / "images" / colmap_name("plain.jpg")
    assert not image.is_symlink()
    assert image.read_bytes() == (odd_photos / "plain.jpg").read_bytes()


def test_a_full_disk_ends_the_run_and_leaves_out_no_photo(odd_photos, tmp_path, monkeypatch):
    def full(self, *args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device", str(args[0]))

    monkeypatch.setattr(Image.Image, "save", full)
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(OSError, match=r"turned\.jpg needs more than the .* that are free on its disk"):
        prepare(odd_photos, ["turned.jpg"], work)
    monkeypatch.undo()
    assert prepare(odd_photos, ["turned.jpg"], work) == {}


def test_truncated_photos_become_whole_copies_on_demand(odd_photos, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    assert "truncated" in prepare(odd_photos, ["half.jpg"], work)["half.jpg"]
    assert prepare(odd_photos, ["half.jpg"], work, accept_truncated=True) == {}
    image = work / "images" / colmap_name("half.jpg")
    assert not image.is_symlink()
    assert read_photo(image).shape == read_photo(odd_photos / "plain.jpg").shape


def test_a_png_that_xmp_turns_is_copied_upright(tmp_path):
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", '<rdf:Description tiff:Orientation="6"/>')
    (tmp_path / "photos").mkdir()
    (tmp_path / "work").mkdir()
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "photos" / "a.png", pnginfo=info)
    assert prepare(tmp_path / "photos", ["a.png"], tmp_path / "work") == {}
    with Image.open(tmp_path / "work" / "images" / colmap_name("a.png")) as copy:
        assert copy.size == (40, 60)


def test_photos_at_an_address_become_the_images_of_a_local_folder(odd_photos, tmp_path, monkeypatch):
    names = sorted(path.name for path in odd_photos.iterdir())
    place, work, local = Path("faulty://bucket/photos"), tmp_path / "work", tmp_path / "local"
    work.mkdir()
    local.mkdir()
    prepare(odd_photos, names, local)
    with faulty_storage(monkeypatch) as faults:
        upload(odd_photos, "bucket/photos")
        faults.outage = (0.0, 1e9)
        with pytest.raises(RemoteError, match="no answer"):
            prepare(place, names, work)
        faults.outage, usage = (0.0, 0.0), shutil.disk_usage(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=20_000))
            with pytest.raises(DiskSpaceError, match=r"work needs .* and .* are free"):
                prepare(place, names, work)
        assert not (work / "images").exists()
        faults.every, faults.outage = 5, (0.0, faults.clock.now + 60)
        assert prepare(place, [*names, "gone.jpg"], work).keys() == {"half.jpg", "gone.jpg"}
        for name in names[:2] + names[3:]:
            image = colmap_name(name)
            assert (work / "images" / image).read_bytes() == (local / "images" / image).read_bytes(), name
            assert not (work / "images" / image).is_symlink()
        faults.requests.clear()
        assert prepare(place, [*names, "gone.jpg"], work).keys() == {"half.jpg", "gone.jpg"}
        assert {request for request, _ in faults.requests} == {"find"}
        upload(odd_photos, "bucket/photos")  # the same content with other times
        FaultyFileSystem.store["/bucket/photos/gone.jpg"] = FaultyFileSystem.store["/bucket/photos/plain.jpg"]
        assert prepare(place, [*names, "gone.jpg"], work).keys() == {"half.jpg"}
        (odd_photos / "plain.jpg").write_bytes((odd_photos / "turned.jpg").read_bytes())
        upload(odd_photos, "bucket/photos")
        with pytest.raises(ValueError, match=r"faulty://bucket/photos/plain\.jpg has changed since"):
            prepare(place, ["plain.jpg"], work)
    assert (work / NOTES).is_file()

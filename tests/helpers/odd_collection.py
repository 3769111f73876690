"""A folder as people have them: photos under wrong names, videos, RAW files, thumbnails of servers, links, odd names.

Each entry declares what becomes of it: "" for a photo, a part of the reason for a file that is left out, and `IGNORED`
with a part of the rule for a file that is ignored.
"""

import io
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.photos.intake import IGNORED

Make = Callable[[Path], object]


@dataclass(frozen=True)
class OddEntry:
    """An entry of the folder.

    Attributes:
        name: its path in the folder.
        make: the file's bytes, or a function that makes the entry at its path.
        outcome: "" for a photo, otherwise a part of the reason; see the module.
        account: the name in the account, if it is not the same.
        readable: whether a photo can be decoded, too.
    """

    name: str
    make: bytes | Make
    outcome: str = ""
    account: str = ""
    readable: bool = True


def pixels(seed: int, height: int = 120, width: int = 160) -> Image.Image:
    """A picture of its own for each seed."""
    chance = np.random.default_rng(seed)
    small = chance.integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8)
    return Image.fromarray(small.repeat(20, 0).repeat(20, 1))


def photo(seed: int, form: str = "JPEG", **options: object) -> bytes:
    """The bytes of a photo in a format of Pillow."""
    file = io.BytesIO()
    pixels(seed).save(file, form, **options)
    return file.getvalue()


def heic(seed: int) -> bytes:
    """The bytes of a HEIC photo; needs pillow-heif."""
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.from_pillow(pixels(seed)).save(file, quality=80)
    return file.getvalue()


def motion_photo(seed: int) -> bytes:
    """A JPEG with a video behind it, as phones write it."""
    return photo(seed) + b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0" * 200


def media(brand: bytes, compatible: bytes = b"isom") -> bytes:
    """The beginning of an ISO media file."""
    box = b"ftyp" + brand + b"\0\0\0\0" + compatible
    return struct.pack(">I", len(box) + 4) + box + b"\0" * 200


def tiff(tags: dict[int, int], order: str = "<", big: bool = False) -> bytes:
    """A TIFF of one directory with these SHORT tags and no pixels."""
    mark = b"II" if order == "<" else b"MM"
    if big:
        head = mark + struct.pack(order + "HHHQ", 43, 8, 0, 16)
        entries = b"".join(struct.pack(order + "HHQHxxxxxx", tag, 3, 1, value) for tag, value in sorted(tags.items()))
        return head + struct.pack(order + "Q", len(tags)) + entries + b"\0" * 8
    head = mark + struct.pack(order + "HI", 42, 8)
    entries = b"".join(struct.pack(order + "HHIHxx", tag, 3, 1, value) for tag, value in sorted(tags.items()))
    return head + struct.pack(order + "H", len(tags)) + entries + b"\0" * 4


def linked(target: str) -> Make:
    return lambda path: path.symlink_to(target)


def folder_link(target: str) -> Make:
    return lambda path: path.symlink_to(target, target_is_directory=True)


def photos_of_a_phone() -> list[OddEntry]:
    """Live Photos, bursts, screenshots, edits and messages."""
    return [
        OddEntry("phone/IMG_0001.HEIC", heic(1)),
        OddEntry("phone/IMG_0001.MOV", media(b"qt  ", b"qt  "), "a video (QuickTime)"),
        OddEntry("phone/IMG_0002.HEIC", photo(2)),
        OddEntry("phone/IMG_0003.JPG", photo(3)),
        OddEntry("phone/IMG_0003.AAE", b'<?xml version="1.0"?><plist/>', "a text file (XML or SVG)"),
        OddEntry("phone/IMG_0004.PNG", photo(4, "PNG")),
        OddEntry("phone/VID_0005.mp4", media(b"mp42"), "a video (MPEG-4)"),
        OddEntry("phone/PXL_0006.MP.jpg", motion_photo(6)),
        OddEntry("phone/PXL_0007.RAW-02.ORIGINAL.dng", tiff({254: 1, 50706: 1}), "a RAW photo"),
        OddEntry("phone/WhatsApp Image 2024-01-01 at 10.00.00.jpeg", photo(8)),
        OddEntry("phone/voice.m4a", media(b"M4A "), "sound (MPEG-4)"),
        OddEntry("phone/voice.amr", b"#!AMR\n" + b"\0" * 99, "sound (AMR)"),
        OddEntry("phone/old.3gp", media(b"3gp4"), "a video (MPEG-4)"),
        OddEntry("phone/.trashed-1700000000-IMG_0009.jpg", photo(9), IGNORED + "hidden"),
        OddEntry("phone/.thumbnails/1.jpg", photo(10), IGNORED + "thumbnails"),
        OddEntry("phone/.nomedia", b"", IGNORED + "hidden"),
    ]


def names_and_endings() -> list[OddEntry]:
    """Photos whose ending says something else or nothing, and files that only look like photos."""
    return [
        OddEntry("download/photo.jfif", photo(20)),
        OddEntry("download/photo.jpg_large", photo(21)),
        OddEntry("download/photo.mpo", photo(22)),
        OddEntry("download/photo", photo(23)),
        OddEntry("download/ab/cd/abcdef0123456789", photo(24)),
        OddEntry("download/photo.jpg.part", photo(25)),
        OddEntry("download/photo.txt", photo(26, "WEBP")),
        OddEntry("download/photo.JPG", photo(27, "GIF")),
        OddEntry("download/photo.bmp", photo(28, "BMP")),
        OddEntry("download/photo.tif", photo(29, "TIFF")),
        OddEntry("download/photo.avif", photo(30, "AVIF")),
        OddEntry("download/also avif.heic", photo(31, "AVIF")),
        OddEntry("download/page.jpg", b"<!DOCTYPE html>\n<html>404</html>", "an HTML page"),
        OddEntry("download/pointer.jpg", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        OddEntry("download/empty.jpg", b"", "empty file"),
        OddEntry("download/zeros.jpg", b"\0" * 5000, "only zero bytes"),
        OddEntry("download/cut.jpg", photo(32)[:-900], readable=False),
        OddEntry("download/video.jpg", media(b"isom"), "a video (MPEG-4)"),
        OddEntry("download/clip.webm", b"\x1a\x45\xdf\xa3" + b"\0" * 99, "a video (Matroska or WebM)"),
        OddEntry("download/clip.avi", b"RIFF\x10\0\0\0AVI LIST" + b"\0" * 99, "a video (AVI)"),
        OddEntry("download/song.wav", b"RIFF\x10\0\0\0WAVEfmt " + b"\0" * 99, "sound (WAV)"),
        OddEntry("download/song.mp3", b"ID3\x04" + b"\0" * 99, "sound (MP3)"),
        OddEntry("download/report.pdf", b"%PDF-1.7\n" + b"\0" * 99, "a PDF document"),
        OddEntry("download/archive.zip", b"PK\x03\x04" + b"\0" * 99, "a ZIP archive"),
        OddEntry("download/archive.tar.gz", b"\x1f\x8b\x08" + b"\0" * 99, "a gzip archive"),
        OddEntry("download/picture.psd", b"8BPS\0\x01" + b"\0" * 99, "a Photoshop file"),
        OddEntry("download/picture.jp2", b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0" * 99, "a JPEG 2000 picture"),
        OddEntry("download/picture.jxl", b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0" * 99, "a JPEG XL picture"),
        OddEntry("download/picture.svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "a text file (XML or SVG)"),
        OddEntry(
            "download/BMW.txt", b"BMW and other makes of cars, in alphabetical order, of many years", "a text file"
        ),
        OddEntry("download/list.csv", "photo,title\na.jpg,Café\n".encode("utf-16"), "a text file"),
        OddEntry("download/umlauts.txt", ("ä" * 40).encode(), "a text file"),
        OddEntry("download/unknown.bin", bytes(range(1, 200)), "not a picture in a known format"),
        OddEntry("download/descriptors.npy", b"\x93NUMPY\x01\0" + b"\0" * 99, "a NumPy array"),
    ]


def raw_photos() -> list[OddEntry]:
    """RAW photos, of which some begin like a TIFF, and TIFF photos that are none."""
    return [
        OddEntry("camera/a.CR2", b"II*\0\x10\0\0\0CR\x02\0" + b"\0" * 99, "a RAW photo (Canon CR2)"),
        OddEntry("camera/a.CR3", media(b"crx "), "a RAW photo (Canon CR3)"),
        OddEntry("camera/a.NEF", tiff({254: 1, 259: 1, 330: 1}, ">"), "a RAW photo"),
        OddEntry("camera/a.ARW", tiff({259: 32767}), "a RAW photo"),
        OddEntry("camera/a.PEF", tiff({259: 65535}, ">"), "a RAW photo"),
        OddEntry("camera/linear.dng", tiff({262: 34892}), "a RAW photo"),
        OddEntry("camera/big.dng", tiff({50706: 1}, big=True), "a RAW photo"),
        OddEntry("camera/a.ORF", b"IIRO\x08\0\0\0" + b"\0" * 99, "a RAW photo (Olympus ORF)"),
        OddEntry("camera/a.RW2", b"IIU\0\x18\0\0\0" + b"\0" * 99, "a RAW photo (Panasonic RW2)"),
        OddEntry("camera/a.RAF", b"FUJIFILMCCD-RAW 0201" + b"\0" * 99, "a RAW photo (Fujifilm RAF)"),
        OddEntry("camera/a.JPG", photo(40)),
        OddEntry("camera/scan.tiff", photo(41, "TIFF", compression="tiff_lzw")),
        OddEntry("camera/a.xmp", b"<x:xmpmeta/>", "a text file"),
    ]


def files_of_systems() -> list[OddEntry]:
    """What servers, systems and programs leave beside photos."""
    return [
        OddEntry("share/a.jpg", photo(50)),
        OddEntry("share/@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", photo(51), IGNORED + "Synology's thumbnails"),
        OddEntry("share/@eaDir/a.jpg@SynoEAStream", b"\0" * 20, IGNORED + "Synology's thumbnails"),
        OddEntry("share/#recycle/b.jpg", photo(52), IGNORED + "Synology's recycle bin"),
        OddEntry("share/@Recycle/b.jpg", photo(53), IGNORED + "QNAP's recycle bin"),
        OddEntry("share/$RECYCLE.BIN/S-1/$R1.jpg", photo(54), IGNORED + "Windows' recycle bin"),
        OddEntry("share/System Volume Information/x", b"x", IGNORED + "Windows' system files"),
        OddEntry("share/Thumbs.db", b"\xd0\xcf\x11\xe0", IGNORED + "Windows' thumbnails"),
        OddEntry("share/desktop.ini", b"[x]", IGNORED + "Windows' folder settings"),
        OddEntry("share/.DS_Store", b"Bud1", IGNORED + "macOS' folder settings"),
        OddEntry("share/._a.jpg", b"\0\x05\x16\x07", IGNORED + "macOS' resource forks"),
        OddEntry("share/__MACOSX/._a.jpg", b"\0\x05\x16\x07", IGNORED + "macOS' resource forks"),
        OddEntry("share/Mine.photoslibrary/originals/1/1.heic", photo(55), IGNORED + "an Apple Photos library"),
        OddEntry("share/Catalog Previews.lrdata/1.jpg", photo(56), IGNORED + "Lightroom's previews"),
        OddEntry("share/.Trash-1000/files/c.jpg", photo(57), IGNORED + "a bin"),
        OddEntry("share/.hidden/d.jpg", photo(58), IGNORED + "hidden"),
        OddEntry("share/.e.jpg", photo(59), IGNORED + "hidden"),
    ]


def links_and_names() -> list[OddEntry]:
    """Links to files and folders, and names that need care."""
    return [
        OddEntry("links/photo.jpg", linked("../share/a.jpg")),
        OddEntry("links/broken.jpg", linked("nowhere.jpg"), "a link to a file that does not exist"),
        OddEntry("links/itself.jpg", linked("itself.jpg"), "the system cannot read it"),
        OddEntry("links/loop", folder_link(".."), IGNORED + "a link to a folder that contains it", "links/loop/"),
        OddEntry(
            "links/inside",
            folder_link("../camera"),
            IGNORED + "a link to a folder that is read under its own name",
            "links/inside/",
        ),
        OddEntry("links/pipe.jpg", lambda path: os.mkfifo(path), "not a regular file"),
        OddEntry("names/..dots.jpg", photo(60)),
        OddEntry("names/two  blanks .jpg", photo(61)),
        OddEntry("names/caf\u00e9.jpg", photo(62)),
        OddEntry("names/cafe\u0301.jpg", photo(63)),
        OddEntry("names/line\nbreak.jpg", photo(64)),
        OddEntry("names/bell\x07\x1b[31m.jpg", photo(65)),
        OddEntry("names/quote\"and'.jpg", photo(66)),
        OddEntry("names/back\\slash.jpg", photo(67)),
        OddEntry("names/雪 ❄.jpg", photo(68)),
        OddEntry("names/" + "n" * 200 + ".jpg", photo(69)),
        OddEntry("names/-option.jpg", photo(70)),
        OddEntry("names/#comment.jpg", photo(71)),
        OddEntry("names/%41<b>&amp;.jpg", photo(72)),
        OddEntry(os.fsdecode(b"names/latin-\xe9.jpg"), photo(73), "not valid UTF-8"),
    ]


def odd_entries() -> list[OddEntry]:
    """All entries of the folder."""
    return [*photos_of_a_phone(), *names_and_endings(), *raw_photos(), *files_of_systems(), *links_and_names()]


def make_odd_collection(folder: Path) -> dict[str, OddEntry]:
    """Makes the folder, and another one beside it to which a link leads.

    Returns:
        A dict from each name in the account to its entry.
    """
    entries = odd_entries()
    for entry in entries:
        path = folder / entry.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(entry.make, bytes):
            path.write_bytes(entry.make)
        else:
            entry.make(path)
    outside = folder.with_name(f"{folder.name}-outside")
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "far.jpg").write_bytes(photo(80))
    (outside / "deep" / "home").symlink_to(folder, target_is_directory=True)
    (outside / "again").symlink_to(outside, target_is_directory=True)
    (folder / "links" / "outside").symlink_to(outside, target_is_directory=True)
    entries += [
        OddEntry("links/outside/deep/far.jpg", b""),
        OddEntry(
            "links/outside/deep/home", b"", IGNORED + "a link to a folder that contains it", "links/outside/deep/home/"
        ),
        OddEntry(
            "links/outside/again",
            b"",
            IGNORED + "a link to a folder that is read under another name",
            "links/outside/again/",
        ),
    ]
    return {entry.account or entry.name: entry for entry in entries}


def entries_on_disk(folder: Path) -> set[str]:
    """The names of all files below a folder, as the file system lists them; links to folders end in /.

    The folder outside is listed as well, under the link that leads to it.
    """
    found = set()
    for place, folders, files in os.walk(folder):
        names = [*files, *(f"{name}/" for name in folders if Path(place, name).is_symlink())]
        found |= {os.path.relpath(Path(place, name), folder) + "/" * name.endswith("/") for name in names}
    found.discard("links/outside/")
    if (folder / "links" / "outside").exists():
        found |= {f"links/outside/{name}" for name in entries_on_disk(folder / "links" / "outside")}
    return found

"""Photos of every odd and broken form, each with the expected result of reading it; and seeded mutations."""

import io
import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

HEIGHT, WIDTH = 32, 48
RED, GREEN, BLUE, YELLOW, WHITE = (220, 30, 30), (30, 200, 40), (30, 40, 210), (230, 220, 40), (255, 255, 255)
UPRIGHT = (RED, GREEN, BLUE, YELLOW)
GREYS = ((255,) * 3, (170,) * 3, (85,) * 3, (0,) * 3)

Colour = tuple[int, ...]


@dataclass(frozen=True)
class Odd:
    """A file, how it is read, and what comes out.

    Attributes:
        data: the file's bytes.
        size: the (height, width) that must come out, or None where reading must fail.
        quarters: colours at the centres of the four quarters: top left, top right, bottom left, bottom right.
        reason: what the PhotoError's reason must contain, where reading must fail.
        within: how far a channel may be from `quarters`.
        options: arguments of `read_photo`.
        header: whether the header tells the size although reading fails.
    """

    data: bytes
    size: tuple[int, int] | None = (HEIGHT, WIDTH)
    quarters: tuple[Colour, ...] = UPRIGHT
    reason: str = ""
    within: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    header: bool = False


def quarters(colours: tuple[Colour, ...] = UPRIGHT, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A picture of four flat quarters: (height, width, channels) uint8."""
    rows = [[colours[0], colours[1]], [colours[2], colours[3]]]
    return np.array(rows, np.uint8).repeat(height // 2, axis=0).repeat(width // 2, axis=1)


def picture(mode: str = "RGB") -> Image.Image:
    return Image.fromarray(quarters()).convert(mode)


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def jpeg(**options: Any) -> bytes:
    return saved(picture(), "JPEG", quality=95, **options)


def grey16() -> np.ndarray:
    """Four 16-bit greys that are 255, 170, 85 and 0 in eight bits."""
    return quarters(((255,), (170,), (85,), (0,)))[:, :, 0].astype(np.uint16) * 257


def see_through() -> Image.Image:
    """Red, half red, no red at all, and yellow."""
    return Image.fromarray(quarters(((*RED, 255), (*RED, 128), (*RED, 0), (*YELLOW, 255))))


SEEN_THROUGH = (RED, (237, 142, 142), WHITE, YELLOW)


def png(width: int, height: int, depth: int, colour: int, rows: bytes = b"", extra: bytes = b"") -> bytes:
    """A PNG of given header and raw rows, each led by its filter byte."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_rgb16() -> bytes:
    pixels = (quarters().astype(">u2") * 257).astype(">u2")
    return png(WIDTH, HEIGHT, 16, 2, b"".join(b"\0" + row.tobytes() for row in pixels))


def png_late_exif() -> bytes:
    data = saved(picture(), "PNG")
    return data[:-12] + chunk(b"eXIf", exif(6).tobytes()[6:]) + data[-12:]


def thumbnail_first(alone: bool = False) -> bytes:
    """A TIFF whose first page is a reduced version of the second, as scanners write it."""
    thumbnail = TiffImagePlugin.ImageFileDirectory_v2()
    thumbnail[254] = 1
    file = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(file, True) as pages:
        picture().resize((24, 16), Image.Resampling.NEAREST).save(pages, "TIFF", tiffinfo=thumbnail)
        pages.newFrame()
        if not alone:
            picture().save(pages, "TIFF")
            pages.newFrame()
    return file.getvalue()


def tiff_turned_by_xmp() -> bytes:
    """A TIFF that states its orientation in its XMP metadata only."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[700] = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    return saved(picture(), "TIFF", tiffinfo=tags)


def tiff(
    pixels: bytes, bits: int, *, photometric: int = 1, sample_format: int = 1, order: str = "<", count: int = 1
) -> bytes:
    """An uncompressed one-strip TIFF of HEIGHT x WIDTH with the given raw rows."""
    tags = [(256, 3, 1, WIDTH), (257, 3, 1, HEIGHT), (258, 3, 1, bits), (259, 3, 1, 1)]
    tags += [(262, 3, 1, photometric), (273, 4, 1, 8), (277, 3, 1, count), (278, 3, 1, HEIGHT)]
    tags += [(279, 4, 1, len(pixels)), (339, 3, 1, sample_format)]
    start = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(pixels))
    entries = b"".join(
        struct.pack(order + "HHI", *tag[:3]) + struct.pack(order + ("HH" if tag[1] == 3 else "I"), *_value(tag))
        for tag in tags
    )
    return start + pixels + struct.pack(order + "H", len(tags)) + entries + struct.pack("<I", 0)


def _value(tag: tuple[int, int, int, int]) -> tuple[int, ...]:
    return (tag[3], 0) if tag[1] == 3 else (tag[3],)


def tiff12() -> bytes:
    high = grey16() >> 4
    left, right = high[:, 0::2].astype(np.uint8), high[:, 1::2].astype(np.uint8)
    first = (high[:, 0::2] >> 4).astype(np.uint8)
    middle = (left << 4) | (high[:, 1::2] >> 8).astype(np.uint8)
    return tiff(np.stack([first, middle, right], axis=-1).tobytes(), 12)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def lying(orientation: int) -> Image.Image:
    """The picture as a camera stores it whose EXIF says `orientation`: turned as EXIF says, it is upright."""
    pixels = quarters()
    back = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, 1),
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(pixels, -1),
    }
    return Image.fromarray(np.ascontiguousarray(back[orientation]))


def ycck() -> bytes:
    """A JPEG whose four channels are YCC of the inks, and black."""
    inks = Image.fromarray(255 - quarters()).convert("YCbCr")
    channels = [channel.point(lambda value: 255 - value) for channel in inks.split()]
    data = saved(Image.merge("CMYK", [*channels, Image.new("L", inks.size)]), "JPEG", quality=95, subsampling=0)
    at = data.index(b"Adobe")
    return data[: at + 11] + b"\x02" + data[at + 12 :]


def animated(form: str, **options: Any) -> bytes:
    return saved(picture(), form, save_all=True, append_images=[Image.new("RGB", (WIDTH, HEIGHT))], **options)


def gif_beyond_screen() -> bytes:
    """A GIF whose first frame declares 65,535 x 2,000 pixels on a screen of 48 x 32."""
    data = saved(picture(), "GIF")
    at = data.index(b",\0\0\0\0")
    return data[: at + 5] + struct.pack("<HH", 65535, 2000) + data[at + 9 :]


def jpeg_of_size(width: int, height: int) -> bytes:
    data = jpeg()
    at = data.index(b"\xff\xc0")
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def _bad_checksum() -> bytes:
    data = bytearray(saved(picture(), "PNG"))
    data[29] ^= 1
    return bytes(data)


def _turned_photos() -> dict[str, Odd]:
    options: dict[str, Any] = {"quality": 95}
    upright = {
        f"jpeg orientation {turn}": Odd(saved(lying(turn), "JPEG", exif=exif(turn), subsampling=0, **options), within=6)
        for turn in range(1, 9)
    }
    tiffs = {
        f"tiff orientation {turn}": Odd(saved(lying(turn), "TIFF", tiffinfo={0x0112: turn})) for turn in range(1, 9)
    }
    unturned = {
        f"{form} orientation {turn}, exif off": Odd(
            saved(picture(), form, **{key: exif(turn) if key == "exif" else {0x0112: turn}}, **more),
            within=6,
            options={"exif": False},
        )
        for turn in (5, 6, 7, 8)
        for form, key, more in (("JPEG", "exif", options), ("TIFF", "tiffinfo", {}))
    }
    return upright | tiffs | unturned


def _exif_photos() -> dict[str, Odd]:
    turned = (BLUE, RED, YELLOW, GREEN)
    return {
        "png exif": Odd(saved(lying(6), "PNG", exif=exif(6))),
        "png exif behind the pixels does not count": Odd(png_late_exif()),
        "webp exif": Odd(saved(lying(6), "WEBP", lossless=True, exif=exif(6))),
        "exif of orientation 9": Odd(jpeg(exif=exif(9)), within=6),
        "exif of orientation 0": Odd(jpeg(exif=exif(0)), within=6),
        "broken exif": Odd(jpeg(exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09\x01\x12garbage"), within=6),
        "exif that is no exif": Odd(jpeg(exif=b"Exif\0\0" + b"\xff" * 40), within=6),
        "exif and a smaller size": Odd(
            jpeg(exif=exif(6)), size=(24, 16), quarters=turned, within=24, options={"size": 24}
        ),
        "exif and a crop": Odd(
            jpeg(exif=exif(6)), size=(24, 16), quarters=(BLUE,) * 4, within=6, options={"crop": (0, 0, 16, 24)}
        ),
    }


def _jpeg_photos() -> dict[str, Odd]:
    return {
        "jpeg": Odd(jpeg(), within=6),
        "jpeg progressive": Odd(jpeg(progressive=True, subsampling=0), within=6),
        "jpeg with restart markers": Odd(jpeg(restart_marker_blocks=1), within=6),
        "jpeg grey": Odd(saved(Image.fromarray(quarters(GREYS)).convert("L"), "JPEG"), quarters=GREYS, within=6),
        "jpeg cmyk": Odd(saved(picture("CMYK"), "JPEG", quality=95), within=8),
        "jpeg ycck": Odd(ycck(), within=8),
        "jpeg with bytes behind it": Odd(jpeg() + b"\0" * 999, within=6),
        "jpeg with a comment": Odd(jpeg(comment=b"x" * 60000), within=6),
        "mpo, two jpegs in one": Odd(animated("MPO", quality=95), within=6),
        "jpeg drafted": Odd(
            saved(Image.fromarray(quarters(height=512, width=768)), "JPEG", quality=95),
            within=8,
            options={"size": WIDTH},
        ),
    }


def _png_photos() -> dict[str, Odd]:
    palette = picture().quantize(4)
    holes = Image.fromarray(quarters(((0,), (1,), (2,), (3,)))[:, :, 0], "L").copy()
    holes = holes.convert("P")
    holes.putpalette([*RED, *GREEN, *BLUE, *YELLOW])
    grey_alpha = Image.fromarray(quarters(((0, 255), (0, 128), (0, 0), (255, 255))), "LA")
    black, seen = (0, 0, 0), ((0, 0, 0), (127, 127, 127), WHITE, WHITE)
    return {
        "png": Odd(saved(picture(), "PNG")),
        "png palette": Odd(saved(palette, "PNG")),
        "png palette, one clear": Odd(saved(holes, "PNG", transparency=2), quarters=(RED, GREEN, WHITE, YELLOW)),
        "png palette, alpha for each": Odd(
            saved(holes, "PNG", transparency=bytes([255, 255, 0, 255])), quarters=(RED, GREEN, WHITE, YELLOW)
        ),
        "png rgba": Odd(saved(see_through(), "PNG"), quarters=SEEN_THROUGH, within=1),
        "png rgb, one clear colour": Odd(
            saved(picture(), "PNG", transparency=BLUE), quarters=(RED, GREEN, WHITE, YELLOW)
        ),
        "png grey and alpha": Odd(saved(grey_alpha, "PNG"), quarters=seen, within=1),
        "png grey": Odd(saved(Image.fromarray(quarters(GREYS)).convert("L"), "PNG"), quarters=GREYS),
        "png 1-bit": Odd(
            saved(Image.fromarray(quarters((WHITE, black, black, WHITE))).convert("1"), "PNG"),
            quarters=(WHITE, black, black, WHITE),
        ),
        "png grey 16-bit": Odd(saved(Image.fromarray(grey16()), "PNG"), quarters=GREYS),
        "png rgb 16-bit": Odd(png_rgb16()),
        "png animated": Odd(animated("PNG")),
        "png 1 x 1": Odd(png(1, 1, 8, 2, b"\0" + bytes(RED)), size=(1, 1), quarters=(RED,) * 4),
        "png 1 x 3000 made small": Odd(
            png(1, 3000, 8, 0, b"\0\x64" * 3000), size=(30, 1), quarters=((100,) * 3,) * 4, options={"size": 30}
        ),
        "never enlarged": Odd(saved(picture(), "PNG"), options={"size": 4000}),
    }


def _other_photos() -> dict[str, Odd]:
    clear = saved(see_through(), "GIF")
    return {
        "gif": Odd(saved(picture(), "GIF"), within=3),
        "gif animated: its first frame": Odd(animated("GIF"), within=3),
        "gif with a clear colour": Odd(clear, quarters=(RED, RED, WHITE, YELLOW), within=3),
        "webp": Odd(saved(picture(), "WEBP", quality=95), within=16),
        "webp lossless": Odd(saved(picture(), "WEBP", lossless=True)),
        "webp with alpha": Odd(saved(see_through(), "WEBP", lossless=True), quarters=SEEN_THROUGH, within=1),
        "webp animated": Odd(animated("WEBP", lossless=True)),
        "bmp": Odd(saved(picture(), "BMP")),
        "bmp palette": Odd(saved(picture().quantize(4), "BMP")),
        "bmp 1-bit": Odd(saved(Image.new("1", (9, 5), 1), "BMP"), size=(5, 9), quarters=(WHITE,) * 4),
    }


def _tiff_photos() -> dict[str, Odd]:
    little, big = grey16().astype("<u2").tobytes(), grey16().astype(">u2").tobytes()
    compressed = {
        f"tiff {name}": Odd(saved(picture(), "TIFF", compression=name), within=8 if name == "jpeg" else 0)
        for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    }
    return compressed | {
        "tiff": Odd(saved(picture(), "TIFF")),
        "tiff of 64-bit offsets": Odd(saved(picture(), "TIFF", big_tiff=True)),
        "tiff of two pages": Odd(animated("TIFF")),
        "tiff of a thumbnail and a photo": Odd(thumbnail_first()),
        "tiff of a thumbnail only": Odd(thumbnail_first(alone=True), size=(16, 24)),
        "tiff turned by its xmp": Odd(tiff_turned_by_xmp(), size=(WIDTH, HEIGHT), quarters=(BLUE, RED, YELLOW, GREEN)),
        "tiff turned by its xmp, as stored": Odd(tiff_turned_by_xmp(), options={"exif": False}),
        "tiff cmyk": Odd(saved(picture("CMYK"), "TIFF"), within=2),
        "tiff ycbcr": Odd(saved(picture("YCbCr"), "TIFF"), within=4),
        "tiff rgba": Odd(saved(see_through(), "TIFF"), quarters=SEEN_THROUGH, within=1),
        "tiff fax": Odd(saved(Image.new("1", (WIDTH, HEIGHT), 1), "TIFF", compression="group4"), quarters=(WHITE,) * 4),
        "tiff grey 16-bit": Odd(tiff(little, 16), quarters=GREYS),
        "tiff grey 16-bit, big-endian": Odd(tiff(big, 16, order=">"), quarters=GREYS),
        "tiff grey 16-bit, 0 is white": Odd(tiff(little, 16, photometric=0), quarters=GREYS[::-1]),
        "tiff grey 12-bit": Odd(tiff12(), quarters=GREYS, within=1),
    }


def _broken_photos() -> dict[str, Odd]:
    whole = {
        "jpeg": saved(Image.fromarray(noise()), "JPEG", quality=95),
        "png": saved(Image.fromarray(noise()), "PNG"),
        "gif": saved(Image.fromarray(noise()), "GIF"),
        "bmp": saved(picture(), "BMP"),
        "tiff lzw": saved(picture(), "TIFF", compression="tiff_lzw"),
        "webp": saved(picture(), "WEBP"),
    }
    halves = {
        f"{name} cut in half": Odd(
            data[: len(data) // 2],
            None,
            reason="" if name in ("tiff lzw", "webp") else "truncated",
            header=name not in ("tiff lzw", "webp"),
        )
        for name, data in whole.items()
    }
    starts = {f"{name} cut after 12 bytes": Odd(data[:12], None) for name, data in whole.items()}
    return (
        halves
        | starts
        | {
            "empty": Odd(b"", None, reason="empty file"),
            "text": Odd(b"not a photo at all\n" * 9, None, reason="a text file"),
            "html": Odd(b"<!DOCTYPE html><html></html>", None, reason="an HTML page"),
            "svg": Odd(b'<svg xmlns="http://www.w3.org/2000/svg"/>', None, reason="XML or SVG"),
            "heic without pixels": Odd(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" * 4, None, reason="damaged"),
            "avi": Odd(b"RIFF\x10\0\0\0AVI LIST" + b"\0" * 40, None, reason="a video (AVI)"),
            "zeros": Odd(b"\0" * 4096, None, reason="only zero bytes"),
            "one byte": Odd(b"\xff", None, reason="not a picture"),
            "jpeg start only": Odd(b"\xff\xd8\xff\xe0", None, reason="truncated"),
            "png of a wrong checksum": Odd(_bad_checksum(), None, reason="damaged"),
            "png of no width": Odd(png(0, 10, 8, 2), None, reason="damaged"),
            "png without pixels": Odd(png(40, 40, 8, 2), None, reason="truncated", header=True),
            "gif without a frame": Odd(b"GIF89a\x01\0\x01\0\0\0\0;", None),
            "tiff without tags": Odd(b"II*\0\x08\0\0\0\0\0\0\0\0\0", None),
            "tiff that points behind its end": Odd(b"II*\0\xff\xff\0\0", None),
            "tiff of floats": Odd(
                tiff(quarters()[:, :, 0].astype("<f4").tobytes(), 32, sample_format=3),
                None,
                reason="floats: save it",
                header=True,
            ),
            "tiff of 32-bit numbers": Odd(
                tiff(quarters()[:, :, 0].astype("<u4").tobytes(), 32), None, reason="32-bit", header=True
            ),
            "tiff of signed numbers": Odd(
                tiff(grey16().tobytes(), 16, sample_format=2), None, reason="signed", header=True
            ),
            "tiff lab": Odd(saved(Image.new("LAB", (9, 9)), "TIFF"), None, reason="CIELAB", header=True),
            "tiff of unknown compression": Odd(
                tiff(grey16().tobytes(), 16).replace(
                    struct.pack("<HHII", 259, 3, 1, 1), b"\x03\x01\x03\0\x01\0\0\0\x77\x77\0\0"
                ),
                None,
                reason="damaged",
            ),
            "png of 10 gigapixels": Odd(png(100_000, 100_000, 8, 2), None, reason="too many pixels: 100000 x 100000"),
            "png over Pillow's warning": Odd(png(9500, 9500, 8, 2), None, reason="too many pixels: 9500 x 9500"),
            "jpeg of 4 gigapixels": Odd(jpeg_of_size(65500, 65500), None, reason="too many pixels: 65500 x 65500"),
            "gif frame beyond its screen": Odd(gif_beyond_screen(), None, reason="too many pixels: 65535 x 2000"),
            "webp of more pixels than asked for": Odd(
                saved(picture(), "WEBP"), None, reason="48 x 32", options={"max_pixels": 1000}
            ),
            "more pixels than asked for": Odd(
                saved(picture(), "PNG"), None, reason="48 x 32, and at most 1,000", options={"max_pixels": 1000}
            ),
            "crop outside": Odd(
                saved(picture(), "PNG"),
                None,
                reason="outside the photo, which is 48 x 32",
                options={"crop": (9, 9, 50, 20)},
            ),
            "crop left of the photo": Odd(
                saved(picture(), "PNG"), None, reason="outside", options={"crop": (-2, 0, 9, 9)}
            ),
            "crop of nothing": Odd(saved(picture(), "PNG"), None, reason="empty", options={"crop": (9, 9, 9, 20)}),
            "crop upside down": Odd(saved(picture(), "PNG"), None, reason="empty", options={"crop": (9, 20, 20, 9)}),
            "crop of NaN": Odd(
                saved(picture(), "PNG"), None, reason="finite", options={"crop": (0, 0, float("nan"), 9)}
            ),
            "crop of three": Odd(saved(picture(), "PNG"), None, reason="four", options={"crop": (0, 0, 9)}),
        }
    )


def odd_photos() -> dict[str, Odd]:
    """Name -> odd photo, all of them."""
    return (
        _jpeg_photos()
        | _turned_photos()
        | _exif_photos()
        | _png_photos()
        | _other_photos()
        | _tiff_photos()
        | _broken_photos()
    )


def noise(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def mutations(seed: int, count: int) -> Iterator[bytes]:
    """Small photos of every form with bits flipped, bytes put in, taken out or doubled, and headers rewritten.

    Args:
        seed: the same seed gives the same files.
        count: how many.

    Yields:
        The bytes of each file.
    """
    photos = [odd.data for odd in odd_photos().values() if odd.size and len(odd.data) < 20_000]
    chance = random.Random(seed)
    for _ in range(count):
        data = bytearray(chance.choice(photos))
        for _ in range(chance.choice((1, 1, 2, 4))):
            chance.choice((_flip, _cut, _insert, _drop, _double, _rewrite))(data, chance)
        yield bytes(data)


def _flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(min(len(data), chance.choice((1, 2, 8, 32)))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randint(0, len(data)) :]


def _insert(data: bytearray, chance: random.Random) -> None:
    at = chance.randint(0, len(data))
    data[at:at] = chance.randbytes(chance.choice((1, 2, 4, 64)))


def _drop(data: bytearray, chance: random.Random) -> None:
    at = chance.randint(0, len(data))
    del data[at : at + chance.choice((1, 2, 4, 64))]


def _double(data: bytearray, chance: random.Random) -> None:
    at = chance.randint(0, len(data))
    data[at:at] = data[at : at + chance.choice((4, 32, 256))]


def _rewrite(data: bytearray, chance: random.Random) -> None:
    """Puts an extreme number over one, two or four bytes near the start, where sizes and offsets stand."""
    at, width = chance.randrange(200), chance.choice((1, 2, 4))
    value = chance.choice((0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF))
    end = min(at + width, len(data))
    data[at:end] = (value % 256**width).to_bytes(width, chance.choice(("big", "little")))[: max(end - at, 0)]

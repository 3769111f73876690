import io
import os
import pickle
import resource
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from pipelines.photos.intake import list_photos
from pipelines.photos.reader import MAX_PIXELS, PhotoError, photo_size, read_photo
from tests.helpers.odd_photos import (
    HEIGHT,
    RED,
    WIDTH,
    exif,
    jpeg,
    mutations,
    noise,
    odd_photos,
    picture,
    quarters,
    saved,
)

ODD = odd_photos()
pytestmark = [
    pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning"),
    # What Pillow says of broken EXIF and TIFF tags; the photos are read, or refused, all the same.
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
]


def write(folder, name, data):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_the_corpus_is_large_and_mixed():
    assert sum(odd.size is not None for odd in ODD.values()) >= 35
    assert sum(odd.size is None for odd in ODD.values()) >= 35


@pytest.mark.parametrize("name", ODD)
def test_odd_photo_has_its_declared_outcome(name, tmp_path):
    odd = ODD[name]
    path = write(tmp_path, "photo.jpg", odd.data)
    for source in (odd.data, path, str(path)):
        if odd.size is None:
            check_refusal(odd, source)
        else:
            check_picture(odd, source)


def check_picture(odd, source):
    pixels = read_photo(source, **odd.options)
    assert pixels.shape == (*odd.size, 3)
    height, width = pixels.shape[:2]
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    assert photo_size(source, **odd.options) == odd.size
    seen = [pixels[height * row // 4, width * column // 4] for row in (1, 3) for column in (1, 3)]
    np.testing.assert_allclose(np.array(seen, int), np.array(odd.quarters), rtol=0, atol=odd.within)


def check_refusal(odd, source):
    with pytest.raises(PhotoError) as caught:
        read_photo(source, **odd.options)
    assert odd.reason in caught.value.reason
    assert caught.value.path == ("<bytes>" if isinstance(source, bytes) else str(source))
    assert str(caught.value) == f"{caught.value.path}: {caught.value.reason}"
    assert "\n" not in str(caught.value)
    if odd.header:
        height, width = photo_size(source, **odd.options)
        assert height > 0
        assert width > 0
    else:
        with pytest.raises(PhotoError):
            photo_size(source, **odd.options)


def test_mutated_photos_are_read_or_refused_within_memory_that_max_pixels_bounds():
    refused, slowest = 0, 0.0
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for data in mutations(seed=0, count=10_000):
        started = time.perf_counter()
        try:
            pixels = read_photo(data, max_pixels=10_000_000)
        except PhotoError:
            refused += 1
        else:
            assert pixels.dtype == np.uint8
            assert pixels.shape == (*photo_size(data), 3)
        slowest = max(slowest, time.perf_counter() - started)
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    assert 1_000 < refused < 9_000
    assert slowest < 10
    assert kilobytes < 200_000


def test_mutations_are_seeded():
    assert list(mutations(1, 50)) == list(mutations(1, 50))
    assert list(mutations(1, 50)) != list(mutations(2, 50))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_a_photo_cut_anywhere_is_never_filled_with_grey(form):
    data = saved(Image.fromarray(noise(64, 64)), form)
    whole = read_photo(data)
    for end in range(0, len(data) - 1, max(1, len(data) // 97)):
        try:
            pixels = read_photo(data[:end])
        except PhotoError:
            continue
        np.testing.assert_array_equal(pixels, whole, err_msg=f"{form} cut at {end} of {len(data)}")


def test_sizes_are_those_of_pillows_thumbnail():
    chance = np.random.default_rng(0)
    for width, height, size in chance.integers(1, 300, (300, 3)).tolist():
        image = Image.new("1", (width, height))
        data = saved(image, "PNG")
        image.thumbnail((size, size))
        assert photo_size(data, size=size) == (image.height, image.width), (width, height, size)
        assert read_photo(data, size=size).shape == (image.height, image.width, 3)


def test_resizing_is_antialiased():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = read_photo(saved(Image.fromarray(stripes), "PNG"), size=16)
    assert abs(int(small.mean()) - 127) <= 1
    assert small.std() < 16


def smooth(height, width):
    coarse = Image.fromarray(noise(height // 40, width // 40))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("size", [40, 100, 111, 250, 399, 800])
def test_a_drafted_jpeg_is_close_to_a_full_decode(size, orientation):
    data = saved(smooth(601, 803), "JPEG", quality=95, exif=exif(orientation))
    whole = Image.fromarray(read_photo(data))
    drafted = read_photo(data, size=size)
    full = np.asarray(whole.resize(drafted.shape[1::-1], Image.Resampling.LANCZOS))
    difference = np.abs(drafted.astype(int) - full.astype(int))
    assert difference.mean() < 1.0
    assert difference.max() < 24


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("size", [None, 64, 100, 500])
def test_a_crop_is_cut_first_and_has_the_scale_of_the_database(size, orientation):
    data = saved(smooth(240, 320), "JPEG", quality=95, exif=exif(orientation))
    whole = read_photo(data)
    longest = max(whole.shape)
    cut = whole[20:220, 30:110]
    pixels = read_photo(data, size=size, crop=(30.4, 19.6, 109.7, 220.2))
    assert photo_size(data, size=size, crop=(30.4, 19.6, 109.7, 220.2)) == pixels.shape[:2]
    expected = Image.fromarray(cut)
    if size is not None and size < longest:
        expected.thumbnail((size * 200 // longest,) * 2, Image.Resampling.LANCZOS, reducing_gap=None)
    np.testing.assert_array_equal(pixels, np.asarray(expected))


def test_a_crop_may_overhang_by_a_pixel():
    data = saved(picture(), "PNG")
    assert read_photo(data, crop=(-1, -0.6, WIDTH + 1, HEIGHT + 0.8)).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("size", [0, -5])
def test_a_size_below_one_is_refused(size):
    for function in (read_photo, photo_size):
        with pytest.raises(ValueError, match=f"size must be at least 1 pixel, got {size}"):
            function(saved(picture(), "PNG"), size=size)


def test_photo_size_decodes_nothing():
    header_only = jpeg()[: jpeg().index(b"\xff\xda") + 14]
    assert photo_size(header_only) == (HEIGHT, WIDTH)
    with pytest.raises(PhotoError, match="truncated"):
        read_photo(header_only)


def test_max_pixels_may_be_raised_over_pillows_limit(monkeypatch):
    data = saved(picture(), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_photo(data).shape == (HEIGHT, WIDTH, 3)
    assert Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(PhotoError, match="too many pixels"):
        read_photo(data, max_pixels=WIDTH * HEIGHT - 1)
    assert read_photo(data, max_pixels=WIDTH * HEIGHT).size == WIDTH * HEIGHT * 3


def test_the_limit_is_pillows_own():
    code = "from PIL import Image; import pipelines.photos.reader as i; assert i.MAX_PIXELS == Image.MAX_IMAGE_PIXELS"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
    assert MAX_PIXELS == 89_478_485


def test_threads_read_what_one_reads_alone():
    photos = [odd for odd in ODD.values() if odd.size] * 4
    alone = [read_photo(odd.data, **odd.options) for odd in photos]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda odd: read_photo(odd.data, **odd.options), photos))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_interruption_is_no_photo_error(monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load_prepare", interrupt)
    with pytest.raises(KeyboardInterrupt):
        read_photo(saved(picture(), "PNG"))


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (MemoryError(), "too little memory"),
        (PermissionError(13, "Permission denied"), "no permission"),
        (OSError(5, "Input/output error"), "the system cannot read it (Input/output error)"),
        (RecursionError("too deep"), "damaged (too deep)"),
        (ZeroDivisionError("division by zero"), "damaged (division by zero)"),
        (Image.DecompressionBombError("a bomb"), "too many pixels (a bomb)"),
        (OverflowError("too\nlarge"), "damaged (too large)"),
    ],
)
def test_whatever_fails_while_decoding_is_a_photo_error(failure, reason, monkeypatch):
    def fail(self):
        raise failure

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load_prepare", fail)
    with pytest.raises(PhotoError) as caught:
        read_photo(saved(picture(), "PNG"))
    assert caught.value.reason == reason or reason in caught.value.reason


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    outcomes = {
        "": "is a folder",
        "pipe.jpg": "is not a regular file",
        "missing.jpg": "no such file",
        "broken.jpg": "no such file",
        "loop.jpg": "the system cannot read it",
        "x" * 300: "the system cannot read it",
    }
    for name, reason in outcomes.items():
        with pytest.raises(PhotoError, match=reason):
            read_photo(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_refused(tmp_path):
    path = write(tmp_path, "a.jpg", jpeg())
    path.chmod(0)
    with pytest.raises(PhotoError, match="no permission"):
        read_photo(path)


def test_a_photo_error_survives_a_process_pool():
    error = pickle.loads(pickle.dumps(PhotoError("a.jpg", "empty file")))
    assert (error.path, error.reason, str(error)) == ("a.jpg", "empty file", "a.jpg: empty file")


def test_real_photos_are_read_as_pillow_reads_them(shared):
    folder = shared / "data" / "photos"
    for name in list_photos(folder)[::30]:
        with Image.open(folder / name) as image:
            upright = image.getexif().get(0x0112, 1) == 1
            expected = np.asarray(image.convert("RGB"))
        if upright:
            np.testing.assert_array_equal(read_photo(folder / name), expected)
        assert read_photo(folder / name, size=362).shape == (*photo_size(folder / name, size=362), 3)


def test_red_is_the_first_channel():
    assert read_photo(saved(Image.new("RGB", (2, 2), RED), "PNG"))[0, 0].tolist() == list(RED)


def raw_profile(content: bytes) -> str:
    """A profile as ImageMagick writes it into a text chunk of a PNG."""
    digits = content.hex()
    return "\n".join(["", "exif", f"{len(content):8}", *(digits[at : at + 72] for at in range(0, len(digits), 72)), ""])


@pytest.mark.parametrize("kind", ["XML:com.adobe.xmp", "exif", "APP1", "xmp", "xmp in APP1"])
def test_png_is_turned_by_xmp_and_raw_profiles(kind):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    xmp = '<rdf:Description xmlns:tiff="x" tiff:Orientation="6"/>'
    info = PngInfo()
    match kind:
        case "XML:com.adobe.xmp":
            info.add_itxt(kind, xmp)
        case "exif" | "APP1":
            info.add_text(f"Raw profile type {kind}", raw_profile(exif.tobytes()), zip=True)
        case _:
            info.add_text(f"Raw profile type {kind[-4:].strip()}", raw_profile(xmp.encode()), zip=True)
    data = saved(Image.fromarray(quarters()), "PNG", pnginfo=info)
    assert photo_size(data) == (48, 32)
    assert read_photo(data).shape == (48, 32, 3)
    assert read_photo(data, exif=False).shape == (32, 48, 3)


@pytest.mark.parametrize("text", ["", "\nexif\n   12\nno digits", "\n\n\n", "garbage"])
def test_a_damaged_raw_profile_does_not_count(text):
    info = PngInfo()
    info.add_text("Raw profile type APP1", text)
    assert photo_size(saved(Image.fromarray(quarters()), "PNG", pnginfo=info)) == (32, 48)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["AVIF", "HEIC"])
def test_heic_and_avif_are_turned_as_jpeg_is(form, orientation):
    pillow_heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    picture = Image.fromarray(quarters(height=64, width=96))
    expected = read_photo(saved(picture, "JPEG", exif=exif, quality=95)).astype(int)
    if form == "AVIF":
        data = saved(picture, form, exif=exif, quality=90)
    else:
        file = io.BytesIO()
        pillow_heif.from_pillow(picture).save(file, exif=exif.tobytes(), quality=90)
        data = file.getvalue()
    found = read_photo(data)
    assert photo_size(data) == found.shape[:2] == expected.shape[:2]
    assert abs(found - expected).mean() < 6
    shrunk = read_photo(data, size=32)
    assert max(shrunk.shape) == 32

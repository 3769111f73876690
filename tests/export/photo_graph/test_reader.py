"""The photo reader in a graph, compared with the photo reader in Python."""

import numpy as np
import pytest

from export.contract.drawn_photos import drawn_photo
from export.contract.signatures import DAMAGED, OK, TOO_MANY_PIXELS, UNKNOWN_FORMAT
from export.photo_graph.reader import _shrunk, photo_pixels
from pipelines.photos import reader as images
from pipelines.photos.reader import MAX_PIXELS, PhotoError, read_photo
from tests.helpers.memory import peak_growth
from tests.helpers.odd_photos import gif_beyond_screen, jpeg, mutations, odd_photos, picture, png, saved

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ODD = {
    name: odd
    for name, odd in odd_photos().items()
    if not {"exif", "crop", "max_pixels", "size"} & set(odd.options) and odd.data[:4] not in TIFF
}
SMALL = 30


def reader(size, max_pixels=MAX_PIXELS):
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
    def read(data):
        return photo_pixels(data, size, max_pixels)

    return lambda data: [tensor.numpy() for tensor in read(data)]


@pytest.fixture(scope="module")
def at_size():
    return reader(4000)


@pytest.fixture(scope="module")
def shrinking():
    return reader(SMALL, 5_000_000)


@pytest.mark.parametrize("name", ODD)
def test_an_odd_photo_is_read_as_the_house_reads_it(at_size, name):
    odd = ODD[name]
    pixels, status = at_size(odd.data)
    if odd.size is None:
        assert status != OK
        assert pixels.shape == (0, 0, 3)
    else:
        assert status == OK
        np.testing.assert_array_equal(pixels, read_photo(odd.data))


def test_what_is_wrong_is_told_apart(at_size):
    codes = {
        "empty": UNKNOWN_FORMAT,
        "text": UNKNOWN_FORMAT,
        "heic without pixels": UNKNOWN_FORMAT,
        "jpeg cut in half": DAMAGED,
        "png of a wrong checksum": DAMAGED,
        "gif without a frame": DAMAGED,
        "webp cut after 12 bytes": DAMAGED,
        "png of 10 gigapixels": TOO_MANY_PIXELS,
        "jpeg of 4 gigapixels": TOO_MANY_PIXELS,
    }
    assert {name: at_size(odd_photos()[name].data)[1] for name in codes} == codes
    assert at_size(gif_beyond_screen())[1] == TOO_MANY_PIXELS
    assert at_size(png(2**32 - 1, 2**32 - 1, 8, 2))[1] == TOO_MANY_PIXELS
    assert at_size(saved(picture(), "TIFF"))[1] == UNKNOWN_FORMAT


@pytest.mark.parametrize("name", [name for name in ODD if ODD[name].size])
def test_an_odd_photo_is_shrunk_as_the_house_shrinks_it(shrinking, name):
    pixels, status = shrinking(ODD[name].data)
    expected = read_photo(ODD[name].data, size=SMALL).astype(int)
    assert (status, pixels.shape) == (OK, expected.shape)
    difference = abs(pixels - expected)
    assert difference.max() <= 1
    assert difference.mean() < 0.002


def test_sizes_are_rounded_as_in_python():
    import tensorflow as tf

    sizes = np.concatenate([np.random.default_rng(0).integers(1, 4000, (2000, 2)), [[900, 675], [1, 3000], [362, 362]]])
    for size in (1, 362, 1024):
        rounded = tf.function(lambda rows, size=size: tf.map_fn(lambda row: _shrunk(row, size), rows), autograph=False)
        expected = [images._shrunk(int(width), int(height), size)[::-1] for height, width in sizes]
        np.testing.assert_array_equal(rounded(tf.constant(sizes)), expected)


def test_pixels_are_limited_by_the_header(shrinking):
    read = reader(SMALL, max_pixels=1535)
    for form in ("JPEG", "PNG", "GIF", "WEBP", "BMP"):
        assert read(saved(picture(), form))[1] == TOO_MANY_PIXELS  # 48 x 32 = 1536
        assert shrinking(saved(picture(), form))[1] == OK


def test_an_animation_is_not_unpacked(at_size):
    """1,000 frames of 1,000 x 1,000 would take a gigabyte; the first one, megabytes."""
    frame = saved(picture().resize((1000, 1000)), "GIF")
    start = frame.index(b",\0\0\0\0")
    animation = frame[:start] + frame[start:-1] * 1000 + b";"
    answers = []
    grown = peak_growth(lambda: answers.append(at_size(animation)))
    pixels, status = answers[0]
    assert status == OK
    np.testing.assert_array_equal(pixels, read_photo(frame))
    assert grown < 300


def test_no_mutated_photo_ends_the_process_or_shows_what_the_house_refuses(shrinking):
    differences, shown = [], []
    for data in mutations(3, 300):
        pixels, status = shrinking(data)
        try:
            expected = read_photo(data, size=SMALL, max_pixels=5_000_000)
        except PhotoError as error:
            shown += [error.reason] if status == OK else []
            continue
        if status == OK:
            assert pixels.shape == expected.shape
            differences.append(abs(pixels.astype(int) - expected).mean())
    assert len(shown) <= 3, shown
    assert np.median(differences) < 0.2


def test_damaged_exif_does_not_count(at_size):
    for exif in (b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0"):
        pixels, status = at_size(jpeg(exif=exif))
        assert status == OK
        np.testing.assert_array_equal(pixels, read_photo(jpeg(exif=exif)))


def test_without_webp_its_operation_is_not_in_the_graph():
    import tensorflow as tf

    def operations(webp):
        read = tf.function(lambda data: photo_pixels(data, 64, 10**6, webp), autograph=False)
        graph = read.get_concrete_function(tf.TensorSpec((), tf.string)).graph.as_graph_def()
        return {node.op for part in (graph.node, *(f.node_def for f in graph.library.function)) for node in part}

    assert "DecodeWebP" in operations(True)
    assert "DecodeWebP" not in operations(False)
    pixels, status = photo_pixels(tf.constant(drawn_photo(20, 30, "WEBP")), 64, 10**6, webp=False)
    assert (pixels.shape[0], int(status)) == (0, UNKNOWN_FORMAT)
    pixels, status = photo_pixels(tf.constant(drawn_photo(20, 30, "PNG")), 64, 10**6, webp=False)
    assert (tuple(pixels.shape), int(status)) == ((20, 30, 3), 0)

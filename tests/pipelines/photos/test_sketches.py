"""Sketches to edge maps: thinning against a loop and OpenCV, one result for every pen, and detection of sketches."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pipelines.photos.intake import list_photos
from pipelines.photos.reader import read_photo
from pipelines.photos.sketches import BlankSketchError, dilated, is_sketch, sketch_map, thinned
from tests.helpers.small import draw


def drawn(pen=5, ink=(0, 0, 0), paper=(255, 255, 255), size=(120, 150)):
    """A house and a sun, (height, width, 3) uint8."""
    picture = Image.new("RGB", size[::-1], paper)
    pencil = ImageDraw.Draw(picture)
    pencil.line([(30, 100), (30, 50), (60, 20), (90, 50), (90, 100), (30, 100)], ink, pen)
    pencil.ellipse((105, 15, 135, 45), outline=ink, width=pen)
    return np.asarray(picture)


def thinned_by_hand(ink):
    """Zhang and Suen, CACM 1984, pixel by pixel."""
    ink = np.pad(ink, 1).astype(int)
    changed = True
    while changed:
        changed = False
        for step in (0, 1):
            gone = []
            for y in range(1, ink.shape[0] - 1):
                for x in range(1, ink.shape[1] - 1):
                    if not ink[y, x]:
                        continue
                    p2, p3, p4 = ink[y - 1, x], ink[y - 1, x + 1], ink[y, x + 1]
                    p5, p6, p7 = ink[y + 1, x + 1], ink[y + 1, x], ink[y + 1, x - 1]
                    p8, p9 = ink[y, x - 1], ink[y - 1, x - 1]
                    ring = [p2, p3, p4, p5, p6, p7, p8, p9, p2]
                    begins = sum(one == 0 and other == 1 for one, other in pairwise(ring))
                    kept = (p2 * p4 * p6, p4 * p6 * p8) if step == 0 else (p2 * p4 * p8, p2 * p6 * p8)
                    if 2 <= sum(ring[:-1]) <= 6 and begins == 1 and kept == (0, 0):
                        gone.append((y, x))
            for place in gone:
                ink[place] = 0
            changed = changed or bool(gone)
    return ink[1:-1, 1:-1].astype(bool)


@pytest.mark.parametrize("seed", [0, 1])
def test_thinning_is_the_published_algorithm(seed):
    lines = drawn(4 + 5 * seed, size=(60, 70))[..., 0] < 128
    blobs = dilated(np.random.default_rng(seed).random((40, 45)) < 0.02, 3)  # some of them cut by the border
    for ink in (lines, blobs, np.zeros((5, 6), bool), np.ones((1, 1), bool)):
        np.testing.assert_array_equal(thinned(ink), thinned_by_hand(ink))


def test_thinning_is_opencv_s():
    ximgproc = pytest.importorskip("cv2.ximgproc", exc_type=ImportError)
    ink = drawn(9)[..., 0] < 128
    np.testing.assert_array_equal(thinned(ink), ximgproc.thinning(ink.astype(np.uint8) * 255) > 0)


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_dilation_reaches_as_far_as_the_radius(radius):
    ink = np.random.default_rng(radius).random((20, 25)) < 0.02
    down, right = np.indices(ink.shape)
    expected = np.zeros_like(ink)
    for y, x in np.argwhere(ink):
        expected |= np.hypot(down - y, right - x) <= radius
    np.testing.assert_array_equal(dilated(ink, radius), expected)


def test_every_pen_and_paper_gives_nearly_the_same_map():
    maps = [
        sketch_map(picture, 30)[..., 0] > 0
        for picture in (drawn(), drawn(2), drawn(9), drawn(5, (90, 60, 40), (240, 235, 225)), 255 - drawn())
    ]
    assert maps[0].shape == (180, 210)
    # Lines are five pixels wide: a stroke of pen 5 becomes itself, but for ends and corners.
    ink = np.pad(drawn()[..., 0] < 128, 30)
    assert (maps[0] & ink).sum() > 0.85 * ink.sum()
    for other in maps[1:]:
        assert (dilated(maps[0], 2) & other).sum() > 0.95 * other.sum()
        assert abs(other.sum() / maps[0].sum() - 1) < 0.12
    np.testing.assert_array_equal(maps[0], maps[4])
    margin = sketch_map(drawn(), 30)
    assert not margin[:20].any()
    assert set(np.unique(margin)) == {0, 255}


def test_an_empty_sheet_is_told():
    with pytest.raises(BlankSketchError, match="it is blank"):
        sketch_map(np.full((40, 50, 3), 250, np.uint8), 30)
    assert not is_sketch(np.full((40, 50, 3), 250, np.uint8))


@pytest.mark.parametrize(
    "picture", [drawn(), drawn(2), drawn(3, (60, 50, 50), (235, 235, 230)), 255 - drawn(), sketch_map(drawn(), 30)]
)
def test_line_drawings_are_sketches(picture):
    assert is_sketch(picture)


def test_other_pictures_are_none(tmp_path):
    draw(tmp_path / "blobs.png", 120, 150)
    filled = np.full((120, 150, 3), 255, np.uint8)
    filled[30:80, 40:110] = 0  # an object before a white wall
    grey = np.repeat(read_photo(tmp_path / "blobs.png")[..., :1], 3, axis=2)
    coloured = drawn(4, (200, 40, 40))
    for picture in (read_photo(tmp_path / "blobs.png"), filled, grey, coloured):
        assert not is_sketch(picture)


def test_real_sketches_are_told_from_real_photos(shared):
    folder = shared / "data" / "eval" / "flickr15k_mini"
    sketches, photos = (list_photos(folder / name)[::step] for name, step in (("sketches", 1), ("photos", 30)))
    assert all(is_sketch(read_photo(folder / "sketches" / name, size=256)) for name in sketches)
    assert not any(is_sketch(read_photo(folder / "photos" / name, size=256)) for name in photos)

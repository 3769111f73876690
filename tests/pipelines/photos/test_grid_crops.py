"""Crops cover the photo, neighbours overlap by half, and one decoding gives the pixels of every crop."""

import numpy as np
import pytest
from PIL import Image

from keras_retrieval.errors import ArgumentError
from pipelines.photos.grid_crops import count_crops, grid_boxes, parse_levels
from pipelines.photos.reader import PhotoError, read_crops, read_photo
from pipelines.photos.reading import Reading


def test_levels_are_parsed():
    assert parse_levels("") == parse_levels("1") == ()
    assert parse_levels("1,2,3") == parse_levels("1, 2,3") == (1, 2, 3)
    assert count_crops((1, 2, 3)) == 14


@pytest.mark.parametrize("text", ["0", "1,1", "3,2", "1,9", "1,x", "1,,2", "1.5", "-1", "1,²", "9" * 30])
def test_what_are_no_levels_is_refused(text):
    with pytest.raises(ArgumentError, match="--crops must be ascending levels from 1 to 8, such as 1,2,3"):
        parse_levels(text)


def test_the_whole_photo_is_always_described():
    with pytest.raises(ArgumentError, match="--crops must begin with 1, the whole photo, got 2,3"):
        parse_levels("2,3")


@pytest.mark.parametrize("size", [(640, 480), (37, 101), (2, 3), (1, 1)])
def test_crops_cover_the_photo_and_have_one_size_a_level(size):
    width, height = size
    boxes = grid_boxes(width, height, (1, 2, 3))
    assert boxes[0] == (0, 0, width, height)
    assert len(boxes) == len(set(boxes)) <= 14
    for level in (2, 3):
        of_level = grid_boxes(width, height, (level,))
        covered = np.zeros((height, width), bool)
        for left, top, right, bottom in of_level:
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height
            covered[top:bottom, left:right] = True
        assert covered.all()
        assert len({(right - left, bottom - top) for left, top, right, bottom in of_level}) == 1


def test_neighbours_overlap_by_half():
    assert grid_boxes(120, 60, (3,))[:2] == [(0, 0, 60, 30), (30, 0, 90, 30)]
    assert grid_boxes(120, 60, (2,)) == [(0, 0, 80, 40), (40, 0, 120, 40), (0, 20, 80, 60), (40, 20, 120, 60)]


@pytest.mark.parametrize("orientation", [1, 6])
def test_the_pixels_are_those_of_each_crop_read_alone(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    Image.fromarray(pixels).resize((900, 600), Image.Resampling.BICUBIC).save(tmp_path / "a.jpg", exif=exif)
    boxes, crops = read_crops(tmp_path / "a.jpg", lambda *sides: grid_boxes(*sides, (1, 2, 3)), size=60)
    assert boxes[0] == ((0, 0, 900, 600) if orientation == 1 else (0, 0, 600, 900))
    for (left, top, right, bottom), crop in zip(boxes, crops, strict=True):
        assert max(crop.shape[:2]) == 60
        side = 60 * 900 // max(right - left, bottom - top)  # of the whole photo at the scale of this crop
        alone = read_photo(tmp_path / "a.jpg", size=side, crop=(left, top, right, bottom))
        assert abs(crop.astype(int) - alone).mean() < 2


def test_small_photos_are_padded_and_broken_ones_named(tmp_path):
    Image.new("RGB", (9, 7)).save(tmp_path / "small.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photo")
    reading = Reading(tmp_path, 64, smallest=8)
    assert {pixels.shape for _, pixels in reading.read_crops("small.png", (1, 2))} == {(8, 9, 3)}
    with pytest.raises(PhotoError):
        reading.read_crops("broken.jpg", (1, 2))

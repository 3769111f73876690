"""Reading for a network: shapes before pixels, and padding."""

import numpy as np
import pytest

from pipelines.photos.edges import MARGIN
from pipelines.photos.reader import read_photo
from pipelines.photos.reading import Reading
from tests.helpers.small import SIZES, draw, draw_folder


@pytest.mark.parametrize("kind", ["sobel", "sketch"])
@pytest.mark.parametrize("crop", [None, (5.0, 3.0, 45.0, 33.0)])
def test_reading_says_the_shape_before_it_reads(kind, crop, tmp_path):
    for name in draw_folder(tmp_path, len(SIZES)):
        for smallest in (1, 200):
            reading = Reading(tmp_path, 40, smallest=smallest, edges=kind)
            cut = crop if name == "000.png" else None
            assert reading.read(name, cut).shape == (*reading.shape(name, cut), 3)
            assert max(reading.shape(name, cut)) <= reading.longest() == max(40 + 2 * MARGIN, smallest)


def test_padding_repeats_the_last_row_and_column(tmp_path):
    draw(tmp_path / "a.png", 3, 5)
    pixels = read_photo(tmp_path / "a.png")
    reading = Reading(tmp_path, None, smallest=7)
    padded = reading.read("a.png")
    assert padded.shape[:2] == reading.shape("a.png") == (7, 7)
    for row in range(7):
        for column in range(7):
            np.testing.assert_array_equal(padded[row, column], pixels[min(row, 2), min(column, 4)])

"""Tuples of photos with GPS positions and headings in their metadata or in a table, against plain loops."""

import logging

import numpy as np
import pytest

from keras_retrieval.errors import ArgumentError
from pipelines.gps.positions import positions as write_positions
from pipelines.photos.positions import PositionError, heading_difference
from pipelines.training_tuples.data import TuplesError
from pipelines.training_tuples.file import read_tuples
from pipelines.training_tuples.tuples import tuples as make_tuples
from tests.helpers.gps_photos import ASCII, exif, gps, photo, rational

# A meridian's degree at 50 degrees north is 111,229 m long (WGS84): 0.0001 degrees are 11.12 m.
STEP = 0.0001
HEADINGS = [0, 30, 350, 180, None, 200, 10, 20]


def fraction(degrees):
    return ((round(degrees * 10**7), 10**7),)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photos along a meridian at steps of 5.56 m, and one without a position."""
    folder = tmp_path_factory.mktemp("photos")
    for row, heading in enumerate(HEADINGS):
        facing = {} if heading is None else {"_16": (ASCII, "T"), "_17": rational(heading)}
        data = exif(gps(fraction(50 + row * STEP / 2), fraction(14), **facing))
        (folder / f"{row}.jpg").write_bytes(photo(data))
    (folder / "nowhere.jpg").write_bytes(photo())
    return folder


def pairs(path):
    tuples = read_tuples(path)
    return {(tuples.images[one], tuples.images[other]) for one, other in zip(tuples.qidxs, tuples.pidxs, strict=True)}


def expected(heading=None, step=11.1229 / 2, radius=12.0):
    found = set()
    for one, facing in enumerate(HEADINGS):
        for other, there in enumerate(HEADINGS):
            if one == other or abs(one - other) * step > radius:
                continue
            if heading is not None:
                if facing is None or there is None:
                    continue
                if min(abs(facing - there), 360 - abs(facing - there)) > heading:
                    continue
            found.add((f"{one}.jpg", f"{other}.jpg"))
    return found


CHOICE = {"radius": 12.0, "apart": 12.5, "validation": 0.0, "negatives": 0, "copies": False}


@pytest.mark.parametrize("heading", [None, 60.0, 30.0, 180.0])
def test_positions_in_photos_and_in_the_table_that_positions_writes_give_the_same_tuples(folder, heading, tmp_path):
    table = write_positions(folder, tmp_path / "positions.csv")
    options = CHOICE | ({} if heading is None else {"heading": heading})
    found = pairs(make_tuples(folder, tmp_path / "exif.npz", positions="exif", **options))
    assert found == expected(heading)
    assert pairs(make_tuples(folder, tmp_path / "gps.npz", positions="GPS", **options)) == found
    assert pairs(make_tuples(folder, tmp_path / "table.npz", positions=str(table), **options)) == found
    assert pairs(make_tuples(table, tmp_path / "source.npz", **options)) == found
    assert pairs(make_tuples(table, tmp_path / "checked.npz", photos=folder, **options)) == found


def test_photos_without_position_or_heading_are_reported(folder, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "keras_retrieval"):
        made = make_tuples(folder, tmp_path / "a.npz", positions="exif", heading=60.0, **CHOICE)
    assert "8 of 9 photos have a position in their metadata; without: 1 x no EXIF" in caplog.text
    assert "1 of 8 photos have no heading: with --heading they are neither queries nor positives" in caplog.text
    tuples = read_tuples(made)
    assert "4.jpg" in tuples.images  # it may still be a negative
    assert "nowhere.jpg" not in tuples.images


def test_the_difference_of_headings_is_the_smaller_angle():
    one, other = np.array([350.0, 0, 10, 90, np.nan]), np.array([10.0, 180, 350, 90, 1])
    np.testing.assert_array_equal(heading_difference(one, other), [20, 180, 20, 0, np.nan])


@pytest.mark.parametrize(
    ("heading", "message"),
    [("361", "line 3: heading must be degrees in -360..360, got '361'"), ("north", "line 3: .*, got 'north'")],
)
def test_headings_of_a_table_are_checked(heading, message, tmp_path):
    source = tmp_path / "places.csv"
    source.write_text(f"photo,latitude,longitude,heading\na.jpg,50.1,14.2,-10°\nb.jpg,50.1,14.2,{heading}\n")
    with pytest.raises(TuplesError, match=message):
        make_tuples(source, tmp_path / "tuples.npz", heading=60.0)


def test_options_that_a_source_does_not_use_are_refused(folder, tmp_path):
    source, output = tmp_path / "places.csv", tmp_path / "tuples.npz"
    source.write_text("photo,latitude,longitude\na.jpg,50.1,14.2\nb.jpg,50.1,14.2\n")
    with pytest.raises(TuplesError, match="none of 2 photos has a heading"):
        make_tuples(source, output, heading=60.0)
    with pytest.raises(TuplesError, match="is a table itself"):
        make_tuples(source, output, positions="exif")
    with pytest.raises(PositionError, match="there is no such file"):
        make_tuples(folder, output, positions="missing.csv")
    with pytest.raises(TuplesError, match=r"--heading needs positions, and .* add --positions exif"):
        make_tuples(folder, output, heading=60.0)
    with pytest.raises(ArgumentError, match="--manifold uses descriptors alone"):
        make_tuples(folder, output, manifold=True, heading=60.0)
    with pytest.raises(ArgumentError, match="--heading must be"):
        make_tuples(folder, output, heading=181.0)
    (tmp_path / "pairs.csv").write_text("query,positive\na.jpg,b.jpg\n")
    with pytest.raises(TuplesError, match="contains pairs of photos"):
        make_tuples(tmp_path / "pairs.csv", output, heading=60.0)
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "a.jpg").write_bytes(photo())
    with pytest.raises(TuplesError, match="none of 1 photos has a position in its metadata: 1 x no EXIF"):
        make_tuples(tmp_path / "plain", output, positions="exif")

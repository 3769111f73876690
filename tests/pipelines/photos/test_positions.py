"""Positions of photos."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.photos.positions import Position, PositionError, common_frame, positions_in_names, within


def test_the_radius_search_equals_all_distances(shared):
    """On the published positions of Pitts30k's test split."""
    with np.load(shared / "data" / "gnd" / "pitts30k_test_gt.npz") as published:
        queries, database = published["utmQ"][::5], published["utmDb"]
        radius = float(published["posDistThr"])
    distance = np.hypot(*(queries[:, None] - database).transpose(2, 0, 1))
    for found, row in zip(within(queries, database, radius), distance, strict=True):
        np.testing.assert_array_equal(found, np.flatnonzero(row <= radius))


def names(*fields):
    return [f"database/@{'@'.join(map(str, one))}@.jpg" for one in fields]


def read(*fields):
    return positions_in_names(names(*fields), Path("photos"))


def test_names_hold_zone_hemisphere_degrees_and_panorama():
    found = read(
        ("0584304.53", "4477003.93", 17, "T", "040.43956", "-079.99458", "pano7", 0, ""),
        ("334786.5", "6252080", 56, "H", "", "", ""),
        ("380000", "3950000", 54, "S", "35.69", "139.67"),
        ("584304.53", "4477003.93", "", "", "40.43956", "-79.99458"),
        ("", "", "", "", "40.43956", "-79.99458"),
        ("452000", "5411000", 31),
        ("452000", "5411000", "any", "thing"),
        ("1", "2"),
    )
    assert [one.system for one in found] == ["17N", "56S", "54N", "17N", "degrees", "31", "", ""]
    assert [one.panorama for one in found] == ["pano7", *[""] * 7]
    assert found[0] == Position(584304.53, 4477003.93, "17N", "pano7", (40.43956, -79.99458))
    assert (found[4].east, found[4].north) == (-79.99458, 40.43956)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((0, 0, 54, "S"), "S is the band from 32 to 40"),
        ((0, 0, 31, "U"), "position is 0, 0"),
        (("nan", 5411000, 31, "U"), "no position in the name"),
        ((5411000, 452000, 31, "U"), "must be in 100000.*swapped"),
        ((452000, 5411000, 61, "U"), "zone must be in 1..60, got 61"),
        ((452000, 5411000, 31, "I"), "'I' is not the letter"),
        (("", "", "", "", 0, 0), "position is 0, 0"),
        (("", "", "", "", 139.7, 35.6), "latitude must be .*swapped"),
        ((9e9, 5), "no position in the name|out of range"),
    ],
)
def test_a_wrong_position_in_a_name_is_named(fields, message):
    with pytest.raises(PositionError, match=rf"photos/database/@.*{message}"):
        read(fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([(452000, 5411000, 31, "U", 2.35, 48.85)], r"swapped\): correct"),
        ([(452000, 5411000, 32, "U", 48.85, 2.35)], "zone 32N are at"),
        ([(452000, 5411000, 31, "U"), (452000, 5411000)], "the position has no UTM zone, and others are in zone 31N"),
        ([(452000, 5411000, 31), (452000, 5411000, 32, "U")], "the position has no hemisphere"),
        ([(452000, 5411000), (0, 0)], "position is 0, 0"),
    ],
)
def test_positions_at_odds_are_named(fields, message):
    with pytest.raises(PositionError, match=message):
        common_frame(read(*fields), names(*fields))


def test_one_zone_keeps_the_published_metres():
    fields = [(452000.5, 5411000, 31, "U"), (452000.5, 5411000, 31, "T")]
    np.testing.assert_array_equal(common_frame(read(*fields), names(*fields)), [[452000.5, 5411000]] * 2)


# Latitude and longitude computed by pyproj 3.7.2 (PROJ 9), within 3.2 degrees of the meridian of the zone.
PROJ = [
    ("31N", 452000.5, 5411000.25, 48.850113949953, 2.345712995453),
    ("31N", 717000.0, 5498000.0, 49.595587028923, 6.002995354244),
    ("32N", 283000.0, 5498500.0, 49.600078185803, 5.996728597594),
    ("56S", 334786.5, 6252080.0, -33.858663994834, 151.214028263637),
    ("17N", 584304.53, 4477003.93, 40.439412351234, -80.005968503594),
    ("24S", 200000.0, 9990000.0, -0.090372394703, -41.695026554724),
]


def test_conversion_agrees_with_proj_to_a_millimetre():
    utm = [Position(east, north, system) for system, east, north, _, _ in PROJ]
    degrees = [Position(longitude, latitude, "degrees") for *_, latitude, longitude in PROJ]
    ours, theirs = common_frame(utm, [""] * len(PROJ)), common_frame(degrees, [""] * len(PROJ))
    assert np.linalg.norm(ours - theirs, axis=1).max() < 1e-3


def test_distances_in_space_are_those_in_a_zone_to_a_thousandth():
    rng = np.random.default_rng(0)
    east, north = rng.uniform(200_000, 800_000, 500), rng.uniform(10_000, 8_000_000, 500)
    angle = rng.uniform(0, 2 * np.pi, 500)
    one = [Position(*spot, "31N") for spot in zip(east, north, strict=True)]
    other = [Position(*spot, "31N") for spot in zip(east + 25 * np.cos(angle), north + 25 * np.sin(angle), strict=True)]
    abroad = Position(500_000, 1_000_000, "32N")  # puts all into space
    spots = common_frame([*one, *other, abroad], [""] * 1001)
    distances = np.linalg.norm(spots[:500] - spots[500:1000], axis=1)
    assert 1e-4 < np.abs(distances / 25 - 1).max() < 1e-3


def test_the_equator_and_the_date_line_are_no_borders():
    across = [Position(500_000, 3, "31N"), Position(500_000, 9_999_995, "31S")]
    across += [Position(179.99999, 10, "degrees"), Position(-179.99999, 10, "degrees")]
    spots = common_frame(across, [""] * 4)
    np.testing.assert_allclose(np.linalg.norm(spots[::2] - spots[1::2], axis=1), [8, 2.19], rtol=2e-3)

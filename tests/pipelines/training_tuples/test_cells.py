"""Classes from positions and headings, as the published code of CosPlace numbers them."""

import numpy as np
import pytest

from pipelines.photos.positions import Position, common_frame
from pipelines.training_tuples.cells import cells_of, plane_of
from pipelines.training_tuples.from_positions import from_positions
from pipelines.training_tuples.options import TuplesOptions

M, ALPHA, N, L = 10, 30, 5, 2


@pytest.fixture(scope="module")
def streets():
    rng = np.random.default_rng(0)
    return rng.uniform(-60, 60, (300, 2)), rng.uniform(-180, 720, 300)


def published(spot, heading):
    """The class and group of a photo by the published formula."""
    east, north = (int(value // M * M) for value in spot)
    turn = int(heading % 360 // ALPHA * ALPHA)
    return (east, north, turn), (east % (M * N) // M, north % (M * N) // M, turn % (ALPHA * L) // ALPHA)


def test_classes_and_groups_are_the_published_ones(streets):
    cells = cells_of(*streets, M, ALPHA, (N, L))
    named = [published(*photo) for photo in zip(*streets, strict=True)]
    for found, column in ((cells.cluster, 0), (cells.group, 1)):
        pairs = {(number, row[column]) for number, row in zip(found.tolist(), named, strict=True)}
        assert len(pairs) == len({number for number, _ in pairs}) == len({name for _, name in pairs})


def test_neighbours_are_linked_and_never_in_one_group(streets):
    cells = cells_of(*streets, M, ALPHA, (N, L))
    links = set(map(tuple, cells.links.tolist()))
    named = [published(*photo)[0] for photo in zip(*streets, strict=True)]
    seen = 0
    for i in range(0, 300, 5):
        for j in range(300):
            one, other = cells.cluster[i], cells.cluster[j]
            if one == other:
                continue
            east, north, turn = (abs(a - b) for a, b in zip(named[i], named[j], strict=True))
            near = east < M * N and north < M * N and min(turn, 360 - turn) < ALPHA * L
            assert ((min(one, other), max(one, other)) in links) == near
            assert not near or cells.group[i] != cells.group[j]
            seen += near
    assert seen > 100


def test_without_headings_a_class_is_a_cell(streets):
    cells = cells_of(streets[0], None, M, None, (N, L))
    assert len(np.unique(cells.cluster)) == len(np.unique(np.floor(streets[0] / M), axis=0))
    assert cells.group.max() < N * N


def test_positions_in_degrees_are_mapped_without_distortion():
    rng = np.random.default_rng(1)
    positions = [Position(11 + east, 48 + north, "degrees") for east, north in rng.uniform(0, 0.02, (40, 2))]
    spots = common_frame(positions, ["here"] * 40)
    plane = plane_of(spots)
    for one, other in ((spots[:, None] - spots[None], plane[:, None] - plane[None]),):
        np.testing.assert_allclose(np.linalg.norm(one, axis=2), np.linalg.norm(other, axis=2), atol=0.05)
    north = np.array([one.north for one in positions])
    assert np.corrcoef(plane[:, 1], north)[0, 1] > 0.999


def test_photos_of_the_whole_earth_are_told():
    spots = common_frame([Position(11, 48, "degrees"), Position(-74, 40, "degrees")], ["a", "b"])
    with pytest.raises(ValueError, match="--cells needs photos of one region"):
        plane_of(spots)


def options(**changes):
    return TuplesOptions("photos", "tuples.npz", cells=10.0, **changes)


def test_tuples_have_the_classes_as_clusters_and_positives_of_the_same_class():
    rng = np.random.default_rng(2)
    spots, headings = rng.uniform(0, 40, (120, 2)), rng.uniform(0, 360, 120)
    headings[7] = np.nan
    names = [f"{number}.jpg" for number in range(120)]
    positions = [Position(east, north) for east, north in spots]
    made = from_positions(names, positions, names, options(cell_heading=90.0), headings)
    assert "7.jpg" not in made.images
    assert len(made.images) == 119
    assert len(made.details["group"]) == 119
    assert len(made.qidxs) > 20
    np.testing.assert_array_equal(made.cluster[made.qidxs], made.cluster[made.pidxs])
    at = {
        name: (*np.floor(spot / 10), heading // 90) for name, spot, heading in zip(names, spots, headings, strict=True)
    }
    of_class = {number: {at[made.images[row]] for row in np.flatnonzero(made.cluster == number)}
                for number in np.unique(made.cluster)}  # fmt: skip
    assert all(len(found) == 1 for found in of_class.values())


def test_a_class_on_both_sides_of_a_split_is_two_linked_classes():
    from pipelines.training_tuples.from_positions import from_spots

    spots = np.array([[1.0, 1], [2, 2], [3, 3], [4, 4], [101, 1], [102, 2]])
    validation = np.array([False, False, True, True, False, False])
    everyone = np.ones(6, bool)
    made = from_spots([*"abcdef"], spots, [*"abcdef"], options(), (everyone, everyone), None, validation)
    one, _, two, _, three, _ = made.cluster
    assert len({one, two, three}) == 3
    assert made.same_object.tolist() == [sorted([one, two])]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cell_heading": 50.0}, "--cell-heading must divide 360 degrees into a multiple of 2 intervals, got 50"),
        ({"cell_heading": 120.0}, "--cell-heading must divide 360 degrees into a multiple of 2 intervals, got 120"),
        ({"cell_groups": "5"}, "--cell-groups must be two numbers from 1, such as 5x2, got '5'"),
        ({"cell_groups": "0x2"}, "--cell-groups must be two numbers from 1"),
        ({"manifold": True}, "--manifold uses descriptors alone: leave out --cells"),
        ({"cells": None, "cell_heading": 30.0}, "--cell-heading needs --cells"),
    ],
)
def test_options_of_cells_that_do_not_fit_are_told(changes, message):
    with pytest.raises(ValueError, match=message):
        TuplesOptions("photos", "tuples.npz", **{"cells": 10.0} | changes)


def test_photos_without_any_heading_are_told():
    names = ["a.jpg", "b.jpg"]
    with pytest.raises(ValueError, match="--cell-heading 30: none of 2 photos has a heading"):
        from_positions(names, [Position(1, 1), Position(2, 2)], names, options(cell_heading=30.0))

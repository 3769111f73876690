"""The tables of `positions` as columns of an index: searches are filtered by when and where photos were taken."""

import pytest
from keras_retrieval.pipelines.gps.positions import positions

from export.index_contract.contract import Filter
from export.indexes.index import index
from export.indexes.open_index import open_index
from tests.helpers.gps_photos import ASCII, exif, gps, photo
from tests.helpers.small_index import descriptors, random_rows

NAMES = ["a/1.jpg", "a/2.jpg", "b, c.jpg", "plain.jpg", "timeless.jpg"]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """The tables of photos of 2017 and 2018, of which plain.jpg has no position and timeless.jpg no time."""
    folder = tmp_path_factory.mktemp("tables")
    for row, name in enumerate(NAMES):
        camera = {0x9003: (ASCII, f"{2017 + row % 2}:07:18 15:31:30"), 0x9011: (ASCII, "-07:00")}
        data = exif(None if name == "plain.jpg" else gps(), None if name == "timeless.jpg" else camera)
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(data))
    return positions(folder / "photos", folder / "positions.csv", times=folder / "times.csv").parent


def found(folder, rows, **columns):
    opened = open_index(folder)
    hits = opened.search(rows[:1], k=9, where=Filter(columns={name: [value] for name, value in columns.items()}))
    return set(hits[0].names)


@pytest.mark.parametrize(
    ("table", "in_2018"), [("times.csv", {"a/2.jpg", "plain.jpg"}), ("positions.csv", {"a/2.jpg"})]
)
def test_searches_are_filtered_by_the_time_taken(tables, table, in_2018, tmp_path):
    rows = random_rows(len(NAMES))
    folder = str(index(descriptors(tmp_path / "d", rows, NAMES), tmp_path / "index", columns=tables / table))
    assert found(folder, rows, year="2017") == {"a/1.jpg", "b, c.jpg"}
    assert found(folder, rows, year="2018") == in_2018
    assert found(folder, rows, date="2017-07-18", time_reference="UTC") == {"a/1.jpg", "b, c.jpg"}
    assert found(folder, rows, time="2017-07-18T22:31:30Z") == {"a/1.jpg", "b, c.jpg"}

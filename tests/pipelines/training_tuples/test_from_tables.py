"""Tuples from CSV tables: positions, pairs, and rows that are wrong."""

from itertools import combinations

import numpy as np
import pytest

from pipelines.training_tuples.tuples import tuples as make_tuples
from tests.helpers.read_back import load, named_pairs


def write_table(path, columns, rows):
    path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def distances(positions):
    return np.linalg.norm(positions[:, None] - positions[None], axis=2)


def test_positions_along_a_street(tmp_path):
    rng = np.random.default_rng(0)
    along, across = np.sort(rng.uniform(0, 900, 120)), rng.uniform(0, 20, 120)
    positions = np.column_stack([355_000 + along, 5_700_000 + across])
    rows = [(f"{row:03}.jpg", *position) for row, position in enumerate(positions.tolist())]
    table = write_table(tmp_path / "street.csv", ("photo", "east", "north"), rows)
    fields = load(make_tuples(table, tmp_path / "tuples.npz", positives=99, validation=0))
    apart = distances(positions)
    pairs = set(zip(fields["qidxs"].tolist(), fields["pidxs"].tolist(), strict=True))
    assert pairs == {tuple(pair) for pair in np.argwhere((apart <= 10) & ~np.eye(120, dtype=bool)).tolist()}
    linked = {tuple(pair) for pair in fields["same_object"].tolist()}
    cluster = fields["cluster"].tolist()
    negatives = [
        (one, other)
        for one, other in combinations(range(120), 2)
        if cluster[one] != cluster[other] and tuple(sorted((cluster[one], cluster[other]))) not in linked
    ]
    assert len(negatives) > 4000
    assert all(apart[one, other] > 25 for one, other in negatives)


def test_latitude_and_longitude_are_metres(tmp_path):
    degrees = 180 / np.pi / 6_371_008.8
    metres = np.array([[0, 0], [0, 8], [6, 0], [0, 13], [500, 500], [500, 507], [-400, 0], [-400, 5]])
    latitude = 48.85 + metres[:, 1] * degrees
    longitude = 2.35 + metres[:, 0] * degrees / np.cos(np.radians(48.85))
    rows = [(f"{row}.jpg", *spot, "no") for row, spot in enumerate(zip(latitude, longitude, strict=True))]
    table = write_table(tmp_path / "paris.csv", ("photo", "latitude", "longitude", "east"), rows)
    fields = load(make_tuples(table, tmp_path / "tuples.npz", positives=9, negatives=1, validation=0))
    pairs = set(zip(fields["qidxs"].tolist(), fields["pidxs"].tolist(), strict=True))
    assert pairs == {tuple(p) for p in np.argwhere((distances(metres) <= 10) & ~np.eye(8, dtype=bool)).tolist()}


def test_a_metre_is_one_in_every_city(tmp_path):
    degrees = 180 / np.pi / 6_371_008.8
    steps = np.array([0, 8, 30, 52])
    rows = []
    for number, (latitude, longitude) in enumerate([(64.1, -21.9), (1.3, 103.8), (-17.0, 179.9999)]):
        east = longitude + steps * degrees / np.cos(np.radians(latitude))
        wrapped = np.where(east > 180, east - 360, east)
        rows += [(f"{number}{step}.jpg", latitude, spot) for step, spot in zip(steps, wrapped, strict=True)]
    assert min(row[2] for row in rows) < -179
    table = write_table(tmp_path / "earth.csv", ("photo", "latitude", "longitude"), rows)
    fields = load(make_tuples(table, tmp_path / "tuples.npz", negatives=1, validation=0))
    assert sorted(named_pairs(fields)) == sorted(
        (f"{city}{one}.jpg", f"{city}{other}.jpg") for city in range(3) for one, other in ((0, 8), (8, 0))
    )
    cluster = dict(zip(fields["images"].tolist(), fields["cluster"].tolist(), strict=True))
    linked = {tuple(pair) for pair in fields["same_object"].tolist()}
    for city in range(3):
        near = sorted((cluster[f"{city}8.jpg"], cluster[f"{city}30.jpg"]))
        assert near[0] == near[1] or tuple(near) in linked
        assert cluster[f"{city}0.jpg"] != cluster[f"{city}52.jpg"]


def test_a_list_of_pairs(tmp_path):
    table = write_table(
        tmp_path / "pairs.csv", ("query", "positive"), [("a", "b"), ("c", "b"), ("d", "e"), ("e", "d"), ("a", "b")]
    )
    fields = load(make_tuples(table, tmp_path / "tuples.npz", negatives=1, validation=0))
    assert sorted(named_pairs(fields)) == [("a", "b"), ("c", "b"), ("d", "e"), ("e", "d")]
    assert fields["cluster"].tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("columns", "rows", "message"),
    [
        (("photo", "east"), [("a", 1)], "needed are photo, east, north"),
        (("photo", "east", "north"), [("a", 1, 2), ("b", "x", 3)], "line 3: the position x, 3 is not two numbers"),
        (("photo", "east", "north"), [("a", 1, 2), ("b", "nan", 3)], "line 3: the position nan, 3"),
        (("photo", "east", "north"), [("a", 1, 2), ("b", 1, "")], "line 3: north is empty"),
        (
            ("photo", "east", "north"),
            [("a", 1, 2), ("b", 1, 2), ("a", 90, 2)],
            "line 4: a occurs twice, also at .*line 2, in clusters",
        ),
        (("photo", "east", "north"), [("a", "1", "5", "2")], "line 2: it has 4 cells, and the heading 3"),
        (("photo", "east", "north", "east"), [("a", 1, 2, 3)], "two columns east"),
        (
            ("photo", "east", "north"),
            [("../a", 1, 2), ("b", 1, 2)],
            r"line 2: \.\./a is not a path inside the folder of the photos",
        ),
        (("photo", "east", "north"), [("/a", 1, 2), ("b", 1, 2)], "line 2: /a is not a path inside"),
        (("photo", "latitude", "longitude"), [("a", 1, 2), ("b", 91, 2)], "line 3: latitude must be in"),
        (("query", "positive"), [("a", "b"), ("c", "c")], "line 3: c is its own positive"),
        (("query", "positive"), [("a", "b"), ("c",)], "line 3: positive is empty"),
        (("query", "positive"), [], "nothing to learn from"),
        (("photo", "east", "north"), [], "nothing to learn from"),
    ],
)
def test_a_wrong_row_of_a_table_is_named(tmp_path, columns, rows, message):
    table = write_table(tmp_path / "table.csv", columns, rows)
    with pytest.raises(ValueError, match=message):
        make_tuples(table, tmp_path / "tuples.npz", negatives=0)
    assert not (tmp_path / "tuples.npz").exists()


@pytest.mark.parametrize("row", [b"caf\xe9.jpg,b.jpg", b"a" * 200_000 + b",b.jpg"])
def test_a_table_that_is_no_text_is_named(tmp_path, row):
    (tmp_path / "table.csv").write_bytes(b"query,positive\n" + row + b"\n")
    with pytest.raises(ValueError, match=r"table\.csv cannot be read .* in UTF-8"):
        make_tuples(tmp_path / "table.csv", tmp_path / "tuples.npz")

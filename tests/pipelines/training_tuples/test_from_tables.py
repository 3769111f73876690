"""Tuples from CSV tables: positions, pairs, and rows that are wrong."""

from itertools import combinations

import numpy as np
import pytest

from pipelines.training_tuples.data import TuplesError
from pipelines.training_tuples.tuples import tuples as make_tuples
from tests.helpers.read_back import load, named_pairs
from tests.helpers.small import draw


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
    metres = np.array([[0, 0], [0, 8], [5.9, 0], [0, 13], [500, 500], [500, 507], [-400, 0], [-400, 5]])
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
        (
            ("photo", "east", "north"),
            [("a", 1, 2), ("b", "x", 3)],
            "line 3: east must be a number of metres: 'x' is not a number",
        ),
        (("photo", "east", "north"), [("a", 1, 2), ("b", "nan", 3)], "line 3: east must be a number of metres: 'nan'"),
        (("photo", "east", "north"), [("a", 1, 2), ("b", 1, "")], "line 3: north is empty"),
        (
            ("photo", "east", "north"),
            [("a", 1, 2), ("b", 1, 2), ("a", 90, 2)],
            "line 4: a occurs twice, also at .*line 2, in clusters",
        ),
        (("photo", "east", "north"), [("a", "1", "5", "2")], "line 2: it has 4 cells, and the heading 3"),
        (("photo", "east", "north", "east"), [("a", 1, 2, 3)], "line 1: two columns are named east"),
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
    with pytest.raises(TuplesError, match=r"table\.csv.*(line 2: byte 0xe9 is not|cannot be read after line 1)"):
        make_tuples(tmp_path / "table.csv", tmp_path / "tuples.npz")


STREET = [4.0 * step for step in range(20)]  # metres east of a point 40 m west of the border of zones 31 and 32


def across_the_border():
    """Positions of a street at 6 degrees east in Luxembourg: (zone, east, north) of its end in each zone."""
    utm = pytest.importorskip("utm")
    found = []
    for metres in STREET:
        longitude = 6 + (metres - 40) / 72_000
        east, north, zone, _ = utm.from_latlon(49.6, longitude)
        found.append((zone, round(east, 3), round(north, 3), longitude))
    assert {zone for zone, *_ in found} == {31, 32}
    return found


def pairs_within(metres, limit):
    return sorted(
        (f"{one:02}.jpg", f"{other:02}.jpg")
        for one, here in enumerate(metres) for other, there in enumerate(metres)
        if one != other and abs(here - there) <= limit
    )  # fmt: skip


@pytest.mark.parametrize("columns", [("photo", "east", "north", "zone", "letter"), ("photo", "latitude", "longitude")])
def test_a_street_across_the_border_of_a_zone_is_one_street(tmp_path, columns):
    spots = across_the_border()
    rows = [
        (f"{row:02}.jpg", east, north, zone, "U") if len(columns) == 5 else (f"{row:02}.jpg", 49.6, longitude)
        for row, (zone, east, north, longitude) in enumerate(spots)
    ]
    table = write_table(tmp_path / "street.csv", columns, rows)
    fields = load(make_tuples(table, tmp_path / "tuples.npz", negatives=0, validation=0))
    assert sorted(named_pairs(fields)) == pairs_within(STREET, 10)


def test_equal_coordinates_in_two_zones_or_hemispheres_are_far_apart(tmp_path):
    rows = [
        ("paris.jpg", 452000, 5411000, "31U"), ("beside.jpg", 452003, 5411000, "31U"),
        ("tokyo.jpg", 452000, 5411000, "53U"), ("near.jpg", 452000, 5411004, "53U"),
        ("south.jpg", 452000, 5411000, "31F"), ("close.jpg", 452000, 5411005, "31F"),
    ]  # fmt: skip
    table = write_table(tmp_path / "earth.csv", ("photo", "east", "north", "zone"), rows)
    fields = load(make_tuples(table, tmp_path / "tuples.npz", negatives=0, validation=0))
    names = [name for name, *_ in rows]
    both = [(one, other) for one, other in zip(names[::2], names[1::2], strict=True)]
    assert sorted(named_pairs(fields)) == sorted([*both, *(pair[::-1] for pair in both)])
    assert len(fields["same_object"]) == 3


@pytest.fixture
def photos(tmp_path):
    for name in ("church/a.jpg", "church/b.jpg", "tower/caf\u00e9.jpg"):
        draw(tmp_path / "photos" / name, 20, 30)
    return tmp_path / "photos"


def test_rows_are_joined_with_photos_by_name_and_counted(tmp_path, photos, caplog):
    rows = [("b", 5, 5), ("cafe\u0301.jpg", 9, 5), ("C:\\shots\\church\\a.jpg", 1, 5), ("d.jpg", 5, 5), ("e.jpg", 5, 5)]
    table = write_table(tmp_path / "table.csv", ("photo", "east", "north"), rows)
    with caplog.at_level("INFO", "keras_retrieval"):
        fields = load(make_tuples(table, tmp_path / "t.npz", photos=photos, negatives=0, validation=0, copies=False))
    assert fields["images"].tolist() == ["church/b.jpg", "tower/caf\u00e9.jpg", "church/a.jpg"]
    assert f"{table}: 3 of 3 photos have a row; rows without a photo: 2, such as d.jpg, e.jpg" in caplog.messages


def test_pairs_keep_those_whose_photos_both_exist(tmp_path, photos, caplog):
    rows = [("a", "b"), ("b", "a"), ("a", "nowhere"), ("nowhere", "b")]
    table = write_table(tmp_path / "table.csv", ("query", "positive"), rows)
    fields = load(make_tuples(table, tmp_path / "t.npz", photos=photos, negatives=0, validation=0, copies=False))
    assert sorted(named_pairs(fields)) == [("church/a.jpg", "church/b.jpg"), ("church/b.jpg", "church/a.jpg")]
    assert (
        f"{table}: 2 of 3 photos have a row; photos without a row: 1, such as tower/caf\u00e9.jpg; "
        "rows without a photo: 2, such as nowhere"
    ) in caplog.messages


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("1.jpg", "2.jpg"),
            "none of its 2 rows names one of the 3 photos: a row names 1.jpg, 2.jpg, a photo is",
        ),
        (("a.jpg", "church/a.jpg"), "line 3: photo 'church/a.jpg' occurs twice, also at .*line 2"),
        (("a.jpg", "x.jpg", "a.jpg"), "line 4: photo 'church/a.jpg' occurs twice"),
    ],
)
def test_a_join_that_fails_is_refused(tmp_path, photos, names, message):
    table = write_table(tmp_path / "table.csv", ("photo", "east", "north"), [(name, 1, 5) for name in names])
    with pytest.raises(TuplesError, match=message):
        make_tuples(table, tmp_path / "t.npz", photos=photos, negatives=0)


@pytest.mark.parametrize("suffix", [".tsv", ".txt", ".CSV"])
def test_tables_have_several_suffixes(tmp_path, suffix):
    table = write_table(tmp_path / f"table{suffix}", ("query", "positive"), [("a", "b")])
    assert sorted(named_pairs(load(make_tuples(table, tmp_path / "t.npz", negatives=0, validation=0)))) == [("a", "b")]


def test_pairs_may_have_other_columns_that_name_photos(tmp_path):
    table = write_table(tmp_path / "t.csv", ("file", "Positive", "path", "QUERY"), [("x", "b", "y", "a")])
    assert sorted(named_pairs(load(make_tuples(table, tmp_path / "t.npz", negatives=0, validation=0)))) == [("a", "b")]


def test_a_workbook_is_refused_with_its_way_out(tmp_path):
    (tmp_path / "table.xlsx").write_bytes(b"PK\x03\x04")
    with pytest.raises(TuplesError, match=r"table\.xlsx is a spreadsheet: save it as CSV UTF-8"):
        make_tuples(tmp_path / "table.xlsx", tmp_path / "t.npz")

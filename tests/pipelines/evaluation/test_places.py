"""Datasets of place recognition, by names and by CSV."""

import csv

import numpy as np
import pytest

from pipelines.evaluation.datasets import load_ground_truth
from pipelines.evaluation.errors import GroundTruthError
from pipelines.evaluation.scores import score
from tests.helpers.ground_truths import make, named


def spot(folder, number, east, north, panorama=""):
    return f"{folder}/@{east:.2f}@{north:.2f}@54@S@@@{panorama}@{number}@@@@@@@.jpg"


def test_places_read_positions_from_names(tmp_path):
    database = [spot("database", n, 380_000 + 10 * n, 3_950_000) for n in range(6)]
    queries = [spot("queries", 0, 380_000, 3_950_000), spot("queries", 1, 500_000, 3_900_000)]
    truth = load_ground_truth("places", make(tmp_path, *database, *queries))
    answers = {query: named(truth, "positives")[query] for query in queries}
    assert answers == {queries[0]: database[:3], queries[1]: []}
    assert truth.partial is None
    worst_first = np.tile(np.arange(6)[::-1, None], (1, 2))
    figures = score(truth, worst_first)
    assert figures["mean"]["all"] == {"recall@1": 0.0, "recall@5": 0.5, "recall@10": 0.5, "recall@20": 0.5}
    first = {row["query"]: row["all"]["first hit"] for row in figures["per_query"]}
    assert first == {queries[0]: 4, queries[1]: None}


@pytest.mark.parametrize("with_name", [True, False])
def test_tokyo_counts_a_panorama_once(tmp_path, with_name):
    """12 wrong cut-outs of one panorama stand first: they count as one, so the hit is the second."""
    wrong = [spot("database", n, 390_000, 3_950_000, "wrong" if with_name else "") for n in range(12)]
    right = [spot("database", n, 380_000, 3_950_000, "right" if with_name else "") for n in range(12)]
    folder = make(tmp_path, *wrong, *right, spot("queries_v2", 0, 380_003, 3_950_004))
    order = [load_ground_truth("places", folder).database.index(name) for name in wrong + right]
    ranks = np.array(order)[:, None]
    assert score(load_ground_truth("tokyo247", folder), ranks)["per_query"][0]["all"] == {"first hit": 2}
    assert score(load_ground_truth("places", folder), ranks)["per_query"][0]["all"] == {"first hit": 13}


def write_positions(path, rows, columns=("photo", "east", "north")):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def test_places_by_csv_on_real_photos(shared, tmp_path):
    """The toy set's names hold no position, so a made street: a photo every 20 m, a query beside each fourth."""
    rows = [(f"database/db{n}.jpg", 20 * n, 0) for n in range(1, 18)]
    rows += [(f"q{n}", 80 * n, 3) for n in range(1, 6)]
    gnd = write_positions(tmp_path / "utm.csv", rows)
    truth = load_ground_truth("places", shared / "data" / "eval" / "vpr_toy", gnd)
    assert (len(truth.database), len(truth.queries), truth.partial) == (17, 5, None)
    assert named(truth, "positives")["queries/q1.jpg"] == [f"database/db{n}.jpg" for n in (3, 4, 5)]
    assert named(truth, "positives")["queries/q5.jpg"] == []


def test_places_by_csv_can_be_partial(tmp_path):
    rows = [("database/a.jpg", 0, 0), ("database/b.jpg", 1, 0), ("queries/q.jpg", 0, 1), ("queries/r.jpg", 0, 2)]
    folder = make(tmp_path / "photos", "database/a.jpg", "queries/q.jpg")
    truth = load_ground_truth("places", folder, write_positions(tmp_path / "utm.csv", rows))
    assert truth.partial == "partial: 1 of 2 photos, 1 of 2 queries"


@pytest.mark.parametrize(("rows", "columns", "message"), [
    ([("database/a.jpg", 0)], ("photo", "east"), "has the columns photo, east: needed are photo, east"),
    ([("database/a.jpg", 0, "x")], ("photo", "east", "north"), "line 2: north must be a number of metres: 'x'"),
    ([("database/a.jpg", 0, "nan")], ("photo", "east", "north"), "'nan' is not a number"),
    ([("database/a.jpg", 0, "1", "5")], ("photo", "east", "north"), "line 2: it has 4 cells, and the heading 3"),
    ([("database/a.jpg", 0, 0), ("a.jpg", 9, 9)], ("photo", "east", "north"), "line 3: photo .* twice"),
    ([("database/a.jpg", 0, 0)], ("photo", "east", "north"), "1 of 2 photos .* queries/q.jpg: add"),
])  # fmt: skip
def test_a_damaged_csv_names_the_row(tmp_path, rows, columns, message):
    folder = make(tmp_path / "photos", "database/a.jpg", "queries/q.jpg")
    with pytest.raises(ValueError, match=message):
        load_ground_truth("places", folder, write_positions(tmp_path / "utm.csv", rows, columns))


@pytest.mark.parametrize(("names", "message"), [
    (("database/db1.jpg", "queries/q.jpg"), "no position in the name"),
    (("database/@x@1@.jpg", "queries/@1@1@.jpg"), "no position in the name"),
    (("database/@1@1@.jpg",), "must contain one folder 'queries'"),
    (("database/@1@1@.jpg", "queries_a/@1@1@.jpg", "queries_b/@1@1@.jpg"), "it has: queries_a, queries_b"),
])  # fmt: skip
def test_places_in_another_layout_are_refused(tmp_path, names, message):
    with pytest.raises(GroundTruthError, match=message):
        load_ground_truth("places", make(tmp_path, *names))


def test_places_without_their_csv(tmp_path):
    folder = make(tmp_path, "database/a.jpg", "queries/q.jpg")
    with pytest.raises(GroundTruthError, match="photo, east, north"):
        load_ground_truth("places", folder, tmp_path / "utm.csv")


def test_zones_and_hemispheres_count_in_names(tmp_path):
    """A query in Japan, and one south of the equator, have no positives near Paris; one in Paris has."""

    def at(folder, zone, letter, east=452_000.0):
        return f"{folder}/@{east}@5411000@{zone}@{letter}@@@@@.jpg"

    queries = [at("queries", *place, east=452_003.0) for place in ((31, "U"), (53, "U"), (31, "F"))]
    truth = load_ground_truth("places", make(tmp_path, at("database", 31, "U"), *queries))
    positives = named(truth, "positives")
    assert [len(positives[query]) for query in queries] == [1, 0, 0]
    figures = score(truth, np.zeros((1, 3), int))
    assert figures["mean"]["all"]["recall@1"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("columns", [("photo", "east", "north", "zone"), ("photo", "lat", "lng")])
def test_a_street_across_the_border_of_a_zone_in_a_table(tmp_path, columns):
    import utm

    rows = []
    for row in range(10):  # 8 m apart, across 6 degrees east
        latitude, longitude = 49.6, 6 + (8 * row - 40) / 72_322
        name = f"{'queries/q' if row % 2 else 'database/d'}{row}.jpg"
        east, north, zone, _ = utm.from_latlon(latitude, longitude)
        rows.append((name, east, north, f"{zone}N") if len(columns) == 4 else (name, latitude, longitude))
    folder = make(tmp_path / "photos", *(row[0] for row in rows))
    positives = named(
        load_ground_truth("places", folder, write_positions(tmp_path / "p.csv", rows, columns)), "positives"
    )
    for row in range(1, 10, 2):
        near = [f"database/d{other}.jpg" for other in range(0, 10, 2) if 8 * abs(other - row) <= 25]
        assert positives[f"queries/q{row}.jpg"] == near


def test_rows_of_absent_photos_are_counted(tmp_path, caplog):
    rows = [("database/a.jpg", 0, 0), ("b", 1, 0), ("q", 0, 1)]
    folder = make(tmp_path / "photos", "database/a.jpg", "queries/q.jpg")
    gnd = write_positions(tmp_path / "utm.csv", rows)
    with caplog.at_level("INFO", "keras_retrieval"):
        load_ground_truth("places", folder, gnd)
    assert caplog.messages == [f"{gnd}: 2 of 2 photos have a row; rows without a photo: 1, such as b"]

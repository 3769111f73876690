"""Training tuples from Mapillary SLS, GSV-Cities and trees of splits, as their archives unpack."""

import numpy as np
import pytest

from pipelines.photos.positions import PositionError
from pipelines.training_tuples.data import TuplesError
from pipelines.training_tuples.tuples import tuples as make_tuples
from tests.helpers.read_back import load, make_photos, named_pairs
from tests.helpers.street_archives import make_gsv_cities, make_msls


def street(number, heading=0.0, pano=False, part="p"):
    return f"{part}{number}", 100.0 * number, 0.0, heading, pano, "all"


@pytest.fixture
def msls(tmp_path):
    queries = [street(n, 10.0, part="q") for n in range(4)]
    database = [
        ("near", 5.0, 0.0, 20.0, False, ""),
        ("turned", 8.0, 0.0, 200.0, False, ""),
        ("pano", 1.0, 0.0, 10.0, True, ""),
        ("far", 10.01, 0.0, 10.0, False, ""),
        *(street(n, 10.0) for n in range(1, 4)),
    ]
    make_msls(tmp_path, "london", queries, database, subsets=False)
    make_msls(tmp_path, "paris", [street(0, 10.0, part="x")], [street(0, 10.0, part="y")], subsets=False)
    make_msls(tmp_path, "sf", [street(0, 10.0, part="v")], [street(0, 10.0, part="w")], subsets=False)
    return tmp_path


def pairs(fields):
    return {tuple(name.rsplit("/", 1)[1].removesuffix(".jpg") for name in pair) for pair in named_pairs(fields)}


def test_msls(msls, tmp_path, caplog):
    with caplog.at_level("INFO", "keras_retrieval"):
        fields = load(make_tuples(msls, tmp_path / "tuples.npz", negatives=2))
    expected = {("q0", "near"), ("q0", "turned"), ("x0", "y0"), ("v0", "w0"), *((f"q{n}", f"p{n}") for n in (1, 2, 3))}
    assert pairs(fields) == expected
    validation = [name.split("/")[1] for name in fields["images"][fields["validation"]]]
    assert set(validation) == {"sf"}
    assert not any("pano" in name for name in fields["images"])
    linked = {
        tuple(fields["images"][[np.flatnonzero(fields["cluster"] == one)[0] for one in pair]])
        for pair in fields["same_object"]
    }
    assert not any("london" in one and "paris" in other for one, other in linked)  # 0, 0 in both, in different zones
    assert "Mapillary SLS, 14 of 14 listed photos in 3 cities; sf for validation" in caplog.text


def test_msls_by_heading_and_partial(msls, tmp_path, caplog):
    (msls / "train_val" / "london" / "database" / "images" / "p3.jpg").unlink()
    (msls / "test" / "miami" / "query").mkdir(parents=True)
    (msls / "test" / "miami" / "database").mkdir()
    (msls / "test" / "miami" / "database" / "raw.csv").write_text("")
    with caplog.at_level("INFO", "keras_retrieval"):
        fields = load(make_tuples(msls, tmp_path / "tuples.npz", negatives=2, heading=40))
    assert pairs(fields) == {("q0", "near"), ("x0", "y0"), ("v0", "w0"), ("q1", "p1"), ("q2", "p2")}
    assert "13 of 14 listed photos" in caplog.text
    assert "without miami, whose positions are not published" in caplog.text
    for path in msls.rglob("*.jpg"):
        path.unlink()
    make_photos(msls, ["other.jpg"])
    with pytest.raises(TuplesError, match="has none of the 14 photos that the tables of Mapillary SLS list"):
        make_tuples(msls, tmp_path / "tuples.npz")


def test_gsv_cities(tmp_path, caplog):
    folder = tmp_path / "gsv"
    boston = [
        (7, 2015, 7, 90, 42.35, -71.06, "aa_1"),
        (7, 2019, 1, 88, 42.35, -71.06, "bb"),
        (8, 2012, 5, 0, 42.3501, -71.06, "cc"),
        (8, 2013, 5, 0, 42.3501, -71.06, "dd"),
    ]
    names = make_gsv_cities(folder, "Boston", boston, offset=300_000)
    names += make_gsv_cities(folder, "OSL", [(7, 2015, 7, 1, 59.9, 10.7, "ee"), (7, 2016, 7, 1, 59.9, 10.7, "ff")])
    make_photos(folder, ["Images/Boston/Boston_0000099_2015_07_090_42.35_-71.06_gg.JPG", "Images/OSL/cover.jpg"])
    (folder / names[3]).unlink()
    with caplog.at_level("INFO", "keras_retrieval"):
        fields = load(make_tuples(folder, tmp_path / "tuples.npz", negatives=1, validation=0))
    assert fields["images"].tolist() == sorted(names[:3] + names[4:])
    found = set(map(tuple, named_pairs(fields)))
    assert found == {(names[0], names[1]), (names[1], names[0]), (names[4], names[5]), (names[5], names[4])}
    with pytest.raises(TuplesError, match="--heading 40: the places of GSV-Cities are already views one way"):
        make_tuples(folder, tmp_path / "tuples.npz", heading=40)
    # Places 7 and 8 of Boston are 11 m apart (0.0001 degrees of latitude), nearer than --apart.
    assert len(np.unique(fields["cluster"])) == 3
    assert fields["same_object"].tolist() == [[0, 1]]
    assert "GSV-Cities, 5 of 6 listed photos; 2 photos that are not listed left out" in caplog.text


def test_tables_of_gsv_cities_that_are_damaged_are_named(tmp_path):
    make_gsv_cities(tmp_path, "Boston", [(7, 2015, 7, 90, 42.35, -71.06, "aa")])
    path = tmp_path / "Dataframes" / "Boston.csv"
    text = path.read_text()
    path.write_text(text.replace("42.35", "x"))
    with pytest.raises(PositionError, match=r"Boston\.csv, line 2: could not convert"):
        make_tuples(tmp_path, tmp_path / "tuples.npz")
    path.write_text(text.replace("panoid", "pano"))
    with pytest.raises(PositionError, match=r"Boston\.csv has no column panoid"):
        make_tuples(tmp_path, tmp_path / "tuples.npz")
    path.write_text(text.replace(",aa", ",zz"))
    with pytest.raises(PositionError, match="has none of the 1 photos that its tables list"):
        make_tuples(tmp_path, tmp_path / "tuples.npz")


def spot(folder, east, heading=""):
    return f"{folder}/@{east:.2f}@4180000.00@10@S@@@pano@0@{heading}@@@@@@.jpg"


def test_a_tree_of_splits_with_positions(tmp_path, caplog):
    """The validation set has a database and queries, the training set has not, and the test is left out."""
    train = [
        spot("train/a", 550_000 + east, heading) for east, heading in ((0, 0), (5, 90), (6, 350), (500, 0), (900, 0))
    ]
    val = [spot("val/database", 550_003, 0), spot("val/queries", 550_004, 0)]
    folder = make_photos(
        tmp_path / "sfxl", [*train, *val, spot("test/database", 550_000), spot("test/queries_v1", 550_001)]
    )
    with caplog.at_level("INFO", "keras_retrieval"):
        fields = load(make_tuples(folder, tmp_path / "tuples.npz", negatives=1))
    found = set(map(tuple, named_pairs(fields)))
    near = {(one, other) for one in train[:3] for other in train[:3] if one != other}
    assert found == near | {(val[1], val[0])}
    assert fields["images"][fields["validation"]].tolist() == val
    assert "5 photos to train on, 2 set aside for validation, and 2 of a test left out" in caplog.text
    fields = load(make_tuples(folder, tmp_path / "tuples.npz", negatives=1, heading=40))
    assert set(map(tuple, named_pairs(fields))) == {(train[0], train[2]), (train[2], train[0]), (val[1], val[0])}


def test_headings_that_are_compared_must_be_known(tmp_path):
    folder = make_photos(tmp_path / "street", [spot("a", 550_000), spot("a", 550_001)])
    with pytest.raises(TuplesError, match="--heading 40: none of 2 photos has a heading"):
        make_tuples(folder, tmp_path / "tuples.npz", heading=40)

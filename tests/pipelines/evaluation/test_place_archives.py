"""Datasets of place recognition in the layouts in which their archives are unpacked."""

import numpy as np
import pytest
from scipy.io import savemat

from pipelines.evaluation.datasets import load_ground_truth
from pipelines.evaluation.errors import GroundTruthError
from pipelines.evaluation.scores import score
from tests.helpers.ground_truths import make, named
from tests.helpers.street_archives import make_msls

CPH_QUERIES = [
    ("q1", 100.0, 0.0, 10.0, False, "all s2w"),
    ("q2", 200.0, 0.0, 350.0, False, "all"),
    ("q3", 900.0, 0.0, 0.0, False, "all"),  # no photo within 25 m
    ("q4", 100.0, 0.0, 0.0, True, "all"),  # a panorama
    ("q5", 100.0, 0.0, 0.0, False, ""),  # in no subset
]
CPH_DATABASE = [
    ("d1", 100.0, 25.0, 50.0, False, "all s2w"),  # 25 m from q1, 40 degrees
    ("d2", 100.0, 25.01, 10.0, False, "all s2w"),  # beyond 25 m
    ("d3", 110.0, 0.0, 51.0, False, "all s2w"),  # 10 m from q1, 41 degrees
    ("d4", 100.0, 0.0, 10.0, True, "all s2w"),  # a panorama
    ("d5", 205.0, 0.0, 20.0, False, "all"),  # 5 m from q2, 30 degrees across north
    ("d6", 101.0, 0.0, 10.0, False, ""),
]
SF = [("s1", 100.0, 0.0, 10.0, False, "all s2w")]  # the coordinates of q1, in another zone


@pytest.fixture
def msls(tmp_path):
    make_msls(tmp_path, "cph", CPH_QUERIES, CPH_DATABASE)
    make_msls(tmp_path, "sf", SF, [("t1", 100.0, 3.0, 180.0, False, "all s2w")])
    make_msls(tmp_path, "amman", SF, [("t1", 100.0, 3.0, 180.0, False, "all s2w")], photos=False)
    return tmp_path


def keys(truth):
    """query -> database photos, both as CITY KEY."""
    return {_key(query): [_key(photo) for photo in photos] for query, photos in named(truth, "positives").items()}


def _key(path):
    parts = path.split("/")
    return f"{parts[-4]} {parts[-1].removesuffix('.jpg')}"


def test_msls_by_distance_within_a_city(msls):
    truth = load_ground_truth("msls", msls)
    assert keys(truth) == {"cph q1": ["cph d1", "cph d3"], "cph q2": ["cph d5"], "sf s1": ["sf t1"]}
    assert [_key(one) for one in truth.database] == ["cph d1", "cph d2", "cph d3", "cph d5", "sf t1"]
    assert truth.partial is None
    assert load_ground_truth("msls", msls / "train_val").queries == [
        one.removeprefix("train_val/") for one in truth.queries
    ]


def test_msls_by_heading_and_subset(msls):
    assert keys(load_ground_truth("msls:heading", msls)) == {"cph q1": ["cph d1"], "cph q2": ["cph d5"]}
    truth = load_ground_truth("msls:s2w", msls)
    assert keys(truth) == {"cph q1": ["cph d1", "cph d3"], "sf s1": ["sf t1"]}
    assert len(truth.database) == 4
    assert truth.name == "msls:s2w"
    assert keys(load_ground_truth("msls:s2w,heading,cph", msls)) == {"cph q1": ["cph d1"]}


def test_subsets_of_msls_without_keys_are_in_the_order_of_the_photos(msls):
    expected = keys(load_ground_truth("msls:s2w", msls))
    for path in (msls / "train_val").glob("*/*/subtask_index.csv"):
        rows = [line.split(",") for line in path.read_text().splitlines()]
        path.write_text("".join(f"{row[0]},{','.join(row[2:])}\n" for row in rows))
    assert keys(load_ground_truth("msls:s2w", msls)) == expected
    path = msls / "train_val" / "sf" / "query" / "subtask_index.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(
        GroundTruthError, match=r"subtask_index\.csv has no column key, and 0 rows for the 1 of raw\.csv"
    ):
        load_ground_truth("msls:s2w", msls)


def test_msls_that_is_partial_says_so(msls):
    images = msls / "train_val" / "cph"
    (images / "query" / "images" / "q2.jpg").unlink()
    (images / "database" / "images" / "d3.jpg").unlink()
    truth = load_ground_truth("msls", msls)
    assert truth.partial == "partial: 4 of 5 photos, 2 of 3 queries"
    assert keys(truth)["cph q1"] == ["cph d1"]
    (msls / "train_val" / "sf").rename(msls / "elsewhere")
    assert load_ground_truth("msls", msls).partial == "partial: 3 of 4 photos, 1 of 2 queries, without the city sf"
    assert load_ground_truth("msls:cph", msls).partial == "partial: 3 of 4 photos, 1 of 2 queries"


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("msls:s2w,n2d", "names two subsets, s2w and n2d"),
        ("msls:rome", "has no folder of msls for rome; it has amman, cph, sf"),
        ("msls:amman", "contains none of the 1 photos of msls:amman"),
        ("msls:", "there is no dataset 'msls:'"),
        ("places:10", "there is no dataset 'places:10': msls, .* have variants"),
    ],
)
def test_variants_that_do_not_exist(msls, dataset, message):
    with pytest.raises(GroundTruthError, match=message):
        load_ground_truth(dataset, msls)


def test_tables_of_msls_that_are_damaged_are_named(msls):
    part = msls / "train_val" / "cph" / "query"
    with pytest.raises(GroundTruthError, match="leave --gnd out"):
        load_ground_truth("msls", msls, part)
    (part / "subtask_index.csv").write_text(",key,all\n0,q1,True\n")
    with pytest.raises(GroundTruthError, match=r"postprocessed\.csv, line 3: q2 has no row in .*subtask_index\.csv"):
        load_ground_truth("msls", msls)
    with pytest.raises(GroundTruthError, match=r"subtask_index\.csv has no column s2w"):
        load_ground_truth("msls:s2w", msls)
    text = (part / "postprocessed.csv").read_text()
    (part / "postprocessed.csv").write_text(text.replace("100.0", "east"))
    with pytest.raises(GroundTruthError, match=r"postprocessed\.csv, line 2: easting and northing must be numbers"):
        load_ground_truth("msls:cph", msls)
    (part / "postprocessed.csv").unlink()
    with pytest.raises(
        GroundTruthError, match=r"postprocessed\.csv does not exist: it is in the archive metadata\.zip"
    ):
        load_ground_truth("msls", msls)


def write_struct(path, database, queries):
    def names(listed):
        return np.array([name for name, *_ in listed], object).reshape(-1, 1)

    path.parent.mkdir(parents=True, exist_ok=True)
    struct = {
        "whichSet": "test", "dbImageFns": names(database), "utmDb": np.array([one[1:] for one in database], float).T,
        "qImageFns": names(queries), "utmQ": np.array([one[1:] for one in queries], float).T,
        "numImages": len(database), "numQueries": len(queries), "posDistThr": 25.0, "posDistSqThr": 625.0,
    }  # fmt: skip
    savemat(path, {"dbStruct": struct})
    return path


# The database and the queries have photos of one name.
PITTS_DATABASE = [
    ("000/000001_pitch1_yaw1.jpg", 0, 0),
    ("000/000001_pitch1_yaw2.jpg", 0, 0),
    ("001/000002_pitch1_yaw1.jpg", 30, 0),
]
PITTS_QUERIES = [("000/000001_pitch1_yaw1.jpg", 5, 0), ("000/000009_pitch1_yaw1.jpg", 60, 0)]


@pytest.fixture
def pitts(tmp_path):
    folder = tmp_path / "Pittsburgh"
    queries = [f"queries_real/{name}" for name, *_ in PITTS_QUERIES]
    return make(folder, *(name for name, *_ in PITTS_DATABASE), *queries)


def test_pittsburgh_by_its_matlab_file(pitts):
    write_struct(pitts / "datasets" / "pitts30k_test.mat", PITTS_DATABASE, PITTS_QUERIES)
    truth = load_ground_truth("pitts30k", pitts)
    assert named(truth, "positives") == {
        "queries_real/000/000001_pitch1_yaw1.jpg": [name for name, *_ in PITTS_DATABASE],  # 5 m and exactly 25 m
        "queries_real/000/000009_pitch1_yaw1.jpg": [],
    }
    assert truth.partial is None
    ranks = np.array([[2, 0], [0, 1], [1, 2]])
    assert score(truth, ranks)["mean"]["all"]["recall@1"] == 0.5
    (pitts / "001" / "000002_pitch1_yaw1.jpg").unlink()
    (pitts / "queries_real" / "000" / "000001_pitch1_yaw1.jpg").unlink()
    assert load_ground_truth("pitts30k", pitts).partial == "partial: 2 of 3 photos, 1 of 2 queries"
    assert load_ground_truth("pitts30k", pitts).queries == ["queries_real/000/000009_pitch1_yaw1.jpg"]
    with pytest.raises(GroundTruthError, match=r"there is no pitts250k_val\.mat or pitts250k_val\.npz"):
        load_ground_truth("pitts250k:val", pitts)
    with pytest.raises(GroundTruthError, match="must be one of pitts30k, pitts30k:val and pitts30k:train"):
        load_ground_truth("pitts30k:tests", pitts)


def test_pittsburgh_by_arrays_and_lists_of_names(pitts, tmp_path):
    gnd = tmp_path / "gnd" / "pitts30k_test_gt.npz"
    gnd.parent.mkdir()
    spots = {
        key: np.array([one[1:] for one in listed], float)
        for key, listed in (("utmDb", PITTS_DATABASE), ("utmQ", PITTS_QUERIES))
    }
    np.savez(gnd, **spots)
    with pytest.raises(GroundTruthError, match=r"positions without names: put the list pitts30k_imageNames_index\.txt"):
        load_ground_truth("pitts30k", pitts, gnd)
    for role, prefix, listed in (("index", "", PITTS_DATABASE), ("query", "queries_real/", PITTS_QUERIES)):
        lines = [f"./Pittsburgh250k/{prefix}{name}" for name, *_ in listed]
        (gnd.parent / f"pitts30k_imageNames_{role}.txt").write_text("\n".join(lines) + "\n")
    truth = load_ground_truth("pitts30k", pitts)
    assert [len(one) for one in truth.positives] == [3, 0]
    make(pitts, "copy/000/000001_pitch1_yaw1.jpg")
    with pytest.raises(GroundTruthError, match=r"contains 000/000001_pitch1_yaw1 twice: 000/.* and copy/000/"):
        load_ground_truth("pitts30k", pitts, gnd)
    (gnd.parent / "pitts30k_imageNames_query.txt").write_text("one.jpg\n")
    with pytest.raises(GroundTruthError, match="1 photos of the queries have 2 positions"):
        load_ground_truth("pitts30k", pitts, gnd)


def test_a_ground_truth_that_is_missing_or_damaged_is_named(pitts, tmp_path):
    with pytest.raises(GroundTruthError, match=r"nowhere\.mat does not exist"):
        load_ground_truth("pitts30k", pitts, tmp_path / "nowhere.mat")
    for role in ("index", "query"):
        (tmp_path / f"pitts30k_imageNames_{role}.txt").write_text("000/000001_pitch1_yaw1.jpg\n")
    np.savez(tmp_path / "other.npz", utmDb=np.zeros((1, 2)))
    with pytest.raises(GroundTruthError, match=r"other\.npz is not an \.npz file with utmDb and utmQ"):
        load_ground_truth("pitts30k", pitts, tmp_path / "other.npz")


def test_the_published_positions_of_pittsburgh(shared, tmp_path):
    names = (shared / "data" / "gnd" / "pitts30k_imageNames_index.txt").read_text().split()[:48]
    asked = (shared / "data" / "gnd" / "pitts30k_imageNames_query.txt").read_text().split()[:24]
    folder = make(tmp_path, *(name.split("Pittsburgh250k/")[1] for name in [*names, *asked]))
    truth = load_ground_truth("pitts30k", folder, shared / "data" / "gnd" / "pitts30k_test_gt.npz")
    assert truth.partial == "partial: 48 of 10,000 photos, 24 of 6,816 queries"
    assert truth.database[0] == "000/000829_pitch1_yaw1.jpg"
    assert truth.queries[0] == "queries_real/000/000546_pitch1_yaw1.jpg"


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0 MAT-file", b"x" * 500])
def test_a_matlab_file_that_is_damaged_is_named(pitts, content):
    (pitts / "pitts30k_test.mat").write_bytes(content)
    with pytest.raises(GroundTruthError, match=r"pitts30k_test\.mat is not a MATLAB file with a struct dbStruct"):
        load_ground_truth("pitts30k", pitts)


def test_tokyo_as_published(tmp_path):
    panoramas = [
        f"03814/{pano}_012_{30 * n}" for pano in ("aaaaaaaaaaaaaaaaaaaaaa", "-_bbbbbbbbbbbbbbbbbbbb") for n in range(12)
    ]
    positions = [(0, 0)] * 12 + [(100, 0)] * 12
    database = [(f"{name}.jpg", *spot) for name, spot in zip(panoramas, positions, strict=True)]
    write_struct(tmp_path / "tokyo247.mat", database, [("00001.jpg", 110, 0), ("00002.jpg", 500, 0)])
    folder = make(tmp_path, *(f"{name}.png" for name in panoramas), "247query_subset_v2/00001.jpg")
    truth = load_ground_truth("tokyo247", folder)
    assert truth.queries == ["247query_subset_v2/00001.jpg"]
    assert truth.partial == "partial: 24 of 24 photos, 1 of 2 queries"
    assert truth.positives[0].tolist() == list(range(12, 24))
    # All 12 views of the wrong panorama stand first and count as one photo, so that the hit is the second.
    assert score(truth, np.arange(24)[:, None])["per_query"][0]["all"] == {"first hit": 2}


def test_tokyo_s_queries_have_their_positions_in_csv_files(tmp_path):
    """35.66 N, 139.70 E is 382329.97 east, 3947016.86 north in zone 54 (by the package utm)."""
    near, far = (
        "database/@382350@3947010@54@S@@@pano@0@@@@@@@.jpg",
        "database/@382400@3947010@54@S@@@other@0@@@@@@@.jpg",
    )
    folder = make(tmp_path, near, far, "247query_v3/00001.jpg")
    (folder / "247query_v3" / "00001.csv").write_text("00001.jpg,35.66,139.70,80\n")
    truth = load_ground_truth("tokyo247", folder)
    assert named(truth, "positives") == {"247query_v3/00001.jpg": [near]}
    (folder / "247query_v3" / "00001.csv").write_text("00001.jpg;35,66\n")
    with pytest.raises(GroundTruthError, match=r"00001\.csv must have the line NAME,LATITUDE,LONGITUDE"):
        load_ground_truth("tokyo247", folder)


def test_tokyo_as_published_without_its_matlab_file(tmp_path):
    folder = make(tmp_path, "03814/a.png", "247query_subset_v2/00001.jpg")
    with pytest.raises(GroundTruthError, match=r"there is no tokyo247\.mat in or beside .*positions of the database"):
        load_ground_truth("tokyo247", folder)


def spot(folder, east, number):
    return f"{folder}/@{east:.2f}@4180000.00@10@S@@@pano@{number}@90@@@@@@.jpg"


def test_sf_xl_has_several_sets_of_queries(tmp_path):
    names = [
        spot("test/database", 550_000, 0),
        spot("test/queries_v1", 550_020, 1),
        spot("test/queries_v2", 550_030, 2),
    ]
    names += [spot("val/database", 550_000, 3), spot("val/queries", 550_001, 4), spot("train/a", 550_000, 5)]
    folder = make(tmp_path, *names)
    answers = {
        name: list(named(load_ground_truth(name, folder), "positives").values())
        for name in ("sfxl", "sfxl:v2", "sfxl:val")
    }
    assert answers == {"sfxl": [[names[0]]], "sfxl:v2": [[]], "sfxl:val": [[names[3]]]}
    assert load_ground_truth("sfxl", folder / "test").partial is None
    with pytest.raises(
        GroundTruthError, match=r"one folder 'queries_night' beside 'database'; it has test/queries_v1, test"
    ):
        load_ground_truth("sfxl:night", folder)


def test_nordland_by_frames(tmp_path):
    names = [f"{season}/images-{frame:05}.png" for season in ("summer", "winter") for frame in range(1, 31)]
    folder = make(tmp_path, *names)
    truth = load_ground_truth("nordland", folder)
    answers = named(truth, "positives")
    assert answers["winter/images-00001.png"] == ["summer/images-00001.png", "summer/images-00002.png"]
    assert answers["winter/images-00015.png"] == [f"summer/images-{frame:05}.png" for frame in (14, 15, 16)]
    wide = load_ground_truth("nordland:10", folder)
    assert len(named(wide, "positives")["winter/images-00015.png"]) == 21
    turned = load_ground_truth("nordland:summer-winter,0", folder)
    assert named(turned, "positives")["summer/images-00015.png"] == ["winter/images-00015.png"]
    assert truth.partial is None


def test_nordland_in_sections_and_with_positions_in_the_names(tmp_path):
    names = [
        f"{season}_images_test/section{part}/{n}.png"
        for season in ("summer", "winter")
        for part in (1, 2)
        for n in (1, 2, 3)
    ]
    truth = load_ground_truth("nordland:0", make(tmp_path / "sections", *names))
    assert named(truth, "positives")["winter_images_test/section2/3.png"] == ["summer_images_test/section2/3.png"]
    names = [f"{part}/@0@{2.4 * n:07.1f}@@@@@{n}@@@@@@@@.jpg" for part in ("database", "queries") for n in (9, 10, 11)]
    truth = load_ground_truth("nordland", make(tmp_path / "named", *names))
    assert [len(one) for one in truth.positives] == [2, 3, 2]


def test_nordland_with_the_list_of_clean_frames(tmp_path):
    """The list leaves a tunnel out, so that frames 3 and 9 are neighbours."""
    names = [f"{season}/images-{frame:05}.png" for season in ("summer", "winter") for frame in (1, 2, 3, 5, 9, 10)]
    folder = make(tmp_path / "nordland", *names)
    frames = (1, 2, 3, 9, 10, 11)
    (tmp_path / "cleanImageNames.txt").write_text("".join(f"images-{frame:05}.png\n" for frame in frames))
    truth = load_ground_truth("nordland", folder)
    assert truth.partial == "partial: 5 of 6 photos, 5 of 6 queries"
    assert named(truth, "positives")["winter/images-00003.png"] == [
        f"summer/images-{frame:05}.png" for frame in (2, 3, 9)
    ]


@pytest.mark.parametrize(
    ("names", "dataset", "message"),
    [
        (
            ("summer/1.png", "spring/1.png"),
            "nordland",
            "has no folder of the queries, such as winter; it has: spring, summer",
        ),
        (("summer/1.png", "winter/x.png"), "nordland", r"winter/x\.png: there is no number of a frame"),
        (("summer/1.png", "winter/1.png"), "nordland:ten", "'ten' is neither a number of frames nor QUERIES-DATABASE"),
        (("summer/1.png", "winter/1.png"), "nordland:fall-winter", "has no folder of the queries, such as fall"),
    ],
)
def test_nordland_in_another_layout_is_refused(tmp_path, names, dataset, message):
    with pytest.raises(GroundTruthError, match=message):
        load_ground_truth(dataset, make(tmp_path, *names))

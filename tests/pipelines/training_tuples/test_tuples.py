"""Training tuples: the rules against a count from points3D by hand, every source, every check, the split by object."""

import json
import pickle
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from pipelines.sfm.colmap import photo_name
from pipelines.sfm.mapping import Model
from pipelines.sfm.report import make_report
from pipelines.training_tuples.file import Tuples, TuplesError, check, split, statistics
from pipelines.training_tuples.positives import Rule, camera_neighbours, choose_positives, read_views
from pipelines.training_tuples.tuples import tuples as make_tuples

pycolmap = pytest.importorskip("pycolmap")


def look_at(centre, target):
    """cam_from_world of an upright camera."""
    ahead = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross([0.0, 1, 0], ahead)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(ahead, right), ahead])
    return pycolmap.Rigid3d(np.column_stack([rotation, -rotation @ centre]))


def write_model(folder, names, seed=0):
    """A COLMAP model of points in a box, seen in part by cameras at very different distances."""
    rng = np.random.default_rng(seed)
    model = pycolmap.Reconstruction()
    points = rng.uniform(-1, 1, (300, 3))
    seen_by = [[] for _ in points]
    for number, name in enumerate(names, start=1):
        camera = pycolmap.Camera(
            model="SIMPLE_PINHOLE", width=800, height=600, params=[rng.uniform(500, 1500), 400, 300], camera_id=number
        )
        model.add_camera_with_trivial_rig(camera)
        middle = rng.uniform(-0.5, 0.5)
        visible = np.flatnonzero(np.abs(points[:, 0] - middle) < rng.uniform(0.3, 1.2))
        for row, point in enumerate(visible):
            seen_by[point].append(pycolmap.TrackElement(number, row))
        image = pycolmap.Image(
            name=name, keypoints=rng.uniform(0, 600, (len(visible), 2)), camera_id=number, image_id=number
        )
        centre = np.array([rng.uniform(-3, 3), rng.uniform(-1, 1), -rng.uniform(3, 9)])
        model.add_image_with_trivial_frame(image, look_at(centre, np.array([middle, 0, 0])))
    for point, elements in zip(points, seen_by, strict=True):
        if len(elements) >= 2:
            model.add_point3D(point, pycolmap.Track(elements))
    folder.mkdir(parents=True)
    model.write(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "0", [f"{number:02}.jpg" for number in range(14)])


def by_hand(folder):
    """Per ordered pair of names: the share of the first one's points, and the change of scale, from points3D."""
    model = pycolmap.Reconstruction(folder)
    sees = {image: {} for image in model.reg_image_ids()}
    for number, point in model.points3D.items():
        for element in point.track.elements:
            image = model.images[element.image_id]
            depth = (image.cam_from_world() * point.xyz)[2]
            camera = model.cameras[image.camera_id]
            scale = camera.params[0] / max(camera.width, camera.height) / depth
            sees[element.image_id][number] = scale
    found = {}
    for query, points in sees.items():
        for other, others in sees.items():
            common = points.keys() & others.keys()
            if query != other and common:
                middle = np.median([others[point] / points[point] for point in common])
                names = model.images[query].name, model.images[other].name
                found[names] = len(common) / len(points), max(middle, 1 / middle)
    return found


# --- the rules ---------------------------------------------------------------------------------------------------


def test_m3_shares_points_at_a_similar_scale(model, tmp_path):
    path = make_tuples(model, tmp_path / "tuples.npz", positives=99, negatives=0)
    truth = by_hand(model)
    with np.load(path, allow_pickle=False) as file:
        images = file["images"].tolist()
        pairs = [(images[q], images[p]) for q, p in zip(file["qidxs"], file["pidxs"], strict=True)]
        shared, change = file["shared"], file["scale_change"]
    assert set(pairs) == {pair for pair, (share, ratio) in truth.items() if share >= 0.2 and ratio <= 1.5}
    assert 10 < len(pairs) < len(truth)
    assert sum(share < 0.2 for share, _ in truth.values()) > 3 < sum(ratio > 1.5 for _, ratio in truth.values())
    np.testing.assert_allclose(shared, [truth[pair][0] for pair in pairs], rtol=1e-6)
    np.testing.assert_allclose(change, [truth[pair][1] for pair in pairs], rtol=1e-6)


@pytest.mark.parametrize(("shared", "scale_change"), [(0.6, 1.5), (0.2, 1.1), (0.05, 9)])
def test_the_thresholds_of_m3_are_options(model, shared, scale_change):
    views = read_views(model)
    found = choose_positives(views, Rule("m3", 99, shared, scale_change, 99), np.random.default_rng(0))
    truth = by_hand(model)
    expected = {pair for pair, (share, ratio) in truth.items() if share >= shared and ratio <= scale_change}
    assert {(views.names[pair.query], views.names[pair.positive]) for pair in found} == expected


def test_m2_takes_most_shared_points(model):
    views = read_views(model)
    truth = by_hand(model)
    for pair in choose_positives(views, Rule("m2", 99, positives=1), np.random.default_rng(0)):
        query = views.names[pair.query]
        most = max(share for (one, _), (share, _) in truth.items() if one == query)
        assert pair.shared == pytest.approx(most)


def test_m1_takes_the_nearest_descriptor_of_the_nearest_cameras(model):
    views = read_views(model)
    rng = np.random.default_rng(1)
    rows = {name: row / np.linalg.norm(row) for name, row in zip(views.names, rng.normal(size=(14, 8)), strict=True)}
    chosen = choose_positives(views, Rule("m1", 4, positives=1), rng, rows)
    assert len(chosen) == 14
    for pair in chosen:
        distance = np.linalg.norm(views.centres - views.centres[pair.query], axis=1)
        near = [row for row in np.argsort(distance) if row != pair.query][:4]
        assert pair.positive == max(near, key=lambda row: rows[views.names[row]] @ rows[views.names[pair.query]])
    with pytest.raises(ValueError, match=r"1 have none, the first: 00\.jpg"):
        choose_positives(views, Rule("m1"), rng, {name: row for name, row in rows.items() if name != "00.jpg"})


def test_m3_is_random_and_repeatable(model):
    views = read_views(model)
    rule = Rule("m3", positives=1)
    runs = [choose_positives(views, rule, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert len(runs[0]) == len({pair.query for pair in runs[0]})


def test_camera_neighbours_equal_a_sort():
    centres = np.random.default_rng(0).normal(size=(9, 3))
    found = camera_neighbours(centres, 3)
    for row in range(9):
        order = sorted(range(9), key=lambda other: np.linalg.norm(centres[other] - centres[row]))
        assert found[row].tolist() == order[1:4]
    assert camera_neighbours(centres[:2], 100).tolist() == [[1], [0]]


# --- sources -----------------------------------------------------------------------------------------------------


def load(path):
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def named_pairs(fields):
    images = fields["images"]
    return [(str(images[q]), str(images[p])) for q, p in zip(fields["qidxs"], fields["pidxs"], strict=True)]


def make_photos(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name)
    return folder


def test_a_reconstruction_gives_clusters_and_links(tmp_path):
    names = [[f"{scene}/{number}.jpg" for number in range(6)] for scene in "abc"]
    photos = make_photos(tmp_path / "photos", [name for some in names for name in some])
    models = [
        Model(write_model(tmp_path / "work" / "models" / f"{row}" / "0", some, row), some, 300, 900, 0.5)
        for row, some in enumerate(names)
    ]
    inliers = {pair: 50 for some in names for pair in combinations(some, 2)} | {(names[0][0], names[1][0]): 20}
    every = [name for some in names for name in some]
    report = make_report(tmp_path / "work", every, {}, inliers, models, {"min_inliers": 15, "min_photos": 5})
    (tmp_path / "work" / "report.json").write_text(json.dumps(report | {"photos": str(photos)}))
    fields = load(make_tuples(tmp_path / "work", tmp_path / "tuples.npz", negatives=0, validation=0.3))
    assert fields["images"].tolist() == every
    assert fields["cluster"].tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert fields["same_object"].tolist() == [[0, 1]]
    assert fields["validation"].tolist() == [False] * 12 + [True] * 6
    assert fields["version"] == 1
    assert json.loads(str(fields["about"]))["counts"]["validation"]["photos"] == 6
    assert all(query[0] == positive[0] for query, positive in named_pairs(fields))
    (photos / "a/0.jpg").unlink()
    with pytest.raises(TuplesError, match=r"there is no .*photos/a/0\.jpg"):
        make_tuples(tmp_path / "work", tmp_path / "tuples.npz", negatives=0)


def test_models_made_elsewhere_that_share_a_photo_become_one_cluster(tmp_path):
    one = [f"{number}.jpg" for number in range(8)]
    write_model(tmp_path / "models" / "0", one, 1)
    write_model(tmp_path / "models" / "1", [*one[:2], "x.jpg", "y.jpg", "z.jpg"], 2)
    write_model(tmp_path / "models" / "2", ["k.jpg", "l.jpg", "m.jpg"], 3)
    fields = load(make_tuples(tmp_path / "models", tmp_path / "t.npz", negatives=1, validation=0, shared=0.01))
    assert sorted(fields["images"]) == sorted([*one, "x.jpg", "y.jpg", "z.jpg", "k.jpg", "l.jpg", "m.jpg"])
    assert np.unique(fields["cluster"], return_counts=True)[1].tolist() == [11, 3]
    near = fields["camera_neighbours"]
    assert near.shape == (14, 7)
    rows = {str(name): row for row, name in enumerate(fields["images"])}
    assert {str(fields["images"][row]) for row in near[rows["k.jpg"]] if row >= 0} == {"l.jpg", "m.jpg"}
    assert set(near[rows["0.jpg"]].tolist()) == {rows[name] for name in one if name != "0.jpg"}


def test_names_of_photos_are_those_of_a_model_made_elsewhere(tmp_path):
    names = [f"{number}%20a.jpg" for number in range(8)]
    write_model(tmp_path / "models" / "0", names, 1)
    fields = load(make_tuples(tmp_path / "models", tmp_path / "t.npz", negatives=0, shared=0.01))
    assert fields["images"].tolist() == names
    views = read_views(tmp_path / "models" / "0", photo_name)
    assert views.names == [f"{number} a.jpg" for number in range(8)]


@pytest.fixture
def published(tmp_path):
    """A file in the form of retrieval-SfM-120k.pkl."""
    rng = np.random.default_rng(0)

    def part(letter, clusters, first):
        cluster = np.repeat(np.arange(clusters) + first, 4)
        cids = [f"{letter}{number:031x}" for number in range(len(cluster))]
        pairs = [(q, p) for q in range(len(cids)) for p in range(len(cids)) if q != p and cluster[q] == cluster[p]]
        pairs = [pairs[row] for row in rng.permutation(len(pairs))[:30]]
        return {
            "cids": cids,
            "cluster": cluster.tolist(),
            "qidxs": [q for q, _ in pairs],
            "pidxs": [p for _, p in pairs],
        }

    return {"train": part("a", 8, 10), "val": part("b", 3, 10)}, tmp_path / "retrieval-SfM-120k.pkl"


@pytest.mark.parametrize("protocol", [2, 4])
def test_the_published_pickle(published, tmp_path, protocol):
    content, path = published
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    fields = load(make_tuples(path, tmp_path / "tuples.npz"))
    train, val = content["train"], content["val"]
    cid = train["cids"][17]
    assert fields["images"][17] == f"ims/{cid[-2:]}/{cid[-4:-2]}/{cid[-6:-4]}/{cid}"
    assert fields["validation"].tolist() == [False] * 32 + [True] * 12
    assert len(np.unique(fields["cluster"])) == 11
    assert fields["qidxs"].tolist() == [*train["qidxs"], *(row + 32 for row in val["qidxs"])]
    assert fields["pidxs"].tolist() == [*train["pidxs"], *(row + 32 for row in val["pidxs"])]


def test_the_published_whitening_pickle_has_no_clusters(tmp_path):
    path = tmp_path / "retrieval-SfM-120k-whiten.pkl"
    content = {"cids": [f"{row:032x}" for row in range(6)], "qidxs": np.array([0, 1, 3]), "pidxs": np.array([1, 2, 4])}
    path.write_bytes(pickle.dumps(content))
    fields = load(make_tuples(path, tmp_path / "tuples.npz", negatives=2, validation=0))
    assert fields["cluster"].tolist() == [0, 0, 0, 1, 1, 2]


def test_a_row_of_a_pickle_that_is_out_of_range_is_named(published, tmp_path):
    content, path = published
    content["val"]["pidxs"][7] = 12
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(TuplesError, match="val: pidxs 7 is 12, and there are 12 images"):
        make_tuples(path, tmp_path / "tuples.npz")


def test_a_pickle_is_not_executed(tmp_path):
    path = tmp_path / "evil.pkl"
    path.write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "owned").encode() + b"'\ntR.")
    with pytest.raises(ValueError, match="is not read"):
        make_tuples(path, tmp_path / "tuples.npz")
    assert not (tmp_path / "owned").exists()


def test_a_folder_for_each_object(tmp_path):
    names = [f"{scene}/{number}.jpg" for scene in ("a", "b/c", "d") for number in range(4)]
    photos = make_photos(tmp_path / "photos", names)
    fields = load(make_tuples(photos, tmp_path / "tuples.npz", positives=2, negatives=1, validation=0.3))
    assert fields["images"].tolist() == sorted(names)
    assert len(fields["qidxs"]) == 24
    assert all(query.rsplit("/", 1)[0] == positive.rsplit("/", 1)[0] for query, positive in named_pairs(fields))
    assert fields["validation"].sum() == 4
    with pytest.raises(TuplesError, match="holds no folders"):
        make_tuples(make_photos(tmp_path / "flat", ["a.jpg", "b.jpg"]), tmp_path / "tuples.npz")


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
            "line 4: a is .*line 2, too, in clusters",
        ),
        (("photo", "east", "north"), [("a", "1", "5", "2")], "line 2: it has 4 cells, and the heading 3"),
        (("photo", "east", "north", "east"), [("a", 1, 2, 3)], "two columns east"),
        (
            ("photo", "east", "north"),
            [("../a", 1, 2), ("b", 1, 2)],
            r"line 2: \.\./a does not lie in the folder of the photos",
        ),
        (("photo", "east", "north"), [("/a", 1, 2), ("b", 1, 2)], "line 2: /a does not lie"),
        (("photo", "latitude", "longitude"), [("a", 1, 2), ("b", 91, 2)], "line 3: latitude must lie"),
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
    with pytest.raises(ValueError, match=r"table\.csv is not read .* in UTF-8"):
        make_tuples(tmp_path / "table.csv", tmp_path / "tuples.npz")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "m4"}, "--rule m4"),
        ({"positives": 0}, "--positives"),
        ({"scale_change": 0.5}, "--scale-change"),
        ({"radius": 30}, "--radius 30"),
        ({"rule": "m1"}, "needs descriptors"),
    ],
)
def test_options_out_of_range_are_named(model, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        make_tuples(model, tmp_path / "tuples.npz", **options)


def test_a_file_that_is_no_source_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    for source, message in ((tmp_path / "notes.txt", "no source of tuples"), (tmp_path / "nowhere", "there is no")):
        with pytest.raises(TuplesError, match=message):
            make_tuples(source, tmp_path / "tuples.npz")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "report.json").write_text('{"version": 99, "clusters": []}')
    with pytest.raises(TuplesError, match="has version 99"):
        make_tuples(tmp_path / "work", tmp_path / "tuples.npz")


# --- checks and the split ----------------------------------------------------------------------------------------


def tuples_of(sizes, **changes):
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    first = np.cumsum([0, *sizes[:-1]])
    fields = {
        "images": [f"{row}.jpg" for row in range(len(cluster))],
        "cluster": cluster,
        "qidxs": first,
        "pidxs": first + 1,
    }
    return Tuples(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cluster": np.zeros(3, int)}, "6 photos have 3 clusters"),
        ({"pidxs": np.array([1, 3])}, "3 queries have 2 positives"),
        ({"qidxs": np.array([0, 6, 4])}, r"pair 1: its query 6 is none of the photos 0\.\.5"),
        ({"pidxs": np.array([1, 3, -1])}, "pair 2: its positive -1"),
        ({"pidxs": np.array([1, 2, 5])}, r"pair 1: 2\.jpg is its own positive"),
        ({"pidxs": np.array([1, 5, 5])}, r"pair 1: 2\.jpg and 5\.jpg are in different clusters, 1 and 2"),
        ({"images": [*"abcdea"]}, "photo 5: a is photo 0, too, in clusters 0 and 2"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    check(tuples_of([2, 2, 2]), None)
    with pytest.raises(TuplesError, match=message):
        check(tuples_of([2, 2, 2], **changes), None)


def test_a_pair_between_linked_clusters_is_right():
    check(tuples_of([2, 2, 2], pidxs=np.array([1, 5, 5]), same_object=np.array([[1, 2]])), None)


def test_objects_are_never_split():
    links = np.array([[0, 1], [1, 2], [5, 6]])
    tuples = tuples_of([10] * 12, same_object=links)
    for seed in range(20):
        aside = split(tuples, 0.3, 5, seed).validation
        assert 10 <= aside.sum() <= 36
        for number in range(12):
            assert len(set(aside[tuples.cluster == number])) == 1
        for one, other in links:
            assert aside[tuples.cluster == one][0] == aside[tuples.cluster == other][0]
    assert split(tuples, 0, 5, 0).validation.sum() == 0


def test_something_is_left_to_train_on():
    assert not split(tuples_of([4]), 0.5, 0, 0).validation.any()
    linked = tuples_of([4, 4], same_object=np.array([[0, 1]]))
    assert not split(linked, 0.5, 0, 0).validation.any()
    with pytest.raises(TuplesError, match="none is left to train on"):
        split(tuples_of([4], validation=np.ones(4, bool)), 0, 0, 0)


def test_training_keeps_enough_clusters_for_its_negatives():
    tuples = tuples_of([10] * 7)
    assert len(np.unique(tuples.cluster[~split(tuples, 0.9, 5, 0).validation])) == 6
    with pytest.raises(TuplesError, match=r"6 clusters give some queries 5 .* asks for 6"):
        split(tuples_of([10] * 6), 0.1, 6, 0)
    with pytest.raises(TuplesError, match="7 clusters give some queries 4"):
        split(tuples_of([10] * 7, same_object=np.array([[0, 1], [0, 2]])), 0, 5, 0)


def test_statistics_count():
    tuples = tuples_of([3, 3, 4], validation=np.array([False] * 6 + [True] * 4))
    assert statistics(tuples) == {
        "training": {"photos": 6, "clusters": 2, "queries": 2, "pairs": 2, "pairs_per_query": 1.0},
        "validation": {"photos": 4, "clusters": 1, "queries": 1, "pairs": 1, "pairs_per_query": 1.0},
    }

"""Features of a network in COLMAP's database, with features of a drawn wall in place of those of a network."""

import json

import numpy as np
import pytest

from keras_retrieval.errors import ArgumentError
from pipelines.files.durable import FolderError
from pipelines.files.shards import ShardedFolder
from pipelines.local_features.errors import LocalFeaturesError
from pipelines.local_features.features import LocalFeatures
from pipelines.localization.errors import LocalizationError
from pipelines.localization.query_features import extraction_of
from pipelines.photos.reader import PhotoError
from pipelines.sfm import learned_features
from pipelines.sfm.candidate_pairs import vocabulary_pairs
from pipelines.sfm.colmap import Database
from pipelines.sfm.database_parts import add_features, add_matches, as_single_file
from pipelines.sfm.descriptor_bytes import from_bytes, to_bytes
from pipelines.sfm.feature_kinds import SIFT, check_features, extraction_settings, open_database, settings_to_store
from pipelines.sfm.on_workers import FeaturesJob, MatchesJob
from pipelines.sfm.options import ReconstructOptions
from pipelines.sfm.work_folder import open_work
from tests.helpers.small_wall import FOCAL, HEIGHT, KEPT, WIDTH, draw_wall, project

pycolmap = pytest.importorskip("pycolmap")

EXTRACTION = {"features": "weights.npz", "feature_count": 300, "size": 320}
CENTRES = KEPT | {"blank.png": (0.0, 0.0, -3.0)}


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class WallFeatures:
    """Finds the same points of the wall in each photo, with a little noise; nothing in blank.png."""

    def __init__(self, dimensions=64):
        rng = np.random.default_rng(0)
        # In front of and behind the wall, so that they have more than a homography in common.
        self.points = np.column_stack([rng.uniform(-1, 1, (300, 2)), rng.uniform(-0.5, 0.5, 300)])
        self.descriptors = unit(rng.normal(size=(300, dimensions)))
        self.read_names = []

    def read(self, path):
        self.read_names.append(path.name)
        return path.name, (WIDTH, HEIGHT)

    def features(self, name, extent):
        if name == "left.png" and "left.png" in self.read_names[:-1]:
            raise PhotoError(name, "read twice")
        rng = np.random.default_rng(len(name))
        places = project(self.points, CENTRES[name])
        rows = unit(
            self.descriptors + 0.2 / np.sqrt(self.descriptors.shape[1]) * rng.normal(size=self.descriptors.shape)
        )
        count = 0 if name == "blank.png" else len(places)
        return LocalFeatures(places[:count].astype(np.float32), rows[:count], *extent)


@pytest.fixture
def network(monkeypatch):
    found = WallFeatures()
    monkeypatch.setattr(learned_features, "open_extractor", lambda *_, **__: found)
    return found


@pytest.fixture
def photos(tmp_path):
    draw_wall(tmp_path / "photos", CENTRES)
    return tmp_path / "photos"


def test_features_are_extracted_matched_and_verified_once(network, photos, tmp_path):
    database = open_database(tmp_path / "database.db", EXTRACTION)
    names = sorted(CENTRES)
    left_out = database.extract_features(photos, names, extraction_settings(EXTRACTION))
    assert left_out == {"blank.png": "it has no local features"}
    keypoints, rows = database.read_features("left.png")
    np.testing.assert_allclose(keypoints, project(network.points, CENTRES["left.png"]), atol=1e-3)
    assert (rows[:, :64] @ network.descriptors.T).argmax(axis=1).tolist() == list(range(300))
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-5)
    pairs = [("left.png", "middle.png"), ("left.png", "right.png"), ("middle.png", "right.png")]
    assert database.match(pairs, seed=0) == 3
    assert min(database.inliers()[pair] for pair in pairs) > 250
    again = open_database(tmp_path / "database.db", EXTRACTION)
    assert again.match(pairs, seed=0) == 0
    assert again.extract_features(photos, names, extraction_settings(EXTRACTION)) == left_out
    assert sorted(network.read_names) == names


def test_a_run_killed_between_matching_and_verification_goes_on(network, photos, tmp_path):
    database = open_database(tmp_path / "database.db", EXTRACTION)
    names = sorted(KEPT)
    with pycolmap.Database.open(tmp_path / "database.db"):
        pass
    pycolmap.import_images(tmp_path / "database.db", photos, pycolmap.CameraMode.PER_IMAGE, names[:1])
    assert not database.extract_features(photos, names, extraction_settings(EXTRACTION))
    with pycolmap.Database.open(tmp_path / "database.db") as opened:
        numbers = {image.name: image.image_id for image in opened.read_all_images()}
        matches = np.stack([np.arange(200)] * 2, axis=1).astype(np.uint32)
        opened.write_matches(numbers["left.png"], numbers["middle.png"], matches)
    assert database.inliers() == {}
    assert database.match([("left.png", "middle.png")], seed=0) == 1
    assert database.inliers()[("left.png", "middle.png")] > 150


def test_blocks_of_workers_have_them(network, photos, tmp_path):
    database, sharded = tmp_path / "database.db", ShardedFolder(tmp_path / "features", "features", 1, "0")
    sharded.start()
    work = FeaturesJob(sharded, photos, EXTRACTION).open()
    for number, names in enumerate((["blank.png", "left.png"], ["middle.png", "right.png"])):
        work(number, names, lambda _: None)
        add_features(database, sharded.partial / f"{number:05}.db")
    assert [note["left_out"] for note in sharded.notes()] == [{"blank.png": "it has no local features"}, {}]
    pairs = [("left.png", "middle.png"), ("middle.png", "right.png")]
    as_single_file(database)
    matched = ShardedFolder(tmp_path / "matches", "matches", 1, "0")
    matched.start()
    MatchesJob(matched, database, EXTRACTION, 0).open()(0, pairs, lambda _: None)
    assert add_matches(database, matched.partial / "00000.db")
    assert min(open_database(database, EXTRACTION).inliers()[pair] for pair in pairs) > 250
    assert open_database(database, EXTRACTION).match(pairs, seed=0) == 0


def test_visual_words_rank_by_them(network, photos, tmp_path):
    database = open_database(tmp_path / "database.db", EXTRACTION)
    database.extract_features(photos, sorted(KEPT), extraction_settings(EXTRACTION))
    assert len(vocabulary_pairs(tmp_path / "database.db", sorted(KEPT), 2, None)) == 3


def test_more_dimensions_than_colmap_takes_are_refused(monkeypatch, photos, tmp_path):
    monkeypatch.setattr(learned_features, "open_extractor", lambda *_, **__: WallFeatures(dimensions=256))
    database = open_database(tmp_path / "database.db", EXTRACTION)
    with pytest.raises(LocalFeaturesError, match=r"weights\.npz has descriptors of 256 dimensions.* up to 128"):
        database.extract_features(photos, sorted(KEPT), extraction_settings(EXTRACTION))


def test_descriptors_keep_their_angles_in_8_bits():
    rows = unit(np.random.default_rng(1).normal(size=(50, 64)))
    stored = to_bytes(rows)
    assert (stored.shape, stored.dtype) == ((50, 128), np.uint8)
    found = from_bytes(stored)
    np.testing.assert_allclose(found[:, :64] @ found[:, :64].T, rows @ rows.T, atol=0.03)
    assert not found[:, 64:].any()


def test_the_number_of_features_follows_their_kind(tmp_path):
    (tmp_path / "weights.npz").touch()
    learned = ReconstructOptions(tmp_path, tmp_path / "work", features=str(tmp_path / "weights.npz"))
    sift = ReconstructOptions(tmp_path, tmp_path / "work")
    assert (learned.feature_count, sift.feature_count, sift.features) == (4096, 8192, SIFT)
    assert ReconstructOptions(tmp_path, tmp_path / "work", feature_count=7).feature_count == 7
    with pytest.raises(ArgumentError, match="--feature-count 4096"):
        check_features("--features", "4096")
    with pytest.raises(LocalFeaturesError, match="--features must be sift, xfeat, or a file"):
        check_features("--features", "typo")


def test_a_folder_of_an_earlier_version_goes_on_with_its_sift_features(tmp_path):
    (tmp_path / "work").mkdir()
    path = tmp_path / "work" / "options.json"
    path.write_text(json.dumps({"features": 8192, "size": 1600}))
    settings = {"features": SIFT, "feature_count": 8192, "size": 1600}
    open_work(tmp_path / "work", tmp_path / "photos", settings)
    assert extraction_settings(json.loads(path.read_text())) == {"kind": SIFT, "features": 8192, "size": 1600}
    (tmp_path / "work" / "database.db").touch()
    with pytest.raises(FolderError, match="was started with --features sift --feature-count 8192 --size 1600"):
        open_work(tmp_path / "work", tmp_path / "photos", settings | {"features": "xfeat"})
    assert type(open_database(tmp_path / "database.db", settings)) is Database


def test_an_extractor_that_could_not_be_loaded_does_not_bind_the_folder(tmp_path):
    settings = {"features": "bad.onnx", "feature_count": 9, "size": 320}
    open_work(tmp_path / "work", tmp_path / "photos", settings)
    open_work(tmp_path / "work", tmp_path / "photos", settings | {"features": "xfeat"})
    assert json.loads((tmp_path / "work" / "options.json").read_text())["features"] == "xfeat"


def test_an_extractor_replaced_at_its_path_is_noticed(tmp_path):
    file, database = tmp_path / "xfeat.npz", tmp_path / "work" / "database.db"
    file.write_bytes(b"one")
    options = {"features": str(file), "feature_count": 9, "size": 320}
    begun = settings_to_store(options, None)
    assert settings_to_store(options | {"features": SIFT}, None) == options | {"features": SIFT}
    open_work(tmp_path / "work", tmp_path / "photos", options)  # as of a version before it was stored
    database.touch()
    open_work(tmp_path / "work", tmp_path / "photos", begun)
    assert extraction_of(database)["sha256"] == begun["sha256"]
    file.write_bytes(b"another")
    with pytest.raises(
        FolderError, match=r"another version of the extractor .*xfeat\.npz .*put that file back, or name"
    ):
        open_work(tmp_path / "work", tmp_path / "photos", settings_to_store(options, None))
    with pytest.raises(LocalizationError, match=r"made with another version of .*xfeat\.npz: put that file back"):
        extraction_of(database)


def test_a_refused_extractor_does_not_bind_the_folder_of_another(tmp_path):
    sift = {"features": SIFT, "feature_count": 9, "size": 320}
    open_work(tmp_path / "work", tmp_path / "photos", sift)
    (tmp_path / "work" / "database.db").touch()
    for other in (sift | {"features": "xfeat", "sha256": "0" * 64}, sift | {"features": "database"}):
        with pytest.raises(FolderError, match="was started with --features sift --feature-count 9 --size 320: use"):
            open_work(tmp_path / "work", tmp_path / "photos", other)
    open_work(tmp_path / "work", tmp_path / "photos", sift)
    assert json.loads((tmp_path / "work" / "options.json").read_text()) == sift


def test_the_focal_length_is_that_of_the_helper():
    assert project(np.array([[0.0, 0.0, 0.0]]), (0.0, 0.0, -2.0))[0].tolist() == [WIDTH / 2, HEIGHT / 2]
    assert project(np.array([[1.0, 0.0, 0.0]]), (0.0, 0.0, -2.0))[0, 0] == pytest.approx(WIDTH / 2 + FOCAL / 2)

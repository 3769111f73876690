"""Features, matches and models of blocks and groups on a Dask cluster are those of one process."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.engines.work import Engine, UnitsFailedError
from pipelines.sfm import mapping, on_workers
from pipelines.sfm.candidate_pairs import all_pairs
from pipelines.sfm.colmap import Database, photo_name
from pipelines.sfm.database_parts import add_features, add_matches, keep_matches, pack, write_part
from pipelines.sfm.errors import ReconstructionError
from pipelines.sfm.mapping import Group, map_groups
from pipelines.sfm.on_workers import extract_features, match
from pipelines.sfm.options import ReconstructOptions
from tests.helpers.small_models import write_model

pycolmap = pytest.importorskip("pycolmap")

EXTRACTION = {"features": "sift", "feature_count": 300, "size": 160}
NAMES = [f"photo {number}.png" for number in range(5)]
PAIRS = all_pairs(NAMES)


@pytest.fixture(scope="module")
def engine():
    distributed = pytest.importorskip("distributed")
    options = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "silence_logs": 50}
    with distributed.LocalCluster(n_workers=2, processes=False, **options) as threads:
        yield Engine("dask", threads.scheduler_address)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Five parts of one picture, and a photo without features."""
    folder = tmp_path_factory.mktemp("work") / "images"
    folder.mkdir()
    coarse = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    whole = Image.fromarray(coarse).resize((240, 240), Image.Resampling.BICUBIC)
    for number in range(5):
        whole.crop((10 * number, 0, 10 * number + 160, 160)).save(folder / f"photo%20{number}.png")
    Image.new("RGB", (64, 64)).save(folder / "plain.png")
    return folder


@pytest.fixture(scope="module")
def local(images):
    """The database of one process."""
    database = Database(images.with_name("database.db"))
    left_out = extract_features(database, images, [*NAMES, "plain.png"], EXTRACTION, Engine())
    assert left_out == {"plain.png": Database.no_features}
    match(database, PAIRS, EXTRACTION, 0, Engine())
    assert all(count > 30 for count in database.inliers().values())
    return database


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(on_workers, "PHOTOS_OF_BLOCK", 2)
    monkeypatch.setattr(on_workers, "PAIRS_OF_BLOCK", 3)


@pytest.fixture
def described(local, tmp_path):
    """A database with the features and the numbers of `local`, which COLMAP gives in no fixed order, and no matches."""
    write_part(local.path, tmp_path / "database.db", NAMES)
    return Database(tmp_path / "database.db")


def features(database):
    query = (
        "SELECT name, cameras.params, keypoints.data, descriptors.type, descriptors.data FROM images "
        "JOIN cameras USING (camera_id) JOIN keypoints USING (image_id) JOIN descriptors USING (image_id)"
    )
    with closing(sqlite3.connect(database.path)) as opened:
        return {photo_name(name): row for name, *row in opened.execute(query)}


def matches(database):
    with closing(sqlite3.connect(database.path)) as opened:
        return [sorted(opened.execute(f"SELECT * FROM {table}")) for table in ("matches", "two_view_geometries")]


def test_features_of_a_cluster_are_those_of_one_process(engine, images, local, small_blocks, tmp_path):
    database, names = Database(tmp_path / "database.db"), [*NAMES, "plain.png"]
    left_out = extract_features(database, images, names, EXTRACTION, engine)
    assert left_out == {"plain.png": Database.no_features}
    assert features(database) == features(local)
    assert not list(tmp_path.glob("*.partial"))
    assert extract_features(database, images, names, EXTRACTION, engine) == left_out
    with pycolmap.Database.open(database.path) as opened:  # its tables are those of a database of COLMAP
        assert opened.num_images() == opened.num_frames() == opened.num_rigs() == opened.num_cameras() == 6
        assert {image.frame_id for image in opened.read_all_images()} == set(range(1, 7))


def test_matches_of_a_cluster_are_those_of_one_process(engine, local, described, small_blocks, tmp_path):
    match(described, PAIRS, EXTRACTION, 0, engine)
    assert matches(described) == matches(local)
    assert not list(tmp_path.glob("*.partial"))


def test_finished_blocks_are_kept_and_added_on_any_engine(
    engine, local, described, small_blocks, tmp_path, monkeypatch
):
    matched, broken, done = Database._match_batch, [NAMES[4]], []

    def breaks(self, pairs, *arguments):
        if any(name in broken for pair in pairs for name in pair):
            raise OSError("the file server is gone")
        done.extend(pairs)
        return matched(self, pairs, *arguments)

    monkeypatch.setattr(Database, "_match_batch", breaks)
    with pytest.raises(UnitsFailedError, match=r"matches: 3 of 4 units .* the file server is gone"):
        match(described, PAIRS, EXTRACTION, 0, engine)
    assert described.inliers() == {}
    assert done == PAIRS[:3]
    broken.clear()
    match(described, PAIRS, EXTRACTION, 0, Engine())
    assert sorted(done) == PAIRS
    assert matches(described) == matches(local)
    assert not list(tmp_path.glob("*.partial"))


@pytest.fixture
def unfinished(engine, images, small_blocks, tmp_path, monkeypatch):
    """A database without the three blocks of features that are finished, because the disk was full."""

    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    database = Database(tmp_path / "database.db")
    with monkeypatch.context() as patch:
        patch.setattr(on_workers, "add_features", full)
        said = (
            r"database\.db cannot be written \(database or disk is full\)\. The finished features are kept in .*partial"
        )
        with pytest.raises(ReconstructionError, match=said):
            extract_features(database, images, NAMES, EXTRACTION, engine)
        assert len(list((tmp_path / "features.partial").glob("*.db"))) == 3
        with pytest.raises(ReconstructionError, match=said):
            extract_features(database, images, NAMES, EXTRACTION, engine)
    assert database.features() == {}
    return database


def test_blocks_of_other_settings_are_not_added(images, unfinished):
    extract_features(unfinished, images, NAMES[:1], EXTRACTION | {"feature_count": 20}, Engine())
    assert set(unfinished.features()) == {NAMES[0]}
    assert not unfinished.path.with_name("features.partial").exists()


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_damaged_blocks_are_computed_again(images, local, unfinished, monkeypatch, caplog, damage):
    extract, asked = Database.extract_features, []
    monkeypatch.setattr(
        Database, "extract_features", lambda self, *given: asked.append(set(self.features())) or extract(self, *given)
    )
    first, second, _ = sorted(unfinished.path.with_name("features.partial").glob("*.db"))
    first.write_bytes(first.read_bytes()[:5000])
    damage(second)
    assert extract_features(unfinished, images, NAMES, EXTRACTION, Engine()) == {}
    assert asked == [{NAMES[4]}]
    assert features(unfinished) == {name: row for name, row in features(local).items() if name in NAMES}
    assert caplog.text.count("its features are computed again") == 2


def test_images_without_features_get_those_of_a_block(images, local, tmp_path):
    """A run that was killed may have written the image and not its features."""
    part, path = tmp_path / "part.db", tmp_path / "database.db"
    write_part(local.path, part, NAMES)
    pack(part)
    with pycolmap.Database.open(path):
        pycolmap.import_images(path, images, pycolmap.CameraMode.PER_IMAGE, ["photo%203.png"])
    for _ in range(2):
        add_features(path, part)
        assert Database(path).features() == {name: local.features()[name] for name in NAMES}
    assert features(Database(path)) == {name: row for name, row in features(local).items() if name in NAMES}
    with pycolmap.Database.open(path) as opened:
        assert opened.num_images() == opened.num_cameras() == 5


def test_matches_of_images_with_other_numbers_are_not_added(local, described, tmp_path):
    part, path = tmp_path / "part.db", described.path
    write_part(local.path, part, NAMES)
    Database(part).match(PAIRS, 0)
    keep_matches(part)
    with closing(sqlite3.connect(path)) as opened, opened:
        opened.execute("UPDATE images SET name = name || 'x' WHERE image_id = 2")
    assert not add_matches(path, part)
    assert Database(path).inliers() == {}
    with closing(sqlite3.connect(path)) as opened, opened:
        opened.execute("UPDATE images SET name = rtrim(name, 'x') WHERE image_id = 2")
    assert add_matches(path, part)
    assert Database(path).inliers() == local.inliers()


def test_groups_are_mapped_on_workers_from_a_part_of_the_database(engine, images, local, tmp_path, monkeypatch):
    seen = []

    def mapper(database, folder, output, pipeline, **callbacks):
        seen.append((Database(database).inliers(), database.parent != images.parent))
        write_model(output / "0", pipeline.image_names)
        return {0: pycolmap.Reconstruction(output / "0")}

    monkeypatch.setattr(pycolmap, "incremental_mapping", mapper)
    groups = [Group(NAMES[:2], {PAIRS[0]: 40}), Group(NAMES[2:], {(NAMES[2], NAMES[4]): 50})]
    options = ReconstructOptions(tmp_path, tmp_path / "work", min_photos=2)
    for path in ("database.db", "images"):
        (tmp_path / "work").mkdir(exist_ok=True)
        (tmp_path / "work" / path).symlink_to(images.with_name(path))
    spread = ReconstructOptions(tmp_path, tmp_path / "work", min_photos=2, engine=engine.address)
    there = map_groups(tmp_path / "work", groups, spread)
    assert [model.photos for model in there] == [NAMES[:2], NAMES[2:]]
    parts = [{PAIRS[0]: local.inliers()[PAIRS[0]]}, {pair: local.inliers()[pair] for pair in groups[1].inliers}]
    assert sorted(map(str, seen)) == sorted(str((part, True)) for part in parts)
    seen.clear()
    assert map_groups(tmp_path / "work", groups, options) == there
    assert not seen, "the groups are mapped already"
    assert mapping.read_group(there[0].folder.parent) == there[:1]

"""Steps on a Dask cluster of two threads write the same files as in one process."""

import numpy as np
import pytest

from export.grouping.options import GroupsOptions
from keras_retrieval.errors import ArgumentError
from pipelines.copies.options import DuplicatesOptions
from pipelines.descriptors.extract import extract
from pipelines.descriptors.folder import read_descriptors
from pipelines.engines.work import Engine, EngineError, UnitsFailedError
from pipelines.evaluation.options import EvaluateOptions
from pipelines.files.durable import FolderError, partial_of
from pipelines.files.shards import RUN, read_left_out
from pipelines.photos.cache import PhotoCache, build_cache
from pipelines.photos.edge_maps import edge_maps
from pipelines.photos.reading import Reading
from pipelines.sfm.descriptors import compute_descriptors
from pipelines.sfm.pairs import pairs
from pipelines.training.train_options import TrainOptions
from pipelines.whitening.options import WhitenOptions
from tests.helpers.small import draw_folder, saved_network


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    options = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "silence_logs": 50}
    with distributed.LocalCluster(n_workers=2, processes=False, **options) as threads:
        yield threads.scheduler_address


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return str(saved_network(tmp_path_factory.mktemp("network")))


@pytest.fixture
def photos(tmp_path):
    draw_folder(tmp_path / "photos", 22)
    (tmp_path / "photos" / "broken.png").write_bytes(b"no photo")
    whole = (tmp_path / "photos" / "000.png").read_bytes()
    (tmp_path / "photos" / "cut.png").write_bytes(whole[: len(whole) // 2])
    return tmp_path / "photos"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}


@pytest.mark.parametrize("options", [{}, {"crops": "1,2"}, {"batch_shapes": "buckets"}])
def test_descriptors_of_a_cluster_are_those_of_one_process(cluster, small, photos, tmp_path, options):
    common = {"shard": 4, "runtime": "tensorflow", "precision": "float32", **options}
    here = extract(small, photos, tmp_path / "here", **common)
    there = extract(small, photos, tmp_path / "there", engine=cluster, workers=2, **common)
    assert contents(there) == contents(here)
    assert set(read_left_out(there)) == {"broken.png", "cut.png"}
    assert not list(there.glob(".*"))


def test_a_run_is_continued_on_another_engine(cluster, small, photos, tmp_path, monkeypatch):
    read, calls = Reading.read, []

    def breaks(self, name, crop=None):
        calls.append(name)
        if name == "010.png":
            raise OSError("the file server is gone")
        return read(self, name, crop)

    common = {"shard": 4, "runtime": "tensorflow", "precision": "float32"}
    with monkeypatch.context() as patch:
        patch.setattr(Reading, "read", breaks)
        with pytest.raises(UnitsFailedError, match=r"extract: 1 of 6 units .* the file server is gone"):
            extract(small, photos, tmp_path / "there", engine=cluster, **common)
    assert not (tmp_path / "there").exists()
    assert calls.count("010.png") == 3
    assert calls.count("000.png") == 1
    calls.clear()
    monkeypatch.setattr(Reading, "read", lambda self, name, crop=None: calls.append(name) or read(self, name, crop))
    assert contents(extract(small, photos, tmp_path / "there", **common)) == contents(
        extract(small, photos, tmp_path / "here", **common)
    )
    assert calls.index("010.png") < 4


def test_a_worker_of_an_earlier_run_writes_nothing_into_a_new_one(cluster, small, photos, tmp_path, monkeypatch):
    partial, read = partial_of(tmp_path / "out"), Reading.read

    def begin_anew(self, name, crop=None):
        (partial / RUN).write_text("another run")
        return read(self, name, crop)

    monkeypatch.setattr(Reading, "read", begin_anew)
    with pytest.raises(FolderError, match="begun anew"):
        extract(small, photos, tmp_path / "out")
    (partial / RUN).unlink()
    with pytest.raises(EngineError, match="begun anew"):
        extract(small, photos, tmp_path / "out", engine=cluster)
    assert not list(partial.glob("descriptors-*"))


def test_edge_maps_and_the_photo_cache_of_a_cluster(cluster, photos, tmp_path, monkeypatch):
    for name, engine in (("here", "local"), ("there", cluster)):
        edge_maps(photos, tmp_path / f"maps-{name}", size=40, engine=engine)
    assert contents(tmp_path / "maps-there") == contents(tmp_path / "maps-here")
    monkeypatch.setattr("pipelines.photos.cache.SHARD_BYTES", 3 * 64 * 64 * 5)
    names = sorted(path.name for path in photos.iterdir())
    for name, engine in (("here", Engine()), ("there", Engine("dask", cluster))):
        build_cache(tmp_path / f"cache-{name}", names, Reading(photos, 64), engine=engine)
    assert contents(tmp_path / "cache-there") == contents(tmp_path / "cache-here")
    cache = PhotoCache(tmp_path / "cache-there", verify=True)
    assert np.array_equal(cache.read("003.png"), Reading(photos, 64).read("003.png"))


def test_rows_are_in_the_order_of_the_plan_on_a_cluster(cluster, small, photos, tmp_path):
    found, names, manifest = read_descriptors(
        extract(small, photos, tmp_path / "out", engine=cluster, shard=5, precision="float32")
    )
    assert len(names) == len(set(names)) == manifest["count"] == sum(map(len, found)) == 22
    assert manifest["runtime"] == "tensorflow"


def test_other_steps_describe_on_a_cluster(cluster, small, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.sfm.descriptors.PHOTOS_OF_UNIT", 5)
    names = sorted(path.name for path in photos.iterdir())
    here, there = (
        compute_descriptors(photos, names, tmp_path / name, small, 40, runtime="tensorflow", engine=engine)
        for name, engine in (("here", None), ("there", Engine("dask", cluster)))
    )
    np.testing.assert_allclose(there, here, atol=1e-6)
    assert np.isnan(there).any(axis=1).sum() == 2
    assert [path.suffix for path in (tmp_path / "there").iterdir()] == [""]
    pairs(small, photos, tmp_path / "pairs.txt", engine=cluster, workers=2)
    assert read_descriptors(tmp_path / "pairs-descriptors")[2]["runtime"] == "tensorflow"
    assert (tmp_path / "pairs.txt").read_text()


def test_an_engine_without_work_is_refused(tmp_path):
    trained = {"tuples": tmp_path, "photos": tmp_path, "output": tmp_path, "workers": True}
    evaluated = {"dataset": "oxford5k", "photos": tmp_path, "output": tmp_path, "bow": True}
    for make, needed in (
        (lambda: DuplicatesOptions(tmp_path, engine="dask"), "--model"),
        (lambda: WhitenOptions("a.keras", tmp_path, "b.keras", method="regional-pca", engine="dask"), "a --method"),
        (lambda: GroupsOptions(str(tmp_path), tmp_path, engine="dask"), "--like"),
        (lambda: EvaluateOptions(**evaluated, engine="dask"), "a network"),
        (lambda: TrainOptions(**trained, engine="dask"), "a command without --workers"),
    ):
        with pytest.raises(ArgumentError, match=f"--engine dask needs {needed}"):
            make()

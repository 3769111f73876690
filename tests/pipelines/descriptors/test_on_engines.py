"""Steps on a Dask cluster of two threads write the same files as in one process."""

import numpy as np
import pytest

from pipelines.descriptors.extract import extract
from pipelines.descriptors.folder import read_descriptors
from pipelines.engines.work import Engine, EngineError, UnitsFailedError
from pipelines.files.durable import FolderError, partial_of
from pipelines.files.shards import RUN, read_left_out
from pipelines.photos.cache import PhotoCache, build_cache
from pipelines.photos.edge_maps import edge_maps
from pipelines.photos.reading import Reading
from tests.helpers.small import draw_folder, saved_network


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    options = {"threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
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


@pytest.mark.parametrize("options", [{}, {"crops": "1,2"}])
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

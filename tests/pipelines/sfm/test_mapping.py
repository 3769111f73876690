"""Mapping of a group, continued from a snapshot and limited; a mapper that notes its calls is in place of COLMAP's."""

import itertools
import shutil
from threading import Thread
from types import SimpleNamespace

import pytest

from keras_retrieval.errors import ArgumentError
from pipelines.files.locks import lock
from pipelines.sfm import mapping
from pipelines.sfm.mapping import SNAPSHOTS, Group, map_group, read_group
from pipelines.sfm.models import model_folders
from pipelines.sfm.options import ReconstructOptions
from tests.helpers.deadlines import wait_until
from tests.helpers.small_models import write_model

pycolmap = pytest.importorskip("pycolmap")

GROUP = [f"{number}.jpg" for number in range(10)]
PAIRS = dict.fromkeys(itertools.pairwise(GROUP), 50)
CONNECTED = Group(GROUP, PAIRS)


class Mapper:
    """Registers at most `most` photos of those that it is given, the photos of its input first."""

    def __init__(self, most):
        self.most, self.calls = most, []

    def __call__(self, database, images, output, pipeline, input_path="", **callbacks):
        self.calls.append(SimpleNamespace(names=pipeline.image_names, input=str(input_path), options=pipeline))
        folder = output if input_path else output / "0"
        shutil.rmtree(folder, ignore_errors=True)
        write_model(folder, pipeline.image_names[: self.most])
        return {0: pycolmap.Reconstruction(folder)}


@pytest.fixture
def run(monkeypatch, tmp_path):
    def start(most, **options):
        mapper = Mapper(most)
        monkeypatch.setattr(pycolmap, "incremental_mapping", mapper)
        chosen = ReconstructOptions(tmp_path, tmp_path / "work", min_photos=3, **options)
        advanced = []
        models = map_group(tmp_path / "work", CONNECTED, chosen, advanced.append, tmp_path / "database.db")
        assert sum(advanced) == len(GROUP)
        return mapper, models

    return start


def interrupted(folder, *snapshots):
    """Puts a finished group back into the state of an interrupted one with these snapshots."""
    partial = folder.with_name(f"{folder.name}.partial")
    folder.rename(partial)
    for number, (names, damaged) in enumerate(snapshots):
        write_model(partial / SNAPSHOTS / f"{number:04}", names)
        if damaged:
            path = partial / SNAPSHOTS / f"{number:04}" / "images.bin"
            path.write_bytes(path.read_bytes()[:-40])
    return partial


def test_a_run_goes_on_from_the_latest_whole_snapshot(run):
    _, (model,) = run(10)
    partial = interrupted(model.folder.parent, (GROUP[:3], False), (GROUP[:5], False), (GROUP[:7], True))
    assert model_folders(partial.parent) == [], "models of an unfinished group are not used"
    mapper, models = run(6)
    assert [call.input for call in mapper.calls] == [str(partial / SNAPSHOTS / "0001"), ""]
    assert [call.names for call in mapper.calls] == [GROUP, GROUP[6:]]
    assert [model.photos for model in models] == [GROUP[:6], GROUP[6:]]
    assert not partial.exists()
    assert sorted(path.name for path in model.folder.parent.iterdir()) == ["0", "1", "manifest.json"]
    assert read_group(model.folder.parent) == models


def test_without_a_whole_snapshot_it_begins_anew(run):
    _, (model,) = run(10)
    interrupted(model.folder.parent, (GROUP[:7], True))
    mapper, _ = run(10)
    assert [call.input for call in mapper.calls] == [""]
    assert mapper.calls[0].options.snapshot_frames_freq == mapping.SNAPSHOT_PHOTOS


def test_a_finished_group_is_not_mapped_again_unless_its_limit_changes(run):
    run(10)
    assert not run(10)[0].calls
    (call,) = run(10, group_minutes=1.5)[0].calls
    assert call.options.max_runtime_seconds == 90
    assert len(run(10, group_minutes=2)[0].calls) == 1


def test_the_global_mapper_has_no_time_limit(tmp_path):
    with pytest.raises(ArgumentError, match="--group-minutes needs --mapper"):
        ReconstructOptions(tmp_path, tmp_path / "work", mapper="global", group_minutes=3)


def test_the_hierarchical_mapper_gets_the_size_of_its_parts(monkeypatch, tmp_path):
    seen = []

    def mapper(database, images, output, pipeline):
        seen.append(pipeline)
        write_model(output / "0", GROUP)
        return {0: pycolmap.Reconstruction(output / "0")}

    monkeypatch.setattr(pycolmap, "hierarchical_mapping", mapper)
    options = ReconstructOptions(tmp_path, tmp_path / "work", mapper="hierarchical", leaf_photos=40, group_minutes=2)
    (model,) = map_group(tmp_path / "work", CONNECTED, options, lambda _: None, tmp_path / "database.db")
    assert model.photos == GROUP
    assert seen[0].clustering_options.leaf_max_num_images == 40
    assert seen[0].clustering_options.image_overlap == 20
    assert seen[0].incremental_options.image_names == GROUP
    assert seen[0].incremental_options.max_runtime_seconds == 120
    shutil.rmtree(tmp_path / "work")


@pytest.mark.parametrize(("minutes", "seconds"), [(None, -1), (0.001, 1), (0.5, 30), (1e12, 2**31 - 1)])
def test_a_time_limit_is_a_number_that_colmap_takes(tmp_path, minutes, seconds):
    pytest.importorskip("pycolmap")
    options = ReconstructOptions(tmp_path / "photos", tmp_path / "out", group_minutes=minutes)
    assert mapping._incremental_options(["a.jpg"], options).max_runtime_seconds == seconds


def test_of_two_processes_with_the_same_group_one_maps_it(run, monkeypatch, tmp_path):
    ended = []

    def mapper(database, images, output, pipeline, input_path="", **callbacks):
        if not ended:  # the other process: it has to wait for the lock, so that this one is first
            ended.append(Thread(target=other))
            ended[0].start()
            wait_until(lambda: waiting, "the other process is before the lock")
        return Mapper(10)(database, images, output, pipeline)

    def other():
        ended.extend(map_group(tmp_path / "work", CONNECTED, options, lambda _: None, tmp_path / "database.db"))

    def locks(descriptor, *, wait):
        waiting.append(descriptor) if ended else None
        lock(descriptor, wait=wait)

    waiting = []
    options = ReconstructOptions(tmp_path, tmp_path / "work", min_photos=3)
    monkeypatch.setattr(mapping, "lock", locks)
    monkeypatch.setattr(pycolmap, "incremental_mapping", mapper)
    models = map_group(tmp_path / "work", CONNECTED, options, lambda _: None, tmp_path / "database.db")
    ended[0].join()
    assert ended[1:] == models
    assert [path.suffix for path in (tmp_path / "work" / "models").iterdir()] == [""]
    assert sorted(path.name for path in models[0].folder.parent.iterdir()) == ["0", "manifest.json"]

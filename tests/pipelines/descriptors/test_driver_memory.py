"""What the process that drives a run keeps of each photo, while workers of a cluster describe the photos."""

import pickle
import tracemalloc
from array import array
from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.descriptors import extraction
from pipelines.descriptors.extraction import extract_descriptors
from pipelines.descriptors.options import ExtractOptions
from pipelines.descriptors.sized_photos import SizedPhotos
from pipelines.files.durable import FileStates, FolderError
from pipelines.photos.intake import Intake
from pipelines.photos.reading import Reading

MOST = 512  # bytes a photo


def names_of(count):
    return [f"{number // 100:03}/photo-{number:07}.jpg" for number in range(count)]


@pytest.fixture
def peak(tmp_path, monkeypatch):
    """A function of a number of photos, that returns the most memory in bytes of a run whose units do nothing."""

    def do_nothing(job, units, *, engine, label, worker, done):
        for number, photos in units.items():
            with job.sharded.commit(number) as folder:
                job.options.shard_format.write(folder, number, np.ones((1, 1), np.float32), ["row"])
                job.sharded.finish(number, [name for _, name in photos], {}, dimensions=1)
            done(number, 0.0)

    def run(count):
        states = FileStates(array("q", range(count)), array("q", range(10**18, 10**18 + count)))
        intake = Intake(tmp_path, names_of(count), {}, {}, states)
        monkeypatch.setattr(ExtractOptions, "take", lambda self, photos: intake)
        tracemalloc.start()
        try:
            options = {"precision": "float32", "runtime": "tensorflow", "shard": 100, "engine": "dask"}
            extract_descriptors(ExtractOptions(str(model), tmp_path, tmp_path / str(count), **options))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    model = tmp_path / "network.keras"
    model.write_bytes(b"a network")
    network = SimpleNamespace(output_shape=(None, 1))
    monkeypatch.setattr(extraction, "_load", lambda options: network)
    monkeypatch.setattr(extraction, "smallest_side", lambda network, factors: 1)
    monkeypatch.setattr(extraction, "run_units", do_nothing)
    monkeypatch.setattr(Reading, "shape", lambda self, name: (64, 64 + int(name[-5]) % 3))
    run(100)  # imports
    return run


def test_a_driver_keeps_half_a_kilobyte_of_a_photo_at_most(peak):
    few, many = 1500, 4500
    assert (peak(many) - peak(few)) / (many - few) < MOST


def test_photos_are_sorted_by_size_and_are_the_same_after_a_plan_and_a_pickle():
    photos = SizedPhotos.sorted([((2, 3), "b"), ((1, 9), "c"), ((2, 3), "a")])
    assert list(photos) == [((1, 9), "c"), ((2, 3), "a"), ((2, 3), "b")] == [photos[row] for row in range(len(photos))]
    assert list(photos[1:]) == [((2, 3), "a"), ((2, 3), "b")]
    for same in (SizedPhotos.parse([[[1, 9], ["c"]], [[2, 3], ["a", "b"]]]), pickle.loads(pickle.dumps(photos))):
        assert list(same) == list(photos)
        assert same.plan() == photos.plan()
        assert same.shapes[1] is same.shapes[2]


@pytest.mark.parametrize(
    "plan", [None, 5, "ab", {"a": 1}, [[[1, 2]]], [[[1, 2], [5]]], [[[1, 2, 3], ["a"]]], [["12", 5]]]
)
def test_a_plan_of_another_form_is_refused(plan):
    with pytest.raises(FolderError):
        SizedPhotos.parse(plan)


@pytest.mark.parametrize(
    "plan",
    [[], {"photos": []}, {"photos": [], "left_out": [], "shard": 1}, {"photos": [], "left_out": {}, "shard": "1"}],
)
def test_a_run_takes_no_plan_of_another_form(plan):
    with pytest.raises((FolderError, TypeError, LookupError, AttributeError)):
        extraction.Plan.parse(plan)

"""The processes that train together: what they send each other, their shares, and their draw of an epoch."""

import json
from dataclasses import replace

import numpy as np
import pytest

from keras_retrieval.errors import ArgumentError
from pipelines.photos.cache import build_cache
from pipelines.photos.reading import Reading
from pipelines.training.devices import open_devices, require_same_run
from pipelines.training.epoch_draw import EpochDraw
from pipelines.training.errors import TrainingError
from pipelines.training.mining_options import MiningOptions
from pipelines.training.stream import StreamPart, TupleStream
from pipelines.training.train_options import TrainOptions
from pipelines.training.tuple_reader import PhotoOptions
from pipelines.training.workers import ALONE, Workers, worker_place
from pipelines.training_tuples.file import write_tuples
from tests.helpers.small_epochs import SIDE, describing, make_tuples
from tests.helpers.worker_threads import together


class Noted(Reading):
    """A reading that notes the names of the photos that are read."""

    def read(self, name):
        self.__dict__.setdefault("names", []).append(name)
        return super().read(name)


def test_everything_is_sent_to_all_in_order():
    def work(workers):
        arrays = {"a": np.arange(workers.index + 2), "b": np.full((1, 3), workers.index, np.float32)}
        return workers.exchange(arrays), workers.tell([workers.index, "ü"]), workers.agree(f"of {workers.index}")

    for arrays, values, agreed in together(work, 3):
        assert [one["a"].tolist() for one in arrays] == [[0, 1], [0, 1, 2], [0, 1, 2, 3]]
        assert [one["b"].tolist() for one in arrays] == [[[number] * 3] for number in range(3)]
        assert values == [[0, "ü"], [1, "ü"], [2, "ü"]]
        assert agreed == "of 0"
    assert ALONE.tell(5) == [5]
    assert ALONE.agree(5) == 5


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shares_are_all_items_once(count):
    items = list(range(11))
    shares = [Workers(index, count).share(items) for index in range(count)]
    assert [item for share in shares for item in share] == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_chief_works_first():
    order = []

    def work(workers):
        workers.chief_first(lambda: order.append(workers.index))

    together(work, 3)
    assert order[0] == 0
    assert sorted(order) == [0, 1, 2]


@pytest.mark.parametrize("refresh", [0, 2])
def test_workers_mine_what_one_process_mines(odd, refresh):
    options = MiningOptions(negatives=3, queries=40, pool=100, batch=4, refresh=refresh)

    def mined(workers):
        photos = Noted(odd, SIDE)
        draw = EpochDraw(make_tuples(), photos, options, workers=workers)
        found = [draw.mine(describing(), epoch) for epoch in (0, 1)][-1]
        if refresh:
            draw.refresh(describing(), refresh - 1)
        return draw, found, photos.names

    one, facts, read = mined(ALONE)
    both = together(mined)
    for draw, found, _ in both:
        np.testing.assert_array_equal(draw.tuples, one.tuples)
        np.testing.assert_allclose(draw.distances, one.distances, atol=1e-6)
        assert (found.described, found.left_out) == (facts.described, facts.left_out)
    assert sorted(both[0][2] + both[1][2]) == sorted(read)
    assert max(len(names) for _, _, names in both) <= 0.55 * len(read)


def test_parts_of_the_stream_are_the_steps_of_one_process(folder):
    draw = EpochDraw(make_tuples(), Reading(folder, SIDE), MiningOptions(negatives=3, queries=24, pool=100, batch=4))
    draw.mine(describing(), 0)

    def rows(part, start=1):
        stream = TupleStream(draw, PhotoOptions(side=SIDE), part)
        data = stream.dataset(start)
        found = [inputs["rows"].numpy() for inputs, _ in data]
        assert len(found) == int(data.cardinality())
        return found

    whole = rows(StreamPart())
    # Two processes with two devices each.
    first, second = rows(StreamPart(0, 2, 4)), rows(StreamPart(2, 2, 4))
    for step, expected in enumerate(whole):
        parts = [*first[2 * step : 2 * step + 2], *second[2 * step : 2 * step + 2]]
        np.testing.assert_array_equal(np.concatenate(parts), expected)
    every = [rows(StreamPart(number, every=2), 0) for number in (0, 1)]
    for step, expected in enumerate(rows(StreamPart(), 0)):
        np.testing.assert_array_equal(every[step % 2][step // 2], expected)


def test_whole_steps_are_divided_equally_over_epochs():
    parts = [StreamPart(number, every=2) for number in (0, 1)]
    counts = np.array([[len(part.of_steps(range(9), epoch)) for part in parts] for epoch in range(4)])
    for epoch in range(4):
        assert sorted(parts[0].of_steps(range(9), epoch) + parts[1].of_steps(range(9), epoch)) == list(range(9))
    assert counts.sum(axis=0).tolist() == [18, 18]


def test_workers_build_one_cache_of_photos(odd, tmp_path):
    names = make_tuples().images

    def build(workers):
        photos = Noted(odd, SIDE)
        return build_cache(tmp_path / "cache", names, photos, sharing=workers), photos.__dict__.get("names", [])

    both = together(build)
    for cache, read in both:
        assert sorted(cache.left_out) == ["3/0.png", "4/1.png"]
        for name in cache.names:
            np.testing.assert_array_equal(cache.read(name), Reading(odd, SIDE).read(name))
        assert len(read) == len(names) / 2
    again = together(build)
    assert [read for _, read in again if read] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--workers needs the environment variable TF_CONFIG"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"cluster": {"worker": ["a:1"]}}', "cannot be read"),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
            "worker 1, which is not one of its 1",
        ),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": -1}}', "worker -1, which is not"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}', "chief 0, which is not"),
        ('{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "ps", "index": 0}}', "type 'ps'"),
        ('{"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}', "worker is not a list"),
        ('{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}', "worker 'a' is not HOST:PORT"),
        ('{"cluster": {"worker": ["a:70000"]}, "task": {"type": "worker", "index": 0}}', "'a:70000' is not HOST:PORT"),
        ('{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}', "'a:1' is listed twice"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": ["worker"], "index": 0}}', "not one of its 1 workers"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1e400}}', "cannot be read"),
    ],
)
def test_wrong_tf_config(text, message):
    with pytest.raises(ArgumentError, match=message):
        worker_place({"TF_CONFIG": text})


def test_chief_is_the_first_worker():
    cluster = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
    for kind, number, index in (("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2)):
        text = json.dumps({"cluster": cluster, "task": {"type": kind, "index": number}})
        place = worker_place({"TF_CONFIG": text})
        assert (place.index, place.count) == (index, 3)


def test_options_that_need_one_device(tmp_path, monkeypatch):
    one = {"tuples": tmp_path / "tuples.npz", "photos": tmp_path}
    assert TrainOptions(**one, devices=5).devices == 5
    for changes, message in (
        ({"devices": 2}, "--batch must be a multiple of the 2 devices.*got 5"),
        ({"devices": 2, "batch": 4, "jit": True}, "--jit"),
        ({"devices": 2, "loss": "multi-similarity", "batch_classes": "4x2", "memory": 64}, "--memory"),
        ({"devices": 2, "batch": 4, "keep": 1.0}, "--keep cannot be combined with --devices"),
        ({"devices": 3, "loss": "batch-hard", "batch_classes": "4x2"}, "--batch-classes must be a multiple"),
        ({"workers": True}, "TF_CONFIG"),
    ):
        with pytest.raises(ArgumentError, match=message):
            TrainOptions(**one, **changes)
    cluster = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    with pytest.raises(ArgumentError, match="multiple of the 4 devices"):
        TrainOptions(**one, workers=True, devices=2, batch=6)


def test_workers_of_different_runs_are_refused(tmp_path):
    def options(workers):
        require_same_run(workers, {"lr": 0.1 * workers.index}, "", {"output": tmp_path})

    with pytest.raises(TrainingError, match=r"worker . was started with --lr 0\.?1?"):
        together(options)

    def photos(workers):
        require_same_run(workers, {}, f"of {workers.index}", {"output": tmp_path})

    with pytest.raises(TrainingError, match=r"worker . sees other photos \(names, sizes or times of change\)"):
        together(photos)

    def folders(workers):
        require_same_run(workers, {}, "", {"output": tmp_path, "cache": tmp_path / str(workers.index)})

    with pytest.raises(TrainingError, match=r"worker 1 does not see the files that worker 0 .*: --cache must be a"):
        together(folders)
    require_same_run(ALONE, {}, "", {"output": tmp_path / "nowhere"})
    assert not list(tmp_path.glob(".workers-*"))


def test_options_that_workers_must_have_in_common(folder, tmp_path):
    path = tmp_path / "tuples.npz"
    write_tuples(path, make_tuples(), {})
    plain = TrainOptions(path, photos=folder)

    def differing(**changes):
        one, other = plain.in_common(), replace(plain, **changes).in_common()
        return [name for name in one if one[name] != other[name]]

    for changes in ({"epochs": 7}, {"whiten": "none"}, {"scales": "1"}, {"interpolate": "auto"}, {"devices": 5}):
        assert differing(**changes) == list(changes)
    assert differing(output=tmp_path, cache=tmp_path, photos=tmp_path, resume=True, tensorboard=True) == []
    write_tuples(tmp_path / "other.npz", make_tuples(validation=None), {})
    assert differing(tuples=tmp_path / "other.npz") == ["tuples"]


def test_an_address_that_is_taken_is_named(monkeypatch):
    tf = pytest.importorskip("tensorflow")

    def refuse():
        raise tf.errors.UnknownError(None, None, "Could not start gRPC server")

    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", refuse)
    cluster = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    with pytest.raises(TrainingError, match="worker 1 cannot listen at its address in TF_CONFIG"):
        open_devices(1, True)

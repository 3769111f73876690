"""The stream of tuples: what is drawn, mined, read and refreshed, against plain loops over the same photos."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from keras_retrieval.mining.hard_negatives import MiningError
from pipelines.descriptors.describer import NO_DESCRIPTOR, describer
from pipelines.photos.augmentation import Augmentation
from pipelines.photos.cache import build_cache
from pipelines.photos.reader import PhotoError, read_photo
from pipelines.photos.reading import Reading
from pipelines.training.errors import TrainingError
from pipelines.training.mining_callback import mining_callback
from pipelines.training.stream import STALE, TupleStream
from pipelines.training_tuples.data import Tuples, TuplesError, objects
from tests.helpers.small import network
from tests.helpers.small_network import draw_photo

SIDE = 56
CLUSTERS, VIEWS = 9, 4
SHAPES = ((40, 56), (55, 35), (40, 42), (30, 56))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four photos each of nine scenes, in four shapes."""
    folder = tmp_path_factory.mktemp("photos")
    for scene in range(CLUSTERS):
        for view, (height, width) in enumerate(SHAPES):
            draw_photo(folder / f"{scene}/{view}.png", scene, view, height, width)
    return folder


def make_tuples(**changes):
    """Every photo asks for every other of its cluster; clusters 0, 1 and 1, 2 are linked; two are for validation."""
    cluster = np.repeat(np.arange(CLUSTERS), VIEWS)
    pairs = [(q, p) for q in range(len(cluster)) for p in range(len(cluster)) if q != p and cluster[q] == cluster[p]]
    qidxs, pidxs = np.array(pairs).T
    fields = {
        "images": [f"{row // VIEWS}/{row % VIEWS}.png" for row in range(len(cluster))],
        "cluster": cluster,
        "qidxs": qidxs,
        "pidxs": pidxs,
        "same_object": np.array([[0, 1], [2, 1]]),
        "validation": cluster >= CLUSTERS - 2,
    }
    return Tuples(**(fields | changes))


def make_stream(folder, tuples=None, **options):
    options = {"side": SIDE, "negatives": 3, "queries": 40, "pool": 100, "batch": 5} | options
    return TupleStream(tuples or make_tuples(), Reading(folder, SIDE), **options)


def describing(seed=0):
    """Stands in for a network: a random projection of the mean and the corners of a photo."""
    projection = np.random.default_rng(seed).normal(size=(15, 12))

    def describe(images):
        x = images.astype(float)
        corners = [x.mean((1, 2)), x[:, 0, 0], x[:, 0, -1], x[:, -1, 0], x[:, -1, -1]]
        rows = (np.concatenate(corners, axis=1) - 128) @ projection
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("float32")

    return describe


def steps_of(stream, start=0):
    return [
        ({name: array.numpy() for name, array in inputs.items()}, objects.numpy())
        for inputs, objects in stream.dataset(start)
    ]


# --- what is drawn -----------------------------------------------------------------------------------------------


def test_draws_come_from_seed_and_epoch_alone(folder):
    one, other = make_stream(folder, pool=12), make_stream(folder, pool=12)
    other.draw(0)
    other.mine(describing(), 1)
    for epoch in (0, 3, 7):
        for here, there in zip(one.draw(epoch), other.draw(epoch), strict=True):
            np.testing.assert_array_equal(here, there)
    pairs = {make_stream(folder, seed=seed).draw(epoch)[0].tobytes() for seed in (0, 1) for epoch in (0, 1)}
    assert len(pairs) == 4


def test_training_draws_random_pairs_and_photos_of_its_own(folder):
    tuples = make_tuples()
    stream = make_stream(folder, tuples, pool=24)
    stream.mine(describing(), 0)
    drawn = {tuple(pair) for pair in stream.tuples[:, :2].tolist()}
    assert len(drawn) == stream.count == 40
    assert drawn <= set(zip(tuples.qidxs.tolist(), tuples.pidxs.tolist(), strict=True))
    assert not tuples.validation[stream.tuples].any()
    pool = stream.draw(0)[1]
    assert len(set(pool.tolist())) == 24
    assert np.isin(stream.tuples[:, 2:], pool).all()


def test_validation_takes_all_pairs_in_order_and_the_same_ones_each_epoch(folder):
    tuples = make_tuples(validation=np.repeat(np.arange(CLUSTERS), VIEWS) >= 4)
    stream = make_stream(folder, tuples, validation=True, queries=7, batch=7)
    first, found = stream.mine(describing(), 0), []
    found.append(stream.tuples)
    assert stream.mine(describing(), 5).distance == first.distance
    np.testing.assert_array_equal(stream.tuples, found[0])
    aside = tuples.validation[tuples.qidxs]
    np.testing.assert_array_equal(stream.tuples[:, 0], tuples.qidxs[aside])
    np.testing.assert_array_equal(stream.tuples[:, 1], tuples.pidxs[aside])
    sizes = [len(objects) for _, objects in steps_of(stream)]
    assert sizes == [7] * 8 + [4]
    assert stream.steps == len(stream.dataset()) == 9


def test_training_takes_whole_steps(folder):
    assert (make_stream(folder, queries=23).count, make_stream(folder, queries=23).steps) == (20, 4)
    few = make_stream(folder, queries=3)
    assert (few.count, few.batch, few.steps) == (3, 3, 1)
    assert make_stream(folder, queries=5000).count == 7 * VIEWS * (VIEWS - 1) // 5 * 5


def test_a_pool_without_enough_clusters_is_drawn_larger(folder):
    stream = make_stream(folder, pool=2, negatives=4)
    for epoch in range(5):
        stream.mine(describing(), epoch)
        assert 4 <= len(stream.draw(epoch)[1]) <= 28


def test_too_few_clusters_are_told_before_anything_is_read(tmp_path):
    with pytest.raises(MiningError):
        make_stream(tmp_path, negatives=6)  # seven clusters to train on, one of them linked to two
    with pytest.raises(MiningError):
        make_stream(tmp_path, validation=True)


def test_what_cannot_be_is_refused(folder):
    with pytest.raises(TuplesError, match="no pair is set aside for validation"):
        make_stream(folder, make_tuples(validation=None), validation=True)
    with pytest.raises(TuplesError, match="no pair is left to train on"):
        make_stream(folder, make_tuples(validation=np.ones(CLUSTERS * VIEWS, bool)))
    for wrong in ({"negatives": 0}, {"batch": 0}, {"refresh": -1}, {"queries": 0}, {"sample": -1}):
        with pytest.raises(ValueError, match="are at least 1"):
            make_stream(folder, **wrong)
    with pytest.raises(ValueError, match="drawn or nearest or farthest, not best"):
        make_stream(folder, positive="best")


# --- what is mined -----------------------------------------------------------------------------------------------


def naive_negatives(tuples, describe, folder, query, pool, count):
    """The nearest photos of the pool, walked in order; one per cluster, none of the query's or of a linked one."""
    row = {r: describe(read_photo(folder / tuples.images[r], size=SIDE)[None])[0] for r in {query, *pool}}
    barred = {tuples.cluster[query]}
    for one, other in tuples.same_object.tolist():
        barred |= {other} if one == tuples.cluster[query] else {one} if other == tuples.cluster[query] else set()
    found = []
    for other in sorted(pool, key=lambda other: -float(row[query] @ row[other])):
        if tuples.cluster[other] not in barred and len(found) < count:
            found.append(other)
            barred.add(tuples.cluster[other])
    return found, [np.linalg.norm(row[query] - row[other]) for other in found]


def test_negatives_are_those_of_a_plain_walk(folder):
    tuples, describe = make_tuples(), describing()
    stream = make_stream(folder, tuples, pool=20)
    mined = stream.mine(describe, 2)
    pairs, pool = stream.draw(2)
    np.testing.assert_array_equal(stream.tuples[:, :2], pairs[:40])
    for place, found in enumerate(stream.tuples.tolist()):
        negatives, distances = naive_negatives(tuples, describe, folder, found[0], pool.tolist(), 3)
        assert found[2:] == negatives
        np.testing.assert_allclose(stream.distances[place], distances, atol=1e-3)
    assert mined.distance == pytest.approx(stream.distances.mean())
    assert mined.described == len(set(pool.tolist()) | set(pairs[:40, 0].tolist()))
    assert (mined.replaced, mined.left_out) == (0, {})


def test_other_weights_find_other_negatives(folder):
    small = network()
    stream, describe = make_stream(folder), describer(small)
    stream.mine(describe, 0)
    before = stream.tuples
    stream.mine(describe, 0)
    np.testing.assert_array_equal(stream.tuples, before)
    rng = np.random.default_rng(0)
    small.set_weights([weight + rng.normal(0, 0.3, weight.shape) for weight in small.get_weights()])
    stream.mine(describe, 0)
    np.testing.assert_array_equal(stream.tuples[:, :2], before[:, :2])
    assert (stream.tuples[:, 2:] != before[:, 2:]).any()


def test_how_negatives_are_picked_is_an_argument(folder):
    def farthest(queries, query_clusters, pool, pool_clusters, negatives, *, same_object):
        scores = queries @ pool.T
        indexes = np.argsort(scores + 9 * (query_clusters[:, None] == pool_clusters), axis=1)[:, :negatives]
        return indexes, np.sqrt(2 - 2 * np.take_along_axis(scores, indexes, 1))

    near, far = make_stream(folder), make_stream(folder, pick=farthest)
    assert far.mine(describing(), 0).distance > near.mine(describing(), 0).distance + 0.1


def test_a_large_pool_is_searched_by_scann(folder):
    pytest.importorskip("scann")
    exact, approximate = make_stream(folder), make_stream(folder, approximate_above=20)
    exact.mine(describing(), 0)
    mined = approximate.mine(describing(), 0)
    same = exact.tuples[:, 2:] == approximate.tuples[:, 2:]
    assert same.mean() > 0.8
    cluster = make_tuples().cluster[approximate.tuples]
    assert all(len(set(row)) == 4 for row in cluster[:, 1:].tolist())
    assert mined.distance == pytest.approx(exact.distances.mean(), rel=0.05)


# --- positives by descriptor, samples, memory, lists -------------------------------------------------------------


def rows_of(tuples, describe, folder):
    return np.concatenate([describe(read_photo(folder / name, size=SIDE)[None]) for name in tuples.images])


@pytest.mark.parametrize(("which", "best"), [("nearest", np.argmax), ("farthest", np.argmin)])
def test_the_nearest_or_farthest_of_all_its_positives_goes_with_each_query(folder, which, best):
    tuples, describe = make_tuples(), describing()
    rows = rows_of(tuples, describe, folder)
    stream = make_stream(folder, tuples, positive=which, queries=100)
    stream.mine(describe, 0)
    assert len(set(stream.tuples[:, 0].tolist())) == stream.count == 28 // 5 * 5
    for query, positive in stream.tuples[:, :2].tolist():
        others = tuples.pidxs[tuples.qidxs == query]
        assert positive == others[best(rows[others] @ rows[query])]
    aside = make_stream(folder, tuples, positive=which, validation=True, negatives=1)
    assert aside.count == 2 * VIEWS


def test_a_refresh_takes_the_positive_that_is_nearest_now(folder):
    tuples = make_tuples()
    stream = make_stream(folder, tuples, positive="nearest", refresh=1, queries=25, batch=1)
    stream.mine(describing(0), 0)
    before = stream.tuples
    rows = np.arange(len(tuples.images))[None]
    stream.update(rows, rows_of(tuples, describing(1), folder)[None])
    stream.on_step(describing(1), 0)
    now = rows_of(tuples, describing(1), folder)
    query, positive = stream.tuples[1 + STALE, :2]
    others = tuples.pidxs[tuples.qidxs == query]
    assert positive == others[np.argmax(now[others] @ now[query])]
    np.testing.assert_array_equal(stream.tuples[: 1 + STALE], before[: 1 + STALE])


def test_a_sample_is_drawn_for_each_query(folder):
    tuples, describe = make_tuples(), describing()
    rows = rows_of(tuples, describe, folder)
    stream, whole = make_stream(folder, tuples, sample=12, negatives=2), make_stream(folder, tuples, negatives=2)
    stream.mine(describe, 3)
    whole.mine(describe, 3)
    assert stream.distances.mean() > whole.distances.mean() + 0.01
    drawn = np.random.default_rng([0, 3, 0]).integers(0, 28, (40, 12))
    barred = {0: {0, 1}, 1: {0, 1, 2}, 2: {1, 2}}
    for place, (query, _, *negatives) in enumerate(stream.tuples.tolist()):
        own = tuples.cluster[query]
        sampled = np.unique(stream._hard_negatives.pool[drawn[place]])
        sampled = [row for row in sampled if tuples.cluster[row] not in barred.get(own, {own})]
        nearest = sorted(sampled, key=lambda row: -rows[row] @ rows[query])
        of_each = list({tuples.cluster[row]: row for row in nearest[::-1]}.values())[::-1]
        assert negatives == sorted(of_each, key=lambda row: -rows[row] @ rows[query])[:2]


def test_what_was_hard_is_looked_at_when_the_query_comes_again(folder):
    tuples = make_tuples()
    only = np.isin(tuples.qidxs, [0, 9, 17])
    tuples = replace(tuples, qidxs=tuples.qidxs[only], pidxs=tuples.pidxs[only])
    found = {}
    for remember in (True, False):
        stream = make_stream(folder, tuples, sample=8, pool=20, remember=remember, positive="nearest", batch=1)
        distances = []
        for epoch in range(12):
            stream.mine(describing(), epoch)
            distances.append(stream.distances[np.argsort(stream.tuples[:, 0])])
        found[remember] = np.stack(distances)
    assert (np.diff(found[True], axis=0) <= 1e-6).all()
    assert (np.diff(found[False], axis=0) > 0.01).any()
    assert found[True][-1].mean() < found[False][-1].mean()


def listed(count=6, **changes):
    """Tuples that list as the negatives of each photo those that many clusters on, each a cluster of its own."""
    rows = np.arange(CLUSTERS * VIEWS)
    negatives = (rows[:, None] + VIEWS * np.arange(2, 2 + count)) % len(rows)
    negatives[::5, -2:] = -1
    return make_tuples(negatives=negatives.astype(np.int32), **changes)


def test_listed_negatives_are_the_only_ones(folder):
    tuples, describe = listed(validation=None, same_object=np.zeros((0, 2), int)), describing()
    rows = rows_of(tuples, describe, folder)
    stream = make_stream(folder, tuples)
    mined = stream.mine(describe, 0)
    for query, _, *negatives in stream.tuples.tolist():
        known = tuples.negatives[query][tuples.negatives[query] >= 0]
        assert negatives == sorted(known.tolist(), key=lambda row: -rows[row] @ rows[query])[:3]
    asked = stream.tuples[:, 0]
    assert mined.described == len(set(asked.tolist()) | set(tuples.negatives[asked].ravel().tolist()) - {-1})


def test_queries_whose_lists_are_too_short_are_not_asked(folder, odd):
    tuples = listed(4, validation=None, same_object=np.zeros((0, 2), int))
    assert not np.isin(make_stream(folder, tuples, queries=200).pairs[:, 0], np.arange(0, 36, 5)).any()
    aside = replace(tuples, validation=np.repeat(np.arange(CLUSTERS), VIEWS) >= 7)
    stream = make_stream(folder, aside, queries=200)
    stream.mine(describing(), 0)
    assert not aside.validation[stream.tuples].any()
    stream = make_stream(odd, tuples, queries=200, negatives=4)  # 3/0.png and 4/1.png are negatives of others
    mined = stream.mine(describing(), 0)
    assert mined.replaced > 0
    assert not np.isin(stream.tuples[:, [0, 2, 3, 4, 5]], [12, 17]).any()
    with pytest.raises(MiningError, match="no query of the tuples has 5 negatives in its list"):
        make_stream(folder, tuples, negatives=5)


def test_wide_descriptors_lie_in_a_file_in_half_precision(folder, monkeypatch):
    found = {}
    for wide in (4096, 8):
        monkeypatch.setattr("pipelines.training.photo_descriptors.WIDE", wide)
        stream = make_stream(folder, refresh=1, queries=80, sample=20)
        stream.mine(describing(0), 0)
        for step in range(6):
            stream.on_step(describing(step), step)
        found[wide] = stream
    assert found[8]._descriptors.state()["values"].dtype == np.float16
    assert (found[8].tuples == found[4096].tuples).mean() > 0.98
    np.testing.assert_allclose(found[8].distances, found[4096].distances, atol=5e-3)


# --- what is read ------------------------------------------------------------------------------------------------


def photos_of_padded(inputs):
    flat = inputs["photos"].reshape(-1, SIDE, SIDE, 3)
    for square, (height, width) in zip(flat, inputs["sizes"].reshape(-1, 2), strict=True):
        yield square[:height, :width]
        assert not square[height:].any()
        assert not square[:, width:].any()


def photos_of_exact(inputs):
    runs, start = [], 0
    for count, height, width in inputs["groups"].tolist():
        end = start + count * height * width
        runs += list(inputs["pixels"][start:end].reshape(count, height, width, 3))
        start = end
    assert start == len(inputs["pixels"])
    return [runs[place] for place in inputs["places"]]


def test_padded_and_exact_hold_the_readers_pixels(folder, tmp_path):
    tuples = make_tuples()
    cache = build_cache(tmp_path / "cache", tuples.images, Reading(folder, SIDE))
    padded = make_stream(folder, tuples)
    exact = TupleStream(tuples, cache, side=SIDE, negatives=3, queries=40, pool=100, batch=5, padded=False)
    for stream in (padded, exact):
        stream.mine(describing(), 0)
    steps = list(zip(steps_of(padded), steps_of(exact), strict=True))
    assert len(steps) == padded.steps == 8
    for number, ((one, one_objects), (other, other_objects)) in enumerate(steps):
        rows = padded.tuples[number * 5 : number * 5 + 5]
        np.testing.assert_array_equal(one["rows"], rows)
        np.testing.assert_array_equal(other["rows"], rows)
        assert one["photos"].shape == (5, 5, SIDE, SIDE, 3)
        shapes = other["groups"][:, 1:].tolist()
        assert shapes == sorted(shapes)
        assert len(shapes) == len({tuple(shape) for shape in shapes})
        np.testing.assert_array_equal(one_objects, objects(tuples)[rows])
        np.testing.assert_array_equal(other_objects, one_objects)
        for row, square, pixels in zip(rows.ravel(), photos_of_padded(one), photos_of_exact(other), strict=True):
            expected = read_photo(folder / tuples.images[row], size=SIDE)
            np.testing.assert_array_equal(square, expected)
            np.testing.assert_array_equal(pixels, expected)


def test_objects_join_what_is_linked():
    found = objects(make_tuples())
    cluster = make_tuples().cluster
    assert len(set(found[cluster <= 2])) == 1
    assert len(set(found.tolist())) == CLUSTERS - 2


def test_a_photo_larger_than_the_square_is_named(folder):
    import tensorflow as tf

    stream = make_stream(folder, side=50)
    stream.mine(describing(), 0)
    with pytest.raises(tf.errors.OpError, match="does not fit in 50 x 50: give a larger side"):
        steps_of(stream)


def test_nothing_mined_is_a_clear_error(folder):
    import tensorflow as tf

    with pytest.raises(tf.errors.OpError, match="no negatives are mined yet"):
        steps_of(make_stream(folder))


def test_each_pass_takes_the_epoch_mined_last(folder):
    stream = make_stream(folder)
    dataset = stream.dataset()
    for epoch in (0, 1):
        stream.mine(describing(), epoch)
        rows = np.concatenate([inputs["rows"].numpy() for inputs, _ in dataset])
        np.testing.assert_array_equal(rows, stream.tuples)
    with_start = np.concatenate([inputs["rows"] for inputs, _ in steps_of(stream, start=6)])
    np.testing.assert_array_equal(with_start, stream.tuples[30:])


def test_it_never_holds_all_photos(tmp_path):
    for number in range(60):
        draw_photo(tmp_path / f"{number}.png", number % 10, number, 200, 210)
    cluster = np.arange(60) % 10
    tuples = Tuples([f"{n}.png" for n in range(60)], cluster, np.arange(50), np.arange(10, 60))
    stream = TupleStream(tuples, Reading(tmp_path, 210), side=210, negatives=2, queries=50, batch=1)
    stream.mine(describing(), 0)
    tracemalloc.start()
    for _ in stream.dataset():
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * 200 * 210 * 3 / 2


# --- photos that fail --------------------------------------------------------------------------------------------


@pytest.fixture
def odd(folder, tmp_path):
    """The same photos, but for an empty one and one whose pixels are cut off behind a good header."""
    for name in make_tuples().images:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        content = (folder / name).read_bytes()
        (tmp_path / name).write_bytes({"3/0.png": b"", "4/1.png": content[: len(content) // 2]}.get(name, content))
    with pytest.raises(PhotoError):
        read_photo(tmp_path / "4/1.png")
    return tmp_path


@pytest.mark.parametrize("cached", [False, True])
def test_failing_photos_give_way_and_are_reported(odd, tmp_path_factory, cached):
    tuples, photos = make_tuples(), Reading(odd, SIDE)
    if cached:
        photos = build_cache(tmp_path_factory.mktemp("cache") / "cache", tuples.images, photos)
    stream = TupleStream(tuples, photos, side=SIDE, negatives=3, queries=60, batch=5)
    bad = [tuples.images.index("3/0.png"), tuples.images.index("4/1.png")]
    mined = stream.mine(describing(), 0)
    assert mined.left_out.keys() == {"3/0.png", "4/1.png"}
    assert mined.left_out["3/0.png"] == "empty file"
    assert mined.replaced > 0
    assert stream.tuples.shape == (60, 5)
    assert not np.isin(stream.tuples[:, [0, 2, 3, 4]], bad).any()
    assert len({tuple(pair) for pair in stream.tuples[:, :2].tolist()}) == 60
    read = np.concatenate([inputs["rows"] for inputs, _ in steps_of(stream)])
    assert read.shape == (60, 5)
    assert not np.isin(read, bad).any()
    assert {tuple(row) for row in read.tolist()} <= {tuple(row) for row in stream.tuples.tolist()}
    kept = ~np.isin(stream.tuples, bad).any(axis=1)
    np.testing.assert_array_equal(read[kept], stream.tuples[kept])
    assert stream.left_out.keys() == {"3/0.png", "4/1.png"}


def test_pairs_are_repeated_where_too_few_can_be_read(odd):
    tuples = make_tuples()
    cluster, keep = tuples.cluster, np.isin(tuples.cluster[tuples.qidxs], [3, 5])
    tuples = replace(tuples, qidxs=tuples.qidxs[keep], pidxs=tuples.pidxs[keep])
    stream = make_stream(odd, tuples, queries=24, batch=4)
    mined = stream.mine(describing(), 0)
    assert (stream.count, mined.replaced) == (24, 6)
    assert len({tuple(pair) for pair in stream.tuples[:, :2].tolist()}) == 18
    only = tuples.qidxs == np.flatnonzero(cluster == 3)[0]
    stream = make_stream(odd, replace(tuples, qidxs=tuples.qidxs[only], pidxs=tuples.pidxs[only]))
    with pytest.raises(ValueError, match=r"none of the 3 pairs can be read; the first reason: 3/0\.png: empty file"):
        stream.mine(describing(), 0)


@pytest.mark.parametrize("value", [0, np.nan])
def test_a_network_that_diverged_is_named_and_not_the_photos(odd, value):
    def diverged(images):
        return np.full((len(images), 12), value, "float32")

    with pytest.raises(TrainingError, match=r"descriptors of \d+ photos are zero or not finite: .* lower --lr"):
        make_stream(odd).mine(diverged, 0)
    stream = make_stream(odd, refresh=1)
    stream.mine(describing(), 0)
    with pytest.raises(TrainingError, match="it has diverged: lower --lr"):
        stream.on_step(diverged, 0)


def test_a_step_whose_descriptors_are_not_finite_ends_the_training(folder):
    stream = make_stream(folder, refresh=1)
    stream.mine(describing(), 0)
    rows = stream.tuples[:2]
    descriptors = np.ones((*rows.shape, 12), "float32")
    stream.update(rows, descriptors)
    descriptors[1, 0, 3] = np.inf
    with pytest.raises(TrainingError, match="descriptors of 1 photos are zero or not finite"):
        stream.update(rows, descriptors)


def test_a_photo_without_a_descriptor_is_left_out(folder):
    """One dark photo says nothing of the network, nor do few clusters beside it."""

    def describe(images):
        rows = describing()(images)
        rows[0] = 0
        return rows

    stream = make_stream(folder, batch=1)
    stream.mine(describe, 0)
    assert set(stream.left_out.values()) == {NO_DESCRIPTOR}


def test_a_folder_that_has_gone_is_told(tmp_path):
    with pytest.raises(ValueError, match="there is no such file"):
        make_stream(tmp_path).mine(describing(), 0)


# --- refreshed by steps ------------------------------------------------------------------------------------------


def test_a_refresh_changes_only_tuples_still_to_come(folder):
    stream = make_stream(folder, refresh=2, queries=80)
    stream.mine(describing(0), 0)
    before = stream.tuples
    assert not stream.on_step(describing(1), 0)
    np.testing.assert_array_equal(stream.tuples, before)
    assert stream.on_step(describing(1), 1)
    first = (2 + STALE) * 5
    changed = np.flatnonzero((stream.tuples != before).any(axis=1))
    assert len(changed)
    assert changed.min() >= first
    assert changed.max() < first + 2 * 5
    np.testing.assert_array_equal(stream.tuples[:, :2], before[:, :2])
    assert stream.on_step(describing(1), 15)
    np.testing.assert_array_equal(stream.tuples[:first], before[:first])


def test_an_epoch_of_refreshes_describes_all_photos_once(folder):
    stream = make_stream(folder, refresh=1, queries=80)
    described = stream.mine(describing(0), 0).described
    counted = []

    def counting(images):
        counted.append(len(images))
        return describing(1)(images)

    for step in range(stream.steps):
        stream.on_step(counting, step)
    refreshes = stream.steps - 1 - STALE
    assert sum(counted) == refreshes * -(-described // stream.steps)
    counted.clear()
    # All photos of so small a collection are known when the next epoch begins.
    assert stream.mine(counting, 1).described == sum(counted) == 0


def test_what_is_read_is_never_changed_afterwards(folder):
    stream = make_stream(folder, refresh=1, queries=80)
    stream.mine(describing(0), 0)
    read, before = [], stream.tuples
    for step, (inputs, _) in enumerate(stream.dataset()):
        read.append(inputs["rows"].numpy())
        stream.on_step(describing(step + 1), step)
    np.testing.assert_array_equal(np.concatenate(read), stream.tuples)
    assert (stream.tuples != before).any()


def test_descriptors_of_a_step_refresh_their_photos(folder):
    stream = make_stream(folder, refresh=4, queries=80)
    stream.mine(describing(0), 0)
    query = stream.tuples[(4 + STALE) * 5, 0]
    away = next(row for row in stream.rows if stream.cluster[row] not in (0, 1, 2, stream.cluster[query]))
    same = np.where(np.arange(12) == 0, 1.0, 0.0)
    stream.update(np.array([[query, away, query]]), np.stack([same, same, same])[None])
    stream.on_step(describing(0), 3)
    changed = stream.tuples[(4 + STALE) * 5]
    assert changed[2] == away
    assert stream.distances[(4 + STALE) * 5, 0] < 1e-3


# --- going on ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wide", [4096, 8])
@pytest.mark.parametrize("options", [
    {}, {"refresh": 2}, {"refresh": 2, "sample": 8, "remember": True, "positive": "nearest", "batch": 1, "pool": 15},
], ids=str)  # fmt: skip
def test_a_restored_stream_goes_on_the_same(folder, monkeypatch, options, wide):
    monkeypatch.setattr("pipelines.training.photo_descriptors.WIDE", wide)
    one, other = (make_stream(folder, queries=80, **options) for _ in range(2))
    one.mine(describing(0), 0)
    for step in range(5):
        one.on_step(describing(1), step)
    state = {name: array.copy() for name, array in one.state().items()}
    assert all(array.dtype != object for array in state.values())
    other.restore(state)
    for stream in (one, other):
        for step in range(5, 16):
            stream.on_step(describing(2), step)
    np.testing.assert_array_equal(one.tuples, other.tuples)
    np.testing.assert_array_equal(one.distances, other.distances)
    for stream in (one, other):
        stream.mine(describing(3), 1)
    np.testing.assert_array_equal(one.tuples, other.tuples)
    with pytest.raises(ValueError, match="no negatives are mined yet"):
        make_stream(folder).state()


def test_augmentation_is_drawn_from_seed_epoch_and_tuple(folder):
    plain, one, other = (make_stream(folder, augment=change) for change in (None, Augmentation(0.3), Augmentation(0.3)))
    for stream in (plain, one, other):
        stream.mine(describing(), 4)
    for (inputs, _), (ones, _), (others, _) in zip(
        steps_of(plain, start=5), steps_of(one, start=5), steps_of(other)[5:], strict=True
    ):
        np.testing.assert_array_equal(ones["photos"], others["photos"])
        for before, after in zip(photos_of_padded(inputs), photos_of_padded(ones), strict=True):
            assert (before != after).mean() > 0.5
    other.mine(describing(), 4)
    other.epoch = 5
    assert (steps_of(other)[0][0]["photos"] != steps_of(one)[0][0]["photos"]).any()


# --- fit ---------------------------------------------------------------------------------------------------------


class Rows:
    """Keeps what the callback adds to each epoch's logs, and the tuples that were trained on."""

    def __init__(self, stream):
        from keras.callbacks import LambdaCallback

        self.tuples = []
        self.callback = LambdaCallback(on_epoch_end=lambda epoch, logs: self.tuples.append(stream.tuples))


@pytest.mark.parametrize("form", ["padded", "exact", "refreshed"])
def test_fit_trains_on_it_and_mines_each_epoch(folder, form):
    import keras

    from keras_retrieval import losses
    from pipelines.training.chunked_model import ChunkedTupleModel

    small = network()
    stream = make_stream(folder, padded=form != "exact", queries=60, refresh=2 if form == "refreshed" else 0)
    model = ChunkedTupleModel(small, keep_descriptors=True)
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss=losses.ContrastiveLoss(margin=0.7))
    seen, before = Rows(stream), small.get_weights()
    computed = model.last_step if form == "refreshed" else None
    callbacks = [mining_callback(stream, describer(small), computed), seen.callback]
    history = model.fit(stream.dataset(), epochs=2, verbose=0, callbacks=callbacks).history
    assert any((one != other).any() for one, other in zip(before, small.get_weights(), strict=True))
    assert np.isfinite(history["loss"]).all()
    assert all(0 < share <= 1 for share in history["mining_share"])
    assert history["negative_distance"][1] == pytest.approx(stream.distances.mean())
    assert (seen.tuples[0][:, :2] != seen.tuples[1][:, :2]).any()
    assert (stream.epoch, stream.fresh) == (1, False)


def test_an_epoch_mined_by_hand_is_not_mined_again(folder):
    stream, counted = make_stream(folder), []

    def counting(images):
        counted.append(len(images))
        return describing()(images)

    callback = mining_callback(stream, counting)
    stream.mine(describing(), 0)
    callback.on_epoch_begin(0)
    assert not counted
    callback.on_epoch_end(0, {})
    callback.on_epoch_begin(0)
    assert counted

"""An epoch: drawing, mining and refreshing, against plain loops over the same photos."""

from dataclasses import replace

import numpy as np
import pytest

from keras_retrieval.errors import ArgumentError
from keras_retrieval.mining.hard_negatives import MiningError
from pipelines.descriptors.describer import NO_DESCRIPTOR, describer
from pipelines.photos.reader import read_photo
from pipelines.training.errors import TrainingError
from pipelines.training.tuple_reader import STEPS_ALREADY_READ, PhotoOptions
from pipelines.training_tuples.data import TuplesError, objects
from tests.helpers.small import network
from tests.helpers.small_epochs import (
    CLUSTERS,
    SIDE,
    VIEWS,
    describing,
    make_draw,
    make_tuples,
    steps_of,
    stream_of,
)


def test_draws_come_from_seed_and_epoch_alone(folder):
    one, other = make_draw(folder, pool=12), make_draw(folder, pool=12)
    other.drawn(0)
    other.mine(describing(), 1)
    for epoch in (0, 3, 7):
        for here, there in zip(one.drawn(epoch), other.drawn(epoch), strict=True):
            np.testing.assert_array_equal(here, there)
    pairs = {make_draw(folder, seed=seed).drawn(epoch)[0].tobytes() for seed in (0, 1) for epoch in (0, 1)}
    assert len(pairs) == 4


def test_training_draws_random_pairs_and_photos_of_its_own(folder):
    tuples = make_tuples()
    draw = make_draw(folder, tuples, pool=24)
    draw.mine(describing(), 0)
    drawn = {tuple(pair) for pair in draw.tuples[:, :2].tolist()}
    assert len(drawn) == draw.count == 40
    assert drawn <= set(zip(tuples.qidxs.tolist(), tuples.pidxs.tolist(), strict=True))
    assert not tuples.validation[draw.tuples].any()
    pool = draw.drawn(0)[1]
    assert len(set(pool.tolist())) == 24
    assert np.isin(draw.tuples[:, 2:], pool).all()


def test_validation_takes_all_pairs_in_order_and_the_same_ones_each_epoch(folder):
    tuples = make_tuples(validation=np.repeat(np.arange(CLUSTERS), VIEWS) >= 4)
    draw = make_draw(folder, tuples, validation=True, queries=7, batch=7)
    first, found = draw.mine(describing(), 0), []
    found.append(draw.tuples)
    assert draw.mine(describing(), 5).distance == first.distance
    np.testing.assert_array_equal(draw.tuples, found[0])
    aside = tuples.validation[tuples.qidxs]
    np.testing.assert_array_equal(draw.tuples[:, 0], tuples.qidxs[aside])
    np.testing.assert_array_equal(draw.tuples[:, 1], tuples.pidxs[aside])
    stream = stream_of(draw)
    sizes = [len(objects) for _, objects in steps_of(stream)]
    assert sizes == [7] * 8 + [4]
    assert draw.steps == stream.steps == len(stream.dataset()) == 9


def test_training_takes_whole_steps(folder):
    assert (make_draw(folder, queries=23).count, make_draw(folder, queries=23).steps) == (20, 4)
    few = make_draw(folder, queries=3)
    assert (few.count, few.batch, few.steps) == (3, 3, 1)
    assert make_draw(folder, queries=5000).count == 7 * VIEWS * (VIEWS - 1) // 5 * 5


def test_a_pool_without_enough_clusters_is_drawn_larger(folder):
    draw = make_draw(folder, pool=2, negatives=4)
    for epoch in range(5):
        draw.mine(describing(), epoch)
        assert 4 <= len(draw.drawn(epoch)[1]) <= 28


def test_too_few_clusters_are_told_before_anything_is_read(tmp_path):
    with pytest.raises(MiningError):
        make_draw(tmp_path, negatives=6)  # seven clusters to train on, one of them linked to two
    with pytest.raises(MiningError):
        make_draw(tmp_path, validation=True)


def test_what_cannot_be_is_refused(folder):
    with pytest.raises(TuplesError, match="no pair is set aside for validation"):
        make_draw(folder, make_tuples(validation=None), validation=True)
    with pytest.raises(TuplesError, match="no pair is left to train on"):
        make_draw(folder, make_tuples(validation=np.ones(CLUSTERS * VIEWS, bool)))
    for name, least in {"negatives": 1, "batch": 1, "refresh": 0, "queries": 1, "sample": 0, "pool": 1}.items():
        with pytest.raises(ArgumentError, match=f"^{name} must be at least {least}, got {least - 1}$"):
            make_draw(folder, **{name: least - 1})
    with pytest.raises(ArgumentError, match="positive must be one of drawn, nearest, farthest, got best"):
        make_draw(folder, positive="best")
    with pytest.raises(ArgumentError, match="side must be at least 1, got 0"):
        PhotoOptions(side=0)


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
    draw = make_draw(folder, tuples, pool=20)
    mined = draw.mine(describe, 2)
    pairs, pool = draw.drawn(2)
    np.testing.assert_array_equal(draw.tuples[:, :2], pairs[:40])
    for place, found in enumerate(draw.tuples.tolist()):
        negatives, distances = naive_negatives(tuples, describe, folder, found[0], pool.tolist(), 3)
        assert found[2:] == negatives
        np.testing.assert_allclose(draw.distances[place], distances, atol=1e-3)
    assert mined.distance == pytest.approx(draw.distances.mean())
    assert mined.described == len(set(pool.tolist()) | set(pairs[:40, 0].tolist()))
    assert (mined.replaced, mined.left_out) == (0, {})


def test_other_weights_find_other_negatives(folder):
    small = network()
    draw, describe = make_draw(folder), describer(small)
    draw.mine(describe, 0)
    before = draw.tuples
    draw.mine(describe, 0)
    np.testing.assert_array_equal(draw.tuples, before)
    rng = np.random.default_rng(0)
    small.set_weights([weight + rng.normal(0, 0.3, weight.shape) for weight in small.get_weights()])
    draw.mine(describe, 0)
    np.testing.assert_array_equal(draw.tuples[:, :2], before[:, :2])
    assert (draw.tuples[:, 2:] != before[:, 2:]).any()


def test_how_negatives_are_picked_is_an_argument(folder):
    def farthest(queries, query_clusters, pool, pool_clusters, negatives, *, same_object, candidates):
        scores = queries @ pool.T
        indexes = np.argsort(scores + 9 * (query_clusters[:, None] == pool_clusters), axis=1)[:, :negatives]
        return indexes, np.sqrt(2 - 2 * np.take_along_axis(scores, indexes, 1))

    near, far = make_draw(folder), make_draw(folder, choose_negatives=farthest)
    assert far.mine(describing(), 0).distance > near.mine(describing(), 0).distance + 0.1


def test_a_large_pool_is_searched_by_scann(folder):
    pytest.importorskip("scann")
    exact, approximate = make_draw(folder), make_draw(folder, approximate_above=20)
    exact.mine(describing(), 0)
    mined = approximate.mine(describing(), 0)
    same = exact.tuples[:, 2:] == approximate.tuples[:, 2:]
    assert same.mean() > 0.8
    cluster = make_tuples().cluster[approximate.tuples]
    assert all(len(set(row)) == 4 for row in cluster[:, 1:].tolist())
    assert mined.distance == pytest.approx(exact.distances.mean(), rel=0.05)


def rows_of(tuples, describe, folder):
    return np.concatenate([describe(read_photo(folder / name, size=SIDE)[None]) for name in tuples.images])


@pytest.mark.parametrize(("which", "best"), [("nearest", np.argmax), ("farthest", np.argmin)])
def test_the_nearest_or_farthest_of_all_its_positives_goes_with_each_query(folder, which, best):
    tuples, describe = make_tuples(), describing()
    rows = rows_of(tuples, describe, folder)
    draw = make_draw(folder, tuples, positive=which, queries=100)
    draw.mine(describe, 0)
    assert len(set(draw.tuples[:, 0].tolist())) == draw.count == 28 // 5 * 5
    for query, positive in draw.tuples[:, :2].tolist():
        others = tuples.pidxs[tuples.qidxs == query]
        assert positive == others[best(rows[others] @ rows[query])]
    aside = make_draw(folder, tuples, positive=which, validation=True, negatives=1)
    assert aside.count == 2 * VIEWS


def test_a_refresh_takes_the_positive_that_is_nearest_now(folder):
    tuples = make_tuples()
    draw = make_draw(folder, tuples, positive="nearest", refresh=1, queries=25, batch=1)
    draw.mine(describing(0), 0)
    before = draw.tuples
    rows = np.arange(len(tuples.images))[None]
    draw.update(rows, rows_of(tuples, describing(1), folder)[None])
    draw.refresh(describing(1), 0)
    now = rows_of(tuples, describing(1), folder)
    query, positive = draw.tuples[1 + STEPS_ALREADY_READ, :2]
    others = tuples.pidxs[tuples.qidxs == query]
    assert positive == others[np.argmax(now[others] @ now[query])]
    np.testing.assert_array_equal(draw.tuples[: 1 + STEPS_ALREADY_READ], before[: 1 + STEPS_ALREADY_READ])


def test_a_sample_is_drawn_for_each_query(folder):
    tuples, describe = make_tuples(), describing()
    rows = rows_of(tuples, describe, folder)
    draw, whole = make_draw(folder, tuples, sample=12, negatives=2), make_draw(folder, tuples, negatives=2)
    draw.mine(describe, 3)
    whole.mine(describe, 3)
    assert draw.distances.mean() > whole.distances.mean() + 0.01
    drawn = np.random.default_rng([0, 3, 0]).integers(0, 28, (40, 12))
    barred = {0: {0, 1}, 1: {0, 1, 2}, 2: {1, 2}}
    for place, (query, _, *negatives) in enumerate(draw.tuples.tolist()):
        own = tuples.cluster[query]
        sampled = np.unique(draw.hard_negatives.pool[drawn[place]])
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
        draw = make_draw(folder, tuples, sample=8, pool=20, remember=remember, positive="nearest", batch=1)
        distances = []
        for epoch in range(12):
            draw.mine(describing(), epoch)
            distances.append(draw.distances[np.argsort(draw.tuples[:, 0])])
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
    draw = make_draw(folder, tuples)
    mined = draw.mine(describe, 0)
    for query, _, *negatives in draw.tuples.tolist():
        known = tuples.negatives[query][tuples.negatives[query] >= 0]
        assert negatives == sorted(known.tolist(), key=lambda row: -rows[row] @ rows[query])[:3]
    asked = draw.tuples[:, 0]
    assert mined.described == len(set(asked.tolist()) | set(tuples.negatives[asked].ravel().tolist()) - {-1})


def test_queries_whose_lists_are_too_short_are_not_asked(folder, odd):
    tuples = listed(4, validation=None, same_object=np.zeros((0, 2), int))
    assert not np.isin(make_draw(folder, tuples, queries=200).pairs[:, 0], np.arange(0, 36, 5)).any()
    aside = replace(tuples, validation=np.repeat(np.arange(CLUSTERS), VIEWS) >= 7)
    draw = make_draw(folder, aside, queries=200)
    draw.mine(describing(), 0)
    assert not aside.validation[draw.tuples].any()
    draw = make_draw(odd, tuples, queries=200, negatives=4)  # 3/0.png and 4/1.png are negatives of others
    mined = draw.mine(describing(), 0)
    assert mined.replaced > 0
    assert not np.isin(draw.tuples[:, [0, 2, 3, 4, 5]], [12, 17]).any()
    with pytest.raises(MiningError, match="no query of the tuples has 5 negatives in its list"):
        make_draw(folder, tuples, negatives=5)


def test_wide_descriptors_lie_in_a_file_in_half_precision(folder, monkeypatch):
    found = {}
    for wide in (4096, 8):
        monkeypatch.setattr("pipelines.training.photo_descriptors.WIDE", wide)
        draw = make_draw(folder, refresh=1, queries=80, sample=20)
        draw.mine(describing(0), 0)
        for step in range(6):
            draw.refresh(describing(step), step)
        found[wide] = draw
    assert found[8].descriptors.state()["values"].dtype == np.float16
    assert (found[8].tuples == found[4096].tuples).mean() > 0.98
    np.testing.assert_allclose(found[8].distances, found[4096].distances, atol=5e-3)


def test_objects_join_what_is_linked():
    found = objects(make_tuples())
    cluster = make_tuples().cluster
    assert len(set(found[cluster <= 2])) == 1
    assert len(set(found.tolist())) == CLUSTERS - 2


def test_pairs_are_repeated_where_too_few_can_be_read(odd):
    tuples = make_tuples()
    cluster, keep = tuples.cluster, np.isin(tuples.cluster[tuples.qidxs], [3, 5])
    tuples = replace(tuples, qidxs=tuples.qidxs[keep], pidxs=tuples.pidxs[keep])
    draw = make_draw(odd, tuples, queries=24, batch=4)
    mined = draw.mine(describing(), 0)
    assert (draw.count, mined.replaced) == (24, 6)
    assert len({tuple(pair) for pair in draw.tuples[:, :2].tolist()}) == 18
    only = tuples.qidxs == np.flatnonzero(cluster == 3)[0]
    draw = make_draw(odd, replace(tuples, qidxs=tuples.qidxs[only], pidxs=tuples.pidxs[only]))
    with pytest.raises(ValueError, match=r"none of the 3 pairs can be read; the first reason: 3/0\.png: empty file"):
        draw.mine(describing(), 0)


@pytest.mark.parametrize("value", [0, np.nan])
def test_a_network_that_diverged_is_named_and_not_the_photos(odd, value):
    def diverged(images):
        return np.full((len(images), 12), value, "float32")

    with pytest.raises(TrainingError, match=r"descriptors of \d+ photos are zero or not finite: .* lower --lr"):
        make_draw(odd).mine(diverged, 0)
    draw = make_draw(odd, refresh=1)
    draw.mine(describing(), 0)
    with pytest.raises(TrainingError, match="it has diverged: lower --lr"):
        draw.refresh(diverged, 0)


def test_a_step_whose_descriptors_are_not_finite_ends_the_training(folder):
    draw = make_draw(folder, refresh=1)
    draw.mine(describing(), 0)
    rows = draw.tuples[:2]
    descriptors = np.ones((*rows.shape, 12), "float32")
    draw.update(rows, descriptors)
    descriptors[1, 0, 3] = np.inf
    with pytest.raises(TrainingError, match="descriptors of 1 photos are zero or not finite"):
        draw.update(rows, descriptors)


def test_a_photo_without_a_descriptor_is_left_out(folder):
    """One dark photo says nothing of the network, nor do few clusters beside it."""

    def describe(images):
        rows = describing()(images)
        rows[0] = 0
        return rows

    draw = make_draw(folder, batch=1)
    draw.mine(describe, 0)
    assert set(draw.left_out.values()) == {NO_DESCRIPTOR}


def test_a_folder_that_has_gone_is_told(tmp_path):
    with pytest.raises(ValueError, match="there is no such file"):
        make_draw(tmp_path).mine(describing(), 0)


def test_a_refresh_changes_only_tuples_still_to_come(folder):
    draw = make_draw(folder, refresh=2, queries=80)
    draw.mine(describing(0), 0)
    before = draw.tuples
    assert not draw.refresh(describing(1), 0)
    np.testing.assert_array_equal(draw.tuples, before)
    assert draw.refresh(describing(1), 1)
    first = (2 + STEPS_ALREADY_READ) * 5
    changed = np.flatnonzero((draw.tuples != before).any(axis=1))
    assert len(changed)
    assert changed.min() >= first
    assert changed.max() < first + 2 * 5
    np.testing.assert_array_equal(draw.tuples[:, :2], before[:, :2])
    assert draw.refresh(describing(1), 15)
    np.testing.assert_array_equal(draw.tuples[:first], before[:first])


def test_an_epoch_of_refreshes_describes_all_photos_once(folder):
    draw = make_draw(folder, refresh=1, queries=80)
    described = draw.mine(describing(0), 0).described
    counted = []

    def counting(images):
        counted.append(len(images))
        return describing(1)(images)

    for step in range(draw.steps):
        draw.refresh(counting, step)
    refreshes = draw.steps - 1 - STEPS_ALREADY_READ
    assert sum(counted) == refreshes * -(-described // draw.steps)
    counted.clear()
    # All photos of so small a collection are known when the next epoch begins.
    assert draw.mine(counting, 1).described == sum(counted) == 0


def test_descriptors_of_a_step_refresh_their_photos(folder):
    draw = make_draw(folder, refresh=4, queries=80)
    draw.mine(describing(0), 0)
    query = draw.tuples[(4 + STEPS_ALREADY_READ) * 5, 0]
    away = next(row for row in draw.rows if draw.cluster[row] not in (0, 1, 2, draw.cluster[query]))
    same = np.where(np.arange(12) == 0, 1.0, 0.0)
    draw.update(np.array([[query, away, query]]), np.stack([same, same, same])[None])
    draw.refresh(describing(0), 3)
    changed = draw.tuples[(4 + STEPS_ALREADY_READ) * 5]
    assert changed[2] == away
    assert draw.distances[(4 + STEPS_ALREADY_READ) * 5, 0] < 1e-3


@pytest.mark.parametrize("wide", [4096, 8])
@pytest.mark.parametrize("options", [
    {}, {"refresh": 2}, {"refresh": 2, "sample": 8, "remember": True, "positive": "nearest", "batch": 1, "pool": 15},
], ids=str)  # fmt: skip
def test_a_restored_stream_goes_on_the_same(folder, monkeypatch, options, wide):
    monkeypatch.setattr("pipelines.training.photo_descriptors.WIDE", wide)
    one, other = (make_draw(folder, queries=80, **options) for _ in range(2))
    one.mine(describing(0), 0)
    for step in range(5):
        one.refresh(describing(1), step)
    state = {name: array.copy() for name, array in one.state().items()}
    assert all(array.dtype != object for array in state.values())
    other.restore(state)
    for draw in (one, other):
        for step in range(5, 16):
            draw.refresh(describing(2), step)
    np.testing.assert_array_equal(one.tuples, other.tuples)
    np.testing.assert_array_equal(one.distances, other.distances)
    for draw in (one, other):
        draw.mine(describing(3), 1)
    np.testing.assert_array_equal(one.tuples, other.tuples)
    with pytest.raises(ValueError, match="no negatives are mined yet"):
        make_draw(folder).state()

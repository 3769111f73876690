"""Metrics against naive loops over the ranking, examples computed by hand and values of the reference code."""

import time

import numpy as np
import pytest

from keras_retrieval import metrics

DATABASE, QUERIES = 60, 9
PROTOCOLS = ("easy", "medium", "hard")


def draw(seed, sizes=(6, 5, 4)):
    """Random ranks and disjoint easy, hard and junk sets, some of them empty."""
    rng = np.random.default_rng(seed)
    ranks = np.stack([rng.permutation(DATABASE) for _ in range(QUERIES)], axis=1)
    sets = []
    for _ in range(QUERIES):
        counts = [rng.integers(0, size + 1) for size in sizes]
        parts = np.split(rng.permutation(DATABASE), np.cumsum(counts))
        sets.append(parts[: len(sizes)])
    return ranks, *[[one[part] for one in sets] for part in range(len(sizes))]


def naive_list(column, junk):
    return [image for image in column.tolist() if image not in set(junk.tolist())]


def naive_ap(column, positives, junk):
    """The Oxford Buildings rule, one image at a time."""
    wanted = set(positives.tolist())
    if not wanted:
        return np.nan
    area, found, old_precision, old_recall = 0.0, 0, 1.0, 0.0
    for row, image in enumerate(naive_list(column, junk), start=1):
        found += image in wanted
        recall, precision = found / len(wanted), found / row
        area += (recall - old_recall) * (old_precision + precision) / 2
        old_precision, old_recall = precision, recall
    return area


def naive_precision(column, positives, junk, k):
    wanted = set(positives.tolist())
    if not wanted:
        return np.nan
    kept = naive_list(column, junk)
    last = max((row for row, image in enumerate(kept, start=1) if image in wanted), default=k)
    depth = min(k, last) if wanted <= set(kept) else k
    return sum(image in wanted for image in kept[:depth]) / depth


@pytest.mark.parametrize(("positions", "positives", "expected"), [
    ([1, 3], 2, 1 / 3),
    ([0, 4], 4, 0.33125),
    ([0, 1, 2], 3, 1.0),
    ([], 3, 0.0),
])  # fmt: skip
def test_average_precision_of_worked_examples(positions, positives, expected):
    assert metrics.average_precision(np.array(positions, int), positives) == pytest.approx(expected, abs=1e-12)


def test_no_positive_has_no_precision():
    assert np.isnan(metrics.average_precision(np.array([], int), 0))
    assert np.isnan(metrics.precision_at(np.array([], int), 0, 5))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("depth", [DATABASE, 20, 1])
def test_retrieval_equals_a_walk_over_the_ranking(seed, depth):
    ranks, positives, junk = draw(seed, (6, 8))
    scores = metrics.retrieval(ranks[:depth], positives, junk, ks=(1, 3, 10))
    columns = list(zip(ranks[:depth].T, positives, junk, strict=True))
    np.testing.assert_allclose(scores.ap, [naive_ap(*one) for one in columns], atol=1e-12)
    expected = [[naive_precision(*one, k) for k in (1, 3, 10)] for one in columns]
    np.testing.assert_allclose(scores.precision, expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_revisited_is_three_retrievals_with_other_junk(seed):
    ranks, easy, hard, junk = draw(seed)
    scores = metrics.revisited(ranks, easy, hard, junk)

    def join(*sets):
        return [np.concatenate(parts) for parts in zip(*sets, strict=True)]

    expected = {
        "easy": metrics.retrieval(ranks, easy, join(junk, hard)),
        "medium": metrics.retrieval(ranks, join(easy, hard), junk),
        "hard": metrics.retrieval(ranks, hard, join(junk, easy)),
    }
    assert tuple(scores) == PROTOCOLS
    for name in PROTOCOLS:
        np.testing.assert_array_equal(scores[name].ap, expected[name].ap)
        np.testing.assert_array_equal(scores[name].precision, expected[name].precision)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_revisited_equals_the_reference(shared, protocol):
    with np.load(shared / "goldens" / "reference_layers.npz") as golden:
        ranks = golden["eval_ranks"]
        sets = [[golden[f"eval_q{q}_{kind}"] for q in range(ranks.shape[1])] for kind in ("easy", "hard", "junk")]
        scores = metrics.revisited(ranks, *sets)[protocol]
        np.testing.assert_allclose(scores.ap, golden[f"eval_{protocol}_aps"], rtol=0, atol=1e-9)
        assert scores.mean_ap == pytest.approx(float(golden[f"eval_{protocol}_map"]), abs=1e-9)
        mean_precision = list(scores.mean_precision.values())
        np.testing.assert_allclose(mean_precision, golden[f"eval_{protocol}_mp_at_1_5_10"], rtol=0, atol=1e-9)


def test_means_leave_out_queries_without_positives():
    ranks = np.array([[0, 0], [1, 1]])
    scores = metrics.retrieval(ranks, [np.array([0]), np.array([], int)])
    assert scores.mean_ap == 1.0
    assert scores.mean_precision == {1: 1.0, 5: 1.0, 10: 1.0}
    assert np.isnan(metrics.retrieval(ranks, [np.array([], int)] * 2).mean_ap)


def test_a_positive_that_is_junk_too_stays_a_positive():
    ranks = np.array([[2], [0], [1]])
    scores = metrics.retrieval(ranks, [np.array([0, 1])], [np.array([0, 2])])
    assert scores.mean_ap == 1.0


def test_positions_count_past_the_database_that_was_labelled():
    """Distractors are appended: their indexes are above all labelled ones."""
    ranks = np.array([[900], [3], [901], [1]])
    (positions,) = metrics.positive_positions(ranks, [np.array([1, 3])])
    assert positions.tolist() == [1, 3]


def test_recall_keeps_queries_without_positives_in_the_denominator():
    ranks = np.array([[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2]])
    hits = metrics.first_hits(ranks, [np.array(p, int) for p in ([0], [2, 1], [7], [])])
    assert hits.tolist() == [0, 1, np.inf, np.inf]
    assert metrics.recall_at(hits, (1, 2, 3)) == {1: 0.25, 2: 0.5, 3: 0.5}
    assert np.isnan(metrics.recall_at(np.array([]), (1,))[1])


@pytest.mark.parametrize("seed", range(5))
def test_cut_outs_of_a_panorama_count_once(seed):
    rng = np.random.default_rng(seed)
    ranks, positives = draw(seed, (4,))
    panoramas = rng.integers(0, 12, DATABASE)
    expected = []
    for column, wanted in zip(ranks.T, positives, strict=True):
        kept: list[int] = []
        for image in column.tolist():
            if all(panoramas[image] != panoramas[other] for other in kept):
                kept.append(image)
        expected.append(min((kept.index(i) for i in wanted.tolist() if i in kept), default=np.inf))
    np.testing.assert_array_equal(metrics.first_hits(ranks, positives, panoramas), expected)


def test_ns_score_counts_the_object_in_the_first_four():
    ranks = np.array([[0, 7], [1, 6], [4, 5], [2, 4], [3, 0]])
    scores = metrics.ns_scores(ranks, [np.arange(4), np.arange(4, 8)])
    assert scores.tolist() == [3, 4]


@pytest.mark.parametrize("seed", range(3))
def test_precision_recall_equals_a_walk_over_the_ranking(seed):
    ranks, positives = draw(seed, (6,))
    levels = np.linspace(0, 1, 11)
    curves = []
    for column, wanted in zip(ranks.T, positives, strict=True):
        hits = np.cumsum(np.isin(column, wanted))
        precision, found = hits / np.arange(1, DATABASE + 1), hits
        if len(wanted):
            curves.append([precision[found >= level * len(wanted) - 1e-9].max() for level in levels])
    positions = metrics.positive_positions(ranks, positives)
    counts = [len(wanted) for wanted in positives]
    np.testing.assert_allclose(metrics.precision_recall(positions, counts, levels), np.mean(curves, axis=0))


def test_precision_recall_falls_to_zero_where_the_ranking_ends():
    curve = metrics.precision_recall([np.array([0])], [2], np.array([0.0, 0.5, 0.6, 1.0]))
    assert curve.tolist() == [1.0, 1.0, 0.0, 0.0]
    assert np.isnan(metrics.precision_recall([np.array([], int)], [0], np.array([0.0]))).all()


@pytest.mark.parametrize(("ranks", "positives", "message"), [
    (np.zeros((3, 2)), [[0], [0]], "integers"),
    (np.zeros(3, int), [[0]], "depth, queries"),
    (np.zeros((3, 2), int), [[0]], "2 queries"),
    (np.array([[-1], [0]]), [[0]], "at least 0"),
    (np.array([[0], [1]]), [[-2]], "at least 0"),
    (np.array([[5], [5]]), [[5]], "ranks of query 0 contain an image twice"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(ranks, positives, message):
    with pytest.raises(ValueError, match=message):
        metrics.retrieval(ranks, [np.array(p) for p in positives])


def test_panoramas_must_cover_the_ranking():
    with pytest.raises(ValueError, match="panoramas has 2 entries, but"):
        metrics.first_hits(np.array([[2], [0]]), [np.array([0])], np.array([0, 1]))


def test_a_million_ranks_and_70_queries_take_about_a_second():
    """Measured 0.4 s on two cores; the bound leaves room for a busy machine."""
    size, queries = 1_000_000, 70
    rng = np.random.default_rng(0)
    base = rng.permutation(size).astype("int32")
    ranks = np.stack([np.roll(base, shift) for shift in rng.integers(0, size, queries)], axis=1)
    labels = rng.choice(size, (3, queries, 80), replace=False)
    started = time.process_time()
    scores = metrics.revisited(ranks, *labels)
    assert time.process_time() - started < 3
    assert np.isfinite(scores["medium"].ap).all()

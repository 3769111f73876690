"""Likely matches: weights equal a loop, and with them no query-time method harms objects of few images."""

import numpy as np
import pytest

from keras_retrieval import metrics
from keras_retrieval.errors import ArgumentError
from keras_retrieval.ranking.likely_matches import LikelyMatches
from keras_retrieval.ranking.methods import METHODS, Ranker, parse
from keras_retrieval.ranking.nearest import nearest_others
from keras_retrieval.ranking.rows import l2_normalize

RNG = np.random.default_rng(0)


def collection(objects, images, noise, unrelated=0, dimensions=24):
    """(N, D) descriptors, (N,) objects; each unrelated image is an object of its own. All share a common direction."""
    labels = np.concatenate([np.repeat(np.arange(objects), images), objects + np.arange(unrelated)])
    centres = RNG.normal(size=(labels.max() + 1, dimensions)) + 1.5
    rows = centres[labels] + noise * RNG.normal(size=(len(labels), dimensions))
    return l2_normalize(rows).astype("float32"), labels


def loop(rows, x, x_scores, y):
    """The weight of the pair of x, with the descending similarities x_scores to others, and the row y."""
    k = min(20, max(1, len(rows) // 40))
    others = np.sort(np.delete(rows @ rows[y], y))[::-1]
    c = (1 - x_scores[k - 1]) + (1 - others[k - 1])
    nearness = 1 - 2 * (1 - x @ rows[y]) / c
    return min(max((nearness - 0.2) / 0.2, 0), 1)


@pytest.mark.parametrize("size", [400, 240])
def test_weights_equal_a_loop(size):
    rows, _ = collection(size // 4, 4, 0.8)
    likely = LikelyMatches([rows[:20], rows[20:]])
    indexes, _ = nearest_others(rows, 10)
    weights = likely.of_rows(np.arange(len(rows)), indexes)
    expected = [
        [loop(rows, rows[x], np.sort(np.delete(rows @ rows[x], x))[::-1], y) for y in line]
        for x, line in enumerate(indexes)
    ]
    np.testing.assert_allclose(weights, expected, atol=1e-4)
    assert 0.1 < np.mean(weights > 0) < 0.9
    learned = LikelyMatches(rows)
    learned.learn(rows, nearest_others(rows, 25)[1])
    np.testing.assert_allclose(learned.of_rows(np.arange(len(rows)), indexes), weights, atol=1e-4)
    some = np.array([3, 0, 1, 17])
    among = likely.among(some)
    for i, x in enumerate(some):
        for j, y in enumerate(some):
            pair = likely.of_rows(np.array([x]), np.array([[y]]))[0, 0] if i != j else 0
            np.testing.assert_allclose(among[i, j], pair, atol=1e-4)
    queries = l2_normalize(rows[:5] + 0.1 * RNG.normal(size=(5, 24))).astype("float32")
    found = likely.of_queries(queries, indexes[:5])
    expected = [
        [loop(rows, q, np.sort(rows @ q)[::-1], y) for y in line] for q, line in zip(queries, indexes, strict=False)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    # A query that is a row has the scale of that row.
    np.testing.assert_allclose(likely.of_queries(rows[:5], indexes[:5]), weights[:5], atol=1e-4)


# Objects, images of each, noise, unrelated images, dimensions.
SETS = {
    "one match for a query": (40, 2, 1.3, 160, 128),
    "three matches for a query": (40, 4, 1.3, 0, 128),
    "no matches": (1, 2, 1.3, 150, 128),
    "few images": (5, 3, 1.3, 0, 128),
    "few images that are much alike": (25, 3, 2.2, 0, 24),
    "many matches for a query": (3, 25, 0.9, 725, 24),
}


def score(rows, labels, text):
    """mAP over all images of which there is another, each searched among the others."""
    same = [np.setdiff1d(np.flatnonzero(labels == label), [query]) for query, label in enumerate(labels)]
    asked = [query for query, matches in enumerate(same) if len(matches)]
    ranks, _ = Ranker(rows, parse(text)).rank(rows[asked], len(rows))
    own = [np.array([query]) for query in asked]
    return 100 * np.mean(metrics.retrieval(ranks.T, [same[query] for query in asked], own).ap)


@pytest.mark.parametrize("kind", SETS)
def test_no_method_does_harm(kind):
    rows, labels = collection(*SETS[kind])
    plain = score(rows, labels, "")
    gains = {text: score(rows, labels, text) - plain for text in ["auto", *METHODS, "diffusion:50", "dba,alphaqe"]}
    assert min(gains.values()) >= -0.5, gains
    if kind == "many matches for a query":
        assert gains["auto"] > 3
    if kind == "one match for a query":
        # As published they do harm, which is why likely matches are the default.
        assert score(rows, labels, "alphaqe:50") < plain - 20


def leading(plain, likely):
    """The rows of a ranking by similarity, without the query, up to the end of its first likely matches, or three."""
    begin = int(np.argmax(likely))
    return plain[: begin + int(np.argmin(np.append(likely[begin:], False))) if likely.any() else 3]


@pytest.mark.parametrize("text", ["auto", *METHODS, "dba,alphaqe", "rankdba,superglobal", "alphaqe,alphaqe"])
@pytest.mark.parametrize("k", [7, 250])
def test_a_ranking_begins_as_that_by_similarity_up_to_its_likely_matches(text, k):
    rows, _ = collection(50, 5, 1.5, dimensions=32)
    likely = LikelyMatches(rows)
    plain = np.argsort(-(rows @ rows.T), axis=1, kind="stable")[:, 1:]
    weights = likely.of_rows(np.arange(len(rows)), plain[:, :49])
    indexes, scores = Ranker(rows, parse(text)).rank(rows, k)
    lengths, changed = [], 0
    for row, ranking in enumerate(indexes):
        head = np.append(row, leading(plain[row], weights[row] > 0))[:k]
        np.testing.assert_array_equal(ranking[: len(head)], head)
        assert len(set(ranking)) == min(k, len(rows))
        lengths.append(len(head))
        changed += bool((ranking[1:] != plain[row, : k - 1]).any())
    assert (np.diff(scores, axis=1) <= 1e-6).all() or text in ("superglobal", "rankdba,superglobal")
    assert {2, 3, 4} <= set(lengths)
    assert changed > 10


def test_numbers_of_neighbours_give_the_published_ranking():
    rows, _ = collection(50, 5, 1.5, dimensions=32)
    for text in ("dba:10,diffusion", "dba,alphaqe:10"):  # a part of the methods is as published
        ranks, _ = Ranker(rows, parse(text)).rank(rows, 20)
        ranker = Ranker(rows, parse(text))
        ranker._with_leading_matches = None
        np.testing.assert_array_equal(ranker.rank(rows, 20)[0], ranks)


def test_a_match_that_similarity_ranks_first_stays_first():
    rows, labels = collection(60, 2, 1.3, 120, 48)
    plain, _ = Ranker(rows).rank(rows[:120], len(rows))
    right = labels[plain[:, 1]] == labels[:120]
    for text in ["auto", *METHODS, "dba,alphaqe", "rankdba,diffusion"]:
        ranks, _ = Ranker(rows, parse(text)).rank(rows[:120], len(rows))
        lost = right & (labels[ranks[:, 1]] != labels[:120])
        assert not lost.any(), text
    assert 20 < right.sum() < 115


@pytest.mark.parametrize("text", ["auto", *METHODS])
def test_small_and_odd_databases(text):
    rows, _ = collection(3, 4, 0.7)
    for database in (rows[:1], rows[:2], rows[:6], np.repeat(rows[:1], 30, 0), np.zeros((30, 24), "float32")):
        indexes, scores = Ranker(database, parse(text)).rank(rows, 40)
        assert (np.sort(indexes, axis=1) == np.arange(len(database))).all()
        assert np.isfinite(scores).all()
    assert Ranker(rows, parse(text)).rank(rows[:0], 5)[0].shape == (0, 5)


@pytest.mark.parametrize("text", ["auto", "dba", "dba,diffusion"])
def test_rows_are_compared_once(text, monkeypatch):
    rows, _ = collection(20, 4, 0.7)
    monkeypatch.setattr("keras_retrieval.ranking.likely_matches.nearest", None)
    assert not len(Ranker(rows, parse(text))._likely.missing(np.arange(len(rows))))


def test_queries_are_compared_once(monkeypatch):
    rows, _ = collection(20, 4, 0.7)
    ranker = Ranker(rows, parse("alphaqe"))
    expected = ranker.rank(rows[:5], 80)
    monkeypatch.setattr("keras_retrieval.ranking.likely_matches.nearest", None)
    for mine, other in zip(ranker.rank(rows[:5], 80), expected, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_what_was_learned_must_be_of_all_rows():
    rows, _ = collection(3, 4, 0.7)
    with pytest.raises(ArgumentError, match="similarities must have 12 lines, got 11"):
        LikelyMatches(rows).learn(rows, np.zeros((11, 30), "float32"))

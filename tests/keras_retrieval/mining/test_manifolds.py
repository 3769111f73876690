"""Mining on manifolds: photos along one curve match, those of a neighbouring curve do not."""

import numpy as np
import pytest

from keras_retrieval.mining.manifolds import local_maxima, mine_manifolds, without_mean
from keras_retrieval.ranking.diffusion import Graph, diffusion, mutual_graph
from keras_retrieval.ranking.nearest import nearest

pytestmark = pytest.mark.backend  # numpy only, on every backend


def curves(count=3, length=40, seed=0):
    """Rows on circles of latitude, neighbours on a circle nearer than the next circle; and the circle of each row."""
    rng = np.random.default_rng(seed)
    turn = np.linspace(0, 2 * np.pi, length, endpoint=False) + rng.normal(0, 0.01, (count, length))
    height = np.linspace(-0.5, 0.5, count)[:, None] + rng.normal(0, 0.005, (count, length))
    wide = np.sqrt(1 - height**2)
    rows = np.stack([wide * np.cos(turn), wide * np.sin(turn), height], axis=2).reshape(-1, 3)
    return rows.astype("float32"), np.repeat(np.arange(count), length)


def test_positives_lie_along_the_curve_and_negatives_beside_it():
    rows, curve = curves()
    graph = mutual_graph(rows, 4)
    anchors = local_maxima(graph)
    positives, negatives = mine_manifolds(rows, graph, anchors, 14, 30)
    assert len(anchors) > 5
    assert (positives >= 0).any(axis=1).all()
    for found, same in ((positives, True), (negatives, False)):
        place, rank = np.nonzero(found >= 0)
        agree = curve[anchors[place]] == curve[found[place, rank]]
        assert (agree == same).mean() > 0.98
    assert np.isin(np.arange(3), curve[anchors]).all()


@pytest.mark.parametrize("at_once", [1024, 3])
def test_they_are_the_differences_of_the_two_rankings(monkeypatch, at_once):
    monkeypatch.setattr("keras_retrieval.mining.manifolds._BATCH", at_once)
    rng = np.random.default_rng(1)
    rows = without_mean(rng.random((90, 8), "float32") + np.repeat(np.eye(9, 8), 10, axis=0).astype("float32"))
    graph = mutual_graph(rows, 6)
    anchors = np.unique(graph.rows)
    positives, negatives = mine_manifolds(rows, graph, anchors, 7, 12)
    assert (positives.shape, negatives.shape) == ((len(anchors), 7), (len(anchors), 12))
    near = nearest(rows, rows, 90)[0].tolist()
    for place, anchor in enumerate(anchors.tolist()):
        along, scores = diffusion(rows[anchor : anchor + 1], rows, 90, graph=graph, seeds=1)
        reached = along[scores > 0].tolist()
        for found, k, ranked, others in ((positives, 7, reached, near[anchor]), (negatives, 12, near[anchor], reached)):
            wanted = [row for row in ranked[: k + 1] if row not in others[: k + 1] and row != anchor]
            np.testing.assert_array_equal(found[place], [*wanted, *[-1] * (k - len(wanted))])


def test_anchors_are_visited_more_often_than_their_neighbours():
    rng = np.random.default_rng(2)
    weights = np.triu(rng.integers(1, 4, (30, 30)) * (rng.random((30, 30)) < 0.1), 1)
    weights = weights + weights.T
    weights[:, 7] = weights[7] = 0
    one, other = np.nonzero(weights)
    graph = Graph(30, one, other, weights[one, other].astype("float64"))
    degrees = weights.sum(axis=0)
    wanted = [
        node
        for node in range(30)
        if degrees[node] and all((-degrees[node], node) < (-degrees[n], n) for n in np.flatnonzero(weights[node]))
    ]
    assert local_maxima(graph).tolist() == wanted
    assert len(wanted) > 2
    walk = weights / np.maximum(degrees, 1)  # transition probabilities from columns to rows
    np.testing.assert_allclose(walk @ degrees, degrees)  # the stationary distribution


def test_the_mean_is_taken_away_from_shards_as_from_one_array():
    rng = np.random.default_rng(3)
    rows = rng.random((50, 6), "float32")
    one = without_mean(rows)
    centred = rows - rows.mean(axis=0)
    np.testing.assert_allclose(one, centred / np.linalg.norm(centred, axis=1, keepdims=True), atol=1e-5)
    np.testing.assert_array_equal(without_mean([rows[:20], rows[20:]]), one)


def test_what_cannot_be_mined_is_told():
    rows, _ = curves(1, 8)
    graph = mutual_graph(rows, 2)
    with pytest.raises(ValueError, match=r"^alike must be at least 1, got 0"):
        mine_manifolds(rows, graph, local_maxima(graph), 0, 5)
    with pytest.raises(ValueError, match="no rows to mine"):
        without_mean(np.zeros((0, 4), "float32"))
    positives, negatives = mine_manifolds(rows, graph, np.zeros(0, int), 3, 5)
    assert (positives.shape, negatives.shape) == ((0, 3), (0, 5))

"""Negatives equal those of a simple loop over each query's full ranking, for any clusters, chunks and ties."""

import tracemalloc

import numpy as np
import pytest

from keras_retrieval.mining import nearest_clusters as exact
from keras_retrieval.mining.hard_negatives import (
    MiningError,
    first_of_each_cluster,
    mine_negatives,
    rank_candidates,
    require_clusters,
)
from keras_retrieval.ranking.rows import PickedRows, l2_normalize

pytestmark = pytest.mark.backend  # numpy only, on every backend


def unit(rng, *shape):
    return l2_normalize(rng.standard_normal(shape, "float32"))


def tied(rng, *shape):
    """Rows with few distinct values: their products are exact in float32 and often equal."""
    return rng.integers(-1, 2, shape).astype("float32")


def walk(ranking, own, pool_clusters, negatives, links):
    """Walks down the ranking of one query, as the published code does, and applies links."""
    taken = {int(own)} | {b for a, b in links if a == own} | {a for a, b in links if b == own}
    chosen = []
    for photo in ranking:
        if len(chosen) < negatives and photo >= 0 and int(pool_clusters[photo]) not in taken:
            chosen.append(int(photo))
            taken.add(int(pool_clusters[photo]))
    return chosen + [-1] * (negatives - len(chosen))


def naive(queries, query_clusters, pool, pool_clusters, negatives, links=()):
    scores = queries.astype("float64") @ pool.T.astype("float64")
    rankings = np.argsort(-scores, axis=1, kind="stable")
    chosen = [
        walk(ranking, own, pool_clusters, negatives, links)
        for ranking, own in zip(rankings, query_clusters, strict=True)
    ]
    return np.array(chosen), np.sqrt(np.maximum(2 - 2 * np.take_along_axis(scores, np.array(chosen), 1), 0))


POOLS = {  # queries, photos, clusters, links, negatives
    "some clusters": (23, 200, 20, 4, 5),
    "few big clusters": (40, 300, 6, 0, 5),
    "every photo a cluster": (15, 120, 120, 30, 5),
    "many links": (20, 150, 40, 60, 3),
    "one query, one negative": (1, 30, 2, 0, 1),
    "hardly more photos than negatives": (6, 9, 9, 1, 5),
}


def drawn(seed, queries, photos, clusters, links, rows=unit, integers="int64"):
    """Queries, some of them in the pool, with every cluster in the pool at least once, numbered with gaps."""
    rng = np.random.default_rng(seed)
    numbers = rng.permutation(10 * clusters)[:clusters] - clusters
    pool_clusters = rng.permutation(np.concatenate([numbers, rng.choice(numbers, photos - clusters)]))
    pool, own = rows(rng, photos, 8), rng.integers(0, photos, queries)
    some = rows(rng, queries, 8)
    some[::2] = pool[own[::2]]
    linked = rng.choice(np.append(numbers, 10**6), (links, 2))
    return some, pool_clusters[own].astype(integers), pool, pool_clusters.astype(integers), linked.astype(integers)


@pytest.mark.parametrize("rows", [unit, tied])
@pytest.mark.parametrize("pieces", [None, (7, 50), (64, 1000)], ids=["one piece", "pieces", "larger pieces"])
@pytest.mark.parametrize("shape", POOLS.values(), ids=POOLS)
def test_negatives_are_those_of_the_walk(monkeypatch, shape, pieces, rows):
    if pieces:
        monkeypatch.setattr(exact, "_ROWS", pieces[0])
        monkeypatch.setattr(exact, "_PRODUCTS", pieces[1])
        monkeypatch.setattr(exact, "_GROUP", 3)
    *sizes, negatives = shape
    solved = 0
    for seed in range(8):
        queries, query_clusters, pool, pool_clusters, links = drawn(seed, *sizes, rows=rows)
        arrays = queries, query_clusters, pool, pool_clusters, negatives
        wanted, apart = naive(*arrays, links=links.tolist())
        if (wanted < 0).any():
            with pytest.raises(MiningError, match="can take negatives from"):
                mine_negatives(*arrays, same_object=links)
            continue
        indexes, distances = mine_negatives(*arrays, same_object=links)
        np.testing.assert_array_equal(indexes, wanted)
        np.testing.assert_allclose(distances, apart, rtol=1e-5, atol=1e-6)
        assert (indexes.dtype, distances.dtype) == (np.int64, np.float32)
        solved += 1
    assert solved


@pytest.mark.parametrize("integers", ["int32", "int64", "uint8"])
def test_clusters_are_integers_of_any_width(integers):
    rng = np.random.default_rng(0)
    queries, pool = unit(rng, 10, 8), unit(rng, 60, 8)
    clusters, own = rng.integers(0, 12, 60).astype(integers), rng.integers(0, 12, 10).astype(integers)
    indexes, _ = mine_negatives(queries, own, pool, clusters, 5)
    np.testing.assert_array_equal(indexes, naive(queries, own, pool, clusters, 5)[0])


def test_a_pool_sorted_by_cluster_is_not_copied():
    rng = np.random.default_rng(0)
    pool, queries = unit(rng, 20_000, 256), unit(rng, 5, 256)
    clusters = np.sort(rng.integers(0, 700, len(pool)))
    in_place = peak(lambda: mine_negatives(queries, clusters[:5], pool, clusters, 5))
    copied = peak(lambda: mine_negatives(queries, clusters[:5], pool, clusters[::-1], 5))
    assert in_place < 0.1 * pool.nbytes
    assert in_place + 1024 * pool.itemsize * pool.shape[1] < copied < 0.25 * pool.nbytes


@pytest.mark.parametrize("clusters", [8_000, 300, 9], ids=str)
def test_the_products_are_never_held_at_once(clusters):
    rng = np.random.default_rng(0)
    queries, pool = unit(rng, 8_000, 4), unit(rng, 8_000, 4)
    numbers, own = np.arange(len(pool)) % clusters, rng.integers(0, clusters, len(queries))
    assert peak(lambda: mine_negatives(queries, own, pool, numbers, 5)) < 0.1 * len(queries) * len(pool) * 4


@pytest.mark.parametrize("clusters", [4_000, 300, 9], ids=str)
def test_a_network_that_collapsed_fits_as_well(monkeypatch, clusters):
    monkeypatch.setattr(exact, "_PRODUCTS", 2**15)
    queries, pool = np.zeros((2_000, 4), "float32"), np.zeros((4_000, 4), "float32")
    numbers, own = np.arange(len(pool)) % clusters, np.arange(len(queries)) % clusters
    assert peak(lambda: mine_negatives(queries, own, pool, numbers, 5)) < 0.3 * len(queries) * len(pool) * 4
    indexes, distances = mine_negatives(queries[:20], own[:20], pool, numbers, 5)
    np.testing.assert_array_equal(indexes, naive(queries[:20], own[:20], pool, numbers, 5)[0])
    np.testing.assert_allclose(distances, np.sqrt(2), rtol=1e-6)


@pytest.mark.parametrize("integers", ["int32", "int64"])
def test_candidates_are_walked_as_a_full_ranking_is(integers):
    rng = np.random.default_rng(1)
    pool_clusters, own = rng.integers(0, 15, 90).astype(integers), rng.integers(0, 18, 40).astype(integers)
    links = rng.integers(0, 15, (20, 2))
    candidates = np.argsort(rng.random((40, 90)), axis=1)[:, :12].astype(integers)
    candidates[rng.random(40) < 0.3, 4:] = -1
    chosen = first_of_each_cluster(candidates, own, pool_clusters, 5, same_object=links)
    wanted = [walk(row, mine, pool_clusters, 5, links.tolist()) for row, mine in zip(candidates, own, strict=True)]
    np.testing.assert_array_equal(chosen, wanted)
    assert ((chosen < 0).any(axis=1)).any()
    assert ((chosen >= 0).all(axis=1)).any()


def test_no_candidates_are_no_negatives():
    assert (first_of_each_cluster(np.empty((2, 0), np.int64), [1, 2], [1, 2, 3], 2) == -1).all()


@pytest.mark.parametrize("candidates", [1, 20, 256])
def test_the_nearest_photos_as_candidates_give_the_exact_negatives(candidates):
    """With few candidates some queries have too few clusters and are searched exactly."""
    rng = np.random.default_rng(2)
    queries, pool, own, clusters = unit(rng, 50, 8), unit(rng, 400, 8), np.arange(50) % 30, np.arange(400) % 30
    nearest = np.argsort(-queries @ pool.T, axis=1, kind="stable")[:, :candidates].astype("int32")
    links = np.array([[0, 1], [4, 5], [5, 6]])
    arrays = queries, own, pool, clusters, 5
    indexes, distances = mine_negatives(*arrays, same_object=links, candidates=nearest)
    exactly = mine_negatives(*arrays, same_object=links)
    np.testing.assert_array_equal(indexes, exactly[0])
    np.testing.assert_allclose(distances, exactly[1], rtol=1e-5)
    runs_out = (first_of_each_cluster(nearest, *arrays[1:4:2], 5, same_object=links)[:, -1] < 0).any()
    assert runs_out == (candidates == 1)


@pytest.mark.parametrize("size", [2**24, 40])
@pytest.mark.parametrize("half", [False, True])
def test_some_photos_of_the_pool_are_ranked_for_each_query(monkeypatch, size, half):
    monkeypatch.setattr("keras_retrieval.mining.hard_negatives._PRODUCTS", size)
    rng = np.random.default_rng(4)
    queries, pool = unit(rng, 30, 8), unit(rng, 100, 8).astype("float16" if half else "float32")
    candidates = rng.integers(-1, 100, (30, 12))
    rows = PickedRows(pool, np.arange(100)) if half else pool
    found = rank_candidates(queries, rows, candidates)
    for query, allowed, ranking in zip(queries, candidates, found, strict=True):
        allowed = np.sort(allowed[allowed >= 0])
        order = np.argsort(-(pool[allowed].astype("float32") @ query), kind="stable")
        np.testing.assert_array_equal(ranking, np.append(allowed[order], [-1] * (12 - len(allowed))))


def test_rows_that_are_read_piece_by_piece_give_the_same(monkeypatch):
    monkeypatch.setattr(exact, "_ROWS", 7)
    monkeypatch.setattr("keras_retrieval.mining.hard_negatives._FINITE", 7)
    rng = np.random.default_rng(5)
    queries, pool = unit(rng, 20, 8), unit(rng, 90, 8).astype("float16")
    places, own = rng.permutation(90)[:60], np.arange(20) % 10
    rows, clusters = pool[places].astype("float32"), rng.integers(0, 12, 60)
    for one, other in zip(
        mine_negatives(queries, own, PickedRows(pool, places), clusters, 4),
        mine_negatives(queries, own, rows, clusters, 4),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    pool[places[40], 3] = np.nan
    with pytest.raises(ValueError, match="pool row 40 contains NaN"):
        mine_negatives(queries, own, PickedRows(pool, places), clusters, 4)


def test_candidates_are_taken_in_their_order():
    rng = np.random.default_rng(3)
    queries, pool = unit(rng, 2, 8), unit(rng, 8, 8)
    ranking = np.array([[7, 6, 5], [3, 1, -1]])
    indexes, distances = mine_negatives(queries, [0, 1], pool, np.arange(8), 2, candidates=ranking)
    assert indexes[0].tolist() == [7, 6]
    np.testing.assert_allclose(distances[0], np.linalg.norm(queries[0] - pool[[7, 6]], axis=1), rtol=1e-4)
    np.testing.assert_array_equal(indexes[1], naive(queries, [0, 1], pool, np.arange(8), 2)[0][1])


def test_too_few_clusters_are_named_before_anything_is_computed():
    links = np.array([[7, 1], [2, 7], [7, 7], [7, 99]])
    require_clusters([1, 7], [1, 2, 3, 4, 7], None, 4)
    require_clusters([7, 50], [1, 2, 3, 4, 7], links, 2)
    message = "queries of cluster 7 can take negatives from 2 clusters of the pool but need 3: draw a larger pool"
    with pytest.raises(MiningError, match=message):
        require_clusters([50, 7, 1], [1, 2, 3, 4, 7], links, 3)
    rows = np.full((5, 4), np.nan, "float32")
    with pytest.raises(MiningError, match=message):
        mine_negatives(rows[:3], [50, 7, 1], rows, [1, 2, 3, 4, 7], 3, same_object=links)
    with pytest.raises(MiningError, match="from 0 clusters"):
        require_clusters([1], [], None, 1)
    with pytest.raises(MiningError, match="negatives must be at least 1, got 0"):
        require_clusters([1], [2], None, 0)


def test_queries_may_be_none():
    pool = unit(np.random.default_rng(0), 6, 4)
    indexes, distances = mine_negatives(pool[:0], [], pool, np.arange(6), 5)
    assert indexes.shape == distances.shape == (0, 5)


ROWS = np.eye(6, dtype="float32")
FITTING = {"queries": ROWS[:2], "query_clusters": [0, 1], "pool": ROWS, "pool_clusters": np.arange(6), "negatives": 2}
WRONG = [
    ({"queries": ROWS[0]}, "queries must have the shape"),
    ({"queries": ROWS[:2, :4]}, "queries have 4 dimensions, but the pool has 6"),
    ({"query_clusters": [0, 1, 2]}, "each query row needs a cluster, got 2 rows and 3 clusters"),
    ({"pool_clusters": np.arange(5)}, "each pool row needs a cluster, got 6 rows and 5 clusters"),
    ({"pool_clusters": np.arange(6.0)}, r"pool_clusters must be integers of the shape \(any\), got float64"),
    ({"same_object": [[1, 2, 3]]}, r"same_object must be integers of the shape \(any, 2\), got int64 of \(1, 3\)"),
    ({"candidates": np.full((2, 4), 6)}, r"candidates must be indexes into the pool, 0\.\.5, got 6"),
    ({"candidates": np.full((2, 4), -2)}, "candidates must be indexes .*, got -2"),
    ({"candidates": np.zeros((3, 4), int)}, r"candidates must be integers of the shape \(2, any\)"),
    ({"candidates": np.zeros((2, 4))}, "candidates must be integers"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=[message for _, message in WRONG])
def test_arrays_that_do_not_fit_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        mine_negatives(**{**FITTING, **changes})


@pytest.mark.parametrize(("name", "message"), [("queries", "query row 1"), ("pool", "pool row 1")])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_named(name, message, value):
    rows = FITTING[name].copy()
    rows[1, 3] = value
    with pytest.raises(ValueError, match=f"{message} contains NaN or an infinite number"):
        mine_negatives(**{**FITTING, name: rows})


def peak(work):
    """The peak number of bytes that a call allocates."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

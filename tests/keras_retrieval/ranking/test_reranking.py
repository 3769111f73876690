"""Neighbours, query expansion, re-ranking and diffusion against loops over rows and dense solves."""

import numpy as np
import pytest

from keras_retrieval.ranking.diffusion import Graph, solve
from keras_retrieval.ranking.nearest import nearest_others
from keras_retrieval.ranking.reranking import augment_database, diffusion, expand_queries, mutual_graph, nearest, rerank
from keras_retrieval.ranking.rows import blocks, gather


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def clusters(n=120, dim=12, groups=8, noise=0.25, seed=0):
    """Row i belongs to cluster i % groups; the clusters are the same for every seed."""
    centres = unit(np.random.default_rng(0).normal(size=(groups, dim)))
    rng = np.random.default_rng([seed, 1])
    return unit(centres[np.arange(n) % groups] + noise * rng.normal(size=(n, dim)))


DATABASE, QUERIES = clusters(), clusters(9, seed=1)


def naive_nearest(queries, database, k):
    similarities = queries @ database.T
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(similarities, order, 1)


def naive_expand(query, database, n, alpha):
    order = np.argsort(-(database @ query), kind="stable")[:n]
    total = query.astype(np.float64)
    for i in order:
        total = total + max(float(database[i] @ query), 0.0) ** alpha * database[i]
    return total / np.linalg.norm(total)


def naive_w(database, k, gamma):
    """The mutual graph as a dense matrix."""
    size = len(database)
    near = []
    for i in range(size):
        order = [j for j in np.argsort(-(database @ database[i]), kind="stable") if j != i]
        near.append(set(order[:k]))
    W = np.zeros((size, size))
    for i in range(size):
        for j in near[i]:
            if i in near[j]:
                W[i, j] = max(float(database[i] @ database[j]), 0.0) ** gamma
    return (W + W.T) / 2


def naive_system(W, alpha):
    degrees = W.sum(axis=1)
    scale = np.where(degrees > 0, 1 / np.sqrt(np.where(degrees > 0, degrees, 1)), 0)
    return np.eye(len(W)) - alpha * scale[:, None] * W * scale


def dense(graph):
    W = np.zeros((graph.size, graph.size))
    W[graph.rows, graph.columns] = graph.weights
    return W


@pytest.mark.parametrize("chunk", [1, 7, 50, 120, 1000])
@pytest.mark.parametrize("k", [1, 5, 119, 120, 500])
def test_nearest_equals_a_full_sort(k, chunk):
    indexes, scores = nearest(QUERIES, DATABASE, k, chunk=chunk)
    expected, similarities = naive_nearest(QUERIES, DATABASE, k)
    np.testing.assert_array_equal(indexes, expected)
    np.testing.assert_allclose(scores, similarities, atol=1e-6)
    assert (indexes.dtype, scores.dtype) == (np.int64, np.float32)


def test_nearest_with_more_queries_than_one_block():
    queries = clusters(2500, seed=3)
    indexes, _ = nearest(queries, DATABASE, 4, chunk=33)
    np.testing.assert_array_equal(indexes, naive_nearest(queries, DATABASE, 4)[0])


@pytest.mark.parametrize("chunk", [3, 16, 100])
def test_equal_rows_come_in_the_order_of_their_index(chunk):
    rng = np.random.default_rng(4)
    rows = np.eye(4, dtype=np.float32)[rng.integers(0, 4, 60)]
    indexes, scores = nearest(np.eye(4, dtype=np.float32), rows, 40, chunk=chunk)
    expected, similarities = naive_nearest(np.eye(4, dtype=np.float32), rows, 40)
    np.testing.assert_array_equal(indexes, expected)
    np.testing.assert_array_equal(scores, similarities)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_nearest_reads_memory_mapped_shards_once(tmp_path, dtype):
    rows = DATABASE.astype(dtype)
    for number, part in enumerate([rows[:50], rows[50:51], rows[51:]]):
        np.save(tmp_path / f"{number}.npy", part)
    steps: list[int] = []
    shards = (np.load(tmp_path / f"{number}.npy", mmap_mode="r") for number in range(3))
    indexes, scores = nearest(QUERIES, shards, 10, chunk=20, advance=steps.append)
    expected, similarities = naive_nearest(QUERIES, rows.astype(np.float32), 10)
    np.testing.assert_array_equal(indexes, expected)
    np.testing.assert_allclose(scores, similarities, atol=1e-6)
    assert steps == [20, 20, 10, 1, 20, 20, 20, 9]


def test_a_private_mapping_keeps_what_was_written_into_it(tmp_path):
    np.save(tmp_path / "rows.npy", DATABASE)
    rows = np.load(tmp_path / "rows.npy", mmap_mode="c")
    rows[7] = QUERIES[0]
    nearest(QUERIES, rows[:60], 3)
    np.testing.assert_array_equal(rows[7], QUERIES[0])


def test_nearest_without_queries_and_with_zero_vectors():
    indexes, scores = nearest(QUERIES[:0], DATABASE, 3)
    assert indexes.shape == scores.shape == (0, 3)
    indexes, scores = nearest(np.zeros((2, 12), np.float32), DATABASE, 3)
    np.testing.assert_array_equal(indexes, [[0, 1, 2]] * 2)
    np.testing.assert_array_equal(scores, 0)


def test_gather_across_shards():
    shards = np.split(DATABASE, [1, 1, 60])
    picks = np.random.default_rng(5).integers(0, 120, (4, 7))
    np.testing.assert_array_equal(gather(shards, picks), DATABASE[picks])
    np.testing.assert_array_equal(gather(DATABASE, picks), DATABASE[picks])
    assert gather(shards, np.zeros(0, int)).shape == (0, DATABASE.shape[1])


def test_blocks_cover_every_row():
    shards = np.split(DATABASE, [50, 50, 60])
    pieces = list(blocks(shards, 16))
    np.testing.assert_array_equal(np.concatenate([piece for _, piece in pieces]), DATABASE)
    assert [first for first, _ in pieces] == list(np.cumsum([0] + [len(piece) for _, piece in pieces[:-1]]))


@pytest.mark.parametrize("k", [1, 6, 119, 300])
def test_neighbours_of_a_row_leave_it_out(k):
    indexes, scores = nearest_others(DATABASE, k, chunk=37)
    similarities = DATABASE @ DATABASE.T
    for row in range(len(DATABASE)):
        order = [j for j in np.argsort(-similarities[row], kind="stable") if j != row][:k]
        np.testing.assert_array_equal(indexes[row], order)
        np.testing.assert_allclose(scores[row], similarities[row, order], atol=1e-6)


def test_neighbours_of_duplicates_leave_out_one_row_each():
    rows = np.repeat(np.eye(3, dtype=np.float32), 10, axis=0)
    indexes, scores = nearest_others(rows, 4)
    assert indexes.shape == (30, 4)
    assert (indexes != np.arange(30)[:, None]).all()
    np.testing.assert_array_equal(indexes // 10, np.repeat(np.arange(3), 10)[:, None].repeat(4, 1))
    np.testing.assert_array_equal(scores, 1)


@pytest.mark.parametrize(("n", "alpha"), [(1, 3.0), (5, 3.0), (50, 3.0), (500, 1.5), (10, 0.0)])
def test_query_expansion_equals_a_loop(n, alpha):
    expanded = expand_queries(QUERIES, DATABASE, n, alpha)
    expected = [naive_expand(query, DATABASE, n, alpha) for query in QUERIES]
    np.testing.assert_allclose(expanded, expected, atol=3e-6)
    assert expanded.dtype == np.float32


def test_alpha_zero_is_the_average_also_of_negative_similarities():
    database = unit(-QUERIES[:1] + 0.1 * DATABASE[:8])
    assert (database @ QUERIES[0] < 0).all()
    mean = unit(np.vstack([QUERIES[:1], database]).mean(axis=0))
    np.testing.assert_allclose(expand_queries(QUERIES[:1], database, 8, 0.0)[0], mean, atol=3e-6)
    np.testing.assert_allclose(expand_queries(QUERIES[:1], database, 8, 3.0), QUERIES[:1], atol=3e-6)


def test_no_neighbours_is_the_identity():
    np.testing.assert_array_equal(expand_queries(QUERIES, DATABASE, 0), QUERIES)
    np.testing.assert_array_equal(augment_database(DATABASE, 0), DATABASE)


def test_expansion_from_a_given_ranking():
    ranking, _ = nearest(QUERIES, DATABASE, 20)
    np.testing.assert_array_equal(
        expand_queries(QUERIES, DATABASE, 6, indexes=ranking), expand_queries(QUERIES, DATABASE, 6)
    )
    backwards = expand_queries(QUERIES, DATABASE, 6, indexes=ranking[:, ::-1])
    expected = expand_queries(QUERIES, DATABASE, 6, indexes=ranking[:, :13:-1])
    np.testing.assert_array_equal(backwards, expected)
    assert np.abs(backwards - expand_queries(QUERIES, DATABASE, 6)).max() > 0.01


def test_expansion_of_many_queries_in_blocks(monkeypatch):
    whole = expand_queries(QUERIES, DATABASE, 5)
    monkeypatch.setattr("keras_retrieval.ranking.reranking._FLOATS", 130)
    np.testing.assert_allclose(expand_queries(QUERIES, DATABASE, 5), whole, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_database_augmentation_is_expansion_by_the_other_rows(alpha):
    augmented = augment_database(np.split(DATABASE, [30]), 7, alpha)
    for row in range(len(DATABASE)):
        others = np.delete(DATABASE, row, axis=0)
        np.testing.assert_allclose(augmented[row], naive_expand(DATABASE[row], others, 7, alpha), atol=3e-6)


def test_database_augmentation_by_rank_equals_a_loop():
    augmented = augment_database(DATABASE, 5, None)
    for row in range(len(DATABASE)):
        order = np.argsort(-(DATABASE @ DATABASE[row]), kind="stable")
        near = order[order != row][:5]
        expected = DATABASE[row] + sum((5 - rank) / 5 * DATABASE[other] for rank, other in enumerate(near))
        np.testing.assert_allclose(augmented[row], expected / np.linalg.norm(expected), atol=3e-6)


def test_augmentation_and_expansion_bring_clusters_together():
    noisy, queries = clusters(400, 24, 10, 0.35, 6), clusters(20, 24, 10, 0.35, 7)

    def hits(q, x):
        return np.mean(nearest(q, x, 40)[0] % 10 == (np.arange(20) % 10)[:, None])

    augmented = augment_database(noisy, 10)
    expanded = expand_queries(queries, noisy, 10)
    assert hits(queries, noisy) < hits(expanded, noisy)
    assert hits(queries, noisy) < hits(queries, augmented)


def test_zero_vectors_and_a_single_row_give_finite_numbers():
    zeros = np.zeros((5, 12), np.float32)
    np.testing.assert_array_equal(expand_queries(zeros, zeros, 3), zeros)
    np.testing.assert_array_equal(augment_database(zeros, 3), zeros)
    np.testing.assert_allclose(augment_database(DATABASE[:1], 3), DATABASE[:1], atol=2e-6)
    indexes, scores = diffusion(QUERIES, zeros, 5, graph=mutual_graph(zeros))
    np.testing.assert_array_equal(indexes, np.tile(np.arange(5), (9, 1)))
    np.testing.assert_array_equal(scores, 0)
    for truncate in (None, 4):
        indexes, scores = diffusion(np.abs(QUERIES), np.abs(DATABASE[:1]), 3, truncate=truncate)
        np.testing.assert_array_equal(indexes, np.zeros((9, 1)))
        assert (scores > 0).all()
    _, scores = rerank(QUERIES, DATABASE[:1], np.zeros((9, 1), int))
    np.testing.assert_allclose(scores[:, 0], (QUERIES @ DATABASE[0] + 1) / 2, atol=1e-6)


def naive_rerank(query, rows, neighbours, beta):
    means = []
    for i, row in enumerate(rows):
        near = sorted((j for j in range(len(rows)) if j != i), key=lambda j: -float(row @ rows[j]))[:neighbours]
        weights = [beta * max(float(row @ rows[j]), 0.0) for j in near]
        total = row + sum((w * rows[j] for w, j in zip(weights, near, strict=True)), np.zeros_like(row))
        means.append(total / (1 + sum(weights)))
    refined = np.array(means)
    first = refined @ query
    pooled = refined[np.argsort(-first)[: neighbours + 1]].max(axis=0)
    return (first + refined @ pooled) / 2


@pytest.mark.parametrize(("neighbours", "beta", "m"), [(9, 0.15, 40), (3, 1.0, 120), (9, 0.15, 5), (0, 0.15, 20)])
def test_reranking_equals_a_loop(neighbours, beta, m):
    candidates, _ = nearest(QUERIES, DATABASE, m)
    indexes, scores = rerank(QUERIES, DATABASE, candidates, neighbours=neighbours, beta=beta)
    for row, query in enumerate(QUERIES):
        new = naive_rerank(query.astype(np.float64), DATABASE[candidates[row]].astype(np.float64), neighbours, beta)
        order = np.argsort(-new, kind="stable")
        np.testing.assert_array_equal(indexes[row], candidates[row][order])
        np.testing.assert_allclose(scores[row], new[order], atol=3e-6)


def test_reranking_keeps_the_candidates_and_helps_on_clusters():
    noisy, queries = clusters(400, 24, 10, 0.25, 7), clusters(20, 24, 10, 0.25, 8)
    candidates, _ = nearest(queries, noisy, 120)
    indexes, _ = rerank(queries, noisy, candidates)
    np.testing.assert_array_equal(np.sort(indexes), np.sort(candidates))
    same = np.arange(20)[:, None] % 10
    assert np.mean(indexes[:, :40] % 10 == same) > np.mean(candidates[:, :40] % 10 == same)


@pytest.mark.parametrize(("k", "gamma"), [(1, 3.0), (5, 3.0), (10, 1.0), (500, 3.0)])
def test_mutual_graph_equals_a_loop(k, gamma):
    graph = mutual_graph(DATABASE, k, gamma, chunk=50)
    np.testing.assert_allclose(dense(graph), naive_w(DATABASE, k, gamma), atol=1e-6)
    np.testing.assert_array_equal(dense(graph), dense(graph).T)
    np.testing.assert_allclose(graph.degrees(), dense(graph).sum(axis=1))
    f = np.arange(120.0)
    np.testing.assert_allclose(graph.dot(f), dense(graph) @ f)


def test_restricting_and_walking_a_graph():
    graph = mutual_graph(DATABASE, 4)
    nodes = np.random.default_rng(9).permutation(120)[:70]
    np.testing.assert_array_equal(dense(graph.restrict(nodes)), dense(graph)[np.ix_(nodes, nodes)])
    hops = (np.eye(120) + (dense(graph) > 0)).astype(bool)
    for count in range(5):
        reached = np.linalg.matrix_power(hops.astype(int), count)[[3, 77]].any(axis=0)
        np.testing.assert_array_equal(graph.around(np.array([3, 77]), count), np.flatnonzero(reached))


def test_solve_equals_the_dense_solution():
    graph = mutual_graph(DATABASE, 8)
    y = np.random.default_rng(10).random(120)
    f = solve(graph, y, iterations=1000)
    np.testing.assert_allclose(f, np.linalg.solve(naive_system(dense(graph), 0.99), y), rtol=1e-5)
    np.testing.assert_array_equal(solve(graph, np.zeros(120)), 0)
    np.testing.assert_allclose(solve(graph, y, alpha=0.0), y)


def test_solve_agrees_with_scipy_after_the_same_iterations():
    linalg = pytest.importorskip("scipy.sparse.linalg")
    graph = mutual_graph(DATABASE, 8)
    y = np.random.default_rng(11).random(120)
    expected, _ = linalg.cg(naive_system(dense(graph), 0.99), y, rtol=0, atol=0, maxiter=7)
    np.testing.assert_allclose(solve(graph, y, iterations=7), expected, rtol=1e-8)


def naive_f(query, W, database, nodes, seeds, gamma=3.0, alpha=0.99):
    similarities = np.maximum((database[nodes] @ query).astype(np.float64), 0)
    y = np.zeros(len(nodes))
    best = np.argsort(-similarities, kind="stable")[:seeds]
    y[best] = similarities[best] ** gamma
    return np.linalg.solve(naive_system(W, alpha), y)


@pytest.mark.parametrize("k", [4, 30])
def test_diffusion_equals_the_dense_solution(k):
    W = naive_w(DATABASE, k, 3.0)
    graph = mutual_graph(DATABASE, k)
    indexes, scores = diffusion(QUERIES, DATABASE, 120, graph=graph, iterations=2000)
    for row, query in enumerate(QUERIES):
        f = naive_f(query, W, DATABASE, np.arange(120), 10)
        np.testing.assert_allclose(scores[row], f[indexes[row]], rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(np.sort(indexes[row]), np.arange(120))
        assert (np.diff(scores[row]) <= 0).all()


def test_walking_only_as_far_as_the_iterations_changes_nothing():
    rng = np.random.default_rng(12)
    ring = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    rows = unit(np.stack([np.cos(ring), np.sin(ring)], 1) + 0.002 * rng.normal(size=(400, 2)))
    graph = mutual_graph(rows, 6)
    indexes, scores = diffusion(rows[:3], rows, 400, graph=graph, iterations=5)
    for row in range(3):
        near, similarities = naive_nearest(rows[row : row + 1], rows, 10)
        y = np.zeros(400)
        y[near[0]] = np.maximum(similarities[0], 0).astype(np.float64) ** 3
        f = solve(graph, y, iterations=5)
        assert np.count_nonzero(f) < 200
        expected = np.zeros(400)
        expected[indexes[row]] = scores[row]
        np.testing.assert_allclose(expected, np.maximum(f, 0), atol=1e-5)


def test_rows_that_diffusion_does_not_reach_follow_by_similarity():
    apart = np.zeros((40, 24), np.float32)
    apart[:20, :12], apart[20:, 12:] = clusters(20, groups=1), clusters(20, groups=1, seed=2)
    query = unit(np.concatenate([apart[0, :12], 0.4 * apart[25, 12:]]))[None]
    indexes, scores = diffusion(query, apart, 40, graph=mutual_graph(apart, 8), seeds=3)
    reached = int((scores[0] > 0).sum())
    assert set(indexes[0, :reached]) <= set(range(20))
    rest = [i for i in nearest(query, apart, 40)[0][0] if i not in set(indexes[0, :reached])]
    np.testing.assert_array_equal(indexes[0, reached:], rest)


def test_truncated_diffusion_equals_the_dense_solution_on_the_candidates():
    graph = mutual_graph(DATABASE, 12)
    indexes, scores = diffusion(QUERIES, DATABASE, 120, graph=graph, truncate=50, iterations=2000)
    for row, query in enumerate(QUERIES):
        nodes = naive_nearest(query[None], DATABASE, 50)[0][0]
        f = naive_f(query, dense(graph)[np.ix_(nodes, nodes)], DATABASE, nodes, 10)
        expected = np.zeros(120)
        expected[nodes] = f
        np.testing.assert_allclose(scores[row], expected[indexes[row]], rtol=1e-4, atol=1e-6)


def test_truncation_to_everything_is_diffusion():
    graph = mutual_graph(DATABASE)
    whole = diffusion(QUERIES, DATABASE, 30, graph=graph, iterations=500)
    cut = diffusion(QUERIES, DATABASE, 30, graph=graph, truncate=120, iterations=500)
    without_graph = diffusion(QUERIES, np.split(DATABASE, [70]), 30, truncate=120, iterations=500)
    built_inside = diffusion(QUERIES, DATABASE, 30, iterations=500)
    for other in (cut, without_graph, built_inside):
        np.testing.assert_array_equal(other[0], whole[0])
        np.testing.assert_allclose(other[1], whole[1], rtol=1e-4)


def test_diffusion_follows_a_manifold_that_similarity_cuts():
    turn = np.linspace(0, np.pi, 200)
    arc = np.stack([np.cos(turn), np.sin(turn), np.zeros(200)], 1)
    other = np.stack([np.cos(0.9 * turn), np.zeros(200), 0.6 + np.sin(turn)], 1)
    rows = unit(np.concatenate([arc, other[60:]]))
    query = rows[:1]
    by_similarity = np.mean(nearest(query, rows, 150)[0] < 200)
    by_diffusion = np.mean(diffusion(query, rows, 150, graph=mutual_graph(rows, 6), iterations=200)[0] < 200)
    assert by_diffusion == 1 > by_similarity


def test_diffusion_of_no_query_and_its_progress():
    indexes, scores = diffusion(QUERIES[:0], DATABASE, 5)
    assert indexes.shape == scores.shape == (0, 5)
    steps: list[int] = []
    diffusion(QUERIES, DATABASE, 5, truncate=20, advance=steps.append)
    assert steps == [1] * 9


def test_the_steps_compose():
    rows, queries = clusters(dim=24, noise=0.2), clusters(9, dim=24, noise=0.2, seed=1)
    same = np.arange(9)[:, None] % 8
    plain = np.mean(nearest(queries, rows, 15)[0] % 8 == same)
    database = augment_database(np.split(rows, [64]), 5)
    ranking, _ = nearest(queries, database, 60)
    ranking[:, :20] = rerank(queries, database, ranking[:, :20])[0]
    queries = expand_queries(queries, database, 5, indexes=ranking)
    indexes, _ = diffusion(queries, database, 15, truncate=60, neighbours=8)
    assert np.mean(indexes % 8 == same) > plain + 0.05


def with_nan(rows, row):
    rows = rows.copy()
    rows[row, 2] = np.nan
    return rows


RANKING = np.zeros((9, 4), int)
ERRORS = {
    "k": (lambda: nearest(QUERIES, DATABASE, 0), "k must be"),
    "empty": (lambda: nearest(QUERIES, DATABASE[:0], 1), "no rows"),
    "empty others": (lambda: nearest_others([], 1), "no rows"),
    "width": (lambda: nearest(QUERIES, DATABASE[:, :3], 1), "12 dimensions, but the database has 3"),
    "axes": (lambda: nearest(QUERIES[0], DATABASE, 1), "queries must have the shape"),
    "chunk": (lambda: nearest(QUERIES, DATABASE, 1, chunk=0), "^size of the chunks must be at least 1, got 0"),
    "nan in the database": (lambda: nearest(QUERIES, [DATABASE, with_nan(DATABASE, 8)], 1), "database row 128 "),
    "nan in the queries": (lambda: nearest(with_nan(QUERIES, 4), DATABASE, 1), "query row 4 "),
    "shards": (lambda: nearest(QUERIES, [DATABASE, DATABASE[:, :4]], 1), "shard 1"),
    "n": (lambda: expand_queries(QUERIES, DATABASE, -1), "^n of query expansion must be at least 0, got -1"),
    "alpha": (
        lambda: augment_database(DATABASE, 1, -1.0),
        "^alpha of database augmentation must be at least 0, got -1.0",
    ),
    "ranking": (lambda: expand_queries(QUERIES, DATABASE, indexes=RANKING[:3]), "indexes must be integers"),
    "outside": (lambda: rerank(QUERIES, DATABASE, RANKING + 120), r"indexes of rows must be in 0\.\.119"),
    "not integers": (lambda: gather(DATABASE, np.array([1.0])), "integers"),
    "beta": (lambda: rerank(QUERIES, DATABASE, RANKING, beta=-0.1), "^beta of re-ranking must be at least 0, got -0.1"),
    "graph k": (lambda: mutual_graph(DATABASE, 0), "^k of the neighbour graph must be at least 1, got 0"),
    "graph size": (lambda: diffusion(QUERIES, DATABASE, 3, graph=mutual_graph(DATABASE[:9])), "9 nodes for 120 rows"),
    "spread": (
        lambda: diffusion(QUERIES, DATABASE, 3, alpha=1.0),
        "^alpha of diffusion must be at least 0 and below 1, got 1.0",
    ),
    "seeds": (lambda: diffusion(QUERIES, DATABASE, 3, seeds=0), "^seeds of diffusion must be at least 1, got 0"),
    "truncate": (
        lambda: diffusion(QUERIES, DATABASE, 3, truncate=0),
        "^truncate of diffusion must be at least 1, got 0",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_what_is_wrong(case):
    call, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_graph_without_edges_leaves_the_seeds_in_front():
    none = np.empty(0, int)
    indexes, scores = diffusion(QUERIES, DATABASE, 20, graph=Graph(120, none, none, np.empty(0)))
    np.testing.assert_array_equal(indexes, naive_nearest(QUERIES, DATABASE, 20)[0])
    np.testing.assert_allclose(scores[:, :10], naive_nearest(QUERIES, DATABASE, 10)[1] ** 3, atol=1e-5)

"""Lw and PCA whitening against goldens, the textbook formula and invariants."""

import numpy as np
import pytest

from keras_retrieval.whitening.covariance import (
    Moments,
    PairMoments,
    Projection,
    fit_lw,
    fit_pca,
    learn_lw,
    learn_pca,
    lw_shrinkage,
)  # fmt: skip


def collection(n=300, dim=16, pairs=120, seed=0, offset=0.0):
    """Rows in clusters of three, correlated dimensions, and pairs within clusters (some queries twice)."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dim, dim))
    rows = np.repeat(rng.normal(size=(n // 3, dim)), 3, axis=0) + 0.3 * rng.normal(size=(n, dim))
    qidxs = rng.integers(0, n // 3, pairs) * 3
    return rows @ mixing + offset, qidxs, qidxs + rng.integers(1, 3, pairs)


def naive_moments(rows, qidxs, pidxs):
    """m, S and C, summed over single rows and pairs."""
    m = sum(rows[q] for q in qidxs) / len(qidxs)
    S = sum(np.outer(rows[q] - rows[p], rows[q] - rows[p]) for q, p in zip(qidxs, pidxs, strict=True)) / len(qidxs)
    return m, S, sum(np.outer(x - m, x - m) for x in rows)


@pytest.fixture(scope="module")
def golden(shared):
    with np.load(shared / "goldens/reference_layers.npz") as arrays:
        return {name: arrays[name] for name in arrays.files if "whiten_" in name}


@pytest.mark.parametrize(("dim", "name"), [(None, "whiten_gram_D"), (12, "whiten_gram_12")])
def test_lw_equals_the_reference(golden, dim, name):
    lw = learn_lw(golden["whiten_X"], golden["whiten_qidxs"], golden["whiten_pidxs"])
    y = lw.apply(golden["whiten_X"], dim)
    np.testing.assert_allclose(lw.m, golden["whiten_m"], atol=1e-12)
    np.testing.assert_allclose(y @ y.T, golden[name], atol=1e-6)


def test_pca_equals_the_reference(golden):
    pca = learn_pca(golden["whiten_X"])
    y = pca.apply(golden["whiten_X"], 12)
    np.testing.assert_allclose(pca.m, golden["pcawhiten_m"], atol=1e-12)
    np.testing.assert_allclose(y @ y.T, golden["pcawhiten_gram_12"], atol=1e-6)


def test_lw_invariants():
    rows, qidxs, pidxs = collection()
    m, S, C = naive_moments(rows, qidxs, pidxs)
    lw = learn_lw(rows, qidxs, pidxs)
    spread = lw.P @ C @ lw.P.T
    np.testing.assert_allclose(lw.m, m, atol=1e-12)
    np.testing.assert_allclose(lw.P @ S @ lw.P.T, np.eye(16), atol=1e-9)
    np.testing.assert_allclose(spread, np.diag(np.diag(spread)), atol=1e-9 * spread[0, 0])
    assert (np.diff(np.diag(spread)) <= 0).all()


def test_lw_equals_the_formula_written_out():
    rows, qidxs, pidxs = collection()
    m, S, _ = naive_moments(rows, qidxs, pidxs)
    P0 = np.linalg.inv(np.linalg.cholesky(S))
    projected = (rows - m) @ P0.T
    _, vectors = np.linalg.eigh(projected.T @ projected)
    y = (projected @ vectors)[:, ::-1][:, :5]
    y /= np.linalg.norm(y, axis=1, keepdims=True) + 1e-6
    ours = learn_lw(rows, qidxs, pidxs).apply(rows, 5)
    np.testing.assert_allclose(ours @ ours.T, y @ y.T, atol=1e-6)


def test_lw_is_shrunk_where_photos_are_few():
    assert [lw_shrinkage(photos, 256) for photos in (172, 1023, 1024)] == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("shrinkage", [0.1, 1.0, 30.0])
def test_shrinkage_draws_the_scatter_within_pairs_to_its_mean_variance(shrinkage):
    rows, qidxs, pidxs = collection(dim=32, pairs=8)
    _, S, C = naive_moments(rows, qidxs, pidxs)
    shrunk = S + shrinkage * sum(S[i, i] for i in range(32)) / 32 * np.eye(32)
    P = learn_lw(rows, qidxs, pidxs, shrinkage).P
    spread = P @ C @ P.T
    np.testing.assert_allclose(P @ shrunk @ P.T, np.eye(32), atol=1e-9)
    np.testing.assert_allclose(spread, np.diag(np.diag(spread)), atol=1e-9 * spread[0, 0])
    assert (np.diff(np.diag(spread)) <= 0).all()


def test_much_shrinkage_turns_as_pca_and_scales_nothing():
    rows, qidxs, pidxs = collection()
    P = learn_lw(rows, qidxs, pidxs, 1e9).P
    gram = P @ P.T
    np.testing.assert_allclose(gram, gram[0, 0] * np.eye(16), atol=1e-6 * gram[0, 0])


def test_pca_invariants():
    rows, _, _ = collection()
    pca = learn_pca(rows)
    np.testing.assert_allclose(pca.m, rows.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(pca.P @ np.cov(rows.T, bias=True) @ pca.P.T, np.eye(16), atol=1e-9)


@pytest.mark.parametrize("sizes", [[300], [1, 299], [100, 0, 37, 163]])
def test_shards_give_what_one_array_gives(sizes):
    rows, qidxs, pidxs = collection()
    shards = np.split(rows, np.cumsum(sizes)[:-1])
    for ours, whole in [
        (learn_lw(shards, qidxs, pidxs), learn_lw(rows, qidxs, pidxs)),
        (learn_pca(shards), learn_pca(rows)),
    ]:
        np.testing.assert_allclose(ours.m, whole.m, atol=1e-12)
        np.testing.assert_allclose(ours.P, whole.P, rtol=1e-8, atol=1e-9)


def test_float32_memory_mapped_shards(tmp_path):
    rows, qidxs, pidxs = collection()
    shards = []
    for number, part in enumerate(np.array_split(rows.astype(np.float32), 4)):
        np.save(tmp_path / f"{number}.npy", part)
        shards.append(np.load(tmp_path / f"{number}.npy", mmap_mode="r"))
    whole = learn_lw(rows.astype(np.float32), qidxs, pidxs)
    np.testing.assert_allclose(learn_lw(shards, qidxs, pidxs).P, whole.P, rtol=1e-8, atol=1e-9)


def test_moments_keep_their_digits_far_from_zero():
    rows, _, _ = collection(offset=1e6)
    moments = Moments(16)
    for part in np.array_split(rows, 7):
        moments.add(part)
    centred = rows - rows.mean(axis=0)
    np.testing.assert_allclose(moments.scatter, centred.T @ centred, rtol=1e-7, atol=1e-6)
    np.testing.assert_allclose(moments.about(moments.mean + 2.0), moments.scatter + 300 * 4.0)


def test_more_rows_than_one_piece():
    rows = np.random.default_rng(1).normal(size=(9000, 3)) * [1, 2, 5]
    moments = Moments(3)
    moments.add(rows)
    np.testing.assert_allclose(moments.mean, rows.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(moments.scatter / 9000, np.cov(rows.T, bias=True), atol=1e-10)


def test_repeated_queries_count_in_the_mean():
    rows, _, _ = collection()
    lw = learn_lw(rows, [0, 0, 0, 3], [1, 2, 1, 4])
    np.testing.assert_allclose(lw.m, (3 * rows[0] + rows[3]) / 4)


def test_lw_with_fewer_pairs_than_dimensions():
    rows, qidxs, pidxs = collection(dim=32, pairs=8)
    lw = learn_lw(rows, qidxs, pidxs)
    _, S, C = naive_moments(rows, qidxs, pidxs)
    spread = np.diag(lw.P @ C @ lw.P.T)
    assert np.isfinite(lw.P).all()
    np.testing.assert_allclose(lw.P @ (S + 1e-10 * np.eye(32)) @ lw.P.T, np.eye(32), atol=1e-3)
    assert (np.diff(spread) <= 1e-9 * spread[0]).all()
    np.testing.assert_allclose(np.linalg.norm(lw.apply(rows), axis=1), 1, atol=1e-5)


def test_lw_of_pairs_that_are_equal():
    rows, qidxs, _ = collection()
    lw = learn_lw(rows, qidxs, qidxs)
    np.testing.assert_allclose(lw.P @ lw.P.T, 1e10 * np.eye(16), rtol=1e-6, atol=1e2)


@pytest.mark.parametrize("count", [2, 10, 31])
def test_pca_with_fewer_rows_than_dimensions(count):
    rows = np.random.default_rng(2).normal(size=(count, 32)).astype(np.float32)
    pca = learn_pca(rows)
    spread = np.diag(pca.P @ np.cov(rows.T.astype(np.float64), bias=True) @ pca.P.T)
    np.testing.assert_allclose(spread[: count - 1], 1, atol=1e-6)
    np.testing.assert_allclose(spread[count - 1 :], 0, atol=1e-6)
    sizes = np.linalg.norm(pca.P, axis=1)
    np.testing.assert_allclose(sizes[count - 1 :], sizes[count - 2], rtol=1e-6)


def test_dense_form_equals_apply_before_normalisation():
    rows, qidxs, pidxs = collection()
    lw = learn_lw(rows, qidxs, pidxs)
    kernel, bias = lw.as_dense(7)
    y = rows @ kernel.astype(np.float64) + bias
    assert (kernel.shape, bias.shape, kernel.dtype, bias.dtype) == ((16, 7), (7,), np.float32, np.float32)
    np.testing.assert_allclose(y / np.linalg.norm(y, axis=1, keepdims=True), lw.apply(rows, 7), atol=1e-4)


def test_shortening_takes_the_first_dimensions_and_normalises_again():
    rows, _, _ = collection()
    pca = learn_pca(rows)
    full, short = pca.apply(rows), pca.apply(rows, 4)
    head = full[:, :4] / np.linalg.norm(full[:, :4], axis=1, keepdims=True)
    np.testing.assert_allclose(short, head, atol=1e-5)
    np.testing.assert_array_equal(pca.apply(pca.m[None]), np.zeros((1, 16)))


def test_the_sign_does_not_depend_on_the_order_of_rows():
    rows, _, _ = collection()
    np.testing.assert_allclose(learn_pca(rows).P, learn_pca(rows[::-1].copy()).P, rtol=1e-7, atol=1e-9)


def pairs_of(queries, positives):
    pairs = PairMoments(queries.shape[1])
    pairs.add(queries, positives)
    return pairs


def with_nan(rows, row):
    rows = rows.copy()
    rows[row, 3] = np.nan
    return rows


ROWS = collection()[0]
ERRORS = {
    "nan row": (lambda: learn_pca(with_nan(ROWS, 217)), "row 217 .*NaN"),
    "nan row in a later shard": (lambda: learn_pca([ROWS, with_nan(ROWS, 5)]), "row 305 .*NaN"),
    "infinite positive": (lambda: pairs_of(ROWS, with_nan(ROWS, 9)), "positive of pair 9 .*NaN"),
    "one pair": (lambda: learn_lw(ROWS, [0], [1]), "at least 2 pairs"),
    "no pairs": (lambda: learn_lw(ROWS, [], []), "at least 2 pairs"),
    "uneven lists": (lambda: learn_lw(ROWS, [0, 1], [1]), "lists of the same length"),
    "row outside": (lambda: learn_lw(ROWS, [0, 1], [1, 300]), r"indexes of rows must be in 0\.\.299"),
    "shrinkage below 0": (lambda: learn_lw(ROWS, [0, 1], [1, 2], -0.1), "^shrinkage must be .* at least 0, got -0.1"),
    "shrinkage that is no number": (
        lambda: learn_lw(ROWS, [0, 1], [1, 2], float("nan")),
        "^shrinkage must be .* at least 0, got nan",
    ),
    "pairs of other width": (lambda: fit_lw(Moments(16), pairs_of(ROWS, ROWS)), "rows"),
    "queries and positives": (lambda: pairs_of(ROWS, ROWS[:5]), "queries and positives must have the same shape"),
    "another width": (lambda: Moments(8).add(ROWS), "rows must have 8 dimensions, got 16"),
    "not two axes": (lambda: Moments(16).add(ROWS[0]), "shape"),
    "shards of two widths": (lambda: learn_pca([ROWS, ROWS[:, :5]]), "shard 1"),
    "no rows": (lambda: learn_pca(ROWS[:0]), "no rows to learn a whitening from"),
    "one row": (lambda: learn_pca(ROWS[:1]), "at least 2 rows, got 1"),
    "equal rows": (lambda: fit_pca(moments_of(np.ones((5, 4)))), "all 5 rows are equal"),
    "too long": (lambda: learn_pca(ROWS).apply(ROWS, 17), r"^dim of the whitening must be in 1\.\.16"),
    "no dimension": (lambda: learn_pca(ROWS).as_dense(0), r"^dim of the whitening must be in 1\.\.16"),
    "descriptors of other width": (
        lambda: learn_pca(ROWS).apply(ROWS[:, :4]),
        "descriptors must have 16 dimensions as this whitening, got 4",
    ),
}


def moments_of(rows):
    moments = Moments(rows.shape[1])
    moments.add(rows)
    return moments


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_what_is_wrong(case):
    call, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_projection_is_frozen():
    projection = Projection(np.zeros(2), np.eye(2))
    with pytest.raises(AttributeError):
        setattr(projection, "m", np.ones(2))  # noqa: B010

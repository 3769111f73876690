"""Learns a whitening from descriptors: Lw from matching pairs, PCA without pairs, in one pass over the rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..errors import ArgumentError
from ..ranking.rows import Database, as_rows, blocks, count_rows, gather, l2_normalize, require_finite

_ROWS = 4096  # rows that are read at a time
_NUMBERS = 2**21  # numbers that are projected at a time
UNSEEN = 1e-10  # eigenvalues below this part of the largest one count as 0


@dataclass(frozen=True)
class Projection:
    """A learned whitening y = L2(P (x - m)).

    Attributes:
        m: the shift, (D,) float64.
        P: the projection, (D, D) float64, in the order of decreasing variance; the first d rows reduce to d dimensions.
            P from `learn_pca_from_gram` has fewer rows.
    """

    m: np.ndarray
    P: np.ndarray

    def apply(self, x: np.ndarray, dim: int | None = None) -> np.ndarray:
        """Whitens descriptors, keeps the first dimensions and L2-normalises.

        Args:
            x: descriptors, (n, D).
            dim: number d of dimensions to keep; None keeps all.

        Returns:
            The whitened descriptors, (n, d) float32; a row equal to m becomes 0.

        Raises:
            ArgumentError: the shapes do not match, or `dim` is not in 1..D.
        """
        x, P = as_rows(x, "descriptors", None), self._rows(dim)
        if x.shape[1] != len(self.m):
            raise ArgumentError(f"descriptors must have {len(self.m)} dimensions as this whitening, got {x.shape[1]}")
        y = np.empty((len(x), len(P)), np.float32)
        size = max(1, _NUMBERS // len(self.m))
        for start in range(0, len(x), size):
            y[start : start + size] = l2_normalize((x[start : start + size] - self.m) @ P.T)
        return y

    def as_dense(self, dim: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Converts the whitening, without the normalisation, to a dense layer x kernel + bias.

        Args:
            dim: number d of dimensions to keep; None keeps all.

        Returns:
            The kernel P^T, (D, d) float32, and the bias -P m, (d,) float32.

        Raises:
            ArgumentError: `dim` is not in 1..D.
        """
        P = self._rows(dim)
        return P.T.astype(np.float32), (-P @ self.m).astype(np.float32)

    def _rows(self, dim: int | None) -> np.ndarray:
        if dim is not None and not 1 <= dim <= len(self.P):
            raise ArgumentError(f"dim of the whitening must be in 1..{len(self.P)}, got {dim}")
        return self.P[:dim]


class Moments:
    """Accumulates the mean and the scatter of rows in float64.

    Each chunk is centred on its own mean and then merged (Chan, Golub, LeVeque, The American Statistician 1983), so
    that a mean far from 0 does not cost precision. The memory is D x D numbers and one chunk, for any number of rows.

    Args:
        dim: number of dimensions D.

    Attributes:
        count: number of rows so far.
        mean: their mean, (D,).
        scatter: the sum of (x - mean)(x - mean)^T over the rows, (D, D).
    """

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.mean = np.zeros(dim)
        self.scatter = np.zeros((dim, dim))

    def add(self, rows: np.ndarray) -> None:
        """Adds rows.

        Args:
            rows: descriptors to add, (n, D).

        Raises:
            ArgumentError: the rows have another number of dimensions.
            DescriptorError: a row contains NaN or an infinite number; rows are numbered from the first one added.
        """
        rows = as_rows(rows, "rows", None)
        if rows.shape[1] != len(self.mean):
            raise ArgumentError(f"rows must have {len(self.mean)} dimensions, got {rows.shape[1]}")
        for start in range(0, len(rows), _ROWS):
            self._merge(np.array(rows[start : start + _ROWS], np.float64))

    def about(self, point: np.ndarray) -> np.ndarray:
        """Computes the sum of (x - point)(x - point)^T over the rows, (D, D), for a point (D,)."""
        shift = self.mean - point
        return self.scatter + self.count * np.outer(shift, shift)

    def _merge(self, piece: np.ndarray) -> None:
        require_finite(piece, "row", self.count)
        mean, total = piece.mean(axis=0), self.count + len(piece)
        shift = mean - self.mean
        piece -= mean
        self.scatter += piece.T @ piece
        self.scatter += np.outer(shift, shift) * (self.count * len(piece) / total)
        self.mean += shift * (len(piece) / total)
        self.count = total


class PairMoments:
    """Accumulates the statistics of matching pairs (q, p) for Lw: the mean m of the queries, and S within the pairs.

    Args:
        dim: number of dimensions D.
    """

    def __init__(self, dim: int) -> None:
        self._queries = Moments(dim)
        self._differences = Moments(dim)

    @property
    def count(self) -> int:
        """Number of pairs so far."""
        return self._differences.count

    @property
    def mean(self) -> np.ndarray:
        """m, (D,), the mean of the queries; a query in two pairs counts twice."""
        return self._queries.mean

    @property
    def within(self) -> np.ndarray:
        """S, (D, D): the mean of (q - p)(q - p)^T over the pairs."""
        return self._differences.about(np.zeros(len(self.mean))) / self.count

    def add(self, queries: np.ndarray, positives: np.ndarray) -> None:
        """Adds pairs.

        Args:
            queries: descriptors of the query q of each pair, (n, D).
            positives: descriptors of the positive p of each pair, (n, D).

        Raises:
            ArgumentError: the shapes do not match.
            DescriptorError: a row contains NaN or an infinite number.
        """
        queries = as_rows(queries, "queries", np.float64)
        positives = as_rows(positives, "positives", np.float64)
        if queries.shape != positives.shape:
            raise ArgumentError(
                f"queries and positives must have the same shape, got {queries.shape} and {positives.shape}"
            )
        require_finite(queries, "the query of pair", self.count)
        require_finite(positives, "the positive of pair", self.count)
        self._queries.add(queries)
        self._differences.add(queries - positives)


def fit_lw(rows: Moments, pairs: PairMoments, shrinkage: float = 0.0) -> Projection:
    """Computes Lw, the learned whitening (Radenovic et al. TPAMI 2018, after Mikolajczyk and Matas ICCV 2007).

    P0 = chol(S + aI)^-1 whitens the differences within pairs. E are the eigenvectors of P0 C P0^T in the order of
    decreasing eigenvalues, with C the scatter of all rows about m, and P = E^T P0. a is 0, or the first of 1e-10,
    1e-9, .. that makes S + aI numerically positive definite, which is needed with fewer pairs than dimensions.

    Few photos determine S in few directions only, and P0 amplifies the others. Shrinkage replaces S by
    S + shrinkage * tr(S) / D * I (towards the mean variance, as Ledoit and Wolf, J. Multivariate Analysis 2004). With
    increasing shrinkage Lw approaches a PCA rotation without scaling.

    Args:
        rows: moments of all rows.
        pairs: moments of the matching pairs.
        shrinkage: 0 is the published formula; about 1 is suitable if the pairs have few photos for D dimensions.

    Returns:
        m, the mean of the queries of the pairs, and P. With the shrunk S, P (S + aI) P^T = I, and P C P^T is diagonal
        with decreasing entries.

    Raises:
        ArgumentError: there are fewer than 2 pairs or no rows, the numbers of dimensions differ, or `shrinkage` is
            below 0.
    """
    if pairs.count < 2 or not rows.count:
        raise ArgumentError(f"Lw needs at least 2 pairs, and rows, got {pairs.count} pairs and {rows.count} rows")
    if rows.mean.shape != pairs.mean.shape:
        raise ArgumentError(f"rows have {len(rows.mean)} dimensions, but pairs have {len(pairs.mean)}")
    if not (np.isfinite(shrinkage) and shrinkage >= 0):
        raise ArgumentError(f"shrinkage must be a finite number of at least 0, got {shrinkage}")
    S = pairs.within
    S += shrinkage * np.trace(S) / len(S) * np.eye(len(S))
    P0 = np.linalg.inv(np.linalg.cholesky(_positive_definite(S)))
    _, E = sorted_eigenvectors(P0 @ rows.about(pairs.mean) @ P0.T)
    return Projection(pairs.mean.copy(), fixed_sign(E.T @ P0))


def fit_pca(rows: Moments) -> Projection:
    """Computes the PCA whitening P = Lambda^(-1/2) E^T of the covariance about the mean (Jegou and Chum ECCV 2012).

    Directions without variance, which exist if there are fewer rows than dimensions, come last. They are scaled like
    the direction with the smallest variance, so that they are not amplified in new rows.

    Args:
        rows: moments of all rows.

    Returns:
        m, the mean, and P. With C the covariance, P C P^T is the identity on the directions with variance.

    Raises:
        ArgumentError: there are fewer than 2 rows, or all rows are equal.
    """
    if rows.count < 2:
        raise ArgumentError(f"PCA whitening needs at least 2 rows, got {rows.count}")
    values, E = sorted_eigenvectors(rows.scatter / rows.count)
    if values[0] <= np.finfo(np.float64).tiny:
        raise ArgumentError(f"all {rows.count} rows are equal: they have no variance to whiten")
    floor = values[values > UNSEEN * values[0]].min()
    return Projection(rows.mean.copy(), fixed_sign(E.T / np.sqrt(np.maximum(values, floor))[:, None]))


def learn_lw(database: Database, qidxs: ArrayLike, pidxs: ArrayLike, shrinkage: float = 0.0) -> Projection:
    """Learns Lw from rows and pairs of them, in one pass over the rows and one over the pairs.

    Args:
        database: all rows, (N, D), or their shards in order.
        qidxs: the row of the query of each pair, (pairs,); a query in several pairs counts several times.
        pidxs: the row of the positive of each pair, (pairs,).
        shrinkage: as for `fit_lw`.

    Returns:
        The mean m and the projection P, as from `fit_lw`.

    Raises:
        ArgumentError: the lists have different lengths, an index is not in 0..N-1, or in the same cases as `fit_lw`.
        DescriptorError: a row contains NaN or an infinite number.
    """
    q, p = np.asarray(qidxs), np.asarray(pidxs)
    if q.ndim != 1 or q.shape != p.shape:
        raise ArgumentError(f"qidxs and pidxs must be lists of the same length, got {q.shape} and {p.shape}")
    rows = _moments(database)
    pairs = PairMoments(len(rows.mean))
    for start in range(0, len(q), _ROWS):
        part = slice(start, start + _ROWS)
        pairs.add(gather(database, q[part], np.float64), gather(database, p[part], np.float64))
    return fit_lw(rows, pairs, shrinkage)


def learn_pca(database: Database) -> Projection:
    """Learns the PCA whitening from rows, in one pass.

    Args:
        database: descriptors of the database, (N, D), or its shards in order.

    Returns:
        The mean m and the projection P, as from `fit_pca`.

    Raises:
        ArgumentError: there are fewer than 2 rows, or all rows are equal.
        DescriptorError: a row contains NaN or an infinite number.
    """
    return fit_pca(_moments(database))


def _moments(database: Database) -> Moments:
    if not count_rows(database):
        raise ArgumentError("the database has no rows to learn a whitening from")
    moments = None
    for _, piece in blocks(database, _ROWS, np.float64):
        moments = moments or Moments(piece.shape[1])
        moments.add(piece)
    assert moments is not None
    return moments


def _positive_definite(S: np.ndarray) -> np.ndarray:
    values = np.linalg.eigvalsh(S)
    needed = len(S) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    a = 0.0
    while values[0] + a <= needed:
        a = max(1e-10, 10 * a)
    return S + a * np.eye(len(S))


def sorted_eigenvectors(symmetric: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The eigenvalues of a symmetric matrix, largest first, and the eigenvectors as columns."""
    values, vectors = np.linalg.eigh((symmetric + symmetric.T) / 2)
    return values[::-1], vectors[:, ::-1]


def fixed_sign(P: np.ndarray) -> np.ndarray:
    """Makes the largest entry of each row positive, because the sign of an eigenvector is arbitrary."""
    largest = np.take_along_axis(P, np.abs(P).argmax(axis=1)[:, None], 1)
    return P * np.where(largest < 0, -1.0, 1.0)

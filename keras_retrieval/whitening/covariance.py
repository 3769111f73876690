"""Learns whitening from descriptors: Lw from matching pairs, PCA without, in one pass over any number of rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..ranking.rows import Database, as_rows, blocks, count_rows, gather, l2_normalize, require_finite

_ROWS = 4096
_NUMBERS = 2**21  # that are projected at a time
UNSEEN = 1e-10


@dataclass(frozen=True)
class Projection:
    """A learned whitening y = L2(P (x - m)).

    Attributes:
        m: the shift, (D,) float64.
        P: the projection, (D, D) float64, the row of the largest variance first: the first d rows shorten to d. It has
            fewer rows where `learn_pca_from_gram` made it.
    """

    m: np.ndarray
    P: np.ndarray

    def apply(self, x: np.ndarray, dim: int | None = None) -> np.ndarray:
        """Whitens, shortens and L2-normalises rows.

        Args:
            x: descriptors, (n, D).
            dim: the number d of dimensions to keep; None keeps all.

        Returns:
            (n, d) float32; a row equal to m gives 0.

        Raises:
            ValueError: shapes that do not fit, dim outside of 1..D.
        """
        x, P = as_rows(x, "descriptors", None), self._rows(dim)
        if x.shape[1] != len(self.m):
            raise ValueError(f"this whitening takes {len(self.m)} dimensions, and the descriptors have {x.shape[1]}")
        y = np.empty((len(x), len(P)), np.float32)
        size = max(1, _NUMBERS // len(self.m))
        for start in range(0, len(x), size):
            y[start : start + size] = l2_normalize((x[start : start + size] - self.m) @ P.T)
        return y

    def as_dense(self, dim: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The same before normalisation as a dense layer, x kernel + bias.

        Args:
            dim: the number d of dimensions to keep; None keeps all.

        Returns:
            kernel P^T, (D, d) float32, and bias -P m, (d,) float32.

        Raises:
            ValueError: dim outside of 1..D.
        """
        P = self._rows(dim)
        return P.T.astype(np.float32), (-P @ self.m).astype(np.float32)

    def _rows(self, dim: int | None) -> np.ndarray:
        if dim is not None and not 1 <= dim <= len(self.P):
            raise ValueError(f"whitening keeps 1 to {len(self.P)} dimensions, not {dim}")
        return self.P[:dim]


class Moments:
    """The mean and the scatter of rows that come in pieces, in float64.

    Each piece is centred on its own mean and merged (Chan, Golub & LeVeque, The American Statistician 1983): a mean
    far from 0 costs no digits, and 10 million rows need D x D numbers besides the piece.

    Args:
        dim: the number of dimensions D.

    Attributes:
        count: the number of rows so far.
        mean: their mean, (D,).
        scatter: the sum of (x - mean)(x - mean)^T, (D, D).
    """

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.mean = np.zeros(dim)
        self.scatter = np.zeros((dim, dim))

    def add(self, rows: np.ndarray) -> None:
        """Takes more rows in.

        Args:
            rows: (n, D).

        Raises:
            ValueError: another width, or NaN in a row; its number counts from the first row ever added.
        """
        rows = as_rows(rows, "rows", None)
        if rows.shape[1] != len(self.mean):
            raise ValueError(f"rows have {rows.shape[1]} dimensions, and {len(self.mean)} are needed")
        for start in range(0, len(rows), _ROWS):
            self._merge(np.array(rows[start : start + _ROWS], np.float64))

    def about(self, point: np.ndarray) -> np.ndarray:
        """The sum of (x - point)(x - point)^T over the rows, (D, D), for a point (D,)."""
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
    """What Lw needs of the matching pairs (q, p): the queries' mean m and S, the scatter within them.

    Args:
        dim: the number of dimensions D.
    """

    def __init__(self, dim: int) -> None:
        self._queries = Moments(dim)
        self._differences = Moments(dim)

    @property
    def count(self) -> int:
        """The number of pairs so far."""
        return self._differences.count

    @property
    def mean(self) -> np.ndarray:
        """m, (D,): a query in two pairs counts twice."""
        return self._queries.mean

    @property
    def within(self) -> np.ndarray:
        """S, (D, D): the mean of (q - p)(q - p)^T over the pairs."""
        return self._differences.about(np.zeros(len(self.mean))) / self.count

    def add(self, queries: np.ndarray, positives: np.ndarray) -> None:
        """Takes more pairs in.

        Args:
            queries: (n, D), the q of each pair.
            positives: (n, D), the p of each pair.

        Raises:
            ValueError: shapes that do not fit, or NaN in a row.
        """
        queries = as_rows(queries, "queries", np.float64)
        positives = as_rows(positives, "positives", np.float64)
        if queries.shape != positives.shape:
            raise ValueError(f"pairs need as many queries as positives, not {queries.shape} and {positives.shape}")
        require_finite(queries, "the query of pair", self.count)
        require_finite(positives, "the positive of pair", self.count)
        self._queries.add(queries)
        self._differences.add(queries - positives)


def fit_lw(rows: Moments, pairs: PairMoments, shrinkage: float = 0.0) -> Projection:
    """Lw, learned whitening (Radenovic et al. TPAMI 2018, after Mikolajczyk & Matas ICCV 2007).

    P0 = chol(S + aI)^-1 whitens the differences within pairs; E, the eigenvectors of P0 C P0^T with C the scatter of
    all rows about m, turns the largest variance to the front; P = E^T P0. a is 0, or the first of 1e-10, 1e-9, ..
    that makes S + aI positive definite to the precision of the numbers, as fewer pairs than dimensions need.

    Few photos show S in few directions, and P0 blows up the others. Shrinkage takes S + shrinkage * tr(S) / D * I in
    S's place (towards the mean variance, as Ledoit & Wolf, J. Multivariate Analysis 2004): the more, the nearer Lw
    comes to PCA, turned but not scaled.

    Args:
        rows: all rows.
        pairs: the matching pairs.
        shrinkage: 0 is the published formula; about 1 where the pairs' photos are few for D dimensions.

    Returns:
        m, the mean of the pairs' queries, and P. P (S + aI) P^T = I with the shrunk S, and P C P^T is diagonal and
        falling.

    Raises:
        ValueError: fewer than 2 pairs, no rows, sizes that do not fit, or shrinkage below 0.
    """
    if pairs.count < 2 or not rows.count:
        raise ValueError(f"Lw needs 2 pairs or more and their rows, not {pairs.count} pairs, {rows.count} rows")
    if rows.mean.shape != pairs.mean.shape:
        raise ValueError(f"rows have {len(rows.mean)} dimensions and pairs {len(pairs.mean)}")
    if not (np.isfinite(shrinkage) and shrinkage >= 0):
        raise ValueError(f"shrinkage is a number of 0 or more, not {shrinkage}")
    S = pairs.within
    S += shrinkage * np.trace(S) / len(S) * np.eye(len(S))
    P0 = np.linalg.inv(np.linalg.cholesky(_positive_definite(S)))
    _, E = falling_eigenvectors(P0 @ rows.about(pairs.mean) @ P0.T)
    return Projection(pairs.mean.copy(), fixed_sign(E.T @ P0))


def fit_pca(rows: Moments) -> Projection:
    """PCA whitening (Jegou & Chum ECCV 2012): P = Lambda^(-1/2) E^T of the covariance about the mean.

    Directions that the rows do not show, as with fewer rows than dimensions, come last and are scaled like the least
    one that they do show: new rows that have them are not blown up.

    Args:
        rows: all rows.

    Returns:
        m, the mean, and P. P C P^T is the identity, C the covariance, on the directions that the rows show.

    Raises:
        ValueError: fewer than 2 rows, or rows that are all the same.
    """
    if rows.count < 2:
        raise ValueError(f"PCA whitening needs 2 rows or more, not {rows.count}")
    values, E = falling_eigenvectors(rows.scatter / rows.count)
    if values[0] <= np.finfo(np.float64).tiny:
        raise ValueError(f"all {rows.count} rows are the same: there is nothing to whiten")
    floor = values[values > UNSEEN * values[0]].min()
    return Projection(rows.mean.copy(), fixed_sign(E.T / np.sqrt(np.maximum(values, floor))[:, None]))


def learn_lw(database: Database, qidxs: ArrayLike, pidxs: ArrayLike, shrinkage: float = 0.0) -> Projection:
    """Lw from rows and the pairs among them, in one pass over the rows and one over the pairs.

    Args:
        database: all rows, (N, D), or their shards in order.
        qidxs: the row of each pair's query, (pairs,); repeats count.
        pidxs: the row of each pair's positive, (pairs,).
        shrinkage: as of `fit_lw`.

    Returns:
        As `fit_lw`.

    Raises:
        ValueError: lists of different lengths, a row outside of 0..N-1, or as `fit_lw`.
    """
    q, p = np.asarray(qidxs), np.asarray(pidxs)
    if q.ndim != 1 or q.shape != p.shape:
        raise ValueError(f"qidxs and pidxs must be lists of one length, not {q.shape} and {p.shape}")
    rows = _moments(database)
    pairs = PairMoments(len(rows.mean))
    for start in range(0, len(q), _ROWS):
        part = slice(start, start + _ROWS)
        pairs.add(gather(database, q[part], np.float64), gather(database, p[part], np.float64))
    return fit_lw(rows, pairs, shrinkage)


def learn_pca(database: Database) -> Projection:
    """PCA whitening from rows, in one pass.

    Args:
        database: (N, D), or shards in order.

    Returns:
        As `fit_pca`.

    Raises:
        ValueError: as `fit_pca`.
    """
    return fit_pca(_moments(database))


def _moments(database: Database) -> Moments:
    if not count_rows(database):
        raise ValueError("whitening is learned from rows, and there are none")
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


def falling_eigenvectors(symmetric: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, largest first, and the eigenvectors as columns."""
    values, vectors = np.linalg.eigh((symmetric + symmetric.T) / 2)
    return values[::-1], vectors[:, ::-1]


def fixed_sign(P: np.ndarray) -> np.ndarray:
    """Each row's largest entry made positive: an eigenvector's sign is free, and a learned file should not be."""
    largest = np.take_along_axis(P, np.abs(P).argmax(axis=1)[:, None], 1)
    return P * np.where(largest < 0, -1.0, 1.0)

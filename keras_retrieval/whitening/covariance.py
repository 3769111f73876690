"""Whitening learned from covariance matrices: Lw from matching pairs of descriptors, and PCA without pairs.

Both need a single pass over the rows, which are descriptors. In the shapes, N is the number of rows and D the number of
dimensions of the descriptors.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..errors import ArgumentError
from ..ranking.rows import Database, as_rows, blocks, count_rows, gather, l2_normalize, require_finite

_ROWS = 4096  # rows that are read at a time
_NUMBERS = 2**21  # values of descriptors that are projected at a time
PHOTOS_PER_DIMENSION = 4
"""Lw is learned without shrinkage, as published, if there are at least this many photos per descriptor dimension."""

UNSEEN = 1e-10  # eigenvalues below this fraction of the largest eigenvalue count as 0


@dataclass(frozen=True)
class Projection:
    """A learned whitening of descriptors x, y = L2(P (x - m)), where L2 denotes L2 normalisation.

    Attributes:
        m: the shift, (D,) float64.
        P: the projection matrix, (D, D) float64, with rows in order of decreasing variance; its first d rows reduce
            descriptors to d dimensions. From `learn_pca_from_gram`, P has fewer than D rows.
        shrinkage: the shrinkage of Lw; None for another whitening.
    """

    m: np.ndarray
    P: np.ndarray
    shrinkage: float | None = None

    def apply(self, x: np.ndarray, dim: int | None = None) -> np.ndarray:
        """Whitens descriptors, keeps the first d dimensions and L2-normalises the result.

        Args:
            x: descriptors, (n, D), of any numeric dtype.
            dim: number d of dimensions to keep; None keeps as many as P has rows.

        Returns:
            The whitened descriptors, (n, d) float32; a descriptor equal to m becomes 0.

        Raises:
            ArgumentError: the shapes do not match, or `dim` is below 1 or above the number of rows of P.
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
        """Converts the whitening, without the normalisation, to the weights of a dense layer x kernel + bias.

        Args:
            dim: number d of dimensions to keep; None keeps as many as P has rows.

        Returns:
            The kernel P^T, (D, d) float32, and the bias -P m, (d,) float32.

        Raises:
            ArgumentError: `dim` is below 1 or above the number of rows of P.
        """
        P = self._rows(dim)
        return P.T.astype(np.float32), (-P @ self.m).astype(np.float32)

    def _rows(self, dim: int | None) -> np.ndarray:
        if dim is not None and not 1 <= dim <= len(self.P):
            raise ArgumentError(f"dim of the whitening must be in 1..{len(self.P)}, got {dim}")
        return self.P[:dim]


class Moments:
    """Accumulates the mean and the scatter matrix of descriptors (rows) in float64.

    Each chunk of rows is centred on the mean of the chunk and then merged (Chan, Golub, LeVeque, The American
    Statistician 1983), so that a mean far from 0 does not reduce the precision. The memory is D x D float64 values and
    one chunk, for any number of rows.

    Args:
        dim: number of dimensions D of the rows.

    Attributes:
        count: number of rows added so far.
        mean: mean of these rows, (D,) float64; 0 before the first row.
        scatter: sum of (x - mean)(x - mean)^T over these rows x, (D, D) float64.
    """

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.mean = np.zeros(dim)
        self.scatter = np.zeros((dim, dim))

    def add(self, rows: np.ndarray) -> None:
        """Adds descriptors to the statistics.

        Args:
            rows: descriptors to add, (n, D).

        Raises:
            ArgumentError: the rows do not have D dimensions.
            DescriptorError: a row contains NaN or an infinite number. The message contains the number of this row,
                counted from the first row that was ever added.
        """
        rows = as_rows(rows, "rows", None)
        if rows.shape[1] != len(self.mean):
            raise ArgumentError(f"rows must have {len(self.mean)} dimensions, got {rows.shape[1]}")
        for start in range(0, len(rows), _ROWS):
            self._merge(np.array(rows[start : start + _ROWS], np.float64))

    def about(self, point: np.ndarray) -> np.ndarray:
        """Computes the scatter matrix of the rows about a given point instead of their mean.

        Args:
            point: the point, (D,).

        Returns:
            The sum of (x - point)(x - point)^T over the rows x, (D, D) float64.
        """
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
    """Accumulates the statistics of matching pairs of descriptors that `fit_lw` needs, in float64.

    A pair (q, p) consists of the descriptors of a query and a positive.

    Args:
        dim: number of dimensions D of the descriptors.
    """

    def __init__(self, dim: int) -> None:
        self._queries = Moments(dim)
        self._differences = Moments(dim)

    @property
    def count(self) -> int:
        """Number of pairs added so far."""
        return self._differences.count

    @property
    def mean(self) -> np.ndarray:
        """The mean of the queries over all pairs, (D,) float64; a query in two pairs counts twice."""
        return self._queries.mean

    @property
    def within(self) -> np.ndarray:
        """The mean of (q - p)(q - p)^T over all pairs, (D, D) float64, denoted by S in `fit_lw`."""
        return self._differences.about(np.zeros(len(self.mean))) / self.count

    def add(self, queries: np.ndarray, positives: np.ndarray) -> None:
        """Adds pairs to the statistics.

        Args:
            queries: descriptor of the query q of each pair, (n, D).
            positives: descriptor of the positive p of each pair, (n, D).

        Raises:
            ArgumentError: the shapes do not match.
            DescriptorError: a descriptor contains NaN or an infinite number; the message names the pair.
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


def lw_shrinkage(photos: int, dimensions: int) -> float:
    """Chooses the shrinkage of Lw, the whitening that is learned from matching pairs, by the number of photos.

    Args:
        photos: number of different photos in the pairs.
        dimensions: number of dimensions of the descriptors.

    Returns:
        1.0 if there are fewer than 4 photos per dimension (PHOTOS_PER_DIMENSION), else 0.0, as published.
    """
    return 1.0 if photos < PHOTOS_PER_DIMENSION * dimensions else 0.0


def fit_lw(rows: Moments, pairs: PairMoments, shrinkage: float = 0.0) -> Projection:
    """Computes Lw, the learned whitening (Radenovic et al. TPAMI 2018, after Mikolajczyk and Matas ICCV 2007).

    Let m be the mean of the queries of the matching pairs, S the mean of (q - p)(q - p)^T over the pairs, and C the
    scatter matrix of all rows about m. P0 = chol(S + aI)^-1 whitens the differences within pairs. E contains the
    eigenvectors of P0 C P0^T in order of decreasing eigenvalues, and the projection is P = E^T P0. a is 0 if S is
    numerically positive definite; otherwise, as with fewer pairs than dimensions, a is the first of 1e-10, 1e-9, .. for
    which S + aI is numerically positive definite.

    If the pairs contain few photos, S is determined in few directions only, and P0 amplifies all other directions.
    Shrinkage therefore replaces S by S + shrinkage * tr(S) / D * I (towards the mean variance, as Ledoit and Wolf, J.
    Multivariate Analysis 2004). With increasing shrinkage Lw approaches a PCA rotation without scaling.

    Args:
        rows: statistics of all descriptors.
        pairs: statistics of the matching pairs.
        shrinkage: weight of the shrinkage, at least 0. 0 gives the published formula; about 1 is suitable if the pairs
            contain few photos in relation to the number D of dimensions.

    Returns:
        The shift m and the projection P. With S after shrinkage, P (S + aI) P^T = I, and P C P^T is diagonal with
        decreasing entries.

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
    return Projection(pairs.mean.copy(), fixed_sign(E.T @ P0), shrinkage)


def fit_pca(rows: Moments) -> Projection:
    """Computes the PCA whitening P = Lambda^(-1/2) E^T (Jegou and Chum ECCV 2012).

    Lambda contains the eigenvalues and E the eigenvectors of the covariance matrix C of the rows about their mean, in
    order of decreasing eigenvalues. Directions without variance, which exist if there are fewer rows than dimensions,
    come last. They are scaled like the direction with the smallest variance above 0, so that they are not amplified
    when the whitening is applied to other descriptors.

    Args:
        rows: statistics of all descriptors.

    Returns:
        The shift m, which is the mean of the rows, and the projection P, (D, D). P C P^T is the identity on the
        directions with variance.

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
    """Learns Lw from descriptors and matching pairs of them; see `fit_lw` for the formulas.

    The function makes one pass over the descriptors and one pass over the pairs.

    Args:
        database: all descriptors, as an array (N, D) or as a sequence of arrays (n, D).
        qidxs: row number of the query of each pair, (pairs,); a query in several pairs counts several times.
        pidxs: row number of the positive of each pair, (pairs,).
        shrinkage: weight of the shrinkage, at least 0. 0 gives the published formula; about 1 is suitable if the pairs
            contain few photos in relation to the number D of dimensions.

    Returns:
        The whitening, with the shift m and the projection P that `fit_lw` computes.

    Raises:
        ArgumentError: `qidxs` and `pidxs` differ in length, an index is not in 0..N-1, there are fewer than 2 pairs or
            no rows, or `shrinkage` is below 0.
        DescriptorError: a descriptor contains NaN or an infinite number.
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
    """Learns a PCA whitening from descriptors in one pass; see `fit_pca` for the formulas.

    Args:
        database: the descriptors, as an array (N, D) or as a sequence of arrays (n, D).

    Returns:
        The whitening, with the shift m and the projection P that `fit_pca` computes.

    Raises:
        ArgumentError: there are fewer than 2 rows, or all rows are equal.
        DescriptorError: a descriptor contains NaN or an infinite number.
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
    """Computes the eigenvalues and eigenvectors of a symmetric matrix.

    Args:
        symmetric: the matrix, (n, n); rounding errors that break the symmetry are averaged out.

    Returns:
        The eigenvalues in descending order, (n,), and the eigenvectors as columns in the same order, (n, n).
    """
    values, vectors = np.linalg.eigh((symmetric + symmetric.T) / 2)
    return values[::-1], vectors[:, ::-1]


def fixed_sign(P: np.ndarray) -> np.ndarray:
    """Changes the signs of rows so that the entry with the largest absolute value in each row is positive.

    This makes results reproducible, because the sign of an eigenvector is arbitrary.

    Args:
        P: a matrix with eigenvectors as rows, (d, D).

    Returns:
        The matrix with the changed signs, (d, D).
    """
    largest = np.take_along_axis(P, np.abs(P).argmax(axis=1)[:, None], 1)
    return P * np.where(largest < 0, -1.0, 1.0)

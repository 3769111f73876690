"""Which rows of a database are likely to show the same object, judged by distances relative to those around them.

Query-time methods assume that the first rows of a ranking are matches. Where an object has few images they are not, and
such methods then make a ranking worse. A similarity alone does not tell matches apart, because what is similar depends
on the network, the collection and the image. Relative to the usual distances around both images, it does: the idea is
that of local scaling (Zelnik-Manor and Perona, NIPS 2004) and of the contextual dissimilarity measure (Jegou et al.
TPAMI 2010).
"""

import numpy as np

from ..errors import ArgumentError
from .nearest import nearest
from .rows import Advance, Database, count_rows, gather

NEIGHBOURS = 20  # the neighbour whose distance is the scale of a row
SMALL = 40  # in a database of N rows at most the neighbour N / 40
SMALL_INDEX = 5  # for a calibration, which learns what the nearness means in its index, at most the neighbour N / 5
NONE, SURE = 0.2, 0.4  # nearness, relative to the scales, at which the weight becomes 0 and 1
SAME = 1e-5  # a row this near to a query is the query's own image
_ROWS = 1024  # rows whose scales are computed at a time
_FLOATS = 2**24  # values of descriptors in memory at a time, 64 MB


class LikelyMatches:
    """Weights between 0 and 1 for pairs of images: 1 for likely matches, 0 for unlikely ones.

    Let d(x, y) = 1 - s be the distance of two descriptors with the inner product s, and the scale c(x) the distance of
    x to its neighbour k among the other rows of the database, with k = 20, or N / 40 in a database of less than 800
    rows, where the 20th neighbour is an image from anywhere in it. The nearness of two descriptors is r = 1 - 2 d(x, y)
    / (c(x) + c(y)). The weight is 0 up to r = 0.2, 1 from r = 0.4 on, and linear in between. An image of which the
    database has no match has no neighbour much nearer than the next ones, so that its weights are 0, whatever the
    similarities are. Scales are computed when they are first needed, and kept. In a database of less than 80 rows, k is
    1, and all weights are 0.

    Args:
        database: L2-normalised descriptors of the database, as an array (N, D) or as a sequence of arrays (n, D).

    Attributes:
        neighbour: the k of the scales.
        size: the number N of rows.
    """

    def __init__(self, database: Database) -> None:
        self._database, self.size = database, count_rows(database)
        self.neighbour = scale_neighbour(self.size, SMALL)
        self._scales = np.full(self.size, np.nan, np.float32)

    def of_queries(
        self, queries: np.ndarray, indexes: np.ndarray, similarities: np.ndarray | None = None
    ) -> np.ndarray:
        """Computes the weights of rows of the database for queries.

        A row that equals the query, such as the query's own image, does not count for the scale of the query.

        Args:
            queries: descriptors of the queries, (Q, D), L2-normalised.
            indexes: row numbers for each query, (Q, n) integers.
            similarities: similarities of each query to its nearest rows of this database, (Q, m), most similar first,
                where they are known. None, or m below `neighbour` + 1, searches the database.

        Returns:
            The weights, (Q, n) float32.
        """
        if not len(queries):
            return np.zeros(indexes.shape, np.float32)
        scores = similarities
        if scores is None or scores.shape[1] < min(self.neighbour + 1, self.size):
            _, scores = nearest(queries, self._database, self.neighbour + 1)
        own = (scores[:, 0] > 1 - SAME).astype(np.int64)
        place = np.minimum(self.neighbour - 1 + own, scores.shape[1] - 1)
        scales = 1 - np.take_along_axis(scores, place[:, None], 1)[:, 0]
        return self._weights(queries, scales, indexes)

    def of_rows(self, rows: np.ndarray, indexes: np.ndarray) -> np.ndarray:
        """Computes the weights of pairs of rows.

        Args:
            rows: row numbers, (R,) integers.
            indexes: numbers of the rows with which each of them is compared, (R, n) integers.

        Returns:
            The weights, (R, n) float32.
        """
        weights = np.empty(indexes.shape, np.float32)
        size = max(1, _FLOATS // self._width)
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            own = gather(self._database, rows[part])
            weights[part] = self._weights(own, self.scales(rows[part]), indexes[part])
        return weights

    def among(self, rows: np.ndarray) -> np.ndarray:
        """Computes the weights of all pairs of some rows.

        Args:
            rows: row numbers, (M,) integers.

        Returns:
            The weights, (M, M) float32, symmetric up to rounding, with 0 on the diagonal.
        """
        own, scales = gather(self._database, rows), self.scales(rows)
        weights = _weight(own @ own.T, scales[:, None], scales[None])
        np.fill_diagonal(weights, 0)
        return weights

    def missing(self, rows: np.ndarray) -> np.ndarray:
        """Returns which of the given rows have scales that are not known yet: each once, ascending."""
        rows = np.ravel(rows)
        return np.unique(rows[np.isnan(self._scales[rows])])

    def scales(self, rows: np.ndarray, advance: Advance | None = None) -> np.ndarray:
        """Returns the scales c of rows, (n,) float32, which it computes first where they are not known yet.

        Args:
            rows: row numbers, (n,) integers.
            advance: function that is called with the number of scales computed since its last call, to show progress.
        """
        missing = self.missing(rows)
        if self.size < 2:
            self._scales[missing] = 0
            missing = missing[:0]
        for start in range(0, len(missing), _ROWS):
            part = missing[start : start + _ROWS]
            # Each row is its own nearest; where copies precede it, they have the same similarity.
            _, scores = nearest(gather(self._database, part), self._database, self.neighbour + 1)
            self._scales[part] = 1 - scores[:, -1]
            if advance:
                advance(len(part))
        return self._scales[rows]

    def learn(self, database: Database, similarities: np.ndarray) -> None:
        """Takes the scales of all rows from similarities that were computed for another purpose.

        Args:
            database: the database whose rows were compared. Nothing is learned if it is another one, such as the same
                with database augmentation.
            similarities: similarities of each row to its nearest other rows, (N, m), most similar first, as
                `nearest_others` computes them. Nothing is learned if m is too small.

        Raises:
            ArgumentError: there is not one line for each row.
        """
        if database is not self._database:
            return
        if len(similarities) != self.size:
            raise ArgumentError(f"similarities must have {self.size} lines, got {len(similarities)}")
        if similarities.shape[1] >= self.neighbour:
            self._scales[:] = 1 - similarities[:, self.neighbour - 1]

    def _weights(self, descriptors: np.ndarray, scales: np.ndarray, indexes: np.ndarray) -> np.ndarray:
        """Computes the weights (R, n) of rows `indexes` (R, n) for descriptors (R, D) with known scales (R,)."""
        weights = np.empty(indexes.shape, np.float32)
        others = self.scales(indexes.ravel()).reshape(indexes.shape)
        size = max(1, _FLOATS // max(1, indexes.shape[1] * self._width))
        for start in range(0, len(descriptors), size):
            part = slice(start, start + size)
            near = gather(self._database, indexes[part])
            similarities = (near @ descriptors[part, :, None])[..., 0]
            weights[part] = _weight(similarities, scales[part, None], others[part])
        return weights

    @property
    def _width(self) -> int:
        shards = [self._database] if isinstance(self._database, np.ndarray) else self._database
        return max(1, shards[0].shape[1]) if len(shards) else 1


def scale_neighbour(size: int, part: int = SMALL_INDEX) -> int:
    """Returns the k of the scales in a database of `size` rows: 20, or size / part in a small one, at least 1."""
    return min(NEIGHBOURS, max(1, size // part))


def nearness(similarities: np.ndarray, scales: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Computes the nearness r of descriptors; see `LikelyMatches`.

    Args:
        similarities: inner products of L2-normalised descriptors.
        scales: scales of the descriptors on one side; all arrays must have shapes that can be broadcast.
        others: scales of those on the other side.

    Returns:
        1 for equal descriptors, 0 where the distance is the mean of the scales, negative beyond.
    """
    return 1 - 2 * (1 - similarities) / np.maximum(scales + others, 1e-6)


def _weight(similarities: np.ndarray, scales: np.ndarray, others: np.ndarray) -> np.ndarray:
    near = nearness(similarities, scales, others)
    return np.clip((near - NONE) / (SURE - NONE), 0, 1).astype(np.float32)

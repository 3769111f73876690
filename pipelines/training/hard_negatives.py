"""Chooses hard negatives for queries: from the pool, from a random sample of it, or from lists in tuples.npz."""

import numpy as np

from keras_retrieval.mining.hard_negatives import (
    MiningError,
    first_of_each_cluster,
    rank_candidates,
    require_clusters,
)

from ..descriptors.approximate_search import approximate_neighbours
from ..training_tuples.data import Tuples
from .mining_options import MiningOptions
from .photo_descriptors import PhotoDescriptors

NEIGHBOURS = 256  # number of neighbours of each query in an approximate search; many may be of the query's own cluster


class HardNegatives:
    """Chooses for each query the photos of other clusters with the nearest descriptors, one per cluster.

    A cluster is a group of photos that show the same object. The candidates are the photos of the epoch's pool, which
    are drawn at random. With `options.sample`, the candidates of each query are a random sample of the pool. This
    avoids the very hardest photos, which often show the query's object after all. With `options.remember`, the previous
    negatives of a query remain candidates even if they are not in the sample (Arandjelovic et al. CVPR 2016). If
    tuples.npz, the file of the training tuples, lists negatives for each photo, only these are candidates.

    Args:
        tuples: all tuples.
        rows: row numbers of the photos that may be negatives; a row number is an index into `tuples.images`.
        descriptors: stores the descriptors of the photos; negatives are compared with queries by these descriptors.
        options: the options of mining.

    Attributes:
        pool: (n,) row numbers of the photos in the epoch's pool that have descriptors, sorted by cluster.
        listed: whether tuples.npz lists negatives.
    """

    def __init__(self, tuples: Tuples, rows: np.ndarray, descriptors: PhotoDescriptors, options: MiningOptions) -> None:
        self.cluster, self.same_object = tuples.cluster, tuples.same_object
        self.pool = np.zeros(0, np.int64)
        self.listed = tuples.negatives is not None
        self._rows, self._descriptors, self._options = rows, descriptors, options
        self._last = np.full((len(tuples.images), options.negatives), -1, np.int32) if options.remember else None
        lists = np.zeros((0, 0), np.int32) if tuples.negatives is None else tuples.negatives
        self._lists = np.where(np.isin(lists, rows), lists, -1)

    def possible(self, queries: np.ndarray) -> np.ndarray:
        """Returns an (n,) bool mask of the queries for which `options.negatives` negatives exist.

        Args:
            queries: (n,) row numbers of the query photos.

        Raises:
            MiningError: tuples.npz lists negatives, and no query has enough of them; or it lists no negatives, and
                there are too few other clusters for a query.
        """
        if not self.listed:
            require_clusters(self.cluster[queries], self.cluster[self._rows], self.same_object, self._options.negatives)
            return np.ones(len(queries), bool)
        possible = self.enough_listed(queries)
        if not possible.any():
            raise MiningError(
                f"no query of the tuples has {self._options.negatives} negatives in its list: use fewer negatives"
            )
        return possible

    def enough_listed(self, queries: np.ndarray, described: bool = False) -> np.ndarray:
        """Returns an (n,) bool mask of the queries whose list in tuples.npz has enough negatives of different clusters.

        Args:
            queries: (n,) row numbers of the query photos.
            described: whether only negatives that have a descriptor count.
        """
        rows, candidates = self._listed(queries, described)
        clusters = self.cluster[queries], self.cluster[rows]
        chosen = first_of_each_cluster(candidates, *clusters, self._options.negatives, same_object=self.same_object)
        return chosen[:, -1] >= 0

    def needed(self, queries: np.ndarray) -> np.ndarray:
        """Returns the photos, besides those of the pool, whose descriptors are needed to choose negatives for queries.

        These are the queries' previous negatives with `options.remember`, and their listed negatives.

        Args:
            queries: (n,) row numbers of the query photos.

        Returns:
            (m,) row numbers of the photos in ascending order.
        """
        found = self._last[queries] if self._last is not None else np.zeros(0, np.int64)
        found = np.union1d(found, self._lists[queries] if self.listed else found)
        return found[found >= 0]

    def choose(
        self, queries: np.ndarray, rng: np.random.Generator, pool: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Chooses N = `options.negatives` negatives for each query.

        Args:
            queries: (n,) row numbers of the query photos.
            rng: random generator that draws the samples of the pool.
            pool: (m,) row numbers of the photos in a new pool, at the beginning of an epoch. None keeps the current
                pool, to choose again for some queries within an epoch. If a new pool has more than
                `options.approximate_above` photos, ScaNN searches it; the current pool is searched exactly, because
                building an index takes time.

        Returns:
            (n, N) row numbers of the negatives, and (n, N) float32 Euclidean distances between the descriptors of the
            query and of its negatives.

        Raises:
            MiningError: the photos with descriptors are of too few clusters for a query.
        """
        if pool is not None:
            self._set_pool(pool, queries)
        options, candidates = self._options, None
        rows, places = self._candidates(queries, rng)
        own, others = self._descriptors.of(queries), self._descriptors.picked(rows)
        if places is not None:
            candidates = rank_candidates(own, others, places)
        elif pool is not None and len(rows) > options.approximate_above:
            candidates = approximate_neighbours(own, self._descriptors.of(rows), NEIGHBOURS)
        indexes, distances = options.choose_negatives(
            own, self.cluster[queries], others, self.cluster[rows], options.negatives,
            same_object=self.same_object, candidates=candidates,
        )  # fmt: skip
        if self._last is not None:
            self._last[queries] = rows[indexes]
        return rows[indexes], distances

    def state(self) -> dict[str, np.ndarray]:
        """Returns the pool and the previous negatives of all queries as arrays, for a checkpoint and for `restore`.

        The arrays are not copied: the next call of `choose` changes them.
        """
        return {"pool": self.pool} | ({} if self._last is None else {"last": self._last})

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Restores the pool and the previous negatives from the arrays that `state` returned."""
        self.pool = state["pool"]
        if self._last is not None:
            self._last = state["last"].copy()

    def _set_pool(self, pool: np.ndarray, queries: np.ndarray) -> None:
        """Sets the pool to those given photos, and those previous negatives of the queries, that have descriptors."""
        pool = pool if self.listed else np.union1d(pool, self.needed(queries))
        pool = pool[self._descriptors.has(pool)]
        self.pool = pool[np.argsort(self.cluster[pool], kind="stable")]  # mining is fastest on a sorted pool

    def _candidates(self, queries: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns the photos to choose from, and each query's candidates: positions (n, k) in them, or None for all."""
        if self.listed:
            return self._listed(queries, described=True)
        if not 0 < self._options.sample < len(self.pool):
            return self.pool, None
        places = rng.integers(0, len(self.pool), (len(queries), self._options.sample))
        if self._last is not None:
            places = np.concatenate([places, _positions(self.pool, self._last[queries])], axis=1)
        return self.pool, places

    def _listed(self, queries: np.ndarray, described: bool) -> tuple[np.ndarray, np.ndarray]:
        rows = np.unique(self._lists[queries])
        rows = rows[rows >= 0]
        rows = rows[self._descriptors.has(rows)] if described else rows
        return rows, _positions(rows, self._lists[queries])


def _positions(pool: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns the position in the pool of each row number, -1 if it is not there; `rows` may have any shape."""
    position = np.full(max(pool.max(initial=-1), rows.max(initial=-1)) + 2, -1)  # the last one: row number -1
    position[pool] = np.arange(len(pool))
    return position[rows]

"""Choice of hard negatives for the queries of an epoch, from a pool, a sample of the pool, or each photo's own list."""

import numpy as np

from keras_retrieval.mining.hard_negatives import (
    MiningError,
    first_of_each_cluster,
    rank_candidates,
    require_clusters,
)

from ..training_tuples.data import Tuples
from .approximate_search import approximate_neighbours
from .mining_options import MiningOptions
from .photo_descriptors import PhotoDescriptors

NEIGHBOURS = 256  # neighbours of each query in an approximate search; many may be of its own cluster


class HardNegatives:
    """Chooses for each query the photos of other clusters with the nearest descriptors, one per cluster.

    Drawing a sample of the pool for each query avoids the very hardest photos, which often show the query's object
    after all. The previous negatives of the query remain candidates, so that the sample need not find them again
    (Arandjelovic et al. CVPR 2016). If tuples.npz lists negatives for each photo, only these are candidates.

    Args:
        tuples: all tuples.
        rows: row numbers of the photos that may be negatives.
        descriptors: the descriptors of the photos.
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
        """Returns an (n,) bool mask of the queries for which enough negatives exist.

        Args:
            queries: (n,) row numbers of the query photos.

        Raises:
            MiningError: no query has enough listed negatives, or, without lists, there are too few other clusters for a
                query.
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
        """Returns an (n,) bool mask of the queries with enough negatives in their lists.

        Args:
            queries: (n,) row numbers of the query photos.
            described: whether to count only negatives that have a descriptor.
        """
        rows, candidates = self._listed(queries, described)
        clusters = self.cluster[queries], self.cluster[rows]
        chosen = first_of_each_cluster(candidates, *clusters, self._options.negatives, same_object=self.same_object)
        return chosen[:, -1] >= 0

    def needed(self, queries: np.ndarray) -> np.ndarray:
        """Returns the photos outside the pool whose descriptors are needed to choose negatives for the queries.

        Args:
            queries: (n,) row numbers of the query photos.

        Returns:
            The row numbers of the photos in ascending order.
        """
        found = self._last[queries] if self._last is not None else np.zeros(0, np.int64)
        found = np.union1d(found, self._lists[queries] if self.listed else found)
        return found[found >= 0]

    def choose(
        self, queries: np.ndarray, rng: np.random.Generator, pool: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Chooses the negatives of queries.

        Args:
            queries: (n,) row numbers of the query photos.
            rng: random generator that draws the sample.
            pool: (m,) row numbers of the photos in a new pool, for all queries of an epoch; None chooses again for some
                of the queries from the same pool. Only a new pool may be searched by ScaNN, because building its index
                takes time.

        Returns:
            (n, N) row numbers of the negatives, and (n, N) float32 distances from the query to them.
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
        """Returns the arrays from which `restore` continues; they are not copied, and change with the next choice."""
        return {"pool": self.pool} | ({} if self._last is None else {"last": self._last})

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Restores a `state`."""
        self.pool = state["pool"]
        if self._last is not None:
            self._last = state["last"].copy()

    def _set_pool(self, pool: np.ndarray, queries: np.ndarray) -> None:
        """Sets the pool: of the given photos and the earlier negatives of the queries those that are described."""
        pool = pool if self.listed else np.union1d(pool, self.needed(queries))
        pool = pool[self._descriptors.has(pool)]
        self.pool = pool[np.argsort(self.cluster[pool], kind="stable")]  # mining is fastest on a sorted pool

    def _candidates(self, queries: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
        """The photos to choose from, and the positions (n, k) in them of each query's candidates; None for all."""
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
    """The positions in the pool of rows of photos, of any shape; -1 for rows that are not in it."""
    position = np.full(max(pool.max(initial=-1), rows.max(initial=-1)) + 2, -1)  # the last one is that of row -1
    position[pool] = np.arange(len(pool))
    return position[rows]

"""Hard negatives for the queries of an epoch, from a pool, a sample of the pool, or the list of each photo."""

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

NEIGHBOURS = 256  # of each query, from an approximate search; its own cluster may use up many


class HardNegatives:
    """Chooses for each query the photos of other clusters with the nearest descriptors, one per cluster.

    A sample of the pool for each query avoids the very hardest photos, which often show the query's object after all;
    the negatives that the query had before are candidates as well, so that the sample need not find them again
    (Arandjelovic et al. CVPR 2016). Where tuples.npz lists negatives for each photo, only these are candidates.

    Args:
        tuples: all tuples.
        rows: the photos that may be negatives.
        descriptors: the descriptors of the photos.
        options: the options of mining.

    Attributes:
        pool: (n,) rows of photos, those of the epoch's pool that are described, sorted by cluster.
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
        """Whether each query has enough photos of other clusters to take negatives from, (n,) bool.

        Raises:
            MiningError: no query has enough listed negatives, or, without lists, a query has too few clusters.
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
        """Whether each query has enough negatives in its list, (n,) bool.

        Args:
            queries: (n,) row numbers of the query photos.
            described: count only negatives that have a descriptor.
        """
        rows, candidates = self._listed(queries, described)
        clusters = self.cluster[queries], self.cluster[rows]
        chosen = first_of_each_cluster(candidates, *clusters, self._options.negatives, same_object=self.same_object)
        return chosen[:, -1] >= 0

    def needed(self, queries: np.ndarray) -> np.ndarray:
        """The photos outside the pool whose descriptors the choice for these queries needs, in ascending order."""
        found = self._last[queries] if self._last is not None else np.zeros(0, np.int64)
        found = np.union1d(found, self._lists[queries] if self.listed else found)
        return found[found >= 0]

    def choose(
        self, queries: np.ndarray, rng: np.random.Generator, pool: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Chooses the negatives of queries.

        Args:
            queries: (n,) rows of photos.
            rng: draws the sample.
            pool: (n,) rows of photos, for all queries of an epoch; None for some of the queries with the same pool.
                Only a new pool may be searched by ScaNN, which takes the time to build an index.

        Returns:
            (n, N) rows of photos, and their distances to the query (n, N) float32.
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
        """The arrays from which `restore` continues; they are not copied, and change with the next choice."""
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

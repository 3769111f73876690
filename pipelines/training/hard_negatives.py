"""Whom a query of the stream gets for negatives: the hard ones of a pool, of a sample of it, or of its own list."""

from collections.abc import Callable

import numpy as np

from keras_retrieval.mining.hard_negatives import (
    MiningError,
    first_of_each_cluster,
    mine_negatives,
    require_clusters,
    search_among,
)

from ..training_tuples.data import Tuples
from .approximate_search import scann_search
from .photo_descriptors import PhotoDescriptors

Pick = Callable[..., tuple[np.ndarray, np.ndarray]]
"""`keras_retrieval.mining.mine_negatives`, or a function that takes and gives the same."""


class HardNegatives:
    """Chooses for each query the photos of other clusters that are nearest by descriptor, one per cluster.

    They are looked for in a pool. A sample drawn from it for each query is no search for the very hardest, which are
    often wrong; what was hard when the query was seen last is looked at besides, so that the sample need not find it
    again (Arandjelovic et al. CVPR 2016). Where tuples.npz lists negatives for each photo, these are looked at instead.

    Args:
        tuples: all.
        rows: the photos that may be negatives.
        descriptors: of the photos.
        count: N negatives of each query.
        sample: photos of the pool that are drawn for each query; 0 for all.
        remember: look at what was chosen for the query before, too.
        approximate_above: the size of a pool from which ScaNN searches it (the extra "index").
        pick: chooses negatives.

    Attributes:
        pool: (n,) rows of photos.
        listed: whether tuples.npz lists them.
    """

    def __init__(
        self,
        tuples: Tuples,
        rows: np.ndarray,
        descriptors: PhotoDescriptors,
        *,
        count: int,
        sample: int = 0,
        remember: bool = False,
        approximate_above: int = 500_000,
        pick: Pick = mine_negatives,
    ) -> None:
        self.cluster, self.same_object = tuples.cluster, tuples.same_object
        self.count, self.sample, self.approximate_above, self.pick = count, sample, approximate_above, pick
        self.pool = np.zeros(0, np.int64)
        self._descriptors = descriptors
        self._last = np.full((len(tuples.images), count), -1, np.int32) if remember else None
        self.listed = tuples.negatives is not None
        lists = np.zeros((0, 0), np.int32) if tuples.negatives is None else tuples.negatives
        self._lists = np.where(np.isin(lists, rows), lists, -1)

    def require(self, queries: np.ndarray, pool: np.ndarray) -> None:
        """Checks that every query can have its negatives, as far as clusters tell.

        Raises:
            MiningError: one cannot, and the message names its cluster or the photo.
        """
        if not self.listed:
            require_clusters(self.cluster[queries], self.cluster[pool], self.same_object, self.count)
        elif not self.enough(queries).any():
            raise MiningError(f"no query of the tuples has {self.count} negatives in its list: ask for fewer negatives")

    def enough(self, queries: np.ndarray, described: bool = False) -> np.ndarray:
        """Which of the queries (n,) have enough listed negatives; all have where there are no lists.

        Args:
            queries: rows of photos.
            described: count those alone that have a descriptor.
        """
        if not self.listed:
            return np.ones(len(queries), bool)
        pool, candidates = self._candidates_listed(queries, described)
        clusters = self.cluster[queries], self.cluster[pool]
        chosen = first_of_each_cluster(candidates, *clusters, self.count, same_object=self.same_object)
        return chosen[:, -1] >= 0

    def asked(self, queries: np.ndarray) -> np.ndarray:
        """The photos beside the pool whose descriptors the choice for these queries needs, in rising order."""
        found = self._last[queries] if self._last is not None else np.zeros(0, np.int64)
        found = np.union1d(found, self._lists[queries] if self.listed else found)
        return found[found >= 0]

    def set_pool(self, pool: np.ndarray, queries: np.ndarray) -> None:
        """Takes an epoch's pool, with what was hard for its queries before, as far as there are descriptors."""
        pool = pool if self.listed else np.union1d(pool, self.asked(queries))
        pool = pool[self._descriptors.has(pool)]
        self.pool = pool[np.argsort(self.cluster[pool], kind="stable")]  # as mining reads it in place

    def choose(
        self, queries: np.ndarray, draw: np.random.Generator, approximate: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """The negatives (n, N), rows of photos, of query rows (n,), and their distances.

        Args:
            queries: rows of photos.
            draw: the sample.
            approximate: whether an index is worth its making.
        """
        pool, candidates = self._candidates(queries, draw)
        rows = self._descriptors.many(pool)
        options = {}
        if candidates is not None:
            options = {"search": search_among(rows, candidates), "candidates": candidates.shape[1]}
        elif approximate and len(pool) > self.approximate_above:
            options = {"search": scann_search(self._descriptors.of(pool))}
        indexes, distances = self.pick(
            self._descriptors.of(queries),
            self.cluster[queries],
            rows,
            self.cluster[pool],
            self.count,
            same_object=self.same_object,
            **options,
        )
        if self._last is not None:
            self._last[queries] = pool[indexes]
        return pool[indexes], distances

    def state(self) -> dict[str, np.ndarray]:
        """What `restore` needs to choose the same next; it changes with the next choice."""
        return {"pool": self.pool} | ({} if self._last is None else {"last": self._last})

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Goes back to a `state`."""
        self.pool = state["pool"]
        if self._last is not None:
            self._last = state["last"].copy()

    def _candidates(self, queries: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
        """The rows to choose from and, per query, which of them (n, k), -1 fills up; None for all."""
        if self.listed:
            return self._candidates_listed(queries, described=True)
        if not 0 < self.sample < len(self.pool):
            return self.pool, None
        candidates = draw.integers(0, len(self.pool), (len(queries), self.sample))
        if self._last is not None:
            candidates = np.concatenate([candidates, _places(self.pool, self._last[queries])], axis=1)
        return self.pool, candidates

    def _candidates_listed(self, queries: np.ndarray, described: bool) -> tuple[np.ndarray, np.ndarray]:
        pool = np.unique(self._lists[queries])
        pool = pool[pool >= 0]
        pool = pool[self._descriptors.has(pool)] if described else pool
        return pool, _places(pool, self._lists[queries])


def _places(pool: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Where in the pool rows of photos, of any shape, stand; -1 for none."""
    place = np.full(max(pool.max(initial=-1), rows.max(initial=-1)) + 2, -1)  # the last one is that of -1
    place[pool] = np.arange(len(pool))
    return place[rows]

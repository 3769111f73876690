"""Chooses the positive of each query of an epoch, at random or by descriptor."""

import numpy as np

from .photo_descriptors import PhotoDescriptors


class HardPositives:
    """Chooses the positive of each query: the drawn one, or by descriptor the nearest or the farthest of its positives.

    The nearest positive is the choice of Arandjelovic et al. (CVPR 2016). The caller draws an epoch from the attribute
    `pairs`, computes the descriptors of the queries and of the photos that `needed` returns, and calls `choose`.

    Args:
        pairs: (n, 2) row numbers of the query and the positive of each pair, in any order; a query may be in several
            pairs. A row number is the index of a photo in the list of all photos.
        positive: the rule: "drawn" keeps the positive of the pair that was drawn at random, "nearest" and "farthest"
            choose by descriptor.
        descriptors: stores the descriptors of the photos; the positives are compared by these descriptors.

    Attributes:
        pairs: (n, 2) pairs from which the caller draws the queries of an epoch: all given pairs with the rule "drawn";
            with the other rules the first pair of each query, in the given order.
    """

    def __init__(self, pairs: np.ndarray, positive: str, descriptors: PhotoDescriptors) -> None:
        self.pairs, self._descriptors = pairs, descriptors
        self._by_query: np.ndarray | None = None
        self._sign = -1 if positive == "farthest" else 1
        if positive != "drawn":
            self._by_query = pairs[np.argsort(pairs[:, 0], kind="stable")]
            self.pairs = pairs[np.sort(np.unique(pairs[:, 0], return_index=True)[1])]

    def needed(self, queries: np.ndarray) -> np.ndarray:
        """Returns the positives whose descriptors must be stored before `choose` is called for some queries.

        Args:
            queries: (n,) row numbers of the queries.

        Returns:
            (m,) row numbers of all positives of these queries; empty with the rule "drawn", which needs no descriptors.
        """
        if self._by_query is None:
            return queries[:0]
        return self._by_query[np.isin(self._by_query[:, 0], queries), 1]

    def choose(self, pairs: np.ndarray) -> np.ndarray:
        """Chooses the positives of the queries in drawn pairs.

        Args:
            pairs: (n, 2) row numbers of the queries and of their drawn positives. With "nearest" and "farthest", the
                queries must have descriptors.

        Returns:
            (m, 2) row numbers of the queries and of the chosen positives. A query is left out if it has no positive
            with a descriptor. With "drawn", the pairs are returned unchanged.
        """
        if self._by_query is None:
            return pairs
        found = []
        for query in pairs[:, 0].tolist():
            first, end = np.searchsorted(self._by_query[:, 0], [query, query + 1])
            positives = self._by_query[first:end, 1]
            positives = positives[self._descriptors.has(positives)]
            if len(positives):
                similarity = self._descriptors.of(positives) @ self._descriptors.of(np.array([query]))[0]
                found.append((query, positives[np.argmax(self._sign * similarity)]))
        return np.array(found, pairs.dtype).reshape(-1, 2)

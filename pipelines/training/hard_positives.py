"""Which of its positives goes with a query of the stream: the one drawn with it, or one chosen by descriptor."""

import numpy as np

from .photo_descriptors import PhotoDescriptors

POSITIVES = ("drawn", "nearest", "farthest")


class HardPositives:
    """Gives each query the nearest (Arandjelovic et al. CVPR 2016) or farthest of all its positives, or the drawn one.

    Args:
        pairs: (n, 2) rows of photos, a query and a positive each; a query may have many.
        positive: one of POSITIVES.
        descriptors: of the photos.

    Attributes:
        pairs: that an epoch draws from: all, or one of each query where its positive is chosen by descriptor.

    Raises:
        ValueError: there is no such choice.
    """

    def __init__(self, pairs: np.ndarray, positive: str, descriptors: PhotoDescriptors) -> None:
        if positive not in POSITIVES:
            raise ValueError(f"a positive is {' or '.join(POSITIVES)}, not {positive}")
        self.pairs, self._descriptors = pairs, descriptors
        self._by_query: np.ndarray | None = None
        self._sign = -1 if positive == "farthest" else 1
        if positive != "drawn":
            self._by_query = pairs[np.argsort(pairs[:, 0], kind="stable")]
            self.pairs = pairs[np.sort(np.unique(pairs[:, 0], return_index=True)[1])]

    def asked(self, queries: np.ndarray) -> np.ndarray:
        """The photos whose descriptors the choice for these queries needs, beside their own."""
        if self._by_query is None:
            return queries[:0]
        return self._by_query[np.isin(self._by_query[:, 0], queries), 1]

    def choose(self, pairs: np.ndarray) -> np.ndarray:
        """The pairs (n, 2), each with the positive that counts; without those that have none with a descriptor."""
        if self._by_query is None:
            return pairs
        found = []
        for query in pairs[:, 0].tolist():
            first, end = np.searchsorted(self._by_query[:, 0], [query, query + 1])
            known = self._by_query[first:end, 1]
            known = known[self._descriptors.has(known)]
            if len(known):
                near = self._descriptors.of(known) @ self._descriptors.of(np.array([query]))[0]
                found.append((query, known[np.argmax(self._sign * near)]))
        return np.array(found, pairs.dtype).reshape(-1, 2)

"""Ranks the photos of an index for described queries, excluding the queries themselves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from keras_retrieval.pipelines.files.progress import progress

from keras_retrieval.ranking.methods import Ranker, Step

from ..index_contract.contract import Filter, Hits, NeighbourIndex

Rank = Callable[[np.ndarray, int], list[Hits]]
"""(queries (Q, D), k) -> the hits of each query."""

NAMES_PER_SEARCH = 1000


@dataclass(frozen=True)
class SearchResult:
    """The neighbours of one query photo.

    Attributes:
        query: path of the query photo.
        names: names of the neighbours, best first, excluding the query itself.
        scores: scores of the neighbours, (n,) float32.
        own: name of the query in the index; None if it is not in the index.
    """

    query: Path
    names: list[str]
    scores: np.ndarray
    own: str | None


def rank_by_methods(index: NeighbourIndex, methods: list[Step]) -> Rank:
    """Makes a function that ranks all stored descriptors of an index by query-time methods."""
    names, ranker = index.names, Ranker(index.vectors(), methods, progress)

    def rank(queries: np.ndarray, k: int) -> list[Hits]:
        pairs = zip(*ranker.rank(queries, k), strict=True)
        return [Hits([names[row] for row in rows], scores) for rows, scores in pairs]

    return rank


def own_names(index: NeighbourIndex, described: Mapping[Path, np.ndarray], folder: Path) -> dict[Path, str | None]:
    """Finds the name of each query in the index; None for queries that are not in the index.

    Names are looked up by filtered searches, since listing all names of a large index is slow.

    Args:
        index: the index to search.
        described: descriptor of each query, by path.
        folder: folder of the indexed photos.
    """
    names = {path: name_in(folder, path) for path in described}
    known: set[str] = set()
    for start in range(0, len(names), NAMES_PER_SEARCH):
        some = list(names.values())[start : start + NAMES_PER_SEARCH]
        known.update(index.search(next(iter(described.values()))[None], len(some), where=Filter(some))[0].names)
    return {path: name if name in known else None for path, name in names.items()}


def search_queries(
    rank: Rank, described: Mapping[Path, np.ndarray], own: Mapping[Path, str | None], k: int
) -> list[SearchResult]:
    """Ranks photos for each query.

    Args:
        rank: function that ranks the photos of the index.
        described: descriptor of each query, by path.
        own: names of the queries in the index, from `own_names`.
        k: number of neighbours per query.
    """
    # One more than requested, since a query may find itself.
    all_hits = rank(np.stack(list(described.values())), k + 1)
    results = []
    for path, hits in zip(described, all_hits, strict=True):
        others = np.array([name != own[path] for name in hits.names], bool)
        names = [name for name in hits.names if name != own[path]][:k]
        results.append(SearchResult(path, names, hits.scores[others][:k], own[path]))
    return results


def name_in(folder: Path, path: Path) -> str:
    """Returns the name of a photo in a folder of photos, or its absolute path if it is not in the folder."""
    root = folder.resolve()
    # A link inside the folder counts as its own photo; a link from outside stands for the photo that it points to.
    for place in (path.parent.resolve() / path.name, path.resolve()):
        if place.is_relative_to(root):
            return place.relative_to(root).as_posix()
    return str(path.absolute())

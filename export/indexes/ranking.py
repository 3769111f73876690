"""Ranks the photos of an index for each query, excluding the query photo itself."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from keras_retrieval.pipelines.files.progress import progress
from keras_retrieval.pipelines.local_features.features import Box
from keras_retrieval.pipelines.local_features.verification import Match
from keras_retrieval.pipelines.photos.reader import PhotoError

from keras_retrieval.errors import ArgumentError, printable
from keras_retrieval.ranking.methods import Ranker, Step

from ..index_contract.answers import Answers
from ..index_contract.contract import Filter, Hits, NeighbourIndex
from .verified_search import VerifiedSearch

Rank = Callable[[np.ndarray, int], list[Hits]]
"""Function from queries (Q, D) and a number of neighbours k to the hits of each query."""

NAMES_PER_SEARCH = 1000

log = logging.getLogger("keras_retrieval")


@dataclass(frozen=True)
class SearchResult:
    """The neighbours of one query photo.

    Attributes:
        query: path of the query photo.
        names: names of the n neighbours by descending score, without the query itself.
        scores: scores of the neighbours, (n,) float32.
        own: name of the query photo in the index; None if the index does not contain the query photo.
        boxes: with crops the box of the best crop of each neighbour, (n, 4) float32: left, top, right and bottom in
            pixels of the upright photo. None for an index without crops.
        sizes: with crops the width and the height of each neighbour in pixels, (n, 2) float32. None without crops.
        matches: with verification the verified matches of each neighbour with the query; None for neighbours that were
            not verified. None without verification.
        probabilities: the probability that each neighbour shows the object of the query, (n,), by the calibration of
            the index. None without a calibration.
    """

    query: Path
    names: list[str]
    scores: np.ndarray
    own: str | None
    boxes: np.ndarray | None = None
    sizes: np.ndarray | None = None
    matches: list[Match | None] | None = None
    probabilities: np.ndarray | None = None


def rank_by_methods(index: NeighbourIndex, methods: list[Step]) -> Rank:
    """Makes a function that ranks all photos of an index exactly, with query-time methods such as query expansion.

    Args:
        index: index whose stored descriptors are ranked.
        methods: query-time methods, applied in turn; see `keras_retrieval.ranking.methods.parse`.

    Raises:
        ArgumentError: the index has crops: the methods rank one descriptor per photo.
    """
    require_one_row(index.facts)
    names, ranker = index.names, Ranker(index.vectors(), methods, progress)

    def rank(queries: np.ndarray, k: int) -> list[Hits]:
        pairs = zip(*ranker.rank(queries, k), strict=True)
        return [Hits([names[row] for row in rows], scores) for rows, scores in pairs]

    return rank


def require_one_row(facts: Mapping[str, Any]) -> None:
    """Checks that query-time methods can rank the rows of an index.

    Args:
        facts: metadata of the index, `NeighbourIndex.facts`.

    Raises:
        ArgumentError: the index has crops: the methods rank one descriptor per photo.
    """
    if facts.get("crops"):
        raise ArgumentError("--rerank needs one descriptor per photo, and the index has crops: leave --rerank out")


def own_names(index: NeighbourIndex, described: Mapping[Path, np.ndarray], folder: Path) -> dict[Path, str | None]:
    """Finds which queries are themselves photos of an index.

    Names are looked up by filtered searches, because listing all names of a large index is slow.

    Args:
        index: index to search.
        described: descriptor of each query, by path.
        folder: folder of the indexed photos.

    Returns:
        For the path of each query, its name in the index; None if the index does not contain the query.
    """
    names = {path: name_in(folder, path) for path in described}
    known: set[str] = set()
    for start in range(0, len(names), NAMES_PER_SEARCH):
        some = list(names.values())[start : start + NAMES_PER_SEARCH]
        known.update(index.search(next(iter(described.values()))[None], len(some), where=Filter(some))[0].names)
    return {path: name if name in known else None for path, name in names.items()}


def search_queries(
    rank: Rank,
    described: Mapping[Path, np.ndarray],
    own: Mapping[Path, str | None],
    k: int,
    verified: VerifiedSearch | None = None,
    box: Box | None = None,
    answers: Answers | None = None,
    min_probability: float = 0.0,
) -> list[SearchResult]:
    """Finds the neighbours of each query, without the query itself.

    Args:
        rank: function that ranks the photos of the index.
        described: descriptor of each query, by path.
        own: name of each query in the index or None, from `own_names`.
        k: maximum number of neighbours per query.
        verified: verifies the first neighbours, which it orders; None for no verification. A query whose local features
            cannot be found is logged, and its neighbours are not verified.
        box: part of the queries whose local features are matched; None for all of them.
        answers: gives the probabilities of neighbours; None for an index without a calibration.
        min_probability: only neighbours with at least this probability are given, so that a query may have none.

    Returns:
        The neighbours of each query, in the order of `described`.
    """
    depth = k if verified is None else max(k, verified.depth)
    # One neighbour more than requested, because a query may find itself.
    all_hits = rank(np.stack(list(described.values())), depth + 1)
    results = []
    with progress("verify", 0 if verified is None else len(described)) as advance:
        for (path, row), hits in zip(described.items(), all_hits, strict=True):
            others = hits.pick([place for place, name in enumerate(hits.names) if name != own[path]][:depth])
            matches = None
            if verified is not None:
                others, matches = _verified(verified, path, box, others)
                advance(1)
            others = others.pick(range(min(k, len(others.names))))
            matches = None if matches is None else matches[:k]
            result = SearchResult(path, others.names, others.scores, own[path], others.boxes, others.sizes, matches)
            results.append(result if answers is None else _answered(answers, row, result, others, min_probability))
    return results


def _answered(
    answers: Answers, row: np.ndarray, result: SearchResult, hits: Hits, min_probability: float
) -> SearchResult:
    """Adds probabilities to a result, and leaves out what is not probable enough."""
    probabilities = answers.probabilities(row, hits, result.matches, result.own)
    kept = np.flatnonzero(probabilities >= min_probability)
    hits = hits.pick(kept)
    matches = None if result.matches is None else [result.matches[place] for place in kept.tolist()]
    return SearchResult(
        result.query, hits.names, hits.scores, result.own, hits.boxes, hits.sizes, matches, probabilities[kept]
    )


def _verified(verified: VerifiedSearch, path: Path, box: Box | None, hits: Hits) -> tuple[Hits, list[Match | None]]:
    try:
        return verified.verify(verified.describe(path, box), hits)
    except PhotoError as error:
        log.warning(f"the neighbours of {printable(str(path))} are not verified: {error.reason}")
        return hits, [None] * len(hits.names)


def name_in(folder: Path, path: Path) -> str:
    """Returns a photo's name, its path relative to a photo folder; the absolute path if it is outside the folder."""
    root = folder.resolve()
    # A symbolic link inside the folder is a photo of its own; a link outside stands for the photo to which it points.
    for place in (path.parent.resolve() / path.name, path.resolve()):
        if place.is_relative_to(root):
            return place.relative_to(root).as_posix()
    return str(path.absolute())

"""Tuples from descriptors alone: a graph of neighbours tells what matches, no model and no label does."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_retrieval.mining.manifolds import local_maxima, mine_manifolds, without_mean
from keras_retrieval.ranking.diffusion import Graph, mutual_graph

from ..descriptors.folder import read_descriptors
from ..files.progress import progress
from .file import Tuples, TuplesError

ANCHORS = ("maxima", "all")


@dataclass(frozen=True)
class Manifold:
    """How tuples are mined on manifolds; `mine_manifolds` says more.

    Attributes:
        neighbours: nearest photos of each in the graph.
        loose: the same of another graph, along which negatives are not to be reached; None for the same graph. A
            positive is safe where a graph of few neighbours leads to it, a negative where one of many does not.
        alike: nearest photos that are compared for positives.
        unlike: nearest photos that are compared for negatives.
        anchors: the queries: "maxima" of the random walk, or "all" photos that have a neighbour in the graph.
    """

    neighbours: int
    loose: int | None
    alike: int
    unlike: int
    anchors: str

    def __post_init__(self) -> None:
        if min(self.neighbours, self.alike, self.unlike, 1 if self.loose is None else self.loose) < 1:
            raise ValueError("--neighbours, --loose, --alike and --unlike are at least 1")
        if self.anchors not in ANCHORS:
            raise ValueError(f"--anchors {self.anchors}: known are {', '.join(ANCHORS)}")


def from_descriptors(folder: Path, how: Manifold, positives: int | None, negatives: int) -> Tuples:
    """Queries, positives and lists of negatives of the photos in a folder that `extract` made.

    Each photo is a cluster of its own, linked to its positives. Photos that no tuple needs are left out.

    Args:
        folder: of descriptors.
        how: the method.
        positives: of each query at most; None for all.
        negatives: a photo that has fewer is no query.

    Raises:
        ValueError: the folder is none of descriptors, or a row is not finite.
    """
    shards, names, _ = read_descriptors(folder)
    rows = without_mean(shards)
    graph = _graph(rows, how.neighbours)
    anchors = local_maxima(graph) if how.anchors == "maxima" else np.unique(graph.rows)
    alike, unlike = _mine(rows, graph, anchors, how)
    if how.loose is not None:
        _, unlike = _mine(rows, _graph(rows, how.loose), anchors, how)
    whole = (alike[:, 0] >= 0) & ((unlike >= 0).sum(axis=1) >= max(1, negatives))
    if not whole.any():
        raise TuplesError(
            f"none of {len(anchors)} anchors among the {len(names)} photos of {folder} has a positive and "
            f"{max(1, negatives)} negatives: --alike {how.alike} is to be less than an object has, and --unlike "
            f"{how.unlike} more"
        )
    return _tuples(names, anchors[whole], alike[whole, :positives], unlike[whole])


def _graph(rows: np.ndarray, neighbours: int) -> Graph:
    with progress("graph", len(rows), "photos") as advance:
        return mutual_graph(rows, neighbours, advance=advance)


def _mine(rows: np.ndarray, graph: Graph, anchors: np.ndarray, how: Manifold) -> tuple[np.ndarray, np.ndarray]:
    with progress("manifolds", len(anchors), "anchors") as advance:
        return mine_manifolds(rows, graph, anchors, how.alike, how.unlike, advance=advance)


def _tuples(names: list[str], anchors: np.ndarray, alike: np.ndarray, unlike: np.ndarray) -> Tuples:
    """Tuples of anchors (A,) with positives (A, n) and negatives (A, m), -1 fills up, renumbered to what they name."""
    place, rank = np.nonzero(alike >= 0)
    pairs = np.column_stack([anchors[place], alike[place, rank]])
    used = np.unique(np.concatenate([pairs.ravel(), unlike[unlike >= 0]]))
    number = np.full(len(names) + 1, -1)  # the last one is that of -1
    number[used] = np.arange(len(used))
    lists = np.full((len(used), unlike.shape[1]), -1)
    lists[number[anchors]] = number[unlike]
    qidxs, pidxs = number[pairs].T
    links = np.unique(np.sort(number[pairs], axis=1), axis=0)
    return Tuples([names[row] for row in used.tolist()], np.arange(len(used)), qidxs, pidxs, links, negatives=lists)

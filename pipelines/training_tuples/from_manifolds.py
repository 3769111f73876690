"""Tuples from descriptors alone, chosen by neighbourhoods on the manifold of descriptors, without models or labels.

The method is that of Iscen et al. (CVPR 2018), implemented in `keras_retrieval.mining.manifolds`.
"""

import numpy as np

from keras_retrieval.mining.manifolds import local_maxima, mine_manifolds, without_mean
from keras_retrieval.ranking.diffusion import Graph, mutual_graph

from ..descriptors.folder import read_descriptors
from ..files.progress import progress
from .data import Tuples, TuplesError
from .options import TuplesOptions


def from_descriptors(options: TuplesOptions) -> Tuples:
    """Mines queries, positives and lists of negatives from the descriptors in `options.source`.

    Each photo is a cluster of its own, linked to its positives. Photos that are in no tuple are left out. With
    `options.loose`, negatives come from a second graph with more neighbours: positives are reliable if a graph with few
    neighbours connects them to the query, negatives if a graph with many neighbours does not.

    Raises:
        FolderError: the source does not contain descriptors.
        TuplesError: no anchor has a positive and enough negatives.
        ValueError: a descriptor is not finite.
    """
    shards, names, _ = read_descriptors(options.source)
    rows = without_mean(shards)
    graph = _graph(rows, options.neighbours)
    anchors = local_maxima(graph) if options.anchors == "maxima" else np.unique(graph.rows)
    alike, unlike = _mine(rows, graph, anchors, options)
    if options.loose is not None:
        _, unlike = _mine(rows, _graph(rows, options.loose), anchors, options)
    least = max(1, options.negatives)
    complete = (alike[:, 0] >= 0) & ((unlike >= 0).sum(axis=1) >= least)
    if not complete.any():
        raise TuplesError(
            f"of {len(anchors)} anchors among the {len(names)} photos of {options.source}, not one has a positive and "
            f"{least} negatives: lower --alike {options.alike} below the number of photos of an object, and raise "
            f"--unlike {options.unlike} above it"
        )
    return _tuples(names, anchors[complete], alike[complete, : options.positives], unlike[complete])


def _graph(rows: np.ndarray, neighbours: int) -> Graph:
    with progress("graph", len(rows), "photos") as advance:
        return mutual_graph(rows, neighbours, advance=advance)


def _mine(rows: np.ndarray, graph: Graph, anchors: np.ndarray, options: TuplesOptions) -> tuple[np.ndarray, np.ndarray]:
    with progress("manifolds", len(anchors), "anchors") as advance:
        return mine_manifolds(rows, graph, anchors, options.alike, options.unlike, advance=advance)


def _tuples(names: list[str], anchors: np.ndarray, alike: np.ndarray, unlike: np.ndarray) -> Tuples:
    """Makes tuples of the photos that anchors (A,), positives (A, n) and negatives (A, m) refer to; -1 is padding."""
    row, rank = np.nonzero(alike >= 0)
    pairs = np.column_stack([anchors[row], alike[row, rank]])
    used = np.unique(np.concatenate([pairs.ravel(), unlike[unlike >= 0]]))
    number = np.full(len(names) + 1, -1)  # the last entry is the one that index -1 reads
    number[used] = np.arange(len(used))
    lists = np.full((len(used), unlike.shape[1]), -1)
    lists[number[anchors]] = number[unlike]
    qidxs, pidxs = number[pairs].T
    links = np.unique(np.sort(number[pairs], axis=1), axis=0)
    return Tuples([names[row] for row in used.tolist()], np.arange(len(used)), qidxs, pidxs, links, negatives=lists)

"""Training tuples from descriptors alone, without 3D models or labels, by mining on manifolds (Iscen et al. CVPR 2018).

`keras_retrieval.mining.manifolds` implements the method.
"""

from pathlib import Path

import numpy as np

from keras_retrieval.mining.manifolds import local_maxima, mine_manifolds, without_mean
from keras_retrieval.ranking.diffusion import Graph, mutual_graph

from ..descriptors.folder import KIND, VERSION, read_descriptors
from ..files.durable import read_manifest
from ..files.progress import progress
from ..files.remote import is_folder, named
from .copies import CopyGroups, no_copies
from .data import Tuples, TuplesError
from .options import TuplesOptions


def from_descriptors(options: TuplesOptions, copies: CopyGroups = no_copies) -> Tuples:
    """Mines queries, positives and lists of negatives from a folder of descriptors.

    The queries are the anchors of the method (Iscen et al. CVPR 2018) that have a positive and enough negatives. Each
    photo forms its own cluster, and the clusters of a query and its positives are linked. Photos that are in no tuple
    are left out. With `options.loose`, negatives are mined with a second neighbour graph, with more neighbours per
    photo than the first. Positives are reliable if a graph with few neighbours connects them to the query, whereas
    negatives are reliable if not even a graph with many neighbours connects them to the query.

    Args:
        options: the options of `tuples`. The descriptors are read from `source`; `neighbours`, `loose`, `alike`,
            `unlike`, `anchors`, `positives` and `negatives` are used.
        copies: finds copies of photos, which are neither positives nor listed as negatives of each other.

    Returns:
        The tuples, with the attribute `negatives`. The queries have at most `options.positives` positives each.

    Raises:
        FolderError: the source does not contain descriptors.
        TuplesError: no anchor has a positive and enough negatives.
        DescriptorError: a descriptor contains NaN or an infinite number.
    """
    shards, names, _ = read_descriptors(options.source)
    rows = without_mean(shards)
    graph = _graph(rows, options.neighbours)
    anchors = local_maxima(graph) if options.anchors == "maxima" else np.unique(graph.rows)
    alike, unlike = _mine(rows, graph, anchors, options)
    if options.loose is not None:
        _, unlike = _mine(rows, _graph(rows, options.loose), anchors, options)
    group = copies(names)
    alike, unlike = (_without_copies(rows, anchors, group) for rows in (alike, unlike))
    least = max(1, options.negatives)
    complete = (alike[:, 0] >= 0) & ((unlike >= 0).sum(axis=1) >= least)
    if not complete.any():
        raise TuplesError(
            f"of {len(anchors)} anchors among the {len(names)} photos of {named(options.source)}, not one has a "
            f"positive and {least} negatives: lower --alike {options.alike} below the number of photos of an object, "
            f"and raise --unlike {options.unlike} above it"
        )
    return _tuples(names, anchors[complete], alike[complete, : options.positives], unlike[complete])


def described_photos(folder: Path) -> Path | None:
    """Returns the folder of the photos that `extract` described, None if it no longer exists."""
    photos = Path(read_manifest(folder, kind=KIND, version=VERSION).get("photos", ""))
    return photos if photos.name and is_folder(photos) else None


def _without_copies(rows: np.ndarray, anchors: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Removes copies of each anchor from its row (A, n) of row numbers, in order, padded with -1."""
    own = group[anchors][:, None]
    rows = np.where((rows >= 0) & (own >= 0) & (group[rows] == own), -1, rows)
    return np.take_along_axis(rows, np.argsort(rows < 0, axis=1, kind="stable"), axis=1)


def _graph(rows: np.ndarray, neighbours: int) -> Graph:
    with progress("graph", len(rows), "photos") as advance:
        return mutual_graph(rows, neighbours, advance=advance)


def _mine(rows: np.ndarray, graph: Graph, anchors: np.ndarray, options: TuplesOptions) -> tuple[np.ndarray, np.ndarray]:
    with progress("manifolds", len(anchors), "anchors") as advance:
        return mine_manifolds(rows, graph, anchors, options.alike, options.unlike, advance=advance)


def _tuples(names: list[str], anchors: np.ndarray, alike: np.ndarray, unlike: np.ndarray) -> Tuples:
    """Makes tuples from mined rows and keeps only the photos that occur in them.

    Args:
        names: names of all photos.
        anchors: row numbers of the queries, (A,).
        alike: row numbers of the positives of each query, (A, n), padded with -1.
        unlike: row numbers of the negatives of each query, (A, m), padded with -1.
    """
    row, rank = np.nonzero(alike >= 0)
    pairs = np.column_stack([anchors[row], alike[row, rank]])
    used = np.unique(np.concatenate([pairs.ravel(), unlike[unlike >= 0]]))
    number = np.full(len(names) + 1, -1)  # the last entry, at index -1, maps padding to padding
    number[used] = np.arange(len(used))
    lists = np.full((len(used), unlike.shape[1]), -1)
    lists[number[anchors]] = number[unlike]
    qidxs, pidxs = number[pairs].T
    links = np.unique(np.sort(number[pairs], axis=1), axis=0)
    return Tuples([names[row] for row in used.tolist()], np.arange(len(used)), qidxs, pidxs, links, negatives=lists)

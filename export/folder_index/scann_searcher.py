"""Wraps ScaNN's Python searcher, and keeps input and files away from ScaNN that crash the process or execute code.

ScaNN ends the process if a descriptor is NaN, crashes if a file has the wrong length, pads missing results with row
number 0, and its own loader unpickles a docids file, which can execute code. Therefore this module passes only checked
descriptors to ScaNN, loads its files without pickle, and marks the padding of results with -1. ScaNN stores only the
hashes; this package stores the descriptors (`folder_index.row_file`) and the names, and computes the scores.
"""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from keras_retrieval.pipelines.files.repeating import repeating

from keras_retrieval.errors import missing_extra
from keras_retrieval.ranking.rows import release

from ..index_contract.index_settings import IndexSettings


def load_scann() -> Any:
    """Imports ScaNN's pybind module.

    Raises:
        MissingExtraError: ScaNN is not installed.
    """
    try:
        from scann import scann_ops_pybind
    except ImportError as error:
        raise missing_extra("ScaNN", "index", error) from error
    return scann_ops_pybind


class ScannSearcher:
    """Selects candidates for the nearest neighbours by approximate search with ScaNN's hashes.

    Args:
        searcher: ScaNN's searcher object.
        leaves: number of leaves of ScaNN's tree; 0 without a tree.
    """

    def __init__(self, searcher: Any, leaves: int) -> None:
        self._searcher, self.leaves = searcher, leaves

    def candidates(self, queries: np.ndarray, count: int, leaves: int) -> np.ndarray:
        """Finds the rows whose hashes have the largest approximate inner products with each query.

        Args:
            queries: queries, (Q, S) float32, finite and C-contiguous, Q >= 1.
            count: number of candidates per query.
            leaves: number of leaves of the tree to search; ignored without a tree.

        Returns:
            The row numbers, (Q, count) int64, by descending approximate score, padded with -1.
        """
        options = (count, count, min(leaves, self.leaves) or -1)
        if len(queries) == 1:
            found, scores = self._searcher.search(queries[0], *options)
            ids = np.full((1, count), -1, np.int64)
            ids[0, : len(found)] = np.where(np.isfinite(scores), found, -1)
            return ids
        share = -(-len(queries) // (os.cpu_count() or 1))
        found, scores = self._searcher.search_batched_parallel(queries, *options, batch_size=share)
        return np.where(np.isfinite(scores), found.astype(np.int64), -1)

    def save(self, folder: Path) -> None:
        """Writes ScaNN's files to a folder, with relative paths and without pickles."""
        self._searcher.serialize(str(folder), relative_path=True)


def train_searcher(rows: np.ndarray, leaves: int, settings: IndexSettings) -> ScannSearcher:
    """Trains ScaNN's tree and hashes on the stored descriptors.

    Args:
        rows: stored descriptors, (N, S) float32, finite and C-contiguous, N >= 16.
        leaves: number of leaves of the tree, less than N; 0 to compare all hashes without a tree.
        settings: build settings of the hashes and of their training.

    Returns:
        The searcher over the N rows.

    Raises:
        MissingExtraError: ScaNN is not installed.
    """
    builder = load_scann().builder(rows, 10, "dot_product")
    sample = min(len(rows), settings.sample)
    if leaves:
        soar = {"soar_lambda": settings.soar, "overretrieve_factor": 1.8} if settings.soar else {}
        builder = builder.tree(
            num_leaves=leaves,
            num_leaves_to_search=1,
            training_sample_size=sample,
            training_iterations=settings.iterations,
            **soar,
        )
    builder = builder.score_ah(
        settings.block,
        anisotropic_quantization_threshold=settings.threshold or math.nan,
        training_sample_size=sample,
        training_iterations=settings.iterations,
        hash_type=settings.lookup,
    )
    # Keeps memory-mapped rows out of memory during training, because ScaNN copies them first and uses its copy.
    with repeating(0.5, lambda: release(rows)):
        return ScannSearcher(builder.build(), leaves)


def load_searcher(folder: Path, leaves: int) -> ScannSearcher:
    """Loads the files that `ScannSearcher.save` wrote, without ScaNN's own loader, which would unpickle a docids file.

    Args:
        folder: folder of the files, whose SHA-256 the caller has verified.
        leaves: number of leaves of the tree; 0 without a tree.

    Raises:
        MissingExtraError: ScaNN is not installed.
    """
    module = load_scann()
    assets = (folder / "scann_assets.pbtxt").read_text(encoding="utf-8")
    return ScannSearcher(module.ScannSearcher(module.scann_pybind.ScannNumpy(str(folder), assets)), leaves)

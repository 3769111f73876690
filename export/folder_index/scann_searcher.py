"""ScaNN behind a fence: it trains on rows that were checked, loads no pickle, and its padding stays in here.

A NaN ends ScaNN's process, a file of another length crashes it, short results are padded with id 0, and its own loader
executes a docids file. It holds the hashes only; the rows are ours (row_file.py), and so are scores and names.
"""

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.ranking.rows import release

from ..index_contract.tuning import Hashing


def scann() -> Any:
    """ScaNN's pybind module.

    Raises:
        ImportError: with the pip command.
    """
    try:
        from scann import scann_ops_pybind
    except ImportError as error:
        raise ImportError(f'ScaNN is not installed ({error}): pip install "keras-retrieval[index]"') from error
    return scann_ops_pybind


class ScannSearcher:
    """Finds rows that are probably near.

    Args:
        searcher: ScaNN's own.
        leaves: of its tree; 0 without.
    """

    def __init__(self, searcher: Any, leaves: int) -> None:
        self._searcher, self.leaves = searcher, leaves

    def candidates(self, queries: np.ndarray, count: int, leaves: int) -> np.ndarray:
        """Row numbers by the hashes, best first.

        Args:
            queries: (Q, S) float32, finite, C-contiguous, Q >= 1.
            count: how many.
            leaves: how many of the tree's leaves to look into.

        Returns:
            (Q, count) int64; -1 behind the last one found.
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
        """Writes ScaNN's files, none of them a pickle, with relative paths."""
        self._searcher.serialize(str(folder), relative_path=True)


def train(rows: np.ndarray, leaves: int, hashing: Hashing) -> ScannSearcher:
    """Learns the tree and the hashes of rows (N, S) float32, C-contiguous and finite.

    Args:
        rows: at least 16.
        leaves: of the tree, fewer than rows; 0 for none, where every hash is looked at.
        hashing: how.
    """
    builder = scann().builder(rows, 10, "dot_product")
    sample = min(len(rows), hashing.sample)
    if leaves:
        soar = {"soar_lambda": hashing.soar, "overretrieve_factor": 1.8} if hashing.soar else {}
        builder = builder.tree(
            num_leaves=leaves,
            num_leaves_to_search=1,
            training_sample_size=sample,
            training_iterations=hashing.iterations,
            **soar,
        )
    builder = builder.score_ah(
        hashing.block,
        anisotropic_quantization_threshold=hashing.threshold or math.nan,
        training_sample_size=sample,
        training_iterations=hashing.iterations,
        hash_type=hashing.lookup,
    )
    with _unloading(rows):
        return ScannSearcher(builder.build(), leaves)


@contextmanager
def _unloading(rows: np.ndarray) -> Iterator[None]:
    """Keeps rows that are mapped from the disk out of memory: ScaNN copies them first and then needs them no more."""
    done = threading.Event()

    def unload() -> None:
        while not done.wait(0.5):
            release(rows)

    thread = threading.Thread(target=unload, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def load(folder: Path, leaves: int) -> ScannSearcher:
    """Loads what `save` wrote and its caller has verified. ScaNN's own loader would unpickle a docids file."""
    module = scann()
    assets = (folder / "scann_assets.pbtxt").read_text(encoding="utf-8")
    return ScannSearcher(module.ScannSearcher(module.scann_pybind.ScannNumpy(str(folder), assets)), leaves)

"""Wraps ScaNN's Python searcher, and keeps input and files away from ScaNN that crash the process or execute code.

ScaNN ends the process if a descriptor is NaN, crashes if a file has the wrong length, pads missing results with row
number 0, and its own loader unpickles a docids file, which can execute code. Therefore this module passes only checked
descriptors to ScaNN, loads its files without pickle, and marks the padding of results with -1. Of the package, only the
compiled module is imported: the package imports TensorFlow, which takes seconds and half a gigabyte. ScaNN stores only
the hashes; this package stores the descriptors (`folder_index.row_file`) and the names, and computes the scores.

ScaNN hashes the projections of the rows on their principal directions (`dimension_reduction.leading_axes`), where fewer
of these contain `HASHED_SHARE` of the rows' squared length: codes of two dimensions lose more than the rest, and the
candidates are scored with whole rows anyway. The directions are one more file beside ScaNN's.
"""

import importlib.util
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from keras_retrieval.pipelines.files.arrays import load_array, save_array
from keras_retrieval.pipelines.files.machine import cores

from keras_retrieval.errors import missing_extra

from ..index_contract.index_settings import IndexSettings
from .dimension_reduction import leading_axes

HASHED_SHARE = 0.9  # of the rows' squared length, in the directions that are hashed
AXES = "axes.npy"
"""Array of the directions that are hashed, (S, A) float32; there is no file if all S dimensions are."""
AXES_ROWS = 20_000  # on which the directions are learned
CODEBOOK, PARTITIONER, CONFIG = "ah_codebook.pb", "serialized_partitioner.pb", "scann_config.pb"
TOKENS, HASHES, SECOND_HASHES = "datapoint_to_token.npy", "hashed_dataset.npy", "hashed_dataset_soar.npy"
"""Arrays of ScaNN's files: the one or two leaves of each row, (N,) or (2 N,) int32; and the codes of its hash in each
leaf, (N, codes) uint8."""
_ASSETS = "scann_assets.pbtxt"
_PYBIND, _BUILDER = "scann_pybind", "scann_ops/py/scann_builder.py"


def load_scann() -> Any:
    """Imports ScaNN's compiled module, without the rest of the package, which would import TensorFlow.

    Raises:
        MissingExtraError: ScaNN is not installed.
    """
    package = _package()
    if _PYBIND in sys.modules:
        return sys.modules[_PYBIND]
    files = [*(package / "scann_ops" / "cc" / "python").glob(f"{_PYBIND}*.so")]
    if not files:
        try:
            from scann.scann_ops.py import scann_ops_pybind
        except ImportError as error:
            raise missing_extra("ScaNN", "index", error) from error
        return scann_ops_pybind.scann_pybind
    return _imported(_PYBIND, files[0])


def _package() -> Path:
    """The folder of the package scann, of which nothing is imported."""
    found = importlib.util.find_spec("scann")
    if found is None or not found.submodule_search_locations:
        raise missing_extra("ScaNN", "index")
    return Path(found.submodule_search_locations[0])


def _imported(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, "a file that Python can import"  # noqa: PT018
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        del sys.modules[name]
        raise missing_extra("ScaNN", "index", error) from error
    return module


class ScannSearcher:
    """Selects candidates for the nearest neighbours by approximate search with ScaNN's hashes.

    Args:
        searcher: ScaNN's compiled searcher.
        leaves: number of leaves of ScaNN's tree; 0 without a tree.
        axes: directions on which rows were projected before they were hashed, (S, A); None if they were not.
    """

    def __init__(self, searcher: Any, leaves: int, axes: np.ndarray | None = None) -> None:
        self._searcher, self.leaves, self._axes = searcher, leaves, axes

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
        queries = hashed(queries, self._axes)
        if len(queries) == 1:
            found, scores = self._searcher.search(queries[0], *options)
            ids = np.full((1, count), -1, np.int64)
            ids[0, : len(found)] = np.where(np.isfinite(scores), found, -1)
            return ids
        share = -(-len(queries) // cores())
        found, scores = self._searcher.search_batched(queries, *options, True, share)
        return np.where(np.isfinite(scores), found.astype(np.int64), -1)

    def save(self, folder: Path) -> None:
        """Writes ScaNN's files to a folder, with relative paths and without pickles."""
        self._searcher.serialize(str(folder), True)
        if self._axes is not None:
            save_array(folder / AXES, self._axes)


def hashed(rows: np.ndarray, axes: np.ndarray | None) -> np.ndarray:
    """Projects rows or queries, (n, S), on the directions that are hashed, (S, A), if there are any."""
    return rows if axes is None else rows @ axes


def axes_of(rows: np.ndarray, settings: IndexSettings) -> np.ndarray | None:
    """Learns the directions of rows (n, S) that are to be hashed, (S, A), on a sample; None to hash all dimensions."""
    size = min(len(rows), AXES_ROWS)
    sample = rows if size == len(rows) else rows[np.sort(np.random.default_rng(0).choice(len(rows), size, False))]
    return leading_axes(sample, HASHED_SHARE, settings.block)


def train_searcher(rows: np.ndarray, leaves: int, settings: IndexSettings) -> ScannSearcher:
    """Trains ScaNN's tree and hashes on descriptors, and hashes them.

    ScaNN copies the descriptors, or their projections where these are enough. `hash_rows` hashes more of them with what
    has been trained.

    Args:
        rows: stored descriptors, (N, S) float32, finite and C-contiguous, N >= 16.
        leaves: number of leaves of the tree, less than N; 0 to compare all hashes without a tree.
        settings: build settings of the hashes and of their training.

    Returns:
        The searcher over the N rows.

    Raises:
        MissingExtraError: ScaNN is not installed.
    """
    scann, axes = load_scann(), axes_of(rows, settings)
    rows = hashed(rows, axes)
    builder = _builder().ScannBuilder(rows, 10, "dot_product")
    if leaves:
        soar = {"soar_lambda": settings.soar, "overretrieve_factor": 1.8} if settings.soar else {}
        builder = builder.tree(
            num_leaves=leaves,
            num_leaves_to_search=1,
            training_sample_size=min(len(rows), settings.training_rows(leaves)),
            training_iterations=settings.iterations,
            spherical=True,
            **soar,
        )
    builder = builder.score_ah(
        settings.block,
        anisotropic_quantization_threshold=settings.threshold or math.nan,
        training_sample_size=min(len(rows), settings.training_rows(0)),
        training_iterations=settings.iterations,
        hash_type=settings.lookup,
    )
    return ScannSearcher(scann.ScannNumpy(rows, builder.create_config(), 0), leaves, axes)


def _builder() -> Any:
    """ScaNN's module that writes configurations, which needs nothing else of the package."""
    name = "keras_retrieval_scann_builder"
    return sys.modules.get(name) or _imported(name, _package() / _BUILDER)


def hash_rows(trained: Path, rows: np.ndarray, folder: Path) -> None:
    """Hashes rows with a tree and codes that have been trained on other rows, and writes ScaNN's files for them.

    Args:
        trained: folder with the files of a searcher.
        rows: stored descriptors, (n, S) float32, finite; ScaNN copies them.
        folder: existing folder to write to.
    """
    names = {"AH_CENTERS": CODEBOOK, "PARTITIONER": PARTITIONER}
    assets = {kind: trained / name for kind, name in names.items() if (trained / name).exists()}
    assets["DATASET_NPY"] = folder / "dataset.npy"
    save_array(assets["DATASET_NPY"], hashed(rows, load_axes(trained)))
    lines = [f'assets {{ asset_type: {kind} asset_path: "{_escaped(path)}" }}' for kind, path in assets.items()]
    searcher = load_scann().ScannNumpy(str(trained), "\n".join(lines))
    assets["DATASET_NPY"].unlink()
    searcher.serialize(str(folder), True)


def load_axes(folder: Path) -> np.ndarray | None:
    """Reads the directions that are hashed, (S, A), from the folder of a searcher; None if all dimensions are."""
    return load_array(folder / AXES) if (folder / AXES).exists() else None


def _escaped(path: Path) -> str:
    """A path as protobuf's text format writes it."""
    return "".join(f"\\{byte:03o}" for byte in os.fsencode(path.absolute()))


def load_searcher(folder: Path, leaves: int) -> ScannSearcher:
    """Loads the files that `ScannSearcher.save` wrote, without ScaNN's own loader, which would unpickle a docids file.

    Args:
        folder: folder of the files, whose SHA-256 the caller has verified.
        leaves: number of leaves of the tree; 0 without a tree.

    Raises:
        MissingExtraError: ScaNN is not installed.
    """
    assets = (folder / _ASSETS).read_text(encoding="utf-8")
    return ScannSearcher(load_scann().ScannNumpy(str(folder), assets), leaves, load_axes(folder))

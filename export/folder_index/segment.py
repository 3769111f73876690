"""A segment of an index folder: an immutable set of N photos that is searched with ScaNN's hashes, or exactly."""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from keras_retrieval.pipelines.files.arrays import load_array
from keras_retrieval.pipelines.files.durable import FolderError, read_names

from ..index_contract.column_types import TYPES
from .column_file import read_columns
from .crop_file import read_crops
from .row_file import StoredRows
from .scann_searcher import ScannSearcher, load_searcher
from .write_ahead_log import WriteAheadLog

PhotoFilter = Callable[[np.ndarray], np.ndarray]
"""Function from numbers of photos, of any shape, to whether a search may return each of them, bool of the same shape.

Without crops the number of a photo is that of its row.
"""

PROJECTION = "projection.npy"


class Segment:
    """An open segment: the photos, hashes and search settings of one build of an index folder.

    Args:
        folder: folder of the segment, whose files have been verified.
        facts: manifest of the index.

    Attributes:
        folder: folder of the segment.
        facts: manifest of the index, as for `NeighbourIndex.facts`.
        configuration: search settings, the manifest's entry "configuration".
        names: names of the photos in the order of the rows.
        rows: stored descriptors, one row per photo, or with crops one per crop.
        crops: the rows of each photo and their boxes; None for one row per photo.
        columns: column values of the photos as of the build.
        log: write-ahead log of the changes since the segment was built.
        projection: projection matrix (D, S); None if stored descriptors have all D dimensions.
        searcher: ScaNN searcher; None if the segment is searched exactly.

    Raises:
        FolderError: the numbers of names and rows differ from the manifest, or the log is incomplete or damaged.
        MissingExtraError: the segment is searched approximately, and ScaNN is not installed.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.folder, self.facts, self.configuration = folder, facts, facts["configuration"]
        self.names = read_names(folder / "names.txt")
        self.rows = StoredRows(folder, self.configuration["rows"])
        rows = facts["row_count"] if facts.get("crops") else facts["count"]
        if len(self.names) != facts["count"] or len(self.rows) != rows:
            raise FolderError(
                f"{folder} has {len(self.names):,} names and {len(self.rows):,} rows, the manifest states "
                f"{facts['count']:,} and {rows:,}: index again"
            )
        self.crops = read_crops(folder, len(self.names), len(self.rows)) if facts.get("crops") else None
        self.columns = read_columns(folder, facts["columns"], facts.get(TYPES, {}))
        self.log = WriteAheadLog(folder, facts["log"])
        self.log.read(self.log.start)  # reports a damaged log before ScaNN's files are loaded
        projection = folder / PROJECTION
        self.projection = load_array(projection) if projection.exists() else None
        exact = self.configuration["kind"] == "exact"
        self.searcher = None if exact else load_searcher(folder / "scann", self.configuration["leaves"])

    def __len__(self) -> int:
        return len(self.names)

    @property
    def file_bytes(self) -> int:
        """The size of the segment's files in bytes."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The row number of each photo, by name."""
        return {name: row for row, name in enumerate(self.names)}

    def to_stored(self, rows: np.ndarray) -> np.ndarray:
        """Projects descriptors (n, D) to stored descriptors (n, S); returns rows that have S dimensions unchanged."""
        if self.projection is None or rows.shape[1] == self.rows.dimensions:
            return rows
        return rows @ self.projection

    def candidates_for(self, k: int, effort: float) -> int:
        """Computes the number of candidates to rescore exactly, in proportion to the tuned number.

        Args:
            k: number of neighbours per query.
            effort: factor on the tuned number.

        Returns:
            The number of candidates per query, at least `k`.
        """
        return max(k, round(effort * max(1.0, k / self.configuration["k"]) * self.configuration["reorder"]))

    def find(self, queries: np.ndarray, k: int, effort: float, allowed: PhotoFilter) -> tuple[np.ndarray, np.ndarray]:
        """Finds the nearest allowed rows among the candidates that the hashes select. The segment must have a searcher.

        Args:
            queries: queries, (Q, S) float32.
            k: number of neighbours per query.
            effort: factor on the tuned numbers of candidates and leaves, such as 10 if only a tenth of the rows is
                allowed.
            allowed: function that selects the photos that may be returned.

        Returns:
            Numbers of photos and scores, both (Q, k), or with fewer columns if there are fewer candidates, by
            descending score. Missing neighbours have the score -inf. With crops, the score of a photo is that of its
            best row among the candidates.
        """
        assert self.searcher, "an exact index has no hashes"
        leaves = round(effort * max(1.0, k / self.configuration["k"]) * self.configuration["leaves_to_search"])
        reorder = min(self.candidates_for(k, effort), len(self.rows))
        photo_of = None if self.crops is None else self.crops.photo_of
        return rescore(self.searcher, self.rows, queries, k, reorder, leaves, photo_of, allowed)


def rescore(
    searcher: ScannSearcher,
    rows: StoredRows,
    queries: np.ndarray,
    k: int,
    reorder: int,
    leaves: int,
    photo_of: np.ndarray | None = None,
    allowed: PhotoFilter | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Searches with ScaNN, rescores the candidates with their stored descriptors, and keeps the best row of each photo.

    Args:
        searcher: ScaNN searcher over `rows`.
        rows: stored descriptors.
        queries: queries, (Q, S) float32.
        k: number of photos per query.
        reorder: number of candidate rows per query to rescore.
        leaves: number of leaves of the tree to search.
        photo_of: with crops, the number of the photo of each row, (R,); None if each photo has the row of its number.
        allowed: function that selects the photos that may be returned; None for all photos.

    Returns:
        Numbers of photos and scores as from `Segment.find`.
    """
    ids = searcher.candidates(queries, reorder, leaves)
    scores = rows.products(queries, ids)
    photos = ids if photo_of is None else photo_of[ids]
    scores[ids < 0 if allowed is None else (ids < 0) | ~allowed(photos)] = -np.inf
    return (top_k if photo_of is None else best_of_photos)(photos, scores, k)


def best_of_photos(photos: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Selects the k photos with the highest scores, each of which may occur several times.

    Args:
        photos: numbers of photos, (Q, n).
        scores: scores, (Q, n).
        k: number of photos to select.

    Returns:
        Numbers of photos and scores, both (Q, k), by descending score. Missing photos have the score -inf.
    """
    found, best = np.zeros((len(photos), k), np.int64), np.full((len(photos), k), -np.inf, np.float32)
    order = np.argsort(-scores, axis=1, kind="stable")
    for query, places in enumerate(order):
        _, first = np.unique(photos[query, places], return_index=True)
        chosen = places[np.sort(first)[:k]]
        found[query, : len(chosen)], best[query, : len(chosen)] = photos[query, chosen], scores[query, chosen]
    return found, best


def top_k(ids: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Selects the k highest scores of each query.

    Args:
        ids: row numbers, (Q, n).
        scores: scores of these rows, (Q, n).
        k: number of scores to select.

    Returns:
        Row numbers and scores, both (Q, min(k, n)), by descending score.
    """
    if scores.shape[1] > 4 * k:
        part = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        ids, scores = np.take_along_axis(ids, part, 1), np.take_along_axis(scores, part, 1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1)

"""A segment of an index: an immutable set of N photos that is searched with ScaNN's hashes."""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from keras_retrieval.pipelines.files.durable import FolderError, read_names

from .column_file import StoredColumns
from .row_file import StoredRows
from .scann_searcher import ScannSearcher, load_searcher
from .write_ahead_log import WriteAheadLog

RowFilter = Callable[[np.ndarray], np.ndarray]
"""Row numbers of any shape -> whether each may be found, bool of that shape."""

PROJECTION = "projection.npy"


class Segment:
    """The open files of a segment.

    Args:
        folder: folder of the segment, whose files have been verified.
        facts: the manifest of the index.

    Attributes:
        facts: the manifest of the index.
        configuration: the search settings, from the manifest.
        names: names of the photos in the order of the rows.
        rows: stored descriptors.
        columns: column values.
        log: the changes since the segment was built.
        projection: the projection matrix (D, S); None if the rows are not reduced.
        searcher: the ScaNN searcher; None if the search is exact.

    Raises:
        FolderError: the numbers of names and rows differ from the manifest's, or the log is incomplete.
        MissingExtraError: the search is approximate, and ScaNN is not installed.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.facts, self.configuration = facts, facts["configuration"]
        self.names = read_names(folder / "names.txt")
        self.rows = StoredRows(folder, self.configuration["rows"])
        if not len(self.names) == len(self.rows) == facts["count"]:
            raise FolderError(
                f"{folder} has {len(self.names):,} names and {len(self.rows):,} rows, the manifest states "
                f"{facts['count']:,}: index again"
            )
        self.columns = StoredColumns(folder, facts["columns"])
        self.log = WriteAheadLog(folder, facts["log"])
        self.log.read(self.log.start)  # raises errors before ScaNN loads anything
        projection = folder / PROJECTION
        self.projection = np.load(projection, allow_pickle=False) if projection.exists() else None
        exact = self.configuration["kind"] == "exact"
        self.searcher = None if exact else load_searcher(folder / "scann", self.configuration["leaves"])

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The row number of each photo, by name."""
        return {name: row for row, name in enumerate(self.names)}

    def to_stored(self, rows: np.ndarray) -> np.ndarray:
        """Applies the projection, if any, to rows (n, D); rows (n, S) are returned unchanged."""
        if self.projection is None or rows.shape[1] == self.rows.dimensions:
            return rows
        return rows @ self.projection

    def candidates_for(self, k: int, effort: float) -> int:
        """Returns the number of candidates to rescore for k neighbours, at `effort` times the tuned search effort."""
        return max(k, round(effort * max(1.0, k / self.configuration["k"]) * self.configuration["reorder"]))

    def find(self, queries: np.ndarray, k: int, effort: float, allowed: RowFilter) -> tuple[np.ndarray, np.ndarray]:
        """Finds the nearest allowed rows among the candidates selected by the hashes.

        Args:
            queries: the queries, (Q, S).
            k: number of neighbours per query.
            effort: factor on the tuned numbers of candidates and leaves, such as 10 if a tenth of the rows is allowed.
            allowed: the rows that may be returned.

        Returns:
            Row numbers and scores, both (Q, k) or narrower, best first; missing neighbours have the score -inf.
        """
        assert self.searcher, "an exact index has no hashes"
        leaves = round(effort * max(1.0, k / self.configuration["k"]) * self.configuration["leaves_to_search"])
        reorder = min(self.candidates_for(k, effort), len(self))
        return rescore(self.searcher, self.rows, queries, k, reorder, leaves, allowed)


def rescore(
    searcher: ScannSearcher,
    rows: StoredRows,
    queries: np.ndarray,
    k: int,
    reorder: int,
    leaves: int,
    allowed: RowFilter | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Rescores ScaNN's first `reorder` candidates from `leaves` leaves by their stored rows; see `Segment.find`."""
    ids = searcher.candidates(queries, reorder, leaves)
    scores = rows.products(queries, ids)
    scores[ids < 0 if allowed is None else (ids < 0) | ~allowed(ids)] = -np.inf
    return top_k(ids, scores, k)


def top_k(ids: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Selects the k highest of the scores (Q, n) of each query; returns their ids and scores, highest first."""
    if scores.shape[1] > 4 * k:
        part = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        ids, scores = np.take_along_axis(ids, part, 1), np.take_along_axis(scores, part, 1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1)

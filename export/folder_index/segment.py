"""One segment of an index, which does not change once it stands: N photos, searched by ScaNN's hashes or exactly."""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from keras_retrieval.pipelines.files.durable import FolderError, read_names

from .column_file import StoredColumns
from .row_file import StoredRows
from .scann_searcher import ScannSearcher, load
from .write_ahead_log import WriteAheadLog

Passes = Callable[[np.ndarray], np.ndarray]
PROJECTION = "projection.npy"


class Segment:
    """A segment's files, open.

    Args:
        folder: of the segment, whose files were verified.
        facts: what the manifest says.

    Raises:
        FolderError: names and rows are not as many as the manifest says, or the log is not whole.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.facts, self.how = facts, facts["configuration"]
        self.names = read_names(folder / "names.txt")
        self.rows = StoredRows(folder, self.how["rows"])
        if not len(self.names) == len(self.rows) == facts["count"]:
            raise FolderError(f"{folder} holds {len(self.names):,} names and {len(self.rows):,} rows: index again")
        self.table = StoredColumns(folder, facts["columns"])
        self.log = WriteAheadLog(folder, facts["log"])
        self.log.read(self.log.start)  # or its error, before ScaNN sees anything
        short = folder / PROJECTION
        self.projection = np.load(short, allow_pickle=False) if short.exists() else None
        self.searcher = None if self.how["kind"] == "exact" else load(folder / "scann", self.how["leaves"])

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The row of each name."""
        return {name: row for row, name in enumerate(self.names)}

    def reduced(self, rows: np.ndarray) -> np.ndarray:
        """Rows (n, D) or (n, S) as they are stored, (n, S)."""
        if self.projection is None or rows.shape[1] == self.rows.dimensions:
            return rows
        return rows @ self.projection

    def reorder(self, k: int, effort: float) -> int:
        """How many candidates to score for k of them, when looking `effort` times as far as it was tuned for."""
        return max(k, round(effort * max(1.0, k / self.how["k"]) * self.how["reorder"]))

    def find(self, queries: np.ndarray, k: int, effort: float, passes: Passes) -> tuple[np.ndarray, np.ndarray]:
        """The nearest rows that pass, as far as the hashes show them.

        Args:
            queries: (Q, S).
            k: how many.
            effort: see `reorder`; 1 / share, where only a share of the rows passes.
            passes: row numbers of any shape -> which of them count.

        Returns:
            Row numbers and scores (Q, k or fewer), best first; scores of -inf behind the last one found.
        """
        assert self.searcher, "an exact index has no hashes"
        leaves = round(effort * max(1.0, k / self.how["k"]) * self.how["leaves_to_search"])
        return rescore(self.searcher, self.rows, queries, k, min(self.reorder(k, effort), len(self)), leaves, passes)


def rescore(
    searcher: ScannSearcher,
    rows: StoredRows,
    queries: np.ndarray,
    k: int,
    reorder: int,
    leaves: int,
    passes: Passes | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """ScaNN's first `reorder` candidates from `leaves` leaves, scored by their stored rows; as `Segment.find`."""
    ids = searcher.candidates(queries, reorder, leaves)
    scores = rows.products(queries, ids)
    scores[ids < 0 if passes is None else (ids < 0) | ~passes(ids)] = -np.inf
    return top_k(ids, scores, k)


def top_k(ids: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k highest scores of each query (Q, n), highest first, and their ids."""
    if scores.shape[1] > 4 * k:
        part = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        ids, scores = np.take_along_axis(ids, part, 1), np.take_along_axis(scores, part, 1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1)

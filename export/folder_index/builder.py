"""Photos to a new segment of an index: stored rows, hashes that are learned, and a search that is tuned."""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from keras_retrieval.pipelines.files.durable import write_names

from keras_retrieval.ranking.nearest import nearest

from ..index_contract.photos import PhotosToIndex, Rows
from ..index_contract.tuning import Hashing, HeldOutQueries, IndexSettings, hold_out, tune
from .column_file import write_columns
from .row_file import StoredRows, write_rows
from .scann_searcher import ScannSearcher, train
from .segment import PROJECTION, rescore
from .write_ahead_log import Change, WriteAheadLog


def build_segment(folder: Path, photos: PhotosToIndex, settings: IndexSettings) -> dict[str, Any]:
    """Writes a segment's files.

    Args:
        folder: from `layout.new_segment`.
        photos: to be indexed.
        settings: what was asked.

    Returns:
        What the manifest says of it: count, columns, configuration, log. The log is to be begun, see `start_log`.
    """
    write_names(folder / "names.txt", photos.names)
    write_columns(folder, photos.columns)
    if photos.projection is not None:
        np.save(folder / PROJECTION, photos.projection, allow_pickle=False)
    stored = Rows(lambda: map(photos.stored, photos.rows))
    write_rows(folder, stored, len(photos.names), photos.dimensions, settings.rows)
    kept = StoredRows(folder, settings.rows)
    leaves, searcher = settings.tree(len(kept)), None
    if leaves is not None:
        searcher = _trained(folder, stored, kept, leaves, settings.hashing)
        searcher.save(folder / "scann")
    how = {"rows": settings.rows, "stored_dimensions": photos.dimensions, "k": settings.k, "asked": asdict(settings)}
    how = _measured(photos, kept, searcher, settings) | how
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    how["bytes_per_photo"] = round(size / max(1, len(kept)), 1)
    return {
        "count": len(kept),
        "columns": list(photos.columns),
        "configuration": how,
        "log": secrets.token_hex(16),
    }


def start_log(folder: Path, facts: Mapping[str, Any], changes: Iterable[Change] = ()) -> None:
    """Begins a segment's log, with changes that are to survive."""
    WriteAheadLog(folder, facts["log"]).write(changes)


def _trained(folder: Path, stored: Rows, kept: StoredRows, leaves: int, hashing: Hashing) -> ScannSearcher:
    """ScaNN learns from rows in float32, which lie on the disk while it does where the stored ones are smaller."""
    if kept.form == "float32":
        return train(kept.take(slice(None)), leaves, hashing)
    place = folder / ".training"
    place.mkdir()
    try:
        write_rows(place, stored, len(kept), kept.dimensions, "float32")
        return train(StoredRows(place, "float32").take(slice(None)), leaves, hashing)
    finally:
        for path in place.iterdir():
            path.unlink()
        place.rmdir()


def _measured(
    photos: PhotosToIndex, kept: StoredRows, searcher: ScannSearcher | None, settings: IndexSettings
) -> dict[str, Any]:
    """How it searches, and with what recall and speed."""
    held = hold_out(photos.rows, len(kept), settings.k, photos.stored)
    if searcher is None:
        same = kept.form == "float32" and (photos.projection is None or photos.reduced)
        recall = 1.0 if same or held is None else _exact_recall(kept, held[1])
        return {"kind": "exact", "leaves": 0, "recall": recall}
    assert held, "a collection that is hashed has rows"

    def find(queries: np.ndarray, count: int, reorder: int, leaves: int) -> np.ndarray:
        return rescore(searcher, kept, queries, count, min(max(reorder, count), len(kept)), leaves)[0]

    kind = ("tree + " if searcher.leaves else "") + "asymmetric hashing + reordering"
    return {"kind": kind, "leaves": searcher.leaves} | tune(find, held, settings, searcher.leaves)


def _exact_recall(kept: StoredRows, held: HeldOutQueries) -> float:
    found, _ = nearest(held.queries, kept.blocks(), held.k + 1)
    return round(held.recall(found), 4)

"""Builds a segment (see `folder_index.layout`): stores descriptors, trains ScaNN's hashes, and tunes the search."""

import secrets
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from keras_retrieval.pipelines.files.arrays import load_array, save_array
from keras_retrieval.pipelines.files.durable import write_names
from keras_retrieval.pipelines.files.space import naming_full_disk

from keras_retrieval.errors import first_line
from keras_retrieval.ranking.grouped import nearest_groups
from keras_retrieval.ranking.nearest import nearest

from ..index_contract.errors import IndexWriteError
from ..index_contract.index_settings import ROW_TYPES, IndexSettings
from ..index_contract.photo_crops import PhotoCrops
from ..index_contract.photos_to_index import PhotosToIndex, RowBlocks
from ..index_contract.recall_tuning import HeldOutQueries, hold_out, tune
from .column_file import write_columns
from .crop_file import write_crops
from .hashing import write_hashes
from .row_file import StoredRows, write_rows
from .scann_searcher import ScannSearcher
from .segment import PROJECTION, rescore
from .write_ahead_log import Change, WriteAheadLog

ROW_BYTES = dict(zip(ROW_TYPES, (4, 2, 1), strict=True))  # of a number in rows.npy
_PROBE = 2**16  # bytes that certainly do not fit on a disk on which a file was cut off
CODE_BYTES = {"lut16": 0.5, "lut256": 1.0}  # of a code of ScaNN's hashes


def build_segment(folder: Path, photos: PhotosToIndex, settings: IndexSettings) -> dict[str, Any]:
    """Writes the files of a segment, except its write-ahead log, which `create_log` writes.

    Args:
        folder: empty folder of the segment, made by `layout.new_segment`.
        photos: photos to index.
        settings: build settings of the index.

    Returns:
        Entries for the manifest of the index: "count" (number of photos), "row_count" (number of rows), "columns"
        (names of the columns), "configuration" (tuned search settings with the measured recall), and "log" (a random
        string that identifies the log).

    Raises:
        MissingExtraError: the settings require approximate search, and ScaNN is not installed.
    """
    write_names(folder / "names.txt", photos.names)
    write_columns(folder, photos.columns)
    if photos.crops is not None:
        write_crops(folder, photos.crops)
    if photos.projection is not None:
        save_array(folder / PROJECTION, photos.projection)
    to_store = RowBlocks(lambda: map(photos.to_stored, photos.rows))
    write_rows(folder, to_store, photos.row_count, photos.dimensions, settings.rows)
    stored = StoredRows(folder, settings.rows)
    leaves, searcher = settings.tree_leaves(len(stored), crops=photos.crops is not None), None
    if leaves is not None:
        searcher = _hash(folder, to_store, stored, leaves, settings)
    configuration = _measure(photos, stored, searcher, settings)
    configuration |= {"rows": settings.rows, "stored_dimensions": photos.dimensions, "k": settings.k}
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    configuration["bytes_per_photo"] = round(size / max(1, len(photos.names)), 1)
    configuration["settings"] = settings.facts()
    return {
        "count": len(photos.names),
        "row_count": len(stored),
        "columns": list(photos.columns),
        "configuration": configuration,
        "log": secrets.token_hex(16),
    }


def segment_bytes(photos: PhotosToIndex, settings: IndexSettings) -> int:
    """Computes the least number of bytes that building a segment needs: rows, boxes, names, and rows for training."""
    count, hashed = photos.row_count, settings.tree_leaves(photos.row_count, crops=photos.crops is not None) is not None
    bytes_per_number: float = ROW_BYTES[settings.rows]
    if hashed:
        bytes_per_number += 0 if settings.rows == "float32" else ROW_BYTES["float32"]
        bytes_per_number += CODE_BYTES[settings.lookup] / settings.block
    boxes = 0 if photos.crops is None else photos.crops.boxes.nbytes
    return round(count * photos.dimensions * bytes_per_number) + boxes + sum(map(len, photos.names))


def create_log(folder: Path, facts: Mapping[str, Any], changes: Iterable[Change] = ()) -> None:
    """Writes the write-ahead log of a new segment.

    Args:
        folder: folder of the segment.
        facts: the entries for the manifest that `build_segment` returned.
        changes: changes that were made to the index while the segment was being built, in order.
    """
    WriteAheadLog(folder, facts["log"]).create(changes)


def _hash(folder: Path, to_store: RowBlocks, stored: StoredRows, leaves: int, settings: IndexSettings) -> ScannSearcher:
    """Trains ScaNN on float32 rows and hashes them; of rows stored in another type, on a temporary file of these."""
    place, temporary = folder / "scann", folder / ".training"
    try:
        if stored.row_type != "float32":
            temporary.mkdir()
            write_rows(temporary, to_store, len(stored), stored.dimensions, "float32")
        rows = (folder if stored.row_type == "float32" else temporary) / "rows.npy"
        return _write_hashes(place, rows, leaves, settings)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_hashes(place: Path, rows: Path, leaves: int, settings: IndexSettings) -> ScannSearcher:
    """Writes ScaNN's files, and checks that they are complete. ScaNN's errors do not say why a write failed."""
    with naming_full_disk(place):
        try:
            searcher = write_hashes(place, rows, leaves, settings)
            for path in place.glob("*.npy"):
                load_array(path, mapped=True)  # raises an error for a truncated file
        except (RuntimeError, ValueError, IndexWriteError) as error:
            (place / "probe").write_bytes(bytes(_PROBE))  # on a full disk, this error says so
            raise IndexWriteError(f"{place}: ScaNN could not write its files: {first_line(error)}") from error
    return searcher


def _measure(
    photos: PhotosToIndex, stored: StoredRows, searcher: ScannSearcher | None, settings: IndexSettings
) -> dict[str, Any]:
    """Tunes the search of the segment; returns the search settings with the recall and speed that were measured."""
    held_out = hold_out(photos.rows, len(photos.names), settings.k, photos.to_stored, photos.crops)
    if searcher is None:
        unchanged = stored.row_type == "float32" and (photos.projection is None or photos.reduced)
        recall = 1.0 if unchanged or held_out is None else _exact_recall(stored, held_out[1], photos.crops)
        return {"kind": "exact", "leaves": 0, "recall": recall}
    assert held_out, "a collection with hashes has at least 16 rows"

    photo_of = None if photos.crops is None else photos.crops.photo_of

    def find(queries: np.ndarray, count: int, reorder: int, leaves: int) -> np.ndarray:
        reorder = min(max(reorder, count), len(stored))
        return rescore(searcher, stored, queries, count, reorder, leaves, photo_of)[0]

    kind = ("tree + " if searcher.leaves else "") + "asymmetric hashing + reordering"
    return {"kind": kind, "leaves": searcher.leaves} | tune(find, held_out, settings, searcher.leaves)


def _exact_recall(stored: StoredRows, held_out: HeldOutQueries, crops: PhotoCrops | None) -> float:
    """Computes the recall of exact search over the stored rows, which differ from the original descriptors."""
    if crops is None:
        found, _ = nearest(held_out.queries, stored.blocks(), held_out.k + 1)
    else:
        found, _ = nearest_groups(held_out.queries, stored.blocks(), crops.starts, held_out.k + 1)
    return round(held_out.recall(found), 4)

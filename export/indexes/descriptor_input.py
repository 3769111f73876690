"""Reads photos to index from a folder of descriptors, checks them, and learns the projection to fewer dimensions."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from keras_retrieval.pipelines.descriptors.folder import has_crops, read_crops, read_descriptors

from keras_retrieval.ranking.nearest import CHUNK
from keras_retrieval.ranking.rows import blocks

from ..folder_index.dimension_reduction import learn_projection
from ..index_contract.checks import check_finite, check_names
from ..index_contract.column_table import read_column_table
from ..index_contract.column_types import TYPES
from ..index_contract.contract import DESCRIPTOR_FACTS
from ..index_contract.photo_crops import PhotoCrops
from ..index_contract.photos_to_index import PhotosToIndex, RowBlocks


def photos_from_descriptors(
    folder: Path, table: Path | None, dim: int | None, types: Mapping[str, str] | None = None
) -> tuple[PhotosToIndex, dict[str, Any]]:
    """Reads the photos to index from a folder of descriptors.

    Args:
        folder: folder of descriptors written by `keras-retrieval extract`.
        table: path of a table of photo columns, see `read_column_table`; None for no columns.
        dim: number of dimensions to which descriptors are reduced; None, or their own number of dimensions, to keep
            all.
        types: types of columns of the table; others are inferred from their values.

    Returns:
        The photos, and the metadata of their descriptors to store with the index: the settings of `extract`
        (`DESCRIPTOR_FACTS`), "photos" (the photo folder), "fingerprint" (of the extraction), "dimensions" and
        "column_types" (the types of the columns).

    Raises:
        FolderError: the folder does not exist, or does not contain descriptors.
        ArgumentError: a name is repeated, a descriptor is not finite, or `dim` is out of range.
        IndexFileNotFoundError: the table does not exist.
        ColumnTableError: the table cannot be parsed.
    """
    shards, names, manifest, crops = described_photos(folder)
    check_names(names)

    def read() -> Iterator[np.ndarray]:
        return (block for _, block in blocks(shards, CHUNK))

    rows, width = RowBlocks(read), shards[0].shape[1]
    check_finite(rows)
    # No projection to all D dimensions, because queries of D dimensions would then count as already reduced.
    projection = None if dim in (None, width) else learn_projection(rows, dim)
    columns = read_column_table(table, names, types) if table else None
    facts = {key: manifest[key] for key in (*DESCRIPTOR_FACTS, "photos", "fingerprint")} | {"dimensions": width}
    facts |= {TYPES: columns.types} if columns else {}
    texts = columns.texts() if columns else {}
    return PhotosToIndex(names, rows, dim or width, texts, projection, crops=crops), facts


def described_photos(folder: Path) -> tuple[list[np.ndarray], list[str], dict[str, Any], PhotoCrops | None]:
    """Opens a folder of descriptors, with crops or without.

    Returns:
        A tuple of four: the shards, the names of the photos, the content of manifest.json, and the crops of the photos;
        None if each photo has one row. The rows of a photo are in one shard.

    Raises:
        FolderError: the folder does not exist, does not contain descriptors, or is damaged.
    """
    if not has_crops(folder):
        return *read_descriptors(folder), None
    found = read_crops(folder)
    return found.shards, found.names, found.manifest, PhotoCrops(found.counts, found.boxes)

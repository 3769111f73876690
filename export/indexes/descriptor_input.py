"""Reads photos to index from a folder of descriptors: checks rows, reads the column table, learns the projection."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from keras_retrieval.pipelines.descriptors.folder import read_descriptors

from keras_retrieval.ranking.nearest import CHUNK
from keras_retrieval.ranking.rows import blocks

from ..folder_index.dimension_reduction import learn_projection
from ..index_contract.checks import check_finite, check_names
from ..index_contract.column_table import read_column_table
from ..index_contract.contract import DESCRIPTOR_FACTS
from ..index_contract.photos_to_index import PhotosToIndex, RowBlocks


def photos_from_descriptors(folder: Path, table: Path | None, dim: int | None) -> tuple[PhotosToIndex, dict[str, Any]]:
    """Reads photos to index from a folder of descriptors.

    Args:
        folder: folder of descriptors written by `keras-retrieval extract`.
        table: path of the table of columns; None for no columns.
        dim: number of dimensions to reduce the descriptors to; None to keep all.

    Returns:
        The photos, and the facts about their descriptors that an index keeps.

    Raises:
        FolderError: the folder does not exist, or does not contain descriptors.
        ArgumentError: names are repeated, rows are not finite, or `dim` is out of range.
        ColumnTableError: the table is damaged.
    """
    shards, names, manifest = read_descriptors(folder)
    check_names(names)

    def read() -> Iterator[np.ndarray]:
        return (block for _, block in blocks(shards, CHUNK))

    rows, width = RowBlocks(read), shards[0].shape[1]
    check_finite(rows)
    # A projection to all dimensions would be useless: queries of that width would be mistaken for reduced ones.
    projection = None if dim in (None, width) else learn_projection(rows, dim)
    columns = read_column_table(table, names) if table else {}
    facts = {key: manifest[key] for key in (*DESCRIPTOR_FACTS, "photos", "fingerprint")} | {"dimensions": width}
    return PhotosToIndex(names, rows, dim or width, columns, projection), facts

"""Files of the crops of a segment: the number of rows of each photo, and the box of each row."""

from pathlib import Path

import numpy as np
from keras_retrieval.pipelines.files.arrays import load_array, save_array
from keras_retrieval.pipelines.files.durable import FolderError

from ..index_contract.photo_crops import PhotoCrops

_COUNTS, _BOXES = "row-counts.npy", "boxes.npy"


def read_crops(folder: Path, photos: int, rows: int) -> PhotoCrops:
    """Reads the crops that `write_crops` wrote.

    Args:
        folder: folder of the segment.
        photos: the number of photos that the segment has.
        rows: the number of rows that it has.

    Returns:
        The crops, whose boxes are memory-mapped.

    Raises:
        FolderError: the files do not fit the numbers of photos and rows.
    """
    counts = load_array(folder / _COUNTS).astype(np.int64)
    boxes = np.asarray(load_array(folder / _BOXES, mapped=True))  # memmap indexes slowly
    if counts.shape != (photos,) or counts.sum() != rows or boxes.shape != (rows, 4):
        raise FolderError(f"{folder}: its crops do not fit its {photos:,} photos and {rows:,} rows: index again")
    return PhotoCrops(counts, boxes)


def write_crops(folder: Path, crops: PhotoCrops) -> None:
    """Writes the crops of the photos of a segment: row-counts.npy, int32, and boxes.npy, float32.

    Args:
        folder: folder of the segment.
        crops: the crops.
    """
    save_array(folder / _COUNTS, crops.counts.astype(np.int32))
    save_array(folder / _BOXES, crops.boxes.astype(np.float32))

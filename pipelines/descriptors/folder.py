"""Reads folders of descriptors that the command `keras-retrieval extract` wrote."""

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.ranking.rows import first_rows

from ..command.kinds import takes_addresses
from ..files.durable import FolderError, read_manifest, read_names
from ..files.local_copy import local_copy, sealed_copy
from ..files.remote import check_address, named, remote_folder
from ..files.shards import NAMES
from .shard_files import check_names, read_boxes, read_rows, sealed_shards

KIND, VERSION = "descriptors", 2
PHOTOS_VERSION, CROPS_VERSION = 1, 2  # of folders with one descriptor per photo, and with one per crop

_DEFAULTS: dict[str, Any] = {"mirror": False, "edges": "", "crops": []}
"""Values of options that manifests of older versions lack."""


@takes_addresses
def described_folder(label: str, value: Any) -> None:
    """The kind of an option that names a folder of descriptors, which may be at an address.

    Raises:
        FolderError: the folder does not exist, does not contain descriptors, or lacks a file.
        RemoteError: the storage of an address does not answer, or refuses.
    """
    check_address(label, value)
    read_manifest(Path(value), kind=KIND, version=VERSION)


@dataclass(frozen=True)
class CropDescriptors:
    """The descriptors of crops of N photos, R rows in all; those of a photo follow each other, the whole photo first.

    Attributes:
        shards: the rows, memory-mapped arrays (n, D) float32. The rows of a photo are in one shard.
        names: the names of the photos.
        counts: the number of rows of each photo, (N,) int64.
        boxes: the box of each row, (R, 4) float32: left, top, right and bottom in pixels of the upright photo.
        manifest: the content of manifest.json.
    """

    shards: list[np.ndarray]
    names: list[str]
    counts: np.ndarray
    boxes: np.ndarray
    manifest: dict[str, Any]

    @property
    def starts(self) -> np.ndarray:
        """The first row of each photo, (N,) int64: that of the whole photo."""
        return first_rows(self.counts)


def has_crops(folder: Path) -> bool:
    """Returns whether a folder has descriptors of crops.

    Raises:
        FolderError: the folder does not contain descriptors.
    """
    return bool((_DEFAULTS | read_manifest(folder, kind=KIND, version=VERSION))["crops"])


def photo_names(folder: Path) -> list[str]:
    """Returns the names of the photos of a folder of descriptors, with crops or without, each once.

    Args:
        folder: the folder, or its address, of which only the names are copied.

    Raises:
        FolderError: the folder does not contain descriptors or is damaged.
        RemoteError: the storage of an address does not answer, or refuses.
    """
    if remote := remote_folder(folder):
        manifest = _DEFAULTS | read_manifest(folder, kind=KIND, version=VERSION)
        names = read_names(local_copy(remote, {NAMES: manifest["sha256"][NAMES]}) / NAMES, runs=bool(manifest["crops"]))
    else:
        _, names = _read(*_opened(folder))
    return list(dict.fromkeys(names))


def read_crops(folder: Path) -> CropDescriptors:
    """Opens a folder of descriptors of crops, see `has_crops`.

    Raises:
        FolderError: the folder does not contain descriptors of crops or is damaged.
    """
    folder, manifest = _opened(folder)
    shards, names = _read(folder, manifest)
    boxes = [read_boxes(folder / name) for name in sealed_shards(manifest)]
    if [one.shape for one in boxes] != [(len(shard), 4) for shard in shards]:
        raise FolderError(f"{folder}: its boxes are not one for each row: extract again with --replace")
    photos = [(name, sum(1 for _ in rows)) for name, rows in groupby(names)]
    counts = np.array([count for _, count in photos], np.int64)
    return CropDescriptors(shards, [name for name, _ in photos], counts, np.concatenate(boxes), manifest)


def read_descriptors(folder: Path) -> tuple[list[np.ndarray], list[str], dict[str, Any]]:
    """Opens a folder of descriptors, one for each photo.

    Args:
        folder: a folder that `keras-retrieval extract` wrote, with manifest.json, names.txt and descriptors-*.npy or
            descriptors-*.parquet; or its address, whose files are copied into the cache folder, see `local_copy`.

    Returns:
        A tuple of three: the shards, a list of memory-mapped arrays (n, D) float32 with one descriptor per row; the
        photos' names in the order of the rows of all shards; and the content of manifest.json.

    Raises:
        FolderError: the folder does not contain descriptors or is damaged, the number of rows differs from the number
            of names, or it has several descriptors per photo (`extract --crops`).
    """
    copy, manifest = _opened(folder)
    shards, names = _read(copy, manifest)
    if manifest["crops"]:
        levels = ",".join(map(str, manifest["crops"]))
        raise FolderError(
            f"{named(folder)} has several descriptors per photo (--crops {levels}), and one is needed here: "
            "extract without --crops"
        )
    return shards, names, manifest


def _opened(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The folder, or of an address a copy; and the manifest."""
    copy, manifest = sealed_copy(folder, kind=KIND, version=VERSION)
    return copy, _DEFAULTS | manifest


def _read(folder: Path, manifest: dict[str, Any]) -> tuple[list[np.ndarray], list[str]]:
    paths = [folder / name for name in sealed_shards(manifest)]
    shards = [read_rows(path) for path in paths]
    names = read_names(folder / NAMES, runs=bool(manifest["crops"]))
    if not shards or {shard.ndim for shard in shards} != {2} or len({shard.shape[1] for shard in shards}) != 1:
        shapes = ", ".join(dict.fromkeys(str(shard.shape[1:]) for shard in shards))
        raise FolderError(f"{folder}: its shards are not rows of one length ({shapes}): extract again with --replace")
    if sum(map(len, shards)) != len(names):
        raise FolderError(
            f"{folder} contains {sum(map(len, shards)):,} rows and {len(names):,} names: extract again with --replace"
        )
    first = 0
    for path, shard in zip(paths, shards, strict=True):
        check_names(path, names[first : first + len(shard)], first)
        first += len(shard)
    return shards, names

"""Reads folders of descriptors that the command `keras-retrieval extract` wrote."""

from pathlib import Path
from typing import Any

import numpy as np

from ..files.durable import FolderError, read_manifest, read_names

KIND, VERSION = "descriptors", 1

_DEFAULTS = {"mirror": False, "edges": ""}
"""Values of options that manifests of older versions lack."""


def described_folder(label: str, value: Any) -> None:
    """The kind of an option that names a folder of descriptors.

    Raises:
        FolderError: the folder does not exist, does not contain descriptors, or lacks a file.
    """
    read_manifest(Path(value), kind=KIND, version=VERSION)


def read_descriptors(folder: Path) -> tuple[list[np.ndarray], list[str], dict[str, Any]]:
    """Opens a folder of descriptors.

    Args:
        folder: a folder that `keras-retrieval extract` wrote, with manifest.json, names.txt and descriptors-*.npy.

    Returns:
        A tuple of three: the shards, a list of memory-mapped arrays (n, D) float32 with one descriptor per row; the
        photos' names in the order of the rows of all shards; and the content of manifest.json.

    Raises:
        FolderError: the folder does not contain descriptors or is damaged, or the number of rows differs from the
            number of names.
    """
    manifest = _DEFAULTS | read_manifest(folder, kind=KIND, version=VERSION)
    paths = sorted(folder.glob("descriptors-*.npy"))
    shards = [_shard(path) for path in paths]
    names = read_names(folder / "names.txt")
    if not shards or {shard.ndim for shard in shards} != {2} or len({shard.shape[1] for shard in shards}) != 1:
        raise FolderError(f"{folder}: its shards are not rows of one length: extract again")
    if sum(map(len, shards)) != len(names):
        raise FolderError(f"{folder} contains {sum(map(len, shards)):,} rows and {len(names):,} names: extract again")
    return shards, names, manifest


def _shard(path: Path) -> np.ndarray:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # numpy raises many kinds of errors for a damaged header
        raise FolderError(f"{path} is not an array ({error}): extract again") from error

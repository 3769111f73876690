"""Finds files with the same bytes."""

from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..files.progress import progress
from ..photos.remote_photos import photo_readers, sha256_in


def byte_copies(folder: Path, sizes: Mapping[str, int | None]) -> list[list[str]]:
    """Finds the files of a folder that have the same bytes. Only files of equal size are read.

    Args:
        folder: the folder, or an address such as s3://BUCKET/FOLDER as a path.
        sizes: maps the name of each file, relative to `folder`, to its size in bytes: 0 for a file that is not there,
            None where the storage does not say it. Files that cannot be read are in no group.

    Returns:
        The groups of two or more names, each sorted.

    Raises:
        RemoteError: the storage of an address does not answer, or refuses.
    """
    by_size: dict[int | None, list[str]] = defaultdict(list)
    for name, size in sizes.items():
        if size != 0:
            by_size[size].append(name)
    alike = [name for some in by_size.values() if len(some) > 1 for name in some]
    by_bytes: dict[str, list[str]] = defaultdict(list)
    if alike:
        with progress("bytes", len(alike), "files") as advance, ThreadPoolExecutor(photo_readers(folder)) as pool:
            for name, found in zip(alike, pool.map(lambda name: _hash(folder, name), alike), strict=True):
                if found:
                    by_bytes[found].append(name)
                advance(1)
    return [sorted(some) for some in by_bytes.values() if len(some) > 1]


def _hash(folder: Path, name: str) -> str:
    try:
        return sha256_in(folder, name)
    except OSError:
        return ""

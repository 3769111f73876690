"""Finds files with the same bytes."""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..files.durable import sha256_of
from ..files.machine import cores
from ..files.progress import progress


def byte_copies(folder: Path, names: Sequence[str]) -> list[list[str]]:
    """Finds the files of a folder that have the same bytes. Only files of equal size are read.

    Args:
        folder: the folder.
        names: names of the files, relative to `folder`. Files that cannot be read are in no group.

    Returns:
        The groups of two or more names, each sorted.
    """
    by_size: dict[int, list[str]] = defaultdict(list)
    for name in names:
        size = _size(folder / name)
        if size:
            by_size[size].append(name)
    alike = [name for some in by_size.values() if len(some) > 1 for name in some]
    by_bytes: dict[str, list[str]] = defaultdict(list)
    if alike:
        with progress("bytes", len(alike), "files") as advance, ThreadPoolExecutor(cores()) as pool:
            for name, found in zip(alike, pool.map(lambda name: _hash(folder / name), alike), strict=True):
                if found:
                    by_bytes[found].append(name)
                advance(1)
    return [sorted(some) for some in by_bytes.values() if len(some) > 1]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _hash(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError:
        return ""

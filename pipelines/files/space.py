"""Free space on disks: checked before long work, and named in the error when a disk becomes full.

A full disk ends a write with an error of the operating system, of a library, or of a library of a library, few of which
name a file. `naming_full_disk` turns all of them into a `DiskSpaceError`, which states how much space is missing.
"""

import errno
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keras_retrieval.errors import RetrievalError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_TEXTS = tuple(os.strerror(number).lower() for number in _FULL)
_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


class DiskSpaceError(RetrievalError, OSError):
    """There is too little free space on the disk for what is to be written, or the user's quota is used up."""


def require_space(folder: Path, size: int) -> None:
    """Checks before long work that its result fits on the disk.

    Args:
        folder: the folder to be written, which may not exist.
        size: the number of bytes that will be written.

    Raises:
        DiskSpaceError: less space is free than `size`.
    """
    if free_space(folder) < size:
        raise _error(folder, size)


def free_space(place: Path) -> int:
    """Returns the free bytes on the disk of a file or folder, which may not exist yet."""
    place = place.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def is_full_disk(error: BaseException) -> bool:
    """Returns whether an error, or one that it followed, says that a disk is full or a quota is used up.

    Args:
        error: an error of the operating system, or of a library that quotes one.
    """
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        if isinstance(found, DiskSpaceError) or (isinstance(found, OSError) and found.errno in _FULL):
            return True
        if any(text in str(found).lower() for text in _TEXTS):
            return True
        seen.add(id(found))
        found = found.__cause__ or found.__context__
    return False


@contextmanager
def naming_full_disk(path: Path, size: int = 0) -> Iterator[None]:
    """Context manager that turns the errors of a full disk in its block into a `DiskSpaceError`.

    What the block wrote should have been removed when it ends, because the error states how much is free then. Of
    nested blocks, the outermost one that knows the size names the file and the size.

    Args:
        path: the file or folder that the block writes, for the message.
        size: the number of bytes that the block writes; 0 if that is not known.

    Raises:
        DiskSpaceError: the disk is full.
    """
    try:
        yield
    except Exception as error:
        if not is_full_disk(error) or (isinstance(error, DiskSpaceError) and not size):
            raise
        raise _error(path, size, error) from error


def allocate(descriptor: int, path: Path, size: int) -> None:
    """Reserves space on the disk for an open file, where the file system is able to, so that a lack shows early.

    Args:
        descriptor: the number of the open file, as `fileno` returns it.
        path: the file or its folder, for the message.
        size: the number of bytes to which the file grows.

    Raises:
        DiskSpaceError: the disk has too little space.
    """
    if size and hasattr(os, "posix_fallocate"):
        missing = size - os.fstat(descriptor).st_blocks * 512
        with naming_full_disk(path, max(missing, 0)):
            try:
                os.posix_fallocate(descriptor, 0, size)
            except OSError as error:
                if error.errno in _FULL:
                    raise  # others: the file system cannot reserve space, and each write is checked by itself


def _error(path: Path, size: int, error: BaseException | None = None) -> DiskSpaceError:
    if isinstance(error, OSError) and error.errno == errno.EDQUOT:
        needed = f" needs {size_text(size)}, but" if size else ":"
        return DiskSpaceError(f"{path}{needed} your quota on its disk is used up: remove files, or ask for more")
    free = free_space(path)
    if size <= free:  # the size was not known, or other processes have freed space since
        return DiskSpaceError(
            f"{path} needs more than the {size_text(free)} that are free on its disk: free some space, or use another "
            "disk"
        )
    return DiskSpaceError(
        f"{path} needs {size_text(size)}, and {size_text(free)} are free on its disk: free {size_text(size - free)}, "
        "or use another disk"
    )


def size_text(size: int) -> str:
    """Returns a number of bytes as text, rounded up to a tenth of kB, MB or GB (powers of ten)."""
    unit, name = next((unit for unit in _UNITS if size >= unit[0]), _UNITS[-1])
    return f"{math.ceil(size / unit * 10) / 10:,.1f} {name}"

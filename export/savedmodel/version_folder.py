"""The folder of a model's versions: finds the next version number, and locks the folder against concurrent exports."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keras_retrieval.pipelines.files.durable import FolderError
from keras_retrieval.pipelines.files.locks import lock


def version_folder(output: Path, version: int | None) -> Path:
    """Returns the path of the folder to which a version is to be written.

    Args:
        output: folder of the model's versions, which need not exist.
        version: number of the version; None for the newest number plus one, or 1 for the first version.

    Returns:
        The path `output`/VERSION; nothing is created.

    Raises:
        FolderError: the version exists already, or `output` is a file.
    """
    if output.exists() and not output.is_dir():
        raise FolderError(f"{output} is a file: name a folder for the model's versions")
    existing = [int(path.name) for path in output.glob("*") if path.name.isdecimal()]
    if version in existing:
        raise FolderError(f"{output / str(version)} exists already, and servers may have loaded it: omit --version")
    return output / str(version or max(existing, default=0) + 1)


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Locks a model's folder, because concurrent exports would choose the same version number. A context manager.

    Waits until the lock is free. The operating system releases the lock when the process ends, even if the process is
    killed.

    Args:
        output: folder of the model's versions, which must exist.
    """
    descriptor = os.open(output, os.O_RDONLY)
    try:
        lock(descriptor, wait=True)
        yield
    finally:
        os.close(descriptor)

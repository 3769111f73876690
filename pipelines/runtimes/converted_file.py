"""The .onnx file into which a network is converted once, kept beside the network's file or in the cache folder.

Its name says of which network it is, in which form and by which version it was converted, and its content:
NAME.runtime-NETWORK-FORM-CONTENT.onnx beside NAME.keras, with the first digits of SHA-256 hashes. A file with another
content, as of a damaged disk, is not read. It is written under a temporary name and renamed, so that processes may
convert the same network at the same time, and a killed one leaves nothing that is read. Files that were converted from
an earlier content of the network's file are removed when a new one is written.
"""

import logging
import os
import re
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from keras_retrieval import __version__

from ..files.cache_folder import cache_folder
from ..files.durable import atomic_path, fingerprint, sha256_of

log = logging.getLogger("keras_retrieval")

FOLDER = "runtimes"
"""The folder of converted networks in the cache folder."""
LAYOUT = 1
"""Is increased when networks are converted in another way."""

_NETWORK, _FORM = 12, 8  # hexadecimal digits in the name
_ABANDONED = 3600.0  # seconds after which a file that is not finished is taken for that of a killed process


class ConvertedFile:
    """The place of a converted network.

    Args:
        model: path of the network's file, or its name.
        sha256: the SHA-256 of the network's file, or of its weights if it has none.
        form: how the network is converted: its scales and such; serialisable as JSON.

    Attributes:
        key: a text that is equal for equal networks, forms and versions.
    """

    def __init__(self, model: str | Path, sha256: str, form: object) -> None:
        network = Path(model)
        made_by = fingerprint(form, LAYOUT, __version__, _version_of("tf2onnx"), _version_of("keras"))[:_FORM]
        self.key = f"{sha256[:_NETWORK]}-{made_by}"
        self._stem = network.stem
        beside = [network.resolve().parent] if network.is_file() else []
        cache = cache_folder()
        self._folders = beside + ([] if cache is None else [cache / FOLDER])

    def found(self) -> Path | None:
        """Returns the file, if there is a whole one."""
        prefix = f"{self._stem}.runtime-{self.key}-"
        for folder in self._folders:
            with suppress(OSError):
                for path in sorted(folder.iterdir()):
                    name = path.name
                    if name.startswith(prefix) and name == f"{prefix}{sha256_of(path)[:_FORM]}.onnx":
                        return path
        return None

    def write(self, convert: Callable[[Path], None]) -> Path:
        """Converts the network and keeps the file, in the first folder that can be written.

        Args:
            convert: a function that writes the file to a path.

        Returns:
            The path. Where nothing can be kept, it is in a temporary folder, which the caller removes by `discard`.
        """
        for folder in filter(_writable, self._folders):
            try:
                path = self._written(folder, convert)
            except OSError as error:  # such as a full disk
                log.debug("no converted network is kept in %s: %s", folder, error)
                continue
            self._remove_outdated(folder, path)
            return path
        return self._written(Path(tempfile.mkdtemp(prefix="keras-retrieval-")), convert)

    def _written(self, folder: Path, convert: Callable[[Path], None]) -> Path:
        name = f"{self._stem}.runtime-{self.key}"
        unfinished = folder / f".{name}.{os.getpid()}.writing.onnx"
        try:
            convert(unfinished)
            path = folder / f"{name}-{sha256_of(unfinished)[:_FORM]}.onnx"
            with atomic_path(path) as temporary:
                unfinished.replace(temporary)
        finally:
            unfinished.unlink(missing_ok=True)
        return path

    def discard(self, path: Path) -> None:
        """Removes a file that is of no use, and its temporary folder."""
        with suppress(OSError):
            path.unlink(missing_ok=True)
        if path.parent not in self._folders:
            with suppress(OSError):
                path.parent.rmdir()

    def is_temporary(self, path: Path) -> bool:
        """Returns whether a file is in a temporary folder."""
        return path.parent not in self._folders

    def _remove_outdated(self, folder: Path, written: Path) -> None:
        """Removes what killed processes left and, beside a network's file, conversions of its earlier contents."""
        ours = re.compile(re.escape(self._stem) + r"\.runtime-([0-9a-f]{12}-[0-9a-f]{8})-[0-9a-f]{8}\.onnx")
        unfinished = re.compile(r"\..+\.runtime-[0-9a-f]{12}-[0-9a-f-]{8,17}\.\d+\.writing\.onnx")
        with suppress(OSError):
            for path in list(folder.iterdir()):
                found = ours.fullmatch(path.name)
                earlier = found and found[1][:_NETWORK] != self.key[:_NETWORK] and folder.name != FOLDER
                damaged = found and found[1] == self.key and path != written
                abandoned = unfinished.fullmatch(path.name) and time.time() - path.stat().st_mtime > _ABANDONED
                if earlier or damaged or abandoned:
                    path.unlink(missing_ok=True)


def _writable(folder: Path) -> bool:
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            with tempfile.TemporaryFile(dir=folder):  # root may write where a read-only file system does not
                return True
    return False


def _version_of(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return ""

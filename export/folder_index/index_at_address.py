"""Writes an index folder to an address, such as a bucket: it is built on this machine, and its manifest is sent last.

So a server that copies the index sees the build before or the whole new one, see `copied_index`. A process that is
killed before leaves files of a segment, which the next one replaces.
"""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from keras_retrieval.pipelines.files.durable import MANIFEST, FolderError, partial_of
from keras_retrieval.pipelines.files.progress import waiting
from keras_retrieval.pipelines.files.remote import READERS, FileState, MissingFileError, RemoteFolder
from keras_retrieval.pipelines.files.remote_errors import shown

from .layout import KIND

_SEGMENT = re.compile(r"(segment-\d{6,})/.+", re.DOTALL)
_BESIDE = re.compile(r"local/.+|calibration(-[0-9a-f]{12})?\.json", re.DOTALL)


@contextmanager
def index_at_address(address: str, *, may_replace: bool) -> Iterator[Path]:
    """Context manager that yields a folder in which an index is to be written, and sends it to an address.

    Args:
        address: the address, from `address_of`.
        may_replace: whether an index at the address may be replaced. Its calibrations stay.

    Yields:
        The path of a folder that does not exist yet. Nothing is sent if the block raises an error.

    Raises:
        FolderError: the address has an index that may not be replaced, or something else.
        RemoteError: the storage does not answer, or refuses.
    """
    remote = RemoteFolder(address)
    present = remote.files(required=False)
    _check_free(remote, present, may_replace)
    with tempfile.TemporaryDirectory(prefix="keras-retrieval-") as work:
        folder = Path(work) / "index"
        # The number of the new segment follows those at the address, of which servers may be making copies.
        for segment in {found[1] for name in present if (found := _SEGMENT.fullmatch(name))}:
            (partial_of(folder) / segment).mkdir(parents=True)
        yield folder
        with waiting(f"sending the index to {shown(address)}"):
            _send(folder, remote)


def _check_free(remote: RemoteFolder, found: Mapping[str, FileState], may_replace: bool) -> None:
    place = shown(remote.address)
    other = [
        name for name in found if name != MANIFEST and not _SEGMENT.fullmatch(name) and not _BESIDE.fullmatch(name)
    ]
    if other or (MANIFEST in found and not has_index(remote)):
        raise FolderError(
            f"{place} is not an index and will not be replaced (it contains {min(other, default=MANIFEST)}): name "
            "another place"
        )
    if MANIFEST in found and not may_replace:
        raise FolderError(f"{place} exists already: name another place, or give --replace")


def has_index(remote: RemoteFolder) -> bool:
    """Returns whether there is an index at an address, which is asked.

    Raises:
        RemoteError: the storage does not answer, or refuses.
    """
    try:
        return bool(json.loads(remote.read(MANIFEST))["kind"] == KIND)
    except (MissingFileError, ValueError, TypeError, LookupError, RecursionError):
        return False


def _send(folder: Path, remote: RemoteFolder) -> None:
    """Sends all files and last the manifest; then removes those of earlier segments and of earlier local features."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    sent = {name: path for name, path in files.items() if not any(part[0] == "." for part in name.split("/"))}
    manifest = sent.pop(MANIFEST)
    with ThreadPoolExecutor(READERS) as pool:
        for _ in pool.map(lambda name: remote.put(name, sent[name]), sent):
            pass
    remote.write(MANIFEST, manifest.read_bytes())
    earlier = [name for name in remote.files() if _SEGMENT.fullmatch(name) or name.startswith("local/")]
    remote.remove(name for name in earlier if name not in sent)

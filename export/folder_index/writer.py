"""Writes an index to a folder: a new index, or a new segment of an existing index, which can be searched meanwhile."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keras_retrieval.pipelines.files.durable import MANIFEST, check_free, partial_of
from keras_retrieval.pipelines.files.space import naming_full_disk, require_space

from ..index_contract.index_settings import IndexSettings
from ..index_contract.photos_to_index import PhotosToIndex
from .builder import build_segment, create_log, segment_bytes
from .layout import KIND, current_segment, locked, new_segment, publish, remove_outdated


def check_output(folder: Path, *, may_replace: bool) -> None:
    """Checks that an index may be written to a folder.

    Args:
        folder: folder to write to, which need not exist.
        may_replace: whether an index in the folder may be replaced.

    Raises:
        FolderError: the folder exists, and is not an index or may not be replaced.
    """
    check_free(folder, kind=KIND, replace=may_replace)


def write_index(
    folder: Path, photos: PhotosToIndex, facts: Mapping[str, Any], settings: IndexSettings
) -> Mapping[str, Any]:
    """Builds an index in a folder. An index that is already there is replaced, and can be searched until then.

    Args:
        folder: folder to write to, accepted by `check_output`.
        photos: photos to index.
        facts: metadata of the descriptors, as in `NeighbourIndex.facts`: the settings of `extract` and the photo
            folder.
        settings: build settings of the index.

    Returns:
        The entries of the manifest: `facts` and those that `build_segment` returns.

    Raises:
        IndexBusyError: another process is writing to the index or rebuilding it.
        MissingExtraError: the settings require approximate search, and ScaNN is not installed.
        DiskSpaceError: the disk is full; an existing index is unchanged, and nothing else is left.
    """
    # A new index is written under a temporary name. An existing index gets a new segment in its own folder, because
    # other processes search the old segment meanwhile.
    exists = (folder / MANIFEST).exists()
    home = folder if exists else partial_of(folder)
    size = segment_bytes(photos, settings)
    require_space(home, size)
    with naming_full_disk(folder, size), _home(home, temporary=not exists):
        with new_segment(home, current_segment(folder)) as segment:
            facts = {**facts, **build_segment(segment, photos, settings)}
            create_log(segment, facts)
            with locked(home, "writing"):
                publish(home, segment, facts, settings.grace)
            remove_outdated(home, segment.name, older=True)
        if not exists:
            home.rename(folder)
    return facts


@contextmanager
def _home(folder: Path, *, temporary: bool) -> Iterator[None]:
    """Makes a folder and locks it for building; a temporary one is removed if the block raises an error."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, "building"):
        try:
            yield
        except BaseException:
            if temporary:
                shutil.rmtree(folder, ignore_errors=True)
            raise

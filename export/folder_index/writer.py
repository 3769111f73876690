"""Writes an index to a folder: a new index, or a new segment of an existing index, which can be searched meanwhile."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_retrieval.pipelines.files.durable import MANIFEST, check_free, partial_of

from ..index_contract.index_settings import IndexSettings
from ..index_contract.photos_to_index import PhotosToIndex
from .builder import build_segment, create_log
from .layout import KIND, current_segment, locked, new_segment, publish, remove_other_segments


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
    """
    # A new index is written under a temporary name. An existing index gets a new segment in its own folder, because
    # other processes search the old segment meanwhile.
    exists = (folder / MANIFEST).exists()
    home = folder if exists else partial_of(folder)
    home.mkdir(parents=True, exist_ok=True)
    with locked(home, "building"):
        segment = new_segment(home, current_segment(folder))
        facts = {**facts, **build_segment(segment, photos, settings)}
        create_log(segment, facts)
        with locked(home, "writing"):
            publish(home, segment, facts)
        remove_other_segments(home, segment.name)
    if not exists:
        home.rename(folder)
    return facts

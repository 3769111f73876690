"""Writes an index folder: a new one, or a new segment in an existing one, even while that is searched."""

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

    Raises:
        FolderError: the folder exists and is not an index, or may not be replaced.
    """
    check_free(folder, kind=KIND, replace=may_replace)


def write_index(
    folder: Path, photos: PhotosToIndex, facts: Mapping[str, Any], settings: IndexSettings
) -> Mapping[str, Any]:
    """Writes an index, which replaces an existing one in `folder` even while that is searched.

    Args:
        folder: the folder to write to, accepted by `check_output`.
        photos: the photos to index.
        facts: facts about the descriptors, for `NeighbourIndex.facts`.
        settings: the settings of the index.

    Returns:
        The facts in the manifest.

    Raises:
        IndexBusyError: another process is writing to the index.
        MissingExtraError: the search is approximate, and ScaNN is not installed.
    """
    # A new index gets a temporary name first; a new segment is written in the folder, while others search the old one.
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

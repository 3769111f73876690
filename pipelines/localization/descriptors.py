"""Reads the descriptors of a model's photos, and finds the photos that are most similar to queries."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from keras_retrieval.errors import class_and_text
from keras_retrieval.ranking.nearest import nearest

from ..descriptors.folder import KIND, VERSION, described_folder, read_descriptors
from ..files.durable import FolderError, kind_of, read_json, read_manifest
from ..files.remote import address_of
from ..photos.reader import MAX_PIXELS
from ..sfm.descriptors import read_stored
from ..sfm.work_folder import OPTIONS
from .errors import LocalizationError

REPORT = "report.json"


class DescribedPhotos(Protocol):
    """Photos with descriptors, among which those that are most similar to queries are found."""

    @property
    def names(self) -> Sequence[str]:
        """The names of the photos."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """How the descriptors were computed, as in the manifest of a folder of descriptors."""
        ...

    def nearest(self, rows: np.ndarray, among: Collection[str], count: int) -> list[list[str]]:
        """Finds the photos that are most similar to queries.

        Args:
            rows: the descriptors of the queries, (Q, D) float32.
            among: the names of the photos that may be found; others may be named, too.
            count: the largest number of photos for a query.

        Returns:
            For each query the names of the most similar photos, the most similar first.
        """
        ...


@dataclass(frozen=True)
class PhotoDescriptors:
    """The descriptors of n photos.

    Attributes:
        names: the names of the photos.
        rows: L2-normalised descriptors, (n, D) float32.
        facts: how they were computed, as in the manifest of a folder of descriptors.
    """

    names: list[str]
    rows: np.ndarray
    facts: Mapping[str, Any]

    def nearest(self, rows: np.ndarray, among: Collection[str], count: int) -> list[list[str]]:
        """Finds the photos that are most similar to queries, see `DescribedPhotos`."""
        kept = [place for place, name in enumerate(self.names) if name in among]
        order, _ = nearest(rows, self.rows[kept], count)
        return [[self.names[kept[place]] for place in near] for near in order.tolist()]


def described_photos(label: str, value: Any) -> None:
    """The kind of a folder that `reconstruct` or `extract` wrote.

    Raises:
        FolderError: it is not one.
    """
    folder = Path(value)
    if address_of(folder):
        described_folder(label, value)
        return
    if not folder.is_dir():
        raise FolderError(f"{folder} {'is a file, not a folder' if folder.exists() else 'does not exist'}")
    if (folder / OPTIONS).is_file():
        return
    if kind_of(folder) != KIND:
        raise FolderError(
            f"{folder} is neither an index, nor a folder that `keras-retrieval reconstruct` wrote, nor one with "
            "descriptors: give one of these"
        )
    read_manifest(folder, kind=KIND, version=VERSION)


def read_photo_descriptors(folder: Path) -> PhotoDescriptors:
    """Reads the descriptors of a folder that `reconstruct` or `extract` wrote.

    Raises:
        LocalizationError: `reconstruct` computed no descriptors.
        FolderError: the folder is damaged, or has several descriptors per photo.
    """
    if not (folder / OPTIONS).is_file():
        shards, names, manifest = read_descriptors(folder)
        return PhotoDescriptors(names, np.concatenate([np.asarray(shard) for shard in shards]), manifest)
    made = [path for path in folder.glob("descriptors-*/made_with.json") if any(path.parent.glob("*.npy"))]
    if not made:
        raise LocalizationError(
            f"{folder} has no descriptors, because its pairs were not chosen by retrieval: describe its photos with "
            "`keras-retrieval extract` and give that folder, or give --neighbours 0"
        )
    latest = max(made, key=lambda path: path.stat().st_mtime)
    try:
        settings, found = read_json(latest), read_stored(latest.parent)
        identity, size = dict(settings["model"]), int(settings["size"])
        report = read_json(folder / REPORT) if (folder / REPORT).is_file() else {}
        given = report.get("options", {}).get("model")
        rows = np.stack(list(found.values()))
    except FolderError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FolderError(
            f"{latest.parent} is damaged ({class_and_text(error)}): remove it, and run `keras-retrieval reconstruct` "
            "again"
        ) from error
    if given is not None and "name" not in identity:
        identity["path"] = given
    facts = {
        "model": identity,
        "size": size,
        "scales": [1.0],
        "exif": True,
        "max_pixels": MAX_PIXELS,
        "bfloat16": False,
        "antialias": True,
    }
    return PhotoDescriptors(list(found), rows, facts)


def require_described(described: DescribedPhotos, photos: Sequence[str], place: str, model: Path) -> None:
    """Checks that photos of a model are described.

    Raises:
        LocalizationError: no photo of the model has a descriptor.
    """
    if set(photos).isdisjoint(described.names):
        raise LocalizationError(
            f"{place} describes no photo of the model {model}: give the descriptors of the photos that were "
            "reconstructed"
        )

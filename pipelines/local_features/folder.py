"""Reads folders of local features, which `extract --local` writes below a folder of descriptors."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..files.arrays import map_array
from ..files.durable import FolderError, has_manifest, partial_of, read_manifest, read_names
from ..files.local_copy import sealed_copy
from ..files.remote import address_of
from .features import PHOTO_RECORD, LocalFeatures, from_records, record_type

KIND, VERSION = "local features", 1
SUBFOLDER = "local"
"""Name of the folder of local features below the folder of the photos' descriptors."""

log = logging.getLogger("keras_retrieval")


def local_features_of(descriptors: Path) -> Path | None:
    """Returns the folder of the local features below a folder of descriptors; None if it has none.

    Unfinished ones are none, which a warning says. Those at an address are copied, see `local_copy`.
    """
    folder = descriptors / SUBFOLDER
    if address_of(folder):
        return sealed_copy(folder, kind=KIND, version=VERSION)[0] if has_manifest(folder) else None
    if folder.is_dir():
        return folder
    if partial_of(folder).exists():
        log.warning(f"{partial_of(folder)} is unfinished: run its extract --local again for verified searches")
    return None


@dataclass(frozen=True)
class StoredFeatures:
    """The local features of the photos of a folder. The files are memory-mapped.

    Attributes:
        folder: the folder.
        names: the names of the photos, in the order of the files.
        facts: the content of manifest.json: "extractor", "features" (the largest number for a photo), "size",
            "storage", "dimensions", "exif" and "max_pixels".
    """

    folder: Path
    names: Sequence[str]
    facts: dict[str, Any]
    _features: list[np.ndarray] = field(repr=False)
    _photos: np.ndarray = field(repr=False)
    _places: np.ndarray = field(repr=False)
    _rows: dict[str, int] = field(repr=False)

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __len__(self) -> int:
        return len(self.names)

    def records(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the stored records of a photo's features, (n,), and the record of the photo; see `features`.

        Raises:
            KeyError: the folder does not contain the photo.
        """
        row = self._rows[name]
        shard, start = self._places[row].tolist()
        photo = self._photos[row]
        return self._features[shard][start : start + int(photo["features"])], photo

    def read(self, name: str) -> LocalFeatures:
        """Returns the features of a photo.

        Raises:
            KeyError: the folder does not contain the photo.
        """
        return from_records(*self.records(name))


def open_features(folder: Path) -> StoredFeatures:
    """Opens a folder of local features.

    Raises:
        FolderError: the folder does not contain local features, or is damaged.
    """
    facts = read_manifest(folder, kind=KIND, version=VERSION)
    names = read_names(folder / "names.txt")
    expected = record_type(facts["storage"], facts["dimensions"])
    features = [_array(path, expected) for path in sorted(folder.glob("features-*.npy"))]
    photos = [_array(path, PHOTO_RECORD) for path in sorted(folder.glob("photos-*.npy"))]
    counts = [int(some["features"].sum()) for some in photos]
    sound = all(
        (some["features"] >= 0).all() and (some["width"] > 0).all() and (some["height"] > 0).all() for some in photos
    )
    if not sound or counts != [len(some) for some in features] or sum(map(len, photos)) != len(names):
        raise FolderError(
            f"{folder}: its features are not those of its {len(names):,} photos: extract again with --replace"
        )
    places = [place for shard, some in enumerate(photos) for place in _places(shard, some)]
    return StoredFeatures(
        folder,
        names,
        facts,
        features,
        np.concatenate(photos) if photos else np.zeros(0, PHOTO_RECORD),
        np.array(places, np.int64).reshape(-1, 2),
        {name: row for row, name in enumerate(names)},
    )


def _places(shard: int, photos: np.ndarray) -> Iterator[tuple[int, int]]:
    ends = np.cumsum(photos["features"], dtype=np.int64)
    return ((shard, int(start)) for start in ends - photos["features"])


def _array(path: Path, expected: np.dtype) -> np.ndarray:
    try:
        found = map_array(path)
    except Exception as error:  # numpy raises many kinds of errors for a damaged header
        raise FolderError(f"{path} is not an array ({error}): extract again with --replace") from error
    if found.dtype != expected or found.ndim != 1:
        raise FolderError(
            f"{path} contains {found.dtype} {found.shape}, not the expected records: extract again with --replace"
        )
    return found

"""Extracts the local features of the photos of a folder and writes them in shards, so that a killed run continues."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.errors import printable

from ..engines.engine import run_units
from ..engines.work import Engine, Worker
from ..files.durable import encoded_states, fingerprint, write_array
from ..files.remote import address_of, named
from ..files.sharded_address import Sharded, leaving_nothing, sharded_folder
from ..files.space import require_space
from ..photos.reader import MAX_PIXELS, PhotoError
from ..photos.remote_photos import photo_in, photo_readers, photo_states
from .errors import LocalFeaturesError
from .extractors import Extractor, extractor_identity, open_extractor
from .features import PHOTO_RECORD, LocalFeatures, record_type, to_records
from .folder import KIND, VERSION

PHOTOS_PER_SHARD = 256
READ_AHEAD = 4  # photos in memory
NO_FEATURES = "it has no local features"
_FIX = "remove it, or give --replace, which also describes the photos anew"

log = logging.getLogger("keras_retrieval")


@dataclass(frozen=True)
class LocalSettings:
    """How local features are extracted and stored.

    Attributes:
        extractor: "xfeat", or a file; see `extractors.open_extractor`.
        features: maximum number of features of a photo.
        size: longest side in pixels to which photos are resized; smaller photos are enlarged, at most twice.
        storage: type in which descriptors are stored, an entry of `features.STORAGES`.
        exif: whether photos are turned by their EXIF orientation.
        max_pixels: largest number of pixels that the header of a photo may declare.
        accept_truncated: whether JPEG photos that lack their last bytes are read.
    """

    extractor: str
    features: int = 1000
    size: int = 1024
    storage: str = "float16"
    exif: bool = True
    max_pixels: int = MAX_PIXELS
    accept_truncated: bool = False

    def open(self) -> Extractor:
        """Loads the extractor; raises the errors of `extractors.open_extractor`."""
        return open_extractor(
            self.extractor, top_k=self.features, size=self.size, max_pixels=self.max_pixels, exif=self.exif
        )

    def facts(self) -> dict[str, Any]:
        """The entries of the manifest, from which `extractors.reopen_extractor` makes the same extractor."""
        return {
            "extractor": extractor_identity(self.extractor),
            "features": self.features,
            "size": self.size,
            "storage": self.storage,
            "exif": self.exif,
            "max_pixels": self.max_pixels,
        }


def extract_local_features(
    photos: Path,
    names: Sequence[str],
    output: Path,
    settings: LocalSettings,
    *,
    replace: bool = False,
    engine: Engine | None = None,
) -> dict[str, Any]:
    """Extracts the local features of photos and writes them to a folder.

    A killed run with the same photos and settings is continued. A photo that cannot be read, or in which nothing is
    found, costs only itself.

    Args:
        photos: folder of the photos, or an address such as s3://BUCKET/FOLDER as a path.
        names: names of the photos, relative to `photos`.
        output: folder to write, or an address: names.txt, the files features-*.npy and photos-*.npy (see `features`),
            left_out.json and manifest.json.
        settings: how features are extracted and stored.
        replace: whether a folder with features of other photos or settings is replaced.
        engine: where the work is done; None for this process.

    Returns:
        The entries of the manifest.

    Raises:
        FolderError: `output` contains features of other photos or settings, and `replace` is False.
        LocalFeaturesError: the extractor cannot be loaded, or finds no features in any photo.
        DiskSpaceError: the features do not fit on the disk.
        RemoteError: the storage of an address does not answer, or refuses.
    """
    facts = settings.facts()
    identity = {key: value for key, value in facts["extractor"].items() if key != "path"}
    states = encoded_states(names, photo_states(photos, names))
    made_with = fingerprint(facts | {"extractor": identity}, PHOTOS_PER_SHARD, settings.accept_truncated, states)
    sharded = sharded_folder(output, KIND, VERSION, made_with)
    if sharded.exists(replace=replace, fix=_FIX):
        log.info(f"{named(output)} is already complete")
        return sharded.manifest()
    sharded.check_free(replace=replace)
    sharded.start()
    shards = [names[start : start + PHOTOS_PER_SHARD] for start in range(0, len(names), PHOTOS_PER_SHARD)]
    with leaving_nothing(sharded):
        facts |= _write(LocalJob(sharded, photos, settings), shards, engine or Engine())
    found, left_out, notes = sharded.join()
    if not found:
        sharded.discard()
        raise LocalFeaturesError(f"{settings.extractor} finds no local features in any of the {len(names):,} photos")
    count = sum(note["features"] for note in notes)
    facts |= {
        "count": len(found),
        "feature_count": count,
        "dimensions": _dimensions(notes),
        "bytes_per_photo": round(sum(note["bytes"] for note in notes) / len(found)),
        "left_out": len(left_out),
    }
    sharded.seal(replace=replace, **facts)
    for name, reason in list(left_out.items())[:10]:
        log.warning(f"no local features of {printable(name)}: {reason}")
    return facts


def _dimensions(notes: Sequence[dict[str, Any]]) -> int:
    return next(note["dimensions"] for note in notes if note["dimensions"])


@dataclass(frozen=True)
class LocalJob:
    """What a worker needs to write shards of local features.

    Attributes:
        sharded: the folder.
        photos: folder of the photos, or an address as a path.
        settings: how features are extracted and stored.
    """

    sharded: Sharded
    photos: Path
    settings: LocalSettings

    def open(self) -> Worker:
        """Loads the extractor."""
        return self.worker(self.settings.open())

    def worker(self, extractor: Extractor) -> Worker:
        """Makes a worker of an extractor that is loaded already."""
        return lambda number, names, advance: self._write(extractor, number, names, advance)

    def _write(self, extractor: Extractor, number: int, names: Sequence[str], advance: Callable[[int], None]) -> None:
        records, sizes, kept, left_out = [], [], [], {}
        for name, found in _features(names, self.photos, extractor, self.settings.accept_truncated):
            if isinstance(found, str):
                left_out[name] = found
            else:
                records.append(to_records(found, self.settings.storage))
                sizes.append((len(found), found.width, found.height))
                kept.append(name)
            advance(1)
        dimensions = records[0].dtype["descriptor"].shape[0] if kept else 0
        features, written = sum(map(len, records)), 0
        with self.sharded.commit(number) as folder:
            if folder is None:
                return
            if kept:
                rows, table = np.concatenate(records), np.array(sizes, PHOTO_RECORD)
                write_array(folder / f"features-{number:05}.npy", rows)
                write_array(folder / f"photos-{number:05}.npy", table)
                written = rows.nbytes + table.nbytes
            self.sharded.finish(number, kept, left_out, features=features, bytes=written, dimensions=dimensions)


def _write(job: LocalJob, shards: Sequence[Sequence[str]], engine: Engine) -> dict[str, Any]:
    """Writes the unfinished shards; returns the photos per second for the manifest, {} if nothing was to do."""
    todo, settings = job.sharded.unfinished(shards), job.settings
    extractor = settings.open()  # on a cluster too, so that one that cannot be loaded is an error here
    if not todo:
        return {}
    count, started = sum(map(len, todo.values())), time.monotonic()
    if not address_of(job.sharded.folder):
        require_space(job.sharded.folder, count * settings.features * record_type(settings.storage, 64).itemsize)
    run_units(job, todo, engine=engine, label="local features", worker=job.worker(extractor))
    return {"photos_per_second": round(count / (time.monotonic() - started), 2)}


def _features(
    names: Sequence[str], photos: Path, extractor: Extractor, accept_truncated: bool
) -> Iterator[tuple[str, LocalFeatures | str]]:
    """Yields the features of each photo, or the reason why there are none; threads read the next photos."""

    def read(name: str) -> tuple[np.ndarray, tuple[int, int]]:
        return photo_in(photos, name, lambda source: extractor.read(source, accept_truncated=accept_truncated))

    readers = photo_readers(photos)
    ahead = max(READ_AHEAD, readers) if address_of(photos) else READ_AHEAD
    with ThreadPoolExecutor(readers) as pool:
        reading: dict[str, Future[Any]] = {}
        for place, name in enumerate(names):
            for coming in names[place : place + ahead]:
                if coming not in reading:
                    reading[coming] = pool.submit(read, coming)
            try:
                found = extractor.features(*reading.pop(name).result())
            except PhotoError as error:
                yield name, error.reason
                continue
            yield name, found if len(found) else NO_FEATURES

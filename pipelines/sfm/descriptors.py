"""Computes the descriptors from which candidate pairs are chosen, and stores them for later runs."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..descriptors.describer import DescribeFn, Runtime, describe_photos, describer
from ..engines.engine import run_units
from ..engines.work import Engine, Worker
from ..files.arrays import load_array
from ..files.durable import fingerprint, read_names, write_array, write_file, write_names
from ..files.progress import progress
from ..files.remote import READERS, named
from ..files.shards import ShardedFolder
from ..networks.files import load_model, model_identity, require_edges, smallest_side
from ..photos.reader import PhotoError
from ..photos.reading import Reading, Shape
from ..runtimes.options import RUNTIME, runtime_on_workers
from ..runtimes.switching import expect
from .colmap import batches
from .errors import ReconstructionError

PHOTOS_AT_ONCE = 64  # a killed run computes at most so many descriptors again
PHOTOS_OF_UNIT = 256  # of a worker


def compute_descriptors(
    photos: Path,
    names: Sequence[str],
    work: Path,
    model: str,
    size: int,
    *,
    accept_truncated: bool = False,
    runtime: str = RUNTIME,
    engine: Engine | None = None,
) -> np.ndarray:
    """Computes the descriptors of photos, except those that an earlier run stored.

    Args:
        photos: the folder of the photos, or an address such as s3://BUCKET/FOLDER as a path.
        names: the names of the n photos, relative to `photos`.
        work: the folder of the reconstruction. Descriptors are stored in its sub-folders descriptors-*, one for each
            combination of network and size.
        model: the path of a .keras or .onnx file, or the name of a network such as vgg16_gem.
        size: the longest side in pixels to which photos are shrunk.
        accept_truncated: whether a JPEG that lacks its last bytes is described.
        runtime: the value of the option `--runtime`.
        engine: where the work is done; None for this process.

    Returns:
        The L2-normalised descriptors, (n, D) float32, in the order of `names`; a row of NaN for a photo without a
        descriptor.

    Raises:
        ReconstructionError: no photo has a descriptor.
        ValueError: the network cannot be loaded.
        UnitsFailedError: units of work failed in every attempt.
        EngineError: the cluster cannot be reached.
        RemoteError: the storage of an address does not answer, or refuses.
    """
    settings = descriptor_settings(model, size)
    folder = work / f"descriptors-{fingerprint(settings)}"
    found = read_stored(folder)
    todo = [name for name in names if name not in found]
    if todo:
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / "made_with.json", json.dumps(settings))
        network = load_model(model)
        require_edges(network, "")
        reading = Reading(photos, size, smallest=smallest_side(network), accept_truncated=accept_truncated)
        if engine is None or engine.local:
            _describe_new(describer(network, runtime=Runtime(runtime, model)), reading, todo, folder)
        else:
            _describe_on_workers(model, runtime_on_workers(runtime, model), reading, todo, folder, engine)
        found = read_stored(folder)
    rows = [found[name] for name in names if name in found]
    if not rows:
        raise ReconstructionError(f"none of the {len(names)} photos in {named(photos)} has a descriptor")
    nothing = np.full_like(rows[0], np.nan)
    return np.stack([found.get(name, nothing) for name in names])


def descriptor_settings(model: str, size: int) -> dict[str, Any]:
    """Returns the settings that determine a photo's descriptor, for the fingerprint of stored descriptors.

    Args:
        model: the path of a .keras or .onnx file, or the name of a network.
        size: the longest side in pixels to which photos are shrunk.

    Returns:
        A dict, serialisable as JSON, of the network's identity, without its path, and the size.
    """
    return {"model": {key: value for key, value in model_identity(model).items() if key != "path"}, "size": size}


def read_stored(folder: Path) -> dict[str, np.ndarray]:
    """Reads the descriptors in a folder descriptors-* that `compute_descriptors` wrote.

    Returns:
        A dict from the name of each photo to its descriptor, (D,) float32; empty if the folder does not exist.
    """
    found: dict[str, np.ndarray] = {}
    for path in sorted(folder.glob("*.npy")):
        found.update(zip(read_names(path.with_suffix(".txt")), load_array(path), strict=True))
    return found


def _describe_new(compiled: DescribeFn, reading: Reading, names: Sequence[str], folder: Path) -> None:
    side = reading.size or 0
    expect(compiled, [(side, 3 * side // 4)], len(names))  # about: their headers are not read yet
    with progress("descriptors", len(names)) as advance:
        for batch in batches(names, PHOTOS_AT_ONCE):
            _describe_batch(compiled, reading, batch, folder)
            advance(len(batch))


def _describe_batch(compiled: DescribeFn, reading: Reading, names: Sequence[str], folder: Path) -> None:
    described, rows = _rows(compiled, reading, names)
    if described:
        _store(folder, described, rows)


def _rows(compiled: DescribeFn, reading: Reading, names: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The descriptors of the photos that can be read and described, and their names."""

    def shape(name: str) -> tuple[Shape, str] | None:
        try:
            return reading.shape(name), name
        except PhotoError:
            return None

    with ThreadPoolExecutor(READERS if reading.remote else 1) as pool:
        shapes = sorted(filter(None, pool.map(shape, names)))
    results = [result for result in describe_photos(compiled, shapes, reading.read, reading.readers) if result.keys]
    rows = np.concatenate([result.rows for result in results]) if results else np.zeros((0, 0), np.float32)
    return [name for result in results for name in result.keys], rows


def _store(folder: Path, names: Sequence[str], rows: np.ndarray) -> None:
    """Writes the names and then the descriptors of one batch; a file of names alone is an unfinished batch."""
    path = folder / f"{len(list(folder.glob('*.npy'))):05}"
    write_names(path.with_suffix(".txt"), names)
    write_array(path.with_suffix(".npy"), rows)


@dataclass(frozen=True)
class DescribeJob:
    """What a worker needs to describe photos.

    Attributes:
        sharded: the folder of the descriptors of each unit.
        model: the path of a .keras or .onnx file, or the name of a network.
        runtime: what computes the descriptors.
        reading: how photos are read.
    """

    sharded: ShardedFolder
    model: str
    runtime: str
    reading: Reading

    def open(self) -> Worker:
        """Loads and compiles the network."""
        compiled = describer(load_model(self.model), runtime=Runtime(self.runtime, self.model))
        return lambda number, names, advance: self._describe(compiled, number, names, advance)

    def _describe(
        self, compiled: DescribeFn, number: int, names: Sequence[str], advance: Callable[[int], None]
    ) -> None:
        described, rows = _rows(compiled, self.reading, names)
        with self.sharded.commit(number) as unwritten:
            if unwritten:
                write_array(self.sharded.partial / f"{number:05}.npy", rows)
                self.sharded.finish(number, described, {})
        advance(len(names))


def _describe_on_workers(
    model: str, runtime: str, reading: Reading, names: Sequence[str], folder: Path, engine: Engine
) -> None:
    """Describes photos on workers; this process alone writes the folder, after all units are done."""
    units = list(batches(names, PHOTOS_OF_UNIT))
    made = fingerprint(folder.name, runtime, units)
    apart = folder.absolute().with_name(f"new-{folder.name}")  # descriptors-* are whole
    sharded = ShardedFolder(apart, "descriptors of a reconstruction", 1, made)
    sharded.start()
    photos = reading.folder if reading.remote else reading.folder.absolute()
    job = DescribeJob(sharded, model, runtime, replace(reading, folder=photos))
    run_units(job, sharded.unfinished(units), engine=engine, label="descriptors")
    for number, note in enumerate(sharded.notes()):
        if note["names"]:
            _store(folder, note["names"], load_array(sharded.partial / f"{number:05}.npy"))
    sharded.discard()

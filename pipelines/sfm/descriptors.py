"""Descriptors from which candidate pairs are chosen; they are stored, so that each photo is described only once."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..descriptors.describer import DescribeFn, describe_photos, describer
from ..files.durable import fingerprint, read_names, write_array, write_file, write_names
from ..files.progress import progress
from ..networks.files import load_model, model_identity, require_edges, smallest_side
from ..photos.reader import PhotoError
from ..photos.reading import Reading
from .colmap import batches
from .errors import ReconstructionError

PHOTOS_AT_ONCE = 256


def compute_descriptors(photos: Path, names: Sequence[str], work: Path, model: str, size: int) -> np.ndarray:
    """Computes the descriptors of photos, or reads those that an earlier run stored.

    Args:
        photos: folder of the photos.
        names: names of the photos to describe.
        work: folder of the reconstruction; descriptors are stored in its sub-folders descriptors-*, one per network and
            size.
        model: path of a .keras or .onnx file, or the name of a network such as vgg16_gem.
        size: longest side of the photos in pixels.

    Returns:
        (len(names), D) float32 array of descriptors of unit length; NaN for a photo without a descriptor.

    Raises:
        ReconstructionError: no photo has a descriptor.
        ValueError: the network cannot be loaded.
    """
    settings = descriptor_settings(model, size)
    folder = work / f"descriptors-{fingerprint(settings)}"
    found = read_stored(folder)
    todo = [name for name in names if name not in found]
    if todo:
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / "made_with.json", json.dumps(settings))
        _describe_new(photos, todo, folder, model, size)
        found = read_stored(folder)
    rows = [found[name] for name in names if name in found]
    if not rows:
        raise ReconstructionError(f"none of the {len(names)} photos in {photos} has a descriptor")
    nothing = np.full_like(rows[0], np.nan)
    return np.stack([found.get(name, nothing) for name in names])


def descriptor_settings(model: str, size: int) -> dict[str, Any]:
    """Returns the settings on which the descriptors depend, JSON-able: the network (not its path) and the size."""
    return {"model": {key: value for key, value in model_identity(model).items() if key != "path"}, "size": size}


def read_stored(folder: Path) -> dict[str, np.ndarray]:
    """Reads a folder descriptors-* as a dict from the name of each photo to its descriptor, (D,)."""
    found: dict[str, np.ndarray] = {}
    for path in sorted(folder.glob("*.npy")):
        found.update(zip(read_names(path.with_suffix(".txt")), np.load(path, allow_pickle=False), strict=True))
    return found


def _describe_new(photos: Path, names: Sequence[str], folder: Path, model: str, size: int) -> None:
    network = load_model(model)
    require_edges(network, "")
    reading = Reading(photos, size, smallest=smallest_side(network))
    compiled = describer(network)
    with progress("descriptors", len(names)) as advance:
        for batch in batches(names, PHOTOS_AT_ONCE):
            _describe_batch(compiled, reading, batch, folder)
            advance(len(batch))


def _describe_batch(compiled: DescribeFn, reading: Reading, names: Sequence[str], folder: Path) -> None:
    """Writes the names and then the rows of one batch; a batch without rows is unfinished."""
    shapes = []
    for name in names:
        try:
            shapes.append((reading.shape(name), name))
        except PhotoError:
            continue
    results = list(describe_photos(compiled, sorted(shapes), reading.read))
    described = [name for result in results for name in result.keys]
    if not described:
        return
    path = folder / f"{len(list(folder.glob('*.npy'))):05}"
    write_names(path.with_suffix(".txt"), described)
    write_array(path.with_suffix(".npy"), np.concatenate([result.rows for result in results if result.keys]))

"""Descriptors for choosing candidate pairs: each photo is described once, also when others are added later."""

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
from .colmap import pieces

PHOTOS_AT_ONCE = 256


def describe(photos: Path, names: Sequence[str], work: Path, model: str, size: int) -> np.ndarray:
    """Describes the photos that are not described yet.

    Args:
        photos: the folder of photos.
        names: those to describe.
        work: of the reconstruction; the rows lie in its folder descriptors-*, one for each network and size.
        model: a .keras file or a name such as vgg16_gem.
        size: the longest side in pixels.

    Returns:
        (len(names), D) float32 unit rows; NaN for a photo that has none.

    Raises:
        ValueError: the network cannot be loaded, or no photo has a descriptor.
    """
    folder = work / f"descriptors-{fingerprint(made_with(model, size))}"
    found = read_described(folder)
    todo = [name for name in names if name not in found]
    if todo:
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / "made_with.json", json.dumps(made_with(model, size)))
        _describe_new(photos, todo, folder, model, size)
        found = read_described(folder)
    rows = [found[name] for name in names if name in found]
    if not rows:
        raise ValueError(f"none of the {len(names)} photos in {photos} has a descriptor")
    nothing = np.full_like(rows[0], np.nan)
    return np.stack([found.get(name, nothing) for name in names])


def made_with(model: str, size: int) -> dict[str, Any]:
    """What tells one kind of descriptors from another: the network, wherever its file lies, and the size."""
    return {"model": {key: value for key, value in model_identity(model).items() if key != "path"}, "size": size}


def read_described(folder: Path) -> dict[str, np.ndarray]:
    """All rows of a folder of descriptors-* by the photos' names."""
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
        for some in pieces(names, PHOTOS_AT_ONCE):
            _describe_some(compiled, reading, some, folder)
            advance(len(some))


def _describe_some(compiled: DescribeFn, reading: Reading, names: Sequence[str], folder: Path) -> None:
    """Writes one piece: the rows last, since they say that it is whole."""
    shapes = []
    for name in names:
        try:
            shapes.append((reading.shape(name), name))
        except PhotoError:
            continue
    batches = list(describe_photos(compiled, sorted(shapes), reading.read))
    described = [name for batch in batches for name in batch.keys]
    if not described:
        return
    place = folder / f"{len(list(folder.glob('*.npy'))):05}"
    write_names(place.with_suffix(".txt"), described)
    write_array(place.with_suffix(".npy"), np.concatenate([batch.rows for batch in batches if batch.keys]))

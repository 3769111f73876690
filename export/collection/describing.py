"""Describes photos and hands them over in small units, so that a kill loses seconds and searches find them at once."""

import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from keras_retrieval.pipelines.descriptors.describer import DescribedBatch, describe_crops, describe_photos
from keras_retrieval.pipelines.files.machine import cores
from keras_retrieval.pipelines.photos.grid_crops import count_crops
from keras_retrieval.pipelines.photos.reader import Crop, PhotoError
from keras_retrieval.pipelines.photos.reading import Reading, Shape

from ..index_contract.photo_crops import PhotoCrops
from .changes import State
from .generation import COLUMNS
from .network import LoadedNetwork
from .photo_facts import facts_of

Pixels = TypeVar("Pixels")

FIRST_CHUNK, CHUNK = 256, 4096  # photos whose headers are read and that are sorted by size at a time
UNIT_SECONDS = 1.5  # the time after which the described photos are handed over


@dataclass
class Unit:
    """Photos that were described in a second or two.

    Attributes:
        names: names of the n photos with a descriptor.
        rows: their descriptors, (n, D) float32, or with crops (R, D); (0, 0) for none.
        columns: their facts, by column name.
        left_out: maps the name of each photo without a descriptor to the reason.
        crops: the crops of the photos; None for one row per photo.
    """

    names: list[str] = field(default_factory=list)
    rows: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    columns: dict[str, list[str]] = field(default_factory=lambda: {column: [] for column in COLUMNS})
    left_out: dict[str, str] = field(default_factory=dict)
    crops: PhotoCrops | None = None


def describe_in_units(
    network: LoadedNetwork,
    reading: Reading,
    names: Sequence[str],
    states: Mapping[str, State],
    levels: tuple[int, ...] = (),
) -> Generator[Unit]:
    """Describes photos.

    Args:
        network: the network.
        reading: how photos are read.
        names: names of the photos.
        states: the state of each photo's file.
        levels: levels of the crops of photos; () for one descriptor per photo.

    Yields:
        Units of photos. Each photo is in one of them; within a few thousand photos they are sorted by size, because
        photos of one size are described together.
    """
    side = reading.size or 0
    network.expect([(side, 3 * side // 4)], len(names) * count_crops(levels))
    start, chunk = 0, FIRST_CHUNK
    while start < len(names):
        shapes, left_out = _shapes(reading, names[start : start + chunk])
        yield from _units(network, reading, sorted(shapes), left_out, states, levels)
        start, chunk = start + chunk, CHUNK


def _shapes(reading: Reading, names: Sequence[str]) -> tuple[list[tuple[Shape, str]], dict[str, str]]:
    def shape(name: str) -> Shape | str:
        try:
            return reading.shape(name)
        except PhotoError as error:
            return error.reason

    shapes: list[tuple[Shape, str]] = []
    left_out: dict[str, str] = {}
    with ThreadPoolExecutor(cores()) as pool:
        for name, found in zip(names, pool.map(shape, names), strict=True):
            if isinstance(found, str):
                left_out[name] = found
            else:
                shapes.append((found, name))
    return shapes, left_out


def _units(
    network: LoadedNetwork,
    reading: Reading,
    shapes: list[tuple[Shape, str]],
    left_out: dict[str, str],
    states: Mapping[str, State],
    levels: tuple[int, ...],
) -> Iterator[Unit]:
    facts: dict[str, dict[str, str]] = {}

    def read(name: str) -> np.ndarray:
        return noted(name, reading.read(name))

    def crops(name: str) -> list[tuple[Crop, np.ndarray]]:
        return noted(name, reading.read_crops(name, levels))

    def noted(name: str, pixels: Pixels) -> Pixels:
        facts[name] = facts_of(reading.folder, name, states[name])  # while the network describes earlier photos
        return pixels

    if levels:
        batches = describe_crops(network.batch, shapes, crops, count_crops(levels))
    else:
        batches = describe_photos(network.batch, shapes, read)
    unit, found, started = Unit(left_out=left_out), list[DescribedBatch[str]](), time.monotonic()
    for batch in batches:
        names = list(dict.fromkeys(batch.keys))
        unit.names += names
        unit.left_out |= batch.left_out
        found += [batch] if names else []
        for name in names:
            for column, value in facts.pop(name).items():
                unit.columns[column].append(value)
        if time.monotonic() - started > UNIT_SECONDS:
            yield _joined(unit, found)
            unit, found, started = Unit(), [], time.monotonic()
    if unit.names or unit.left_out:
        yield _joined(unit, found)


def _joined(unit: Unit, batches: Sequence[DescribedBatch[str]]) -> Unit:
    if batches:
        unit.rows = np.concatenate([batch.rows for batch in batches])
    boxes = [batch.boxes for batch in batches if batch.boxes is not None]
    if boxes:
        counts = Counter(name for batch in batches for name in batch.keys)
        rows = np.array([counts[name] for name in unit.names], np.int64)
        unit.crops = PhotoCrops(rows, np.concatenate(boxes))
    return unit


def reading_of(folder: Path, size: int, smallest: int, accept_truncated: bool) -> Reading:
    """Returns how the photos of a collection are read.

    Args:
        folder: the photo folder.
        size: the longest side in pixels.
        smallest: the smallest height and width in pixels that the network takes.
        accept_truncated: whether a JPEG that lacks its last bytes is read.
    """
    return Reading(folder, size, smallest=smallest, accept_truncated=accept_truncated)

"""Describes photos and hands them over in small units, so that a kill loses seconds and searches find them at once."""

import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from keras_retrieval.pipelines.descriptors.describer import describe_photos
from keras_retrieval.pipelines.photos.reader import PhotoError
from keras_retrieval.pipelines.photos.reading import Reading, Shape

from .changes import State
from .generation import COLUMNS
from .network import LoadedNetwork
from .photo_facts import facts_of

FIRST_CHUNK, CHUNK = 256, 4096  # photos whose headers are read and that are sorted by size at a time
UNIT_SECONDS = 1.5  # the time after which the described photos are handed over


@dataclass
class Unit:
    """Photos that were described in a second or two.

    Attributes:
        names: names of the n photos with a descriptor.
        rows: their descriptors, (n, D) float32; (0, 0) for none.
        columns: their facts, by column name.
        left_out: maps the name of each photo without a descriptor to the reason.
    """

    names: list[str] = field(default_factory=list)
    rows: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    columns: dict[str, list[str]] = field(default_factory=lambda: {column: [] for column in COLUMNS})
    left_out: dict[str, str] = field(default_factory=dict)


def describe_in_units(
    network: LoadedNetwork, reading: Reading, names: Sequence[str], states: Mapping[str, State]
) -> Generator[Unit]:
    """Describes photos.

    Args:
        network: the network.
        reading: how photos are read.
        names: names of the photos.
        states: the state of each photo's file.

    Yields:
        Units of photos. Each photo is in one of them; within a few thousand photos they are sorted by size, because
        photos of one size are described together.
    """
    start, chunk = 0, FIRST_CHUNK
    while start < len(names):
        shapes, left_out = _shapes(reading, names[start : start + chunk])
        yield from _units(network, reading, sorted(shapes), left_out, states)
        start, chunk = start + chunk, CHUNK


def _shapes(reading: Reading, names: Sequence[str]) -> tuple[list[tuple[Shape, str]], dict[str, str]]:
    def shape(name: str) -> Shape | str:
        try:
            return reading.shape(name)
        except PhotoError as error:
            return error.reason

    shapes: list[tuple[Shape, str]] = []
    left_out: dict[str, str] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
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
) -> Iterator[Unit]:
    facts: dict[str, dict[str, str]] = {}

    def read(name: str) -> np.ndarray:
        pixels = reading.read(name)
        facts[name] = facts_of(reading.folder, name, states[name])  # while the network describes earlier photos
        return pixels

    unit, rows, started = Unit(left_out=left_out), list[np.ndarray](), time.monotonic()
    for batch in describe_photos(network.batch, shapes, read):
        unit.names += batch.keys
        unit.left_out |= batch.left_out
        rows += [batch.rows] if batch.keys else []
        for name in batch.keys:
            for column, value in facts.pop(name).items():
                unit.columns[column].append(value)
        if time.monotonic() - started > UNIT_SECONDS:
            yield _joined(unit, rows)
            unit, rows, started = Unit(), [], time.monotonic()
    if unit.names or unit.left_out:
        yield _joined(unit, rows)


def _joined(unit: Unit, rows: list[np.ndarray]) -> Unit:
    if rows:
        unit.rows = np.concatenate(rows)
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

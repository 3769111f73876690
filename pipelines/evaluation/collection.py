"""Computes the descriptors of a collection, on which a network is evaluated.

A collection consists of queries, of which only the part inside a bounding box may be described; of the database, in
which they are searched for; and optionally of distractors, photos that are not relevant to any query.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.ranking.rows import first_rows, gather, ranges

from ..descriptors.describer import Runtime, describe_photos, describer
from ..descriptors.extraction import extract_descriptors
from ..descriptors.folder import has_crops, read_crops, read_descriptors
from ..descriptors.options import ExtractOptions
from ..files.arrays import load_array
from ..files.durable import fingerprint, has_manifest, write_array
from ..files.remote import named
from ..files.shards import read_left_out
from ..networks.files import load_model, model_identity, smallest_side
from ..photos.edges import SKETCH
from ..photos.reader import Crop, PhotoError, photo_size
from ..photos.reading import Reading
from ..runtimes.switching import expect
from .errors import CollectionError
from .ground_truth import GroundTruth


@dataclass(frozen=True)
class Collection:
    """A collection (queries, database, distractors) with the descriptors of its photos.

    Distractors are photos that are added to the database and are not relevant to any query.

    Attributes:
        truth: the ground truth of the collection.
        photos: folder of the collection's photos.
        queries: (Q, D) float32 descriptors of the queries, in the order of the ground truth.
        boxes: for each query the part of its photo that is described: left, top, right, bottom in pixels of the photo;
            None for the whole photo.
        rows: (n, D) float32 descriptors of the database photos that could be read; with crops the rows of each photo
            follow each other.
        numbers: (n,) indexes of these n photos in `truth.database`.
        distractors: the descriptors of the distractors, a list of arrays (m, D), one for each file of their folder.
        names: names of the distractors.
        folder: folder of the distractors' photos.
        left_out: dict from the name of each database photo that could not be read to the reason; such photos are in no
            ranking.
        precision: the precision in which the network computed, "float32" or "bfloat16".
        counts: with crops, the number of rows of each photo in `rows` and of each distractor; None without crops.
    """

    truth: GroundTruth
    photos: Path
    queries: np.ndarray
    boxes: list[Crop | None]
    rows: np.ndarray
    numbers: np.ndarray
    distractors: list[np.ndarray]
    names: list[str]
    folder: Path
    left_out: dict[str, str]
    precision: str
    counts: np.ndarray | None = None

    @property
    def database(self) -> list[np.ndarray]:
        """The descriptors that are searched: `rows`, followed by the arrays in `distractors`."""
        return [self.rows, *self.distractors]

    def ranks(self, indexes: np.ndarray) -> np.ndarray:
        """Converts rankings of the photos in `database` to rankings of photos in `truth.database`.

        Distractors get indexes from `len(truth.database)` on.

        Args:
            indexes: (Q, k) numbers of photos in the order of `database`, ranked for each query. The array is
                overwritten.

        Returns:
            (k, Q) indexes of photos, best first.
        """
        own = indexes < len(self.numbers)
        numbers = self.numbers[indexes[own]]
        indexes += len(self.truth.database) - len(self.numbers)
        indexes[own] = numbers
        return indexes.T

    def photo(self, row: int) -> Path:
        """Returns the path of a photo.

        Args:
            row: an index of the photo that `ranks` returned: into `truth.database`, or after it for a distractor.
        """
        own = len(self.truth.database)
        return self.photos / self.truth.database[row] if row < own else self.folder / self.names[row - own]


def describe_collection(truth: GroundTruth, options: ExtractOptions, distractors: Path | None = None) -> Collection:
    """Computes the descriptors of a collection's photos, queries and distractors; existing descriptors are read.

    Args:
        truth: the ground truth, restricted to the photos in `options.photos`.
        options: the options of extraction. `photos` is the folder of the collection's photos. The descriptors are
            written below `output`, in the folders `database` and `distractors` and a file for the queries.
        distractors: a folder of photos, or of descriptors that `extract` wrote; None for no distractors.

    Returns:
        The collection with its descriptors.

    Raises:
        CollectionError: a query or all photos of the database cannot be read, or the distractors were described with
            another network or other options.
        FolderError: `options.output` contains descriptors of other photos or options, and `options.replace` is False.
        NoDescriptorsError: the network describes every photo by zeros or by numbers that are not finite.
    """
    photos = options.photos
    folder = extract_descriptors(replace(options, output=options.output / "database"))
    shards, names, manifest, counts = _rows_of_folder(folder)
    options = replace(options, precision="bfloat16" if manifest["bfloat16"] else "float32")  # of auto
    starts = np.arange(len(names)) if counts is None else first_rows(counts)
    row_of = dict(zip(names, starts.tolist(), strict=True))
    numbers = np.array([number for number, name in enumerate(truth.database) if name in row_of], "int64")
    if not len(numbers):
        raise CollectionError(f"{photos}: none of the {len(truth.database):,} photos of {truth.name} can be read")
    places = np.array([row_of[truth.database[number]] for number in numbers])
    if counts is not None:
        count_of = dict(zip(names, counts.tolist(), strict=True))
        counts = np.array([count_of[truth.database[number]] for number in numbers])
        places = ranges(places, places + counts)
    rows = gather(shards, places)
    boxes = [query_box(truth, query, photos, options.exif) for query in range(len(truth.queries))]
    queries = _query_rows(truth, boxes, options, shards, row_of, manifest)
    extra, extra_names, extra_folder, extra_counts = _distractors(distractors, options, manifest)
    if counts is not None:
        counts = np.concatenate([counts, np.zeros(0, np.int64) if extra_counts is None else extra_counts])
    reasons = read_left_out(folder)
    left_out = {name: reasons.get(name, "it has no descriptor") for name in truth.database if name not in row_of}
    return Collection(
        truth, photos, queries, boxes, rows, numbers, extra, extra_names, extra_folder, left_out, options.precision,
        counts,
    )  # fmt: skip


def _rows_of_folder(folder: Path) -> tuple[list[np.ndarray], list[str], dict[str, Any], np.ndarray | None]:
    """The shards of a folder of descriptors, the names of the photos, its manifest, and with crops each's rows."""
    if not has_crops(folder):
        return *read_descriptors(folder), None
    found = read_crops(folder)
    return found.shards, found.names, found.manifest, found.counts


def query_box(truth: GroundTruth, query: int, photos: Path, exif: bool = True) -> Crop | None:
    """Returns the part of a query's photo that is searched for: left, top, right, bottom in pixels of the photo.

    Args:
        truth: the ground truth.
        query: index of the query in `truth.queries`.
        photos: folder of the photos.
        exif: whether the photo is turned by its EXIF orientation before the box is applied.

    Returns:
        The box, clipped to the photo; None if the whole photo is searched for.

    Raises:
        CollectionError: the photo cannot be read.
        GroundTruthError: the box is outside the photo.
    """
    if truth.boxes[query] is None:
        return None
    try:
        height, width = photo_size(photos / truth.queries[query], exif=exif)
    except PhotoError as error:
        raise CollectionError(f"the query {error.path} cannot be read: {error.reason}") from error
    return truth.box(query, (width, height))


def _query_rows(
    truth: GroundTruth,
    boxes: Sequence[Crop | None],
    options: ExtractOptions,
    shards: list[np.ndarray],
    row_of: dict[str, int],
    manifest: dict[str, Any],
) -> np.ndarray:
    """Returns the queries' descriptors: from the shards for whole photos, from a file for crops and sketches."""
    drawn = bool(truth.sketches and options.edges)
    cropped = [query for query, box in enumerate(boxes) if drawn or box is not None]
    whole = [query for query, box in enumerate(boxes) if not drawn and box is None]
    rows = np.empty((len(boxes), shards[0].shape[1]), np.float32)
    for query in whole:
        if truth.queries[query] not in row_of:
            raise CollectionError(
                f"the query {options.photos / truth.queries[query]} cannot be read: see left_out.json"
            )
    if whole:
        rows[whole] = gather(shards, np.array([row_of[truth.queries[query]] for query in whole]))
    if cropped:
        made = fingerprint(manifest["fingerprint"], [[truth.queries[query], boxes[query]] for query in cropped])
        path = options.output / f"queries-{made}.npy"
        if not path.exists():
            crops = [(truth.queries[query], boxes[query]) for query in cropped]
            edges = SKETCH if drawn else options.edges
            write_array(path, _describe_crops(crops, options, edges, manifest))
        rows[cropped] = load_array(path)
    return rows


def _describe_crops(
    crops: list[tuple[str, Crop | None]], options: ExtractOptions, edges: str, manifest: dict[str, Any]
) -> np.ndarray:
    """Computes descriptors (n, D) of (name, box) pairs, in their order, with the options of the database."""
    network, scales = load_model(options.model), tuple(manifest["scales"])
    smallest = smallest_side(network, scales)
    reading = Reading(options.photos, options.size, options.exif, manifest["max_pixels"], smallest, edges)
    shapes = sorted((reading.shape(*crop), number) for number, crop in enumerate(crops))
    runtime = Runtime(options.runtime, options.model)
    describe = describer(network, scales, options.precision == "bfloat16", options.antialias, options.mirror, runtime)
    expect(describe, [shape for shape, _ in shapes])
    rows = np.empty((len(crops), network.output_shape[-1]), np.float32)
    for batch in describe_photos(describe, shapes, lambda number: reading.read(*crops[number])):
        for number, reason in batch.left_out.items():
            raise CollectionError(f"the query {options.photos / crops[number][0]} has no descriptor: {reason}")
        rows[batch.keys] = batch.rows
    return rows


def _distractors(
    given: Path | None, options: ExtractOptions, manifest: dict[str, Any]
) -> tuple[list[np.ndarray], list[str], Path, np.ndarray | None]:
    """Returns the shards of the distractors' descriptors, their names, the folder of their photos, and their counts."""
    if given is None:
        return [], [], Path(), None
    folder = given
    if not has_manifest(given):
        folder = extract_descriptors(replace(options, photos=given, output=options.output / "distractors"))
    shards, names, own, counts = _rows_of_folder(folder)
    wanted = {"model": model_identity(options.model)} | {
        key: manifest[key] for key in ("size", "scales", "antialias", "exif", "mirror", "edges", "crops")
    }
    for key, value in wanted.items():
        same = _sha(own[key]) == _sha(value) if key == "model" else own[key] == value
        if not same:
            raise CollectionError(
                f"{named(folder)} has descriptors made with {key} {own[key]}, and the database's is {value}"
            )
    return shards, names, Path(own["photos"]), counts


def _sha(identity: dict[str, str]) -> str:
    return identity.get("sha256") or identity["name"]

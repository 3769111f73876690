"""A collection described for its evaluation: queries cut out by their boxes, the database in order, distractors."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.ranking.rows import gather

from ..descriptors.describer import describe_photos, describer
from ..descriptors.extraction import extract_descriptors
from ..descriptors.folder import KIND, read_descriptors
from ..descriptors.options import ExtractOptions
from ..files.durable import MANIFEST, fingerprint, write_array
from ..files.shards import read_left_out
from ..networks.files import load_model, model_identity, smallest_side
from ..photos.edges import SKETCH
from ..photos.reader import Crop, PhotoError, photo_size
from ..photos.reading import Reading
from .ground_truth import GroundTruth


@dataclass(frozen=True)
class Options:
    """How all photos of an evaluation are described; the options of `extract` of the same names."""

    model: str
    size: int
    scales: str
    antialias: bool
    precision: str
    exif: bool
    mirror: bool = False
    edges: str = ""

    def extract(self, photos: Path, output: Path, replace: bool) -> Path:
        """Describes a folder of photos, or goes on with it, or finds it done."""
        return extract_descriptors(
            ExtractOptions(
                self.model,
                photos,
                output,
                size=self.size,
                scales=self.scales,
                antialias=self.antialias,
                precision=self.precision,
                exif=self.exif,
                mirror=self.mirror,
                edges=self.edges,
                replace=replace,
            )
        )


@dataclass(frozen=True)
class Collection:
    """What is ranked, and for what.

    Attributes:
        truth: the ground truth.
        photos: the folder of its photos.
        queries: (Q, D) float32, in the order of the ground truth; sketches described as such where there are edge maps.
        boxes: per query the part of its photo that was described, in its pixels, or None.
        rows: the collection's own rows, (n, D) float32.
        numbers: (n,) the number of each own row in the ground truth's database.
        distractors: shards (m, D) that follow the own rows.
        names: of the distractors.
        folder: of the distractors' photos.
        left_out: photos of the database that could not be read, with reasons; they are never found.
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

    @property
    def database(self) -> list[np.ndarray]:
        """All shards in order."""
        return [self.rows, *self.distractors]

    def ranks(self, indexes: np.ndarray) -> np.ndarray:
        """Rows of `database` (Q, k) as (k, Q) rows of the ground truth, which the distractors follow; in place."""
        own = indexes < len(self.numbers)
        numbers = self.numbers[indexes[own]]
        indexes += len(self.truth.database) - len(self.numbers)
        indexes[own] = numbers
        return indexes.T

    def photo(self, row: int) -> Path:
        """The file of a row of `ranks`."""
        own = len(self.truth.database)
        return self.photos / self.truth.database[row] if row < own else self.folder / self.names[row - own]


def describe_collection(
    truth: GroundTruth, photos: Path, distractors: Path | None, output: Path, options: Options, *, replace: bool
) -> Collection:
    """Describes what is not described yet.

    Args:
        truth: the ground truth, restricted to `photos`.
        photos: the folder of the collection's photos.
        distractors: a folder of photos, or of descriptors that `extract` made of them; None for none.
        output: gets the folders of descriptors `database` and `distractors`, and the queries' rows.
        options: how.
        replace: make folders anew that were made otherwise.

    Raises:
        ValueError: a query cannot be read, no photo of the database can, or the distractors were described otherwise.
    """
    folder = options.extract(photos, output / "database", replace)
    shards, names, manifest = read_descriptors(folder)
    place = {name: row for row, name in enumerate(names)}
    numbers = np.array([number for number, name in enumerate(truth.database) if name in place], "int64")
    if not len(numbers):
        raise ValueError(f"{photos}: none of the {len(truth.database):,} photos of {truth.name} can be read")
    rows = gather(shards, np.array([place[truth.database[number]] for number in numbers]))
    boxes = [query_box(truth, query, photos, options.exif) for query in range(len(truth.queries))]
    queries = _query_rows(truth, boxes, photos, options, shards, place, manifest, output)
    extra, extra_names, extra_folder = _distractors(distractors, output, options, manifest, replace)
    reasons = read_left_out(folder)
    left_out = {name: reasons.get(name, "it has no descriptor") for name in truth.database if name not in place}
    return Collection(truth, photos, queries, boxes, rows, numbers, extra, extra_names, extra_folder, left_out)


def query_box(truth: GroundTruth, query: int, photos: Path, exif: bool = True) -> Crop | None:
    """The part of a query's photo to search with, in pixels of the photo at hand; None for the whole of it.

    Raises:
        ValueError: the photo cannot be read, or the box lies outside of it.
    """
    if truth.boxes[query] is None:
        return None
    try:
        height, width = photo_size(photos / truth.queries[query], exif=exif)
    except PhotoError as error:
        raise ValueError(f"the query {error.path} cannot be read: {error.reason}") from error
    return truth.box(query, (width, height))


def _query_rows(
    truth: GroundTruth,
    boxes: Sequence[Crop | None],
    photos: Path,
    options: Options,
    shards: list[np.ndarray],
    place: dict[str, int],
    manifest: dict[str, Any],
    output: Path,
) -> np.ndarray:
    """Whole photos have their row among all photos' already; cut-outs and sketches are described once and kept."""
    drawn = bool(truth.sketches and options.edges)
    cropped = [query for query, box in enumerate(boxes) if drawn or box is not None]
    whole = [query for query, box in enumerate(boxes) if not drawn and box is None]
    rows = np.empty((len(boxes), shards[0].shape[1]), np.float32)
    for query in whole:
        if truth.queries[query] not in place:
            raise ValueError(f"the query {photos / truth.queries[query]} cannot be read: see left_out.json")
    if whole:
        rows[whole] = gather(shards, np.array([place[truth.queries[query]] for query in whole]))
    if cropped:
        made = fingerprint(manifest["fingerprint"], [[truth.queries[query], boxes[query]] for query in cropped])
        path = output / f"queries-{made}.npy"
        if not path.exists():
            cut_outs = [(truth.queries[query], boxes[query]) for query in cropped]
            edges = SKETCH if drawn else options.edges
            write_array(path, _describe_cut_outs(cut_outs, photos, options, edges, manifest))
        rows[cropped] = np.load(path, allow_pickle=False)
    return rows


def _describe_cut_outs(
    cut_outs: list[tuple[str, Crop | None]], photos: Path, options: Options, edges: str, manifest: dict[str, Any]
) -> np.ndarray:
    """Rows (n, D) in the order of the (name, box) pairs, described as the database was."""
    network, scales = load_model(options.model), tuple(manifest["scales"])
    smallest = smallest_side(network, scales)
    reading = Reading(photos, options.size, options.exif, manifest["max_pixels"], smallest, edges)
    shapes = sorted((reading.shape(*cut_out), number) for number, cut_out in enumerate(cut_outs))
    describe = describer(network, scales, options.precision == "bfloat16", options.antialias, options.mirror)
    rows = np.empty((len(cut_outs), network.output_shape[-1]), np.float32)
    for batch in describe_photos(describe, shapes, lambda number: reading.read(*cut_outs[number])):
        for number, reason in batch.left_out.items():
            raise ValueError(f"the query {photos / cut_outs[number][0]} has no descriptor: {reason}")
        rows[batch.keys] = batch.rows
    return rows


def _distractors(
    given: Path | None, output: Path, options: Options, manifest: dict[str, Any], replace: bool
) -> tuple[list[np.ndarray], list[str], Path]:
    if given is None:
        return [], [], Path()
    made = (given / MANIFEST).is_file()
    folder = given if made else options.extract(given, output / "distractors", replace)
    shards, names, own = read_descriptors(folder)
    wanted = {"model": model_identity(options.model)} | {
        key: manifest[key] for key in ("size", "scales", "antialias", "exif", "mirror", "edges")
    }
    for key, value in wanted.items():
        same = _sha(own[key]) == _sha(value) if key == "model" else own[key] == value
        if not same:
            raise ValueError(f"{folder} holds {KIND} made with {key} {own[key]}, and the database's is {value}")
    return shards, names, Path(own["photos"])


def _sha(identity: dict[str, str]) -> str:
    return identity.get("sha256") or identity["name"]

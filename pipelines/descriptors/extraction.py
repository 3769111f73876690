"""Computes the descriptors of a folder of photos and writes them in shards, so that a killed run can be continued.

Photos are sorted by the size with which they enter the network, so that photos of equal size form batches. A finished
shard is never computed again. A shard is a unit of work, which this process or the workers of a cluster do.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.errors import printable

from ..engines.engine import run_units
from ..engines.work import Worker
from ..files.durable import FolderError, encoded_states, fingerprint
from ..files.machine import cores
from ..files.progress import progress
from ..files.remote import READERS, address_of, named, place_text
from ..files.sharded_address import Sharded, leaving_nothing, sharded_folder
from ..files.shards import LEFT_OUT, ShardedFolder
from ..files.space import require_space
from ..local_features.folder import KIND as LOCAL_FEATURES
from ..local_features.folder import SUBFOLDER
from ..networks.files import load_model, model_identity, require_edges, smallest_side
from ..networks.onnx_network import OnnxNetwork
from ..networks.precision import PRECISIONS, check_precision, resolve_precision
from ..networks.precision import VARIABLE as PRECISION_VARIABLE
from ..photos.cache import Sharing, place_among
from ..photos.edges import edges_state, resolve_edges
from ..photos.formats import PhotoFolderError
from ..photos.grid_crops import count_crops
from ..photos.intake import IGNORED, Intake
from ..photos.reader import PhotoError
from ..photos.reading import Reading, Shape
from ..runtimes.options import ONNXRUNTIME, RUNTIME, named_runtime, runtime_on_workers
from ..runtimes.switching import expect, runtime_of
from .describer import (
    NO_DESCRIPTOR,
    DescribedBatch,
    DescribeFn,
    NoDescriptorsError,
    Runtime,
    describe_crops,
    describe_photos,
    describer,
)
from .folder import CROPS_VERSION, KIND, PHOTOS_VERSION, VERSION
from .options import ExtractOptions
from .padded_batches import add_to_buckets
from .shard_files import ShardFormat, read_rows, shard_paths
from .sized_photos import SizedPhotos

log = logging.getLogger("keras_retrieval")

COMPARED = 16  # photos on which bfloat16 is compared with float32
HEADERS = 1024  # photos whose headers are read at a time
STORED_EVERY = 60.0  # seconds after which the rows of a shard that is not finished are stored
LISTED = 10  # photos left out that are logged with their reasons


_FIX = "--replace, or name another folder"


@dataclass(frozen=True)
class Plan:
    """The photos whose descriptors a run computes.

    Attributes:
        photos: the (height, width) in pixels and the name of each photo, sorted by size.
        left_out: maps the name of each photo whose header cannot be read to the reason.
        shard: the number of photos of a shard.
    """

    photos: SizedPhotos
    left_out: dict[str, str]
    shard: int

    @classmethod
    def parse(cls, plan: Any) -> "Plan":
        """Returns a stored plan; raises one of the errors of `ShardedFolder.start` if it is of another form."""
        photos, shard = SizedPhotos.parse(plan["photos"]), plan["shard"]
        if not isinstance(shard, int) or shard < 1:
            raise FolderError(f"{shard!r} is not a number of photos")
        return cls(photos, {str(name): str(why) for name, why in plan["left_out"].items()}, shard)


def extract_descriptors(options: ExtractOptions, sharing: Sharing | None = None) -> Path:
    """Computes the descriptors of all photos in a folder and writes them to a folder.

    A killed run with the same photos and options is continued. A folder that already contains the descriptors of the
    same photos and options is not changed, unless `options.replace` is set.

    Args:
        options: the options of the command `keras-retrieval extract`.
        sharing: the processes that describe the photos together, each its share; None for this process alone. All must
            call this function with the same options, of which `precision` is not "auto" and `replace` is set.

    Returns:
        The folder `options.output`, which contains the shards descriptors-*.npy (float32, one L2-normalised row per
        photo, or with crops per crop), names.txt (the photo's name of each row, one JSON string per line), with crops
        boxes-*.npy, left_out.json (maps each photo without a descriptor to the reason) and manifest.json.

    Raises:
        FolderError: `options.output` contains descriptors of other photos or options, and `options.replace` is False;
            or `options.output` is not a folder of descriptors.
        PhotoFolderError: the folder of photos does not exist or contains no photo that can be read.
        NoDescriptorsError: the network's descriptors of all photos are zero or not finite.
        ValueError: the network cannot be loaded, or an option cannot be applied to it: for example `scales` to an .onnx
            network, or photos without `edges` to a network for edge maps.
    """
    options = replace(options, edges=resolve_edges(options.edges))
    intake = options.take(options.photos)
    identity, output = model_identity(options.model), options.output
    states = encoded_states(intake.photos, intake.states)

    def folder_in(precision: str) -> Sharded:
        chosen = replace(options, precision=precision, runtime=RUNTIME)  # the runtime changes no descriptor
        made_with = fingerprint(identity, chosen.resumed(), edges_state(options.edges), options.shard, states)
        version = CROPS_VERSION if options.levels else PHOTOS_VERSION
        return sharded_folder(output, KIND, version, made_with, newest=VERSION, inside={SUBFOLDER: LOCAL_FEATURES})

    begun = next((one for one in PRECISIONS if one != "auto" and folder_in(one).begun()), None)
    sharded = folder_in(begun or "float32")
    # Checked before TensorFlow is imported.
    if options.precision == "auto" and not options.replace and sharded.exists(replace=False, fix=_FIX):
        log.info(f"{named(output)} is already complete")
        return output
    options = _resolved(options, begun)
    sharded = folder_in(options.precision)
    if not options.replace and sharded.exists(replace=False, fix=_FIX):
        log.info(f"{named(output)} is already complete")
        return output
    sharded.check_free(replace=options.replace)
    log.info(intake.account)
    index, _, wait = place_among(sharing)
    facts, left_out = _describe(sharded, intake, options, sharing)
    if not index:
        facts |= {"model": identity, "photos": place_text(options.photos), **options.resumed()}
        sharded.seal(replace=options.replace, **facts)
        _report(output, facts, left_out)
    wait()
    return output


def _resolved(options: ExtractOptions, begun: str | None) -> ExtractOptions:
    """The options with a precision and, for a cluster, a runtime that all workers have in common."""
    if options.chosen_engine.local:
        precision = resolve_precision(options.precision, options.model, begun, options.runtime)
        return replace(options, precision=precision)
    runtime, precision = runtime_on_workers(options.runtime, options.model), options.precision
    if precision == "auto":  # this machine's processor says nothing about the workers'
        precision = begun or os.environ.get(PRECISION_VARIABLE) or "float32"
        check_precision(precision)
    return replace(options, precision=precision, runtime=runtime)


def _describe(
    sharded: Sharded, intake: Intake, options: ExtractOptions, sharing: Sharing | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Writes all shards; returns entries for the manifest, and a dict that maps the photos left out to the reasons.

    Of several processes, those but the first write their shares only, and return empty dicts.
    """
    index, count, wait = place_among(sharing)
    network = _load(options)
    smallest = smallest_side(network, options.factors)
    reading = Reading(
        options.photos,
        options.size,
        options.exif,
        options.max_pixels,
        smallest,
        options.edges,
        options.accept_truncated,
    )
    if index:
        wait()  # until the plan is made
    plan = _plan(sharded, intake.photos, reading, options.shard, count)
    if not index:
        wait()
    size = plan.shard
    todo = sharded.unfinished([plan.photos[start : start + size] for start in range(0, len(plan.photos), size)])
    todo = {number: photos for number, photos in todo.items() if number % count == index}
    facts = dict[str, Any]()
    with leaving_nothing(sharded) if count == 1 else nullcontext():
        if todo:
            _require_space(sharded, todo, options, network.output_shape[-1])
        here = options.chosen_engine.local
        shapes = [shape for photos in todo.values() for shape in photos.shapes] if here else []
        writer, facts["runtime"] = None, _runtime(network, options)
        everything = sorted(set(plan.photos.shapes))
        describe = _compiled(network, options, shapes, everything) if here and options.precision != "bfloat16" else None
        if options.precision == "bfloat16":
            exact = describer(network, options.factors, antialias=options.antialias, mirror=options.mirror)
            describe = _compiled(load_model(options.model), options, shapes, everything)
            facts |= {} if index else _agreement(exact, describe, plan, reading)
        if here and describe is not None:
            writer = _ShardWriter(sharded, describe, reading, options.levels, options.shard_format)
        facts |= _write_shards(ExtractJob(sharded, options, reading, everything), todo, writer)
        if here and describe is not None and not isinstance(network, OnnxNetwork):
            facts["runtime"] = runtime_of(describe)
    wait()
    if index:
        return {}, {}
    described, left_out, notes = sharded.join(plan.left_out, intake.reasons)
    if not described:
        sharded.discard()
        raise _no_descriptor(left_out)
    truncated = sum(note.get("truncated", 0) for note in notes)
    rows, described = len(described), list(dict.fromkeys(described)) if options.levels else described
    facts |= {"row_count": rows} if options.levels else {}
    facts |= {"count": len(described), "left_out": len(left_out) - len(intake.ignored), "ignored": len(intake.ignored)}
    return facts | {"truncated": truncated, "dimensions": _dimensions(sharded, notes)}, left_out


def _load(options: ExtractOptions) -> Any:
    """Loads the network and checks that it fits the options."""
    network = load_model(options.model)
    if isinstance(network, OnnxNetwork):
        network.check(options.factors, options.precision == "bfloat16", options.mirror)
        if network.size != options.size:
            log.warning(
                f"{options.model} was exported for photos of {network.size} px, and --size reads them at "
                f"{options.size} px"
            )
    require_edges(network, options.edges)
    return network


def _runtime(network: Any, options: ExtractOptions) -> str:
    """The runtime that is known before the work: that of an .onnx file, or the one that is named."""
    named_one = named_runtime(options.runtime)
    return ONNXRUNTIME if named_one == "auto" and isinstance(network, OnnxNetwork) else named_one


def _compiled(network: Any, options: ExtractOptions, shapes: list[Shape], everything: list[Shape]) -> DescribeFn:
    """The function that describes photos and their crops.

    Args:
        network: the network.
        options: the options of the step.
        shapes: the sizes of the photos that this process will describe.
        everything: the sizes of all photos, which determine the buckets, so that these do not depend on the worker.
    """
    runtime = Runtime(options.runtime, options.model)
    bfloat16 = options.precision == "bfloat16"
    describe = describer(
        network, options.factors, bfloat16, options.antialias, options.mirror, runtime, options.batch_shapes
    )
    if not options.levels:
        add_to_buckets(describe, everything)
    expect(describe, shapes, count_crops(options.levels))
    return describe


def _plan(sharded: Sharded, names: list[str], reading: Reading, shard: int, processes: int) -> Plan:
    """Returns the stored plan of a killed run that is continued, or makes a new plan with a share for each process."""

    def make() -> dict[str, Any]:
        photos, left_out = _read_headers(names, reading)
        if not photos:
            raise _no_descriptor(left_out)
        return {
            "photos": SizedPhotos.sorted(photos).plan(),
            "left_out": left_out,
            "shard": min(shard, -(-len(photos) // processes)) if processes > 1 else shard,
        }

    return sharded.start(make, Plan.parse)


def _read_headers(names: list[str], reading: Reading) -> tuple[list[tuple[Shape, str]], dict[str, str]]:
    """Returns the (height, width) and name of each photo, and a dict that maps unreadable photos to the reasons."""
    photos: list[tuple[Shape, str]] = []
    left_out: dict[str, str] = {}
    readers = READERS if reading.remote else cores()
    with ThreadPoolExecutor(readers) as pool, progress("headers", len(names)) as advance:
        for start in range(0, len(names), HEADERS):
            some = names[start : start + HEADERS]
            for name, found in zip(some, pool.map(lambda name: _shape(reading, name), some), strict=True):
                if isinstance(found, str):
                    left_out[name] = found
                else:
                    photos.append((found, name))
            advance(len(some))
    return photos, left_out


def _shape(reading: Reading, name: str) -> Shape | str:
    """Returns the (height, width) of a photo, or the reason why the photo cannot be read."""
    try:
        return reading.shape(name)
    except PhotoError as error:
        return error.reason


def _no_descriptor(left_out: dict[str, str]) -> ValueError:
    """Returns the error to raise if no photo of a folder has a descriptor."""
    useless = list(left_out.values()).count(NO_DESCRIPTOR)
    if useless:
        return NoDescriptorsError(useless)
    name, reason = next(iter(left_out.items()))
    return PhotoFolderError(f"none of the {len(left_out)} photos can be read; the first: {name}: {reason}")


def _agreement(exact: DescribeFn, halved: DescribeFn, plan: Plan, reading: Reading) -> dict[str, Any]:
    """Compares bfloat16 with float32 descriptors of a few photos; returns the smallest cosine for the manifest."""
    spread = np.linspace(0, len(plan.photos) - 1, min(COMPARED, len(plan.photos))).astype(int)
    sample = [plan.photos[row] for row in spread]
    float32, bfloat16 = _rows_by_name(exact, sample, reading), _rows_by_name(halved, sample, reading)
    cosines = [float(float32[name] @ bfloat16[name]) for name in float32.keys() & bfloat16.keys()]
    if not cosines:
        return {}
    log.info(f"bfloat16: cosine similarity to float32 at least {min(cosines):.6f} on {len(cosines)} photos")
    return {"bfloat16_cosine": {"photos": len(cosines), "min": min(cosines)}}


def _rows_by_name(describe: DescribeFn, photos: list[tuple[Shape, str]], reading: Reading) -> dict[str, np.ndarray]:
    batches = describe_photos(describe, photos, reading.read, reading.readers)
    return {name: row for batch in batches for name, row in zip(batch.keys, batch.rows, strict=True)}


@dataclass(frozen=True)
class _Part:
    """Rows of a shard, with the name of the photo of each, and with crops their boxes."""

    rows: np.ndarray
    names: list[str]
    left_out: dict[str, str]
    boxes: np.ndarray | None


@dataclass(frozen=True)
class _ShardWriter:
    """Describes photos and writes their descriptors to the shards of a folder.

    Attributes:
        sharded: the folder.
        describe: the network.
        reading: how photos are read.
        levels: the levels of the crops; () for one descriptor per photo.
        format: how the rows are stored.
    """

    sharded: Sharded
    describe: DescribeFn
    reading: Reading
    levels: tuple[int, ...]
    format: ShardFormat

    def __call__(self, number: int, photos: Sequence[tuple[Shape, str]], advance: Callable[[int], None]) -> float:
        """Writes one shard from where a killed run stopped; returns the seconds in the network."""
        parts = [_Part(*kept) for kept in self.sharded.kept(number)]
        done = {name for part in parts for name in (*part.names, *part.left_out)}
        advance(len(done))
        fresh: list[DescribedBatch[str]] = []
        network, stored = 0.0, time.monotonic()
        for batch in self._batches([photo for photo in photos if photo[1] not in done]):
            fresh.append(batch)
            network += batch.seconds
            advance(batch.photos)
            if time.monotonic() - stored > STORED_EVERY:
                part = _joined(fresh)
                self.sharded.keep(number, part.rows, part.names, part.left_out, part.boxes)
                parts.append(part)
                fresh, stored = [], time.monotonic()
        parts.append(_joined(fresh))
        self._finish(number, photos, parts)
        return network

    def _batches(self, photos: Sequence[tuple[Shape, str]]) -> Iterator[DescribedBatch[str]]:
        if not self.levels:
            return describe_photos(self.describe, photos, self.reading.read, self.reading.readers)
        return describe_crops(
            self.describe,
            photos,
            lambda name: self.reading.read_crops(name, self.levels),
            count_crops(self.levels),
            self.reading.readers,
        )

    def _finish(self, number: int, photos: Sequence[tuple[Shape, str]], parts: Sequence[_Part]) -> None:
        """Writes the rows of a shard in the order of the photos, and marks the shard as finished, once."""
        place = {name: position for position, (_, name) in enumerate(photos)}
        names = [name for part in parts for name in part.names]
        order = np.argsort([place[name] for name in names], kind="stable")
        ordered = [names[row] for row in order.tolist()]
        left_out = {name: reason for part in parts for name, reason in part.left_out.items()}
        truncated = sum(name in self.reading.truncated for name in dict.fromkeys(ordered))
        with self.sharded.commit(number) as folder:
            if folder is None:
                return
            if names:
                described = [part for part in parts if part.names]
                rows = np.concatenate([part.rows for part in described])
                boxes = [part.boxes for part in described if part.boxes is not None]
                ordered_boxes = np.concatenate(boxes)[order] if boxes else None
                self.format.write(folder, number, rows[order], ordered, ordered_boxes)
            dimensions = next((part.rows.shape[1] for part in parts if part.names), 0)
            self.sharded.finish(number, ordered, left_out, truncated=truncated, dimensions=dimensions)


@dataclass(frozen=True)
class ExtractJob:
    """What a worker needs to write shards.

    Attributes:
        sharded: the folder.
        options: the options of the step, whose precision and runtime are resolved.
        reading: how photos are read.
        shapes: the different sizes of all photos of the run.
    """

    sharded: Sharded
    options: ExtractOptions
    reading: Reading
    shapes: list[Shape]

    def open(self) -> Worker:
        """Loads the network."""
        self.options.check()  # notes layers of the user's own
        describe = _compiled(_load(self.options), self.options, [], self.shapes)
        return _ShardWriter(self.sharded, describe, self.reading, self.options.levels, self.options.shard_format)


def _require_space(
    sharded: Sharded, todo: Mapping[int, Sequence[Any]], options: ExtractOptions, dimensions: int | None
) -> None:
    if address_of(sharded.folder):
        return
    floats = (dimensions or 0) + (4 if options.levels else 0)
    needed = sum(map(len, todo.values())) * count_crops(options.levels) * floats
    require_space(sharded.folder, needed * np.dtype(np.float32).itemsize)


def _write_shards(
    job: ExtractJob, todo: Mapping[int, Sequence[tuple[Shape, str]]], writer: "_ShardWriter | None"
) -> dict[str, Any]:
    """Writes the unfinished shards.

    Args:
        job: what workers need.
        todo: maps the number of each unfinished shard to its photos.
        writer: the worker that this process is.

    Returns:
        Photos per second and, of this process, the network's share of the time, for the manifest; {} if there was
        nothing to do.
    """
    if not todo:
        return {}
    network, started = 0.0, time.monotonic()

    def done(number: int, seconds: float) -> None:
        nonlocal network
        network += seconds

    run_units(job, todo, engine=job.options.chosen_engine, label="extract", worker=writer, done=done)
    seconds = time.monotonic() - started
    facts: dict[str, Any] = {"photos_per_second": round(sum(map(len, todo.values())) / seconds, 2)}
    return facts | ({"network_share": round(network / seconds, 3)} if writer else {})


def _joined(batches: Sequence[DescribedBatch[str]]) -> _Part:
    """The rows, names, reasons and boxes of several batches."""
    found = [batch for batch in batches if batch.keys]
    rows = np.concatenate([batch.rows for batch in found]) if found else np.zeros((0, 0), np.float32)
    boxes = [batch.boxes for batch in found if batch.boxes is not None]
    names = [name for batch in batches for name in batch.keys]
    left_out = {name: reason for batch in batches for name, reason in batch.left_out.items()}
    return _Part(rows, names, left_out, np.concatenate(boxes) if boxes else None)


def _dimensions(sharded: Sharded, notes: Sequence[Mapping[str, Any]]) -> int:
    """The length of the rows; notes of version 0.1 do not say it."""
    found: int = next((note["dimensions"] for note in notes if note.get("dimensions")), 0)
    if not found and isinstance(sharded, ShardedFolder):
        found = read_rows(shard_paths(sharded.partial)[0]).shape[1]
    return found


def _report(output: Path, facts: dict[str, Any], left_out: dict[str, str]) -> None:
    if "photos_per_second" in facts:
        share = f", {facts['network_share']:.0%} of the time in the network" if "network_share" in facts else ""
        log.info(f"{named(output)}: {facts['photos_per_second']} photos/s{share}")
    log.info(f"{named(output)}: {_groups(facts)}")
    shown = {name: reason for name, reason in left_out.items() if not reason.startswith(IGNORED)}
    if left_out:
        log.warning(
            f"the {len(left_out):,} files that were not described are in {named(output / LEFT_OUT)}, with the reasons"
        )
        for name, reason in islice(shown.items(), LISTED):
            log.warning(f"  {printable(name)}: {reason}")


def _groups(facts: dict[str, Any]) -> str:
    """The number of files in each group, and with crops the size of a photo's descriptors."""
    described = f"{facts['count']:,} photos described"
    if "row_count" in facts:
        each = facts["row_count"] / facts["count"]
        size = round(4 * each * facts["dimensions"])
        described += f" by {facts['row_count']:,} crops ({each:.1f} and {size:,} bytes a photo)"
    if facts["truncated"]:
        described += f", {facts['truncated']:,} of them truncated"
    return f"{described}; {facts['left_out']:,} files left out; {facts['ignored']:,} ignored"

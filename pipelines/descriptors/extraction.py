"""Describes a folder of photos into a folder of descriptors, in shards, so that a killed run can be continued.

Photos are ordered by the size that they have in the network, so that those of one size form batches. A finished shard
is never computed again.
"""

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..files.durable import (
    FolderError,
    check_free,
    fingerprint,
    partial_of,
    read_manifest,
    seal,
    write_array,
    write_file,
    write_names,
)
from ..files.progress import progress
from ..networks.files import load_model, model_identity, require_edges, smallest_side
from ..networks.onnx_network import OnnxNetwork
from ..networks.precision import resolve_precision
from ..photos.edges import edges_state, resolve_edges
from ..photos.formats import PhotoFolderError, photo_state
from ..photos.reader import PhotoError, list_photos
from ..photos.reading import Reading, Shape
from .describer import NO_DESCRIPTOR, DescribedBatch, DescribeFn, NoDescriptorsError, describe_photos, describer
from .folder import KIND, VERSION, read_left_out
from .options import ExtractOptions

log = logging.getLogger("keras_retrieval")

CHECKED = 16  # photos on which bfloat16 is compared with float32
HEADERS = 4096  # photos whose headers wait in memory
PLAN = ".plan.json"


@dataclass(frozen=True)
class Plan:
    """What is to be described: names with the shape of their pixels, ordered by it, and reasons of those left out."""

    photos: list[tuple[Shape, str]]
    left_out: dict[str, str]


def extract_descriptors(options: ExtractOptions) -> Path:
    """Describes every photo of a folder; a killed run with the same photos and options is continued.

    Args:
        options: of the step `extract`, documented there.

    Returns:
        The folder `options.output`: descriptors-*.npy (float32, one unit row per photo), names.txt (one JSON string a
        line, in the order of the rows), left_out.json (name -> reason) and manifest.json. If it holds these
        descriptors already, it is left as it is.

    Raises:
        FolderError: the output holds something else, and may not be replaced.
        PhotoFolderError: no photo can be read.
        NoDescriptorsError: the network's descriptors of all photos are zero or not finite.
        ValueError: the network cannot be loaded, or does not fit the options.
    """
    model, photos, output = options.model, options.photos, options.output
    options = replace(options, edges=resolve_edges(options.edges))
    names = list_photos(photos)
    options = replace(options, precision=resolve_precision(options.precision, model))
    reads = options.resumed()
    identity = model_identity(model)
    print_of_run = fingerprint(
        identity,
        reads,
        edges_state(options.edges),
        options.shard,
        [[name, *photo_state(photos / name)] for name in names],
    )
    if output.exists() and not options.replace:
        made = read_manifest(output, kind=KIND, version=VERSION)
        if made.get("fingerprint") == print_of_run:
            log.info(f"{output} is done already: {made['count']:,} photos")
            return output
        raise FolderError(f"{output} holds descriptors of other photos or options: --replace, or name another folder")
    check_free(output, kind=KIND, replace=options.replace)
    network = _load(options)
    reading = Reading(
        photos, options.size, options.exif, options.max_pixels, smallest_side(network, options.factors), options.edges
    )
    partial = partial_of(output)
    plan = _plan(partial, names, reading, print_of_run)
    describe, facts = _compiled(network, options), {}
    if options.precision == "bfloat16":
        halved = _compiled(load_model(model), options, bfloat16=True)
        facts, describe = _closeness(describe, halved, plan, reading), halved
    facts |= _write_shards(partial, plan, describe, reading, options.shard)
    facts |= _collect(partial, plan)
    facts |= {"fingerprint": print_of_run, "model": identity, "photos": str(photos.resolve()), **reads}
    seal(partial, output, kind=KIND, version=VERSION, replace=options.replace, **facts)
    _report(output, facts)
    return output


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


def _compiled(network: Any, options: ExtractOptions, bfloat16: bool = False) -> DescribeFn:
    return describer(network, options.factors, bfloat16, antialias=options.antialias, mirror=options.mirror)


def _plan(partial: Path, names: list[str], reading: Reading, print_of_run: str) -> Plan:
    """The plan of a killed run with the same photos and options, whose shards are kept, or a new one."""
    path = partial / PLAN
    if path.exists():
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["fingerprint"] == print_of_run:
            return Plan([((height, width), name) for (height, width), name in content["photos"]], content["left_out"])
        log.info(f"{partial} was left by a run with other photos or options and is begun anew")
        shutil.rmtree(partial)
    elif partial.exists() and any(partial.iterdir()):
        raise FolderError(f"{partial} is in the way, and no unfinished work of this step: rename or remove it")
    plan = _look_at_headers(names, reading)
    if not plan.photos:
        raise _no_descriptor(plan.left_out)
    partial.mkdir(parents=True, exist_ok=True)
    write_file(path, json.dumps({"fingerprint": print_of_run, "photos": plan.photos, "left_out": plan.left_out}))
    return plan


def _look_at_headers(names: list[str], reading: Reading) -> Plan:
    plan = Plan([], {})
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress("headers", len(names)) as advance:
        for start in range(0, len(names), HEADERS):
            some = names[start : start + HEADERS]
            for name, found in zip(some, pool.map(lambda name: _shape(reading, name), some), strict=True):
                if isinstance(found, str):
                    plan.left_out[name] = found
                else:
                    plan.photos.append((found, name))
            advance(len(some))
    plan.photos.sort()
    return plan


def _shape(reading: Reading, name: str) -> Shape | str:
    """A photo's shape, or the reason why it cannot be read."""
    try:
        return reading.shape(name)
    except PhotoError as error:
        return error.reason


def _no_descriptor(left_out: dict[str, str]) -> ValueError:
    """The error of a folder of which no photo has a descriptor."""
    useless = list(left_out.values()).count(NO_DESCRIPTOR)
    if useless:
        return NoDescriptorsError(useless)
    name, reason = next(iter(left_out.items()))
    return PhotoFolderError(f"none of the {len(left_out)} photos can be read; the first: {name}: {reason}")


def _closeness(exact: DescribeFn, halved: DescribeFn, plan: Plan, reading: Reading) -> dict[str, Any]:
    """How close bfloat16 stays to float32, on a few photos spread over the plan."""
    spread = np.linspace(0, len(plan.photos) - 1, min(CHECKED, len(plan.photos))).astype(int)
    sample = [plan.photos[row] for row in spread]
    there, here = _rows_of(exact, sample, reading), _rows_of(halved, sample, reading)
    cosines = [float(there[name] @ here[name]) for name in there.keys() & here.keys()]
    if not cosines:
        return {}
    log.info(f"bfloat16: cosine to float32 at least {min(cosines):.6f} on {len(cosines)} photos")
    return {"bfloat16_cosine": {"photos": len(cosines), "min": min(cosines)}}


def _rows_of(describe: DescribeFn, photos: list[tuple[Shape, str]], reading: Reading) -> dict[str, np.ndarray]:
    batches = describe_photos(describe, photos, reading.read)
    return {name: row for batch in batches for name, row in zip(batch.keys, batch.rows, strict=True)}


def _write_shards(folder: Path, plan: Plan, describe: DescribeFn, reading: Reading, shard: int) -> dict[str, Any]:
    """Makes the shards that are not done yet; returns the photos/s and the network's share of the time."""
    shards = [plan.photos[start : start + shard] for start in range(0, len(plan.photos), shard)]
    todo = {number: photos for number, photos in enumerate(shards) if not _note(folder, number).exists()}
    if len(todo) < len(shards):
        log.info(f"{len(shards) - len(todo)} of {len(shards)} shards are done already")
    if not todo:
        return {}
    count = sum(map(len, todo.values()))
    network, started = 0.0, time.monotonic()
    with progress("extract", count) as advance:
        for number, photos in todo.items():
            network += _write_shard(folder, number, describe_photos(describe, photos, reading.read), advance)
    seconds = time.monotonic() - started
    return {"photos_per_second": round(count / seconds, 2), "network_share": round(network / seconds, 3)}


def _write_shard(
    folder: Path, number: int, batches: Iterable[DescribedBatch[str]], advance: Callable[[int], None]
) -> float:
    """Makes one shard; its note, written last, says that it is done. Returns the network's seconds."""
    found = []
    for batch in batches:
        found.append(batch)
        advance(len(batch.keys) + len(batch.left_out))
    names = [name for batch in found for name in batch.keys]
    left_out = {name: reason for batch in found for name, reason in batch.left_out.items()}
    if names:
        rows = np.concatenate([batch.rows for batch in found if batch.keys])
        write_array(folder / f"descriptors-{number:05}.npy", rows)
    write_file(_note(folder, number), json.dumps({"names": names, "left_out": left_out}))
    return sum(batch.seconds for batch in found)


def _note(folder: Path, number: int) -> Path:
    return folder / f".shard-{number:05}.json"


def _collect(folder: Path, plan: Plan) -> dict[str, Any]:
    """Joins the shards' notes to names.txt and left_out.json; returns the counts."""
    names, left_out = [], dict(plan.left_out)
    for note in sorted(folder.glob(".shard-*.json")):
        content = json.loads(note.read_text(encoding="utf-8"))
        names += content["names"]
        left_out |= content["left_out"]
    if not names:
        shutil.rmtree(folder)
        raise _no_descriptor(left_out)
    write_names(folder / "names.txt", names)
    write_file(folder / "left_out.json", json.dumps(dict(sorted(left_out.items())), indent=1, ensure_ascii=False))
    dimensions = np.load(next(folder.glob("descriptors-*.npy")), mmap_mode="r").shape[1]
    return {"count": len(names), "left_out": len(left_out), "dimensions": dimensions}


def _report(output: Path, facts: dict[str, Any]) -> None:
    if "photos_per_second" in facts:
        log.info(
            f"{output}: {facts['photos_per_second']} photos/s, {facts['network_share']:.0%} of the time in the network"
        )
    if facts["left_out"]:
        left_out = read_left_out(output)
        log.warning(f"left out: {len(left_out)}, with reasons in {output / 'left_out.json'}")
        for name, reason in islice(left_out.items(), 10):
            log.warning(f"  {name}: {reason}")

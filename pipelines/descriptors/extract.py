"""Photos to descriptors: `keras-retrieval extract model.keras PHOTOS OUT --size 1024 --scales 1,0.7071,0.5`.

Photos are ordered by the size they will have, so that those of one size go through the network together, and written
in shards. A finished shard is never made again: a run that was killed goes on from the last one.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

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
from ..networks.precision import PRECISION_HELP, check_precision, resolve_precision
from ..photos.edges import HELP as EDGES_HELP
from ..photos.edges import edges_state, resolve_edges
from ..photos.formats import photo_state
from ..photos.reader import MAX_PIXELS, PhotoError, list_photos
from ..photos.reading import Reading, Shape
from .describer import (
    ANTIALIAS_HELP,
    MIRROR_HELP,
    NO_DESCRIPTOR,
    Describe,
    Described,
    NoDescriptorsError,
    describe_photos,
    describer,
    parse_scales,
)
from .folder import KIND, VERSION, read_left_out

CHECKED = 16  # photos on which bfloat16 is compared with float32
HEADERS = 4096  # photos whose headers wait in memory
PLAN = ".plan.json"


@dataclass(frozen=True)
class Plan:
    """What is to be described: names with the shape of their pixels, ordered by it, and reasons of those left out."""

    photos: list[tuple[Shape, str]]
    left_out: dict[str, str]


def extract(
    model: Annotated[
        str, typer.Argument(help="A .keras or .onnx file, or a name such as vgg16_gem (ImageNet weights).")
    ],
    photos: Annotated[Path, typer.Argument(help="Folder of photos; folders in it are read too.")],
    output: Annotated[Path, typer.Argument(help="Folder of descriptors to write.")],
    *,
    size: Annotated[int, typer.Option(help="Longest side in pixels; photos are never enlarged.")] = 1024,
    scales: Annotated[str, typer.Option(help="Factors joined in one descriptor, such as 1,0.7071,0.5.")] = "1",
    antialias: Annotated[bool, typer.Option(help=ANTIALIAS_HELP)] = True,
    mirror: Annotated[bool, typer.Option(help=MIRROR_HELP)] = False,
    edges: Annotated[str, typer.Option(help=EDGES_HELP)] = "",
    precision: Annotated[str, typer.Option(help=f"{PRECISION_HELP} bfloat16 prints how close it stays.")] = "float32",
    exif: Annotated[bool, typer.Option(help="Turn photos as their EXIF orientation says.")] = True,
    max_pixels: Annotated[int, typer.Option(help="Leave out photos that declare more pixels.")] = MAX_PIXELS,
    shard: Annotated[int, typer.Option(help="Photos per shard: what a killed run may lose.")] = 1000,
    replace: Annotated[bool, typer.Option(help="Replace OUTPUT if it was made otherwise.")] = False,
) -> Path:
    """Describes every photo of a folder by one vector.

    An .onnx file has its scales inside, and is run without TensorFlow.

    OUTPUT holds descriptors-*.npy (float32, one unit row per photo), names.txt (one JSON string a line, in the order
    of the rows), left_out.json (name -> reason) and manifest.json.
    """
    factors = parse_scales(scales)
    if size < 1 or shard < 1:
        raise ValueError(f"--size and --shard are at least 1, not {size} and {shard}")
    edges = resolve_edges(edges)
    check_precision(precision)
    names = list_photos(photos)
    bfloat16 = resolve_precision(precision, model) == "bfloat16"
    identity = model_identity(model)
    options = {
        "size": size,
        "scales": list(factors),
        "antialias": antialias,
        "mirror": mirror,
        "edges": edges,
        "bfloat16": bfloat16,
        "exif": exif,
        "max_pixels": max_pixels,
    }
    print_of_run = fingerprint(
        identity, options, edges_state(edges), shard, [[name, *photo_state(photos / name)] for name in names]
    )
    if output.exists() and not replace:
        made = read_manifest(output, kind=KIND, version=VERSION)
        if made.get("fingerprint") == print_of_run:
            print(f"{output} is done already: {made['count']:,} photos")
            return output
        raise ValueError(f"{output} holds descriptors of other photos or options: --replace, or name another folder")
    check_free(output, kind=KIND, replace=replace)
    started = time.monotonic()
    network = load_model(model)
    if isinstance(network, OnnxNetwork):
        network.check(factors, bfloat16, mirror)
        if network.size != size:
            print(f"{model} was exported for photos of {network.size} px, and here they are read at {size} px")
    require_edges(network, edges)
    reading = Reading(photos, size, exif, max_pixels, smallest_side(network, factors), edges)
    partial = partial_of(output)
    plan = _plan(partial, names, reading, print_of_run)
    describe, facts = describer(network, factors, antialias=antialias, mirror=mirror), {}
    if bfloat16:
        halved = describer(load_model(model), factors, bfloat16=True, antialias=antialias, mirror=mirror)
        facts, describe = _closeness(describe, halved, plan, reading), halved
    facts |= _write_shards(partial, plan, describe, reading, shard)
    facts |= _collect(partial, plan)
    facts |= {"fingerprint": print_of_run, "model": identity, "photos": str(photos.resolve()), **options}
    seal(partial, output, kind=KIND, version=VERSION, replace=replace, **facts)
    _report(output, facts, time.monotonic() - started)
    return output


def _plan(partial: Path, names: list[str], reading: Reading, print_of_run: str) -> Plan:
    """The plan of a killed run with the same photos and options, whose shards are kept, or a new one."""
    path = partial / PLAN
    if path.exists():
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["fingerprint"] == print_of_run:
            return Plan([((height, width), name) for (height, width), name in content["photos"]], content["left_out"])
        print(f"{partial} was left by a run with other photos or options and is begun anew")
        shutil.rmtree(partial)
    elif partial.exists() and any(partial.iterdir()):
        raise FolderError(f"{partial} is in the way, and no unfinished work of this step: rename or remove it")
    plan = _look_at_headers(names, reading)
    if not plan.photos:
        raise _none_readable(plan.left_out)
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


def _none_readable(left_out: dict[str, str]) -> ValueError:
    useless = list(left_out.values()).count(NO_DESCRIPTOR)
    if useless:
        return NoDescriptorsError(useless)
    name, reason = next(iter(left_out.items()))
    return ValueError(f"none of the {len(left_out)} photos can be read; the first: {name}: {reason}")


def _closeness(exact: Describe, halved: Describe, plan: Plan, reading: Reading) -> dict[str, Any]:
    """How close bfloat16 stays to float32, on a few photos spread over the plan."""
    spread = np.linspace(0, len(plan.photos) - 1, min(CHECKED, len(plan.photos))).astype(int)
    sample = [plan.photos[row] for row in spread]
    there, here = _rows_of(exact, sample, reading), _rows_of(halved, sample, reading)
    cosines = [float(there[name] @ here[name]) for name in there.keys() & here.keys()]
    if not cosines:
        return {}
    print(f"bfloat16: cosine to float32 at least {min(cosines):.6f} on {len(cosines)} photos")
    return {"bfloat16_cosine": {"photos": len(cosines), "min": min(cosines)}}


def _rows_of(describe: Describe, photos: list[tuple[Shape, str]], reading: Reading) -> dict[str, np.ndarray]:
    batches = describe_photos(describe, photos, reading.read)
    return {name: row for batch in batches for name, row in zip(batch.keys, batch.rows, strict=True)}


def _write_shards(folder: Path, plan: Plan, describe: Describe, reading: Reading, shard: int) -> dict[str, Any]:
    """Makes the shards that are not done yet; returns the photos/s and the network's share of the time."""
    shards = [plan.photos[start : start + shard] for start in range(0, len(plan.photos), shard)]
    todo = {number: photos for number, photos in enumerate(shards) if not _note(folder, number).exists()}
    if len(todo) < len(shards):
        print(f"{len(shards) - len(todo)} of {len(shards)} shards are done already")
    if not todo:
        return {}
    count = sum(map(len, todo.values()))
    network, started = 0.0, time.monotonic()
    with progress("extract", count) as advance:
        for number, photos in todo.items():
            network += _write_shard(folder, number, describe_photos(describe, photos, reading.read), advance)
    seconds = time.monotonic() - started
    return {"photos_per_second": round(count / seconds, 2), "network_share": round(network / seconds, 3)}


def _write_shard(folder: Path, number: int, batches: Iterable[Described[str]], advance: Callable[[int], None]) -> float:
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
        raise _none_readable(left_out)
    write_names(folder / "names.txt", names)
    write_file(folder / "left_out.json", json.dumps(dict(sorted(left_out.items())), indent=1, ensure_ascii=False))
    dimensions = np.load(next(folder.glob("descriptors-*.npy")), mmap_mode="r").shape[1]
    return {"count": len(names), "left_out": len(left_out), "dimensions": dimensions}


def _report(output: Path, facts: dict[str, Any], seconds: float) -> None:
    speed = ""
    if "photos_per_second" in facts:
        speed = f", {facts['photos_per_second']} photos/s, {facts['network_share']:.0%} of the time in the network"
    print(f"{output}: {facts['count']:,} photos x {facts['dimensions']} dimensions in {seconds:.0f} s{speed}")
    if facts["left_out"]:
        left_out = read_left_out(output)
        print(f"left out: {len(left_out)}, with reasons in {output / 'left_out.json'}")
        for name, reason in islice(left_out.items(), 10):
            print(f"  {name}: {reason}")

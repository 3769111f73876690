"""Photos to descriptors: `keras-retrieval extract model.keras PHOTOS OUT --size 1024 --scales 1,0.7071,0.5`.

Photos are ordered by the size they will have, so that those of one size go through the network together, and written
in shards. A finished shard is never made again: a run that was killed goes on from the last one.
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from .describe import (
    Describe,
    Reading,
    Shape,
    describe_photos,
    describer,
    load_model,
    model_identity,
    parse_scales,
    smallest_side,
)
from .descriptors import KIND, VERSION, read_left_out
from .folders import fingerprint, partial_of, read_manifest, seal, write_array, write_file, write_names
from .images import MAX_PIXELS, PhotoError, list_photos
from .progress import progress

CHECKED = 16  # photos on which bfloat16 is compared with float32


@dataclass
class Plan:
    """What is to be described: names with the shape of their pixels, ordered by it, and what was left out."""

    photos: list[tuple[Shape, str]]
    left_out: dict[str, str] = field(default_factory=dict)


def extract(
    model: Annotated[str, typer.Argument(help="A .keras file, or a name such as vgg16_gem (ImageNet weights).")],
    photos: Annotated[Path, typer.Argument(help="Folder of photos; folders in it are read too.")],
    output: Annotated[Path, typer.Argument(help="Folder of descriptors to write.")],
    *,
    size: Annotated[int, typer.Option(help="Longest side in pixels; photos are never enlarged.")] = 1024,
    scales: Annotated[str, typer.Option(help="Factors joined in one descriptor, such as 1,0.7071,0.5.")] = "1",
    bfloat16: Annotated[bool, typer.Option(help="Run the trunk in bfloat16; says how close it stays.")] = False,
    exif: Annotated[bool, typer.Option(help="Turn photos as their EXIF orientation says.")] = True,
    max_pixels: Annotated[int, typer.Option(help="Leave out photos that declare more pixels.")] = MAX_PIXELS,
    shard: Annotated[int, typer.Option(help="Photos per shard: what a killed run may lose.")] = 1000,
    replace: Annotated[bool, typer.Option(help="Replace OUTPUT if it was made otherwise.")] = False,
) -> Path:
    """Describes every photo of a folder by one vector.

    OUTPUT holds descriptors-*.npy (float32, one unit row per photo), names.txt (one JSON string a line, in the order
    of the rows), left_out.json (name -> reason) and manifest.json.
    """
    factors = parse_scales(scales)
    if size < 1 or shard < 1:
        raise ValueError(f"--size and --shard are at least 1, not {size} and {shard}")
    names = list_photos(photos)
    identity = model_identity(model)
    options = {"size": size, "scales": list(factors), "bfloat16": bfloat16, "exif": exif, "max_pixels": max_pixels}
    print_of_run = fingerprint(identity, options, shard, [[name, *_state(photos / name)] for name in names])
    if output.exists() and not replace:
        made = read_manifest(output, kind=KIND, version=VERSION)
        if made["fingerprint"] == print_of_run:
            print(f"{output} is done already: {made['count']:,} photos")
            return output
        raise ValueError(f"{output} holds descriptors of other photos or options: --replace, or name another folder")
    partial = _partial(output, print_of_run)
    started = time.monotonic()
    network = load_model(model)
    reading = Reading(photos, size, exif, max_pixels, smallest_side(network, factors))
    plan = _plan(names, reading)
    run = _Run(network, factors, bfloat16)
    run.shards(plan, reading, partial, shard)
    facts = _collect(partial, len(names))
    facts |= {"fingerprint": print_of_run, "model": identity, "photos": str(photos.resolve()), **options, **run.facts}
    seal(partial, output, kind=KIND, version=VERSION, replace=replace, **facts)
    _report(output, facts, time.monotonic() - started)
    return output


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _partial(output: Path, print_of_run: str) -> Path:
    """The folder of finished shards: that of a killed run with the same photos and options, or a new one."""
    partial = partial_of(output)
    note = partial / "run.json"
    if partial.exists() and (not note.exists() or json.loads(note.read_text())["fingerprint"] != print_of_run):
        print(f"{partial} was left by a run with other photos or options and is begun anew")
        shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    write_file(note, json.dumps({"fingerprint": print_of_run}))
    return partial


def _plan(names: list[str], reading: Reading) -> Plan:
    """Looks at every header; decodes nothing."""
    plan = Plan([])

    def shape(name: str) -> tuple[int, int] | str:
        try:
            return reading.shape(name)
        except PhotoError as error:
            return error.reason

    with ThreadPoolExecutor(os.cpu_count()) as pool, progress("headers", len(names)) as advance:
        for name, found in zip(names, pool.map(shape, names, chunksize=64), strict=True):
            if isinstance(found, str):
                plan.left_out[name] = found
            else:
                plan.photos.append((found, name))
            advance(1)
    plan.photos.sort()
    return plan


class _Run:
    """One extraction: the compiled network, and what is to be said of it."""

    def __init__(self, model: Any, scales: tuple[float, ...], bfloat16: bool) -> None:
        self.model, self.scales, self.bfloat16 = model, scales, bfloat16
        self.facts: dict[str, Any] = {}

    def shards(self, plan: Plan, reading: Reading, partial: Path, rows: int) -> None:
        if not plan.photos:
            raise ValueError(f"none of the {len(plan.left_out)} photos can be read; the first: {_first(plan.left_out)}")
        pieces = [plan.photos[start : start + rows] for start in range(0, len(plan.photos), rows)]
        todo = [number for number in range(len(pieces)) if not (partial / f"shard-{number:05}.json").exists()]
        if len(todo) < len(pieces):
            print(f"{len(pieces) - len(todo)} of {len(pieces)} shards are done already")
        write_file(partial / "left_out.json", json.dumps(plan.left_out))
        if not todo:
            return
        describe = self._describer(plan, reading)
        network = 0.0
        started = time.monotonic()
        with progress("extract", sum(len(pieces[number]) for number in todo)) as advance:
            for number in todo:
                network += _write_shard(describe, pieces[number], reading, partial, number, advance)
        seconds = time.monotonic() - started
        count = sum(len(pieces[number]) for number in todo)
        self.facts["photos_per_second"] = round(count / seconds, 2)
        self.facts["network_share"] = round(network / seconds, 3)

    def _describer(self, plan: Plan, reading: Reading) -> Describe:
        if not self.bfloat16:
            return describer(self.model, self.scales)
        exact = _sample(describer(self.model, self.scales), plan, reading)
        describe = describer(self.model, self.scales, bfloat16=True)
        cosines = (exact * _sample(describe, plan, reading)).sum(axis=1)
        self.facts["bfloat16_cosine"] = {"photos": len(cosines), "min": float(cosines.min())}
        print(f"bfloat16: cosine to float32 at least {cosines.min():.6f} on {len(cosines)} photos")
        return describe


def _sample(describe: Describe, plan: Plan, reading: Reading) -> np.ndarray:
    spread = np.linspace(0, len(plan.photos) - 1, min(CHECKED, len(plan.photos))).astype(int)
    chosen = [plan.photos[row] for row in sorted(set(spread.tolist()))]
    return np.concatenate([found.rows for found in describe_photos(describe, chosen, reading.read) if found.keys])


def _write_shard(
    describe: Describe,
    photos: list[tuple[Shape, str]],
    reading: Reading,
    partial: Path,
    number: int,
    advance: Callable[[int], None],
) -> float:
    """Makes one shard; its .json, written last, says that it is done. Returns the network's seconds."""
    names: list[str] = []
    rows: list[np.ndarray] = []
    left_out: dict[str, str] = {}
    network = 0.0
    for found in describe_photos(describe, photos, reading.read):
        names += found.keys
        rows += [found.rows] if found.keys else []
        left_out |= found.left_out
        network += found.seconds
        advance(len(found.keys) + len(found.left_out))
    if rows:
        write_array(partial / f"descriptors-{number:05}.npy", np.concatenate(rows))
    write_file(partial / f"shard-{number:05}.json", json.dumps({"names": names, "left_out": left_out}))
    return network


def _collect(partial: Path, found: int) -> dict[str, Any]:
    """Joins the shards' notes to names.txt and left_out.json; returns the counts."""
    notes = sorted(partial.glob("shard-*.json"))
    left_out = json.loads((partial / "left_out.json").read_text())
    names = []
    for note in notes:
        content = json.loads(note.read_text())
        names += content["names"]
        left_out |= content["left_out"]
    if not names:
        raise ValueError(f"none of the {found} photos can be read; the first: {_first(left_out)}")
    write_names(partial / "names.txt", names)
    write_file(partial / "left_out.json", json.dumps(dict(sorted(left_out.items())), indent=1, ensure_ascii=False))
    dimensions = np.load(next(iter(sorted(partial.glob("descriptors-*.npy")))), mmap_mode="r").shape[1]
    for note in [*notes, partial / "run.json"]:
        note.unlink()
    return {"count": len(names), "left_out": len(left_out), "dimensions": dimensions}


def _first(left_out: dict[str, str]) -> str:
    name, reason = next(iter(left_out.items()))
    return f"{name}: {reason}"


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

"""Edge maps as files: `keras-retrieval edge-maps PHOTOS MAPS --edges sobel`, or `--edges sketch` of line drawings.

They are what a network of edge maps takes where it is served or runs by itself: send them as photos, at their size.
MAPS is also what `--edges folder:MAPS` reads.
"""

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from ..files.durable import check_free, partial_of, seal
from ..files.progress import progress
from .edges import HELP, KIND, resolve_edges
from .reader import MAX_PIXELS, PhotoError, list_photos
from .reading import Reading

VERSION = 1


def edge_maps(
    photos: Annotated[Path, typer.Argument(help="Folder of photos or of sketches; folders in it are read too.")],
    output: Annotated[Path, typer.Argument(help="Folder of edge maps to write.")],
    *,
    edges: Annotated[str, typer.Option(help=HELP)] = "sobel",
    size: Annotated[int, typer.Option(help="Longest side of the photos in pixels; maps have a margin besides.")] = 227,
    exif: Annotated[bool, typer.Option(help="Turn photos as their EXIF orientation says.")] = True,
    max_pixels: Annotated[int, typer.Option(help="Leave out photos that declare more pixels.")] = MAX_PIXELS,
    replace: Annotated[bool, typer.Option(help="Replace OUTPUT if it holds edge maps.")] = False,
) -> Path:
    """Writes the edge map of every photo of a folder as NAME.png: grey, black where there is no edge.

    A photo that cannot be read is left out and named, with the reason.
    """
    if size < 1 or not edges:
        raise ValueError(f"--size is at least 1 and --edges says how edges are found, not {size} and '{edges}'")
    edges = resolve_edges(edges)
    names = list_photos(photos)
    if output.resolve().is_relative_to(photos.resolve()):
        raise ValueError(f"{output} lies in {photos}, and maps would be taken for photos: name another folder")
    check_free(output, kind=KIND, replace=replace)
    partial = partial_of(output)
    shutil.rmtree(partial, ignore_errors=True)
    reading = Reading(photos, size, exif, max_pixels, edges=edges)
    reasons = _doubles(names)
    own = [name for name in names if name not in reasons]
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress("edge maps", len(own)) as advance:
        for name, reason in zip(own, pool.map(lambda name: _write(reading, name, partial), own), strict=True):
            reasons |= {name: reason} if reason else {}
            advance(1)
    for name, reason in reasons.items():
        print(f"left out: {name}: {reason}")
    if len(reasons) == len(names):
        name, reason = next(iter(reasons.items()))
        raise ValueError(f"{photos}: no photo has an edge map; the first: {name}: {reason}")
    count = len(names) - len(reasons)
    facts = {"photos": str(photos.resolve()), "edges": edges, "size": size, "count": count}
    seal(partial, output, kind=KIND, version=VERSION, replace=replace, **facts)
    print(f"{output}: {count:,} edge maps")
    return output


def _map_name(name: str) -> PurePosixPath:
    return PurePosixPath(name).with_suffix(".png")


def _doubles(names: Sequence[str]) -> dict[str, str]:
    """The photos whose map would have the name of that of an earlier photo, and why they have none."""
    first: dict[PurePosixPath, str] = {}
    return {
        name: f"its map would have the name of that of {earlier}: rename one"
        for name in names
        if (earlier := first.setdefault(_map_name(name), name)) != name
    }


def _write(reading: Reading, name: str, folder: Path) -> str:
    """Writes one map; returns the reason why there is none."""
    from PIL import Image

    try:
        pixels = reading.read(name)
    except PhotoError as error:
        return error.reason
    path = folder / _map_name(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[..., 0]).save(path)
    return ""

"""The command `keras-retrieval edge-maps PHOTOS MAPS`, which writes edge maps of photos or sketches as image files.

The files serve as input to a network for edge maps once the network is exported or served, because an exported network
does not compute edge maps. Other commands read the files with the option `--edges folder:MAPS`.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated

from keras_retrieval.errors import printable

from ..command.kinds import Writes
from ..command.options import Argument, Option, takes
from ..engines.engine import run_units
from ..engines.options import EngineOptions
from ..engines.work import Worker
from ..files.durable import FolderError, atomic_path, check_free, check_outside, fingerprint
from ..files.machine import cores
from ..files.shards import LEFT_OUT, ShardedFolder, write_left_out
from .edges import KIND, KINDS, MARGIN, check_edges, edges_state, resolve_edges, unknown_kind
from .formats import PhotoFolderError, photo_state
from .intake_options import PHOTO_FOLDER, IntakeOptions
from .reader import MAX_PIXELS, PhotoError
from .reading import Reading

VERSION = 1
UNIT = 256  # photos of a unit of work


@dataclass(frozen=True, kw_only=True)
class EdgeMapOptions(EngineOptions, IntakeOptions):
    """Options of the command `keras-retrieval edge-maps`."""

    photos: Annotated[
        Path, Argument("Folder of photos or sketches; its sub-folders are read, too.", kind=PHOTO_FOLDER)
    ] = field(kw_only=False)
    output: Annotated[Path, Argument("Folder of edge maps to write.", kind=Writes("folder", FolderError))] = field(
        kw_only=False
    )
    edges: Annotated[str, Option(f"Kind of edge maps: {KINDS}", kind=check_edges)] = "sobel"
    size: Annotated[
        int,
        Option(f"Longest side of a photo in pixels; its map has a margin of {MARGIN} pixels in addition.", at_least=1),
    ] = 227
    exif: Annotated[bool, Option("Turn photos by their EXIF orientation.")] = True
    max_pixels: Annotated[int, Option("Leave out photos whose header declares more pixels.", at_least=1)] = MAX_PIXELS
    replace: Annotated[bool, Option("Replace OUTPUT if it contains edge maps.")] = False

    def check(self) -> None:
        """Checks the range of each option, and that `edges` is not empty.

        Raises:
            ArgumentError: an option is out of range, or `edges` is empty.
        """
        super().check()
        if not self.edges:
            raise unknown_kind(self.edges)


@takes(EdgeMapOptions)
def edge_maps(options: EdgeMapOptions) -> Path:
    """Writes the edge map of every photo in a folder as a grey PNG file, in which black means no edge.

    The edge map of a/b.jpg is a/b.png in the output folder. Photos that cannot be read, and photos that differ from an
    earlier one only in the extension, are left out and listed with the reasons. A killed run goes on with the maps that
    it wrote.

    Returns:
        The output folder.

    Raises:
        ArgumentError: an option is out of range.
        PhotoFolderError: the folder does not exist or has no photos, or no photo has an edge map.
        FolderError: the output folder exists and may not be replaced, or is inside the folder of photos.
        MissingExtraError: the kind of edge maps needs OpenCV, which is not installed.
    """
    photos, output = options.photos, options.output
    edges = resolve_edges(options.edges)
    intake = options.take(photos)
    names = intake.photos
    print(intake.account)
    check_outside(output, photos)
    check_free(output, kind=KIND, replace=options.replace)
    sharded = _folder(options, names, edges)
    if sharded.begun() and sharded.partial.exists():
        print(f"going on with the maps in {sharded.partial}")
    sharded.start()
    reading = Reading(
        photos,
        options.size,
        options.exif,
        options.max_pixels,
        edges=edges,
        accept_truncated=options.accept_truncated,
    )
    reasons = _doubles(names)
    own = [name for name in names if name not in reasons]
    todo = sharded.unfinished([own[start : start + UNIT] for start in range(0, len(own), UNIT)])
    run_units(EdgeMapJob(sharded, reading), todo, engine=options.chosen_engine, label="edge maps")
    for note in sharded.notes():
        reasons |= note["left_out"]
    for name, reason in (intake.left_out | reasons).items():
        print(f"left out: {printable(name)}: {reason}")
    if len(reasons) == len(names):
        name, reason = next(iter(reasons.items()))
        raise PhotoFolderError(f"{photos}: no photo has an edge map; the first: {name}: {reason}")
    count = len(names) - len(reasons)
    write_left_out(sharded.partial / LEFT_OUT, intake.reasons | reasons)
    facts = {"photos": str(photos.resolve()), "edges": edges, "size": options.size, "count": count}
    sharded.seal(replace=options.replace, **facts)
    print(f"{output}: {count:,} edge maps")
    return output


@dataclass(frozen=True)
class EdgeMapJob:
    """What a worker needs to write edge maps.

    Attributes:
        sharded: the folder, whose shards are the maps of `UNIT` photos.
        reading: how photos are read.
    """

    sharded: ShardedFolder
    reading: Reading

    def open(self) -> Worker:
        """Returns the worker, which needs no preparation."""
        return self._write

    def _write(self, number: int, names: Sequence[str], advance: Callable[[int], None]) -> None:
        written, left_out = [], {}
        with ThreadPoolExecutor(cores()) as pool:
            maps = pool.map(lambda name: _write(self.reading, name, self.sharded.partial), names)
            for name, reason in zip(names, maps, strict=True):
                if reason:
                    left_out[name] = reason
                else:
                    written.append(name)
                advance(1)
        with self.sharded.commit(number) as unwritten:
            if unwritten:
                self.sharded.finish(number, written, left_out)


def _folder(options: EdgeMapOptions, names: Sequence[str], edges: str) -> ShardedFolder:
    """The folder to write; the maps of a killed run with the same photos and options are kept in it."""
    made = [edges_state(edges), options.size, options.exif, options.max_pixels, options.accept_truncated]
    states = [[name, *photo_state(options.photos / name)] for name in names]
    return ShardedFolder(options.output, KIND, VERSION, fingerprint(made, states))


def _map_name(name: str) -> PurePosixPath:
    return PurePosixPath(name).with_suffix(".png")


def _doubles(names: Sequence[str]) -> dict[str, str]:
    """Finds the photos whose edge map would have the same name as an earlier photo's; maps them to the reason."""
    first: dict[PurePosixPath, str] = {}
    return {
        name: f"its map would have the same name as that of {earlier}: rename one"
        for name in names
        if (earlier := first.setdefault(_map_name(name), name)) != name
    }


def _write(reading: Reading, name: str, folder: Path) -> str:
    """Writes the edge map of one photo; returns "", or the reason why the photo has no edge map."""
    from PIL import Image

    path = folder / _map_name(name)
    if path.exists():  # written by a run that was killed
        return ""
    try:
        pixels = reading.read(name)
    except PhotoError as error:
        return error.reason
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path, sync=False) as temporary:
        Image.fromarray(pixels[..., 0]).save(temporary)
    return ""

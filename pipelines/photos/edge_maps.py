"""The command `keras-retrieval edge-maps PHOTOS MAPS`, which writes edge maps of photos or sketches as image files.

The files serve as input to a network for edge maps once the network is exported or served, because an exported network
does not compute edge maps. Other commands read the files with the option `--edges folder:MAPS`.
"""

import errno
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
from ..files.durable import FolderError, atomic_path, check_outside, encoded_states, fingerprint
from ..files.remote import named, place_text
from ..files.sharded_address import Sharded, sharded_folder
from .edges import KIND, KINDS, MARGIN, check_edges, edges_state, resolve_edges, unknown_kind
from .formats import PhotoFolderError
from .intake import Intake
from .intake_options import OR_ADDRESS, PHOTO_PLACE, IntakeOptions
from .reader import MAX_PIXELS, PhotoError
from .reading import Reading

VERSION = 1
UNIT = 256  # photos of a unit of work
# Storages of objects have names of files that a disk has not, and files of the name of a folder.
_NO_SUCH_NAME = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.EINVAL)


@dataclass(frozen=True, kw_only=True)
class EdgeMapOptions(EngineOptions, IntakeOptions):
    """Options of the command `keras-retrieval edge-maps`."""

    photos: Annotated[
        Path,
        Argument(
            f"Folder of photos or sketches; its sub-folders are read, too. {OR_ADDRESS}",
            kind=PHOTO_PLACE,
        ),
    ] = field(kw_only=False)
    output: Annotated[
        Path,
        Argument(
            "Folder of edge maps to write, or an address: s3:// or gs:// (extra cloud).",
            kind=Writes("folder", FolderError, addresses=True),
        ),
    ] = field(kw_only=False)
    edges: Annotated[str, Option(f"Kind of edge maps: {KINDS}", kind=check_edges)] = "sobel"
    size: Annotated[
        int,
        Option(f"Longest side of a photo in pixels; its map has a margin of {MARGIN} pixels in addition.", at_least=1),
    ] = 227
    exif: Annotated[bool, Option("Turn photos by their EXIF orientation.")] = True
    max_pixels: Annotated[int, Option("Leave out photos whose header declares more pixels.", at_least=1)] = MAX_PIXELS
    replace: Annotated[bool, Option("Replace OUTPUT if it contains edge maps.")] = False

    def check(self) -> None:
        """Checks the range of each option, that `edges` is not empty, and that the maps are not among the photos.

        Raises:
            ArgumentError: an option is out of range, or `edges` is empty.
            FolderError: `output` is inside `photos`.
        """
        super().check()
        if not self.edges:
            raise unknown_kind(self.edges)
        check_outside(self.output, self.photos)


@takes(EdgeMapOptions)
def edge_maps(options: EdgeMapOptions) -> Path:
    """Writes the edge map of every photo in a folder as a grey PNG file, in which black means no edge.

    The edge map of a/b.jpg is a/b.png in the output folder. Photos that cannot be read, and photos that differ from an
    earlier one only in the extension, are left out and listed with the reasons. A killed run goes on with the maps that
    it wrote, at an address with the blocks of 256 maps that it finished. The folder also contains names.txt, the names
    of the photos with a map, left_out.json and manifest.json.

    Returns:
        The output folder.

    Raises:
        ArgumentError: an option is out of range.
        PhotoFolderError: the folder does not exist or has no photos, or no photo has an edge map.
        FolderError: the output folder has maps of other photos or options and may not be replaced, is not of edge maps,
            or is inside the folder of photos.
        MissingExtraError: the kind of edge maps needs OpenCV, which is not installed.
        RemoteError: the storage of an address does not answer, or refuses.
    """
    photos, output = options.photos, options.output
    edges = resolve_edges(options.edges)
    intake = options.take(photos)
    names = intake.photos
    print(intake.account)
    sharded = _folder(options, intake, edges)
    if not options.replace and sharded.exists(replace=False, fix="--replace, or name another folder"):
        print(f"{named(output)} is already complete")
        return output
    sharded.check_free(replace=options.replace)
    if not options.replace and sharded.begun():
        print(f"going on with the maps of a run of {named(output)} that was interrupted")
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
    written, left_out, _ = sharded.join(intake.reasons, reasons)
    for name, reason in left_out.items():
        if name not in intake.ignored:
            print(f"left out: {printable(name)}: {reason}")
    if not written:
        sharded.discard()
        name, reason = next((name, left_out[name]) for name in names)
        raise PhotoFolderError(f"{named(photos)}: no photo has an edge map; the first: {printable(name)}: {reason}")
    facts = {"photos": place_text(photos), "edges": edges, "size": options.size, "count": len(written)}
    sharded.seal(replace=options.replace, **facts)
    print(f"{named(output)}: {len(written):,} edge maps")
    return output


@dataclass(frozen=True)
class EdgeMapJob:
    """What a worker needs to write edge maps.

    Attributes:
        sharded: the folder, whose shards are the maps of `UNIT` photos.
        reading: how photos are read.
    """

    sharded: Sharded
    reading: Reading

    def open(self) -> Worker:
        """Returns the worker, which needs no preparation."""
        return self._write

    def _write(self, number: int, names: Sequence[str], advance: Callable[[int], None]) -> None:
        written, left_out = [], {}
        with self.sharded.draft(number) as folder:
            with ThreadPoolExecutor(self.reading.readers) as pool:
                maps = pool.map(lambda name: _write(self.reading, name, folder), names)
                for name, reason in zip(names, maps, strict=True):
                    if reason:
                        left_out[name] = reason
                    else:
                        written.append(name)
                    advance(1)
            with self.sharded.commit(number) as unwritten:
                if unwritten:
                    self.sharded.finish(number, written, left_out)


def _folder(options: EdgeMapOptions, intake: Intake, edges: str) -> Sharded:
    """The folder to write; the maps of a killed run with the same photos and options are kept in it."""
    made = [edges_state(edges), options.size, options.exif, options.max_pixels, options.accept_truncated]
    states = encoded_states(intake.photos, intake.states)
    return sharded_folder(options.output, KIND, VERSION, fingerprint(made, states), own_names=True)


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
    try:
        if path.is_file():  # written by a run that was killed
            return ""
        pixels = reading.read(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path, sync=False) as temporary:
            Image.fromarray(pixels[..., 0]).save(temporary, format="PNG")
    except PhotoError as error:
        return error.reason
    except OSError as error:
        if error.errno in _NO_SUCH_NAME:
            return f"its map cannot be written under its name ({error.strerror}): rename it"
        raise
    return ""

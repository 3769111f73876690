"""The command `keras-retrieval pairs MODEL PHOTOS OUTPUT`, which pairs photos for matching and visual localisation.

The output file contains two names per line, the format of COLMAP's matches_importer and of hloc (Sarlin et al. CVPR
2019). The photos' descriptors are written to an HDF5 file in hloc's layout, as datasets NAME/global_descriptor, from
which hloc's pairs_from_retrieval can choose other pairs.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np

from keras_retrieval.errors import ArgumentError, missing_extra, printable

from ..command.kinds import Writes, require_package
from ..command.options import Argument, Option, takes
from ..descriptors.extract import extract
from ..descriptors.folder import read_descriptors
from ..engines.options import EngineOptions
from ..files.durable import FolderError, atomic_path, write_file
from ..files.name_join import some_of
from ..files.remote import named
from ..files.shards import read_left_out, write_left_out
from ..networks.custom_layers import CustomLayers
from ..networks.kinds import NETWORK
from ..photos.intake_options import PHOTO_PLACE, PHOTOS_HELP, IntakeOptions
from ..runtimes.options import RuntimeOption
from .near_photos import NearOptions, read_nearness
from .paired_photos import (
    NO_PAIR,
    NOT_CHOSEN,
    NOT_LISTED,
    PairedPhotos,
    PairedPhotosOptions,
    can_be_listed,
    choose_pairs,
    choose_photos,
    is_outside,
)


@dataclass(frozen=True, kw_only=True)
class PairOptions(CustomLayers, RuntimeOption, EngineOptions, IntakeOptions, NearOptions, PairedPhotosOptions):
    """Options of the command `keras-retrieval pairs`."""

    model: Annotated[
        str,
        Argument(
            "A .keras or .onnx file, or a name such as vgg16_gem (ImageNet weights) or megaloc (see the step weights).",
            kind=NETWORK,
        ),
    ] = field(kw_only=False)
    photos: Annotated[
        Path,
        Argument(PHOTOS_HELP, kind=PHOTO_PLACE),
    ] = field(kw_only=False)
    output: Annotated[
        Path, Argument("File to write the pairs to, such as pairs.txt.", kind=Writes("file", FolderError))
    ] = field(kw_only=False)
    neighbours: Annotated[int, Option("Nearest photos with which each photo is paired.", at_least=1)] = 20
    size: Annotated[int, Option("Longest side of the photos in pixels; photos are never enlarged.", at_least=1)] = 1024
    scales: Annotated[str, Option("Scales of a photo that its descriptor combines, such as 1,0.7071,0.5.")] = "1"
    h5: Annotated[
        Path | None,
        Option(
            "HDF5 file to write the descriptors to; without it, OUTPUT with the ending .h5.",
            kind=Writes("file", FolderError),
        ),
    ] = None
    replace: Annotated[bool, Option("Compute the descriptors again if they were computed with other options.")] = False

    def check_packages(self) -> None:
        """Checks that h5py is installed.

        Raises:
            MissingExtraError: h5py, or the runtime that is named, is not installed.
        """
        super().check_packages()
        require_package("h5py", "h5py", "sfm")


@takes(PairOptions)
def pairs(options: PairOptions) -> Path:
    """Pairs each photo with its nearest photos, for COLMAP and hloc, and writes all descriptors to an HDF5 file.

    With --queries only these are paired, each with the nearest of the other photos. A line of the list cannot contain
    a name with white space: such photos are left out of the list, but not of the HDF5 file. A JSON file, for pairs.txt
    pairs-left_out.json, maps each file of PHOTOS without a place in the list to the reason.

    The descriptors are also stored in a folder beside OUTPUT, in the format of `extract`, so that a second run with
    other --neighbours or --near does not compute them again. If OUTPUT is pairs.txt, the folder is named
    pairs-descriptors.

    Returns:
        The path `output` of the list of pairs.

    Raises:
        ArgumentError: an option is out of range, or OUTPUT and --h5 are the same file.
        PhotoFolderError: the folder does not exist or contains no photo that can be read.
        FolderError: the folder of descriptors contains other descriptors, and `replace` is not set.
        ReconstructionError: there are no two photos to pair, or a query outside PHOTOS has the name of a photo.
        ModelError: the model of --only-model cannot be read, or none of its images is a photo.
        JoinError, TableError: the list of --queries cannot be read, or names no photo.
        PositionError, TableError, JoinError: with --near, the positions cannot be read, see `read_nearness`.
        RemoteError: the storage of photos at an address does not answer, or refuses.
        MissingExtraError: h5py is not installed.
    """
    photos, output = options.photos, options.output
    _require_h5py()
    target = output.with_suffix(".h5") if options.h5 is None else options.h5
    if target == output:
        raise ArgumentError(f"OUTPUT and --h5 must be different files, got {output} for both")
    outside = options.queries if is_outside(options, photos) else None
    if outside is not None and options.near is not None:
        raise ArgumentError(
            f"--near needs --queries inside PHOTOS, got {named(outside)}: move them into {named(photos)}"
        )
    taken = options.take(photos).photos
    apart = [] if outside is None else options.take(outside).photos
    paired = choose_photos(options, photos, taken, apart)
    listed = paired.listed()
    nearness = read_nearness(options, photos, taken)
    if nearness is not None:
        print(nearness.account, flush=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    names, rows, reasons = _described(options, photos, output.with_name(f"{output.stem}-descriptors"))
    if outside is not None:
        more = _described(options, outside, output.with_name(f"{output.stem}-query-descriptors"))
        names, rows = names + more[0], np.concatenate([rows, more[1]])
        reasons |= {f"{named(outside)}/{name}": reason for name, reason in more[2].items()}
    chosen = choose_pairs(listed, names, rows, options.neighbours, nearness)
    write_file(output, "".join(f"{one} {other}\n" for one, other in chosen))
    _write_h5(target, names, rows)
    print(f"{output}: {len(chosen):,} pairs of {len(listed.names):,} photos; {target}: descriptors of {len(names):,}")
    _account(output, paired, names, reasons, {name for pair in chosen for name in pair})
    return output


def _described(options: PairOptions, photos: Path, folder: Path) -> tuple[list[str], np.ndarray, dict[str, str]]:
    """The names and the descriptors of the photos of a folder, and the reasons why files have none."""
    described = extract(
        options.model,
        photos,
        folder,
        size=options.size,
        scales=options.scales,
        runtime=options.runtime,
        replace=options.replace,
        **options.passed_on,
        **options.engine_passed_on,
    )
    shards, names, _ = read_descriptors(described)
    return names, np.concatenate(shards), read_left_out(described)


def _account(
    output: Path, paired: PairedPhotos, names: Sequence[str], reasons: Mapping[str, str], in_pairs: Collection[str]
) -> None:
    """Writes why files are in no pair, and prints how many photos the list cannot contain."""
    meant, path = set(paired.names), output.with_name(f"{output.stem}-left_out.json")
    left_out = dict(reasons)
    for name in names:
        if name not in in_pairs:
            left_out[name] = NOT_CHOSEN if name not in meant else NO_PAIR if can_be_listed(name) else NOT_LISTED
    write_left_out(path, left_out)
    unlisted = [name for name in names if left_out.get(name) == NOT_LISTED]
    if unlisted:
        shown = some_of([f"'{printable(name)}'" for name in unlisted])
        print(
            f"{len(unlisted):,} photos are left out of {output} because of white space or a leading # in their names: "
            f"{shown}; all are in {path}, and their descriptors in the HDF5 file"
        )
    if alone := list(left_out.values()).count(NO_PAIR):
        print(f"{alone:,} photos are in no pair")


def _require_h5py() -> None:
    try:
        import h5py  # noqa: F401
    except ImportError as error:
        raise missing_extra("h5py", "sfm", error) from error


def _write_h5(path: Path, names: list[str], rows: np.ndarray) -> None:
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        for name, row in zip(names, rows, strict=True):
            file.create_group(name).create_dataset("global_descriptor", data=row)

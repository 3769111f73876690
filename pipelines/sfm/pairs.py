"""The command `keras-retrieval pairs MODEL PHOTOS OUTPUT`, which pairs photos for matching and visual localisation.

The output file contains two names per line, the format of COLMAP's matches_importer and of hloc (Sarlin et al. CVPR
2019). The photos' descriptors are written to an HDF5 file in hloc's layout, as datasets NAME/global_descriptor, from
which hloc's pairs_from_retrieval can choose other pairs.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np

from keras_retrieval.errors import ArgumentError, missing_extra

from ..command.options import Argument, Option, takes
from ..descriptors.extract import extract
from ..descriptors.folder import read_descriptors
from ..files.durable import atomic_path, write_file
from ..networks.custom_layers import CustomLayers
from ..photos.intake_options import IntakeOptions
from .candidate_pairs import nearest_pairs
from .errors import ReconstructionError
from .near_photos import NearOptions, read_nearness


@dataclass(frozen=True, kw_only=True)
class PairOptions(CustomLayers, IntakeOptions, NearOptions):
    """Options of the command `keras-retrieval pairs`."""

    model: Annotated[str, Argument("A .keras or .onnx file, or a name such as vgg16_gem (ImageNet weights).")] = field(
        kw_only=False
    )
    photos: Annotated[Path, Argument("Folder of photos; sub-folders are read too.")] = field(kw_only=False)
    output: Annotated[Path, Argument("File to write the pairs to, such as pairs.txt.")] = field(kw_only=False)
    neighbours: Annotated[int, Option("Nearest photos with which each photo is paired.", at_least=1)] = 20
    size: Annotated[int, Option("Longest side of the photos in pixels; photos are never enlarged.", at_least=1)] = 1024
    scales: Annotated[str, Option("Scales of a photo that its descriptor combines, such as 1,0.7071,0.5.")] = "1"
    h5: Annotated[
        Path | None, Option("HDF5 file to write the descriptors to; without it, OUTPUT with the ending .h5.")
    ] = None
    replace: Annotated[bool, Option("Compute the descriptors again if they were computed with other options.")] = False


@takes(PairOptions)
def pairs(options: PairOptions) -> Path:
    """Pairs each photo with its nearest photos, for COLMAP and hloc, and writes all descriptors to an HDF5 file.

    The descriptors are also stored in a folder beside OUTPUT, in the format of `extract`, so that a second run with
    other --neighbours or --near does not compute them again. If OUTPUT is pairs.txt, the folder is named
    pairs-descriptors.

    Returns:
        The path `output` of the list of pairs.

    Raises:
        ArgumentError: an option is out of range, or OUTPUT and --h5 are the same file.
        PhotoFolderError: the folder does not exist or contains no photo that can be read.
        FolderError: the folder of descriptors contains other descriptors, and `replace` is not set.
        ReconstructionError: a photo's name contains white space or begins with #.
        PositionError, TableError, JoinError: with --near, the positions cannot be read, see `read_nearness`.
        MissingExtraError: h5py is not installed.
    """
    photos, output = options.photos, options.output
    _require_h5py()
    listed = options.take(photos).photos
    _check_names(listed)
    target = output.with_suffix(".h5") if options.h5 is None else options.h5
    if target == output:
        raise ArgumentError(f"OUTPUT and --h5 must be different files, got {output} for both")
    nearness = read_nearness(options, photos, listed)
    if nearness is not None:
        print(nearness.account, flush=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = output.with_name(f"{output.stem}-descriptors")
    described = extract(
        options.model,
        photos,
        folder,
        size=options.size,
        scales=options.scales,
        replace=options.replace,
        **options.passed_on,
    )
    shards, names, _ = read_descriptors(described)
    rows = np.concatenate(shards)
    nearest = nearest_pairs(names, rows, options.neighbours, nearness)
    write_file(output, "".join(f"{one} {other}\n" for one, other in nearest))
    _write_h5(target, names, rows)
    print(f"{output}: {len(nearest):,} pairs of {len(names):,} photos; {target}: their descriptors")
    if alone := len(names) - len({name for pair in nearest for name in pair}):
        print(f"{alone:,} photos are in no pair")
    return output


def _require_h5py() -> None:
    try:
        import h5py  # noqa: F401
    except ImportError as error:
        raise missing_extra("h5py", "sfm", error) from error


def _check_names(names: list[str]) -> None:
    for name in names:
        if name.startswith("#") or any(letter.isspace() for letter in name):
            raise ReconstructionError(
                f"{name!r}: a list of pairs cannot contain names with spaces or a leading #: rename the photo"
            )


def _write_h5(path: Path, names: list[str], rows: np.ndarray) -> None:
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        for name, row in zip(names, rows, strict=True):
            file.create_group(name).create_dataset("global_descriptor", data=row)

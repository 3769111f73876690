"""The step `pairs`: retrieval for visual localisation, `keras-retrieval pairs model.keras PHOTOS pairs.txt`.

pairs.txt contains two names per line, the format of COLMAP's matches_importer and of hloc (Sarlin et al. CVPR 2019).
The photos' descriptors are written to an HDF5 file beside it in hloc's layout, NAME/global_descriptor, from which
hloc's pairs_from_retrieval can choose other pairs.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from keras_retrieval.errors import ArgumentError, missing_extra

from ..descriptors.extract import extract
from ..descriptors.folder import read_descriptors
from ..files.durable import atomic_path, write_file
from ..photos.reader import list_photos
from .candidate_pairs import nearest_pairs
from .errors import ReconstructionError


def pairs(
    model: Annotated[
        str, typer.Argument(help="A .keras or .onnx file, or a name such as vgg16_gem (ImageNet weights).")
    ],
    photos: Annotated[Path, typer.Argument(help="Folder of photos; sub-folders are read too.")],
    output: Annotated[Path, typer.Argument(help="File to write the pairs to, such as pairs.txt.")],
    *,
    neighbours: Annotated[int, typer.Option(help="Nearest photos with which each photo is paired; at least 1.")] = 20,
    size: Annotated[int, typer.Option(help="Longest side of the photos in pixels; photos are never enlarged.")] = 1024,
    scales: Annotated[
        str, typer.Option(help="Scales of a photo that its descriptor combines, such as 1,0.7071,0.5.")
    ] = "1",
    h5: Annotated[
        Path | None, typer.Option(help="HDF5 file to write the descriptors to; without it, OUTPUT with the ending .h5.")
    ] = None,
    replace: Annotated[
        bool, typer.Option(help="Compute the descriptors again if they were computed with other options.")
    ] = False,
) -> Path:
    """Pairs each photo with its nearest photos, for COLMAP and hloc, and writes all descriptors to an HDF5 file.

    The descriptors are also stored beside OUTPUT in a folder STEM-descriptors, in the format of `extract`, so that a
    second run with other --neighbours does not compute them again.

    Returns:
        `output`.

    Raises:
        ArgumentError: an option is out of range.
        ReconstructionError: a photo's name contains a space.
        MissingExtraError: h5py is not installed.
    """
    if neighbours < 1:
        raise ArgumentError(f"--neighbours must be at least 1, got {neighbours}")
    _require_h5py()
    _check_names(list_photos(photos))
    target = output.with_suffix(".h5") if h5 is None else h5
    if target == output:
        raise ArgumentError(f"OUTPUT and --h5 must be different files, got {output} for both")
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = output.with_name(f"{output.stem}-descriptors")
    shards, names, _ = read_descriptors(extract(model, photos, folder, size=size, scales=scales, replace=replace))
    rows = np.concatenate(shards)
    nearest = nearest_pairs(names, rows, neighbours)
    write_file(output, "".join(f"{one} {other}\n" for one, other in nearest))
    _write_h5(target, names, rows)
    print(f"{output}: {len(nearest):,} pairs of {len(names):,} photos; {target}: their descriptors")
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

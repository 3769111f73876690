"""Retrieval for visual localisation: `keras-retrieval pairs model.keras PHOTOS pairs.txt --neighbours 20`.

pairs.txt has two names on a line, as COLMAP's matches_importer and hloc (Sarlin et al. CVPR 2019) read pairs. The
photos' descriptors stand beside it as HDF5 in hloc's layout, NAME/global_descriptor, so that hloc's
pairs_from_retrieval can choose other pairs from them.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from ..descriptors.extract import extract
from ..descriptors.folder import read_descriptors
from ..files.durable import whole_path, write_file
from ..photos.reader import list_photos
from .candidate_pairs import nearest_pairs


def pairs(
    model: Annotated[str, typer.Argument(help="A .keras file, or a name such as vgg16_gem (ImageNet weights).")],
    photos: Annotated[Path, typer.Argument(help="Folder of photos; folders in it are read too.")],
    output: Annotated[Path, typer.Argument(help="The list of pairs to write, such as pairs.txt.")],
    *,
    neighbours: Annotated[int, typer.Option(help="Photos that each photo is paired with.")] = 20,
    size: Annotated[int, typer.Option(help="Longest side in pixels; photos are never enlarged.")] = 1024,
    scales: Annotated[str, typer.Option(help="Factors joined in one descriptor, such as 1,0.7071,0.5.")] = "1",
    h5: Annotated[Path | None, typer.Option(help="The HDF5 file; beside OUTPUT, ending in .h5, if not given.")] = None,
    replace: Annotated[bool, typer.Option(help="Describe again what was described otherwise.")] = False,
) -> Path:
    """Writes each photo's nearest photos as pairs, and all descriptors as HDF5.

    The descriptors are kept beside OUTPUT in the folder STEM-descriptors, as `extract` makes it: a second run with
    other neighbours describes nothing again.

    Returns:
        `output`.

    Raises:
        ValueError: an option is out of range, a photo's name holds a space, or no photo can be read.
        ImportError: h5py is not installed.
    """
    if neighbours < 1:
        raise ValueError(f"--neighbours is at least 1, not {neighbours}")
    _require_h5py()
    _check_names(list_photos(photos))
    target = output.with_suffix(".h5") if h5 is None else h5
    if target == output:
        raise ValueError(f"{output}: the pairs and the HDF5 file need different names")
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
        raise ImportError('HDF5 files need h5py: pip install "keras-retrieval[sfm]"') from error


def _check_names(names: list[str]) -> None:
    for name in names:
        if name.startswith("#") or any(letter.isspace() for letter in name):
            raise ValueError(
                f"{name!r}: a list of pairs cannot hold a name with a space or # in front: rename the photo"
            )


def _write_h5(path: Path, names: list[str], rows: np.ndarray) -> None:
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_path(path) as temporary, h5py.File(temporary, "w") as file:
        for name, row in zip(names, rows, strict=True):
            file.create_group(name).create_dataset("global_descriptor", data=row)

"""The file format of training tuples, tuples.npz.

`numpy.load("tuples.npz", allow_pickle=False)` reads the file. For N photos, Q pairs of a query and a positive, and M
links between clusters, the file contains these arrays:

- version: int64, the version of the layout, which is 1
- images: (N,) text, names of the photos: paths relative to the folder of the photos, with / as the separator
- cluster: (N,) int64, the cluster number of each photo; photos of other clusters may be used as its negatives
- qidxs: (Q,) int64, the query of each pair, an index into images
- pidxs: (Q,) int64, the positive of each pair, an index into images; the positive is in the cluster of the query or in
  a linked one
- same_object: (M, 2) int64, links: pairs of clusters that may show the same object, so that their photos are not used
  as negatives of each other
- validation: (N,) bool, true for photos that are set aside for validation; linked clusters are on the same side of the
  split, and a pair is used on the side of its query
- about: text, JSON with the source, the options and the counts of photos, clusters and pairs

The file may list the photos that training may use as negatives of each photo. Training then uses only these:

- negatives: (N, n) int32, indexes into images, padded with -1

Tuples some of whose photos are copies of one photo have

- copies: (N,) int32, the number of each photo's group of copies, -1 for none; photos of one group are neither positives
  nor negatives of each other

Tuples from positions in cells (`--cells`) have

- group: (N,) int32, the number of the group of each photo's class; neighbouring classes are in different groups

Tuples from 3D models also have

- shared: (Q,) float32, the fraction of the query's 3D points that are also visible in the positive
- scale_change: (Q,) float32, the median ratio, at least 1, of the scales of the common 3D points in the two photos
- camera_neighbours: (N, k) int32, for each photo the photos with the nearest cameras in the same model, nearest first,
  padded with -1
"""

import json
import zipfile
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from ..files.durable import write_file
from .checks import check
from .data import Tuples, TuplesError, validation_mask

VERSION = 1
_FIELDS: dict[str, tuple[str, tuple[int | None, ...], str]] = {
    # name -> allowed kinds of numpy's dtype, axes after the first (None for any length), description for messages
    "images": ("U", (), "text (N,)"),
    "cluster": ("iu", (), "integers (N,)"),
    "qidxs": ("iu", (), "integers (Q,)"),
    "pidxs": ("iu", (), "integers (Q,)"),
    "same_object": ("iu", (2,), "integers (M, 2)"),
    "validation": ("b", (), "booleans (N,)"),
}
_OPTIONAL = {"negatives": ("iu", (None,), "integers (N, n)")}


def write_tuples(path: Path, tuples: Tuples, about: Mapping[str, Any]) -> None:
    """Writes training tuples to a file in the format of this module.

    Args:
        path: the file to write, such as tuples.npz. Its folder is created if needed, and an existing file is replaced.
        tuples: the tuples, which must have passed `checks.check`.
        about: metadata to store in the file, serialisable as JSON.

    Raises:
        OSError: the file cannot be written.
    """
    file = BytesIO()
    np.savez_compressed(
        file,
        allow_pickle=False,
        version=np.array(VERSION),
        images=np.array(tuples.images, dtype=np.str_),
        cluster=tuples.cluster.astype(np.int64),
        qidxs=tuples.qidxs.astype(np.int64),
        pidxs=tuples.pidxs.astype(np.int64),
        same_object=tuples.same_object.astype(np.int64).reshape(-1, 2),
        validation=validation_mask(tuples),
        about=np.array(json.dumps(about, ensure_ascii=False)),
        **({} if tuples.negatives is None else {"negatives": tuples.negatives.astype(np.int32)}),
        **tuples.details,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, file.getvalue())


def read_tuples(path: Path) -> Tuples:
    """Reads training tuples from a file and checks their consistency; the photos need not exist.

    Args:
        path: a file written by `write_tuples`, or by numpy in the format of this module.

    Returns:
        The tuples. Their attribute `details` contains the arrays of the file that are not attributes of `Tuples`,
        except `version` and `about`.

    Raises:
        TuplesError: the file does not exist, is damaged, does not contain tuples, has a newer layout, or contains
            inconsistent tuples. The message names the file and, where possible, the array and the row.
    """
    fields = _read_arrays(path)
    _check_fields(path, fields)
    required: dict[str, Any] = {name: fields.pop(name) for name in _FIELDS}
    details = {name: array for name, array in fields.items() if name not in ("version", "about")}
    negatives = details.pop("negatives", None)
    tuples = Tuples(required.pop("images").tolist(), **required, negatives=negatives, details=details)
    try:
        check(tuples, None)
    except TuplesError as error:
        raise TuplesError(f"{path}: {error}") from error
    return tuples


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise TuplesError(f"{path} is not a file: `keras-retrieval tuples SOURCE {path.name}` makes it")
    if not zipfile.is_zipfile(path):  # NumPy's message for it recommends to unpickle the file
        raise TuplesError(f"{path} is damaged or is not an .npz file of tuples: `keras-retrieval tuples` makes one")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise TuplesError(f"{path} is damaged or is not an .npz file of tuples ({error})") from error


def _check_fields(path: Path, fields: Mapping[str, np.ndarray]) -> None:
    """Raises TuplesError for a missing array, a newer version of the layout, and arrays of a wrong type or shape."""
    missing = [name for name in ("version", *_FIELDS) if name not in fields]
    if missing:
        raise TuplesError(f"{path} has no field {missing[0]}, which every file of tuples has")
    version = fields["version"]
    if version.shape or version.dtype.kind not in "iu" or not 1 <= version <= VERSION:
        raise TuplesError(
            f"{path} has version {version.tolist()} of its layout, and this code reads up to {VERSION}: "
            "update with pip install -U keras-retrieval, or make the tuples again"
        )
    for name, (kinds, axes, words) in (_FIELDS | _OPTIONAL).items():
        array = fields.get(name)
        if array is None:
            continue
        fits = array.ndim == 1 + len(axes) and all(
            want in (None, have) for want, have in zip(axes, array.shape[1:], strict=True)
        )
        if array.dtype.kind not in kinds or not fits:
            raise TuplesError(f"{path}: {name} must be {words}, not {array.dtype} {array.shape}")
    if len(fields["validation"]) != len(fields["images"]):
        photos, flags = len(fields["images"]), len(fields["validation"])
        raise TuplesError(f"{path}: validation has {flags} entries for {photos} photos: there must be one for each")

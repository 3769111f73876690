"""The file format of training tuples, tuples.npz.

The file is read by `numpy.load("tuples.npz", allow_pickle=False)`. For N photos, Q pairs and M links it contains

- version: int64, the version of this layout: 1
- images: (N,) text, names of the photos: paths below the folder of the photos, with / between their parts
- cluster: (N,) int64, the cluster of each photo; photos of other clusters are its negatives
- qidxs: (Q,) int64, the query of each pair, an index into images
- pidxs: (Q,) int64, the positive of each pair, of the query's cluster or of one linked to it
- same_object: (M, 2) int64, links: clusters that may show the same object and are not negatives of each other
- validation: (N,) bool, photos set aside for validation, as whole objects; a pair is on the same side as its query
- about: text, JSON with the source, the options and the counts

A file may list the negatives of each photo; training then uses no others:

- negatives: (N, n) int32, the photos that may be negatives of each photo, padded with -1

Tuples from 3D models also have:

- shared: (Q,) float32, the share of the query's 3D points that the positive sees
- scale_change: (Q,) float32, the median ratio, at least 1, of the scales of their common points in the two photos
- camera_neighbours: (N, k) int32, photos of the same model by the distance of their cameras, padded with -1
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
    # name -> kinds of numpy's dtype, axes after the first (None: of any length), in words
    "images": ("U", (), "text (N,)"),
    "cluster": ("iu", (), "integers (N,)"),
    "qidxs": ("iu", (), "integers (Q,)"),
    "pidxs": ("iu", (), "integers (Q,)"),
    "same_object": ("iu", (2,), "integers (M, 2)"),
    "validation": ("b", (), "booleans (N,)"),
}
_OPTIONAL = {"negatives": ("iu", (None,), "integers (N, n)")}


def write_tuples(path: Path, tuples: Tuples, about: Mapping[str, Any]) -> None:
    """Writes tuples.npz.

    Args:
        path: the file to write; its folder is created if needed.
        tuples: the tuples, which `checks.check` has accepted.
        about: JSON-able metadata to store in the file.
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
    """Reads and checks tuples.npz.

    Args:
        path: a file from `write_tuples`, or one made with numpy in the same layout.

    Returns:
        The tuples; `details` contains the fields of the file that are not attributes of `Tuples`. The photos need not
        exist.

    Raises:
        TuplesError: the file does not exist, does not contain tuples, or contains inconsistent tuples; the message
            names the file and, where possible, the field and the row.
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
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise TuplesError(f"{path} is damaged or is not an .npz file of tuples ({error})") from error


def _check_fields(path: Path, fields: Mapping[str, np.ndarray]) -> None:
    """Refuses a newer version, a missing field, and arrays of the wrong type or shape."""
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

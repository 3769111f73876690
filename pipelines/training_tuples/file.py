"""The training data of this project, tuples.npz: photos in clusters and which of them are positives of each other."""

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..files.components import connected
from ..files.durable import write_file
from .positives import Rule

VERSION = 1
_FIELDS: dict[str, tuple[str, tuple[int | None, ...], str]] = {
    # name -> kinds of numpy's dtype, axes behind the first (None: of any length), in words
    "images": ("U", (), "text (N,)"),
    "cluster": ("iu", (), "integers (N,)"),
    "qidxs": ("iu", (), "integers (Q,)"),
    "pidxs": ("iu", (), "integers (Q,)"),
    "same_object": ("iu", (2,), "integers (M, 2)"),
    "validation": ("b", (), "true or false (N,)"),
}
_OPTIONAL = {"negatives": ("iu", (None,), "integers (N, n)")}


class TuplesError(ValueError):
    """Tuples cannot be made or read; the message names the row, the photo or the option."""


@dataclass(frozen=True)
class Tuples:
    """Photos, clusters and positive pairs; `tuples` documents the file's fields of the same names.

    Attributes:
        images: N names of photos.
        cluster: (N,) the cluster of each.
        qidxs: (Q,) the query of each pair, an index into `images`.
        pidxs: (Q,) its positive.
        same_object: (M, 2) clusters that are no negatives of each other.
        validation: (N,) which photos are for validation; None if that is still to be chosen.
        negatives: (N, n) the photos that may be negatives of each, -1 fills up; None for those of other clusters.
        details: further arrays of the file.
        where: per photo, where it was read, for messages; "photo N" if empty.
    """

    images: list[str]
    cluster: np.ndarray
    qidxs: np.ndarray
    pidxs: np.ndarray
    same_object: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    validation: np.ndarray | None = None
    negatives: np.ndarray | None = None
    details: Mapping[str, np.ndarray] = field(default_factory=dict)
    where: Sequence[str] = ()


@dataclass(frozen=True)
class Choice:
    """How positives are chosen, where the source leaves a choice.

    Attributes:
        rule: for 3D models; its `positives` holds for folders, too.
        positives: of a position at most; None for all.
        descriptors: for rule m1, each photo's unit row.
        radius: in metres, within which a photo is a positive.
        apart: in metres, beyond which it may be a negative.
        seed: of random choices.
    """

    rule: Rule
    positives: int | None
    descriptors: Mapping[str, np.ndarray]
    radius: float
    apart: float
    seed: int


def cluster_by_pairs(count: int, qidxs: np.ndarray, pidxs: np.ndarray) -> np.ndarray:
    """The numbers (count,) of the groups of photos that pairs connect, the largest group first."""
    cluster = np.zeros(count, np.int64)
    for number, group in enumerate(connected(range(count), zip(qidxs.tolist(), pidxs.tolist(), strict=True))):
        cluster[group] = number
    return cluster


def check(tuples: Tuples, photos: Path | None) -> None:
    """Checks what the rest of the project relies on.

    Args:
        tuples: from any source.
        photos: the folder in which every image must be a file; None leaves that unchecked.

    Raises:
        TuplesError: lengths or indexes do not fit, a photo is named twice or missing, a pair crosses clusters, or a
            photo is listed as a negative of its own.
    """
    count = len(tuples.images)
    if not count or not len(tuples.qidxs):
        raise TuplesError(f"there are {count} photos and {len(tuples.qidxs)} pairs: nothing to learn from")
    if len(tuples.cluster) != count:
        raise TuplesError(f"{count} photos have {len(tuples.cluster)} clusters: there must be one for each")
    if len(tuples.qidxs) != len(tuples.pidxs):
        raise TuplesError(f"{len(tuples.qidxs)} queries have {len(tuples.pidxs)} positives: they must be parallel")
    for name, indexes in (("query", tuples.qidxs), ("positive", tuples.pidxs)):
        wrong = np.flatnonzero((indexes < 0) | (indexes >= count))
        if len(wrong):
            raise TuplesError(f"pair {wrong[0]}: its {name} {indexes[wrong[0]]} is none of the photos 0..{count - 1}")
    _check_names(tuples, photos)
    _check_pairs(tuples)
    if tuples.negatives is not None:
        _check_negatives(tuples.negatives, count)


def split(tuples: Tuples, share: float, negatives: int, seed: int) -> Tuples:
    """Sets whole objects aside for validation: clusters that may show the same object stay together.

    Args:
        tuples: checked. Tuples that have a split keep it.
        share: of the photos for validation, as nearly as whole objects allow; at least one object if above 0, unless
            nothing would be left to train on.
        negatives: training keeps enough clusters for so many negatives of every query.
        seed: which objects.

    Returns:
        The tuples with `validation`.

    Raises:
        TuplesError: there are too few clusters for the negatives.
    """
    if tuples.validation is None:
        chosen = _choose_validation(tuples, share, negatives, seed)
        tuples = replace(tuples, validation=np.isin(tuples.cluster, chosen))
    kept = np.unique(tuples.cluster[~_validation(tuples)])
    if not len(kept):
        raise TuplesError("all photos are set aside for validation: none is left to train on")
    fewest = _fewest_negatives(tuples, kept)
    if fewest < negatives:
        raise TuplesError(
            f"{len(kept)} clusters give some queries {fewest} clusters to take negatives from, and --negatives "
            f"asks for {negatives}: add photos of other objects, or ask for fewer"
        )
    return tuples


def objects(tuples: Tuples) -> np.ndarray:
    """The object of each photo, (N,) int32: the same for clusters that are linked, directly or through others."""
    numbers, place = np.unique(tuples.cluster, return_inverse=True)
    links = tuples.same_object[np.isin(tuples.same_object, numbers).all(axis=1)]
    found = np.zeros(len(numbers), np.int32)
    for number, part in enumerate(connected(numbers.tolist(), [(one, other) for one, other in links.tolist()])):
        found[np.searchsorted(numbers, part)] = number
    return found[place]


def statistics(tuples: Tuples) -> dict[str, Any]:
    """Counts of photos, clusters, queries and pairs, in all and for validation."""
    aside = _validation(tuples)
    facts: dict[str, Any] = {}
    for name, photos in (("training", ~aside), ("validation", aside)):
        pairs = photos[tuples.qidxs]
        queries, each = np.unique(tuples.qidxs[pairs], return_counts=True)
        facts[name] = {
            "photos": int(photos.sum()),
            "clusters": len(np.unique(tuples.cluster[photos])),
            "queries": len(queries),
            "pairs": int(pairs.sum()),
            "pairs_per_query": round(float(each.mean()), 2) if len(each) else 0.0,
        }
    return facts


def write_tuples(path: Path, tuples: Tuples, about: Mapping[str, Any]) -> None:
    """Writes tuples.npz; see the module `tuples` for its fields."""
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
        validation=_validation(tuples),
        about=np.array(json.dumps(about, ensure_ascii=False)),
        **({} if tuples.negatives is None else {"negatives": tuples.negatives.astype(np.int32)}),
        **tuples.details,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, file.getvalue())


def read_tuples(path: Path) -> Tuples:
    """Reads tuples.npz; see the module `tuples` for its fields.

    Args:
        path: what `write_tuples`, or somebody's own numpy, wrote.

    Returns:
        The tuples, checked but for whether the photos are there; `details` holds the fields that are not ours.

    Raises:
        TuplesError: there is no such file, it is none of tuples, or something in it does not fit; the message names
            the file, and the field and row if it is one of them.
    """
    fields = _read_arrays(path)
    _check_fields(path, fields)
    known: dict[str, Any] = {name: fields.pop(name) for name in _FIELDS}
    details = {name: array for name, array in fields.items() if name not in ("version", "about")}
    negatives = details.pop("negatives", None)
    tuples = Tuples(known.pop("images").tolist(), **known, negatives=negatives, details=details)
    try:
        check(tuples, None)
    except TuplesError as error:
        raise TuplesError(f"{path}: {error}") from error
    return tuples


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise TuplesError(f"there is no {path}: `keras-retrieval tuples SOURCE {path.name}` makes it")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise TuplesError(f"{path} is damaged, or no .npz of tuples ({error})") from error


def _check_fields(path: Path, fields: Mapping[str, np.ndarray]) -> None:
    """Refuses another version, a missing field, and arrays of the wrong kind or shape."""
    missing = [name for name in ("version", *_FIELDS) if name not in fields]
    if missing:
        raise TuplesError(f"{path} has no field {missing[0]}: it is no file of tuples, or one made by hand without it")
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
        raise TuplesError(f"{path}: {photos} photos have {flags} marks of validation: there must be one for each")


def _validation(tuples: Tuples) -> np.ndarray:
    return np.zeros(len(tuples.images), bool) if tuples.validation is None else tuples.validation


def _where(tuples: Tuples, row: int) -> str:
    return tuples.where[row] if tuples.where else f"photo {row}"


def _check_names(tuples: Tuples, photos: Path | None) -> None:
    first: dict[str, int] = {}
    for row, name in enumerate(tuples.images):
        if (earlier := first.setdefault(name, row)) != row:
            here, there = tuples.cluster[earlier], tuples.cluster[row]
            raise TuplesError(
                f"{_where(tuples, row)}: {name} is {_where(tuples, earlier)}, too, in clusters {here} and {there}"
            )
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise TuplesError(f"{_where(tuples, row)}: {name} does not lie in the folder of the photos")
        if photos is not None and not (photos / name).is_file():
            raise TuplesError(f"{_where(tuples, row)}: there is no {photos / name}")


def _check_pairs(tuples: Tuples) -> None:
    alone = np.flatnonzero(tuples.qidxs == tuples.pidxs)
    if len(alone):
        name = tuples.images[tuples.qidxs[alone[0]]]
        raise TuplesError(f"pair {alone[0]}: {name} is its own positive")
    linked = {tuple(sorted(pair)) for pair in tuples.same_object.tolist()}
    queries, positives = tuples.cluster[tuples.qidxs], tuples.cluster[tuples.pidxs]
    for pair in np.flatnonzero(queries != positives):
        one, other = sorted((int(queries[pair]), int(positives[pair])))
        if (one, other) not in linked:
            names = [tuples.images[index] for index in (tuples.qidxs[pair], tuples.pidxs[pair])]
            raise TuplesError(f"pair {pair}: {names[0]} and {names[1]} are in different clusters, {one} and {other}")


def _check_negatives(negatives: np.ndarray, count: int) -> None:
    if len(negatives) != count:
        raise TuplesError(f"{count} photos have {len(negatives)} lists of negatives: there must be one for each")
    wrong = np.argwhere((negatives < -1) | (negatives >= count) | (negatives == np.arange(count)[:, None]))
    if len(wrong):
        row, column = wrong[0]
        raise TuplesError(
            f"photo {row}: its negative {negatives[row, column]} is none of the other photos 0..{count - 1}"
        )


def _choose_validation(tuples: Tuples, share: float, negatives: int, seed: int) -> list[int]:
    """The clusters of objects taken at random until the share is reached."""
    numbers, sizes = np.unique(tuples.cluster, return_counts=True)
    size = dict(zip(numbers.tolist(), sizes.tolist(), strict=True))
    objects = connected(size, [(one, other) for one, other in tuples.same_object.tolist()])
    chosen: list[int] = []
    if share <= 0:
        return chosen
    smallest = min(sum(size[cluster] for cluster in members) for members in objects)
    room = max(share * len(tuples.images), smallest)
    most_links = np.bincount(np.searchsorted(numbers, tuples.same_object.ravel()), minlength=1).max()
    for number in np.random.default_rng(seed).permutation(len(objects)):
        members = objects[number]
        photos = sum(size[cluster] for cluster in members)
        # Nearly always there are plenty left, and counting exactly can be spared.
        plenty = len(numbers) - len(chosen) - len(members) - 1 - most_links >= negatives
        if photos <= room and (
            plenty or _fewest_negatives(tuples, np.setdiff1d(numbers, [*chosen, *members])) >= negatives
        ):
            chosen += members
            room -= photos
        if room < smallest:
            break
    return chosen


def _fewest_negatives(tuples: Tuples, clusters: np.ndarray) -> int:
    """How many of the clusters are negatives of the one among them that has fewest; -1 if there are no clusters."""
    if not len(clusters):
        return -1
    linked = tuples.same_object[np.isin(tuples.same_object, clusters).all(axis=1)]
    counts = np.bincount(np.searchsorted(clusters, linked.ravel()), minlength=len(clusters))
    return len(clusters) - 1 - int(counts.max())

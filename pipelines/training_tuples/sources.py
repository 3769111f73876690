"""Detects the kind of a source of training tuples, and reads published pickle files and folders of objects."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.inert_files.plain_pickle import load_pickle

from ..descriptors.shard_files import shard_paths
from ..files.durable import MANIFEST
from ..files.remote import is_folder, named, remote_folder
from ..files.tables import SPREADSHEETS, SUFFIXES
from ..photos.landmark_folders import cleaned_objects, cleaned_photos
from ..photos.object_folders import AUTO, find_objects
from ..photos.street_archives import is_gsv_cities, msls_cities
from ..sfm.models import model_folders
from .copies import CopyGroups, no_copies
from .data import Tuples, TuplesError, cluster_by_pairs
from .from_models import from_other_models, from_reconstruction, reconstructed_photos
from .from_objects import from_objects
from .from_positions import from_names, from_places
from .from_streets import from_gsv_cities, from_msls
from .from_tables import from_csv
from .options import TuplesOptions
from .unused_options import MODELS, OBJECTS, POSITIONS, POSITIVES, RECONSTRUCTION, refuse_unused

log = logging.getLogger("keras_retrieval")

_PICKLE = ("cids", "qidxs", "pidxs")
_POSITION = re.compile(r"(^|/)@[^@/]*@[^@/]*@[^/]*$")


def read_source(
    options: TuplesOptions, descriptors: Mapping[str, np.ndarray], copies: CopyGroups = no_copies
) -> Tuples:
    """Makes training tuples from `options.source`, of any kind that the step `tuples` accepts except descriptors.

    Args:
        options: the options of `tuples`, which name the source and define how positives are chosen.
        descriptors: dict from the name of each photo to its descriptor, (D,) of unit length, for rule m1; empty for
            other rules.
        copies: finds copies of photos, which are not chosen as positives of each other where positives are chosen.

    Returns:
        The tuples. They are not checked, and not split unless the source defines a split.

    Raises:
        TuplesError: the source does not exist, is of an unknown kind, or contains an invalid entry; or an option is
            given that has no effect on it.
        ArgumentError: --objects is given for photos that `clean` kept.
        PhotoFolderError: the source is a folder without photos, or its folders do not show what is an object.
        OSError: the source cannot be read.
        RemoteError: the storage of photos at an address does not answer, or refuses.
    """
    source = options.source
    if remote_folder(source):
        return _from_photos(options, copies)
    if source.is_dir():
        if (source / "report.json").is_file():
            refuse_unused(options, "a reconstruction", MODELS, RECONSTRUCTION, POSITIVES)
            return from_reconstruction(source, options, descriptors, copies)
        if (cleaned := cleaned_objects(source, options.objects)) is not None:
            refuse_unused(options, "cleaned folders of photos", POSITIVES)
            return from_objects(cleaned[1], options, copies)
        if shard_paths(source):
            raise TuplesError(f"{source} contains descriptors: add --manifold to make tuples from them")
        if model_folders(source):
            refuse_unused(options, "3D models", MODELS, POSITIVES)
            return from_other_models(source, options, descriptors, copies)
        return _from_photos(options, copies)
    if not source.is_file():
        raise TuplesError(f"{source} does not exist")
    if source.suffix.lower() == ".pkl":
        refuse_unused(options, "published tuples")
        return from_pickle(source)
    if source.suffix.lower() in (*SUFFIXES, *SPREADSHEETS):
        if options.positions is not None:
            raise TuplesError(
                f"--positions {options.positions}: {source} is a table itself: name the folder of the photos as SOURCE"
            )
        return from_csv(source, options, copies)
    raise TuplesError(f"{source} is not a source of tuples: give a folder, a .pkl or a .csv file")


def _from_photos(options: TuplesOptions, copies: CopyGroups) -> Tuples:
    """Makes tuples of a folder of photos, which may be at an address."""
    source, here = options.source, remote_folder(options.source) is None
    intake = options.take(source)
    log.info(intake.account)
    images = intake.photos
    if not here and MANIFEST in images:
        raise TuplesError(
            f"{named(source)} contains what a step wrote: add --manifold for descriptors, or copy the folder to this "
            "machine"
        )
    if options.positions is not None:
        refuse_unused(options, "photos with positions", {"positions"}, POSITIONS, POSITIVES)
        return from_places(source, images, options, copies)
    if here and options.objects == AUTO and is_gsv_cities(source):
        if options.cells is not None:
            raise TuplesError(f"{source} is GSV-Cities, whose places are classes already: leave out --cells")
        refuse_unused(options, "GSV-Cities", {"apart", "heading"}, POSITIVES)
        return from_gsv_cities(source, intake, options, copies)
    if here and options.objects == AUTO and msls_cities(source):
        refuse_unused(options, "Mapillary SLS", POSITIONS, POSITIVES)
        return from_msls(source, intake, options, copies)
    # If one name contains a position, all must: otherwise a single photo without one would turn the folders of
    # the photos into objects. --objects says that positions are not wanted.
    if options.objects == AUTO and any(map(_POSITION.search, images)):
        refuse_unused(options, "photos with positions in their names", POSITIONS, POSITIVES)
        return from_names(source, images, options, copies)
    refuse_unused(options, "photos in one folder for each object", OBJECTS, POSITIVES)
    return from_objects(find_objects(images, source, options.objects), options, copies)


def photos_of(source: Path) -> Path | None:
    """Returns the folder of the photos that a source of training tuples refers to.

    Args:
        source: a source of tuples, as for the step `tuples`.

    Returns:
        The source itself if it is a folder of photos, or the folder of the photos from which `reconstruct` or `clean`
        made the source; None if the folder is unknown, as for tables and other 3D models, or no longer exists.
    """
    if remote_folder(source):
        return source
    if source.is_dir() and (cleaned := cleaned_photos(source)) is not None:
        return cleaned[0] if is_folder(cleaned[0]) else None
    if not source.is_dir() or (not (source / "report.json").is_file() and model_folders(source)):
        return None
    folder = reconstructed_photos(source) if (source / "report.json").is_file() else source
    return folder if is_folder(folder) else None


def from_pickle(path: Path) -> Tuples:
    """Reads the published training tuples retrieval-SfM-30k or -120k, or a -whiten file (Radenovic et al. TPAMI 2018).

    Photos are named by their published paths, ims/{c}/{b}/{a}/{cid}, where the photo's identifier cid ends in the three
    pairs of characters a, b and c. If the file has no clusters, photos that are connected by pairs, directly or through
    other photos, form a cluster.

    Args:
        path: the .pkl file. It is read without executing code from it.

    Returns:
        The tuples. If the file has training and validation photos, the tuples are split accordingly.

    Raises:
        TuplesError: the file is not a published set of tuples, or an index in it is out of range.
    """
    content = load_pickle(path)
    parts = content if isinstance(content, dict) else {}
    sets = [(name, parts[name]) for name in ("train", "val") if name in parts] or [("", parts)]
    images: list[str] = []
    where: list[str] = []
    found: list[Tuples] = []
    for name, part in sets:
        label = f"{path}, {name}" if name else str(path)
        tuples = _from_part(part, label)
        images += tuples.images
        where += [f"{label}, image {row}" for row in range(len(tuples.images))]
        found.append(tuples)
    first_image = np.cumsum([0, *(len(tuples.images) for tuples in found)])
    first_cluster = np.cumsum([0, *(tuples.cluster.max(initial=-1) + 1 for tuples in found)])
    validation = np.repeat([name == "val" for name, _ in sets], [len(tuples.images) for tuples in found])
    return Tuples(
        images,
        np.concatenate([tuples.cluster + first for tuples, first in zip(found, first_cluster, strict=False)]),
        np.concatenate([tuples.qidxs + first for tuples, first in zip(found, first_image, strict=False)]),
        np.concatenate([tuples.pidxs + first for tuples, first in zip(found, first_image, strict=False)]),
        validation=validation if len(sets) > 1 else None,
        where=where,
    )


def _from_part(part: Any, label: str) -> Tuples:
    missing = [key for key in _PICKLE if not isinstance(part, dict) or key not in part]
    if missing:
        raise TuplesError(f"{label} has no {', '.join(missing)}: it is not a published set of tuples")
    cids = [str(cid) for cid in part["cids"]]
    pairs = [np.asarray(part[key]) for key in ("qidxs", "pidxs")]
    for key, indexes in zip(("qidxs", "pidxs"), pairs, strict=True):
        if indexes.dtype.kind not in "iu":
            raise TuplesError(f"{label}: {key} must be integers, not {indexes.dtype}")
        wrong = np.flatnonzero((indexes < 0) | (indexes >= len(cids)))
        if len(wrong):
            raise TuplesError(f"{label}: {key} {wrong[0]} is {indexes[wrong[0]]}, but there are {len(cids)} images")
    cluster = part["cluster"] if "cluster" in part else cluster_by_pairs(len(cids), *pairs)
    numbers = np.unique(np.asarray(cluster), return_inverse=True)[1].reshape(-1)
    qidxs, pidxs = (indexes.astype(np.int64) for indexes in pairs)
    return Tuples([_published_path(cid) for cid in cids], numbers, qidxs, pidxs)


def _published_path(cid: str) -> str:
    return f"ims/{cid[-2:]}/{cid[-4:-2]}/{cid[-6:-4]}/{cid}"

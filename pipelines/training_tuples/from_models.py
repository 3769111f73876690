"""Training tuples from COLMAP 3D models, which `reconstruct` or other programs have made."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..descriptors.folder import read_descriptors
from ..files.progress import progress
from ..files.remote import named
from ..sfm.clusters import merge_models
from ..sfm.colmap import Database, Pair, photo_name
from ..sfm.descriptors import read_stored
from ..sfm.errors import ModelError
from ..sfm.models import ImageNames, model_folders, read_model, usable_models, warn_of_empty, warn_of_unknown
from ..sfm.report import Report, read_report
from ..sfm.work_folder import DATABASE
from .copies import CopyGroups, no_copies
from .data import Tuples, TuplesError, cluster_by_pairs
from .options import VERIFIED, TuplesOptions
from .positives import Positive, Views, camera_neighbours, choose_positives, read_views, views_of

log = logging.getLogger("keras_retrieval")


def from_reconstruction(
    work: Path, options: TuplesOptions, descriptors: Mapping[str, np.ndarray], copies: CopyGroups = no_copies
) -> Tuples:
    """Makes training tuples from the output folder of `reconstruct`; see `from_models` for the method.

    By the rule "verified" they are made from the pairs of photos that were verified instead: photos that these connect
    are a cluster, and the positives of a photo are those that it was verified with, or the `options.positives` of them
    with the most inliers.

    With `options.singletons`, each photo that was matched with others and verified with none is a cluster of its own.

    Args:
        work: folder of the reconstruction, which contains report.json. The report lists the clusters, the folders of
            their models, and the links between clusters that may show the same object.
        options: the options of `tuples`; `singletons` and those of `from_models` are used.
        descriptors: dict from the name of each photo to its descriptor, (D,) of unit length, for rule m1; empty for
            other rules.
        copies: finds copies of photos, which are not chosen as positives of each other.

    Raises:
        TuplesError: the report or a model cannot be read, or rule m1 lacks the descriptor of a photo.
    """
    report = _report(work)
    if options.rule == VERIFIED:
        tuples = _from_verified_pairs(work, report, options)
    else:
        tuples = _from_its_models(work, report, options, descriptors, copies)
    return _with_singletons(tuples, work, report) if options.singletons else tuples


def _from_its_models(
    work: Path, report: Report, options: TuplesOptions, descriptors: Mapping[str, np.ndarray], copies: CopyGroups
) -> Tuples:
    views = [
        [read_views(work / model["folder"], photo_name) for model in cluster["models"]]
        for cluster in report["clusters"]
    ]
    tuples = from_models(views, options, descriptors, copies)
    return replace(tuples, same_object=np.array(report["same_object"], np.int64).reshape(-1, 2))


def _from_verified_pairs(work: Path, report: Report, options: TuplesOptions) -> Tuples:
    placed = {photo for cluster in report["clusters"] for photo in cluster["photos"]}
    known, least = placed | set(report["left_out"]), report["options"]["min_inliers"]
    matches: dict[str, list[tuple[int, str]]] = {}
    for pair, count in _inliers(work).items():
        if count >= least and known.issuperset(pair):
            for one, other in (pair, pair[::-1]):
                matches.setdefault(one, []).append((-count, other))
    if not matches:
        raise TuplesError(f"{work / DATABASE}: no two photos were verified to match")
    images = sorted(matches)
    row = {name: number for number, name in enumerate(images)}
    pairs = [(row[one], row[other]) for one in images for _, other in sorted(matches[one])[: options.positives]]
    everything = np.array([(row[one], row[other]) for one in images for _, other in matches[one]], np.int64)
    cluster = cluster_by_pairs(len(images), everything[:, 0], everything[:, 1])
    queries, positives = np.array(sorted(pairs), np.int64).T
    return Tuples(images, cluster, queries, positives)


def _with_singletons(tuples: Tuples, work: Path, report: Report) -> Tuples:
    """Adds the photos that were matched with others and verified with none, each as a cluster without pairs."""
    matched: set[str] = set()
    verified: set[str] = set()
    for pair, count in _inliers(work).items():
        matched.update(pair)
        if count >= report["options"]["min_inliers"]:
            verified.update(pair)
    alone = sorted((matched - verified).intersection(report["left_out"]).difference(tuples.images))
    numbers = tuples.cluster.max(initial=-1) + 1 + np.arange(len(alone))
    near = tuples.details.get("camera_neighbours")
    details = {} if near is None else {"camera_neighbours": np.pad(near, ((0, len(alone)), (0, 0)), constant_values=-1)}
    return replace(
        tuples,
        images=[*tuples.images, *alone],
        cluster=np.concatenate([tuples.cluster, numbers]),
        details={**tuples.details, **details},
    )


def _inliers(work: Path) -> dict[Pair, int]:
    path = work / DATABASE
    if not path.is_file():
        raise TuplesError(f"{path} does not exist, in which `keras-retrieval reconstruct` keeps the verified pairs")
    return Database(path).inliers()


def reconstructed_photos(work: Path) -> Path:
    """Returns the folder of the photos that a reconstruction was made from.

    Args:
        work: folder of the reconstruction, which contains report.json.

    Raises:
        TuplesError: the report cannot be read.
    """
    return Path(_report(work)["photos"])


def _report(work: Path) -> Report:
    path = work / "report.json"
    try:
        return read_report(json.loads(path.read_text(encoding="utf-8")), path)
    except ValueError as error:
        raise TuplesError(f"{path} cannot be read ({error}): `keras-retrieval reconstruct` writes it again") from error


def from_other_models(
    source: Path, options: TuplesOptions, descriptors: Mapping[str, np.ndarray], copies: CopyGroups = no_copies
) -> Tuples:
    """Makes training tuples from the COLMAP models in a folder, which other programs have made.

    Each model is a cluster. `ImageNames` finds the photos of the images, among those in `options.photos` if that is
    set. Models without registered images are left out with a warning, as are images that are not among the photos.

    Args:
        source: the folder of the models.
        options: the options of `tuples`; `photos`, those of the intake and those of `from_models` are used.
        descriptors: dict from the name of each photo to its descriptor, (D,) of unit length, for rule m1; empty for
            other rules.
        copies: finds copies of photos, which are not chosen as positives of each other.

    Raises:
        TuplesError: a model is damaged, an image's photo cannot be found, no model has photos, the rule needs 2D points
            and no model has any, or rule m1 lacks the descriptor of a photo. The message names the model.
        PhotoFolderError: `options.photos` contains no photo.
    """
    if options.rule == VERIFIED:
        raise TuplesError(
            f"--rule {VERIFIED} needs a folder that `keras-retrieval reconstruct` made, and {source} is none"
        )
    folders = model_folders(source)
    warn_of_empty(folders, source)
    names = ImageNames(_photos(options))
    views: list[Views] = []
    try:
        for model in usable_models(map(read_model, folders)):
            photos = names.photos_of(model)
            if photos:
                views.append(_with_points(views_of(model, photos), model.folder, options.rule))
            else:
                log.warning(f"{model.folder}: none of its {len(model.names):,} images is a photo: it is left out")
    except ModelError as error:
        raise TuplesError(str(error)) from error
    warn_of_unknown(source, names.unknown)
    if not views:
        raise TuplesError(
            f"{source}: no photo is in its models: the first is {folders[0]}; give models with registered images"
            + (
                f", and their photos by --photos, which is now {options.photos and named(options.photos)}"
                if names.unknown
                else ""
            )
        )
    if options.rule != "m1" and not any(map(_has_points, views)):
        raise TuplesError(f"{folders[0]}{_POINTLESS.format(rule=options.rule)}")
    return from_models([[view] for view in views], options, descriptors, copies)


_POINTLESS = (
    " has no 2D points of 3D points, from which --rule {rule} chooses positives: use --rule m1 with --descriptors, or "
    "add points with COLMAP's point_triangulator"
)


def _photos(options: TuplesOptions) -> list[str] | None:
    if options.photos is None:
        return None
    intake = options.take(options.photos)
    log.info(intake.account)
    return intake.photos


def _has_points(views: Views) -> bool:
    return any(map(len, views.points))


def _with_points(views: Views, folder: Path, rule: str) -> Views:
    """Returns the views, and warns if no photo sees a point, although the rule needs points."""
    if rule != "m1" and not _has_points(views):
        log.warning(
            f"{folder}{_POINTLESS.format(rule=rule)}; its {len(views.names):,} photos are only negatives of others"
        )
    return views


def descriptors_for_m1(source: Path, folder: Path | None) -> dict[str, np.ndarray]:
    """Reads the descriptors by which rule m1 chooses positives, the photos with the nearest descriptors.

    Args:
        source: folder of a reconstruction. If `folder` is None, the descriptors that `reconstruct` computed last are
            read from this folder.
        folder: folder of descriptors that `extract` wrote; None to use those of the reconstruction.

    Returns:
        A dict from the name of each photo to its descriptor, (D,) of unit length.

    Raises:
        TuplesError: `folder` is None, and the reconstruction has no descriptors.
        FolderError: `folder` does not contain descriptors, or is damaged.
    """
    if folder is not None:
        shards, names, _ = read_descriptors(folder)
        return dict(zip(names, np.concatenate(shards), strict=True))
    made = source.glob("descriptors-*") if source.is_dir() else []
    folders = sorted(made, key=lambda folder: folder.stat().st_mtime)
    if not folders:
        raise TuplesError(f"--rule m1 needs descriptors and {source} has none: give --descriptors or another --rule")
    return read_stored(folders[-1])


def from_models(
    views: Sequence[Sequence[Views]],
    options: TuplesOptions,
    descriptors: Mapping[str, np.ndarray],
    copies: CopyGroups = no_copies,
) -> Tuples:
    """Makes training tuples from COLMAP models (Radenovic et al. ECCV 2016).

    Each photo of a model is a query, whose positives `choose_positives` chooses among the photos of the same model. For
    a photo that is in several models of a cluster, the model with most photos is used. Photos without positives remain
    in the tuples, because they may be negatives.

    Args:
        views: for each cluster its models; clusters that share a photo are merged.
        options: the options of `tuples`; `rule`, `cameras`, `positives`, `shared`, `scale_change` and `seed` are used.
        descriptors: dict from the name of each photo to its descriptor, (D,) of unit length, for rule m1; empty for
            other rules.
        copies: finds copies of photos, which are not chosen as positives of each other.

    Returns:
        The tuples. Their attribute `details` contains `shared` and `scale_change` of each pair and `camera_neighbours`
        of each photo, which the module `training_tuples.file` describes.

    Raises:
        TuplesError: rule m1 lacks the descriptor of a photo.
    """
    merged = merge_models([[name for view in some for name in view.names] for some in views])
    every = sorted({name for some in views for view in some for name in view.names})
    group = dict(zip(every, copies(every).tolist(), strict=True))
    images: list[str] = []
    cluster: list[int] = []
    pairs: dict[tuple[int, int], Positive] = {}
    near: dict[int, list[int]] = {}
    rng = np.random.default_rng(options.seed)
    with progress("positives", len(views), "models") as advance:
        for number, members in enumerate(merged):
            some = [view for member in members for view in views[member]]
            names = sorted({name for view in some for name in view.names})
            index = {name: len(images) + row for row, name in enumerate(names)}
            images += names
            cluster += [number] * len(names)
            for view in sorted(some, key=lambda view: (-len(view.names), view.names)):
                chosen = choose_positives(view, options, rng, descriptors, [group[name] for name in view.names])
                _add_view(view, chosen, options.cameras, index, pairs, near)
            advance(len(members))
    found = sorted(pairs)
    indexes = np.array(found, np.int64).reshape(-1, 2)
    details = {
        "shared": np.array([pairs[pair].shared for pair in found], np.float32),
        "scale_change": np.array([pairs[pair].scale_change for pair in found], np.float32),
        "camera_neighbours": _padded([near[row] for row in range(len(images))]),
    }
    return Tuples(images, np.array(cluster, np.int64), indexes[:, 0], indexes[:, 1], details=details)


def _add_view(
    view: Views,
    chosen: Sequence[Positive],
    cameras: int,
    index: Mapping[str, int],
    pairs: dict[tuple[int, int], Positive],
    near: dict[int, list[int]],
) -> None:
    """Adds the pairs and camera neighbours of a model's photos, except those of photos that `near` already contains.

    Args:
        view: the model.
        chosen: its pairs of a query and a positive.
        cameras: number of camera neighbours of a photo.
        index: dict from the name of a photo to its index in the tuples.
        pairs: dict from the indexes of query and positive to the pair, extended in place.
        near: dict from the index of a photo to those of its camera neighbours, extended in place.
    """
    rows = [index[name] for name in view.names]
    new = {number for number, row in enumerate(rows) if row not in near}
    neighbours = camera_neighbours(view.centres, cameras)
    near.update({rows[number]: [rows[other] for other in neighbours[number]] for number in new})
    for positive in chosen:
        if positive.query in new:
            pairs[rows[positive.query], rows[positive.positive]] = positive


def _padded(rows: Sequence[Sequence[int]]) -> np.ndarray:
    padded = np.full((len(rows), max(map(len, rows), default=0)), -1, np.int32)
    for row, numbers in enumerate(rows):
        padded[row, : len(numbers)] = numbers
    return padded

"""Tuples from COLMAP models, made by `reconstruct` or by other programs."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..descriptors.folder import read_descriptors
from ..files.progress import progress
from ..sfm.clusters import merge_models
from ..sfm.colmap import photo_name
from ..sfm.descriptors import read_stored
from ..sfm.report import Report, read_report
from .data import Tuples, TuplesError
from .options import TuplesOptions
from .positives import Positive, Views, camera_neighbours, choose_positives, read_views


def from_reconstruction(work: Path, options: TuplesOptions, descriptors: Mapping[str, np.ndarray]) -> Tuples:
    """Makes tuples from the report of `reconstruct`: its clusters, models and links; see `from_models`."""
    report = _report(work)
    folders = [[work / model["folder"] for model in cluster["models"]] for cluster in report["clusters"]]
    tuples = from_models(folders, options, descriptors, photo_name)
    return replace(tuples, same_object=np.array(report["same_object"], np.int64).reshape(-1, 2))


def reconstructed_photos(work: Path) -> Path:
    """Returns the folder of the photos that `reconstruct` processed in `work`."""
    return Path(_report(work)["photos"])


def _report(work: Path) -> Report:
    path = work / "report.json"
    try:
        return read_report(json.loads(path.read_text(encoding="utf-8")), path)
    except ValueError as error:
        raise TuplesError(f"{path} cannot be read ({error}): `keras-retrieval reconstruct` writes it again") from error


def model_folders(folder: Path) -> list[Path]:
    """Finds COLMAP models, binary or text, in `folder` and all folders below it; returns their folders, sorted."""
    return sorted({path.parent for ending in ("bin", "txt") for path in folder.rglob(f"points3D.{ending}")})


def descriptors_for_m1(source: Path, folder: Path | None) -> dict[str, np.ndarray]:
    """Reads the descriptors that rule m1 compares.

    Args:
        source: folder of a reconstruction, from which the newest descriptors are read if `folder` is None.
        folder: folder of descriptors that `extract` wrote, or None.

    Returns:
        A dict from the name of each photo to its descriptor, (D,) of unit length.

    Raises:
        TuplesError: no descriptors exist.
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
    clusters: Sequence[Sequence[Path]],
    options: TuplesOptions,
    descriptors: Mapping[str, np.ndarray],
    photo_name: Callable[[str], str] = str,
) -> Tuples:
    """Makes tuples from COLMAP models.

    Args:
        clusters: for each cluster the folders of its models; clusters that share a photo are merged.
        options: the options; those of `choose_positives` and `seed` are used.
        descriptors: dict from the name of each photo to its descriptor, for rule m1.
        photo_name: function from the name of an image in a model to the name of the photo.

    Returns:
        The tuples; `details` contains `shared` and `scale_change` of each pair and `camera_neighbours` of each photo.
    """
    views = [[read_views(folder, photo_name) for folder in folders] for folders in clusters]
    merged = merge_models([[name for view in some for name in view.names] for some in views])
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
                chosen = choose_positives(view, options, rng, descriptors)
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
    """Adds a model's pairs and camera neighbours, except for photos that a larger model has already given theirs."""
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

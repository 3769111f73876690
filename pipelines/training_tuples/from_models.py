"""Tuples from COLMAP models, of `reconstruct` or made elsewhere."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..files.progress import progress
from ..sfm.clusters import merge_models
from ..sfm.colmap import photo_name
from ..sfm.report import Report, read_report
from .file import Choice, Tuples, TuplesError
from .positives import Positive, Views, camera_neighbours, choose_positives, read_views


def from_reconstruction(work: Path, choice: Choice) -> Tuples:
    """Clusters, models and links as `reconstruct` reported them."""
    report = _report(work)
    folders = [[work / model["folder"] for model in cluster["models"]] for cluster in report["clusters"]]
    tuples = from_models(folders, choice, photo_name)
    return replace(tuples, same_object=np.array(report["same_object"], np.int64).reshape(-1, 2))


def reconstructed_photos(work: Path) -> Path:
    """The folder of photos that `reconstruct` was given."""
    return Path(_report(work)["photos"])


def _report(work: Path) -> Report:
    path = work / "report.json"
    try:
        return read_report(json.loads(path.read_text(encoding="utf-8")), path)
    except ValueError as error:
        raise TuplesError(f"{path} cannot be read ({error}): `keras-retrieval reconstruct` writes it anew") from error


def model_folders(folder: Path) -> list[Path]:
    """The folders in `folder`, or it itself, that hold a COLMAP model, binary or text, sorted."""
    return sorted({path.parent for ending in ("bin", "txt") for path in folder.rglob(f"points3D.{ending}")})


def from_models(clusters: Sequence[Sequence[Path]], choice: Choice, photo_name: Callable[[str], str] = str) -> Tuples:
    """COLMAP models, the folders of each cluster together; clusters that share a photo become one.

    The details hold, per pair, the share of the query's points that the positive sees and the change of scale, and
    per photo its camera neighbours.
    """
    views = [[read_views(folder, photo_name) for folder in folders] for folders in clusters]
    merged = merge_models([[name for view in some for name in view.names] for some in views])
    images: list[str] = []
    cluster: list[int] = []
    pairs: dict[tuple[int, int], Positive] = {}
    near: dict[int, list[int]] = {}
    rng = np.random.default_rng(choice.seed)
    with progress("positives", len(views), "models") as advance:
        for number, members in enumerate(merged):
            some = [view for member in members for view in views[member]]
            names = sorted({name for view in some for name in view.names})
            place = {name: len(images) + row for row, name in enumerate(names)}
            images += names
            cluster += [number] * len(names)
            for view in sorted(some, key=lambda view: (-len(view.names), view.names)):
                _add_view(view, choice, rng, place, pairs, near)
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
    choice: Choice,
    rng: np.random.Generator,
    place: Mapping[str, int],
    pairs: dict[tuple[int, int], Positive],
    near: dict[int, list[int]],
) -> None:
    """Adds a model's pairs and neighbours; a photo that a larger model holds keeps what it has there."""
    rows = [place[name] for name in view.names]
    fresh = {number for number, row in enumerate(rows) if row not in near}
    neighbours = camera_neighbours(view.centres, choice.rule.cameras)
    near.update({rows[number]: [rows[other] for other in neighbours[number]] for number in fresh})
    for positive in choose_positives(view, choice.rule, rng, choice.descriptors):
        if positive.query in fresh:
            pairs[rows[positive.query], rows[positive.positive]] = positive


def _padded(rows: Sequence[Sequence[int]]) -> np.ndarray:
    padded = np.full((len(rows), max(map(len, rows), default=0)), -1, np.int32)
    for row, numbers in enumerate(rows):
        padded[row, : len(numbers)] = numbers
    return padded

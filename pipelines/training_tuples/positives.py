"""Which photos of a 3D model are positives of each other: the rules m1, m2, m3 of Radenovic et al. ECCV 2016.

The candidates of a query are the photos of its model with the nearest cameras. m1 takes those with the nearest
descriptors, m2 those that see most of the query's points, m3 any of those that see enough of its points at a
similar scale, at random: these are neither as alike as those of m1 nor as close as those of m2, and teach most.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..sfm.colmap import load_colmap

RULES = ("m1", "m2", "m3")


@dataclass(frozen=True)
class Views:
    """What the photos of a model see.

    Attributes:
        names: of the m registered photos, sorted.
        centres: (m, 3) of their cameras.
        points: per photo the numbers of the 3D points it sees, rising.
        scales: per photo and point how large the point's surroundings appear: focal length / depth, the focal length
            as a share of the photo's longer side.
        point_count: of the model.
    """

    names: list[str]
    centres: np.ndarray
    points: list[np.ndarray]
    scales: list[np.ndarray]
    point_count: int


@dataclass(frozen=True)
class Rule:
    """How positives are chosen.

    Attributes:
        name: one of `RULES`.
        cameras: how many nearest cameras are candidates.
        shared: the least share of the query's points that a positive of m3 sees.
        scale_change: the largest median ratio of scales, or its inverse, of m3.
        positives: how many of each query at most.
    """

    name: str = "m3"
    cameras: int = 100
    shared: float = 0.2
    scale_change: float = 1.5
    positives: int = 3


@dataclass(frozen=True)
class Positive:
    """A pair of photos of a model, by their numbers in `Views.names`."""

    query: int
    positive: int
    shared: float
    scale_change: float


def read_views(folder: Path, photo_name: Callable[[str], str] = str) -> Views:
    """Reads a COLMAP model, binary or text.

    Args:
        folder: of the model.
        photo_name: turns the names of its images into those of the photos.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        model = load_colmap().Reconstruction(folder)
    except (ValueError, RuntimeError, IndexError) as error:
        raise ValueError(f"{folder} cannot be read as a COLMAP model: {error}") from error
    ids = np.array(sorted(model.points3D), np.int64)
    spots = np.array([model.points3D[number].xyz for number in ids.tolist()]).reshape(-1, 3)
    images = sorted(
        (model.images[number] for number in model.reg_image_ids()), key=lambda image: photo_name(image.name)
    )
    points, scales = [], []
    for image in images:
        seen = np.unique([point.point3D_id for point in image.get_observation_points2D()]).astype(np.int64)
        rows = np.searchsorted(ids, seen)
        pose = image.cam_from_world()
        depth = spots[rows] @ pose.rotation.matrix()[2] + pose.translation[2]
        focal = image.camera.mean_focal_length() / max(image.camera.width, image.camera.height)
        points.append(rows[depth > 0])
        scales.append(focal / depth[depth > 0])
    centres = np.array([image.projection_center() for image in images]).reshape(-1, 3)
    return Views([photo_name(image.name) for image in images], centres, points, scales, len(ids))


def camera_neighbours(centres: np.ndarray, k: int) -> np.ndarray:
    """The cameras nearest to each, without itself.

    Args:
        centres: (m, 3).
        k: how many.

    Returns:
        (m, min(k, m - 1)) int64, nearest first.
    """
    found = []
    for row, centre in enumerate(centres):
        distance = np.linalg.norm(centres - centre, axis=1)
        distance[row] = np.inf
        found.append(np.argsort(distance, kind="stable")[: min(k, len(centres) - 1)])
    return np.array(found, np.int64).reshape(len(centres), -1)


def overlaps(views: Views, query: int, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a query has in common with other photos of its model.

    Args:
        views: of the model.
        query: the number of a photo.
        candidates: (n,) numbers of others.

    Returns:
        (n,) the share of the query's points that each of them sees, and (n,) the median, over these points, of the
        ratio of scales, or its inverse where it is below 1; inf where no point is shared.
    """
    scale = np.full(views.point_count, np.nan)
    scale[views.points[query]] = views.scales[query]
    shared, change = np.zeros(len(candidates)), np.full(len(candidates), np.inf)
    for row, other in enumerate(candidates):
        ratios = views.scales[other] / scale[views.points[other]]
        ratios = ratios[~np.isnan(ratios)]
        if len(ratios):
            middle = np.median(ratios)
            shared[row], change[row] = len(ratios) / len(views.points[query]), max(middle, 1 / middle)
    return shared, change


def choose_positives(
    views: Views, rule: Rule, rng: np.random.Generator, rows: Mapping[str, np.ndarray] | None = None
) -> list[Positive]:
    """Chooses the positives of every photo of a model.

    Args:
        views: of the model.
        rule: the rule and its thresholds.
        rng: for m3.
        rows: for m1, each photo's descriptor, a unit row.

    Returns:
        The pairs, query after query. A photo without candidates is no query.

    Raises:
        ValueError: a photo has no descriptor, for m1.
    """
    neighbours = camera_neighbours(views.centres, rule.cameras)
    descriptors = _descriptors(views.names, rows or {}) if rule.name == "m1" else None
    chosen = []
    for query, candidates in enumerate(neighbours):
        shared, change = overlaps(views, query, candidates)
        if descriptors is not None:
            order = np.argsort(-(descriptors[candidates] @ descriptors[query]), kind="stable")
        elif rule.name == "m2":
            order = np.argsort(-shared, kind="stable")[: np.count_nonzero(shared)]
        else:
            order = rng.permutation(np.flatnonzero((shared >= rule.shared) & (change <= rule.scale_change)))
        chosen += [
            Positive(query, int(candidates[row]), float(shared[row]), float(change[row]))
            for row in order[: rule.positives]
        ]
    return chosen


def _descriptors(names: Sequence[str], rows: Mapping[str, np.ndarray]) -> np.ndarray:
    missing = [name for name in names if name not in rows]
    if missing:
        raise ValueError(
            f"rule m1 needs a descriptor of every photo; {len(missing)} have none, the first: {missing[0]}"
        )
    return np.stack([rows[name] for name in names])

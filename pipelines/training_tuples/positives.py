"""The rules m1, m2 and m3 for positives within a 3D model (Radenovic et al. ECCV 2016).

The candidates for a query are the photos of its model with the nearest cameras. m1 takes the candidates with the
nearest descriptors, and m2 those that see most of the query's 3D points. m3 draws at random from the candidates that
see enough of its points at a similar scale: these are less similar to the query than the positives of m1, their
viewpoints are farther from it than those of m2, and they improve training most.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..sfm.colmap import load_colmap
from .data import TuplesError
from .options import TuplesOptions


@dataclass(frozen=True)
class Views:
    """The 3D points visible in each photo of a model, and their scales.

    Attributes:
        names: the names of the m registered photos, sorted.
        centres: (m, 3) positions of the cameras' centres.
        points: for each photo, the sorted numbers of the 3D points that it sees.
        scales: for each photo, the scale at which each of its points appears: focal length / depth, with the focal
            length as a share of the photo's longer side.
        point_count: number of 3D points of the model.
    """

    names: list[str]
    centres: np.ndarray
    points: list[np.ndarray]
    scales: list[np.ndarray]
    point_count: int


@dataclass(frozen=True)
class Positive:
    """A pair of a query and a positive.

    Attributes:
        query: index of the query in `Views.names`.
        positive: index of the positive in `Views.names`.
        shared: share of the query's points that the positive sees.
        scale_change: median ratio, at least 1, of the scales of the common points in the two photos.
    """

    query: int
    positive: int
    shared: float
    scale_change: float


def read_views(folder: Path, photo_name: Callable[[str], str] = str) -> Views:
    """Reads a COLMAP model, binary or text.

    Args:
        folder: folder of the model.
        photo_name: function from the name of an image in the model to the name of the photo.

    Raises:
        TuplesError: the model cannot be read.
    """
    try:
        model = load_colmap().Reconstruction(folder)
    except (ValueError, RuntimeError, IndexError) as error:
        raise TuplesError(f"{folder} cannot be read as a COLMAP model: {error}") from error
    ids = np.array(sorted(model.points3D), np.int64)
    positions = np.array([model.points3D[number].xyz for number in ids.tolist()]).reshape(-1, 3)
    images = sorted(
        (model.images[number] for number in model.reg_image_ids()), key=lambda image: photo_name(image.name)
    )
    points, scales = [], []
    for image in images:
        seen = np.unique([point.point3D_id for point in image.get_observation_points2D()]).astype(np.int64)
        rows = np.searchsorted(ids, seen)
        pose = image.cam_from_world()
        depth = positions[rows] @ pose.rotation.matrix()[2] + pose.translation[2]
        focal = image.camera.mean_focal_length() / max(image.camera.width, image.camera.height)
        points.append(rows[depth > 0])
        scales.append(focal / depth[depth > 0])
    centres = np.array([image.projection_center() for image in images]).reshape(-1, 3)
    return Views([photo_name(image.name) for image in images], centres, points, scales, len(ids))


def camera_neighbours(centres: np.ndarray, k: int) -> np.ndarray:
    """Finds the nearest other cameras of each camera.

    Args:
        centres: (m, 3) positions of the cameras' centres.
        k: number of neighbours.

    Returns:
        (m, min(k, m - 1)) int64 array of indexes of cameras, nearest first.
    """
    found = []
    for row, centre in enumerate(centres):
        distance = np.linalg.norm(centres - centre, axis=1)
        distance[row] = np.inf
        found.append(np.argsort(distance, kind="stable")[: min(k, len(centres) - 1)])
    return np.array(found, np.int64).reshape(len(centres), -1)


def overlaps(views: Views, query: int, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compares the 3D points that a query and other photos of its model see.

    Args:
        views: the views of the model.
        query: index of the query.
        candidates: (n,) indexes of other photos.

    Returns:
        Two (n,) arrays, the share of the query's points that each candidate sees, and the median ratio of the scales of
        these points in the two photos, inverted where it is below 1 and infinite where no point is shared.
    """
    scale = np.full(views.point_count, np.nan)
    scale[views.points[query]] = views.scales[query]
    shared, change = np.zeros(len(candidates)), np.full(len(candidates), np.inf)
    for row, other in enumerate(candidates):
        ratios = views.scales[other] / scale[views.points[other]]
        ratios = ratios[~np.isnan(ratios)]
        if len(ratios):
            median = np.median(ratios)
            shared[row], change[row] = len(ratios) / len(views.points[query]), max(median, 1 / median)
    return shared, change


def choose_positives(
    views: Views, options: TuplesOptions, rng: np.random.Generator, descriptors: Mapping[str, np.ndarray] | None = None
) -> list[Positive]:
    """Chooses the positives of every photo of a model.

    Args:
        views: the views of the model.
        options: the options; `rule`, `cameras`, `positives`, and for m3 `shared` and `scale_change` are used.
        rng: random generator for m3.
        descriptors: for m1, dict from the name of each photo to its descriptor, (D,) of unit length.

    Returns:
        The pairs, ordered by query. A photo without positives is not a query.

    Raises:
        TuplesError: the rule is m1, and a photo has no descriptor.
    """
    neighbours = camera_neighbours(views.centres, options.cameras)
    rows = _rows(views.names, descriptors or {}) if options.rule == "m1" else None
    chosen = []
    for query, candidates in enumerate(neighbours):
        shared, change = overlaps(views, query, candidates)
        if rows is not None:
            order = np.argsort(-(rows[candidates] @ rows[query]), kind="stable")
        elif options.rule == "m2":
            order = np.argsort(-shared, kind="stable")[: np.count_nonzero(shared)]
        else:
            order = rng.permutation(np.flatnonzero((shared >= options.shared) & (change <= options.scale_change)))
        chosen += [
            Positive(query, int(candidates[row]), float(shared[row]), float(change[row]))
            for row in order[: options.positives_per_query]
        ]
    return chosen


def _rows(names: Sequence[str], descriptors: Mapping[str, np.ndarray]) -> np.ndarray:
    missing = [name for name in names if name not in descriptors]
    if missing:
        raise TuplesError(
            f"--rule m1 needs a descriptor of every photo; {len(missing)} have none, the first: {missing[0]}"
        )
    return np.stack([descriptors[name] for name in names])

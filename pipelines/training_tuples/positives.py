"""The rules m1, m2 and m3, which choose the positives of a query within a 3D model (Radenovic et al. ECCV 2016).

The candidates for positives are the photos of the query's model with the nearest cameras. m1 chooses the candidates
with the nearest descriptors. m2 chooses the candidates in which most of the query's 3D points are visible. m3 chooses
at random among the candidates in which enough of the query's 3D points are visible at a similar scale. The positives of
m3 are less similar to the query than those of m1, and their viewpoints are farther from the query's viewpoint than
those of m2; training with them gives the best results in the paper.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..sfm.errors import ModelError
from ..sfm.models import ColmapModel, read_model
from .data import TuplesError
from .options import TuplesOptions


@dataclass(frozen=True)
class Views:
    """The cameras of a 3D model and, for each photo, the visible 3D points and their scales.

    Attributes:
        names: the names of the m registered photos, sorted.
        centres: (m, 3) the camera centre of each photo, in the coordinates of the model.
        points: for each photo, the sorted indexes of the 3D points that are visible in it, in 0..point_count-1.
        scales: for each photo, the scale at which each of these points appears: the focal length, as a fraction of the
            longer side of the photo, divided by the depth of the point in units of the model.
        point_count: number of 3D points of the model.
    """

    names: list[str]
    centres: np.ndarray
    points: list[np.ndarray]
    scales: list[np.ndarray]
    point_count: int


@dataclass(frozen=True)
class Positive:
    """A pair of a query and a positive from the same 3D model.

    Attributes:
        query: index of the query in `Views.names`.
        positive: index of the positive in `Views.names`.
        shared: fraction of the 3D points visible in the query that are also visible in the positive, 0..1.
        scale_change: median ratio of the scales at which the common 3D points appear in the two photos, inverted if it
            is below 1; infinite without common points.
    """

    query: int
    positive: int
    shared: float
    scale_change: float


def read_views(folder: Path, photo_name: Callable[[str], str] = str) -> Views:
    """Reads the cameras and the visible 3D points of the photos of a COLMAP model.

    Args:
        folder: folder of the model, in COLMAP's binary or text format.
        photo_name: function that maps the name of an image in the model to the name of the photo; by default both names
            are equal.

    Returns:
        The registered photos with their cameras and visible points. Points behind a camera are ignored.

    Raises:
        TuplesError: the model cannot be read.
    """
    try:
        model = read_model(folder)
    except ModelError as error:
        raise TuplesError(str(error)) from error
    return views_of(model, {number: photo_name(name) for number, name in model.names.items()})


def views_of(model: ColmapModel, photos: Mapping[int, str]) -> Views:
    """Returns the cameras and the visible 3D points of photos of a COLMAP model.

    Args:
        model: the model.
        photos: maps the IDs of its images to the names of the photos; other images are left out.

    Returns:
        The photos with their cameras and visible points. Points behind a camera, and observations of points that the
        model lacks, are ignored.

    Raises:
        TuplesError: the position of a camera is not finite.
    """
    colmap = model.colmap
    ids = np.array(sorted(colmap.points3D), np.int64)
    positions = np.array([colmap.points3D[number].xyz for number in ids.tolist()]).reshape(-1, 3)
    numbers = sorted(photos, key=photos.__getitem__)
    points, scales = [], []
    for image in (colmap.images[number] for number in numbers):
        seen = np.unique([point.point3D_id for point in image.get_observation_points2D()]).astype(np.int64)
        seen = seen[np.isin(seen, ids)]
        rows = np.searchsorted(ids, seen)
        pose = image.cam_from_world()
        depth = positions[rows] @ pose.rotation.matrix()[2] + pose.translation[2]
        focal = image.camera.mean_focal_length() / max(image.camera.width, image.camera.height)
        points.append(rows[depth > 0])
        scales.append(focal / depth[depth > 0])
    centres = np.array([colmap.images[number].projection_center() for number in numbers]).reshape(-1, 3)
    wrong = np.flatnonzero(~np.isfinite(centres).all(axis=1))
    if len(wrong):
        raise TuplesError(
            f"{model.folder}: the camera of {photos[numbers[wrong[0]]]} has no finite position: remove the image "
            "from the model"
        )
    return Views([photos[number] for number in numbers], centres, points, scales, len(ids))


def camera_neighbours(centres: np.ndarray, k: int) -> np.ndarray:
    """Finds the k nearest other cameras of each camera of a 3D model, by the distance of the camera centres.

    Args:
        centres: the centre of each camera, (m, 3).
        k: number of neighbours.

    Returns:
        The indexes of the nearest cameras, (m, min(k, m - 1)) int64, nearest first.
    """
    found = []
    for row, centre in enumerate(centres):
        distance = np.linalg.norm(centres - centre, axis=1)
        distance[row] = np.inf
        found.append(np.argsort(distance, kind="stable")[: min(k, len(centres) - 1)])
    return np.array(found, np.int64).reshape(len(centres), -1)


def overlaps(views: Views, query: int, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compares the 3D points that are visible in a query with those visible in other photos of its model.

    Args:
        views: the photos of the model and their 3D points.
        query: index of the query in `views.names`.
        candidates: indexes of the other photos in `views.names`, (n,) integers.

    Returns:
        Two arrays (n,) float64. The first contains the fraction of the query's points that are also visible in each
        candidate. The second contains the median ratio of the scales at which these common points appear in the two
        photos, inverted if it is below 1, and infinity for a candidate without common points.
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
    views: Views,
    options: TuplesOptions,
    rng: np.random.Generator,
    descriptors: Mapping[str, np.ndarray] | None = None,
    copies: Sequence[int] | None = None,
) -> list[Positive]:
    """Chooses the positives of every photo of a 3D model, by one of the rules m1, m2 and m3 (see this module).

    Args:
        views: the photos of the model and their 3D points.
        options: the options of `tuples`; `rule`, `cameras`, `positives`, and for rule m3 `shared` and `scale_change`,
            are used.
        rng: random generator for rule m3.
        descriptors: dict from the name of each photo to its descriptor, (D,) of unit length, for rule m1; may be None
            for other rules.
        copies: the number of each photo's group of copies, -1 for none; None if no photo has a copy. Photos of one
            group are not chosen as positives of each other.

    Returns:
        The pairs of a query and a positive, ordered by query. A photo without positives is in no pair as the query.

    Raises:
        TuplesError: the rule is m1, and a photo has no descriptor.
    """
    neighbours = camera_neighbours(views.centres, options.cameras)
    rows = _rows(views.names, descriptors or {}) if options.rule == "m1" else None
    group = np.full(len(views.names), -1) if copies is None else np.array(copies, np.int64)
    chosen = []
    for query, nearest in enumerate(neighbours):
        candidates = nearest[(group[nearest] < 0) | (group[nearest] != group[query])]
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

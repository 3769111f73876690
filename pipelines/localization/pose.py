"""Computes the camera pose of a photo from matches of its features with 3D points."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_retrieval.local_features.matching import mutual_nearest

from ..sfm.colmap import load_colmap
from .mapped_features import MappedFeatures

FEWEST_MATCHES = 4


@dataclass(frozen=True)
class PoseSettings:
    """How features are matched and poses are estimated.

    Attributes:
        smallest_cosine: smallest cosine similarity of two matched features.
        largest_ratio: largest ratio of the angle between matched features to that with the second nearest feature; None
            for no limit.
        error: largest reprojection error of an inlier in pixels, in a photo whose longest side is 1,024 pixels; in
            proportion to the side for other photos.
        seed: random seed of RANSAC.
    """

    smallest_cosine: float
    largest_ratio: float | None
    error: float = 6.0
    seed: int = 0


@dataclass(frozen=True)
class Pose:
    """A camera pose, from coordinates of the model to those of the camera: x right, y down, z ahead.

    Attributes:
        rotation: unit quaternion w, x, y, z.
        translation: x, y, z; in the unit of the model.
        centre: the position of the camera in the coordinates of the model.
        camera: the camera, a `pycolmap.Camera` whose focal length and distortion may have been refined.
        inliers: the number of matches that agree with the pose, each of another 3D point.
        matches: the number of matches of features with 3D points.
    """

    rotation: tuple[float, float, float, float]
    translation: tuple[float, float, float]
    centre: tuple[float, float, float]
    camera: Any
    inliers: int
    matches: int


def match_points(
    descriptors: np.ndarray, photos: Sequence[MappedFeatures], settings: PoseSettings
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matches the features of a photo with the 3D points that features of photos of a model observe.

    Args:
        descriptors: the L2-normalised descriptors of the photo's features, (n, D) float32.
        photos: the features of photos of the model.
        settings: how features are matched.

    Returns:
        The rows of the features, (m,), and the IDs (m,) and positions (m, 3) of their 3D points. A feature may be
        matched with several points, and a point with several features, but each pair occurs once.
    """
    rows, points, places = [], [], []
    space = np.empty(len(descriptors) * max((len(photo.points) for photo in photos), default=0), np.float32)
    for photo in photos:
        ours, theirs = mutual_nearest(
            descriptors, photo.descriptors, settings.smallest_cosine, space, largest_ratio=settings.largest_ratio
        )
        rows.append(ours)
        points.append(photo.points[theirs])
        places.append(photo.places[theirs])
    pairs = np.stack([np.concatenate(rows), np.concatenate(points)], axis=1)
    _, first = np.unique(pairs, axis=0, return_index=True)
    first.sort()
    return pairs[first, 0], pairs[first, 1], np.concatenate(places)[first]


def estimate_pose(
    keypoints: np.ndarray, points: np.ndarray, places: np.ndarray, camera: Any, settings: PoseSettings, *, known: bool
) -> Pose | None:
    """Estimates a pose with COLMAP's LO-RANSAC, and refines it together with what is unknown of the camera.

    Args:
        keypoints: the positions in the photo, (m, 2), in pixels; the centre of the first pixel is at 0.5.
        points: the IDs of their 3D points, (m,).
        places: the positions of the points, (m, 3).
        camera: the camera, a `pycolmap.Camera`, which is not changed.
        settings: the largest error and the random seed.
        known: whether the camera is known exactly. If not, its distortion is refined, and its focal length too, which
            is estimated unless the camera has one of the photo's metadata.

    Returns:
        The pose; None if no pose has any inliers.
    """
    if len(keypoints) < FEWEST_MATCHES:
        return None
    colmap = load_colmap()
    camera = colmap.Camera(camera.todict())
    estimation = colmap.AbsolutePoseEstimationOptions(
        estimate_focal_length=not known and not camera.has_prior_focal_length
    )
    estimation.ransac.max_error = settings.error * max(camera.width, camera.height) / 1024
    estimation.ransac.random_seed = settings.seed
    refinement = colmap.AbsolutePoseRefinementOptions(refine_focal_length=not known, refine_extra_params=not known)
    found = colmap.estimate_and_refine_absolute_pose(
        keypoints.astype(np.float64), places.astype(np.float64), camera, estimation, refinement
    )
    if found is None:
        return None
    pose = found["cam_from_world"]
    x, y, z, w = pose.rotation.quat.tolist()
    mask = np.asarray(found["inlier_mask"], bool)
    centre = -pose.rotation.matrix().T @ pose.translation
    values = np.concatenate([pose.rotation.quat, pose.translation, centre])
    if not np.isfinite(values).all():
        return None
    return Pose(
        rotation=(w, x, y, z),
        translation=tuple(pose.translation.tolist()),
        centre=tuple(centre.tolist()),
        camera=camera,
        inliers=len(np.unique(points[mask])),
        matches=len(keypoints),
    )

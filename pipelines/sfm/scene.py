"""Reads the points and cameras of a COLMAP model as arrays, and encodes them for the 3D viewer of the page."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .colmap import load_colmap, photo_name

_FRUSTUM = (0.03, 0.1)  # bounds of a camera's length; the model's radius is 1
_EYE = 2.1  # distance of the first view from the middle of the model


@dataclass(frozen=True)
class Scene:
    """The n points and m cameras of a COLMAP model, in the coordinates and the arbitrary unit of the model.

    Attributes:
        points: the positions of the points, (n, 3).
        colours: the RGB colours of the points, (n, 3) uint8.
        centres: the positions of the cameras, (m, 3).
        ahead: unit vectors in the viewing directions of the cameras, (m, 3).
        upward: unit vectors towards the top of the photos, (m, 3).
        spans: half the width and half the height of each camera's image plane at distance 1, (m, 2).
        names: the names of the cameras' photos.
    """

    points: np.ndarray
    colours: np.ndarray
    centres: np.ndarray
    ahead: np.ndarray
    upward: np.ndarray
    spans: np.ndarray
    names: Sequence[str]


def read_scene(folder: Path) -> Scene:
    """Reads the points and cameras of a COLMAP model.

    Args:
        folder: the folder with cameras.bin, images.bin and points3D.bin.

    Returns:
        The points, and the cameras of the registered photos.

    Raises:
        MissingExtraError: pycolmap is not installed.
    """
    model = load_colmap().Reconstruction(folder)
    found = list(model.points3D.values())
    images = [model.images[number] for number in sorted(model.reg_image_ids())]
    cameras = [model.cameras[image.camera_id] for image in images]
    turns = np.array([image.cam_from_world().rotation.matrix() for image in images]).reshape(-1, 3, 3)
    sides = np.array([(camera.width, camera.height) for camera in cameras], float).reshape(-1, 2)
    focal = np.array([camera.mean_focal_length() for camera in cameras]).reshape(-1, 1)
    return Scene(
        points=np.array([point.xyz for point in found]).reshape(-1, 3),
        colours=np.array([point.color for point in found], np.uint8).reshape(-1, 3),
        centres=np.array([image.projection_center() for image in images]).reshape(-1, 3),
        ahead=turns[:, 2],
        upward=-turns[:, 1],
        spans=sides / 2 / focal,
        names=[photo_name(image.name) for image in images],
    )


def mean_up(scene: Scene) -> np.ndarray:
    """Computes the mean upward direction of the photos, a unit vector (3,); -y if the directions cancel out."""
    up = scene.upward.mean(0)
    length = np.linalg.norm(up)
    return up / length if length > 1e-9 else np.array([0.0, -1.0, 0.0])


def for_viewer(scene: Scene, most: int, photos: Mapping[str, int]) -> dict[str, Any]:
    """Encodes a model for the 3D viewer of the page.

    The model is rotated so that the mean upward direction of the photos is +y, moved so that the median of its points
    is the origin, and scaled so that 98 % of the cameras and 90 % of the points are within distance 1 of the origin.

    Args:
        scene: the points and cameras of the model, with at least one camera.
        most: the largest number of points to encode; a larger model is subsampled at random.
        photos: maps the name of each photo that the page shows to its number on the page.

    Returns:
        A dict, serialisable as JSON, with the entries "points" (float32 x, y, z) and "colours" (uint8 RGB), both in
        base64; "cameras", a list of dicts with "name", "photo" (the number on the page, or None) and "frustum" (the
        positions of the camera and of the 4 corners of its image plane, clockwise from the upper left); and "eye", the
        viewer's initial position.
    """
    kept = np.arange(len(scene.points))
    if len(kept) > most:
        kept = np.sort(np.random.default_rng(0).choice(len(kept), most, replace=False))
    turn = _upright(mean_up(scene))
    middle = np.median(scene.points if len(scene.points) else scene.centres, axis=0)
    radii = [_radius(scene.centres - middle, 98), _radius(scene.points - middle, 90)]
    scale = 1 / max(*radii, 1e-9)
    points = ((scene.points[kept] - middle) * scale) @ turn.T
    centres = ((scene.centres - middle) * scale) @ turn.T
    corners = _corners(scene, _length(centres)) @ turn.T + centres[:, None]
    frusta = np.concatenate([centres[:, None], corners], axis=1)
    return {
        "points": base64.b64encode(points.astype("<f4").tobytes()).decode(),
        "colours": base64.b64encode(scene.colours[kept].tobytes()).decode(),
        "cameras": [
            {"name": name, "photo": photos.get(name), "frustum": frustum.round(4).tolist()}
            for name, frustum in zip(scene.names, frusta, strict=True)
        ],
        "eye": _first_view(centres).round(4).tolist(),
    }


def _upright(up: np.ndarray) -> np.ndarray:
    """Computes a rotation (3, 3) that maps the unit vector `up` to +y."""
    aside = np.eye(3)[np.argmin(np.abs(up))]
    right = np.cross(aside, up)
    right /= np.linalg.norm(right)
    return np.stack([right, up, np.cross(right, up)])


def _radius(places: np.ndarray, share: float) -> float:
    """Computes the distance from the origin within which `share` percent of the positions (n, 3) are."""
    return float(np.percentile(np.linalg.norm(places, axis=1), share)) if len(places) else 0.0


def _length(centres: np.ndarray) -> float:
    """Computes the drawn length of cameras, about half the distance of neighbours, so that they do not overlap."""
    if len(centres) < 2:
        return _FRUSTUM[1]
    some = centres[:1000]
    apart = np.linalg.norm(some[:, None] - some[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    return float(np.clip(0.6 * np.median(apart.min(0)), *_FRUSTUM))


def _corners(scene: Scene, length: float) -> np.ndarray:
    """Computes the corners (m, 4, 3) of the cameras' image planes at distance `length`, relative to the cameras."""
    right = np.cross(scene.ahead, scene.upward)
    wide, high = (scene.spans[:, side, None] * vectors for side, vectors in enumerate((right, scene.upward)))
    signs = [(-1, 1), (1, 1), (1, -1), (-1, -1)]
    return length * np.stack([scene.ahead + x * wide + y * high for x, y in signs], axis=1)


def _first_view(centres: np.ndarray) -> np.ndarray:
    """Computes the initial position of the viewer, on the side of the cameras and a little above the centre."""
    side = centres.mean(0) * (1, 0, 1)
    length = np.linalg.norm(side)
    side = side / length if length > 0.1 else np.array([0.0, 0.0, 1.0])
    view = side + np.array([0, 0.45, 0])
    return _EYE * view / np.linalg.norm(view)

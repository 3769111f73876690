"""The points and cameras of a COLMAP model as arrays, and their encoding for the page's 3D viewer."""

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
    """Points and cameras of a model.

    Attributes:
        points: (n, 3) positions of the points, in the model's own unit.
        colours: (n, 3) uint8 RGB colours of the points.
        centres: (m, 3) positions of the cameras' centres.
        ahead: (m, 3) unit vectors in the cameras' viewing directions.
        upward: (m, 3) unit vectors towards the top of the photos.
        spans: (m, 2) half the width and half the height of each photo at distance 1 from its camera.
        names: (m,) names of the photos.
    """

    points: np.ndarray
    colours: np.ndarray
    centres: np.ndarray
    ahead: np.ndarray
    upward: np.ndarray
    spans: np.ndarray
    names: Sequence[str]


def read_scene(folder: Path) -> Scene:
    """Reads the points and cameras of the COLMAP model in a folder."""
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
    """Returns the mean upward direction of the photos, a unit vector of shape (3,)."""
    up = scene.upward.mean(0)
    length = np.linalg.norm(up)
    return up / length if length > 1e-9 else np.array([0.0, -1.0, 0.0])


def for_viewer(scene: Scene, most: int, photos: Mapping[str, int]) -> dict[str, Any]:
    """Encodes a model for the page's 3D viewer.

    The model is rotated so that the mean upward direction of the photos is +y, moved so that the median of its points
    is the origin, and scaled so that nearly all cameras and 90 % of the points lie within distance 1 of it.

    Args:
        scene: a scene with at least one camera.
        most: maximum number of points; a larger model is subsampled at random.
        photos: dict from the name of each photo that the page shows to its number.

    Returns:
        JSON-able dict with `points` (float32, xyz) and `colours` (uint8, RGB) in base64; `cameras`, each with its name,
        its photo's number or None, and its frustum (the centre and 4 corners, clockwise from the upper left); `eye`,
        the position of the initial view.
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
    """A rotation (3, 3) that takes `up` to +y."""
    aside = np.eye(3)[np.argmin(np.abs(up))]
    right = np.cross(aside, up)
    right /= np.linalg.norm(right)
    return np.stack([right, up, np.cross(right, up)])


def _radius(places: np.ndarray, share: float) -> float:
    """The distance from the origin within which `share` % of the places lie."""
    return float(np.percentile(np.linalg.norm(places, axis=1), share)) if len(places) else 0.0


def _length(centres: np.ndarray) -> float:
    """The length of cameras: about half the distance between neighbours, so that they do not hide each other."""
    if len(centres) < 2:
        return _FRUSTUM[1]
    some = centres[:1000]
    apart = np.linalg.norm(some[:, None] - some[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    return float(np.clip(0.6 * np.median(apart.min(0)), *_FRUSTUM))


def _corners(scene: Scene, length: float) -> np.ndarray:
    """The corners (m, 4, 3) of the photos before the cameras, relative to these."""
    right = np.cross(scene.ahead, scene.upward)
    wide, high = (scene.spans[:, side, None] * vectors for side, vectors in enumerate((right, scene.upward)))
    signs = [(-1, 1), (1, 1), (1, -1), (-1, -1)]
    return length * np.stack([scene.ahead + x * wide + y * high for x, y in signs], axis=1)


def _first_view(centres: np.ndarray) -> np.ndarray:
    """The viewpoint of the viewer: on the side of the cameras, a little above the middle."""
    side = centres.mean(0) * (1, 0, 1)
    length = np.linalg.norm(side)
    side = side / length if length > 0.1 else np.array([0.0, 0.0, 1.0])
    view = side + np.array([0, 0.45, 0])
    return _EYE * view / np.linalg.norm(view)

"""Draws the plan view of a 3D model: points in their colours, cameras as wedges that open in the viewing direction."""

import numpy as np
from PIL import Image, ImageDraw

from .scene import Scene, mean_up

PAPER, INK = (250, 250, 248), (200, 40, 40)
_FINER = 3  # the picture is drawn larger by this factor, then shrunk
_DOT = 5  # side of a point, in pixels of the larger drawing
_MARGIN = 0.06  # of the picture's sides
_KEPT = (2.0, 98.0)  # percentiles of the points that must fit in the picture
_WEDGE = 0.035  # a camera's length as a share of the picture's longer side


def plan_view(scene: Scene, width: int = 440, height: int = 330) -> Image.Image:
    """Draws a 3D model as seen from above, where the mean upward direction of its photos is up.

    Args:
        scene: the points and cameras of the model, with at least one camera.
        width: the width of the picture in pixels.
        height: the height of the picture in pixels.

    Returns:
        The picture in RGB.
    """
    axes = _ground(scene)
    points, centres, ahead = scene.points @ axes.T, scene.centres @ axes.T, scene.ahead @ axes.T
    scale, middle = _fit(points, centres, width, height)
    half = np.array([width, height]) / 2

    def place(positions: np.ndarray) -> np.ndarray:
        return ((positions - middle) * scale * (1, -1) + half) * _FINER

    picture = Image.fromarray(_dots(place(points), scene.colours, width * _FINER, height * _FINER))
    _wedges(ImageDraw.Draw(picture), place(centres), ahead * (1, -1), _WEDGE * max(width, height) * _FINER)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _ground(scene: Scene) -> np.ndarray:
    """Computes two orthogonal axes (2, 3) of the ground plane, the first along the model's longer side."""
    up = mean_up(scene)
    places = np.concatenate([scene.points, scene.centres])
    flat = places - np.median(places, axis=0)
    flat -= np.outer(flat @ up, up)
    radius = np.linalg.norm(flat, axis=1)
    near = flat[radius <= np.percentile(radius, 90)]
    _, directions = np.linalg.eigh(near.T @ near)
    right = directions[:, -1] - (directions[:, -1] @ up) * up
    right /= max(np.linalg.norm(right), 1e-12)
    return np.stack([right, np.cross(up, right)])


def _fit(points: np.ndarray, centres: np.ndarray, width: int, height: int) -> tuple[float, np.ndarray]:
    """Computes the scale in pixels per unit, and the position at the centre of the picture."""
    kept = np.percentile(points, _KEPT, axis=0) if len(points) else centres[:1]
    corners = np.concatenate([kept, centres])
    low, high = corners.min(0), corners.max(0)
    room = np.array([width, height]) * (1 - 2 * _MARGIN)
    return float((room / np.maximum(high - low, 1e-9)).min()), (low + high) / 2


def _dots(places: np.ndarray, colours: np.ndarray, width: int, height: int) -> np.ndarray:
    canvas = np.full((height, width, 3), PAPER, np.uint8)
    corners = np.floor(places).astype(int) - _DOT // 2
    for down in range(_DOT):
        for right in range(_DOT):
            column, row = (corners + np.array([right, down])).T
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            canvas[row[inside], column[inside]] = colours[inside]
    return canvas


def _wedges(draw: ImageDraw.ImageDraw, places: np.ndarray, ahead: np.ndarray, length: float) -> None:
    for place, direction in zip(places, ahead, strict=True):
        forward = direction / max(np.linalg.norm(direction), 1e-12) * length
        aside = np.array([-forward[1], forward[0]]) * 0.4
        corners = [place, place + forward + aside, place + forward - aside]
        draw.polygon([tuple(corner) for corner in corners], outline=INK, width=_FINER)
        draw.ellipse([*(place - _FINER), *(place + _FINER)], fill=INK)

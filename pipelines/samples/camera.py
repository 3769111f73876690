"""Places cameras for synthetic photos, encodes rendered pictures as JPEG, and computes bounding boxes."""

from io import BytesIO

import numpy as np
from PIL import Image

from .renderer import Camera

ASPECTS = (4 / 3, 4 / 3, 3 / 2, 5 / 4, 16 / 10, 1.0)


def place_camera(rng: np.random.Generator, points: np.ndarray, degrees: float, size: int) -> Camera:
    """Places a camera at random so that it sees most of a building.

    Args:
        rng: the random generator that draws the camera's height, focal length, aspect ratio, distance, viewing
            direction, roll and principal point.
        points: the corners of the building in metres, (n, 3).
        degrees: the direction of the viewpoint around the building, 0 in front of it and positive to its right.
        size: the longer side of the photo in pixels.

    Returns:
        The camera.
    """
    low, high = points.min(0), points.max(0)
    aspect = ASPECTS[rng.integers(len(ASPECTS))]
    upright = rng.random() < (0.6 if high[2] > high[0] - low[0] else 0.25)
    short = max(round(size / aspect), 1)
    width, height = (short, size) if upright else (size, short)
    focal = size * rng.uniform(0.85, 1.35)
    side = np.deg2rad(degrees + rng.normal(0, 1.2))
    extent = np.array([np.hypot((high[0] - low[0]) * np.cos(side), 0.6 * (high[1] - low[1]) * np.sin(side)), high[2]])
    distance = focal * float((extent / [width, height]).max()) / rng.uniform(0.78, 1.12) + 3
    aim = np.array([(low[0] + high[0]) / 2, low[1] * 0.5 + 1.5, high[2] * rng.uniform(0.42, 0.5)])
    aim += rng.normal(0, 0.035, 3).clip(-0.07, 0.07) * [extent[0], 0, extent[1]]
    eye = np.array(
        [
            aim[0] + distance * np.sin(side),
            aim[1] - distance * np.cos(side),
            1.6 + min(rng.gamma(1.5, 1.4), 0.2 * distance),
        ]
    )
    R = _rotation(aim - eye, rng.normal(0, np.deg2rad(1.3)))
    centre = np.array([width, height]) * (0.5 + rng.uniform(-0.035, 0.035, 2))
    K = np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]])
    return Camera(K, R, -R @ eye, width, height)


def _rotation(forward: np.ndarray, roll: float) -> np.ndarray:
    """Computes the world-to-camera rotation (3, 3) for a viewing direction (3,) and a roll in radians."""
    z = forward / np.linalg.norm(forward)
    x = np.cross(z, [0, 0, 1])
    x /= np.linalg.norm(x)
    upright = np.stack([x, np.cross(z, x), z])
    turn = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    return turn @ upright


def develop(rng: np.random.Generator, picture: np.ndarray, camera: Camera) -> bytes:
    """Converts a rendered picture in linear RGB to a JPEG with random imperfections of a camera.

    Exposure, white balance, vignetting, gamma, contrast and noise are varied.

    Args:
        rng: the random generator that draws the strength of each effect.
        picture: the picture in linear RGB, (height, width, 3).
        camera: the camera of the photo, whose focal length is written to the EXIF data.

    Returns:
        The content of the JPEG file.
    """
    exposure = 0.4 / float(picture.mean()) * 2 ** rng.uniform(-0.45, 0.4)
    balance = 1 + rng.normal(0, 0.035, 3)
    x, y = np.linspace(-1, 1, camera.width), np.linspace(-1, 1, camera.height)[:, None]
    vignette = 1 - rng.uniform(0, 0.16) * (x**2 + y**2)
    linear = np.maximum(picture * exposure * balance * vignette[..., None], 0)
    tone = (linear * (1 + linear / 4) / (1 + linear)) ** (1 / rng.uniform(2.0, 2.5)) * 1.18
    tone += rng.uniform(0.0, 0.28) * (tone - 0.5) * (1 - np.abs(2 * tone - 1)).clip(0)
    tone += rng.normal(0, rng.uniform(0.003, 0.02), tone.shape)
    image = Image.fromarray((tone.clip(0, 1) * 255 + 0.5).astype(np.uint8))
    exif, file = Image.Exif(), BytesIO()
    focal = float(camera.K[0, 0]) / max(camera.width, camera.height)
    exif.get_ifd(0x8769)[0xA405] = round(36 * focal)  # FocalLengthIn35mmFilm
    image.save(file, "JPEG", quality=int(rng.integers(74, 95)), exif=exif)
    return file.getvalue()


def box_of(camera: Camera, points: np.ndarray) -> list[float]:
    """Computes the bounding box of 3D points in a photo, clipped to the photo.

    Args:
        camera: the camera of the photo.
        points: the points in world coordinates in metres, (n, 3), all in front of the camera.

    Returns:
        The left, top, right and bottom of the box in pixels.
    """
    flat = camera.project(points)[:, :2]
    limits = np.array([camera.width, camera.height])
    low, high = np.clip(flat.min(0), 0, limits), np.clip(flat.max(0), 0, limits)
    return [float(value) for value in (*low, *high)]

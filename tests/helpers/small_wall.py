"""Photos of a drawn wall with known cameras, and a COLMAP model of it whose points are where its features are."""

import json

import numpy as np
import pytest
from PIL import Image

from pipelines.sfm.colmap import Database
from tests.helpers.small_models import look_at

pycolmap = pytest.importorskip("pycolmap")

SIDE, FOCAL, WIDTH, HEIGHT = 4.0, 400.0, 320, 240
CAMERA = f"SIMPLE_PINHOLE {WIDTH} {HEIGHT} {FOCAL} {WIDTH / 2} {HEIGHT / 2}"
EXTRACTION = {"features": 600, "size": 320}
KEPT = {"left.png": (-1.0, 0.2, -3.2), "middle.png": (0.1, -0.3, -3.0), "right.png": (0.9, 0.1, -3.4)}
HELD_OUT = {"query.png": (0.4, 0.3, -3.1)}
_TEXELS = 1200


def draw_wall(folder, centres, seed=0):
    """Draws what cameras at these positions see of a wall of random blots in the plane z = 0."""
    rng = np.random.default_rng(seed)
    blots = Image.fromarray(rng.integers(0, 256, (90, 90), np.uint8))
    wall = blots.resize((_TEXELS, _TEXELS), Image.Resampling.BICUBIC)
    folder.mkdir(parents=True, exist_ok=True)
    for name, centre in centres.items():
        scale = _TEXELS / SIDE
        to_texels = np.array([[scale, 0, _TEXELS / 2], [0, scale, _TEXELS / 2], [0, 0, 1]])
        to_wall = to_texels @ np.linalg.inv(_onto_photo(centre))
        coefficients = (to_wall / to_wall[2, 2]).ravel()[:8]
        wall.transform((WIDTH, HEIGHT), Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC).save(
            folder / name
        )


def _pose(centre):
    return look_at(np.array(centre), np.array([0.0, 0.0, 0.0]))


def project(points, centre):
    """The pixels (n, 2) at which a camera sees points (n, 3)."""
    seen = _pose(centre) * points @ np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]]).T
    return seen[:, :2] / seen[:, 2:]


def _onto_photo(centre):
    """The homography (3, 3) from a point (x, y, 1) of the wall to a pixel."""
    matrix = _pose(centre).matrix()
    camera = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
    return camera @ matrix[:, [0, 1, 3]]


def write_wall_model(photos, work):
    """Writes database.db, options.json and a model, in which each feature of the photos observes its own 3D point."""
    work.mkdir(parents=True)
    (work / "options.json").write_text(json.dumps(EXTRACTION))
    database = Database(work / "database.db")
    assert not database.extract_features(photos, list(KEPT), EXTRACTION)
    model = pycolmap.Reconstruction()
    seen = []
    for number, (name, centre) in enumerate(KEPT.items(), start=1):
        keypoints, _ = database.read_features(name)
        model.add_camera_with_trivial_rig(
            pycolmap.Camera(
                model="SIMPLE_PINHOLE",
                width=WIDTH,
                height=HEIGHT,
                params=[FOCAL, WIDTH / 2, HEIGHT / 2],
                camera_id=number,
            )
        )
        image = pycolmap.Image(name=name, keypoints=keypoints.astype(float), camera_id=number, image_id=number)
        model.add_image_with_trivial_frame(image, _pose(centre))
        wall = np.column_stack([keypoints, np.ones(len(keypoints))]) @ np.linalg.inv(_onto_photo(centre)).T
        seen += [(number, row, place) for row, place in enumerate(wall[:, :2] / wall[:, 2:])]
    for number, row, place in seen:
        model.add_point3D(np.append(place, 0.0), pycolmap.Track([pycolmap.TrackElement(number, row)]))
    (work / "models" / "0").mkdir(parents=True)
    model.write(work / "models" / "0")
    return work

"""A small COLMAP model made without photos."""

import numpy as np
import pytest

pycolmap = pytest.importorskip("pycolmap")


def look_at(centre, target):
    """cam_from_world of an upright camera."""
    ahead = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross([0.0, 1, 0], ahead)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(ahead, right), ahead])
    return pycolmap.Rigid3d(np.column_stack([rotation, -rotation @ centre]))


def write_model(folder, names, seed=0):
    """A COLMAP model of points in a box, seen in part by cameras at very different distances."""
    rng = np.random.default_rng(seed)
    model = pycolmap.Reconstruction()
    points = rng.uniform(-1, 1, (300, 3))
    seen_by = [[] for _ in points]
    for number, name in enumerate(names, start=1):
        camera = pycolmap.Camera(
            model="SIMPLE_PINHOLE", width=800, height=600, params=[rng.uniform(500, 1500), 400, 300], camera_id=number
        )
        model.add_camera_with_trivial_rig(camera)
        middle = rng.uniform(-0.5, 0.5)
        visible = np.flatnonzero(np.abs(points[:, 0] - middle) < rng.uniform(0.3, 1.2))
        for row, point in enumerate(visible):
            seen_by[point].append(pycolmap.TrackElement(number, row))
        image = pycolmap.Image(
            name=name, keypoints=rng.uniform(0, 600, (len(visible), 2)), camera_id=number, image_id=number
        )
        centre = np.array([rng.uniform(-3, 3), rng.uniform(-1, 1), -rng.uniform(3, 9)])
        model.add_image_with_trivial_frame(image, look_at(centre, np.array([middle, 0, 0])))
    for point, elements in zip(points, seen_by, strict=True):
        if len(elements) >= 2:
            model.add_point3D(point, pycolmap.Track(elements))
    folder.mkdir(parents=True)
    model.write(folder)
    return folder

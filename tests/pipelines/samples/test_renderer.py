"""The renderer: the nearest face against ray casting, and shadows."""

import numpy as np
import pytest

from pipelines.samples.mesh import make_mesh
from pipelines.samples.renderer import SAMPLES, Camera, Shadows, view_from
from pipelines.samples.solids import Face


def _facing(corners: np.ndarray) -> Face:
    """A face whose texels run along its first edge, one to a metre."""
    along = (corners[1] - corners[0]) / np.linalg.norm(corners[1] - corners[0])
    normal = np.cross(along, corners[-1] - corners[0])
    across = np.cross(normal / np.linalg.norm(normal), along)
    return Face(corners, np.stack([along, across, corners[0]], 1), 0)


def test_nearest_face_as_by_casting_rays():
    rng = np.random.default_rng(1)
    faces = []
    for _ in range(9):
        centre, (a, b) = rng.uniform((-3, 4, -2), (3, 12, 2)), np.linalg.qr(rng.normal(size=(3, 2)))[0].T
        turns = np.sort(rng.uniform(0, 2 * np.pi, 5))
        faces.append(_facing(centre + 2 * (np.cos(turns)[:, None] * a + np.sin(turns)[:, None] * b)))
    K = np.array([[18.0, 0, 10], [0, 18, 8], [0, 0, 1]])
    R = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    camera = Camera(K, R, np.zeros(3), 20, 16)
    view = view_from(camera, make_mesh(faces, [np.full((8, 8, 4), 255, np.uint8)]))
    view.draw_all()
    expected = np.full(view.ids.shape, -1)
    for row in range(expected.shape[0]):
        for column in range(expected.shape[1]):
            ray = R.T @ np.linalg.inv(K) @ [(column + 0.5) / SAMPLES, (row + 0.5) / SAMPLES, 1]
            hits = [(_hit(face.corners, ray), i) for i, face in enumerate(faces)]
            expected[row, column] = min(hits)[1] if min(hits)[0] < np.inf else -1
    assert len(np.unique(expected)) > 5
    # Edges are widened by a twentieth of a sample, so that neighbours leave no gap.
    assert (expected != view.ids).mean() < 0.012


def _hit(corners: np.ndarray, ray: np.ndarray) -> float:
    """The distance along a ray from the origin to a convex polygon, or infinity."""
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    distance = float(normal @ corners[0] / (normal @ ray))
    turns = [
        np.cross(b - a, distance * ray - a) @ normal for a, b in zip(corners, np.roll(corners, -1, 0), strict=True)
    ]
    inside = distance > 0 and (min(turns) > 0 or max(turns) < 0)
    return distance if inside else np.inf


def test_sun_throws_a_shadow_where_it_must():
    square = np.array([[-1.0, 9, 2], [1, 9, 2], [1, 11, 2], [-1, 11, 2]])
    mesh = make_mesh([_facing(square)], [np.full((8, 8, 4), 255, np.uint8)])
    sun = np.array([0.6, 0.0, 0.8])
    reach = np.concatenate([square, [[-5, 5, 0], [5, 15, 0]]])
    shadows = Shadows(mesh, np.array([0]), sun, reach)
    x = np.linspace(-4, 4, 161, dtype=np.float32)
    lit = shadows.lit(x, np.zeros_like(x), np.ones_like(x), np.eye(3), np.array([0.0, 10, -1]))
    # The square's left and right ends fall 2 * 0.6 / 0.8 = 1.5 m to the left.
    shaded = x[~lit]
    assert shaded.min() == pytest.approx(-2.5, abs=0.1)
    assert shaded.max() == pytest.approx(-0.5, abs=0.1)
    assert len(shaded) == pytest.approx(41, abs=4)

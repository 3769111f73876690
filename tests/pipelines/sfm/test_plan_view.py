"""Models seen from above."""

import numpy as np

from pipelines.sfm.plan_view import INK, PAPER, plan_view
from pipelines.sfm.scene import Scene


def test_a_model_from_above_is_seen_from_above():
    rng = np.random.default_rng(0)
    points = np.stack([rng.uniform(-2, 2, 4000), rng.uniform(0, 9, 4000), rng.uniform(-1, 1, 4000)], axis=1)
    colours = np.where(points[:, :1] < 0, [[20, 120, 20]], [[20, 20, 160]]).astype(np.uint8)
    centres = np.array([[-2.0, 1, -4], [2.0, 1, -4]])
    ahead, upward = np.tile([[0.0, 0, 1]], (2, 1)), np.tile([[0.0, 1, 0]], (2, 1))

    def scene(places):
        return Scene(places, colours, centres, ahead, upward, np.full((2, 2), 0.5), ["a", "b"])

    pixels = np.asarray(plan_view(scene(points), 300, 300)).astype(int)
    assert pixels.shape == (300, 300, 3)

    def middle(colour):
        return np.argwhere(np.abs(pixels - colour).sum(axis=2) < 60).mean(axis=0)

    left, right, cameras = middle([20, 120, 20]), middle([20, 20, 160]), middle(INK)
    between = (left + right) / 2
    # Right-handed, as a map is: from the cameras to the points with x on the left is x to the right on paper.
    assert abs(np.linalg.det([right - left, cameras - between])) > 1000
    assert abs((right - left) @ (cameras - between)) < 0.2 * np.linalg.norm(right - left) * np.linalg.norm(
        cameras - between
    )
    assert (np.abs(pixels - PAPER).sum(axis=2) < 10).mean() > 0.3
    # Height plays no part: squashing it changes nothing.
    flat = plan_view(scene(points * (1, 0.1, 1)), 300, 300)
    assert np.abs(np.asarray(flat).astype(int) - pixels).mean() < 12

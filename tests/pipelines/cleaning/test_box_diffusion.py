"""Geometric medians, and boxes projected over a graph of photos."""

import numpy as np
import pytest

from bench.cleaning import overlap
from pipelines.cleaning.box_diffusion import Projection, diffuse, geometric_medians, project


def test_the_geometric_median_has_the_least_sum_of_distances():
    rng = np.random.default_rng(0)
    owner = rng.permutation(np.repeat(np.arange(5), [1, 2, 3, 8, 30]))
    points = rng.normal(size=(len(owner), 4)) * 50
    medians = geometric_medians(points, owner, 5)
    np.testing.assert_allclose(medians[0], points[owner == 0][0], atol=1e-4)
    for number, median in enumerate(medians):
        own = points[owner == number]
        least = np.linalg.norm(own - median, axis=1).sum()
        for shift in rng.normal(size=(50, 4)):
            assert least <= np.linalg.norm(own - median - shift, axis=1).sum() + 1e-4


def test_the_geometric_median_passes_over_what_is_far_off():
    points = np.array([[10.0, 10], [11, 10], [10, 11], [9000, -5000]])
    assert np.abs(geometric_medians(points, np.zeros(4, int), 1) - 10.4).max() < 0.7


def test_a_carried_box_bounds_the_carried_corners():
    rng = np.random.default_rng(0)
    boxes = np.sort(rng.uniform(0, 100, (20, 2, 2)), axis=1).reshape(20, 4)
    affines = rng.normal(size=(20, 2, 3))
    for (left, top, right, bottom), affine, found in zip(boxes, affines, project(boxes, affines), strict=True):
        corners = [affine @ (x, y, 1) for x in (left, right) for y in (top, bottom)]
        np.testing.assert_allclose(found, [*np.min(corners, axis=0), *np.max(corners, axis=0)])


def views(count, rng):
    """Photos 400 x 300 of a square, each nearer or farther and shifted: its boxes, and the affines between them."""
    zoom, shift = rng.uniform(0.7, 1.4, count), rng.uniform(-30, 30, (count, 2))
    boxes = np.concatenate([zoom[:, None] * (-60, -60) + shift, zoom[:, None] * (60, 60) + shift], axis=1) + 150
    affines = {}
    for one in range(count):
        for other in range(count):
            scale = zoom[other] / zoom[one]
            move = 150 + shift[other] - scale * (150 + shift[one])
            affines[one, other] = np.array([[scale, 0, move[0]], [0, scale, move[1]]])
    return boxes, affines


def test_parts_that_pairs_see_are_joined_to_one_box_in_every_photo():
    rng = np.random.default_rng(0)
    boxes, affines = views(8, rng)
    edges = []
    for (one, other), affine in affines.items():
        if one == other:
            continue
        sides = boxes[other] + rng.normal(size=4) * 12  # the matches of a pair reach not as far, or farther
        wrong = rng.random() < 0.15
        edges.append(Projection(one, other, affine + 80 * wrong, sides + 90 * wrong))
    found, steps = diffuse(edges, np.tile([400, 300], (8, 1)))
    first = geometric_medians(np.stack([edge.bounds for edge in edges]), np.array([edge.target for edge in edges]), 8)
    assert 1 < steps < 1000
    assert min(overlap(*both) for both in zip(found, boxes, strict=True)) > 0.85
    apart = [
        np.abs(boxes_now - project(boxes_now[[0] * 8], np.stack([affines[0, other] for other in range(8)]))).max()
        for boxes_now in (first, found)
    ]
    assert apart[1] < 0.5 * apart[0]  # the boxes of all photos have come to mean one thing


def test_boxes_stay_in_their_photos_and_every_photo_needs_a_pair():
    grow = np.array([[2.0, 0, 0], [0, 2, 0]])
    edges = [Projection(0, 1, grow, np.array([10.0, 10, 20, 20])), Projection(1, 0, grow, np.array([10.0, 10, 20, 20]))]
    found, _ = diffuse(edges, np.array([[100, 80], [60, 60]]))
    assert (found >= 0).all()
    assert (found[:, 2:] <= [[100, 80], [60, 60]]).all()
    with pytest.raises(ValueError, match="2 of 3 photos are the target of an edge"):
        diffuse(edges, np.full((3, 2), 50))

"""Localizes an object in photos by diffusion of boxes over the graph of verified pairs of photos.

The method is that of Gordo et al. (ECCV 2016, section 3.4). The nodes of the graph are photos, and its edges are pairs
of photos that are aligned by an affine transform. First, each pair proposes the bounding box of its matched keypoints,
and the initial box of a photo is the geometric median of the proposals of its pairs. Then the boxes are repeatedly
projected from photo to photo by the affine transforms, and each box moves a small step towards the geometric median of
the boxes projected into its photo.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_retrieval.errors import ArgumentError

STEP = 0.1  # alpha: share of the distance that a box moves in a step towards its neighbours' proposals; as published
STILL = 0.0005  # share of a photo's longer side; the diffusion has converged when no box moves farther in a step
MOST_STEPS = 1000
_WEISZFELD = 100  # maximum number of iterations for a geometric median
_NEAR = 1e-6  # pixels: lower bound of distances, which keeps the median's weights finite


@dataclass(frozen=True)
class Projection:
    """A directed edge of the graph of photos, which projects boxes of the source photo into the target photo.

    Attributes:
        source: index of the photo from which boxes are projected.
        target: index of the photo into which boxes are projected.
        affine: (2, 3) affine transform from pixels of the source to pixels of the target.
        bounds: (4,) left, top, right, bottom of the matched keypoints in the target, in pixels.
    """

    source: int
    target: int
    affine: np.ndarray
    bounds: np.ndarray


def diffuse(edges: Sequence[Projection], sizes: np.ndarray) -> tuple[np.ndarray, int]:
    """Finds the box of the object that the photos show, in each photo.

    Args:
        edges: the edges of the graph; every photo must be the target of at least one edge.
        sizes: (n, 2) width and height of each photo in pixels.

    Returns:
        The (n, 4) boxes (left, top, right, bottom) in pixels, clipped to the photos, and the number of steps to
        convergence, at most 1,000.

    Raises:
        ArgumentError: a photo is not the target of an edge.
    """
    source, target = (np.array([getattr(edge, end) for edge in edges], np.int64) for end in ("source", "target"))
    if len(np.unique(target)) != len(sizes):
        raise ArgumentError(f"{len(np.unique(target))} of {len(sizes)} photos are the target of an edge: all must be")
    affines = np.stack([edge.affine for edge in edges])
    borders = np.concatenate([sizes, sizes], axis=1).astype(np.float64)
    boxes = geometric_medians(np.stack([edge.bounds for edge in edges]), target, len(sizes))
    for step in range(1, MOST_STEPS + 1):
        proposals = np.clip(project(boxes[source], affines), 0, borders[target])
        moved = geometric_medians((1 - STEP) * boxes[target] + STEP * proposals, target, len(sizes))
        converged = (np.abs(moved - boxes).max(axis=1) <= STILL * sizes.max(axis=1)).all()
        boxes = moved
        if converged:
            return boxes, step
    return boxes, MOST_STEPS


def project(boxes: np.ndarray, affines: np.ndarray) -> np.ndarray:
    """Projects boxes by affine transforms and returns the bounding boxes of the results.

    Args:
        boxes: (E, 4) boxes: left, top, right, bottom.
        affines: (E, 2, 3) affine transforms, one for each box.

    Returns:
        (E, 4) boxes.
    """
    corners = np.stack([boxes[:, [x, y]] for x in (0, 2) for y in (1, 3)], axis=1)
    moved = corners @ affines[:, :, :2].transpose(0, 2, 1) + affines[:, None, :, 2]
    return np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1)


def geometric_medians(points: np.ndarray, owner: np.ndarray, count: int) -> np.ndarray:
    """Computes the geometric medians of several sets of points by Weiszfeld's algorithm.

    The geometric median of a set is the point with the smallest sum of distances to the points of the set.

    Args:
        points: (E, D) the points of all sets.
        owner: (E,) index of the set to which each point belongs; every set has at least one point.
        count: number of sets.

    Returns:
        (count, D) array with the median of each set.
    """
    order = np.argsort(owner, kind="stable")
    points, owner = points[order].astype(np.float64), owner[order]
    starts = np.searchsorted(owner, np.arange(count))
    weights = np.ones((len(points), 1))
    medians = np.zeros((count, points.shape[1]))
    for _ in range(_WEISZFELD):
        found = np.add.reduceat(weights * points, starts) / np.add.reduceat(weights, starts)
        moved, medians = np.abs(found - medians).max(), found
        if moved < _NEAR:
            break
        distances = np.linalg.norm(points - medians[owner], axis=1, keepdims=True)
        weights = 1 / np.maximum(distances, _NEAR)
    return medians

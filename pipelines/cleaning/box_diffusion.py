"""Where an object stands in photos that are aligned pair by pair: boxes diffused over the graph of verified pairs.

As published (Gordo et al. ECCV 2016, section 3.4): each pair proposes the bounds of its matched keypoints, a photo's
first box is the geometric median of what its pairs propose, and then boxes are carried over from photo to photo by the
pairs' affine transforms, a small step at a time, each photo taking the geometric median of what its neighbours say.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

STEP = 0.1  # alpha: how far a box moves towards what its neighbours say; published
STILL = 0.0005  # of a photo's longer side: boxes that move less have come to rest
MOST_STEPS = 1000
_WEISZFELD = 100  # steps to a geometric median at most
_NEAR = 1e-6  # pixels: distances below count as this, or the median's weights would be infinite


@dataclass(frozen=True)
class Carry:
    """What one photo says of another: an edge with a direction.

    Attributes:
        source: number of the photo that says it.
        target: number of the photo of which it is said.
        affine: (2, 3), from pixels of the source to pixels of the target.
        bounds: (4,) left, top, right, bottom of the matched keypoints in the target.
    """

    source: int
    target: int
    affine: np.ndarray
    bounds: np.ndarray


def diffuse(carries: Sequence[Carry], sizes: np.ndarray) -> tuple[np.ndarray, int]:
    """Finds the box of the object in each photo.

    Args:
        carries: E edges; every photo is the target of at least one.
        sizes: (n, 2) width and height of the photos.

    Returns:
        (n, 4) left, top, right, bottom in pixels, within the photos, and the number of steps until boxes came to rest,
        `MOST_STEPS` at most.

    Raises:
        ValueError: a photo is no target.
    """
    source, target = (np.array([getattr(carry, end) for carry in carries], np.int64) for end in ("source", "target"))
    if len(np.unique(target)) != len(sizes):
        raise ValueError(f"{len(np.unique(target))} of {len(sizes)} photos are the target of a pair: all must be")
    affines = np.stack([carry.affine for carry in carries])
    borders = np.concatenate([sizes, sizes], axis=1).astype(np.float64)
    boxes = geometric_medians(np.stack([carry.bounds for carry in carries]), target, len(sizes))
    for step in range(1, MOST_STEPS + 1):
        said = np.clip(carried(boxes[source], affines), 0, borders[target])
        moved = geometric_medians((1 - STEP) * boxes[target] + STEP * said, target, len(sizes))
        rest = (np.abs(moved - boxes).max(axis=1) <= STILL * sizes.max(axis=1)).all()
        boxes = moved
        if rest:
            return boxes, step
    return boxes, MOST_STEPS


def carried(boxes: np.ndarray, affines: np.ndarray) -> np.ndarray:
    """The bounds (E, 4) of boxes (E, 4) under affine transforms (E, 2, 3)."""
    corners = np.stack([boxes[:, [x, y]] for x in (0, 2) for y in (1, 3)], axis=1)
    moved = corners @ affines[:, :, :2].transpose(0, 2, 1) + affines[:, None, :, 2]
    return np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1)


def geometric_medians(points: np.ndarray, owner: np.ndarray, count: int) -> np.ndarray:
    """The point that has the least sum of distances to an owner's points, for all owners at once (Weiszfeld).

    Args:
        points: (E, D).
        owner: (E,) which of `count` owners each belongs to; each has at least one.
        count: of owners.

    Returns:
        (count, D).
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

"""Boxes in units of feature-map cells: overlap, anchors, and the regression targets between a box and its anchor.

A box is (left, top, right, bottom); cell j of a row spans j to j + 1. Anchors and targets are those of Faster R-CNN
(Ren et al. NIPS 2015). Letters: B batch, A anchors per cell, M = h w A anchors of a map, R boxes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

_MAX_LOG_SCALE = float(np.log(1000 / 16))  # an upper bound on the predicted log growth, so that exp cannot overflow


def box_iou(one: Any, other: Any) -> Any:
    """Intersection over union of all pairs of boxes, (.., R, 4) and (.., S, 4) -> (.., R, S); 0 for an empty box."""
    # expand_dims, because tf2onnx turns an index with ... and None into a Slice that ONNX Runtime rejects.
    one, other = ops.expand_dims(one, -2), ops.expand_dims(other, -3)
    corner, end = ops.maximum(one[..., :2], other[..., :2]), ops.minimum(one[..., 2:], other[..., 2:])
    shared = ops.prod(ops.maximum(end - corner, 0), axis=-1)
    union = _area(one) + _area(other) - shared
    return shared / ops.maximum(union, 1e-9)


def make_anchors(height: Any, width: Any, scales: Sequence[float], ratios: Sequence[float]) -> Any:
    """Makes the anchors of a map: one box per scale and ratio, centred on every cell, in row-major order of cells.

    Args:
        height: the height h of the map in cells, an int or a scalar tensor.
        width: the width w of the map in cells, an int or a scalar tensor.
        scales: sizes of the anchors, each as the side in cells of the square of the same area.
        ratios: height divided by width of the anchors.

    Returns:
        The anchors, (h w A, 4) float32, with A = len(scales) len(ratios); anchors may extend beyond the map.
    """
    half = np.array([(s / r**0.5 / 2, s * r**0.5 / 2) for s in scales for r in ratios], "float32")
    around = np.concatenate([-half, half], axis=1)
    rows = ops.cast(ops.arange(height, dtype="int32"), "float32") + 0.5
    columns = ops.cast(ops.arange(width, dtype="int32"), "float32") + 0.5
    x, y = ops.tile(columns[None, :], (height, 1)), ops.tile(rows[:, None], (1, width))
    centres = ops.stack([x, y, x, y], axis=-1)
    return ops.reshape(ops.expand_dims(centres, 2) + around, (-1, 4))


def encode(boxes: Any, anchors: Any) -> Any:
    """Computes the regression targets (.., 4) of boxes (.., 4) relative to anchors (.., 4).

    The targets are the shift of the centre (x, y) in units of the anchor's sides, then the logarithm of the ratio of
    the sides.
    """
    centre, side = _centre_side(boxes)
    from_centre, from_side = _centre_side(anchors)
    return ops.concatenate([(centre - from_centre) / from_side, ops.log(side / from_side)], axis=-1)


def decode(deltas: Any, anchors: Any) -> Any:
    """Computes boxes (.., 4) from regression outputs (.., 4) and anchors (.., 4): the inverse of `encode`."""
    from_centre, from_side = _centre_side(anchors)
    centre = from_centre + deltas[..., :2] * from_side
    half = ops.exp(ops.minimum(deltas[..., 2:], _MAX_LOG_SCALE)) * from_side / 2
    return ops.concatenate([centre - half, centre + half], axis=-1)


def clip_boxes(boxes: Any, height: Any, width: Any) -> Any:
    """Clips boxes (.., 4) to the map; every side keeps at least one cell.

    Args:
        boxes: the boxes, (B, R, 4), or (R, 4) if all are on one map.
        height: the height of each photo's map, a scalar or (B,).
        width: the width of each photo's map, a scalar or (B,).
    """
    limit = ops.expand_dims(ops.cast(ops.stack([width, height], axis=-1), "float32"), -2)
    # A degenerate box becomes one cell wide; a box beyond the border becomes the last cell.
    start = ops.minimum(ops.maximum(boxes[..., :2], 0), ops.maximum(limit - 1, 0))
    return ops.concatenate([start, ops.maximum(ops.minimum(boxes[..., 2:], limit), start + 1)], axis=-1)


def _area(boxes: Any) -> Any:
    return ops.prod(ops.maximum(boxes[..., 2:] - boxes[..., :2], 0), axis=-1)


def _centre_side(boxes: Any) -> tuple[Any, Any]:
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]

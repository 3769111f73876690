"""Functions on boxes in units of feature-map cells: overlap, anchors, and regression targets relative to an anchor.

A box is (left, top, right, bottom), and cell j of a row spans the coordinates j to j + 1. Anchors and regression
targets are those of Faster R-CNN (Ren et al. NIPS 2015). In the shapes, B is the batch size and R the number of boxes
of a photo; a feature map of h x w cells has M = h w A anchors, A per cell.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

_MAX_LOG_SCALE = float(np.log(1000 / 16))  # an upper bound on the predicted log growth, so that exp cannot overflow


def box_iou(one: Any, other: Any) -> Any:
    """Computes the intersection over union of all pairs of boxes, one from each set.

    Args:
        one: the first set of boxes as left, top, right, bottom, (.., R, 4).
        other: the second set of boxes in the same form and units, (.., S, 4).

    Returns:
        The intersection over union of each pair, (.., R, S), in 0..1; 0 for pairs with a box without area.
    """
    # expand_dims, because tf2onnx turns an index with ... and None into a Slice that ONNX Runtime rejects.
    one, other = ops.expand_dims(one, -2), ops.expand_dims(other, -3)
    corner, end = ops.maximum(one[..., :2], other[..., :2]), ops.minimum(one[..., 2:], other[..., 2:])
    shared = ops.prod(ops.maximum(end - corner, 0), axis=-1)
    union = _area(one) + _area(other) - shared
    return shared / ops.maximum(union, 1e-9)


def make_anchors(height: Any, width: Any, scales: Sequence[float], ratios: Sequence[float]) -> Any:
    """Makes the anchors of a feature map: for every cell, one box per scale and ratio, centred on the cell.

    Args:
        height: the height h of the map in cells, an int or a scalar tensor.
        width: the width w of the map in cells, an int or a scalar tensor.
        scales: sizes of the anchors, each as the side in cells of the square of the same area.
        ratios: aspect ratios of the anchors, each as height divided by width.

    Returns:
        The anchors as left, top, right, bottom in cells, (h w A, 4) float32, with A = len(scales) x len(ratios). Cells
        are in row-major order; the anchors of a cell are ordered by scale, then by ratio. Anchors may extend beyond
        the map.
    """
    half = np.array([(s / r**0.5 / 2, s * r**0.5 / 2) for s in scales for r in ratios], "float32")
    around = np.concatenate([-half, half], axis=1)
    rows = ops.cast(ops.arange(height, dtype="int32"), "float32") + 0.5
    columns = ops.cast(ops.arange(width, dtype="int32"), "float32") + 0.5
    x, y = ops.tile(columns[None, :], (height, 1)), ops.tile(rows[:, None], (1, width))
    centres = ops.stack([x, y, x, y], axis=-1)
    return ops.reshape(ops.expand_dims(centres, 2) + around, (-1, 4))


def encode(boxes: Any, anchors: Any) -> Any:
    """Computes the regression targets of boxes relative to anchors, as in Faster R-CNN (Ren et al. NIPS 2015).

    Args:
        boxes: the boxes as left, top, right, bottom, (.., 4).
        anchors: the anchor of each box in the same form and units, (.., 4).

    Returns:
        The targets, (.., 4): the shift of the centre in x and y, in units of the width and height of the anchor, then
        the natural logarithm of the box's width and height divided by those of the anchor.
    """
    centre, side = _centre_side(boxes)
    from_centre, from_side = _centre_side(anchors)
    return ops.concatenate([(centre - from_centre) / from_side, ops.log(side / from_side)], axis=-1)


def decode(deltas: Any, anchors: Any) -> Any:
    """Computes boxes from regression outputs and anchors, as the inverse of `encode`.

    A box is at most 1000 / 16 = 62.5 times as wide or high as its anchor, because larger outputs are clipped.

    Args:
        deltas: the regression outputs, in the form of the targets that `encode` returns, (.., 4).
        anchors: the anchor of each output as left, top, right, bottom, (.., 4).

    Returns:
        The boxes as left, top, right, bottom in the units of the anchors, (.., 4).
    """
    from_centre, from_side = _centre_side(anchors)
    centre = from_centre + deltas[..., :2] * from_side
    half = ops.exp(ops.minimum(deltas[..., 2:], _MAX_LOG_SCALE)) * from_side / 2
    return ops.concatenate([centre - half, centre + half], axis=-1)


def clip_boxes(boxes: Any, height: Any, width: Any) -> Any:
    """Clips boxes to the feature map, so that each clipped box is at least one cell wide and one cell high.

    Args:
        boxes: the boxes as left, top, right, bottom in cells, (B, R, 4), or (R, 4) if all are on one map.
        height: the height of each photo's map in cells, a scalar or (B,).
        width: the width of each photo's map in cells, a scalar or (B,).

    Returns:
        The clipped boxes, in the shape of `boxes`.
    """
    limit = ops.expand_dims(ops.cast(ops.stack([width, height], axis=-1), "float32"), -2)
    # A degenerate box becomes one cell wide; a box beyond the border becomes the last cell.
    start = ops.minimum(ops.maximum(boxes[..., :2], 0), ops.maximum(limit - 1, 0))
    return ops.concatenate([start, ops.maximum(ops.minimum(boxes[..., 2:], limit), start + 1)], axis=-1)


def _area(boxes: Any) -> Any:
    return ops.prod(ops.maximum(boxes[..., 2:] - boxes[..., :2], 0), axis=-1)


def _centre_side(boxes: Any) -> tuple[Any, Any]:
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]

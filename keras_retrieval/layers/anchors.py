"""Boxes in cells of a feature map: overlap, anchors and the numbers by which a box differs from its anchor.

A box is left, top, right, bottom; cell j of a row lies from j to j + 1. Anchors and differences are those of Faster
R-CNN (Ren et al. NIPS 2015). Letters: B batch, A anchors of a cell, M = h w A anchors of a map, R boxes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

_MOST = float(np.log(1000 / 16))  # a side grows at most so much (log): no overflow of exp, however wild a network is


def box_iou(one: Any, other: Any) -> Any:
    """Intersection over union of each box of (.., R, 4) with each of (.., S, 4): (.., R, S); 0 for an empty box."""
    # Not by an index of dots and None: tf2onnx writes that as a Slice that ONNX Runtime refuses.
    one, other = ops.expand_dims(one, -2), ops.expand_dims(other, -3)
    corner, end = ops.maximum(one[..., :2], other[..., :2]), ops.minimum(one[..., 2:], other[..., 2:])
    shared = ops.prod(ops.maximum(end - corner, 0), axis=-1)
    union = _area(one) + _area(other) - shared
    return shared / ops.maximum(union, 1e-9)


def make_anchors(height: Any, width: Any, scales: Sequence[float], ratios: Sequence[float]) -> Any:
    """Boxes of every scale and ratio about the centre of every cell, cell by cell, row by row.

    Args:
        height: h, an int or a scalar tensor.
        width: w, likewise.
        scales: the side of each anchor's square of the same area, in cells.
        ratios: height to width.

    Returns:
        (h w A, 4) float32, A = scales x ratios; they may reach over the map's border.
    """
    half = np.array([(s / r**0.5 / 2, s * r**0.5 / 2) for s in scales for r in ratios], "float32")
    around = np.concatenate([-half, half], axis=1)
    rows = ops.cast(ops.arange(height, dtype="int32"), "float32") + 0.5
    columns = ops.cast(ops.arange(width, dtype="int32"), "float32") + 0.5
    x, y = ops.tile(columns[None, :], (height, 1)), ops.tile(rows[:, None], (1, width))
    centres = ops.stack([x, y, x, y], axis=-1)
    return ops.reshape(ops.expand_dims(centres, 2) + around, (-1, 4))


def encode(boxes: Any, anchors: Any) -> Any:
    """How boxes (.., 4) differ from anchors (.., 4): shift in sides of the anchor, growth of the sides as log."""
    centre, side = _centre_side(boxes)
    from_centre, from_side = _centre_side(anchors)
    return ops.concatenate([(centre - from_centre) / from_side, ops.log(side / from_side)], axis=-1)


def decode(deltas: Any, anchors: Any) -> Any:
    """The boxes (.., 4) that differ so from the anchors: `encode` backwards."""
    from_centre, from_side = _centre_side(anchors)
    centre = from_centre + deltas[..., :2] * from_side
    half = ops.exp(ops.minimum(deltas[..., 2:], _MOST)) * from_side / 2
    return ops.concatenate([centre - half, centre + half], axis=-1)


def clip_boxes(boxes: Any, height: Any, width: Any) -> Any:
    """Boxes (.., 4) cut at the map's borders, none narrower than one cell.

    Args:
        boxes: (B, R, 4), or (R, 4) with one size for all.
        height: h of each photo's map, a scalar or (B,).
        width: w, likewise.
    """
    limit = ops.expand_dims(ops.cast(ops.stack([width, height], axis=-1), "float32"), -2)
    # A nearly flat box becomes one cell, and one beyond the border the last cell.
    start = ops.minimum(ops.maximum(boxes[..., :2], 0), ops.maximum(limit - 1, 0))
    return ops.concatenate([start, ops.maximum(ops.minimum(boxes[..., 2:], limit), start + 1)], axis=-1)


def _area(boxes: Any) -> Any:
    return ops.prod(ops.maximum(boxes[..., 2:] - boxes[..., :2], 0), axis=-1)


def _centre_side(boxes: Any) -> tuple[Any, Any]:
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]

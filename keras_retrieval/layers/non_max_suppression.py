"""Non-maximum suppression of boxes on keras.ops, in fixed shapes: it compiles, batches and converts to ONNX."""

from typing import Any

import numpy as np
from keras import ops

from .anchors import box_iou

LOWEST = -3.0e38  # a finite number: the score of what is no candidate


def best_boxes(boxes: Any, scores: Any, count: int) -> tuple[Any, Any]:
    """The boxes of the highest scores, best first.

    Args:
        boxes: (B, M, 4).
        scores: (B, M), LOWEST for what is no candidate.
        count: how many; there may be fewer.

    Returns:
        (B, count, 4) and their scores (B, count); behind the last candidate boxes of 0 with LOWEST.
    """
    batch = ops.shape(scores)[0]
    scores = ops.concatenate([scores, ops.full((batch, count), LOWEST, dtype=scores.dtype)], axis=1)
    boxes = ops.concatenate([boxes, ops.zeros((batch, count, 4), dtype=boxes.dtype)], axis=1)
    best, index = ops.top_k(scores, count)
    return taken(boxes, index), best


def suppress(boxes: Any, scores: Any, overlap: float) -> Any:
    """Greedy non-maximum suppression: a box goes if one that stays, and stands before it, overlaps it too much.

    A box stays if none before it that stays overlaps it. This is solved for all boxes at once, over and over until
    nothing changes: as many times as the longest chain of boxes that suppress each other, some ten instead of N.

    Args:
        boxes: (B, N, 4), best first.
        scores: (B, N), LOWEST for what is no candidate.
        overlap: the largest intersection over union that two of them may have.

    Returns:
        (B, N), true for the boxes that stay.
    """
    count = boxes.shape[1]
    before = np.triu(np.ones((count, count), bool), 1)
    suppresses = ops.cast((box_iou(boxes, boxes) > overlap) & before, "float32")
    candidate = ops.cast(scores > LOWEST, "float32")

    def again(stays: Any, changed: Any) -> tuple[Any, Any]:
        beaten = ops.squeeze(ops.matmul(stays[:, None], suppresses), 1)
        now = ops.where(beaten > 0, 0.0, candidate)
        return now, ops.any(ops.not_equal(now, stays))

    stays, _ = ops.while_loop(lambda _, changed: changed, again, (candidate, ops.any(scores > LOWEST)))
    return stays > 0


def taken(x: Any, index: Any) -> Any:
    """The rows (B, R, ..) of x (B, N, ..) by index (B, R)."""
    batch, count = ops.shape(x)[:2]
    first = ops.arange(batch, dtype="int32")[:, None] * count
    return ops.take(ops.reshape(x, (-1, *x.shape[2:])), ops.cast(index, "int32") + first, axis=0)

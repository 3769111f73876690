"""Non-maximum suppression in keras.ops.

All shapes are static, so that the operations can be compiled, batched and exported to ONNX.
"""

from typing import Any

import numpy as np
from keras import ops

from .anchors import box_iou

LOWEST = -3.0e38  # finite score of entries that are not candidates


def top_boxes(boxes: Any, scores: Any, count: int) -> tuple[Any, Any]:
    """Selects the boxes with the highest scores, best first.

    Args:
        boxes: left, top, right, bottom of each box, (B, M, 4).
        scores: the score of each box, (B, M); the constant LOWEST for boxes that must not be selected.
        count: the number of boxes to select.

    Returns:
        Boxes (B, count, 4) and their scores (B, count). If fewer than `count` boxes may be selected, the scores of the
        remaining entries are LOWEST.
    """
    batch = ops.shape(scores)[0]
    scores = ops.concatenate([scores, ops.full((batch, count), LOWEST, dtype=scores.dtype)], axis=1)
    boxes = ops.concatenate([boxes, ops.zeros((batch, count, 4), dtype=boxes.dtype)], axis=1)
    best, index = ops.top_k(scores, count)
    return take_rows(boxes, index), best


def suppress(boxes: Any, scores: Any, overlap: float) -> Any:
    """Performs greedy non-maximum suppression, which keeps a box unless a kept box with a higher score overlaps it.

    Two boxes overlap if their intersection over union is above `overlap`. The condition is evaluated for all boxes at
    once and repeated until the result no longer changes. The number of repetitions is the length of the longest chain
    of boxes in which each suppresses the next, typically about ten, whereas the usual loop over boxes needs N steps.

    Args:
        boxes: left, top, right, bottom of each box, (B, N, 4), in descending order of score.
        scores: the score of each box, (B, N); the constant LOWEST for entries that are ignored.
        overlap: the largest intersection over union of two kept boxes, in 0..1.

    Returns:
        A mask (B, N), true for the boxes that are kept.
    """
    count = boxes.shape[1]
    before = np.triu(np.ones((count, count), bool), 1)
    suppresses = ops.cast((box_iou(boxes, boxes) > overlap) & before, "float32")
    candidate = ops.cast(scores > LOWEST, "float32")

    def iterate(kept: Any, changed: Any) -> tuple[Any, Any]:
        suppressed = ops.squeeze(ops.matmul(kept[:, None], suppresses), 1)
        now = ops.where(suppressed > 0, 0.0, candidate)
        return now, ops.any(ops.not_equal(now, kept))

    kept, _ = ops.while_loop(lambda _, changed: changed, iterate, (candidate, ops.any(scores > LOWEST)))
    return kept > 0


def take_rows(x: Any, index: Any) -> Any:
    """Selects rows of each array of a batch by index.

    Args:
        x: a batch of arrays with N rows each, (B, N, ..).
        index: integers in 0..N-1, (B, R): the rows to select from each array.

    Returns:
        The selected rows, (B, R, ..).
    """
    batch, count = ops.shape(x)[:2]
    first = ops.arange(batch, dtype="int32")[:, None] * count
    return ops.take(ops.reshape(x, (-1, *x.shape[2:])), ops.cast(index, "int32") + first, axis=0)

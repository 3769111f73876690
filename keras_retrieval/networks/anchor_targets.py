"""Training targets of region proposals: which anchors are objects, and their regression targets."""

import numpy as np
from keras import ops

from ..layers.anchors import box_iou, clip_boxes, encode

OBJECT, BACKGROUND, IGNORED = 1.0, 0.0, -1.0
OBJECT_FROM, BACKGROUND_BELOW = 0.7, 0.3  # thresholds on intersection over union (Ren et al. NIPS 2015)
SAMPLES = 256  # anchors per photo that contribute to the loss


def anchor_targets(
    anchors: np.ndarray, boxes: np.ndarray, size: tuple[int, int], rng: np.random.Generator, samples: int = SAMPLES
) -> np.ndarray:
    """Computes labels and regression targets for a balanced random sample of anchors (Ren et al. NIPS 2015).

    An anchor is an object if its overlap with an object is at least 0.7, or if no other anchor overlaps that object
    more. It is background if its overlap with every object is below 0.3. Overlaps are computed after clipping the
    anchors to the photo, as proposals are clipped, too; landmarks often fill most of a photo.

    Args:
        anchors: the anchors of the map, in cells, (M, 4).
        boxes: the boxes of the objects of the photo, in cells, (R, 4); R may be 0.
        size: the size (h, w) of the valid part of the map. Anchors centred outside this part are ignored.
        rng: the random generator of the sample.
        samples: the largest number of sampled anchors, of which at most half are objects.

    Returns:
        The targets, (M, 5) float32: 1 for an object, 0 for background or -1 for an ignored anchor; then the regression
        targets as `anchors.encode` defines them, 0 for anchors that are not objects.
    """
    label, nearest = _match(anchors, boxes, size)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    label[(centres >= np.array([size[1], size[0]])).any(axis=1)] = IGNORED
    objects = _subsample(label, OBJECT, samples // 2, rng)
    _subsample(label, BACKGROUND, samples - len(objects), rng)
    target = np.zeros((len(anchors), 5), np.float32)
    target[:, 0] = label
    target[objects, 1:] = ops.convert_to_numpy(encode(boxes[nearest[objects]].astype("float32"), anchors[objects]))
    return target


def _match(anchors: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The label of each anchor, and the index of the box that it overlaps most."""
    if not len(boxes):
        return np.full(len(anchors), BACKGROUND), np.zeros(len(anchors), np.int64)
    inside = clip_boxes(anchors, *size)
    overlap = ops.convert_to_numpy(box_iou(inside, ops.convert_to_tensor(boxes.astype("float32"))))
    most = overlap.max(axis=1)
    label = np.where(most < BACKGROUND_BELOW, BACKGROUND, IGNORED)
    label[(most >= OBJECT_FROM) | ((overlap == overlap.max(axis=0)) & (overlap > 0)).any(axis=1)] = OBJECT
    return label, overlap.argmax(axis=1)


def _subsample(label: np.ndarray, kind: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Keeps at most `count` random anchors of a kind, marks the others as ignored and returns the kept positions."""
    found = np.flatnonzero(label == kind)
    kept = rng.permutation(found)[:count]
    label[np.setdiff1d(found, kept)] = IGNORED
    return kept

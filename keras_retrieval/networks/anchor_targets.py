"""Training targets of region proposals: the label and the regression target of each anchor.

Boxes and anchors are (left, top, right, bottom) in cells of the feature map, see `keras_retrieval.layers.anchors`.
"""

import numpy as np
from keras import ops

from ..layers.anchors import box_iou, clip_boxes, encode

OBJECT, BACKGROUND, IGNORED = 1.0, 0.0, -1.0
OBJECT_FROM, BACKGROUND_BELOW = 0.7, 0.3  # thresholds on intersection over union (Ren et al. NIPS 2015)
SAMPLES = 256  # maximum number of anchors per photo that contribute to the loss


def anchor_targets(
    anchors: np.ndarray, boxes: np.ndarray, size: tuple[int, int], rng: np.random.Generator, samples: int = SAMPLES
) -> np.ndarray:
    """Computes the training targets of the anchors of one photo, for `losses.ProposalLoss` (Ren et al. NIPS 2015).

    An anchor is labelled object if its intersection over union (IoU) with the box of some object is at least 0.7, or if
    of all anchors it has the largest IoU, above 0, with some box. Otherwise it is labelled background if its IoU is
    below 0.3 with every box, and it is ignored in the loss if neither applies. Before the IoU is computed, anchors are
    clipped to the part of the feature map that belongs to the photo (`size`), because `RegionProposals` clips its
    proposals in the same way and landmarks often fill most of a photo. Of the object and background anchors a random
    sample is kept, and the rest are ignored, too.

    Args:
        anchors: the anchors of the padded feature map, (M, 4), as left, top, right, bottom in cells.
        boxes: the boxes of the objects in the photo, (R, 4), in the same form; R may be 0.
        size: height and width (h, w), in cells, of the part of the map that belongs to the photo. Anchors centred
            outside this part are ignored.
        rng: the random generator that draws the sample.
        samples: the maximum number of anchors in the sample, of which at most half are objects.

    Returns:
        The targets, (M, 5) float32. Column 0 is the label: 1 for an object, 0 for background, -1 for an ignored anchor.
        Columns 1 to 4 are the regression targets of `layers.anchors.encode` for the box that the anchor overlaps most;
        they are 0 for anchors that are not objects.
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
    """Returns the label of each anchor, (M,), and the index of the box that the anchor overlaps most, (M,)."""
    if not len(boxes):
        return np.full(len(anchors), BACKGROUND), np.zeros(len(anchors), np.int64)
    inside = clip_boxes(anchors, *size)
    overlap = ops.convert_to_numpy(box_iou(inside, ops.convert_to_tensor(boxes.astype("float32"))))
    most = overlap.max(axis=1)
    label = np.where(most < BACKGROUND_BELOW, BACKGROUND, IGNORED)
    label[(most >= OBJECT_FROM) | ((overlap == overlap.max(axis=0)) & (overlap > 0)).any(axis=1)] = OBJECT
    return label, overlap.argmax(axis=1)


def _subsample(label: np.ndarray, kind: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Keeps at most `count` random anchors with the label `kind` and returns their indexes; ignores the others.

    The labels of the others are set to IGNORED in `label` itself.
    """
    found = np.flatnonzero(label == kind)
    kept = rng.permutation(found)[:count]
    label[np.setdiff1d(found, kept)] = IGNORED
    return kept

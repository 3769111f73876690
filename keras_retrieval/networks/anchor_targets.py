"""What region proposals are to learn of a photo: which anchors are its objects, and how these differ from them."""

import numpy as np
from keras import ops

from ..layers.anchors import box_iou, clip_boxes, encode

OBJECT, BACKGROUND, IGNORED = 1.0, 0.0, -1.0
OBJECT_FROM, BACKGROUND_BELOW = 0.7, 0.3  # intersection over union (Ren et al. NIPS 2015)
SAMPLES = 256


def anchor_targets(
    anchors: np.ndarray, boxes: np.ndarray, size: tuple[int, int], rng: np.random.Generator, samples: int = SAMPLES
) -> np.ndarray:
    """Labels of anchors and their differences from the objects, a balanced sample of them (Ren et al. NIPS 2015).

    An anchor is an object's if they overlap by 0.7, or if no other overlaps that object more; it is background if it
    overlaps every object by less than 0.3. Anchors count with the part of them that lies in the photo, as proposals are
    cut at its borders, too: what photos of landmarks show fills most of them.

    Args:
        anchors: (M, 4) of the map, in cells.
        boxes: (R, 4) of the photo's objects, in cells. R may be 0.
        size: (h, w) of the valid part of the map. Anchors that stand outside of it are ignored.
        rng: draws the sample.
        samples: at most, of which objects are at most a half.

    Returns:
        (M, 5) float32: 1 for an object, 0 for background, -1 for what is ignored; then the differences from the
        object, 0 where there is none.
    """
    label, nearest = _match(anchors, boxes, size)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    label[(centres >= np.array([size[1], size[0]])).any(axis=1)] = IGNORED
    objects = _thinned(label, OBJECT, samples // 2, rng)
    _thinned(label, BACKGROUND, samples - len(objects), rng)
    target = np.zeros((len(anchors), 5), np.float32)
    target[:, 0] = label
    target[objects, 1:] = ops.convert_to_numpy(encode(boxes[nearest[objects]].astype("float32"), anchors[objects]))
    return target


def _match(anchors: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The label of each anchor and the box that it overlaps most."""
    if not len(boxes):
        return np.full(len(anchors), BACKGROUND), np.zeros(len(anchors), np.int64)
    inside = clip_boxes(anchors, *size)
    overlap = ops.convert_to_numpy(box_iou(inside, ops.convert_to_tensor(boxes.astype("float32"))))
    most = overlap.max(axis=1)
    label = np.where(most < BACKGROUND_BELOW, BACKGROUND, IGNORED)
    label[(most >= OBJECT_FROM) | ((overlap == overlap.max(axis=0)) & (overlap > 0)).any(axis=1)] = OBJECT
    return label, overlap.argmax(axis=1)


def _thinned(label: np.ndarray, kind: float, most: int, rng: np.random.Generator) -> np.ndarray:
    """Ignores all but so many anchors of a kind, and gives the places of those that stay."""
    found = np.flatnonzero(label == kind)
    stay = rng.permutation(found)[:most]
    label[np.setdiff1d(found, stay)] = IGNORED
    return stay

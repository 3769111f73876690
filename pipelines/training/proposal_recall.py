"""Recall of regions: the share of objects' boxes that region proposals and the rigid grids of R-MAC find."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..photos.reader import PhotoError
from ..photos.reading import Reading

OVERLAPS = (0.5, 0.7)
LEVELS = (3, 8)  # levels of the compared grids: 3 as published; 8 has about as many regions as there are proposals


@dataclass(frozen=True)
class Recall:
    """The recall of objects' boxes by one kind of regions.

    Attributes:
        regions: name of the kind of regions, such as "grid, 3 levels" or "proposals, all".
        count: mean number of regions per photo.
        found: for each of the thresholds 0.5 and 0.7, the share of the boxes that some region overlaps with an
            intersection over union of at least the threshold.
    """

    regions: str
    count: float
    found: tuple[float, ...]


def recall_of_boxes(
    network: Any, names: Sequence[str], shares: Mapping[str, np.ndarray], reading: Reading
) -> list[Recall]:
    """Measures the recall of objects' boxes by a network's region proposals and by the rigid grids of R-MAC.

    Each grid is compared with the best proposals, as many as the grid has regions.

    Args:
        network: a network with region proposals.
        names: names of the photos.
        shares: dict from the name of each photo to the (R, 4) boxes of its objects: left, top, right, bottom as shares
            (0..1) of the photo's sides.
        reading: the reader of the photos; photos that it cannot read are skipped.

    Returns:
        For a grid of 3 levels and one of 8 levels the recall of the grid and the recall of as many proposals, then the
        recall of all proposals. The list is empty if no photo with a box can be read.
    """
    from keras_retrieval.networks.regional import regional_layer

    pooling = regional_layer(network)
    propose = _proposer(network, pooling)
    counts: dict[str, list[int]] = {}
    best: dict[str, list[float]] = {}
    for name in names:
        try:
            proposed, size = propose(reading.read(name)[None])
        except PhotoError:
            continue
        for regions, boxes in _compared(proposed, size, pooling.whole_map):
            counts.setdefault(regions, []).append(len(boxes))
            best.setdefault(regions, []).extend(_best_overlaps(shares[name], boxes))
    if not any(best.values()):
        return []
    return [
        Recall(regions, float(np.mean(counts[regions])), tuple(float(np.mean(np.array(o) >= t)) for t in OVERLAPS))
        for regions, o in best.items()
    ]


def grid_boxes(height: int, width: int, levels: int) -> np.ndarray:
    """Returns the regions of R-MAC's rigid grid as shares of the sides of the feature map.

    Args:
        height: height of the feature map, in cells.
        width: width of the feature map, in cells.
        levels: number of levels (region sizes) of the grid.

    Returns:
        (R, 4) regions: left, top, right, bottom in 0..1.
    """
    from keras import ops

    from keras_retrieval.layers.cells import GridCells
    from keras_retrieval.layers.region_grid import region_masks

    grids = [GridCells(*region_masks(height, width, level, (height, width))) for level in range(1, levels + 1)]
    boxes = np.concatenate([ops.convert_to_numpy(grid.boxes)[0] for grid in grids])
    return boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)] / [width, height, width, height]


def table(rows: Sequence[Recall]) -> str:
    """Formats recalls as a text table with one line per kind of regions."""
    lines = [(f"{'recall of boxes at IoU':36}", f"{'regions':>9}", *(f"{overlap:8}" for overlap in OVERLAPS))]
    lines += [
        (f"{row.regions:36}", f"{row.count:9.1f}", *(f"{100 * share:7.1f}%" for share in row.found)) for row in rows
    ]
    return "\n".join("".join(line) for line in lines)


def _proposer(network: Any, pooling: Any) -> Callable[[np.ndarray], tuple[np.ndarray, tuple[int, int]]]:
    """Returns a function from a photo (1, H, W, 3) to its proposals, best first, as shares, and its map's size."""
    import keras
    import tensorflow as tf

    trunk = keras.Model(network.input, pooling.input)

    @tf.function(input_signature=[tf.TensorSpec((1, None, None, 3), tf.uint8)], autograph=False)
    def propose(pixels: Any) -> Any:
        x = trunk(pixels, training=False)
        boxes, exist = pooling.proposals(x)
        return tf.boolean_mask(boxes[0], exist[0]), tf.shape(x)[1:3]

    def as_shares(pixels: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
        boxes, (height, width) = (part.numpy() for part in propose(pixels))
        return boxes / [width, height, width, height], (int(height), int(width))

    return as_shares


def _compared(proposed: np.ndarray, size: tuple[int, int], whole_map: bool) -> list[tuple[str, np.ndarray]]:
    """Returns (name, boxes as shares) of each kind of regions; grids include the whole photo if it is pooled."""
    rows = []
    for levels in LEVELS:
        grid = np.concatenate([np.array([[0.0, 0, 1, 1]] * whole_map).reshape(-1, 4), grid_boxes(*size, levels)])
        rows += [(f"grid, {levels} levels", grid), (f"proposals, as many as in {levels} levels", proposed[: len(grid)])]
    return [*rows, ("proposals, all", proposed)]


def _best_overlaps(objects: np.ndarray, boxes: np.ndarray) -> list[float]:
    """Returns the largest intersection over union of each object (R, 4) with any of the boxes (S, 4)."""
    from keras import ops

    from keras_retrieval.layers.anchors import box_iou

    if not len(objects):
        return []
    overlaps = box_iou(*(ops.convert_to_tensor(some.astype("float32")) for some in (objects, boxes)))
    return ops.convert_to_numpy(ops.max(overlaps, axis=1)).tolist()

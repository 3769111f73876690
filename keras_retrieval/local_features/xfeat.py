"""XFeat (Potje et al., CVPR 2024): a small network that finds keypoints and their descriptors of 64 dimensions."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from .errors import LocalFeatureError
from .sampling import bilinear_matrix, on_map, sample_bicubic

DIMENSIONS = 64
MULTIPLE = 32
"""Photos are resized to the next smaller multiple of this number of pixels on each side, as in XFeat's own code."""
CELL = 8  # pixels along each side of a cell of the feature map
THRESHOLD = 0.05  # of the keypoint heat map
WINDOW = 5  # pixels along each side of the neighbourhood in which a keypoint must be the maximum
_EPSILON = 1e-5

_BLOCKS: dict[str, list[tuple[int, int, int, int]]] = {
    "block1": [(1, 4, 3, 1), (4, 8, 3, 2), (8, 8, 3, 1), (8, 24, 3, 2)],
    "block2": [(24, 24, 3, 1), (24, 24, 3, 1)],
    "block3": [(24, 64, 3, 2), (64, 64, 3, 1), (64, 64, 1, 1)],
    "block4": [(64, 64, 3, 2), (64, 64, 3, 1), (64, 64, 3, 1)],
    "block5": [(64, 128, 3, 2), (128, 128, 3, 1), (128, 128, 3, 1), (128, 64, 1, 1)],
    "block_fusion": [(64, 64, 3, 1), (64, 64, 3, 1)],
    "heatmap_head": [(64, 64, 1, 1), (64, 64, 1, 1)],
    "keypoint_head": [(64, 64, 1, 1), (64, 64, 1, 1), (64, 64, 1, 1)],
}
"""Convolutions with batch normalisation and ReLU: channels of the input and the output, side and stride."""
_LAST = {
    "skip1": (1, 24, "skip1.1"),
    "block_fusion": (64, 64, "block_fusion.2"),
    "heatmap_head": (64, 1, "heatmap_head.2"),
    "keypoint_head": (64, 65, "keypoint_head.3"),
}
"""Convolutions of 1 x 1 with a bias: channels of the input and the output, and their names in the published file."""


def xfeat() -> keras.Model:
    """Builds the network with random weights; `load_xfeat` gives it those of a file.

    Batch normalisation is part of the convolutions, because XFeat normalises without trainable scales.

    Input shape:
        Photos (B, H, W, 1): the means of red, green and blue, from 0 to 255. Height and width are multiples of 32.

    Output shape:
        Three float32 tensors: the feature map (B, H / 8, W / 8, 64), not normalised; the logits of the keypoints in
        each cell, (B, H / 8, W / 8, 65), of which the last stands for no keypoint; and the reliability of the features,
        (B, H / 8, W / 8, 1), from 0 to 1.
    """
    photos = keras.Input((None, None, 1), name="photos")
    grey = keras.layers.Lambda(_normalized, output_shape=(None, None, 1), name="grey")(photos)
    x = _block("block1", grey)
    pooled = keras.layers.AveragePooling2D(4, name="skip1_pool")(grey)
    x = _block("block2", keras.layers.Add(name="skip1_add")([x, _last("skip1", pooled)]))
    eighth = _block("block3", x)
    sixteenth = _block("block4", eighth)
    thirty_second = _block("block5", sixteenth)
    pyramid = [eighth, _enlarged(sixteenth, 2), _enlarged(thirty_second, 4)]
    features = _last("block_fusion", _block("block_fusion", keras.layers.Add(name="pyramid")(pyramid)))
    reliability = _last("heatmap_head", _block("heatmap_head", features))
    reliability = keras.layers.Activation("sigmoid", name="reliability")(reliability)
    cells = keras.layers.Lambda(_cells, output_shape=(None, None, CELL * CELL), name="cells")(grey)
    keypoints = _last("keypoint_head", _block("keypoint_head", cells))
    return keras.Model(photos, [features, keypoints, reliability], name="xfeat")


def load_xfeat(network: keras.Model, tensors: Mapping[str, np.ndarray]) -> None:
    """Gives a network from `xfeat` the published weights.

    Args:
        network: the network.
        tensors: the state dict of the published file: maps names such as "block1.0.layer.0.weight" to arrays. Tensors
            of the matcher ("fine_matcher...") are ignored.

    Raises:
        LocalFeatureError: a tensor is missing or has another shape.
    """
    for block, layers in _BLOCKS.items():
        for number, (inputs, outputs, side, _) in enumerate(layers):
            name = f"{block}.{number}.layer"
            kernel = _tensor(tensors, f"{name}.0.weight", (outputs, inputs, side, side))
            mean = _tensor(tensors, f"{name}.1.running_mean", (outputs,))
            scale = 1 / np.sqrt(_tensor(tensors, f"{name}.1.running_var", (outputs,)) + _EPSILON)
            weights = [kernel.transpose(2, 3, 1, 0) * scale, -mean * scale]
            network.get_layer(f"{block}_{number}").set_weights(weights)
    for block, (inputs, outputs, name) in _LAST.items():
        kernel = _tensor(tensors, f"{name}.weight", (outputs, inputs, 1, 1))
        bias = _tensor(tensors, f"{name}.bias", (outputs,))
        network.get_layer(f"{block}_last").set_weights([kernel.transpose(2, 3, 1, 0), bias])


def detect(network: keras.Model, photos: Any, top_k: int, threshold: float = THRESHOLD) -> tuple[Any, Any, Any]:
    """Finds the keypoints of photos of one size and their descriptors.

    A keypoint is a pixel whose probability is above a threshold and the maximum of its 5 x 5 neighbourhood. The score
    of a keypoint is its probability times the reliability of the feature map there.

    Args:
        network: a network from `xfeat`.
        photos: the photos, (B, H, W, 3), RGB from 0 to 255, of at least 32 pixels on each side. They are resized to
            multiples of 32.
        top_k: maximum number K of keypoints of a photo.
        threshold: smallest probability of a keypoint, from 0 to 1.

    Returns:
        A tuple of three, in the order of descending scores: the keypoints, (B, K, 2), x and y in pixels of `photos`,
        where 0 is the centre of the first pixel; their scores, (B, K), which are 0 in places without a keypoint, at the
        end; and their L2-normalised descriptors, (B, K, 64). All float32.
    """
    height, width = ops.shape(photos)[1], ops.shape(photos)[2]
    rows, columns = height // MULTIPLE * MULTIPLE, width // MULTIPLE * MULTIPLE
    grey = ops.mean(ops.cast(photos, "float32"), axis=-1, keepdims=True)
    resized = _resized(_resized(grey, columns, axis=2), rows, axis=1)
    features, logits, reliability = network(resized, training=False)
    scores = _scores(logits, reliability, rows, columns, threshold)
    flat = ops.reshape(scores, (-1, rows * columns))
    # So many zeros that there are always enough places.
    best, places = ops.top_k(ops.pad(flat, ((0, 0), (0, top_k))), top_k)
    places = ops.minimum(places, rows * columns - 1)
    x, y = (ops.cast(some, "float32") for some in (places % columns, places // columns))
    features = ops.normalize(features, axis=-1, order=2, epsilon=1e-12)
    cells_down, cells_across = ops.shape(features)[1], ops.shape(features)[2]
    descriptors = sample_bicubic(features, on_map(x, columns, cells_across), on_map(y, rows, cells_down))
    descriptors = ops.normalize(descriptors, axis=-1, order=2, epsilon=1e-12)
    ratio = [ops.cast(side, "float32") / ops.cast(even, "float32") for side, even in ((width, columns), (height, rows))]
    return ops.stack([x * ratio[0], y * ratio[1]], axis=-1), best, descriptors


def _scores(logits: Any, reliability: Any, rows: Any, columns: Any, threshold: float) -> Any:
    """The score of each pixel, (B, rows, columns): 0 where there is no keypoint."""
    probability = ops.softmax(logits, axis=-1)[..., : CELL * CELL]
    down, across = ops.shape(probability)[1], ops.shape(probability)[2]
    heat = ops.reshape(probability, (-1, down, across, CELL, CELL))
    heat = ops.reshape(ops.transpose(heat, (0, 1, 3, 2, 4)), (-1, rows, columns))
    largest = ops.max_pool(heat[..., None], WINDOW, 1, "same", data_format="channels_last")[..., 0]
    found = ops.logical_and(ops.equal(heat, largest), heat > threshold)
    # XFeat samples the probability at the nearest pixel, which is outside of the photo for the last row and column.
    y, x = ops.arange(rows)[:, None], ops.arange(columns)[None, :]
    inside = ops.logical_and(ops.logical_and(y < rows - 1, x < columns - 1), y + x > 0)
    weights = ops.matmul(reliability[..., 0], ops.transpose(bilinear_matrix(columns, across)))
    weights = ops.matmul(bilinear_matrix(rows, down), weights)
    return ops.where(ops.logical_and(found, inside), heat * weights, 0.0)


def _block(name: str, x: Any) -> Any:
    for number, (_, outputs, side, stride) in enumerate(_BLOCKS[name]):
        if side > 1:
            x = keras.layers.ZeroPadding2D(side // 2, name=f"{name}_{number}_pad")(x)
        x = keras.layers.Conv2D(outputs, side, stride, activation="relu", name=f"{name}_{number}")(x)
    return x


def _last(name: str, x: Any) -> Any:
    return keras.layers.Conv2D(_LAST[name][1], 1, name=f"{name}_last")(x)


def _enlarged(x: Any, factor: int) -> Any:
    def enlarged(x: Any) -> Any:
        rows, columns = ops.shape(x)[1], ops.shape(x)[2]
        return _resized(_resized(x, factor * columns, axis=2), factor * rows, axis=1)

    return keras.layers.Lambda(enlarged, output_shape=(None, None, x.shape[-1]), name=f"enlarged_{factor}")(x)


def _resized(photos: Any, length: Any, axis: int) -> Any:
    """Resizes one side of photos by bilinear interpolation without antialiasing."""
    old = ops.shape(photos)[axis]
    step = ops.cast(old, "float32") / ops.cast(length, "float32")
    places = ops.maximum((ops.cast(ops.arange(length), "float32") + 0.5) * step - 0.5, 0.0)
    first = ops.floor(places)
    share = ops.reshape(places - first, (-1, 1, 1) if axis == 1 else (-1, 1))
    low = ops.cast(first, "int32")
    before, after = ops.take(photos, low, axis=axis), ops.take(photos, ops.minimum(low + 1, old - 1), axis=axis)
    return before * (1.0 - share) + after * share


def _normalized(photos: Any) -> Any:
    """Photos from 0 to 1, normalised to mean 0 and variance 1 each."""
    grey = photos / 255.0
    mean = ops.mean(grey, axis=(1, 2), keepdims=True)
    variance = ops.mean(ops.square(grey - mean), axis=(1, 2), keepdims=True)
    return (grey - mean) / ops.sqrt(variance + _EPSILON)


def _cells(grey: Any) -> Any:
    """The 8 x 8 pixels of each cell as its channels."""
    rows, columns = ops.shape(grey)[1], ops.shape(grey)[2]
    cells = ops.reshape(grey, (-1, rows // CELL, CELL, columns // CELL, CELL))
    cells = ops.transpose(cells, (0, 1, 3, 2, 4))
    return ops.reshape(cells, (-1, rows // CELL, columns // CELL, CELL * CELL))


def _tensor(tensors: Mapping[str, np.ndarray], name: str, shape: Sequence[int]) -> np.ndarray:
    if name not in tensors:
        raise LocalFeatureError(f"the file is not one of XFeat: it has no tensor {name}")
    tensor = np.asarray(tensors[name], np.float64)
    if tensor.shape != tuple(shape) or not np.isfinite(tensor).all():
        found = f"is {tensor.shape}" if tensor.shape != tuple(shape) else "has values that are not finite"
        raise LocalFeatureError(f"the file is not one of XFeat: its tensor {name} {found}, not {tuple(shape)}")
    return tensor

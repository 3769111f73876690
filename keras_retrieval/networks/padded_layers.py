"""Applies the layers of a trunk to padded photos, so that no cell of a photo depends on the padding.

A convolution with padding reads zeros beyond the border of a photo. In a batch of padded photos the border of most
photos is inside the array, where earlier layers have written other values (a bias, for example). So the area beyond
each photo is set to zero before every layer that pads its input. The size of each photo in cells follows the rule by
which each layer computes the size of its output.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
from keras import ops

from ..errors import ArgumentError
from ..layers.cells import lowest
from ..layers.edge_filter import EdgeFilter
from ..layers.edge_strength import EdgeStrength
from ..layers.pixel_normalization import PixelNormalization
from ..layers.relup import ReLUP

_Call = Callable[..., Any]


@dataclass(frozen=True)
class PaddedMaps:
    """The feature maps of padded photos.

    Attributes:
        x: the maps, (B, h, w, C); the valid cells of each are a rectangle at the upper left.
        sizes: the height and width of each rectangle in cells, (B, 2) int32; 0 for a photo that is too small.
        zeroed: whether all other cells are 0.
    """

    x: Any
    sizes: Any
    zeroed: bool = False

    def inside(self) -> Any:
        """A mask (B, h, w) bool, true for the valid cells."""
        return inside(self.sizes, *ops.shape(self.x)[1:3])

    def zeros_beyond(self) -> Any:
        """The maps, with 0 in all cells that are not valid."""
        if self.zeroed:
            return self.x
        return self.x * ops.cast(self.inside(), self.x.dtype)[..., None]


def inside(sizes: Any, height: Any, width: Any) -> Any:
    """Returns masks (B, height, width), true in the upper left rectangle that has each photo's size, (B, 2)."""
    rows, columns = ops.arange(height) < sizes[:, :1], ops.arange(width) < sizes[:, 1:]
    return rows[:, :, None] & columns[:, None, :]


def apply_padded(layer: Any, maps: PaddedMaps) -> PaddedMaps:
    """Applies a layer or a trunk to the feature maps of padded photos.

    Args:
        layer: a layer, or a model of layers, in inference mode.
        maps: its input.

    Returns:
        Its output, whose valid cells are those of the photos without padding.

    Raises:
        ArgumentError: a layer's output in the valid cells would depend on the padding; the message names the layer.
    """
    result: PaddedMaps = _apply(layer, maps)
    return result


def check_layer(layer: Any) -> str:
    """Returns why a layer cannot be applied to padded photos exactly; "" if it can."""
    try:
        for inner in _leaves(layer):
            rule = _rule_of(inner)
            if rule in (_convolution, _max_pooling):
                _window(inner)
            if rule is _average_pooling:
                _window_inside(inner)
            if rule in (_channels, _concatenation):
                _require_channels(inner)
    except ArgumentError as misfit:
        return str(misfit)
    return ""


def _leaves(layer: Any) -> list[Any]:
    if isinstance(layer, keras.Sequential):
        return [leaf for inner in layer.layers for leaf in _leaves(inner)]
    if hasattr(layer, "_run_through_graph"):
        return [leaf for inner in layer.operations for leaf in _leaves(inner)]
    return [] if isinstance(layer, keras.layers.InputLayer) else [layer]


def _apply(layer: Any, *args: Any, **kwargs: Any) -> Any:
    if isinstance(layer, keras.Sequential):
        (x,) = args
        for inner in layer.layers:
            x = _apply(inner, x)
        return x
    if hasattr(layer, "_run_through_graph"):
        return layer._run_through_graph(args[0], operation_fn=lambda inner: partial(_apply, inner))
    kwargs = {name: value for name, value in kwargs.items() if value is not None}  # such as mask=None
    call = partial(layer, training=False) if getattr(layer, "_call_has_training_arg", False) else layer
    return _rule_of(layer)(layer, call, *args, **kwargs)


def _rule_of(layer: Any) -> _Call:
    kind = type(layer)
    rule = next((rule for base, rule in _RULES.items() if kind is base), None)
    if rule is None and kind.__module__.startswith("keras.src.ops."):
        rule = _cell_by_cell if kind.__name__ in _OPERATIONS else None
    if rule is None and kind.__module__.startswith("keras.") and kind.__name__ == "LayerScale":
        rule = _cell_by_cell
    if rule is None:
        raise ArgumentError(f"layer {layer.name} ({kind.__name__}) has no rule for padded photos")
    return rule


def _cell_by_cell(layer: Any, call: _Call, *args: Any, **kwargs: Any) -> PaddedMaps:
    """Layers that compute each cell from the same cell of their inputs."""
    found = [part for part in keras.tree.flatten((args, kwargs)) if isinstance(part, PaddedMaps)]
    args, kwargs = keras.tree.map_structure(
        lambda part: part.x if isinstance(part, PaddedMaps) else part, (args, kwargs)
    )
    return PaddedMaps(call(*args, **kwargs), found[0].sizes)


def _channels(layer: Any, call: _Call, *args: Any) -> PaddedMaps:
    _require_channels(layer)
    return _cell_by_cell(layer, call, *args)


def _concatenation(layer: Any, call: _Call, *args: Any) -> PaddedMaps:
    return _channels(layer, call, *args)


def _require_channels(layer: Any) -> None:
    axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
    if any(axis not in (-1, 3) for axis in axes):
        raise ArgumentError(f"layer {layer.name} ({type(layer).__name__}) is not along the channels")


def _convolution(layer: Any, call: _Call, maps: PaddedMaps) -> PaddedMaps:
    same, lengths, strides = _window(layer)
    reads = same and any(length > 1 for length in lengths)
    return PaddedMaps(call(maps.zeros_beyond() if reads else maps.x), _shrunk(maps.sizes, same, lengths, strides))


def _max_pooling(layer: Any, call: _Call, maps: PaddedMaps) -> PaddedMaps:
    same, lengths, strides = _window(layer)
    x = maps.x
    if same:
        x = ops.where(maps.inside()[..., None], x, lowest(x))
    return PaddedMaps(call(x), _shrunk(maps.sizes, same, lengths, strides))


def _average_pooling(layer: Any, call: _Call, maps: PaddedMaps) -> PaddedMaps:
    return PaddedMaps(call(maps.x), _shrunk(maps.sizes, False, *_window_inside(layer)))


def _zero_padding(layer: Any, call: _Call, maps: PaddedMaps) -> PaddedMaps:
    if layer.data_format != "channels_last":
        raise ArgumentError(f"layer {layer.name} has channels first")
    added = ops.array([sum(sides) for sides in layer.padding], "int32")
    return PaddedMaps(call(maps.zeros_beyond()), maps.sizes + added, True)


def _window(layer: Any) -> tuple[bool, list[int], list[int]]:
    """Whether a layer pads its input, and its window and strides in cells.

    The padding of the kind "same" with strides depends on the size of the array, not of the photo: 1 cell before an
    odd side and 0 before an even one, for a window of 3 and strides of 2.
    """
    if layer.data_format != "channels_last" or layer.padding not in ("same", "valid"):
        raise ArgumentError(f"layer {layer.name} has channels first, or the padding {layer.padding}")
    sides = layer.kernel_size if hasattr(layer, "kernel_size") else layer.pool_size
    dilation = getattr(layer, "dilation_rate", (1, 1))
    dilation = (dilation, dilation) if isinstance(dilation, int) else dilation
    lengths = [(side - 1) * step + 1 for side, step in zip(sides, dilation, strict=True)]
    strides = [*((layer.strides,) * 2 if isinstance(layer.strides, int) else layer.strides)]
    same = layer.padding == "same"
    if same:
        for length, stride in zip(lengths, strides, strict=True):
            if len({_before(side, length, stride) for side in range(length, length + 2 * stride)}) > 1:
                raise ArgumentError(
                    f"layer {layer.name} has the padding 'same' with strides, which depends on the size of the array"
                )
    return same, lengths, strides


def _window_inside(layer: Any) -> tuple[list[int], list[int]]:
    """The window and strides of a layer that does not pad its input."""
    same, lengths, strides = _window(layer)
    if same:
        raise ArgumentError(f"layer {layer.name} counts the cells inside the array, with the padding")
    return lengths, strides


def _before(side: int, length: int, stride: int) -> int:
    """Cells that the padding "same" adds before an axis."""
    return max((math.ceil(side / stride) - 1) * stride + length - side, 0) // 2


def _shrunk(sizes: Any, same: bool, lengths: list[int], strides: list[int]) -> Any:
    window, stride = ops.array(lengths, "int32"), ops.array(strides, "int32")
    found = ops.floor_divide(sizes + stride - 1 if same else sizes - window + stride, stride)
    return ops.maximum(found, 0)


_RULES: dict[type, _Call] = {
    **dict.fromkeys((keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D), _convolution),
    keras.layers.MaxPooling2D: _max_pooling,
    keras.layers.AveragePooling2D: _average_pooling,
    keras.layers.ZeroPadding2D: _zero_padding,
    keras.layers.Concatenate: _concatenation,
    **dict.fromkeys(
        (keras.layers.BatchNormalization, keras.layers.LayerNormalization, keras.layers.Normalization), _channels
    ),
    **dict.fromkeys(
        (
            PixelNormalization, EdgeStrength, EdgeFilter, ReLUP,
            keras.layers.Activation, keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU,
            keras.layers.Dense, keras.layers.Rescaling, keras.layers.Identity,
            keras.layers.Dropout, keras.layers.SpatialDropout2D,
            keras.layers.Add, keras.layers.Multiply, keras.layers.Subtract, keras.layers.Maximum,
            keras.layers.Minimum, keras.layers.Average,
        ),
        _cell_by_cell,
    ),
}  # fmt: skip
"""The rule of each kind of layer. A subclass may compute something else, and has none."""

_OPERATIONS = {"Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Relu", "Relu6", "Sigmoid", "Silu", "Gelu"}
"""Operations of keras.ops that compute cell by cell, if their other operand is a number or another map."""

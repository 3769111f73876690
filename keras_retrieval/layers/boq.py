"""BoQ: a bag of learned queries that attend to the cells of a feature map."""

from typing import Any

import keras
from keras import ops

from ..errors import ArgumentError
from .attention import attend, layer_normalize
from .cells import zero_masked
from .initial_values import drawn
from .l2_normalization import unit

_EPSILON = 1e-5


@keras.saving.register_keras_serializable("keras_retrieval")
class BoQ(keras.layers.Layer):
    """Lets learned queries attend to the cells of a feature map, and mixes what they read into a descriptor.

    A 3 x 3 convolution reduces the channels. Each of several blocks encodes the cells further (self-attention and a
    feed-forward network, each with an addition and layer normalisation after it), and its queries, after attention
    among themselves, attend to the encoded cells. A Dense layer over all queries of all blocks mixes them into `rows`
    vectors. The descriptor is L2-normalised.

    Args:
        width: channels d of a cell, a multiple of 64: attention has heads of 64 channels.
        queries: number of queries of a block.
        blocks: number of blocks.
        rows: number of vectors after the last layer.

    Input shape:
        (B, h, w, C), and an optional `mask` (B, h, w) that is true for valid cells. On a vision transformer, `build`
        takes the patch tokens before the last layer normalisation, as published.

    Output shape:
        (B, d x rows).

    Raises:
        ArgumentError: `width` is not a multiple of 64, or another argument is below 1.

    Example:
        >>> BoQ(width=384)(np.random.rand(1, 16, 20, 768)).shape
        (1, 12288)

    References:
        Ali-bey, Chaib-draa, Giguere: BoQ: A Place is Worth a Bag of Learnable Queries. CVPR 2024.
    """

    before_norm = True

    def __init__(self, width: int = 384, queries: int = 64, blocks: int = 2, rows: int = 32, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if width < 64 or width % 64:
            raise ArgumentError(f"width of BoQ must be a multiple of 64, got {width}")
        for name, number in {"queries": queries, "blocks": blocks, "rows": rows}.items():
            if number < 1:
                raise ArgumentError(f"{name} of BoQ must be at least 1, got {number}")
        self.width, self.queries, self.blocks, self.rows = width, queries, blocks, rows
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = (3, 3, input_shape[-1], self.width)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=drawn())
        self.bias = self.add_weight(name="bias", shape=(self.width,), initializer="zeros")
        self.norm = self._normalization("norm")
        self.parts = [self._block(f"block{number}") for number in range(self.blocks)]
        self.mixing = self._dense("mixing", self.blocks * self.queries, self.rows)

    def _block(self, name: str) -> dict[str, Any]:
        width = self.width
        spread = keras.initializers.RandomNormal(stddev=1.0)
        return {
            "attention": self._attention(f"{name}_attention"),
            "norm1": self._normalization(f"{name}_norm1"),
            "up": self._dense(f"{name}_up", width, 4 * width),
            "down": self._dense(f"{name}_down", 4 * width, width),
            "norm2": self._normalization(f"{name}_norm2"),
            "queries": self.add_weight(name=f"{name}_queries", shape=(1, self.queries, width), initializer=spread),
            "among": self._attention(f"{name}_among"),
            "norm_queries": self._normalization(f"{name}_norm_queries"),
            "across": self._attention(f"{name}_across"),
            "norm_out": self._normalization(f"{name}_norm_out"),
        }

    def _attention(self, name: str) -> tuple[Any, ...]:
        return *self._dense(f"{name}_qkv", self.width, 3 * self.width), *self._dense(
            f"{name}_out", self.width, self.width
        )

    def _dense(self, name: str, inputs: int, outputs: int) -> tuple[Any, Any]:
        kernel = self.add_weight(name=f"{name}_kernel", shape=(inputs, outputs), initializer=drawn())
        return kernel, self.add_weight(name=f"{name}_bias", shape=(outputs,), initializer="zeros")

    def _normalization(self, name: str) -> tuple[Any, Any]:
        scale = self.add_weight(name=f"{name}_scale", shape=(self.width,), initializer="ones")
        return scale, self.add_weight(name=f"{name}_offset", shape=(self.width,), initializer="zeros")

    def call(self, x: Any, mask: Any | None = None) -> Any:
        x = zero_masked(ops.cast(x, "float32"), mask)
        batch, rows, columns = ops.shape(x)[:3]
        x = ops.conv(x, _float32(self.kernel), padding="same") + _float32(self.bias)
        x = _normalized(ops.reshape(x, (batch, rows * columns, self.width)), self.norm)
        mask = None if mask is None else ops.reshape(ops.cast(mask, "bool"), (batch, rows * columns))
        read = []
        for part in self.parts:
            x = _normalized(x + _attended(x, x, part["attention"], mask), part["norm1"])
            hidden = ops.relu(_dense(x, part["up"]))
            x = _normalized(x + _dense(hidden, part["down"]), part["norm2"])
            queries = _float32(part["queries"])
            queries = _normalized(queries + _attended(queries, queries, part["among"]), part["norm_queries"])
            queries = ops.broadcast_to(queries, (batch, self.queries, self.width))
            read.append(_normalized(_attended(queries, x, part["across"], mask), part["norm_out"]))
        y = _dense(ops.swapaxes(ops.concatenate(read, axis=1), 1, 2), self.mixing)
        return ops.cast(unit(ops.reshape(y, (batch, self.width * self.rows))), self.compute_dtype)

    def compute_mask(self, x: Any, mask: Any | None = None) -> None:
        return None

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape[0], self.width * self.rows

    def get_config(self) -> dict[str, Any]:
        names = ("width", "queries", "blocks", "rows")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _float32(weight: Any) -> Any:
    return ops.cast(weight, "float32")


def _dense(x: Any, weights: tuple[Any, Any]) -> Any:
    return ops.matmul(x, _float32(weights[0])) + _float32(weights[1])


def _normalized(x: Any, weights: tuple[Any, Any]) -> Any:
    return layer_normalize(x, _float32(weights[0]), _float32(weights[1]), _EPSILON)


def _attended(queries: Any, x: Any, weights: tuple[Any, ...], mask: Any | None = None) -> Any:
    """Attention of queries (B, Q, D) to x (B, T, D) with heads of 64 channels, (B, Q, D)."""
    kernel, bias, *out = map(_float32, weights)
    width = kernel.shape[0]

    def heads(tokens: Any, part: int) -> Any:
        columns = slice(part * width, (part + 1) * width)
        y = ops.matmul(tokens, kernel[:, columns]) + bias[columns]
        batch, count = ops.shape(tokens)[:2]
        return ops.transpose(ops.reshape(y, (batch, count, width // 64, 64)), (0, 2, 1, 3))

    y = attend(heads(queries, 0), heads(x, 1), heads(x, 2), mask)
    batch, count = ops.shape(queries)[:2]
    return _dense(ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (batch, count, width)), (out[0], out[1]))

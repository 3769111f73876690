"""MixVPR: mixing of the cells of a feature map of a fixed size."""

from typing import Any

import keras
from keras import ops

from ..errors import ArgumentError
from .attention import layer_normalize
from .l2_normalization import unit


@keras.saving.register_keras_serializable("keras_retrieval")
class MixVPR(keras.layers.Layer):
    """Mixes the cells of each channel by feed-forward networks, then reduces channels and cells by Dense layers.

    Each mixer adds to the row of a channel's h x w cells x the value W2 relu(W1 LN(x)). The weights depend on the size
    of the map: `build` puts a layer before the trunk that resizes every photo to 320 x 320 pixels.

    Args:
        channels: channels after the first Dense layer.
        rows: values per channel after the second.
        mixers: number of mixers.

    Input shape:
        (B, h, w, C), with h and w known when the layer is built. A `mask` has no effect, as photos of one size
        have no padding.

    Output shape:
        (B, channels x rows), L2-normalised.

    Raises:
        ArgumentError: an argument is below 1, or h or w is unknown.

    Example:
        >>> MixVPR()(np.random.rand(1, 20, 20, 1024)).shape
        (1, 4096)

    References:
        Ali-bey, Chaib-draa, Giguere: MixVPR: Feature Mixing for Visual Place Recognition. WACV 2023.
    """

    def __init__(self, channels: int = 1024, rows: int = 4, mixers: int = 4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, number in {"channels": channels, "rows": rows, "mixers": mixers}.items():
            if number < 1:
                raise ArgumentError(f"{name} of MixVPR must be at least 1, got {number}")
        self.channels, self.rows, self.mixers = channels, rows, mixers
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        _, height, width, depth = input_shape
        if height is None or width is None or depth is None:
            raise ArgumentError("MixVPR needs a map of a known size: put FixedSize(320, 320) before the trunk")
        cells = height * width

        def dense(name: str, inputs: int, outputs: int) -> tuple[Any, Any]:
            kernel = self.add_weight(name=f"{name}_kernel", shape=(inputs, outputs), initializer="glorot_uniform")
            return kernel, self.add_weight(name=f"{name}_bias", shape=(outputs,), initializer="zeros")

        self.parts = []
        for number in range(self.mixers):
            scale = self.add_weight(name=f"mixer{number}_scale", shape=(cells,), initializer="ones")
            offset = self.add_weight(name=f"mixer{number}_offset", shape=(cells,), initializer="zeros")
            up = dense(f"mixer{number}_up", cells, cells)
            self.parts.append((scale, offset, *up, *dense(f"mixer{number}_down", cells, cells)))
        self.channel_weights = dense("channels", depth, self.channels)
        self.row_weights = dense("rows", cells, self.rows)

    def call(self, x: Any, mask: Any | None = None) -> Any:
        height, width, depth = x.shape[1:]
        x = ops.reshape(ops.cast(x, "float32"), (-1, height * width, depth))
        x = ops.swapaxes(x, 1, 2)
        for part in self.parts:
            scale, offset, *weights = (ops.cast(weight, "float32") for weight in part)
            y = layer_normalize(x, scale, offset, 1e-5)
            y = ops.relu(ops.matmul(y, weights[0]) + weights[1])
            x = x + ops.matmul(y, weights[2]) + weights[3]
        for kernel, bias in (self.channel_weights, self.row_weights):
            x = ops.matmul(ops.swapaxes(x, 1, 2), ops.cast(kernel, "float32")) + ops.cast(bias, "float32")
        return ops.cast(unit(ops.reshape(x, (-1, self.channels * self.rows))), self.compute_dtype)

    def compute_mask(self, x: Any, mask: Any | None = None) -> None:
        return None

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape[0], self.channels * self.rows

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "channels": self.channels, "rows": self.rows, "mixers": self.mixers}

"""A block of a vision transformer."""

from typing import Any

import keras
from keras import ops

from ..errors import ArgumentError
from .attention import attend, dense, gelu, layer_normalize, rotate
from .initial_values import drawn


@keras.saving.register_keras_serializable("keras_retrieval")
class TransformerBlock(keras.layers.Layer):
    """Computes x + s1 Attention(LN(x)), and of that y, y + s2 FeedForward(LN(y)), as in DINOv2 and DINOv3.

    The feed-forward network is Dense, GELU, Dense, or SwiGLU, which is Dense(silu(a) b) for the two halves a, b of a
    Dense layer. s1 and s2 are learned factors per channel.

    Args:
        heads: number of attention heads, which divides D.
        hidden: number of hidden units of the feed-forward network.
        gated: whether the feed-forward network is SwiGLU.
        epsilon: is added to the variance in both layer normalisations.
        scale: initial value of s1 and s2.

    Attributes:
        recompute: whether the activations are computed again in the backward pass instead of being stored (gradient
            checkpointing). It is set for a training, and not saved.

    Input shape:
        (B, T, D), with an optional `mask` (B, T) that is true for valid tokens, which alone are attended to. Or a list
        of it and of rotary positions (1 or B, N, 2 d), see `RotaryPositions`, which turn the queries and keys of the
        last N tokens.

    Output shape:
        (B, T, D).

    Raises:
        ArgumentError: `heads` does not divide D.

    Example:
        >>> TransformerBlock(heads=6, hidden=1536)(np.zeros((1, 321, 384))).shape
        (1, 321, 384)

    References:
        Oquab et al.: DINOv2: Learning Robust Visual Features without Supervision. TMLR 2024.
    """

    def __init__(
        self,
        heads: int,
        hidden: int,
        gated: bool = False,
        epsilon: float = 1e-6,
        scale: float = 1e-5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.heads = heads
        self.hidden = hidden
        self.gated = gated
        self.epsilon = epsilon
        self.scale = scale
        self.recompute = False
        self._in_remat = False
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        width = (input_shape[0] if isinstance(input_shape[0], list | tuple) else input_shape)[-1]
        if width % self.heads:
            raise ArgumentError(f"heads must divide the width of the tokens, got {self.heads} for {width}")

        def vector(name: str, size: int, initializer: Any) -> Any:
            return self.add_weight(name=name, shape=(size,), initializer=initializer)

        def dense(name: str, inputs: int, outputs: int) -> Any:
            # As wide as the published truncated normal of 0.02.
            kernel = self.add_weight(name=f"{name}_kernel", shape=(inputs, outputs), initializer=drawn(0.03))
            return kernel, vector(f"{name}_bias", outputs, "zeros")

        def normalization(name: str) -> Any:
            return vector(f"{name}_scale", width, "ones"), vector(f"{name}_offset", width, "zeros")

        constant = keras.initializers.Constant(self.scale)
        self.norm1 = normalization("norm1")
        self.qkv = dense("qkv", width, 3 * width)
        self.projection = dense("projection", width, width)
        self.scale1 = vector("scale1", width, constant)
        self.norm2 = normalization("norm2")
        self.up = dense("up", width, 2 * self.hidden if self.gated else self.hidden)
        self.down = dense("down", self.hidden, width)
        self.scale2 = vector("scale2", width, constant)

    def call(self, inputs: Any, mask: Any | None = None) -> Any:
        x, rotary = inputs if isinstance(inputs, list | tuple) else (inputs, None)
        mask = mask[0] if isinstance(mask, list | tuple) else mask
        if self.recompute and not self._in_remat:
            return keras.remat(lambda x: self._in_its_precision(x, rotary, mask))(x)
        return self._block(x, rotary, mask)

    def _in_its_precision(self, x: Any, rotary: Any | None, mask: Any | None) -> Any:
        # TensorFlow's backward pass runs this outside of the layer's call, which casts the weights.
        self._in_remat = True
        try:
            return self(x if rotary is None else [x, rotary], mask=mask)
        finally:
            self._in_remat = False

    def _block(self, x: Any, rotary: Any | None, mask: Any | None) -> Any:
        x = x + self._attention(self._normalized(x, self.norm1), rotary, mask) * self.scale1
        return x + self._feed_forward(self._normalized(x, self.norm2)) * self.scale2

    def _normalized(self, x: Any, weights: tuple[Any, Any]) -> Any:
        return layer_normalize(x, weights[0], weights[1], self.epsilon)

    def _attention(self, x: Any, rotary: Any | None, mask: Any | None) -> Any:
        batch, count, width = ops.shape(x)
        x = ops.reshape(dense(x, *self.qkv), (batch, count, 3, self.heads, width // self.heads))
        query, key, value = ops.unstack(ops.transpose(x, (2, 0, 3, 1, 4)), 3)
        if rotary is not None:
            query, key = rotate(query, rotary), rotate(key, rotary)
        x = ops.transpose(attend(query, key, value, mask), (0, 2, 1, 3))
        return dense(ops.reshape(x, (batch, count, width)), *self.projection)

    def _feed_forward(self, x: Any) -> Any:
        x = dense(x, *self.up)
        if self.gated:
            gate, x = ops.split(x, 2, axis=-1)
            x = ops.silu(gate) * x
        else:
            x = gelu(x)
        return dense(x, *self.down)

    def compute_mask(self, inputs: Any, mask: Any | None = None) -> Any:
        return mask[0] if isinstance(mask, list | tuple) else mask

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return tuple(input_shape[0] if isinstance(input_shape[0], list | tuple) else input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "heads": self.heads,
            "hidden": self.hidden,
            "gated": self.gated,
            "epsilon": self.epsilon,
            "scale": self.scale,
        }

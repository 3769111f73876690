"""The tokens of a vision transformer: the class token, registers, and the patches with their positions."""

from typing import Any, Literal, get_args

import keras
from keras import ops

from ..errors import ArgumentError
from .cells import valid_size

Interpolation = Literal["offset", "antialias", "size"]
"""How a grid of position embeddings is resized, see `TokenSequence`."""


@keras.saving.register_keras_serializable("keras_retrieval")
class TokenSequence(keras.layers.Layer):
    """Adds position embeddings to a map of patches, and puts a class token and registers before them.

    The learned positions form a square grid. For a photo with another number of patches, the grid is resized with
    bicubic interpolation in one of the three ways in which DINOv2's files were used; the differences are visible in the
    descriptors (cosine 0.9999), so that a network needs its own.

    Args:
        grid: side of the grid of learned positions in patches, such as 37 for 518 px with patches of 14 px; 0 for no
            positions.
        registers: number of register tokens, which have no position.
        interpolation: "offset" for DINOv2's own code without registers, where the scale is (n + 0.1) / grid for n
            patches, except for a photo of exactly the grid's size; "antialias" for networks with registers, in
            DINOv2's own code and in Hugging Face's, where the scale is n / grid and the filter is antialiased; "size"
            for Hugging Face's code without registers, where the scale is n / grid.

    Input shape:
        (B, h, w, D), with an optional `mask` (B, h, w) that is true on a rectangle of valid patches at the upper left.
        The positions of a padded photo are those of the photo without padding.

    Output shape:
        (B, 1 + registers + h x w, D): class token, registers, patches by rows.

    Raises:
        ArgumentError: `grid` or `registers` is negative, or `interpolation` is unknown.

    Example:
        >>> TokenSequence(37, registers=4)(np.zeros((1, 16, 20, 384))).shape
        (1, 325, 384)

    References:
        Oquab et al.: DINOv2: Learning Robust Visual Features without Supervision. TMLR 2024.
        Darcet, Oquab, Mairal, Bojanowski: Vision Transformers Need Registers. ICLR 2024.
    """

    def __init__(
        self, grid: int = 37, registers: int = 0, interpolation: Interpolation = "offset", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if grid < 0 or registers < 0:
            raise ArgumentError(f"grid and registers must be at least 0, got {grid} and {registers}")
        if interpolation not in get_args(Interpolation):
            known = ", ".join(get_args(Interpolation))
            raise ArgumentError(f"interpolation must be one of {known}, got {interpolation!r}")
        self.grid = grid
        self.registers = registers
        self.interpolation = interpolation
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        width = input_shape[-1]

        def tokens(name: str, count: int) -> Any:
            spread = keras.initializers.TruncatedNormal(stddev=0.02)
            return self.add_weight(
                name=name, shape=(1, count, width), initializer=spread, dtype="float32", autocast=False
            )

        self.class_token = tokens("class_token", 1)
        self.register_tokens = tokens("register_tokens", self.registers) if self.registers else None
        self.positions = tokens("positions", 1 + self.grid**2) if self.grid else None

    def call(self, x: Any, mask: Any | None = None) -> Any:
        batch, height, width, channels = ops.shape(x)
        patches = ops.cast(x, "float32")
        front = ops.convert_to_tensor(self.class_token)
        if self.positions is not None:
            positions = ops.convert_to_tensor(self.positions)
            front = front + positions[:, :1]
            patches = patches + self._resized(positions[0, 1:], (height, width), valid_size(x, mask))
        if self.register_tokens is not None:
            front = ops.concatenate([front, ops.convert_to_tensor(self.register_tokens)], axis=1)
        front = ops.broadcast_to(front, (batch, 1 + self.registers, channels))
        tokens = ops.concatenate([front, ops.reshape(patches, (batch, height * width, channels))], axis=1)
        return ops.cast(tokens, self.compute_dtype)

    def _resized(self, positions: Any, sides: tuple[Any, Any], sizes: tuple[Any, Any]) -> Any:
        """Resizes the grid of positions, (grid^2, D), to the patches of each photo, (h, w, D) or (B, h, w, D)."""
        channels = positions.shape[-1]
        grid = ops.reshape(positions, (self.grid, self.grid * channels))
        counts = [ops.cast(size, "float32") for size in sizes]
        if self.interpolation == "offset":
            same = (counts[0] == self.grid) & (counts[1] == self.grid)
            scales = [ops.where(same, 1.0, (count + 0.1) / self.grid) for count in counts]
        else:
            scales = [count / self.grid for count in counts]
        weights = _antialiased if self.interpolation == "antialias" else _nearest_four
        rows, columns = (weights(side, scale, self.grid) for side, scale in zip(sides, scales, strict=True))
        # Not as einsum, which OpenVINO does not compile for sides that are unknown until run time.
        resized = ops.matmul(rows, grid)
        resized = ops.reshape(resized, (*ops.shape(resized)[:-1], self.grid, channels))
        return ops.matmul(ops.expand_dims(columns, -3), resized)

    def compute_mask(self, x: Any, mask: Any | None = None) -> Any:
        if mask is None:
            return None
        batch, height, width = ops.shape(mask)
        front = ops.ones((batch, 1 + self.registers), "bool")
        return ops.concatenate([front, ops.reshape(mask, (batch, height * width))], axis=1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, height, width, channels = input_shape
        count = None if height is None or width is None else 1 + self.registers + height * width
        return batch, count, channels

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "grid": self.grid,
            "registers": self.registers,
            "interpolation": self.interpolation,
        }


def _cubic(x: Any, a: float) -> Any:
    """The kernel of bicubic interpolation (Keys 1981) at the distances |x|."""
    x = ops.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return ops.where(x <= 1, near, ops.where(x < 2, far, 0.0))


def _nearest_four(length: Any, scale: Any, old: int) -> Any:
    """Weights (.., length, old) of the four nearest old values, which repeat at the border; a = -0.75."""
    centre = (ops.cast(ops.arange(length), "float32") + 0.5) / ops.expand_dims(scale, -1) - 0.5
    first = ops.floor(centre)
    index = ops.cast(ops.arange(old), "float32")
    weights: Any = 0.0
    for tap in (-1.0, 0.0, 1.0, 2.0):
        place = ops.clip(first + tap, 0.0, old - 1.0)[..., None]
        weights = weights + ops.where(place == index, _cubic(centre - first - tap, -0.75)[..., None], 0.0)
    return weights


def _antialiased(length: Any, scale: Any, old: int) -> Any:
    """Weights (.., length, old) of a kernel that is widened where the grid shrinks and cut at the border; a = -0.5."""
    step = ops.expand_dims(1 / scale, (-2, -1))
    centre = (ops.cast(ops.arange(length), "float32")[:, None] + 0.5) * step
    distance = (ops.cast(ops.arange(old), "float32") + 0.5 - centre) / ops.maximum(step, 1.0)
    weights = _cubic(distance, -0.5)
    return weights / ops.sum(weights, axis=-1, keepdims=True)

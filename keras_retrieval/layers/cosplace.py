"""The head of CosPlace and EigenPlaces: GeM of normalised cells and a Dense layer."""

from typing import Any

import keras
from keras import ops

from ..errors import ArgumentError
from .cells import zero_masked
from .gem import GeM
from .l2_normalization import unit


@keras.saving.register_keras_serializable("keras_retrieval")
class CosPlace(keras.layers.Layer):
    """L2-normalises each cell of a feature map, pools the cells by GeM, and applies a Dense layer.

    The descriptor is not normalised; an L2Normalization layer usually follows.

    Args:
        units: dimensions of the descriptor, at least 1.
        p: initial exponent of GeM.
        trainable_p: whether the exponent is trainable.
        p_speed: factor on the updates of p, see `GeM`.

    Input shape:
        (B, h, w, C), and an optional `mask` (B, h, w) that is true for valid cells.

    Output shape:
        (B, units).

    Raises:
        ArgumentError: `units` is below 1, or `p` or `p_speed` is not a finite number above 0.

    Example:
        >>> CosPlace(512)(np.random.rand(2, 12, 16, 2048)).shape
        (2, 512)

    References:
        Berton, Masone, Caputo: Rethinking Visual Geo-localization for Large-Scale Applications. CVPR 2022.
        Berton, Trivigno, Caputo, Masone: EigenPlaces. ICCV 2023.
    """

    def __init__(
        self, units: int = 512, p: float = 3.0, trainable_p: bool = True, p_speed: float = 1.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if units < 1:
            raise ArgumentError(f"units of CosPlace must be at least 1, got {units}")
        self.units = units
        self.gem = GeM(p, trainable_p=trainable_p, p_speed=p_speed, dtype="float32", name="gem")
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.gem.build(input_shape)
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.units), initializer="glorot_uniform")
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")

    def call(self, x: Any, mask: Any | None = None) -> Any:
        x = zero_masked(ops.cast(x, "float32"), mask)
        x = self.gem(unit(x), mask=mask)
        return ops.cast(
            ops.matmul(x, ops.cast(self.kernel, "float32")) + ops.cast(self.bias, "float32"), self.compute_dtype
        )

    def compute_mask(self, x: Any, mask: Any | None = None) -> None:
        return None

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape[0], self.units

    def get_config(self) -> dict[str, Any]:
        options = {"p": self.gem.initial_p, "trainable_p": self.gem.trainable_p, "p_speed": self.gem.p_speed}
        return {**super().get_config(), "units": self.units, **options}

"""GeM: generalised-mean pooling."""

from typing import Any

import keras
from keras import ops

from .cells import AllCells, GridCells
from .pooling import Pooling


@keras.saving.register_keras_serializable("keras_retrieval")
class GeM(Pooling):
    """Generalised mean of each channel over the map, (mean max(x, e)^p)^(1/p) (Radenovic et al. TPAMI 2018).

    p = 1 is SPoC; p towards infinity is MAC.

    Args:
        p: the exponent at the start, > 0.
        per_channel: one exponent per channel (GeMmp) instead of one for all.
        trainable_p: whether the exponent learns.
        epsilon: the floor e under the activations.

    Input shape:
        (B, h, w, C), and an optional `mask` (B, h, w) of valid cells.

    Output shape:
        (B, C).

    Raises:
        ValueError: p or epsilon is not above 0.

    Example:
        >>> GeM(p=3.0)(np.random.rand(2, 24, 32, 512)).shape
        (2, 512)
    """

    def __init__(
        self,
        p: float = 3.0,
        per_channel: bool = False,
        trainable_p: bool = True,
        epsilon: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if p <= 0 or epsilon <= 0:
            raise ValueError(f"GeM needs p > 0 and epsilon > 0, not p={p}, epsilon={epsilon}")
        self.initial_p = float(p)
        self.per_channel = per_channel
        self.trainable_p = trainable_p
        self.epsilon = epsilon

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.p = self.add_weight(
            name="p",
            shape=(input_shape[-1],) if self.per_channel else (1,),
            initializer=keras.initializers.Constant(self.initial_p),
            trainable=self.trainable_p,
            dtype="float32",
            autocast=False,
        )

    def pool(self, x: Any, cells: AllCells | GridCells) -> Any:
        x = ops.maximum(x, self.epsilon)
        # Divided by the photo's maximum so that no power overflows; it cancels in the value and the gradient.
        top = ops.stop_gradient(ops.max(x, axis=(1, 2), keepdims=True))
        p = ops.convert_to_tensor(self.p)
        mean = cells.mean(ops.power(x / top, p))
        # A region far below the photo's maximum may underflow to 0, where the root has no gradient.
        return top * ops.power(ops.maximum(mean, 1e-37), 1.0 / p)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "p": self.initial_p,
            "per_channel": self.per_channel,
            "trainable_p": self.trainable_p,
            "epsilon": self.epsilon,
        }

"""GeM: generalised-mean pooling."""

from typing import Any

import keras
import numpy as np
from keras import ops

from .cells import Cells
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
        p_speed: the weight holds p / p_speed, so that a step of Adam, which is of the learning rate's size whatever
            the gradient's, moves p `p_speed` times as far. Published: 10 for one p, 100 for one per channel. With
            plain SGD, whose step grows with the gradient, p moves p_speed^2 times as far.

    Input shape:
        (B, h, w, C), and an optional `mask` (B, h, w) of valid cells.

    Output shape:
        (B, C).

    Raises:
        ValueError: p, epsilon or p_speed is not above 0.

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
        p_speed: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if p <= 0 or epsilon <= 0:
            raise ValueError(f"GeM needs p > 0 and epsilon > 0, not p={p}, epsilon={epsilon}")
        _require_speed(p_speed)
        self.initial_p = float(p)
        self.per_channel = per_channel
        self.trainable_p = trainable_p
        self.epsilon = epsilon
        self.p_speed = float(p_speed)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.scaled_p = self.add_weight(
            name="p",
            shape=(input_shape[-1],) if self.per_channel else (1,),
            initializer=keras.initializers.Constant(self.initial_p / self.p_speed),
            trainable=self.trainable_p,
            dtype="float32",
            autocast=False,
        )

    @property
    def p(self) -> Any:
        """The exponent as it stands, float32 (1,) or (C,)."""
        return ops.convert_to_tensor(self.scaled_p) * self.p_speed

    @property
    def undecayed(self) -> list[Any]:
        """The weights that the L2 penalty of a training leaves out."""
        return [self.scaled_p]

    def set_p(self, p: Any) -> None:
        """Puts an exponent in: one number, or (C,) of them where there is one per channel."""
        self.scaled_p.assign(np.broadcast_to(np.asarray(p, "float32") / self.p_speed, self.scaled_p.shape))

    def set_p_speed(self, p_speed: float) -> None:
        """Changes how fast the exponent learns and leaves it where it is. Call it before `compile`.

        Raises:
            ValueError: p_speed is not above 0.
        """
        _require_speed(p_speed)
        p = ops.convert_to_numpy(self.p) if self.built else None
        self.p_speed = float(p_speed)
        if p is not None:
            self.set_p(p)

    def pool(self, x: Any, cells: Cells) -> Any:
        x = ops.maximum(x, self.epsilon)
        # Divided by the photo's maximum so that no power overflows; it cancels in the value and the gradient.
        top = ops.stop_gradient(ops.max(x, axis=(1, 2), keepdims=True))
        p = self.p
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
            "p_speed": self.p_speed,
        }


def gem_layers(network: keras.Model) -> list[GeM]:
    """All GeM layers of a network, also those inside other layers."""
    return [layer for layer in network._flatten_layers() if isinstance(layer, GeM)]


def _require_speed(p_speed: float) -> None:
    if p_speed <= 0:
        raise ValueError(f"GeM needs p_speed > 0, not p_speed={p_speed}")

"""GeM: generalised-mean pooling."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from ..errors import ArgumentError
from .cells import Cells
from .pooling import Pooling


@keras.saving.register_keras_serializable("keras_retrieval")
class GeM(Pooling):
    """Generalised mean of each channel over the map: (mean max(x, e)^p)^(1/p).

    p = 1 gives SPoC, and p towards infinity gives MAC.

    Args:
        p: initial exponent, above 0.
        per_channel: whether there is one exponent per channel (GeMmp) instead of one for all channels.
        trainable_p: whether the exponent is trainable.
        epsilon: the lower bound e of the activations.
        p_speed: factor on the updates of p. The stored weight is p / p_speed. A step of Adam, whose size is about the
            learning rate, then changes p by `p_speed` times as much; published values are 10 for one exponent and 100
            for one per channel. A step of plain SGD, proportional to the gradient, changes p by p_speed^2 times as
            much.

    Input shape:
        (B, h, w, C), and an optional `mask` (B, h, w) of valid cells.

    Output shape:
        (B, C).

    Raises:
        ArgumentError: p, epsilon or p_speed is not above 0.

    Example:
        >>> GeM(p=3.0)(np.random.rand(2, 24, 32, 512)).shape
        (2, 512)

    References:
        Radenovic, Tolias, Chum: Fine-Tuning CNN Image Retrieval with No Human Annotation. TPAMI 2018.
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
        for name, value in {"p": p, "epsilon": epsilon, "p_speed": p_speed}.items():
            _require_positive(name, value)
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
        """The current exponent, float32 (1,) or (C,)."""
        return ops.convert_to_tensor(self.scaled_p) * self.p_speed

    @property
    def undecayed(self) -> list[Any]:
        """The weights that the L2 penalty in training does not include."""
        return [self.scaled_p]

    def set_p(self, p: Any) -> None:
        """Sets the exponent: one number, or (C,) numbers if there is one exponent per channel."""
        self.scaled_p.assign(np.broadcast_to(np.asarray(p, "float32") / self.p_speed, self.scaled_p.shape))

    def set_p_speed(self, p_speed: float) -> None:
        """Changes `p_speed` and keeps the exponent. Must be called before `compile`.

        Raises:
            ArgumentError: p_speed is not above 0.
        """
        _require_positive("p_speed", p_speed)
        p = ops.convert_to_numpy(self.p) if self.built else None
        self.p_speed = float(p_speed)
        if p is not None:
            self.set_p(p)

    def pool(self, x: Any, cells: Cells) -> Any:
        x = ops.maximum(x, self.epsilon)
        # Divide by the photo's maximum, so that the power cannot overflow; it cancels in the value and the gradient.
        top = ops.stop_gradient(ops.max(x, axis=(1, 2), keepdims=True))
        p = self.p
        mean = cells.mean(ops.power(x / top, p))
        # A region far below the photo's maximum can underflow to 0, where the root has no gradient.
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
    """All GeM layers of a network, including those nested in other layers."""
    return [layer for layer in network._flatten_layers() if isinstance(layer, GeM)]


def _require_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ArgumentError(f"{name} of GeM must be above 0, got {value}")
    if not math.isfinite(value):
        raise ArgumentError(f"{name} of GeM must be a finite number, got {value}")

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
    """Computes the generalised mean of each channel over the feature map: (mean max(x, e)^p)^(1/p).

    With p = 1 this is SPoC (for activations of at least e), and with p towards infinity it approaches MAC.

    Args:
        p: initial exponent, above 0.
        per_channel: whether each channel has its own exponent (GeMmp in the paper); by default one exponent serves all
            channels.
        trainable_p: whether the exponent is trainable.
        epsilon: the lower bound e of the activations, above 0.
        p_speed: factor on the updates of p, above 0. The stored weight is p / p_speed. Therefore a step of Adam, whose
            size is about the learning rate, changes p by about p_speed x learning rate, and a step of plain SGD, which
            is proportional to the gradient, changes p by p_speed^2 times as much as without the factor. Published
            values, for Adam, are 10 for a common exponent and 100 for one exponent per channel.

    Input shape:
        (B, h, w, C), and an optional `mask` (B, h, w) that is true for valid cells.

    Output shape:
        (B, C).

    Raises:
        ArgumentError: `p`, `epsilon` or `p_speed` is not a finite number above 0.

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
        """The current exponent as a float32 tensor (1,), or (C,) with one per channel; the layer must be built."""
        return ops.convert_to_tensor(self.scaled_p) * self.p_speed

    @property
    def undecayed(self) -> list[Any]:
        """The weight of the exponent, which training excludes from its L2 penalty; the layer must be built."""
        return [self.scaled_p]

    def set_p(self, p: Any) -> None:
        """Sets the exponent of a built layer.

        Args:
            p: the exponent, one number; or (C,) numbers if there is one exponent per channel.
        """
        self.scaled_p.assign(np.broadcast_to(np.asarray(p, "float32") / self.p_speed, self.scaled_p.shape))

    def set_p_speed(self, p_speed: float) -> None:
        """Changes `p_speed` and keeps the current value of the exponent p.

        Call this method before the model is compiled, because a training step that is already traced uses the old
        factor.

        Args:
            p_speed: the new factor on the updates of p, as for the class.

        Raises:
            ArgumentError: `p_speed` is not a finite number above 0.
        """
        _require_positive("p_speed", p_speed)
        p = ops.convert_to_numpy(self.p) if self.built else None
        self.p_speed = float(p_speed)
        if p is not None:
            self.set_p(p)

    def pool(self, x: Any, cells: Cells) -> Any:
        x = ops.maximum(x, self.epsilon)
        # Divide by the photo's maximum, so that the power cannot overflow; the divisor cancels in value and gradient.
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
    """Returns all GeM layers of a network, including those that are nested in other layers."""
    return [layer for layer in network._flatten_layers() if isinstance(layer, GeM)]


def _require_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ArgumentError(f"{name} of GeM must be above 0, got {value}")
    if not math.isfinite(value):
        raise ArgumentError(f"{name} of GeM must be a finite number, got {value}")

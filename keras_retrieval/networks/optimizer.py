"""Optimizers and schedules of the learning rate.

Other settings of the published training (Radenovic et al. TPAMI 2018) are arguments of `TupleModel` (the factor 1e-6 of
the L2 penalty, its default), `GeM` (`p_speed`) and `ContrastiveLoss` (the margin).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import keras
from keras import ops

from ..errors import ArgumentError

Schedule: TypeAlias = keras.optimizers.schedules.LearningRateSchedule


def decayed_rate(
    steps_per_epoch: int, learning_rate: float = 1e-6, decay: float = 0.01
) -> keras.optimizers.schedules.ExponentialDecay:
    """Makes the learning-rate schedule learning_rate * exp(-decay * epoch), which is constant within an epoch.

    Args:
        steps_per_epoch: number of optimizer steps in an epoch, at least 1.
        learning_rate: learning rate of the first epoch (epoch 0); published values are 5e-7 to 1e-6.
        decay: exponent of the decay per epoch, at least 0; with 0 the learning rate is constant.

    Returns:
        The schedule, for the argument `learning_rate` of a Keras optimizer.

    Raises:
        ArgumentError: `steps_per_epoch` is below 1, or `decay` is below 0.
    """
    if steps_per_epoch < 1:
        raise ArgumentError(f"steps_per_epoch must be at least 1, got {steps_per_epoch}")
    if not decay >= 0:
        raise ArgumentError(f"decay must be at least 0, got {decay}")
    return keras.optimizers.schedules.ExponentialDecay(
        learning_rate, decay_steps=steps_per_epoch, decay_rate=math.exp(-decay), staircase=True
    )


def linear_rate(steps: int, learning_rate: float, end: float = 0.0) -> Schedule:
    """Makes a learning rate that falls linearly from the first step, and is constant after the last.

    Args:
        steps: number of optimizer steps over which it falls, at least 1.
        learning_rate: learning rate of the first step.
        end: learning rate after the last step, as a share of the first; SALAD has 0.2.

    Raises:
        ArgumentError: `steps` is below 1, or `end` is not in 0..1.
    """
    if steps < 1:
        raise ArgumentError(f"steps must be at least 1, got {steps}")
    if not 0 <= end <= 1:
        raise ArgumentError(f"end must be in 0..1, got {end}")
    return keras.optimizers.schedules.PolynomialDecay(learning_rate, steps, end * learning_rate)


def stepped_rate(steps_per_epoch: int, learning_rate: float, epochs: Sequence[int], factor: float) -> Schedule:
    """Makes a learning rate that is multiplied by a factor at the end of some epochs.

    Args:
        steps_per_epoch: number of optimizer steps in an epoch, at least 1.
        learning_rate: learning rate of the first epoch.
        epochs: numbers of epochs after which it changes, such as (10, 20), increasing.
        factor: the factor.

    Raises:
        ArgumentError: `steps_per_epoch` is below 1, or the epochs do not increase from 1.
    """
    if steps_per_epoch < 1:
        raise ArgumentError(f"steps_per_epoch must be at least 1, got {steps_per_epoch}")
    if not epochs or list(epochs) != sorted(set(epochs)) or epochs[0] < 1:
        raise ArgumentError(f"epochs must increase from 1 or more, got {list(epochs)}")
    # Keras takes the value after a boundary from the step above it.
    boundaries = [epoch * steps_per_epoch - 1 for epoch in epochs]
    values = [learning_rate * factor**number for number in range(len(epochs) + 1)]
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)


@keras.saving.register_keras_serializable("keras_retrieval")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that is that of another schedule times (step + 1) / steps in the first steps.

    Args:
        schedule: the other schedule, or a learning rate.
        steps: number of steps of the warm-up, at least 1.

    Raises:
        ArgumentError: `steps` is below 1.

    Example:
        >>> float(WarmUp(1e-4, 10)(4))
        5e-05
    """

    def __init__(self, schedule: Schedule | float, steps: int) -> None:
        super().__init__()
        if steps < 1:
            raise ArgumentError(f"steps must be at least 1, got {steps}")
        self.schedule, self.steps = schedule, steps

    def __call__(self, step: Any) -> Any:
        rate = self.schedule(step) if callable(self.schedule) else self.schedule
        share = (ops.cast(step, "float32") + 1.0) / self.steps
        return ops.minimum(share, 1.0) * rate

    def get_config(self) -> dict[str, Any]:
        schedule = self.schedule
        if callable(schedule):
            schedule = keras.optimizers.schedules.serialize(schedule)
        return {"schedule": schedule, "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WarmUp":
        schedule = config["schedule"]
        if isinstance(schedule, Mapping):
            schedule = keras.optimizers.schedules.deserialize(dict(schedule))
        return cls(schedule, config["steps"])


def published_adam(steps_per_epoch: int, learning_rate: float = 1e-6, decay: float = 0.01) -> keras.optimizers.Adam:
    """Makes the Adam optimizer of the published code, with the learning-rate schedule of `decayed_rate`.

    Its epsilon is 1e-8, as in the published code; Keras' default is 1e-7.

    Args:
        steps_per_epoch: number of optimizer steps in an epoch, at least 1.
        learning_rate: learning rate of the first epoch.
        decay: exponent of the decay of the learning rate per epoch, at least 0.

    Raises:
        ArgumentError: `steps_per_epoch` is below 1, or `decay` is below 0.
    """
    return keras.optimizers.Adam(decayed_rate(steps_per_epoch, learning_rate, decay), epsilon=1e-8)


def adamw(rate: Schedule | float, weight_decay: float, undecayed: Sequence[Any] = ()) -> keras.optimizers.AdamW:
    """Makes AdamW, whose weight decay is apart from the gradient's moments (Loshchilov & Hutter, ICLR 2019).

    As in PyTorch, a step multiplies the weights by 1 - rate * weight_decay, and epsilon is 1e-8.

    Args:
        rate: the learning rate or its schedule.
        weight_decay: factor of the weight decay, at least 0.
        undecayed: weights that do not decay; the optimizer must not be built yet.

    Raises:
        ArgumentError: `weight_decay` is below 0.
    """
    if not weight_decay >= 0:
        raise ArgumentError(f"weight_decay must be at least 0, got {weight_decay}")
    optimizer = keras.optimizers.AdamW(rate, weight_decay=weight_decay, epsilon=1e-8)
    optimizer.exclude_from_weight_decay(var_list=list(undecayed))
    return optimizer

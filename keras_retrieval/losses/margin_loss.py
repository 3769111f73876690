"""The base class of the losses with a margin."""

from typing import Any

import keras

from ..errors import ArgumentError


class MarginLoss(keras.losses.Loss):
    """Base class of the losses with a margin, which compute in float32 under every dtype policy.

    Args:
        margin: the margin, above 0, in the units of the subclass's distance.
        reduction: how Keras reduces the values that `call` returns to the loss of a batch, such as "sum" or
            "sum_over_batch_size" (their mean); None keeps the values.
        name: name of the loss; None for the name of the class in snake case.

    Raises:
        ArgumentError: the margin is not above 0.
    """

    def __init__(self, margin: float, reduction: str | None, name: str | None = None) -> None:
        # With half precision Keras would round labels above 256 before `call` receives them.
        super().__init__(name=name, reduction=reduction, dtype="float32")
        if not margin > 0:
            raise ArgumentError(f"margin must be above 0, got {margin}")
        self.margin = margin

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "margin": self.margin}

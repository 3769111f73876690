"""What the losses with a margin share."""

from typing import Any

import keras


class MarginLoss(keras.losses.Loss):
    """A loss with a margin, in float32 whatever the descriptors are.

    Args:
        margin: above 0.
        reduction: of the values that `call` returns.
        name: of the loss.

    Raises:
        ValueError: if the margin is not above 0.
    """

    def __init__(self, margin: float, reduction: str | None, name: str | None = None) -> None:
        # Half precision would merge labels above 256 before `call` sees them.
        super().__init__(name=name, reduction=reduction, dtype="float32")
        if not margin > 0:
            raise ValueError(f"a margin is above 0, not {margin}")
        self.margin = margin

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "margin": self.margin}

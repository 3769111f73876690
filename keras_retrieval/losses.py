"""Losses on tuples (q, p, n1 .. nN): one query, one positive, N negatives, as descriptors of length one."""

from typing import Any

import keras
from keras import ops


class _TupleLoss(keras.losses.Loss):
    """Base of the losses on tuples: one value per tuple, summed over the batch as the published code does."""

    def __init__(self, margin: float, reduction: str = "sum", **kwargs: Any) -> None:
        super().__init__(reduction=reduction, **kwargs)
        if margin <= 0:
            raise ValueError(f"a margin is above 0, not {margin}")
        self.margin = margin

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "margin": self.margin}


@keras.saving.register_keras_serializable("keras_retrieval")
class ContrastiveLoss(_TupleLoss):
    """Pulls the positive to the query and pushes negatives to a margin (Radenovic et al. ECCV 2016, TPAMI 2018).

    A tuple costs D(q,p)^2 / 2 + sum_j max(margin - D(q,n_j), 0)^2 / 2, D(q,x) = ||q - x + 1e-6||.

    Args:
        margin: .75 for VGG16, .85 for ResNet101, .7 for AlexNet; about twice that with a whitening that learns.
        reduction: over the tuples of a batch.

    Call with:
        y_true: ignored; the place in the tuple says what is a positive.
        y_pred: (B, 2 + N, D) descriptors in the order q, p, n1 .. nN.
    """

    def __init__(self, margin: float = 0.75, reduction: str = "sum", **kwargs: Any) -> None:
        super().__init__(margin, reduction, **kwargs)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        tuples = ops.cast(y_pred, "float32")
        squares = ops.sum(ops.square(tuples[:, :1] - tuples[:, 1:] + 1e-6), axis=-1)
        # Only the negatives need the root, which has no gradient at 0.
        distance = ops.sqrt(ops.maximum(squares[:, 1:], 1e-24))
        push = ops.square(ops.maximum(self.margin - distance, 0.0))
        return 0.5 * (squares[:, 0] + ops.sum(push, axis=1))


@keras.saving.register_keras_serializable("keras_retrieval")
class TripletLoss(_TupleLoss):
    """Asks each negative to be farther than the positive (Gordo et al. IJCV 2017), on squared distances.

    A tuple costs sum_j max(||q - p||^2 - ||q - n_j||^2 + margin, 0).

    Args:
        margin: in units of squared distance.
        reduction: over the tuples of a batch.

    Call with:
        y_true: ignored; the place in the tuple says what is a positive.
        y_pred: (B, 2 + N, D) descriptors in the order q, p, n1 .. nN.
    """

    def __init__(self, margin: float = 0.1, reduction: str = "sum", **kwargs: Any) -> None:
        super().__init__(margin, reduction, **kwargs)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        tuples = ops.cast(y_pred, "float32")
        squares = ops.sum(ops.square(tuples[:, :1] - tuples[:, 1:]), axis=-1)
        return ops.sum(ops.maximum(squares[:, :1] - squares[:, 1:] + self.margin, 0.0), axis=1)

"""Losses on tuples (q, p, n1 .. nN): one query, its positives, N negatives, as descriptors of length one.

One value per tuple, summed over the batch as the published code does.
"""

from typing import Any

import keras
from keras import ops

from .margin_loss import MarginLoss


@keras.saving.register_keras_serializable("keras_retrieval")
class ContrastiveLoss(MarginLoss):
    """Pulls the positive to the query and pushes negatives to a margin (Radenovic et al. ECCV 2016, TPAMI 2018).

    A tuple costs D(q,p)^2 / 2 + sum_j max(margin - D(q,n_j), 0)^2 / 2, D(q,x) = ||q - x + 1e-6||.

    Args:
        margin: .75 for VGG16, .85 for ResNet101, .7 for AlexNet; about twice that with a whitening that learns.
        reduction: over the tuples of a batch.
        name: of the loss.

    Call with:
        y_true: ignored; the place in the tuple says what is a positive.
        y_pred: (B, 2 + N, D) descriptors in the order q, p, n1 .. nN.
    """

    def __init__(self, margin: float = 0.75, reduction: str | None = "sum", name: str | None = None) -> None:
        super().__init__(margin, reduction, name)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        squares = _squares(y_pred, 1e-6)
        # Only the negatives need the root, which has no gradient at 0.
        distance = ops.sqrt(ops.maximum(squares[:, 1:], 1e-24))
        push = ops.square(ops.maximum(self.margin - distance, 0.0))
        return 0.5 * (squares[:, 0] + ops.sum(push, axis=1))


@keras.saving.register_keras_serializable("keras_retrieval")
class TripletLoss(MarginLoss):
    """Asks each negative to be farther than the positive (Gordo et al. IJCV 2017), on squared distances.

    A tuple costs sum_j max(||q - p||^2 - ||q - n_j||^2 + margin, 0).

    Args:
        margin: in units of squared distance.
        reduction: over the tuples of a batch.
        name: of the loss.

    Call with:
        y_true: ignored; the place in the tuple says what is a positive.
        y_pred: (B, 2 + N, D) descriptors in the order q, p, n1 .. nN.
    """

    def __init__(self, margin: float = 0.1, reduction: str | None = "sum", name: str | None = None) -> None:
        super().__init__(margin, reduction, name)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        squares = _squares(y_pred)
        return ops.sum(ops.maximum(squares[:, :1] - squares[:, 1:] + self.margin, 0.0), axis=1)


@keras.saving.register_keras_serializable("keras_retrieval")
class WeaklySupervisedRankingLoss(MarginLoss):
    """Asks each negative to be farther than the best of the possible positives (Arandjelovic et al. CVPR 2016).

    A tuple costs sum_j max(min_i ||q - p_i||^2 + margin - ||q - n_j||^2, 0). Photos taken near the query may look the
    other way, so only the nearest descriptor among them is taken for a positive. Which one that is changes as the
    network learns.

    Args:
        positives: P, how many possible positives follow the query in each tuple. A query that has fewer repeats one.
        margin: in units of squared distance.
        reduction: over the tuples of a batch.
        name: of the loss.

    Call with:
        y_true: ignored; the place in the tuple says what may be a positive.
        y_pred: (B, 1 + P + N, D) descriptors in the order q, p1 .. pP, n1 .. nN.

    Raises:
        ValueError: if `positives` is below 1, or no negative follows them.
    """

    def __init__(
        self, positives: int = 1, margin: float = 0.1, reduction: str | None = "sum", name: str | None = None
    ) -> None:
        super().__init__(margin, reduction, name)
        if positives < 1:
            raise ValueError(f"a tuple has at least one positive, not {positives}")
        self.positives = positives

    def call(self, y_true: Any, y_pred: Any) -> Any:
        if y_pred.shape[1] is not None and y_pred.shape[1] < self.positives + 2:
            raise ValueError(f"a query, {self.positives} positives and no negative: y_pred has shape {y_pred.shape}")
        squares = _squares(y_pred)
        nearest = ops.min(squares[:, : self.positives], axis=1, keepdims=True)
        return ops.sum(ops.maximum(nearest + self.margin - squares[:, self.positives :], 0.0), axis=1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "positives": self.positives}


def _squares(tuples: Any, shift: float = 0.0) -> Any:
    """(B, M, D) -> (B, M - 1): squared distances ||q - x + shift||^2 of the query to the others."""
    return ops.sum(ops.square(tuples[:, :1] - tuples[:, 1:] + shift), axis=-1)

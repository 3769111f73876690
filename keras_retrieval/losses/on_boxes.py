"""The loss that region proposals learn from."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_retrieval")
class ProposalLoss(keras.losses.Loss):
    """Log loss of what is an object, and smooth L1 of the objects' boxes (Ren et al. NIPS 2015).

    Both are sums over a photo's sampled anchors, divided by their number.

    Args:
        reduction: of the photos' values.
        name: of the loss.

    Call arguments:
        y_true: (B, M, 5), of `anchor_targets`: 1 for an object, 0 for background, -1 for what does not count, and the
            differences of the box from its anchor.
        y_pred: (B, M, 5), of `ProposalModel`: the logit, and the differences.

    Example:
        >>> ProposalLoss()(np.zeros((1, 3, 5)), np.zeros((1, 3, 5)))
        0.6931472
    """

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "proposals") -> None:
        super().__init__(name=name, reduction=reduction, dtype="float32")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        label, logit = y_true[:, :, 0], y_pred[:, :, 0]
        counts, is_object = ops.cast(label >= 0, "float32"), ops.cast(label > 0, "float32")
        log_loss = ops.softplus(logit) - is_object * logit
        away = ops.abs(y_true[:, :, 1:] - y_pred[:, :, 1:])
        smooth = ops.sum(ops.where(away < 1, 0.5 * ops.square(away), away - 0.5), axis=-1)
        total = ops.sum(counts * log_loss + is_object * smooth, axis=1)
        return total / ops.maximum(ops.sum(counts, axis=1), 1.0)

"""The loss on boxes, which trains region proposals."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_retrieval")
class ProposalLoss(keras.losses.Loss):
    """Log loss of the objectness and smooth L1 loss of the boxes of objects.

    Both are summed over the sampled anchors of a photo and divided by the number of these anchors.

    Args:
        reduction: reduction over the photos of a batch.
        name: name of the loss.

    Call arguments:
        y_true: the targets, (B, M, 5), made by `anchor_targets`: 1 for an object, 0 for background or -1 for an anchor
            that is ignored; then the regression targets of the box.
        y_pred: the predictions, (B, M, 5), computed by `ProposalModel`: the logit, then the regression outputs.

    Example:
        >>> ProposalLoss()(np.zeros((1, 3, 5)), np.zeros((1, 3, 5)))
        0.6931472

    References:
        Ren, He, Girshick, Sun: Faster R-CNN. NIPS 2015.
    """

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "proposals") -> None:
        super().__init__(name=name, reduction=reduction, dtype="float32")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        label, logit = y_true[:, :, 0], y_pred[:, :, 0]
        counts, is_object = ops.cast(label >= 0, "float32"), ops.cast(label > 0, "float32")
        log_loss = ops.softplus(logit) - is_object * logit
        error = ops.abs(y_true[:, :, 1:] - y_pred[:, :, 1:])
        smooth = ops.sum(ops.where(error < 1, 0.5 * ops.square(error), error - 0.5), axis=-1)
        total = ops.sum(counts * log_loss + is_object * smooth, axis=1)
        return total / ops.maximum(ops.sum(counts, axis=1), 1.0)

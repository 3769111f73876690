"""The loss on boxes, which trains the layer `RegionProposals`."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_retrieval")
class ProposalLoss(keras.losses.Loss):
    """The loss of Faster R-CNN's region proposals: log loss of the objectness plus smooth L1 loss of the boxes.

    The loss of a photo is summed over its sampled anchors and divided by their number. Sampled anchors are those
    labelled object or background; only those labelled object contribute to the smooth L1 loss.

    Args:
        reduction: reduction over the B photos of a batch; their mean by default.
        name: name of the loss.

    Call arguments:
        y_true: the targets of the M anchors of each photo, (B, M, 5), made by `anchor_targets`. The first value is the
            label, 1 for an object, 0 for background, -1 for an anchor that is not sampled; the other four are the
            regression targets of the box.
        y_pred: the predictions, (B, M, 5), computed by `ProposalModel`: the logit of being an object, then the four
            regression outputs.

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

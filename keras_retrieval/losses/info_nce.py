"""The InfoNCE loss on labels: a softmax of each positive against the negatives of a batch."""

from typing import Any

import keras
from keras import ops

from ..errors import ArgumentError
from .label_pairs import labelled, without_self

_NO_PAIR = -1e9  # logit of pairs that do not count


@keras.saving.register_keras_serializable("keras_retrieval")
class InfoNCELoss(keras.losses.Loss):
    """Cross-entropy of each matching pair of a batch against the negatives of its first photo.

    With the cosine similarities S_ij of photos, the positives P_i of photo i (the other photos with its label) and its
    negatives N_i (the photos with other labels), the loss of a pair (i, p) is
    -log(exp(S_ip / T) / (exp(S_ip / T) + sum_{N_i} exp(S_in / T))), and that of a photo the mean over its positives.
    A photo without positives has the loss 0. The loss depends on differences of similarities only: unlike a margin or
    a base, it does not ask for negatives at a certain distance, which networks that begin with all photos alike would
    have to be changed much for. Value and gradients are those of pytorch-metric-learning's NTXentLoss where all photos
    have as many positives, as in batches of P x K photos; otherwise that loss is the mean over pairs, not over photos.

    Args:
        temperature: the temperature T, above 0.
        reduction: reduction over the K photos of the batch; their mean by default. Padding does not count.
        name: name of the loss.

    Call arguments:
        y_true: labels, as for `MultiSimilarityLoss`: (B, M) or (K,) integers; or (B, M, 1 + L) or (K, 1 + L), with L
            labels whose photos are not negatives.
        y_pred: descriptors of the photos, (B, M, D) or (K, D), which are divided by their lengths.

    Raises:
        ArgumentError: the temperature is not above 0, or, when called, the numbers of labels and descriptors differ.

    Example:
        >>> InfoNCELoss(temperature=1.0)(np.array([0, 0, 1]), np.eye(3)[[0, 0, 1]])
        0.20884123

    References:
        Sohn: Improved Deep Metric Learning with Multi-class N-pair Loss Objective. NeurIPS 2016.
        van den Oord, Li, Vinyals: Representation Learning with Contrastive Predictive Coding. arXiv:1807.03748, 2018.
    """

    def __init__(
        self, temperature: float = 0.05, reduction: str | None = "sum_over_batch_size", name: str | None = None
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype="float32")
        if not temperature > 0:
            raise ArgumentError(f"temperature must be above 0, got {temperature}")
        self.temperature = temperature

    def call(self, y_true: Any, y_pred: Any) -> Any:
        batch = labelled(y_true, y_pred)
        positives, negatives = batch.pairs(batch.labels)
        positives = ops.cast(without_self(positives), "float32")
        logits = ops.matmul(batch.photos, ops.transpose(batch.photos)) / self.temperature
        others = ops.logsumexp(ops.where(negatives, logits, _NO_PAIR), axis=1, keepdims=True)
        cost = ops.softplus(others - logits) * positives
        return ops.sum(cost, axis=1) / ops.maximum(ops.sum(positives, axis=1), 1.0) * batch.shares()

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}

"""Losses on tuples (q, p, n1 .. nN) of a query, its positives and N negatives, given as L2-normalised descriptors.

A loss has one value per tuple; the default reduction is the sum over the batch, as in the published code.
"""

from typing import Any

import keras
from keras import ops

from ..errors import ArgumentError
from .margin_loss import MarginLoss


@keras.saving.register_keras_serializable("keras_retrieval")
class ContrastiveLoss(MarginLoss):
    """Contrastive loss: pulls the positive to the query and pushes negatives beyond a margin.

    The loss of a tuple is D(q,p)^2 / 2 + sum_j max(margin - D(q,n_j), 0)^2 / 2 with D(q,x) = ||q - x + 1e-6||.

    Args:
        margin: the margin, in units of distance. Published values are 0.75 for VGG16, 0.85 for ResNet101 and 0.7 for
            AlexNet; networks with a trainable whitening need about twice as much.
        reduction: reduction over the tuples of a batch; their sum by default.
        name: name of the loss.

    Call arguments:
        y_true: ignored, because the position in the tuple distinguishes positives from negatives.
        y_pred: L2-normalised descriptors, (B, 2 + N, D), in the order q, p, n1 .. nN.

    Raises:
        ArgumentError: the margin is not above 0.

    Example:
        >>> ContrastiveLoss()(np.zeros(1), np.eye(3)[None, [0, 0, 1]])
        0.0

    References:
        Radenovic, Tolias, Chum: CNN Image Retrieval Learns from BoW. ECCV 2016.
        Radenovic, Tolias, Chum: Fine-Tuning CNN Image Retrieval with No Human Annotation. TPAMI 2018.
    """

    def __init__(self, margin: float = 0.75, reduction: str | None = "sum", name: str | None = None) -> None:
        super().__init__(margin, reduction, name)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        squares = _squares(y_pred, 1e-6)
        # Only negatives need the root, which has no gradient at 0.
        distance = ops.sqrt(ops.maximum(squares[:, 1:], 1e-24))
        push = ops.square(ops.maximum(self.margin - distance, 0.0))
        return 0.5 * (squares[:, 0] + ops.sum(push, axis=1))


@keras.saving.register_keras_serializable("keras_retrieval")
class TripletLoss(MarginLoss):
    """Triplet loss on squared distances: each negative must be farther from the query than the positive, by a margin.

    The loss of a tuple is sum_j max(||q - p||^2 - ||q - n_j||^2 + margin, 0).

    Args:
        margin: the margin, in units of squared distance.
        reduction: reduction over the tuples of a batch; their sum by default.
        name: name of the loss.

    Call arguments:
        y_true: ignored, because the position in the tuple distinguishes positives from negatives.
        y_pred: L2-normalised descriptors, (B, 2 + N, D), in the order q, p, n1 .. nN.

    Raises:
        ArgumentError: the margin is not above 0.

    Example:
        >>> TripletLoss()(np.zeros(1), np.eye(3)[None, [0, 1, 0]])
        2.1

    References:
        Gordo, Almazan, Revaud, Larlus: End-to-End Learning of Deep Visual Representations. IJCV 2017.
    """

    def __init__(self, margin: float = 0.1, reduction: str | None = "sum", name: str | None = None) -> None:
        super().__init__(margin, reduction, name)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        squares = _squares(y_pred)
        return ops.sum(ops.maximum(squares[:, :1] - squares[:, 1:] + self.margin, 0.0), axis=1)


@keras.saving.register_keras_serializable("keras_retrieval")
class WeaklySupervisedRankingLoss(MarginLoss):
    """Triplet loss whose positive is the nearest of several potential positives.

    The loss of a tuple is sum_j max(min_i ||q - p_i||^2 + margin - ||q - n_j||^2, 0). Photos taken near the query may
    face another direction, so that only the potential positive with the nearest descriptor is used. The choice changes
    while the network learns.

    Args:
        positives: the number P of potential positives in each tuple. A query with fewer potential positives repeats
            one of them.
        margin: the margin, in units of squared distance.
        reduction: reduction over the tuples of a batch; their sum by default.
        name: name of the loss.

    Call arguments:
        y_true: ignored, because the position in the tuple distinguishes positives from negatives.
        y_pred: L2-normalised descriptors, (B, 1 + P + N, D), in the order q, p1 .. pP, n1 .. nN.

    Raises:
        ArgumentError: `positives` is below 1, the margin is not above 0, or a tuple has no negative.

    Example:
        >>> WeaklySupervisedRankingLoss(positives=2)(np.zeros(1), np.eye(3)[None, [0, 1, 0, 2]])
        0.0

    References:
        Arandjelovic, Gronat, Torii, Pajdla, Sivic: NetVLAD: CNN Architecture for Weakly Supervised Place Recognition.
        CVPR 2016.
    """

    def __init__(
        self, positives: int = 1, margin: float = 0.1, reduction: str | None = "sum", name: str | None = None
    ) -> None:
        super().__init__(margin, reduction, name)
        if positives < 1:
            raise ArgumentError(f"positives must be at least 1, got {positives}")
        self.positives = positives

    def call(self, y_true: Any, y_pred: Any) -> Any:
        if y_pred.shape[1] is not None and y_pred.shape[1] < self.positives + 2:
            raise ArgumentError(
                f"y_pred must have a query, {self.positives} positives and at least 1 negative on its second axis, "
                f"got the shape {y_pred.shape}"
            )
        squares = _squares(y_pred)
        nearest = ops.min(squares[:, : self.positives], axis=1, keepdims=True)
        return ops.sum(ops.maximum(nearest + self.margin - squares[:, self.positives :], 0.0), axis=1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "positives": self.positives}


def _squares(tuples: Any, shift: float = 0.0) -> Any:
    """(B, M, D) -> (B, M - 1): squared distances ||q - x + shift||^2 of the query to the other photos."""
    return ops.sum(ops.square(tuples[:, :1] - tuples[:, 1:] + shift), axis=-1)

"""Losses on training tuples (q, p, n1 .. nN): the L2-normalised descriptors of a query, a positive and N negatives.

`WeaklySupervisedRankingLoss` takes tuples with several positives. Each loss computes one value per tuple. The default
reduction is the sum over the tuples of a batch, as in the published code.
"""

from typing import Any

import keras
from keras import ops

from ..errors import ArgumentError
from .margin_loss import MarginLoss


@keras.saving.register_keras_serializable("keras_retrieval")
class ContrastiveLoss(MarginLoss):
    """Contrastive loss, which pulls the positive to the query and pushes negatives beyond a margin.

    For the descriptors of a query q, a positive p and N negatives n_j, the loss of the tuple is
    D(q,p)^2 / 2 + sum_j max(margin - D(q,n_j), 0)^2 / 2 with D(q,x) = ||q - x + 1e-6||.

    Args:
        margin: the margin, above 0, in units of distance. Published values are 0.75 for VGG16, 0.85 for ResNet101 and
            0.7 for AlexNet; networks with a trainable whitening need a margin about twice as large.
        reduction: reduction over the B tuples of a batch; their sum by default.
        name: name of the loss.

    Call arguments:
        y_true: ignored, because the position in the tuple distinguishes positives from negatives.
        y_pred: L2-normalised descriptors of the photos of each tuple, (B, 2 + N, D), in the order q, p, n1 .. nN.

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
    """Triplet loss on squared distances, which makes every negative farther from the query than the positive.

    For the descriptors of a query q, a positive p and N negatives n_j, the loss of the tuple is
    sum_j max(||q - p||^2 - ||q - n_j||^2 + margin, 0).

    Args:
        margin: the margin, above 0, in units of squared distance.
        reduction: reduction over the B tuples of a batch; their sum by default.
        name: name of the loss.

    Call arguments:
        y_true: ignored, because the position in the tuple distinguishes positives from negatives.
        y_pred: L2-normalised descriptors of the photos of each tuple, (B, 2 + N, D), in the order q, p, n1 .. nN.

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
    """Triplet loss whose positive is the nearest of several potential positives, as in NetVLAD's paper.

    For the descriptors of a query q, P potential positives p_i and N negatives n_j, the loss of the tuple is
    sum_j max(min_i ||q - p_i||^2 + margin - ||q - n_j||^2, 0). Potential positives are photos taken near the query.
    Because some of them may face another direction, only the one with the nearest descriptor is used; another one can
    become the nearest while the network learns.

    Args:
        positives: the number P of potential positives in each tuple, at least 1. In the tuple of a query with fewer
            potential positives, one of them must be repeated.
        margin: the margin, above 0, in units of squared distance.
        reduction: reduction over the B tuples of a batch; their sum by default.
        name: name of the loss.

    Call arguments:
        y_true: ignored, because the position in the tuple distinguishes positives from negatives.
        y_pred: L2-normalised descriptors of the photos of each tuple, (B, 1 + P + N, D), in the order q, p1 .. pP,
            n1 .. nN.

    Raises:
        ArgumentError: `positives` is below 1, the margin is not above 0, or, when called, the tuples have no negative.

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
    """Computes the squared distances ||q - x + shift||^2 of each query to the M - 1 other photos of its tuple.

    Args:
        tuples: descriptors, (B, M, D), the query first.
        shift: number that is added to every difference.

    Returns:
        The squared distances, (B, M - 1).
    """
    return ops.sum(ops.square(tuples[:, :1] - tuples[:, 1:] + shift), axis=-1)

"""Losses on labels, which compare every photo of a batch with every other photo; photos with equal labels match.

K is the number of photos of a batch. A batch of B tuples of M photos each contains K = B x M photos.
"""

from typing import Any

import keras
from keras import ops

from ..errors import ArgumentError
from .label_pairs import flat, matching, without_self
from .margin_loss import MarginLoss

DISTANCES = ("L2", "squared-L2")


class _TripletLossOnLabels(MarginLoss):
    """Base class of the triplet losses that select triplets within the batch, as in tensorflow-addons."""

    def __init__(self, margin: float, distance_metric: str, reduction: str | None, name: str | None) -> None:
        super().__init__(margin, reduction, name)
        if distance_metric not in DISTANCES:
            raise ArgumentError(f"distance_metric must be one of {', '.join(DISTANCES)}, got {distance_metric!r}")
        self.distance_metric = distance_metric

    def _distances_and_matches(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        labels, photos = flat(y_true, y_pred)
        return _distances(photos, squared=self.distance_metric == "squared-L2"), matching(labels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "distance_metric": self.distance_metric}


@keras.saving.register_keras_serializable("keras_retrieval")
class BatchHardTripletLoss(_TripletLossOnLabels):
    """Triplet loss on the farthest positive and the nearest negative of each photo of a batch (batch hard).

    The loss of a photo a is max(max_p D(a,p) - min_n D(a,n) + margin, 0), or ln(1 + exp(max_p D(a,p) - min_n D(a,n)))
    with a soft margin, as in TripletHardLoss of tensorflow-addons. p are the other photos with the label of a, and n
    the photos with other labels. If there is no p, max_p D(a,p) is 0; if there is no n, min_n D(a,n) is the distance of
    the farthest photo.

    Args:
        margin: the margin, above 0, in units of the distance; has no effect with a soft margin.
        soft: whether to use the soft margin, the second formula above.
        distance_metric: the distance D, "L2" or "squared-L2".
        reduction: reduction over the K photos of the batch; their mean by default.
        name: name of the loss.

    Call arguments:
        y_true: the label of each photo, an integer that is equal for photos of the same object, (B, M) or (K,).
        y_pred: L2-normalised descriptors of the photos, (B, M, D) or (K, D).

    Raises:
        ArgumentError: the margin is not above 0, the distance is unknown, or, when called, the numbers of labels and
            descriptors differ.

    Example:
        >>> BatchHardTripletLoss()(np.array([0, 0, 1, 1]), np.eye(4))
        1.0

    References:
        Hermans, Beyer, Leibe: In Defense of the Triplet Loss for Person Re-Identification. arXiv:1703.07737, 2017.
    """

    def __init__(
        self,
        margin: float = 1.0,
        soft: bool = False,
        distance_metric: str = "L2",
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(margin, distance_metric, reduction, name)
        self.soft = soft

    def call(self, y_true: Any, y_pred: Any) -> Any:
        distances, matches = self._distances_and_matches(y_true, y_pred)
        gap = _farthest(distances, without_self(matches)) - _nearest(distances, ~matches)
        cost = ops.softplus(gap) if self.soft else ops.maximum(gap + self.margin, 0.0)
        return ops.squeeze(cost, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "soft": self.soft}


@keras.saving.register_keras_serializable("keras_retrieval")
class SemiHardTripletLoss(_TripletLossOnLabels):
    """Triplet loss on every matching pair of a batch and the nearest negative beyond its positive (semi-hard).

    The loss of a pair (a, p) of photos with equal labels is max(D(a,p) - D(a,n) + margin, 0). n is the photo with
    another label that is nearest to a among those farther from a than p, or the farthest one if none is farther than p.
    The loss of a batch is the mean over all ordered pairs, as in TripletSemiHardLoss of tensorflow-addons, except that
    it is 0 instead of NaN if no two photos match. For K photos it needs memory for K^3 values.

    Args:
        margin: the margin, above 0, in units of the distance.
        distance_metric: the distance D, "L2" or "squared-L2".
        reduction: has no effect on the value, because the mean over pairs is a single number.
        name: name of the loss.

    Call arguments:
        y_true: the label of each photo, an integer that is equal for photos of the same object, (B, M) or (K,).
        y_pred: L2-normalised descriptors of the photos, (B, M, D) or (K, D).

    Raises:
        ArgumentError: the margin is not above 0, the distance is unknown, or, when called, the numbers of labels and
            descriptors differ.

    Example:
        >>> SemiHardTripletLoss()(np.array([0, 0, 1]), np.eye(3))
        1.0

    References:
        Schroff, Kalenichenko, Philbin: FaceNet. CVPR 2015.
    """

    def __init__(
        self,
        margin: float = 1.0,
        distance_metric: str = "L2",
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(margin, distance_metric, reduction, name)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        distances, matches = self._distances_and_matches(y_true, y_pred)
        gap = distances - _semi_hard(distances, ~matches)
        pairs = ops.cast(without_self(matches), "float32")
        cost = ops.sum(ops.maximum(gap + self.margin, 0.0) * pairs) / ops.maximum(ops.sum(pairs), 1.0)
        # With an axis, so that Keras scales the mean correctly over the replicas of a strategy.
        return ops.expand_dims(cost, 0)


@keras.saving.register_keras_serializable("keras_retrieval")
class AveragePrecisionLoss(keras.losses.Loss):
    """The loss 1 - mAP, where every photo of the batch is a query that ranks all K photos of the batch.

    To make the average precision AP differentiable, similarities are counted in bins with triangular weights. h_m is
    the (fractional) number of photos in the m-th bin, counted from the highest similarity, h+_m the number of matching
    photos among them, and n+ the number of matching photos in the batch. Then
    AP = sum_m (h+_1 + .. + h+_m) / (h_1 + .. + h_m) h+_m / n+.
    As published, each photo is included in its own ranking. The loss is intended for large batches, and needs memory
    for K x K x bins values.

    Args:
        bins: the number of bins, at least 2, with centres at equal distances from similarity 1 down to -1.
        reduction: reduction over the K photos of the batch; their mean by default.
        name: name of the loss.

    Call arguments:
        y_true: the label of each photo, an integer that is equal for photos of the same object, (B, M) or (K,).
        y_pred: L2-normalised descriptors of the photos, (B, M, D) or (K, D).

    Raises:
        ArgumentError: `bins` is below 2, or, when called, the numbers of labels and descriptors differ.

    Example:
        >>> AveragePrecisionLoss()(np.array([0, 0, 1]), np.eye(3)[[0, 0, 1]])
        0.0

    References:
        Revaud, Almazan, Rezende, de Souza: Learning with Average Precision. ICCV 2019.
    """

    def __init__(self, bins: int = 20, reduction: str | None = "sum_over_batch_size", name: str | None = None) -> None:
        super().__init__(name=name, reduction=reduction, dtype="float32")
        if bins < 2:
            raise ArgumentError(f"bins must be at least 2, got {bins}")
        self.bins = bins

    def call(self, y_true: Any, y_pred: Any) -> Any:
        labels, photos = flat(y_true, y_pred)
        matches = ops.cast(matching(labels), "float32")
        weights = self._weights(ops.matmul(photos, ops.transpose(photos)))
        counts = ops.sum(weights, axis=-1)
        hits = ops.matmul(weights, matches[..., None])[..., 0]
        above = ops.cumsum(counts, axis=-1)
        # If the bins so far contain no photo, the numerator is 0, too, so that any divisor other than 0 is correct.
        precision = ops.cumsum(hits, axis=-1) / ops.where(above > 0, above, 1.0)
        return 1.0 - ops.sum(precision * hits, axis=-1) / ops.sum(matches, axis=-1)

    def _weights(self, similarity: Any) -> Any:
        """Computes the share of each similarity (K, K) that counts in each bin, (K, bins, K), highest bin first."""
        centres = ops.linspace(1.0, -1.0, self.bins, dtype="float32")[:, None]
        width = 2.0 / (self.bins - 1)
        # Rounding can produce similarities above 1, which the highest bin would count only in part.
        near = ops.clip(similarity, -1.0, 1.0)[:, None]
        return ops.maximum(1.0 - ops.abs(near - centres) / width, 0.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bins": self.bins}


def _distances(photos: Any, squared: bool) -> Any:
    """Computes the distances (K, K) of descriptors (K, D).

    On the diagonal and for identical descriptors the distance is 0 with gradient 0.
    """
    # Distances do not depend on the origin. Descriptors of one network have a large mean, whose square would cost the
    # squared distance of near descriptors its last digits.
    photos = photos - ops.stop_gradient(ops.mean(photos, axis=0, keepdims=True))
    lengths = ops.sum(ops.square(photos), axis=1)
    squares = lengths[:, None] + lengths[None] - 2.0 * ops.matmul(photos, ops.transpose(photos))
    apart = ops.logical_and(squares > 0, ops.logical_not(ops.eye(ops.shape(photos)[0], dtype="bool")))
    # The root has no gradient at 0, and `where` does not stop NaN in the backward pass: use 1 there instead.
    distances = squares if squared else ops.sqrt(ops.where(apart, squares, 1.0))
    return ops.where(apart, distances, 0.0)


def _farthest(distances: Any, chosen: Any) -> Any:
    """Returns the largest distance of each row where `chosen` is true, (K, 1); the row's smallest if it never is."""
    return ops.max(ops.where(chosen, distances, ops.min(distances, axis=-1, keepdims=True)), axis=-1, keepdims=True)


def _nearest(distances: Any, chosen: Any) -> Any:
    """Returns the smallest distance of each row where `chosen` is true, (.., 1); the row's largest if it never is."""
    return ops.min(ops.where(chosen, distances, ops.max(distances, axis=-1, keepdims=True)), axis=-1, keepdims=True)


def _semi_hard(distances: Any, negatives: Any) -> Any:
    """Returns the distance (K, K) of the semi-hard negative for each anchor a (row) and positive p (column).

    The semi-hard negative is the nearest negative of a that is farther from a than p, or a's farthest negative if there
    is none.
    """
    beyond = ops.logical_and(negatives[:, None], distances[:, None] > distances[:, :, None])
    nearest = ops.squeeze(_nearest(distances[:, None], beyond), axis=-1)
    return ops.where(ops.any(beyond, axis=-1), nearest, _farthest(distances, negatives))

"""Losses on labels: every photo of a batch is compared with every other, and equal labels match.

K is the number of photos of a batch: B tuples of M photos are taken for K = B M of them.
"""

from typing import Any

import keras
from keras import ops

from .margin_loss import MarginLoss

DISTANCES = ("L2", "squared-L2")


class _TripletLossOnLabels(MarginLoss):
    """Base of the triplet losses that find their triplets in the batch, as tensorflow-addons does."""

    def __init__(self, margin: float, distance_metric: str, reduction: str | None, name: str | None) -> None:
        super().__init__(margin, reduction, name)
        if distance_metric not in DISTANCES:
            raise ValueError(f"no distance '{distance_metric}'; there are {', '.join(DISTANCES)}")
        self.distance_metric = distance_metric

    def _distances_and_matches(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        labels, photos = _photos(y_true, y_pred)
        return _distances(photos, squared=self.distance_metric == "squared-L2"), _matches(labels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "distance_metric": self.distance_metric}


@keras.saving.register_keras_serializable("keras_retrieval")
class BatchHardTripletLoss(_TripletLossOnLabels):
    """The farthest positive against the nearest negative of each photo (Hermans et al. 2017, arXiv 1703.07737).

    A photo costs max(max_p D(a,p) - min_n D(a,n) + margin, 0), or ln(1 + exp(max_p D(a,p) - min_n D(a,n))) if soft: as
    TripletHardLoss of tensorflow-addons. A photo that is alone with its label is its own positive at distance 0; where
    nothing differs in label, the farthest photo stands for the negative.

    Args:
        margin: in units of the distance; not used if soft.
        soft: whether to take the soft margin.
        distance_metric: L2 or squared-L2.
        reduction: over the K photos; their mean by default.
        name: of the loss.

    Call with:
        y_true: (B, M) or (K,) integer labels, the object that each photo shows.
        y_pred: (B, M, D) or (K, D) descriptors of length one.

    Raises:
        ValueError: for an unknown distance, or labels that do not count as many as the descriptors.
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
        gap = _farthest(distances, _others(matches)) - _nearest(distances, ~matches)
        cost = ops.softplus(gap) if self.soft else ops.maximum(gap + self.margin, 0.0)
        return ops.squeeze(cost, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "soft": self.soft}


@keras.saving.register_keras_serializable("keras_retrieval")
class SemiHardTripletLoss(_TripletLossOnLabels):
    """Every positive against the nearest negative beyond it (Schroff et al. CVPR 2015, FaceNet).

    A pair (a, p) costs max(D(a,p) - D(a,n) + margin, 0), where n is the nearest of the negatives farther than p, or the
    farthest negative if none is. The loss is the mean over all pairs of photos with equal labels, both ways round: as
    TripletSemiHardLoss of tensorflow-addons, but 0 instead of NaN where there is no such pair. Takes memory for K^3
    values.

    Args:
        margin: in units of the distance.
        distance_metric: L2 or squared-L2.
        reduction: changes nothing, since the mean over pairs is one value.
        name: of the loss.

    Call with:
        y_true: (B, M) or (K,) integer labels, the object that each photo shows.
        y_pred: (B, M, D) or (K, D) descriptors of length one.

    Raises:
        ValueError: for an unknown distance, or labels that do not count as many as the descriptors.
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
        pairs = ops.cast(_others(matches), "float32")
        cost = ops.sum(ops.maximum(gap + self.margin, 0.0) * pairs) / ops.maximum(ops.sum(pairs), 1.0)
        # One value with an axis: Keras shares only such a mean out between replicas.
        return ops.expand_dims(cost, 0)


@keras.saving.register_keras_serializable("keras_retrieval")
class AveragePrecisionLoss(keras.losses.Loss):
    """1 - mAP of a batch whose photos search for each other (Revaud et al. ICCV 2019).

    Similarities are counted in bins with triangular weights, which makes AP differentiable: with h_m the photos and
    h+_m the matching photos in the m-th bin from the top, AP = sum_m (h+_1 + .. + h+_m) / (h_1 + .. + h_m) h+_m / n+.
    As published, each photo ranks itself too. It asks for large batches, and takes memory for K^2 times `bins` values.

    Args:
        bins: how many, evenly from similarity 1 down to -1.
        reduction: over the K photos; their mean by default.
        name: of the loss.

    Call with:
        y_true: (B, M) or (K,) integer labels, the object that each photo shows.
        y_pred: (B, M, D) or (K, D) descriptors of length one.

    Raises:
        ValueError: for less than two bins, or labels that do not count as many as the descriptors.
    """

    def __init__(self, bins: int = 20, reduction: str | None = "sum_over_batch_size", name: str | None = None) -> None:
        super().__init__(name=name, reduction=reduction, dtype="float32")
        if bins < 2:
            raise ValueError(f"similarities need at least 2 bins, not {bins}")
        self.bins = bins

    def call(self, y_true: Any, y_pred: Any) -> Any:
        labels, photos = _photos(y_true, y_pred)
        matches = ops.cast(_matches(labels), "float32")
        weights = self._weights(ops.matmul(photos, ops.transpose(photos)))
        counts = ops.sum(weights, axis=-1)
        hits = ops.matmul(weights, matches[..., None])[..., 0]
        above = ops.cumsum(counts, axis=-1)
        # Where no photo lies so high, no hit does: any divisor but 0 will do.
        precision = ops.cumsum(hits, axis=-1) / ops.where(above > 0, above, 1.0)
        return 1.0 - ops.sum(precision * hits, axis=-1) / ops.sum(matches, axis=-1)

    def _weights(self, similarity: Any) -> Any:
        """(K, K) -> (K, bins, K): the share of each similarity in each bin, from the highest bin down."""
        centres = ops.linspace(1.0, -1.0, self.bins, dtype="float32")[:, None]
        width = 2.0 / (self.bins - 1)
        # Rounding takes similarities beyond 1, where the highest bin would lose some of them.
        near = ops.clip(similarity, -1.0, 1.0)[:, None]
        return ops.maximum(1.0 - ops.abs(near - centres) / width, 0.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bins": self.bins}


def _photos(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Labels (K,) and descriptors (K, D), the axes of tuples flattened."""
    labels, photos = ops.reshape(y_true, (-1,)), ops.reshape(y_pred, (-1, y_pred.shape[-1]))
    if None not in (labels.shape[0], photos.shape[0]) and labels.shape[0] != photos.shape[0]:
        raise ValueError(
            f"every photo needs its label: y_true has shape {tuple(y_true.shape)}, y_pred {tuple(y_pred.shape)}"
        )
    return labels, photos


def _matches(labels: Any) -> Any:
    """(K,) -> (K, K): whether two photos have one label. A photo matches itself."""
    return ops.equal(labels[:, None], labels[None])


def _others(matches: Any) -> Any:
    """(K, K): the matches of each photo but itself."""
    return ops.logical_and(matches, ops.logical_not(ops.eye(ops.shape(matches)[0], dtype="bool")))


def _distances(photos: Any, squared: bool) -> Any:
    """(K, D) -> (K, K) distances, exactly 0 with gradient 0 on the diagonal and where two photos coincide."""
    lengths = ops.sum(ops.square(photos), axis=1)
    squares = lengths[:, None] + lengths[None] - 2.0 * ops.matmul(photos, ops.transpose(photos))
    apart = ops.logical_and(squares > 0, ops.logical_not(ops.eye(ops.shape(photos)[0], dtype="bool")))
    # The root has no gradient at 0, and where() does not keep NaN from flowing back: 1 stands in.
    distances = squares if squared else ops.sqrt(ops.where(apart, squares, 1.0))
    return ops.where(apart, distances, 0.0)


def _farthest(distances: Any, chosen: Any) -> Any:
    """Each row's largest distance among the chosen, (K, 1); the row's smallest if none is chosen."""
    return ops.max(ops.where(chosen, distances, ops.min(distances, axis=-1, keepdims=True)), axis=-1, keepdims=True)


def _nearest(distances: Any, chosen: Any) -> Any:
    """Each row's smallest distance among the chosen, (.., 1); the row's largest if none is chosen."""
    return ops.min(ops.where(chosen, distances, ops.max(distances, axis=-1, keepdims=True)), axis=-1, keepdims=True)


def _semi_hard(distances: Any, negatives: Any) -> Any:
    """(K, K): for anchor a and positive p the distance of the nearest negative beyond p, else of the farthest one."""
    beyond = ops.logical_and(negatives[:, None], distances[:, None] > distances[:, :, None])
    nearest = ops.squeeze(_nearest(distances[:, None], beyond), axis=-1)
    return ops.where(ops.any(beyond, axis=-1), nearest, _farthest(distances, negatives))

"""Losses on classes: a softmax over trainable class centres, with a margin for the class of the photo."""

import math
from typing import Any

import keras
from keras import ops

from ..errors import ArgumentError
from .label_pairs import labelled, unit
from .multi_similarity import MultiSimilarityLoss
from .weights_layers import ClassCentres

_OUT = -1e9  # logit of an excluded class


class _LossOnClasses(keras.losses.Loss):
    """Base class: cross-entropy over logits, which are scaled cosines to class centres."""

    def __init__(
        self,
        classes: int,
        dimensions: int,
        margin: float,
        scale: float,
        sub_centres: int,
        speed: float,
        reduction: str | None,
        name: str | None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype="float32")
        if not margin >= 0:
            raise ArgumentError(f"margin must be at least 0, got {margin}")
        if not scale > 0:
            raise ArgumentError(f"scale must be above 0, got {scale}")
        self.margin, self.scale = margin, scale
        self.layer = ClassCentres(classes, dimensions, sub_centres, speed)
        self.held_out = MultiSimilarityLoss()

    def call(self, y_true: Any, y_pred: Any) -> Any:
        batch = labelled(y_true, y_pred)
        cosines = self._cosines(batch.photos)
        classes = self.layer.classes
        labels = ops.cast(batch.labels, "int32")
        known = ops.maximum(labels, 0)
        target = ops.take_along_axis(cosines, known[:, None], axis=1)
        own = ops.equal(ops.arange(classes, dtype="int32")[None], known[:, None])
        logits = self.scale * ops.where(own, self._with_margin(target), cosines)
        if batch.excluded.shape[-1]:
            # One column more, for the padding.
            out = ops.cast(batch.excluded, "int32")
            out = ops.sum(ops.one_hot(ops.where(out < 0, classes, out), classes + 1, dtype="float32"), axis=1)
            logits = ops.where(ops.logical_and(out[:, :classes] > 0, ops.logical_not(own)), _OUT, logits)
        cost = ops.logsumexp(logits, axis=1) - ops.squeeze(ops.take_along_axis(logits, known[:, None], axis=1), axis=1)
        return cost * batch.shares()

    def _cosines(self, photos: Any) -> Any:
        """Computes the cosine of each photo (K, D) to the nearest centre of each class, (K, C)."""
        layer = self.layer
        centres = ops.reshape(unit(ops.convert_to_tensor(layer.centres)), (-1, layer.dimensions))
        cosines = ops.matmul(photos, ops.transpose(centres))
        if layer.sub_centres == 1:
            return cosines
        return ops.max(ops.reshape(cosines, (-1, layer.classes, layer.sub_centres)), axis=2)

    def _with_margin(self, cosine: Any) -> Any:
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        layer = self.layer
        return {
            **super().get_config(),
            "classes": layer.classes,
            "dimensions": layer.dimensions,
            "margin": self.margin,
            "scale": self.scale,
            "sub_centres": layer.sub_centres,
            "speed": layer.speed,
        }


@keras.saving.register_keras_serializable("keras_retrieval")
class CosFaceLoss(_LossOnClasses):
    """Large-margin cosine loss (CosFace): cross-entropy over scale (cos(x, w_c) - margin [c is the class of x]).

    w_c is a trainable centre of class c. With several sub-centres, the one nearest to x counts. The centres are in
    `layer`; they are trained, saved in checkpoints, and not part of the network. `TupleModel` adds them to its weights.
    Value and gradients are those of pytorch-metric-learning's CosFaceLoss for the same centres.

    Args:
        classes: number C of classes.
        dimensions: number D of dimensions of the descriptors.
        margin: margin of the cosine, at least 0; CosPlace's by default.
        scale: factor of the cosines, above 0; CosPlace's by default. EigenPlaces has 100.
        sub_centres: number of centres of each class.
        speed: factor on the learning rate of the centres, see `layer`; CosPlace trains them 1,000 times as fast as the
            network.
        reduction: reduction over the K photos of the batch; their mean by default. Padding does not count.
        name: name of the loss.

    Attributes:
        layer: the layer that holds the centres, in the weight `centres` (C, sub_centres, D), of any length.
        held_out: the loss of photos that are of none of the classes, a `MultiSimilarityLoss`.

    Call arguments:
        y_true: the class of each photo, 0 .. C - 1, (B, M) or (K,); below 0 for padding. Or (B, M, 1 + L) or
            (K, 1 + L): the class, and L classes that are left out of the photo's softmax, padded with numbers below 0.
        y_pred: descriptors of the photos, (B, M, D) or (K, D), which are divided by their lengths.

    Raises:
        ArgumentError: an argument is out of range, or, when called, the numbers of labels and descriptors differ.

    Example:
        >>> float(CosFaceLoss(classes=5, dimensions=3)(np.array([0, 4, 1]), np.eye(3))) > 0
        True

    References:
        Wang et al.: CosFace: Large Margin Cosine Loss for Deep Face Recognition. CVPR 2018.
        Berton, Masone, Caputo: Rethinking Visual Geo-localization for Large-Scale Applications (CosPlace). CVPR 2022.
    """

    def __init__(
        self,
        classes: int,
        dimensions: int,
        margin: float = 0.4,
        scale: float = 30.0,
        sub_centres: int = 1,
        speed: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(classes, dimensions, margin, scale, sub_centres, speed, reduction, name)

    def _with_margin(self, cosine: Any) -> Any:
        return cosine - self.margin


@keras.saving.register_keras_serializable("keras_retrieval")
class ArcFaceLoss(_LossOnClasses):
    """Additive angular margin loss (ArcFace), with sub-centres: cross-entropy over scale cos(angle(x, w_c) + margin).

    The margin is added for the class of x only. Where the sum would exceed a half turn, the cosine is reduced by
    margin sin(margin) instead. With several sub-centres, which noisy classes need, the one nearest to x counts. The
    centres are kept as those of `CosFaceLoss`. Value and gradients are those of pytorch-metric-learning's ArcFaceLoss
    and SubCenterArcFaceLoss for the same centres.

    Args:
        classes: number C of classes.
        dimensions: number D of dimensions of the descriptors.
        margin: margin of the angle in radians, at least 0.
        scale: factor of the cosines, above 0.
        sub_centres: number of centres of each class; 3 in the paper.
        speed: factor on the learning rate of the centres.
        reduction: reduction over the K photos of the batch; their mean by default. Padding does not count.
        name: name of the loss.

    Attributes:
        layer: the layer that holds the centres, in the weight `centres` (C, sub_centres, D), of any length.
        held_out: the loss of photos that are of none of the classes, a `MultiSimilarityLoss`.

    Call arguments:
        y_true: the classes of the photos, as for `CosFaceLoss`.
        y_pred: descriptors of the photos, (B, M, D) or (K, D), which are divided by their lengths.

    Raises:
        ArgumentError: an argument is out of range, or, when called, the numbers of labels and descriptors differ.

    Example:
        >>> float(ArcFaceLoss(classes=5, dimensions=3, sub_centres=3)(np.array([0, 4, 1]), np.eye(3))) > 0
        True

    References:
        Deng, Guo, Xue, Zafeiriou: ArcFace: Additive Angular Margin Loss for Deep Face Recognition. CVPR 2019.
        Deng, Guo, Liu, Gong, Zafeiriou: Sub-center ArcFace: Boosting Face Recognition by Large-Scale Noisy Web Faces.
        ECCV 2020.
    """

    def __init__(
        self,
        classes: int,
        dimensions: int,
        margin: float = 0.5,
        scale: float = 64.0,
        sub_centres: int = 1,
        speed: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(classes, dimensions, margin, scale, sub_centres, speed, reduction, name)

    def _with_margin(self, cosine: Any) -> Any:
        # The sine has no gradient at a cosine of 1 or -1.
        sine = ops.sqrt(ops.maximum(1.0 - ops.square(cosine), 1e-7))
        turned = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        return ops.where(cosine >= -math.cos(self.margin), turned, cosine - self.margin * math.sin(self.margin))

"""The multi-similarity loss, and a memory of earlier batches for it (cross-batch memory, XBM)."""

from typing import Any

import keras
from keras import ops

from ..errors import ArgumentError
from .label_pairs import labelled, without_self
from .weights_layers import DescriptorMemory

_NO_PAIR = -1e9  # exponent of pairs that do not count


@keras.saving.register_keras_serializable("keras_retrieval")
class MultiSimilarityLoss(keras.losses.Loss):
    """Multi-similarity loss, with its miner of informative pairs.

    For a photo i with the cosine similarities S_ij, positives P_i (the other photos with its label) and negatives N_i
    (the photos with other labels), the loss is
    log(1 + sum_{P_i} exp(-alpha (S_ij - base))) / alpha + log(1 + sum_{N_i} exp(beta (S_ij - base))) / beta.
    The miner keeps a negative if S_ij + epsilon is above the smallest similarity of a positive of i, and a positive if
    S_ij - epsilon is below the largest similarity of a negative of i. A photo without positives keeps no negatives and
    vice versa, so that a batch of one label, or in which no two labels are equal, has the loss 0. Value and gradient
    are those of pytorch-metric-learning's MultiSimilarityLoss with MultiSimilarityMiner.

    Args:
        alpha: factor of positives, above 0. The default values are those with which SALAD, BoQ, MixVPR and MegaLoc were
            trained; the paper has alpha 2 and base 1.
        beta: factor of negatives, above 0.
        base: similarity that is subtracted in both exponents.
        epsilon: margin of the miner, at least 0; None keeps all pairs.
        reduction: reduction over the K photos of the batch; their mean by default. Padding does not count.
        name: name of the loss.

    Call arguments:
        y_true: the label of each photo, an integer that is equal for photos of the same object, (B, M) or (K,); below
            0 for padding, which is in no pair. Or (B, M, 1 + L) or (K, 1 + L): the label, and L labels whose photos are
            not negatives of this photo although they differ, padded with numbers below 0.
        y_pred: descriptors of the photos, (B, M, D) or (K, D), which are divided by their lengths.

    Raises:
        ArgumentError: a factor is not above 0, epsilon is below 0, or, when called, the numbers of labels and
            descriptors differ.

    Example:
        >>> MultiSimilarityLoss()(np.array([0, 0, 1]), np.eye(3)[[0, 1, 1]])
        0.80005246

    References:
        Wang, Han, Huang, Dong, Scott: Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning.
        CVPR 2019.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 50.0,
        base: float = 0.0,
        epsilon: float | None = 0.1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype="float32")
        for option, value in {"alpha": alpha, "beta": beta}.items():
            if not value > 0:
                raise ArgumentError(f"{option} must be above 0, got {value}")
        if epsilon is not None and not epsilon >= 0:
            raise ArgumentError(f"epsilon must be at least 0, or None, got {epsilon}")
        self.alpha, self.beta, self.base, self.epsilon = alpha, beta, base, epsilon

    def call(self, y_true: Any, y_pred: Any) -> Any:
        batch = labelled(y_true, y_pred)
        positives, negatives = batch.pairs(batch.labels)
        similarity = ops.matmul(batch.photos, ops.transpose(batch.photos))
        return self.of_pairs(similarity, without_self(positives), negatives) * batch.shares()

    def of_pairs(self, similarity: Any, positives: Any, negatives: Any, own: Any = None) -> Any:
        """Computes the loss of each photo from its similarities to other photos, which need not be of its batch.

        Args:
            similarity: cosine similarities (K, N) of K photos to N photos.
            positives: mask (K, N) of the pairs that match.
            negatives: mask (K, N) of the pairs that do not match.
            own: mask (K, N) of the pairs of a photo with itself; None if there are none. They are positives for the
                miner, but do not enter the loss.

        Returns:
            The loss of each photo, (K,).
        """
        if self.epsilon is not None:
            infinity = float("inf")
            lowest = ops.min(ops.where(positives, similarity, infinity), axis=1, keepdims=True)
            highest = ops.max(ops.where(negatives, similarity, -infinity), axis=1, keepdims=True)
            negatives = ops.logical_and(negatives, similarity + self.epsilon > lowest)
            positives = ops.logical_and(positives, similarity - self.epsilon < highest)
        if own is not None:
            positives = ops.logical_and(positives, ops.logical_not(own))
        pulls = _log_of_sum(-self.alpha * (similarity - self.base), positives) / self.alpha
        return pulls + _log_of_sum(self.beta * (similarity - self.base), negatives) / self.beta

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "beta": self.beta,
            "base": self.base,
            "epsilon": self.epsilon,
        }


@keras.saving.register_keras_serializable("keras_retrieval")
class CrossBatchMemory(keras.losses.Loss):
    """Compares the photos of a batch with those of the last batches (cross-batch memory, XBM).

    The descriptors and labels of a batch replace the oldest ones of a memory of fixed size. Then each photo of the
    batch is compared with all photos in the memory, the batch itself included. Gradients reach only the photos of the
    batch, not those in the memory. As in pytorch-metric-learning's CrossBatchMemory, a photo itself is one of its
    positives for the miner.

    The memory, `layer`, must be saved and restored with the training. `TupleModel` adds it to its weights.

    Args:
        size: number of descriptors in the memory, at least the number of photos in a batch.
        dimensions: number D of dimensions of the descriptors.
        loss: the loss on pairs; None for a `MultiSimilarityLoss` with its default values.
        reduction: reduction over the K photos of the batch; their mean by default. Padding does not count.
        name: name of the loss.

    Attributes:
        layer: the layer that holds the memory.
        held_out: the loss of photos of other objects, which are not compared with the memory: `loss` itself.

    Call arguments:
        y_true: labels, as for `MultiSimilarityLoss`.
        y_pred: descriptors of the photos, (B, M, D) or (K, D), which are divided by their lengths.

    Raises:
        ArgumentError: `size` is below 1, or, when called, the memory is smaller than the batch or the numbers of labels
            and descriptors differ.

    Example:
        >>> CrossBatchMemory(size=1024, dimensions=3)(np.array([0, 0, 1]), np.eye(3)[[0, 1, 1]])
        1.1333858

    References:
        Wang, Zhang, Huang, Scott: Cross-Batch Memory for Embedding Learning. CVPR 2020.
    """

    def __init__(
        self,
        size: int,
        dimensions: int,
        loss: MultiSimilarityLoss | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype="float32")
        self.layer = DescriptorMemory(size, dimensions)
        self.held_out = MultiSimilarityLoss() if loss is None else loss

    def call(self, y_true: Any, y_pred: Any) -> Any:
        batch = labelled(y_true, y_pred)
        photos, labels, own = self.layer.replace_oldest(ops.stop_gradient(batch.photos), batch.labels)
        positives, negatives = batch.pairs(labels)
        similarity = ops.matmul(batch.photos, ops.transpose(photos))
        return self.held_out.of_pairs(similarity, positives, negatives, own) * batch.shares()

    def get_config(self) -> dict[str, Any]:
        held_out = keras.saving.serialize_keras_object(self.held_out)
        layer = self.layer
        return {**super().get_config(), "size": layer.size, "dimensions": layer.dimensions, "loss": held_out}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CrossBatchMemory":
        return cls(**config | {"loss": keras.saving.deserialize_keras_object(config["loss"])})


def _log_of_sum(exponents: Any, mask: Any) -> Any:
    """Computes log(1 + sum exp(x)) over the entries of each row where the mask is true, (K,)."""
    exponents = ops.where(mask, exponents, _NO_PAIR)
    return ops.logsumexp(ops.pad(exponents, ((0, 0), (1, 0))), axis=1)

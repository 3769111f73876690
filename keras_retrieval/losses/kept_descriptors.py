"""A penalty on what fine-tuning changes in a network: its descriptors stay near those before training."""

from typing import Any

import numpy as np
from keras import ops

from ..errors import ArgumentError
from .label_pairs import unit

_OF_SIMILARITIES = 10.0  # weight of the second term, whose values are about a tenth of the first's


class KeptDescriptors:
    """The distance of descriptors from those that the network gave the same photos before training.

    A network that is fine-tuned on few objects forgets what it could do with others. For the descriptors x_i of the
    photos of a batch and t_i before training, all of length 1, the penalty is
    mean_i (1 - x_i . t_i) + 10 mean_ij (x_i . x_j - t_i . t_j)^2:
    the first term keeps each descriptor where it was (Hinton et al.), the second their similarities (Tung, Mori). If
    those before training are of larger photos than those trained on, the network also learns to see in small photos
    what it saw in large ones.

    Args:
        before: descriptors before training, (N, D), of all photos; rows of zeros for photos without one, which do not
            count.
        weight: factor of the penalty, above 0.

    Call arguments:
        rows: row numbers of the photos in `before`, (B, M) or (K,) integers.
        descriptors: their descriptors, (B, M, D) or (K, D), which are divided by their lengths.

    Raises:
        ArgumentError: the weight is not above 0.

    Example:
        >>> KeptDescriptors(np.eye(2), weight=1.0)(np.array([0, 1]), np.eye(2)[[0, 0]])
        5.5

    References:
        Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network. arXiv:1503.02531, 2015.
        Tung, Mori: Similarity-Preserving Knowledge Distillation. ICCV 2019.
    """

    def __init__(self, before: np.ndarray, weight: float) -> None:
        if not weight > 0:
            raise ArgumentError(f"weight must be above 0, got {weight}")
        self.weight = weight
        self._before = ops.convert_to_tensor(before, "float32")  # once, not in each program

    def __call__(self, rows: Any, descriptors: Any) -> Any:
        """Computes the penalty of the photos of a batch, a scalar."""
        size = self._before.shape[1]
        x = unit(ops.reshape(ops.cast(descriptors, "float32"), (-1, size)))
        t = unit(ops.take(self._before, ops.reshape(rows, (-1,)), axis=0))
        known = ops.cast(ops.any(ops.not_equal(t, 0), axis=1), "float32")
        x, count = x * known[:, None], ops.maximum(ops.sum(known), 1.0)
        moved = ops.sum(known - ops.sum(x * t, axis=1)) / count
        similarities = ops.matmul(x, ops.transpose(x)) - ops.matmul(t, ops.transpose(t))
        return self.weight * (moved + _OF_SIMILARITIES * ops.sum(ops.square(similarities)) / (count * count))

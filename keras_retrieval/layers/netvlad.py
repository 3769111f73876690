"""NetVLAD: vector of locally aggregated descriptors with learned soft assignment."""

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from ..errors import ArgumentError
from .cells import zero_masked
from .l2_normalization import l2_normalize


@keras.saving.register_keras_serializable("keras_retrieval")
class NetVLAD(keras.layers.Layer):
    """Aggregates the residuals between local descriptors and K cluster centres, with soft assignment.

    The local descriptors x_i are the L2-normalised cells of the feature map. With the soft assignment
    a_k(x) = softmax_k(w_k.x + b_k), the vector of cluster k is V_k = sum_i a_k(x_i) (x_i - c_k). Each V_k is
    L2-normalised; then the concatenation of all V_k is L2-normalised. The assignment weights w, b and the centres c are
    independent trainable weights. `initialize` sets them from local descriptors; otherwise w and c are random.

    Args:
        clusters: the number K of clusters, at least 1.

    Input shape:
        (B, h, w, D), and an optional `mask` (B, h, w) that is true for valid cells.

    Output shape:
        (B, K x D), the K vectors V_k in order.

    Raises:
        ArgumentError: `clusters` is below 1.

    Example:
        >>> NetVLAD(clusters=64)(np.random.rand(2, 24, 32, 512)).shape
        (2, 32768)

    References:
        Arandjelovic, Gronat, Torii, Pajdla, Sivic: NetVLAD: CNN Architecture for Weakly Supervised Place Recognition.
        CVPR 2016.
    """

    def __init__(self, clusters: int = 64, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if clusters < 1:
            raise ArgumentError(f"clusters of NetVLAD must be at least 1, got {clusters}")
        self.clusters = clusters
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = (input_shape[-1], self.clusters)
        spread = keras.initializers.RandomNormal(stddev=1.0)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer="glorot_uniform")
        self.bias = self.add_weight(name="bias", shape=shape[1:], initializer="zeros")
        self.centroids = self.add_weight(name="centroids", shape=shape[::-1], initializer=spread)

    def initialize(
        self, local_descriptors: np.ndarray, version: Literal["v1", "v2"] = "v1", seed: int = 0
    ) -> "NetVLAD":
        """Sets the cluster centres by k-means, and the assignment weights so that the assignment is nearly hard.

        Version "v1" sets w_k = alpha c_k / ||c_k|| and b = 0; "v2" sets w_k = 2 alpha c_k and b_k = -alpha ||c_k||^2.
        alpha is chosen so that the second-best cluster has 1 % of the weight of the best cluster, if their scores
        w_k.x + b_k differ by the mean difference over the local descriptors.

        Args:
            local_descriptors: cells of feature maps of training photos, (n, D), not necessarily normalised, because
                this method L2-normalises them; n is usually about 50,000.
            version: the published initialisation to use.
            seed: random seed of the k-means.

        Returns:
            This layer, which is built if it was not.

        Raises:
            ArgumentError: the descriptors are not a finite (n, D) array with at least K different rows, D does not
                match the layer, or the version is unknown.
        """
        if version not in ("v1", "v2"):
            raise ArgumentError(f"version must be 'v1' or 'v2', got {version!r}")
        x = np.asarray(local_descriptors, "float32")
        if x.ndim != 2 or not np.isfinite(x).all():
            raise ArgumentError(f"local_descriptors must be a finite array (n, D), got the shape {x.shape}")
        if not self.built:
            self.build((None, None, None, x.shape[1]))
        if x.shape[1] != self.kernel.shape[0]:
            raise ArgumentError(
                f"local_descriptors must have {self.kernel.shape[0]} channels as this layer, got {x.shape[1]}"
            )
        x = x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-6)
        centroids = _k_means(x, self.clusters, seed)
        kernel, bias = _assignment(x, centroids, version)
        for weight, value in ((self.kernel, kernel), (self.bias, bias), (self.centroids, centroids)):
            weight.assign(value)
        return self

    def call(self, x: Any, mask: Any | None = None) -> Any:
        _, height, width, size = ops.shape(x)
        kernel, bias, centroids = (ops.cast(w, "float32") for w in (self.kernel, self.bias, self.centroids))
        x = zero_masked(ops.cast(x, "float32"), mask)
        x = l2_normalize(ops.reshape(x, (-1, height * width, size)))
        assignment = ops.softmax(ops.matmul(x, kernel) + bias, axis=-1)
        if mask is not None:
            valid = ops.reshape(ops.cast(mask, "bool"), (-1, height * width, 1))
            assignment = ops.where(valid, assignment, 0.0)
        residuals = ops.matmul(ops.transpose(assignment, (0, 2, 1)), x)
        residuals = residuals - ops.sum(assignment, axis=1)[..., None] * centroids
        vlad = ops.reshape(_unit(residuals), (-1, self.clusters * size))
        return ops.cast(_unit(vlad), self.compute_dtype)

    def compute_mask(self, x: Any, mask: Any | None = None) -> None:
        return None

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        size = input_shape[-1]
        return input_shape[0], None if size is None else self.clusters * size

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "clusters": self.clusters}


def _unit(x: Any) -> Any:
    """Computes x / sqrt(||x||^2 + 1e-12), as published, which differs from `l2_normalize` for nearly empty clusters."""
    return x / ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True) + 1e-12)


def _assignment(x: np.ndarray, centroids: np.ndarray, version: str) -> tuple[np.ndarray, np.ndarray]:
    """Computes the initial kernel (D, K) and bias (K,) of the soft assignment; see `NetVLAD.initialize`."""
    if version == "v1":
        directions = centroids / (np.linalg.norm(centroids, axis=1, keepdims=True) + 1e-6)
        closeness = x @ directions.T
    else:
        directions = 2 * centroids
        closeness = x @ directions.T - (centroids**2).sum(1)
    alpha = 0.0
    if len(centroids) > 1:
        second, best = np.partition(closeness, -2, axis=1)[:, -2:].T
        alpha = -np.log(0.01) / max(float(np.mean(best - second)), 1e-12)
    bias = np.zeros(len(centroids)) if version == "v1" else -alpha * (centroids**2).sum(1)
    return alpha * directions.T, bias


def _k_means(x: np.ndarray, clusters: int, seed: int, rounds: int = 100) -> np.ndarray:
    """Computes K centres (K, D) of rows x (n, D) by Lloyd's algorithm, starting from distinct random rows.

    The centre of a cluster that becomes empty is moved to one of the rows that are farthest from their centres.
    """
    distinct = np.unique(x, axis=0)
    if len(distinct) < clusters:
        raise ArgumentError(
            f"local_descriptors must have at least {clusters} different rows, one per cluster, got {len(distinct)}"
        )
    centroids = np.random.default_rng(seed).permutation(distinct)[:clusters]
    labels = np.full(len(x), -1)
    for _ in range(rounds):
        closeness = 2 * x @ centroids.T - (centroids**2).sum(1)
        nearest = closeness.argmax(1)
        if np.array_equal(nearest, labels):
            break
        labels = nearest
        counts = np.bincount(labels, minlength=clusters)
        order = np.argsort(labels, kind="stable")
        filled = np.flatnonzero(counts)
        starts = np.r_[0, np.cumsum(counts)[:-1]]
        centroids[filled] = np.add.reduceat(x[order], starts[filled]) / counts[filled, None]
        empty = np.flatnonzero(counts == 0)
        centroids[empty] = x[np.argsort(closeness.max(1) - (x**2).sum(1))[: len(empty)]]
    return centroids

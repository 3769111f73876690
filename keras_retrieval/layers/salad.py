"""SALAD: aggregation by optimal transport of patch tokens to clusters."""

from typing import Any

import keras
from keras import ops

from ..errors import ArgumentError
from .cells import zero_masked
from .initial_values import drawn
from .l2_normalization import unit

_NEVER = -1e9  # logarithm of a mass of 0


@keras.saving.register_keras_serializable("keras_retrieval")
class SALAD(keras.layers.Layer):
    """Assigns the patch tokens of a vision transformer to clusters by optimal transport, and appends the class token.

    Each patch has scores for m clusters and for a dustbin. Three iterations of Sinkhorn's algorithm give every patch
    the mass 1, every cluster the mass 1 and the dustbin the rest; they are float32 under every dtype policy. The
    dustbin's score is a weight of the published files, though the first step of the algorithm cancels it. The vector of
    a cluster is the mean of the patches' features, weighted by their assignment, and L2-normalised. The descriptor is
    the L2-normalised feature of the class token, followed by the cluster vectors; the whole is L2-normalised. With
    `projection`, a Dense layer follows, as in MegaLoc.

    Args:
        clusters: number m of clusters, at least 1. A photo must have more than m patches.
        features: channels l of a cluster's vector.
        token: channels of the class token's feature.
        hidden: hidden units of the networks that compute features and scores.
        projection: dimensions of the Dense layer; None for none.
        iterations: iterations of Sinkhorn's algorithm, at least 1.

    Input shape:
        (B, h, w, 2 C), the map that `TokenMap(class_token=True)` makes; and an optional `mask` (B, h, w) that is true
        for valid cells, of which the upper left cell is one.

    Output shape:
        (B, token + l x m), in which channel d of cluster k is at token + d m + k; or (B, projection).

    Raises:
        ArgumentError: an argument is below 1, or the map has no more than `clusters` cells. Where the size of the map
            is known at run time only, or the map has a mask, too few patches give a finite descriptor without meaning.

    Example:
        >>> SALAD()(np.random.rand(1, 16, 20, 768)).shape
        (1, 8448)

    References:
        Izquierdo, Civera: Optimal Transport Aggregation for Visual Place Recognition. CVPR 2024.
        Berton, Masone: MegaLoc: One Retrieval to Place Them All. CVPRW 2025.
    """

    reads_class_token = True

    def __init__(
        self,
        clusters: int = 64,
        features: int = 128,
        token: int = 256,
        hidden: int = 512,
        projection: int | None = None,
        iterations: int = 3,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        numbers = {
            "clusters": clusters,
            "features": features,
            "token": token,
            "hidden": hidden,
            "iterations": iterations,
        }
        for name, number in (numbers | ({} if projection is None else {"projection": projection})).items():
            if number < 1:
                raise ArgumentError(f"{name} of SALAD must be at least 1, got {number}")
        self.clusters, self.features, self.token, self.hidden = clusters, features, token, hidden
        self.projection, self.iterations = projection, iterations
        self.supports_masking = True

    @property
    def least_cells(self) -> int:
        """The smallest number of cells of a map that the layer can aggregate."""
        return self.clusters + 1

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        channels = input_shape[-1]
        if channels is None or channels % 2:
            raise ArgumentError(f"SALAD takes patches and a class token of one width, got {channels} channels")

        def network(name: str, outputs: int) -> list[Any]:
            sizes = [(channels // 2, self.hidden), (self.hidden, outputs)]
            return [part for number, size in enumerate(sizes, 1) for part in self._dense(f"{name}{number}", *size)]

        self.token_network = network("token", self.token)
        self.feature_network = network("feature", self.features)
        self.score_network = network("score", self.clusters)
        self.dust_bin = self.add_weight(name="dust_bin", shape=(), initializer="ones")
        whole = self.token + self.features * self.clusters
        self.linear = None if self.projection is None else self._dense("projection", whole, self.projection)

    def _dense(self, name: str, inputs: int, outputs: int) -> tuple[Any, Any]:
        kernel = self.add_weight(name=f"{name}_kernel", shape=(inputs, outputs), initializer=drawn())
        return kernel, self.add_weight(name=f"{name}_bias", shape=(outputs,), initializer="zeros")

    def call(self, x: Any, mask: Any | None = None) -> Any:
        batch, height, width, channels = ops.shape(x)
        if isinstance(height, int) and isinstance(width, int) and height * width <= self.clusters:
            raise ArgumentError(
                f"SALAD with {self.clusters} clusters needs more than {self.clusters} patches, and a map of "
                f"{height} x {width} has {height * width}: give larger photos"
            )
        x = zero_masked(ops.cast(x, "float32"), mask)
        x, token = ops.split(x, 2, axis=-1)
        token = token[:, 0, 0]
        x = ops.reshape(x, (batch, height * width, channels // 2))
        mask = None if mask is None else ops.reshape(ops.cast(mask, "bool"), (batch, height * width))
        assignment = self._assignment(_perceptron(x, self.score_network), mask)
        clusters = ops.einsum("bnl,bnm->blm", _perceptron(x, self.feature_network), assignment)
        clusters = ops.reshape(unit(clusters, axis=1), (batch, self.features * self.clusters))
        y = unit(ops.concatenate([unit(_perceptron(token, self.token_network)), clusters], axis=-1))
        if self.linear is not None:
            kernel, bias = (_float32(weight) for weight in self.linear)
            y = ops.matmul(y, kernel) + bias
        return ops.cast(y, self.compute_dtype)

    def _assignment(self, scores: Any, mask: Any | None) -> Any:
        """Computes the mass of each patch in each cluster, (B, N, m), from scores (B, N, m)."""
        batch, count = ops.shape(scores)[:2]
        dust = ops.broadcast_to(_float32(self.dust_bin), (batch, count, 1))
        scores = ops.concatenate([scores, dust], axis=-1)
        patches = ops.cast(count, "float32")
        if mask is not None:
            patches = ops.sum(ops.cast(mask, "float32"), axis=1)[:, None]
        patches = ops.broadcast_to(patches, (batch, 1))
        share = -ops.log(patches + self.clusters)
        rest = share + ops.log(ops.maximum(patches - self.clusters, 1e-6))
        clusters = ops.concatenate([ops.broadcast_to(share, (batch, self.clusters)), rest], axis=1)[:, None]
        photos = share if mask is None else ops.where(mask, share, _NEVER)
        v = ops.zeros((batch, count)) if mask is None else ops.where(mask, 0.0, _NEVER)
        u: Any = 0.0
        for _ in range(self.iterations):
            u = clusters - ops.logsumexp(scores + v[..., None], axis=1, keepdims=True)
            v = photos - ops.logsumexp(scores + u, axis=2)
        return ops.exp(scores + u + v[..., None] - share[..., None])[..., :-1]

    def compute_mask(self, x: Any, mask: Any | None = None) -> None:
        return None

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape[0], self.projection or self.token + self.features * self.clusters

    def get_config(self) -> dict[str, Any]:
        names = ("clusters", "features", "token", "hidden", "projection", "iterations")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _float32(weight: Any) -> Any:
    return ops.cast(weight, "float32")


def _perceptron(x: Any, weights: list[Any]) -> Any:
    """Dense, ReLU, Dense."""
    kernel1, bias1, kernel2, bias2 = map(_float32, weights)
    return ops.matmul(ops.relu(ops.matmul(x, kernel1) + bias1), kernel2) + bias2

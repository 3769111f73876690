"""A pooling on the regions of R-MAC's grid, summed."""

from typing import Any

import keras
from keras import ops

from .cells import AllCells, GridCells, cleared
from .l2_normalization import l2_normalize
from .pooling import Pooling
from .regions import region_masks
from .whitening import Whitening


@keras.saving.register_keras_serializable("keras_retrieval")
class RegionalPooling(keras.layers.Layer):
    """Pools each region of a rigid grid, normalises, optionally whitens and normalises again, and sums.

    The grid is that of R-MAC (Tolias et al. ICLR 2016); with GeM inside it is the regional GeM of Radenovic et al.
    TPAMI 2018. The sum is not normalised: L2Normalization follows it.

    Args:
        pooling: MAC, SPoC or GeM, applied to every region.
        levels: L, the number of scales of the grid.
        whole_map: also take the whole map as a region, as the published PyTorch code does and Tolias does not.
        whitening: a Whitening applied to the regions' normalised vectors, or None.

    Input shape:
        (B, h, w, C), h and w of any size and also unknown until run time, and an optional `mask` (B, h, w) of
        valid cells. The valid cells of a photo are a rectangle at the map's upper left; the grid is laid on it.

    Output shape:
        (B, C), or (B, d) with a whitening to d dimensions.

    Raises:
        ValueError: `levels` is below 1.

    Example:
        >>> RegionalPooling(GeM(), levels=3)(np.random.rand(2, 24, 32, 512)).shape
        (2, 512)
    """

    def __init__(
        self,
        pooling: Pooling,
        levels: int = 3,
        whole_map: bool = True,
        whitening: Whitening | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if levels < 1:
            raise ValueError(f"a grid of regions has at least 1 level, not levels={levels}")
        self.pooling = pooling
        self.levels = levels
        self.whole_map = whole_map
        self.whitening = whitening
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if not self.pooling.built:
            self.pooling.build(input_shape)
        if self.whitening is not None and not self.whitening.built:
            self.whitening.build((None, None, input_shape[-1]))

    def regions(self, x: Any, mask: Any | None = None) -> tuple[Any, Any]:
        """Descriptors of the single regions.

        Args:
            x: (B, h, w, C).
            mask: (B, h, w) or None.

        Returns:
            (B, R, d) normalised descriptors in float32, 0 where a region does not exist in a photo, and (B or 1, R),
            true where it exists. The whole map comes first where it is taken.
        """
        x = cleared(ops.cast(x, "float32"), mask)
        channels = x.shape[-1]
        pooled, valid = [], []
        for cells, exists in self._cells(x, mask):
            pooled.append(ops.reshape(self.pooling.pool(x, cells), (ops.shape(x)[0], -1, channels)))
            valid.append(ops.reshape(exists, (ops.shape(exists)[0], -1)))
        exists = ops.concatenate(valid, axis=1)
        vectors = ops.where(exists[..., None], ops.concatenate(pooled, axis=1), 0.0)
        vectors = l2_normalize(vectors)
        if self.whitening is not None:
            kernel, bias = (ops.cast(weight, "float32") for weight in (self.whitening.kernel, self.whitening.bias))
            vectors = ops.where(exists[..., None], l2_normalize(ops.matmul(vectors, kernel) + bias), 0.0)
        return vectors, exists

    def _cells(self, x: Any, mask: Any | None) -> list[tuple[AllCells | GridCells, Any]]:
        """The whole map if it is taken, then each level's grid, each with (B or 1, rows, columns) of existence."""
        height, width = ops.shape(x)[1:3]
        cells = (height, width)
        if mask is not None:
            mask = ops.cast(mask, "bool")
            height = ops.sum(ops.cast(ops.any(mask, axis=2), "int32"), axis=1)
            width = ops.sum(ops.cast(ops.any(mask, axis=1), "int32"), axis=1)
        grids = [GridCells(*region_masks(height, width, level + 1, cells)) for level in range(self.levels)]
        whole = [(AllCells(mask), ops.ones((1, 1, 1), "bool"))] if self.whole_map else []
        if mask is not None:
            # One row of flags per photo, to be joined with those of the whole map.
            whole = [(all_cells, ops.any(mask, axis=(1, 2))[:, None, None]) for all_cells, _ in whole]
        return [*whole, *((grid, grid.valid) for grid in grids)]

    def call(self, x: Any, mask: Any | None = None) -> Any:
        vectors, _ = self.regions(x, mask)
        return ops.cast(ops.sum(vectors, axis=1), self.compute_dtype)

    def compute_mask(self, x: Any, mask: Any | None = None) -> None:
        return None

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        channels = (input_shape[0], input_shape[-1])
        return channels if self.whitening is None else self.whitening.compute_output_shape(channels)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "pooling": keras.saving.serialize_keras_object(self.pooling),
            "levels": self.levels,
            "whole_map": self.whole_map,
            "whitening": keras.saving.serialize_keras_object(self.whitening),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "RegionalPooling":
        parts = {key: keras.saving.deserialize_keras_object(config[key]) for key in ("pooling", "whitening")}
        return cls(**{**config, **parts})

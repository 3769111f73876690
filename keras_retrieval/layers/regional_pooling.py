"""A pooling on regions, those of R-MAC's grid or proposed ones, summed."""

from typing import Any, NamedTuple

import keras
from keras import ops

from .box_cells import BoxCells
from .cells import AllCells, Cells, GridCells, cleared, valid_size
from .l2_normalization import l2_normalize
from .pooling import Pooling
from .region_grid import most_regions, region_masks
from .region_proposals import RegionProposals
from .whitening import Whitening


class Regions(NamedTuple):
    """The regions of photos: R is the same for all of a batch.

    Attributes:
        vectors: (B, R, d) float32 normalised descriptors, 0 where a region does not exist.
        boxes: (B, R, 4) float32 left, top, right, bottom as shares of the map's valid width and height; 0 likewise.
        exist: (B, R), true where a region exists.
    """

    vectors: Any
    boxes: Any
    exist: Any


@keras.saving.register_keras_serializable("keras_retrieval")
class RegionalPooling(keras.layers.Layer):
    """Pools each region, normalises, optionally whitens and normalises again, and sums.

    The regions are those of R-MAC's rigid grid (Tolias et al. ICLR 2016) or proposed ones (Gordo et al. ECCV 2016).
    GeM on the grid is the regional GeM of Radenovic et al. TPAMI 2018. The sum is not normalised: L2Normalization
    follows it.

    Args:
        pooling: MAC, SPoC or GeM, applied to every region.
        levels: L, the number of scales of the grid.
        whole_map: also take the whole map as a region, as the published PyTorch code does and Tolias does not.
        whitening: a Whitening applied to the regions' normalised vectors, or None.
        proposals: where the regions are; None for the grid.

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
        proposals: RegionProposals | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if levels < 1:
            raise ValueError(f"a grid of regions has at least 1 level, not levels={levels}")
        self.pooling = pooling
        self.levels = levels
        self.whole_map = whole_map
        self.whitening = whitening
        self.proposals = proposals
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if not self.pooling.built:
            self.pooling.build(input_shape)
        if self.whitening is not None and not self.whitening.built:
            self.whitening.build((None, None, input_shape[-1]))
        if self.proposals is not None and not self.proposals.built:
            self.proposals.build(input_shape)

    @property
    def most_regions(self) -> int:
        """R at most, of a map of any shape."""
        return self.whole_map + (self.proposals.count if self.proposals is not None else most_regions(self.levels))

    def regions(self, x: Any, mask: Any | None = None) -> Regions:
        """The single regions of maps (B, h, w, C) with a mask (B, h, w) or None, the whole map first if it is taken."""
        x = cleared(ops.cast(x, "float32"), mask)
        batch, channels = ops.shape(x)[0], x.shape[-1]
        pooled, boxes, valid = [], [], []
        for cells in self._cells(x, mask):
            pooled.append(ops.reshape(self.pooling.pool(x, cells), (batch, -1, channels)))
            found, exist = cells.boxes, cells.valid
            boxes.append(ops.broadcast_to(found, (batch, *ops.shape(found)[1:])))
            valid.append(ops.broadcast_to(ops.reshape(exist, (ops.shape(exist)[0], -1)), ops.shape(pooled[-1])[:2]))
        exist = ops.concatenate(valid, axis=1)
        vectors = l2_normalize(ops.where(exist[..., None], ops.concatenate(pooled, axis=1), 0.0))
        if self.whitening is not None:
            kernel, bias = (ops.cast(weight, "float32") for weight in (self.whitening.kernel, self.whitening.bias))
            vectors = ops.where(exist[..., None], l2_normalize(ops.matmul(vectors, kernel) + bias), 0.0)
        sides = ops.cast(ops.stack([*valid_size(x, mask)][::-1] * 2, axis=-1), "float32")
        return Regions(vectors, ops.concatenate(boxes, axis=1) / ops.maximum(ops.expand_dims(sides, -2), 1.0), exist)

    def _cells(self, x: Any, mask: Any | None) -> list[Cells]:
        """The whole map if it is taken, then each level's grid or the proposals."""
        cells = ops.shape(x)[1:3]
        whole: list[Cells] = [AllCells(x, mask)] if self.whole_map else []
        if self.proposals is not None:
            boxes, exist = self.proposals(x, mask=mask)
            return [*whole, BoxCells(boxes, exist, cells)]
        height, width = valid_size(x, mask)
        return [*whole, *(GridCells(*region_masks(height, width, level + 1, cells)) for level in range(self.levels))]

    def call(self, x: Any, mask: Any | None = None) -> Any:
        return ops.cast(ops.sum(self.regions(x, mask).vectors, axis=1), self.compute_dtype)

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
            "proposals": keras.saving.serialize_keras_object(self.proposals),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "RegionalPooling":
        # A network of before there were proposals says nothing of them; RMAC says nothing of its pooling.
        names = {"pooling", "whitening", "proposals"} & config.keys()
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in names}
        return cls(**{**config, **parts})

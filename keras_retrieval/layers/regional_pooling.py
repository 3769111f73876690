"""Regional pooling: pools each region of R-MAC's grid, or each region proposal, and sums the regions' vectors."""

from typing import Any, NamedTuple

import keras
from keras import ops

from ..errors import ArgumentError
from .box_cells import BoxCells
from .cells import AllCells, Cells, GridCells, valid_size, zero_masked
from .l2_normalization import l2_normalize
from .pooling import Pooling
from .region_grid import max_regions, region_masks
from .region_proposals import RegionProposals
from .whitening import Whitening


class Regions(NamedTuple):
    """The pooled regions of a batch of B photos, with R regions for each photo.

    Attributes:
        vectors: the L2-normalised descriptors of the regions, (B, R, d) float32; 0 for regions that do not exist.
        boxes: left, top, right, bottom of the regions, (B, R, 4) float32, as fractions of the width and height of the
            valid part of the feature map; 0 for regions that do not exist.
        exist: a mask (B, R) bool, true for regions that exist. Photos of different sizes in one batch, or with
            different numbers of proposals, have different numbers of regions.
    """

    vectors: Any
    boxes: Any
    exist: Any


@keras.saving.register_keras_serializable("keras_retrieval")
class RegionalPooling(keras.layers.Layer):
    """Pools each region of a feature map, L2-normalises the pooled vectors, and sums them over the regions.

    The regions are those of R-MAC's rigid grid, or region proposals. With `whitening`, each normalised vector is
    whitened and L2-normalised again before the sum. With GeM on the grid, the layer computes regional GeM. The sum is
    not normalised; an L2Normalization layer usually follows.

    Args:
        pooling: the pooling layer that is applied to every region: MAC, SPoC or GeM.
        levels: the number L of scales of the grid, at least 1. Has no effect with `proposals`.
        whole_map: whether the whole feature map is an additional region, as in the published PyTorch code but not in
            the R-MAC paper.
        whitening: a Whitening layer for the normalised vectors of the regions; None for no whitening.
        proposals: a RegionProposals layer that proposes the regions; None to use the grid.

    Input shape:
        (B, h, w, C); h and w may be unknown until run time. An optional `mask` (B, h, w) is true for the valid cells,
        which form a rectangle at the upper left of the map. The grid covers this rectangle.

    Output shape:
        (B, C), or (B, d) with a whitening to d dimensions.

    Raises:
        ArgumentError: `levels` is below 1.

    Example:
        >>> RegionalPooling(GeM(), levels=3)(np.random.rand(2, 24, 32, 512)).shape
        (2, 512)

    References:
        Tolias, Sicre, Jegou: Particular Object Retrieval with Integral Max-Pooling of CNN Activations. ICLR 2016.
        Gordo, Almazan, Revaud, Larlus: Deep Image Retrieval. ECCV 2016.
        Radenovic, Tolias, Chum: Fine-Tuning CNN Image Retrieval with No Human Annotation. TPAMI 2018.
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
            raise ArgumentError(f"levels of the grid of regions must be at least 1, got {levels}")
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
    def max_regions(self) -> int:
        """The largest number R of regions per photo, over all sizes of the feature map, including the whole map."""
        return self.whole_map + (self.proposals.count if self.proposals is not None else max_regions(self.levels))

    def regions(self, x: Any, mask: Any | None = None) -> Regions:
        """Computes the descriptors and boxes of the individual regions, before the sum.

        Args:
            x: feature maps, (B, h, w, C).
            mask: a mask (B, h, w), true for valid cells; None if all cells are valid.

        Returns:
            The whole map, if `whole_map` is true; then the regions of the grid by scale, row and column, or the
            proposals in descending order of score.
        """
        x = zero_masked(ops.cast(x, "float32"), mask)
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
        """Returns the sets of regions: the whole map if included, then each level of the grid, or the proposals."""
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
        # Files written before proposals existed have no such entry; RMAC does not store its pooling.
        names = {"pooling", "whitening", "proposals"} & config.keys()
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in names}
        return cls(**{**config, **parts})

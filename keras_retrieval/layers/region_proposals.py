"""Region proposals: boxes that are likely to contain an object, as an alternative to a rigid grid."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ..errors import ArgumentError
from .anchors import clip_boxes, decode, make_anchors
from .cells import valid_size, zero_masked
from .non_max_suppression import LOWEST, suppress, take_rows, top_boxes

SCALES, RATIOS = (8.0, 16.0, 32.0), (0.5, 1.0, 2.0)


@keras.saving.register_keras_serializable("keras_retrieval")
class RegionProposals(keras.layers.Layer):
    """Proposes the boxes of a feature map that most likely contain an object (region proposal network).

    A 3 x 3 convolution and two 1 x 1 heads give every anchor a score and a refined box; non-maximum suppression selects
    the proposals. The layer is trained on boxes, with `score` and `losses.ProposalLoss` in `ProposalModel`. No gradient
    passes through the boxes, so that a network that learns from tuples keeps this layer frozen. Computes in float32.

    Args:
        count: the largest number R of proposals.
        scales: sides of the anchors in cells. The defaults are the published 128, 256 and 512 pixels for a stride of 16
            pixels.
        ratios: height divided by width of the anchors.
        filters: number of filters of the convolution.
        candidates: number of boxes with the highest scores that enter the suppression.
        overlap: largest intersection over union of two proposals, above 0 and at most 1.
        trainable: whether the weights are trainable.

    Input shape:
        (B, h, w, C); h and w may be unknown until run time. An optional `mask` (B, h, w) is true for the valid cells, a
        rectangle at the upper left of the map. Proposals lie within it.

    Output shape:
        Boxes (B, R, 4) float32 as left, top, right, bottom in cells, at least one cell wide and high, the most likely
        first; and (B, R) bool, true for the boxes that exist.

    Raises:
        ArgumentError: an argument is out of range.

    Example:
        >>> boxes, exist = RegionProposals(count=256)(np.random.rand(2, 24, 32, 512))
        >>> boxes.shape, exist.shape
        ((2, 256, 4), (2, 256))

    References:
        Ren, He, Girshick, Sun: Faster R-CNN. NIPS 2015.
        Gordo, Almazan, Revaud, Larlus: Deep Image Retrieval. ECCV 2016.
    """

    def __init__(
        self,
        count: int = 256,
        scales: Sequence[float] = SCALES,
        ratios: Sequence[float] = RATIOS,
        filters: int = 256,
        candidates: int = 1000,
        overlap: float = 0.7,
        trainable: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(trainable=trainable, **kwargs)
        if not 1 <= count <= candidates or filters < 1:
            raise ArgumentError(
                "proposals need 1 <= count <= candidates and filters >= 1, "
                f"got count={count}, candidates={candidates}, filters={filters}"
            )
        if not scales or not ratios or min(*scales, *ratios) <= 0 or not 0 < overlap <= 1:
            raise ArgumentError(
                "proposals need scales and ratios above 0 and an overlap above 0 and at most 1, "
                f"got scales={list(scales)}, ratios={list(ratios)}, overlap={overlap}"
            )
        self.count, self.candidates, self.overlap, self.filters = count, candidates, overlap, filters
        self.scales, self.ratios = tuple(map(float, scales)), tuple(map(float, ratios))
        self.supports_masking = True
        start = keras.initializers.RandomNormal(stddev=0.01)
        anchors = len(self.scales) * len(self.ratios)
        # trainable=False of the outer layer does not reach layers that are created later.
        shared = {"kernel_initializer": start, "dtype": "float32", "trainable": trainable}
        self.hidden = keras.layers.Conv2D(filters, 3, padding="same", activation="relu", name="hidden", **shared)
        self.objectness = keras.layers.Conv2D(anchors, 1, name="objectness", **shared)
        self.differences = keras.layers.Conv2D(4 * anchors, 1, name="differences", **shared)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.hidden.build(input_shape)
        for head in (self.objectness, self.differences):
            head.build((*input_shape[:-1], self.filters))

    def score(self, x: Any, mask: Any | None = None) -> tuple[Any, Any]:
        """Computes the outputs of the two heads for every anchor, in the order of `anchors`.

        Args:
            x: feature maps (B, h, w, C).
            mask: a mask (B, h, w), true for valid cells; None if all cells are valid.

        Returns:
            Logits (B, M) of the anchor being an object, and regression outputs (B, M, 4) as `anchors.encode` defines
            them.
        """
        x = self.hidden(zero_masked(ops.cast(x, "float32"), mask))
        batch, logits, deltas = ops.shape(x)[0], self.objectness(x), self.differences(x)
        return ops.reshape(logits, (batch, -1)), ops.reshape(deltas, (batch, -1, 4))

    def anchors(self, height: Any, width: Any) -> Any:
        """The anchors (M, 4) of a map of height x width cells."""
        return make_anchors(height, width, self.scales, self.ratios)

    def call(self, x: Any, mask: Any | None = None) -> tuple[Any, Any]:
        logits, deltas = (ops.stop_gradient(part) for part in self.score(x, mask))
        anchors = self.anchors(*ops.shape(x)[1:3])
        height, width = valid_size(x, mask)
        if mask is not None:
            centres = (anchors[:, :2] + anchors[:, 2:]) / 2
            inside = ops.all(centres < ops.cast(ops.stack([width, height], axis=-1), "float32")[:, None], axis=-1)
            logits = ops.where(inside, logits, LOWEST)
        boxes, scores = top_boxes(clip_boxes(decode(deltas, anchors), height, width), logits, self.candidates)
        kept = ops.where(suppress(boxes, scores, self.overlap), scores, LOWEST)
        best, index = ops.top_k(kept, self.count)
        exist = best > LOWEST
        return ops.where(exist[..., None], take_rows(boxes, index), 0.0), exist

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        return (input_shape[0], self.count, 4), (input_shape[0], self.count)

    def compute_output_spec(self, x: Any, mask: Any | None = None) -> Any:
        boxes, exist = self.compute_output_shape(x.shape)
        return keras.KerasTensor(boxes, "float32"), keras.KerasTensor(exist, "bool")

    def compute_mask(self, x: Any, mask: Any | None = None) -> None:
        return None

    def get_config(self) -> dict[str, Any]:
        names = ("count", "scales", "ratios", "filters", "candidates", "overlap")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

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

    A 3 x 3 convolution and two 1 x 1 convolutions compute a score and a refined box for every anchor, which is a fixed
    reference box. Non-maximum suppression then selects the proposals. `ProposalModel` trains the layer on annotated
    boxes, with `score` and `losses.ProposalLoss`. No gradient passes through the proposed boxes, so that training a
    network on tuples does not train this layer. The layer computes in float32 under every dtype policy.

    Args:
        count: the largest number R of proposals, at most `candidates`.
        scales: sizes of the anchors, each as the side in cells of the square of the same area. The defaults are the
            published 128, 256 and 512 pixels for a stride of 16 pixels.
        ratios: aspect ratios of the anchors, each as height divided by width.
        filters: number of filters of the 3 x 3 convolution.
        candidates: number of boxes with the highest scores that enter the non-maximum suppression.
        overlap: largest intersection over union of two proposals, above 0 and at most 1.
        trainable: whether the weights are trainable.

    Input shape:
        (B, h, w, C); h and w may be unknown until run time. An optional `mask` (B, h, w) is true for the valid cells,
        which form a rectangle at the upper left of the map. Proposals lie within this rectangle.

    Output shape:
        Two tensors. The boxes, (B, R, 4) float32, are left, top, right, bottom in cells, in descending order of score;
        each box is at least one cell wide and high. The mask, (B, R) bool, is true for boxes that exist, and false for
        the remaining entries if fewer than R boxes are proposed; their coordinates are 0.

    Raises:
        ArgumentError: `count` is not in 1..`candidates`, `filters` is below 1, a scale or ratio is not above 0, or
            `overlap` is not above 0 and at most 1.

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
        """Computes an objectness logit and regression outputs for every anchor.

        Args:
            x: feature maps, (B, h, w, C).
            mask: a mask (B, h, w), true for valid cells; None if all cells are valid.

        Returns:
            For the M anchors, in the order of the method `anchors`: the logits, (B, M) float32, of the probability that
            an anchor contains an object; and the regression outputs, (B, M, 4) float32, as `layers.anchors.encode`
            defines them.
        """
        x = self.hidden(zero_masked(ops.cast(x, "float32"), mask))
        batch, logits, deltas = ops.shape(x)[0], self.objectness(x), self.differences(x)
        return ops.reshape(logits, (batch, -1)), ops.reshape(deltas, (batch, -1, 4))

    def anchors(self, height: Any, width: Any) -> Any:
        """Makes the anchors of a feature map.

        Args:
            height: the height of the map in cells, an int or a scalar tensor.
            width: the width of the map in cells, an int or a scalar tensor.

        Returns:
            Left, top, right, bottom of the M anchors in cells, (M, 4) float32, as from `layers.anchors.make_anchors`.
        """
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

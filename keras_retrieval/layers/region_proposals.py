"""Region proposals: where a network expects objects, instead of a rigid grid."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from .anchors import clip_boxes, decode, make_anchors
from .cells import cleared, valid_size
from .non_max_suppression import LOWEST, best_boxes, suppress, taken

SCALES, RATIOS = (8.0, 16.0, 32.0), (0.5, 1.0, 2.0)


@keras.saving.register_keras_serializable("keras_retrieval")
class RegionProposals(keras.layers.Layer):
    """The boxes of a feature map that most likely hold an object (RPN; Ren et al. NIPS 2015, Gordo et al. ECCV 2016).

    A 3 x 3 convolution and two 1 x 1 heads give every anchor a score and a better box; the best ones that do not
    overlap too much are proposed. It learns from boxes, by `score` and `losses.ProposalLoss` in `ProposalModel`, and
    not from descriptors: no gradient passes through a box, so that its weights are frozen where it stands in a
    network that learns from tuples. Everything is float32.

    Args:
        count: R, the most boxes that are proposed.
        scales: sides of the anchors in cells; the published 128, 256 and 512 pixels where a cell has 16.
        ratios: their height to width.
        filters: of the convolution.
        candidates: how many boxes of the highest scores are looked at.
        overlap: the largest intersection over union of two proposals.

    Input shape:
        (B, h, w, C), h and w of any size and also unknown until run time, and an optional `mask` (B, h, w) of valid
        cells, a rectangle at the map's upper left. No proposal reaches out of it.

    Output shape:
        Boxes (B, R, 4) float32, left, top, right, bottom in cells, each at least one cell wide and high, the most
        likely first; and (B, R), true for those that exist.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> boxes, exist = RegionProposals(count=256)(np.random.rand(2, 24, 32, 512))
        >>> boxes.shape, exist.shape
        ((2, 256, 4), (2, 256))
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
            raise ValueError(
                f"proposals need 1 <= count <= candidates and a filter, not {count}, {candidates} and {filters}"
            )
        if not scales or not ratios or min(*scales, *ratios) <= 0 or not 0 < overlap <= 1:
            raise ValueError(
                f"anchors have scales and ratios above 0, and overlap lies in 0..1, not {list(scales)}, "
                f"{list(ratios)}, {overlap}"
            )
        self.count, self.candidates, self.overlap, self.filters = count, candidates, overlap, filters
        self.scales, self.ratios = tuple(map(float, scales)), tuple(map(float, ratios))
        self.supports_masking = True
        start = keras.initializers.RandomNormal(stddev=0.01)
        anchors = len(self.scales) * len(self.ratios)
        # A layer that does not learn leaves those that it makes as they are.
        shared = {"kernel_initializer": start, "dtype": "float32", "trainable": trainable}
        self.hidden = keras.layers.Conv2D(filters, 3, padding="same", activation="relu", name="hidden", **shared)
        self.objectness = keras.layers.Conv2D(anchors, 1, name="objectness", **shared)
        self.differences = keras.layers.Conv2D(4 * anchors, 1, name="differences", **shared)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.hidden.build(input_shape)
        for head in (self.objectness, self.differences):
            head.build((*input_shape[:-1], self.filters))

    def score(self, x: Any, mask: Any | None = None) -> tuple[Any, Any]:
        """What the heads say of every anchor, in the order of `anchors`.

        Returns:
            Logits (B, M) of its being an object, and (B, M, 4), how the object's box differs from it, as `boxes.encode`
            gives it.
        """
        x = self.hidden(cleared(ops.cast(x, "float32"), mask))
        batch, logits, deltas = ops.shape(x)[0], self.objectness(x), self.differences(x)
        return ops.reshape(logits, (batch, -1)), ops.reshape(deltas, (batch, -1, 4))

    def anchors(self, height: Any, width: Any) -> Any:
        """The anchors (M, 4) of a map of h x w cells."""
        return make_anchors(height, width, self.scales, self.ratios)

    def call(self, x: Any, mask: Any | None = None) -> tuple[Any, Any]:
        logits, deltas = (ops.stop_gradient(part) for part in self.score(x, mask))
        anchors = self.anchors(*ops.shape(x)[1:3])
        height, width = valid_size(x, mask)
        if mask is not None:
            centres = (anchors[:, :2] + anchors[:, 2:]) / 2
            inside = ops.all(centres < ops.cast(ops.stack([width, height], axis=-1), "float32")[:, None], axis=-1)
            logits = ops.where(inside, logits, LOWEST)
        boxes, scores = best_boxes(clip_boxes(decode(deltas, anchors), height, width), logits, self.candidates)
        stay = ops.where(suppress(boxes, scores, self.overlap), scores, LOWEST)
        best, index = ops.top_k(stay, self.count)
        exist = best > LOWEST
        return ops.where(exist[..., None], taken(boxes, index), 0.0), exist

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

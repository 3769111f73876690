"""R-MAC: regional maximum activations of convolutions."""

from typing import Any

import keras

from .mac import MAC
from .region_proposals import RegionProposals
from .regional_pooling import RegionalPooling
from .whitening import Whitening


@keras.saving.register_keras_serializable("keras_retrieval")
class RMAC(RegionalPooling):
    """Computes MAC over each region of a feature map, L2-normalises the vectors, and sums them over the regions.

    With `whitening`, this is the head of Deep Image Retrieval (Gordo et al.), which L2-normalises each region's vector,
    applies a shift and a fully connected layer, L2-normalises again, and sums over the regions.

    Args:
        levels: the number L of scales of the grid, at least 1. Has no effect with `proposals`.
        whole_map: whether the whole feature map is an additional region, as in the published PyTorch code but not in
            the R-MAC paper.
        whitening: a Whitening layer for the normalised vectors of the regions; None for no whitening.
        proposals: a RegionProposals layer that proposes the regions; None to use the grid of the R-MAC paper.

    Input shape:
        (B, h, w, C), and an optional `mask` (B, h, w) that is true for valid cells, as for RegionalPooling.

    Output shape:
        (B, C), or (B, d) with a whitening to d dimensions.

    Raises:
        ArgumentError: `levels` is below 1.

    Example:
        >>> RMAC(levels=3)(np.random.rand(2, 24, 32, 512)).shape
        (2, 512)

    References:
        Tolias, Sicre, Jegou: Particular Object Retrieval with Integral Max-Pooling of CNN Activations. ICLR 2016.
        Gordo, Almazan, Revaud, Larlus: Deep Image Retrieval. ECCV 2016.
    """

    def __init__(
        self,
        levels: int = 3,
        whole_map: bool = True,
        whitening: Whitening | None = None,
        proposals: RegionProposals | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(MAC(), levels, whole_map, whitening, proposals, **kwargs)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["pooling"]
        return config

"""R-MAC: regional maximum activations of convolutions."""

from typing import Any

import keras

from .mac import MAC
from .region_proposals import RegionProposals
from .regional_pooling import RegionalPooling
from .whitening import Whitening


@keras.saving.register_keras_serializable("keras_retrieval")
class RMAC(RegionalPooling):
    """MAC of each region of a rigid grid, normalised and summed (Tolias et al. ICLR 2016).

    With a whitening it is the head of Deep Image Retrieval (Gordo et al. ECCV 2016): L2, shift + FC, L2, sum; with
    proposals its regions are where the network expects objects.

    Args:
        levels: L, the number of scales of the grid.
        whole_map: also take the whole map as a region, as the published PyTorch code does and Tolias does not.
        whitening: a Whitening applied to the regions' normalised vectors, or None.
        proposals: where the regions are; None for the grid.

    Input shape:
        (B, h, w, C), and an optional `mask` (B, h, w) of valid cells, as RegionalPooling takes it.

    Output shape:
        (B, C), or (B, d) with a whitening to d dimensions.

    Example:
        >>> RMAC(levels=3)(np.random.rand(2, 24, 32, 512)).shape
        (2, 512)
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

"""The shapes of vision transformers: numbers only, without Keras."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..layers.token_sequence import Interpolation


@dataclass(frozen=True)
class Shape:
    """The shape of a vision transformer.

    Attributes:
        width: number of channels D of a token.
        depth: number of blocks.
        hidden: hidden units of the feed-forward networks.
        patch: side of a patch in pixels.
        grid: side of the grid of learned positions in patches; 0 for rotary positions, as in DINOv3.
        registers: number of register tokens.
        gated: whether the feed-forward networks are SwiGLU.
        interpolation: how the grid of positions is resized, see `layers.TokenSequence`.
        heads: number of attention heads; 0 for heads of 64 channels.
    """

    width: int
    depth: int
    hidden: int
    patch: int = 14
    grid: int = 37
    registers: int = 0
    gated: bool = False
    interpolation: "Interpolation" = "offset"
    heads: int = 0


def dinov2(width: int, depth: int, registers: int = 0, hidden: int = 0, gated: bool = False) -> Shape:
    """The shape of a DINOv2 (Oquab et al. TMLR 2024).

    Args:
        width: number of channels.
        depth: number of blocks.
        registers: number of registers; with them positions are resized with antialiasing, as in the published code.
        hidden: hidden units; 0 for 4 x width.
        gated: whether the feed-forward networks are SwiGLU, as in the size g.
    """
    return Shape(
        width,
        depth,
        hidden or 4 * width,
        registers=registers,
        gated=gated,
        interpolation="antialias" if registers else "offset",
    )


def dinov3(width: int, depth: int, hidden: int = 0, gated: bool = False, heads: int = 0) -> Shape:
    """The shape of a DINOv3 (Simeoni et al. 2025), with the arguments of `dinov2`."""
    return Shape(width, depth, hidden or 4 * width, 16, 0, 4, gated, heads=heads)

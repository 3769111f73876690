"""Paints the textures of invented buildings: weathered masonry, plaster, tiles and slates.

Blocks of varying brightness, stains and pits provide keypoints for SIFT and make each wall distinguishable from others.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

TEXELS = 40  # texels per metre

Colour = tuple[float, float, float]


class Material(NamedTuple):
    """The material of a surface. Colours are RGB, 0..255.

    Attributes:
        kind: the kind of blocks, a key of `COURSES` such as "brick"; any other value is plaster.
        colours: the colours of the blocks, of which each block gets one at random. Plaster has the first colour.
        joint: the colour of the joints between blocks.
    """

    kind: str
    colours: tuple[Colour, ...]
    joint: Colour = (190, 184, 170)


# kind -> (block width, block height, joint, in texels; shading within a block)
COURSES: dict[str, tuple[float, float, float, str]] = {
    "brick": (17, 7, 1.3, "flat"),
    "ashlar": (44, 23, 1.6, "bevel"),
    "rubble": (25, 15, 2.2, "bevel"),
    "planks": (160, 11, 1.2, "bevel"),
    "glazed": (20, 20, 1.4, "bevel"),
    "tiles": (13, 12, 1.0, "tile"),
    "slate": (18, 10, 1.0, "tile"),
    "cobbles": (9, 8, 1.5, "bevel"),
    "slabs": (34, 30, 1.5, "bevel"),
}


def noise(rng: np.random.Generator, height: int, width: int, cell: float, octaves: int = 1) -> np.ndarray:
    """Generates smooth noise with a standard deviation of about 1.

    Args:
        rng: the random generator that draws the noise.
        height: the number of rows.
        width: the number of columns.
        cell: the distance in texels between two independent values in the first octave. Each further octave halves the
            distance.
        octaves: the number of octaves, each with 0.6 times the amplitude of the previous one.

    Returns:
        The noise, (height, width) float32.
    """
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        step = max(cell / 2**octave, 1)
        grid = rng.standard_normal((int(height / step) + 2, int(width / step) + 2)).astype(np.float32)
        smooth = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
        total += 0.6**octave * np.asarray(smooth)
    return total


def surface(rng: np.random.Generator, height: int, width: int, material: Material) -> np.ndarray:
    """Paints a weathered surface.

    Args:
        rng: the random generator that draws the variations.
        height: the height in texels.
        width: the width in texels.
        material: the material of the surface.

    Returns:
        The RGB colours, (height, width, 3) float32. Weathering may move values slightly outside 0..255.
    """
    if material.kind in COURSES:
        rgb = _courses(rng, height, width, material)
    else:
        rgb = np.broadcast_to(np.array(material.colours[0], np.float32), (height, width, 3)).copy()
        patches = noise(rng, height, width, 90, 3)[..., None] > 1.15
        rgb = np.where(patches, rgb * 0.86 + 14 * (np.arange(3) < 1), rgb)
    return _weather(rng, rgb, 0.55 if material.kind == "glazed" else 1.0)


def _courses(rng: np.random.Generator, height: int, width: int, material: Material) -> np.ndarray:
    block_width, block_height, joint, relief = COURSES[material.kind]
    y = np.arange(height, dtype=np.float32)[:, None] + 1.2 * noise(rng, height, width, 70)
    row = np.clip((y / block_height).astype(int), 0, int(height / block_height) + 1)
    shift = (row % 2) * block_width / 2 + rng.uniform(0, block_width * 0.3, row.max() + 1)[row]
    x = np.arange(width, dtype=np.float32)[None] + shift
    column = (x / block_width).astype(int)
    shape = (row.max() + 1, column.max() + 1)
    hue = rng.integers(len(material.colours), size=shape)[row, column]
    spread = 0.08 if material.kind == "glazed" else 0.13
    tone = 1 + spread * np.clip(rng.standard_normal(shape), -2.2, 2.2).astype(np.float32)[row, column]
    down, along = y % block_height, x % block_width
    tone *= _relief(relief, down / block_height, along / block_width)
    rgb = np.array(material.colours, np.float32)[hue] * tone[..., None]
    gap = (down < joint) | (along < joint)
    return np.where(gap[..., None], np.array(material.joint, np.float32), rgb)


def _relief(kind: str, down: np.ndarray, along: np.ndarray) -> np.ndarray:
    if kind == "tile":
        return 0.72 + 0.42 * down - 0.5 * (along - 0.5) ** 2
    if kind == "bevel":
        return 1 + 0.12 * (down < 0.16) - 0.14 * (down > 0.86) - 0.08 * (along > 0.93)
    return np.ones_like(down)


def _weather(rng: np.random.Generator, rgb: np.ndarray, amount: float) -> np.ndarray:
    height, width = rgb.shape[:2]
    clouds = 0.055 * noise(rng, height, width, 120, 4)
    grain = 0.035 * noise(rng, height, width, 5, 3)
    streaks = Image.fromarray(noise(rng, max(height // 14, 2), width, 9, 3))
    runs = np.asarray(streaks.resize((width, height), Image.Resampling.BILINEAR))
    pocks = noise(rng, height, width, 8) > 2.0
    shade = 1 + amount * (clouds + grain - 0.09 * np.maximum(runs - 0.5, 0) - 0.22 * pocks)
    warmth = 0.03 * noise(rng, height, width, 60, 2)
    return rgb * np.stack([shade + warmth, shade, shade - warmth], -1)


def to_sheet(rgb: np.ndarray, alpha: np.ndarray | None = None) -> np.ndarray:
    """Converts colours and a mask to an RGBA texture sheet.

    Args:
        rgb: the RGB colours, (height, width, 3), which are clipped to 0..255.
        alpha: a mask (height, width) bool, true for opaque texels; None if all texels are opaque.

    Returns:
        The sheet, (height, width, 4) uint8.
    """
    sheet = np.full((*rgb.shape[:2], 4), 255, np.uint8)
    sheet[..., :3] = np.clip(rgb, 0, 255)
    if alpha is not None:
        sheet[..., 3] = np.where(alpha, 255, 0)
    return sheet


def _scaled(colour: Colour, factor: float) -> Colour:
    return min(colour[0] * factor, 255.0), min(colour[1] * factor, 255.0), min(colour[2] * factor, 255.0)


def shades(colour: Colour, *factors: float) -> tuple[Colour, ...]:
    """Returns a colour multiplied by each of several factors, clipped at 255.

    Args:
        colour: the RGB colour, 0..255.
        *factors: the factors.

    Returns:
        One colour for each factor.
    """
    return tuple(_scaled(colour, factor) for factor in factors)


def any_colour(rng: np.random.Generator, low: float, high: float) -> Colour:
    """Returns a random RGB colour, each channel of which is drawn uniformly from `low` .. `high`."""
    red, green, blue = rng.uniform(low, high, 3).tolist()
    return red, green, blue


def tint(rng: np.random.Generator, colour: Colour, spread: float = 18) -> tuple[int, int, int]:
    """Returns a random colour near a given colour, as a tuple of integers for Pillow.

    Args:
        rng: the random generator.
        colour: the RGB colour, 0..255.
        spread: the standard deviation of each channel around the given colour.
    """
    red, green, blue = np.clip(np.asarray(colour) + rng.normal(0, spread, 3), 0, 255).astype(int)
    return int(red), int(green), int(blue)

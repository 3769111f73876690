"""Parts of buildings that several designs share: roofs, rows of windows, cornices, columns, battlements, dormers.

Lengths are in metres. A body is a part of a building over a rectangle. Its bounds on the axes x (to the right), y (away
from the viewer) and z (up) are given as pairs (smallest, largest).
"""

import numpy as np

from .solids import Finish, Model, Opening, Ornament, rectangle, row
from .textures import Colour, Material

SLATE = Material("slate", ((74, 82, 96), (88, 94, 104), (62, 70, 84)), (48, 52, 60))
COPPER = Material("slate", ((94, 158, 140), (112, 172, 152), (84, 144, 128)), (64, 108, 98))
CLAY = Material("tiles", ((178, 92, 62), (194, 108, 74), (158, 78, 56), (186, 120, 88)), (96, 52, 40))


def vary(rng: np.random.Generator, material: Material, spread: float = 9) -> Material:
    """Returns a copy of a material whose colours are shifted at random.

    Args:
        rng: the random generator that draws the shift.
        material: the material.
        spread: the standard deviation of the shift of each channel, in grey levels 0..255. All colours of the material
            are shifted alike.
    """
    change = rng.normal(0, spread, 3)
    moved = [np.clip(np.asarray(colour) + change, 12, 250).tolist() for colour in material.colours]
    return material._replace(colours=tuple((red, green, blue) for red, green, blue in moved))


def pick(rng: np.random.Generator, *colours: Colour) -> Colour:
    """Returns one of several colours, chosen at random."""
    return colours[rng.integers(len(colours))]


def windows(
    rng: np.random.Generator, width: float, low: float, size: tuple[float, float], count: int, arch: str = "flat"
) -> list[Opening]:
    """Returns the openings of a row of windows along a wall, each shifted slightly at random.

    Args:
        rng: the random generator that draws the shifts.
        width: the length of the wall in metres.
        low: the height of the lower edge of the windows above the bottom of the wall in metres.
        size: the (width, height) of each window in metres.
        count: the number of windows.
        arch: the shape of the top of the windows: "flat", "round" or "pointed".
    """
    return [
        Opening(left + rng.normal(0, 0.03), low + rng.normal(0, 0.03), size[0], size[1], arch)
        for left in row(count, 0.3, width - 0.3, size[0])
    ]


def sides(model: Model, x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], finish: Finish) -> None:
    """Adds the left, right and back walls of a body, with windows on the left and right.

    Args:
        model: the model to add the walls to.
        x: the bounds of the body along x in metres.
        y: the bounds along y.
        z: the bounds along z.
        finish: the material and colours of the walls.
    """
    rng, deep = model.rng, y[1] - y[0]
    floors = max(int((z[1] - z[0]) / 3.4), 1)
    holes = []
    for floor in range(floors):
        holes += windows(rng, deep, 1.0 + floor * (z[1] - z[0]) / floors, (1.0, 1.6), max(int(deep / 2.8), 1))
    model.wall((x[1], y[0]), (x[1], y[1]), *z, finish, holes)
    ivy = [Ornament("ivy", deep * 0.1, 0, deep * 0.8, (z[1] - z[0]) * 0.8)]
    model.wall((x[0], y[1]), (x[0], y[0]), *z, finish, holes, ivy if rng.random() < 0.5 else [])
    model.wall((x[1], y[1]), (x[0], y[1]), *z, finish)


def cornice(model: Model, x: tuple[float, float], y: tuple[float, float], low: float, stone: Material) -> None:
    """Adds a cornice around a body, which consists of two stepped mouldings, and a row of brackets along its front.

    Args:
        model: the model to add the cornice to.
        x: the bounds of the body along x in metres.
        y: the bounds along y.
        low: the height of the bottom of the cornice.
        stone: the material of the cornice.
    """
    for step, (reach, height) in enumerate(((0.18, 0.22), (0.42, 0.26))):
        bottom = low + 0.22 * step
        model.box((x[0] - reach, x[1] + reach), (y[0] - reach, y[1] + reach), (bottom, bottom + height), stone)
    for left in np.arange(x[0] + 0.2, x[1] - 0.4, 1.15):
        model.box((left, left + 0.24), (y[0] - 0.34, y[0]), (low - 0.3, low), stone)


def column(model: Model, centre: tuple[float, float], low: float, high: float, radius: float, stone: Material) -> None:
    """Adds a tapering column on a square base and under a square slab.

    Args:
        model: the model to add the column to.
        centre: the (x, y) position of the column's axis in metres.
        low: the height of the bottom of the base.
        high: the height of the top of the slab.
        radius: the radius of the column near its base.
        stone: the material of the column.
    """
    base, top = square(centre, radius * 1.5), square(centre, radius * 1.45)
    model.prism(base, low, low + 0.28, stone)
    shaft = [(radius * 1.2, low + 0.28), (radius, low + 0.5), (radius * 0.86, high - 0.5), (radius * 1.2, high - 0.28)]
    model.turned(centre, shaft, stone, 9)
    model.prism(top, high - 0.28, high, stone)


def square(centre: tuple[float, float], half: float) -> np.ndarray:
    """Returns the corners of a square footprint, (4, 2).

    Args:
        centre: the (x, y) position of the centre in metres.
        half: half the length of a side.
    """
    return rectangle((centre[0] - half, centre[0] + half), (centre[1] - half, centre[1] + half))


def railing(model: Model, x: tuple[float, float], y: tuple[float, float], low: float, material: Material) -> None:
    """Adds a balcony with a floor slab, posts and a rail along its front.

    Args:
        model: the model to add the balcony to.
        x: the bounds of the balcony along x in metres.
        y: the bounds along y.
        low: the height of the balcony's floor.
        material: the material of the balcony.
    """
    model.box(x, y, (low - 0.2, low), material)
    model.box(x, (y[0], y[0] + 0.1), (low + 0.85, low + 0.97), material)
    for left in np.arange(x[0], x[1], 0.34):
        model.box((left, left + 0.09), (y[0], y[0] + 0.08), (low, low + 0.85), material)


def battlements(model: Model, footprint: np.ndarray, low: float, stone: Material) -> None:
    """Adds a row of merlons, the raised parts of battlements, along the edges of a footprint.

    Args:
        model: the model to add the merlons to.
        footprint: the corners of a polygon in metres, (n, 2).
        low: the height of the bottom of the merlons.
        stone: the material of the merlons.
    """
    for a, b in zip(footprint, np.roll(footprint, -1, 0), strict=True):
        length = float(np.linalg.norm(b - a))
        count = max(int(length / 1.5), 1)
        for i in range(count):
            middle = a + (b - a) * (i + 0.5) / count
            model.prism(square((middle[0], middle[1]), 0.36), low, low + 0.85, stone)


def dormer(
    model: Model, x: tuple[float, float], y: tuple[float, float], low: float, finish: Finish, roof: Material
) -> None:
    """Adds a dormer window with a gabled front, two side walls and a small roof.

    Args:
        model: the model to add the dormer to.
        x: the bounds of the dormer along x in metres.
        y: the bounds along y.
        low: the height of the bottom of the dormer.
        finish: the material and colours of the walls.
        roof: the material of the roof.
    """
    wide = x[1] - x[0]
    window = [Opening(wide / 2 - 0.4, 0.25, 0.8, 1.0, "flat", sill=False)]
    model.wall((x[0], y[0]), (x[1], y[0]), low, low + 1.4, finish, window, peak=0.7, depth=0.12)
    for side in x:
        wall = [[side, y[0], low], [side, y[1], low], [side, y[1], low + 1.4], [side, y[0], low + 1.4]]
        model.polygon(np.array(wall), finish.material)
    model.gable(x, y, low + 1.4, low + 2.1, roof, eaves=0.18)


def some_roof(rng: np.random.Generator) -> Material:
    """Returns a roof material chosen at random: slate, copper or clay tiles."""
    return (SLATE, COPPER, CLAY)[rng.integers(3)]

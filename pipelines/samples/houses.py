"""Designs of secular buildings: canal houses, a timbered inn, a palazzo and a cinema.

Each public function adds one random building to a model, at the origin, with its front towards -y.
"""

import numpy as np

from .parts import CLAY, cornice, dormer, pick, railing, sides, square, vary, windows
from .solids import Finish, Model, Opening, Ornament, row
from .textures import Colour, Material, shades

WORDS = ("HOTEL", "BAKERY", "MUSIC", "BOOKS", "TEA ROOM", "FLORIST", "CINEMA", "ATELIER", "MUSEUM", "MARKET", "TAILOR")


def canal_houses(model: Model) -> None:
    """Adds a row of narrow brick houses with stepped, pointed or curved gables to a model."""
    rng, left = model.rng, -9.6
    hues: list[Colour] = [(150, 66, 48), (196, 120, 70), (92, 58, 60), (170, 92, 88), (206, 176, 132)]
    order = rng.permutation(len(hues))
    for i in range(4):
        wide, high = rng.uniform(4.3, 5.3), rng.uniform(8.5, 12)
        hue = hues[order[i]]
        kind = Material("brick", shades(hue, 1.0, 0.86, 1.14), (196, 186, 170))
        door = pick(rng, (34, 74, 62), (120, 32, 34), (30, 52, 92), (60, 60, 60))
        setback = rng.uniform(-0.9, 0.6)
        _canal_house(model, (left, left + wide), setback, high, Finish(kind, (234, 226, 208), (240, 238, 230), door), i)
        left += wide


def _canal_house(model: Model, x: tuple[float, float], y: float, high: float, finish: Finish, style: int) -> None:
    rng, wide = model.rng, x[1] - x[0]
    holes = [Opening(0.5, 0, 1.1, 2.5, "flat", "door", False), Opening(2.0, 0.9, wide - 2.6, 1.6)]
    floors = int((high - 3) / 2.9)
    for floor in range(floors):
        holes += windows(
            rng, wide, 3.8 + floor * (high - 3.6) / floors, (0.95, 1.75 - 0.15 * floor), 3, ("flat", "round")[style % 2]
        )
    sign = [Ornament("sign", 0.4, 2.85, wide - 0.8, 0.6, str(rng.choice(WORDS)))]
    model.wall((x[0], y), (x[1], y), 0, high, finish, holes, sign)
    model.box((x[0] + 0.15, x[1] - 0.15), (y - 0.3, y), (3.5, 3.7), Material("plaster", (finish.trim,)))
    model.wall((x[1], y), (x[1], 8), 0, high, finish)
    model.wall((x[0], 8), (x[0], y), 0, high, finish, [], [Ornament("mural", 2, 2, 5, 5)])
    model.wall((x[1], 8), (x[0], 8), 0, high, finish, peak=3.4)
    rise, stone = rng.uniform(3.0, 3.9), Material("plaster", (finish.trim,))
    model.gable(x, (y + 0.35, 8), high, high + 3.4, vary(rng, CLAY), eaves=0.02)
    _stepped_gable(model, x, y, high, rise, finish, style, stone)


def _stepped_gable(
    model: Model,
    x: tuple[float, float],
    y: float,
    high: float,
    rise: float,
    finish: Finish,
    style: int,
    stone: Material,
) -> None:
    steps, middle, half = (5, 3, 7, 4)[style % 4], (x[0] + x[1]) / 2, (x[1] - x[0]) / 2
    for step in range(steps):
        part = 1 - step / steps
        reach = half * (part if style % 2 == 0 else np.sqrt(part) * 0.98)
        low, top = high + rise * step / steps, high + rise * (step + 1) / steps
        model.box((middle - reach, middle + reach), (y - 0.02, y + 0.4), (low, top), finish.material)
        model.box((middle - reach - 0.1, middle + reach + 0.1), (y - 0.12, y + 0.5), (top - 0.02, top + 0.12), stone)
    window = [Opening(0.3, 0.2, 0.8, 1.3, "round")]
    model.wall((middle - 0.7, y - 0.06), (middle + 0.7, y - 0.06), high + 0.2, high + 2.0, finish, window, depth=0.05)
    model.box((middle - 0.1, middle + 0.1), (y - 0.9, y), (high + rise * 0.72, high + rise * 0.72 + 0.2), stone)
    model.turned((middle, y + 0.2), [(0.12, high + rise), (0.3, high + rise + 0.5), (0, high + rise + 1.2)], stone, 6)


def timbered_inn(model: Model) -> None:
    """Adds a half-timbered inn to a model, with overhanging upper floors, a steep roof and dormers."""
    rng, half = model.rng, model.rng.uniform(7, 8)
    fill = pick(rng, (240, 228, 196), (232, 206, 150), (226, 190, 170))
    stone = vary(rng, Material("rubble", ((150, 138, 122), (170, 156, 138), (128, 118, 108)), (108, 100, 90)))
    beam = Material("planks", ((84, 58, 42), (72, 50, 36)), (48, 34, 26))
    frame = pick(rng, (60, 96, 70), (130, 40, 36), (240, 236, 226))
    ground = [Opening(half - 1, 0, 1.8, 2.5, "round", "door", False)]
    ground += [Opening(left, 1.0, 1.5, 1.4) for left in (0.8, 3.2, 2 * half - 4.4, 2 * half - 2.2)]
    inn = [
        Ornament("sign", half + 1.3, 2.2, 2.6, 0.7, "THE " + str(rng.choice(("OWL", "STAG", "SWAN", "BEAR", "FOX")))),
        Ornament("ivy", 0.1, 0, 2.4, 3),
    ]
    model.wall((-half, 0), (half, 0), 0, 3, Finish(stone, (206, 196, 176), frame, (94, 46, 34)), ground, inn)
    sides(model, (-half, half), (0, 8), (0, 3), Finish(stone, (206, 196, 176), frame))
    finish, reach = Finish(Material("plaster", (fill,)), (78, 54, 40), frame), 0.0
    for floor, low in enumerate((3.0, 5.8)):
        reach += rng.uniform(0.5, 0.75)
        wide = 2 * (half + reach)
        holes = windows(rng, wide, 0.95, (1.05, 1.3), 6 - floor)
        beams = [Ornament("timber", 0, 0, wide, 2.8)]
        model.wall((-half - reach, -reach), (half + reach, -reach), low, low + 2.8, finish, holes, beams, depth=0.15)
        for x, a, b in ((-1, 8, -reach), (1, -reach, 8)):
            model.wall(
                (x * (half + reach), a),
                (x * (half + reach), b),
                low,
                low + 2.8,
                finish,
                windows(rng, 8, 0.95, (0.9, 1.2), 3),
                [Ornament("timber", 0, 0, 8 + reach, 2.8)],
                depth=0.15,
            )
        model.box((-half - reach - 0.05, half + reach + 0.05), (-reach - 0.1, 8), (low - 0.25, low + 0.05), beam)
        for x in np.arange(-half - reach, half + reach, 1.35).tolist():
            model.box((x, x + 0.25), (-reach - 0.28, -reach + 0.4), (low - 0.5, low - 0.2), beam)
        for left in row(6 - floor, 0.3, wide - 0.3, 1.05):
            _flower_box(model, left - half - reach, -reach, low + 0.85)
    _inn_roof(model, half, reach, finish, beam)


def _flower_box(model: Model, left: float, y: float, low: float) -> None:
    rng = model.rng
    petals = shades((rng.uniform(150, 250), rng.uniform(20, 170), rng.uniform(40, 190)), 0.8, 1.0, 1.2)
    flowers = Material("cobbles", (*petals, (60, 120, 50), (70, 140, 60)), (46, 88, 40))
    model.box(
        (left, left + 1.05),
        (y - 0.3, y - 0.02),
        (low - 0.22, low - 0.02),
        Material("planks", ((110, 78, 54),), (60, 40, 28)),
    )
    for x in np.arange(left + 0.1, left + 0.95, 0.25):
        size = rng.uniform(0.12, 0.24)
        model.turned(
            (x, y - 0.16), [(size * 0.6, low - 0.05), (size, low + size * 0.7), (0, low + size * 1.7)], flowers, 5
        )


def _inn_roof(model: Model, half: float, reach: float, finish: Finish, beam: Material) -> None:
    rng, clay = model.rng, vary(model.rng, CLAY, 14)
    x, low = (-half - reach - 0.5, half + reach + 0.5), 8.6
    high = low + rng.uniform(5.2, 6.4)
    model.ridge(x, (-reach - 0.6, 8.6), low, high, clay, hip=rng.uniform(1.2, 3))
    model.box(x, (-reach - 0.6, 8.6), (low - 0.15, low), beam)
    for middle in np.linspace(-half + 1.5, half - 1.5, 3):
        dormer(model, (middle - 1.1, middle + 1.1), (-reach + 0.3, 3), low + 0.4, finish, clay)
    brick = Material("brick", ((150, 74, 56), (126, 60, 46)), (190, 180, 164))
    for side in (-1, 1):
        place = side * half * rng.uniform(0.35, 0.6)
        model.box((place, place + 1.1), (4.2, 5.2), (low + 2, high + 1.5), brick)
        model.box((place - 0.12, place + 1.22), (4.08, 5.32), (high + 1.2, high + 1.5), brick)


def palazzo(model: Model) -> None:
    """Adds a plastered villa with a loggia, balconies and a lookout tower on one side to a model."""
    rng, half = model.rng, model.rng.uniform(7.5, 8.5)
    colour = pick(rng, (226, 150, 106), (236, 196, 110), (204, 112, 96), (234, 178, 160))
    finish = Finish(
        Material("plaster", (colour,)),
        (240, 232, 214),
        pick(rng, (52, 96, 84), (70, 110, 150), (84, 60, 48)),
        (80, 56, 42),
    )
    stone = vary(rng, Material("ashlar", ((232, 222, 200), (222, 212, 190)), (186, 176, 156)))
    loggia = [Opening(left, 7.4, 1.9, 2.5, "round", "") for left in row(7, 0.4, 2 * half - 0.4, 1.9)]
    middle = [Opening(left, 3.9, 1.2, 2.5, "round") for left in row(5, 0.5, 2 * half - 0.5, 1.2)]
    ground = [Opening(left, 0.9, 1.3, 1.7) for left in row(4, 0.5, 2 * half - 0.5, 1.3)]
    door = [Opening(half - 1.0, 0, 2.0, 2.9, "round", "door", False)]
    ground = [hole for hole in ground if abs(hole.left + 0.65 - half) > 1.9]
    painted = [
        Ornament("mural", half + 1.5, 3.9, 1.0, 2.2),
        Ornament("ivy", 2 * half - 2.6, 0, 2.6, 6.5),
        Ornament("band", 0.1, 3.1, 2 * half - 0.2, 0.35),
    ]
    model.wall((-half, 0), (half, 0), 0, 10.4, finish, loggia + middle + ground + door, painted, depth=0.35)
    inner = Finish(Material("plaster", ((238, 214, 180),)), finish.trim, finish.frame, finish.door)
    model.wall(
        (-half, 2.4),
        (half, 2.4),
        7,
        10.4,
        inner,
        windows(rng, 2 * half, 0.5, (1.2, 2.2), 6),
        [Ornament("mural", 0.3, 2.75, 2 * half - 0.6, 0.5)],
    )
    for z in (7.3, 10.38):
        model.polygon(np.array([[-half, 0, z], [half, 0, z], [half, 2.4, z], [-half, 2.4, z]]), stone)
    sides(model, (-half, half), (0, 8.5), (0, 10.4), finish)
    for left in row(5, 0.5, 2 * half - 0.5, 1.2)[:: int(rng.integers(1, 3))]:
        railing(model, (left - half - 0.35, left - half + 1.55), (-0.95, 0), 3.85, stone)
    model.box((-half - 0.15, half + 0.15), (-0.25, 0), (6.95, 7.25), stone)
    for left in (-half, half - 0.7):
        for z in np.arange(0, 9.8, 0.8):
            model.box((left, left + 0.7), (-0.12, 0), (z, z + 0.66), stone)
    cornice(model, (-half, half), (0, 8.5), 10.4, stone)
    model.ridge((-half - 0.8, half + 0.8), (-0.8, 9.3), 10.88, 13.4, vary(rng, CLAY, 12), hip=4.2)
    _lookout(model, half * rng.choice((-1, 1)) * 0.62, finish, stone)


def _lookout(model: Model, x: float, finish: Finish, stone: Material) -> None:
    rng, half = model.rng, 2.0
    top = rng.uniform(16, 17.5)
    corners = square((x, 4.5), half)
    for a, b in zip(corners, np.roll(corners, -1, 0), strict=True):
        open_arches = [Opening(left, top - 13.4, 0.95, 2.4, "round") for left in row(2, 0.3, 2 * half - 0.3, 0.95)]
        model.wall(tuple(a), tuple(b), 10, top, finish, [o._replace(low=top - 13.2) for o in open_arches])
    model.box((x - half - 0.4, x + half + 0.4), (4.1 - half, 4.9 + half), (top, top + 0.3), stone)
    model.turned((x, 4.5), [(half * 1.6, top + 0.3), (0, top + rng.uniform(2, 3))], vary(rng, CLAY), 4)
    model.turned((x, 4.5), [(0.07, top + 2), (0.07, top + 4.6), (0, top + 4.7)], stone, 5)


def cinema(model: Model) -> None:
    """Adds an art deco cinema of glazed tiles to a model, stepped, with vertical fins, a sign and a marquee."""
    rng = model.rng
    colour = pick(rng, (240, 226, 200), (150, 200, 190), (236, 190, 170), (170, 190, 220))
    accent = pick(rng, (30, 96, 110), (150, 40, 60), (40, 50, 90), (190, 120, 40))
    tiles = Material("glazed", shades(colour, 1.0, 0.93, 1.05), (196, 190, 178))
    dark = Material("glazed", shades(accent, 1.0, 0.8), (60, 60, 64))
    finish = Finish(tiles, accent, (52, 52, 56), (130, 92, 44))
    half, top = rng.uniform(8.5, 9.5), rng.uniform(12.5, 14)
    for step, (reach, high, y) in enumerate(((half, top - 5, 0.0), (half - 3, top - 2.2, -0.8), (half - 6, top, -1.6))):
        wide = 2 * reach
        holes = [
            hole for z in np.arange(4.6, high - 2, 2.7) for hole in windows(rng, wide, z, (1.0, 1.9), 7 - 2 * step)
        ]
        band = [
            Ornament("band", 0.1, high - 1.3, wide - 0.2, 0.9),
            Ornament("poster", 0.5, 0.8, 1.4, 2.1, "NOW"),
            Ornament("poster", wide - 1.9, 0.8, 1.4, 2.1, "SOON"),
        ]
        doors = (
            [Opening(left, 0, 1.3, 2.7, "flat", "door", False) for left in row(3, 0.3, wide - 0.3, 1.3)]
            if step == 2
            else []
        )
        model.wall((-reach, y), (reach, y), 0, high, finish, holes + doors, band)
        sides(model, (-reach, reach), (y, 9), (0, high), finish)
        model.box((-reach - 0.15, reach + 0.15), (y - 0.15, 9), (high, high + 0.4), dark)
    for x in np.linspace(-half + 6, half - 6, int(rng.integers(4, 6))):
        model.box((x - 0.22, x + 0.22), (-2.3, -1.6), (4.4, top + rng.uniform(1, 2.5)), dark)
    _marquee(model, half - 4.6, dark)
    name = str(rng.choice(("ORION", "PALLAS", "LUMEN", "CASTOR", "AURORA", "RIALTO")))
    side = float(rng.choice((-1, 1)))
    for i, letter in enumerate(name):
        x, z = side * (half - 4.5), top - 3.2 - 1.25 * i
        model.wall(
            (x - 0.65, -1.7), (x + 0.65, -1.7), z, z + 1.25, finish, [], [Ornament("sign", 0, 0, 1.3, 1.25, letter)]
        )
    model.box(
        (side * (half - 4.5) - 0.65, side * (half - 4.5) + 0.65),
        (-1.68, -0.8),
        (top - 3.2 - 1.25 * (len(name) - 1), top - 1.95),
        dark,
    )
    model.turned(
        (-side * (half - 1.5), 2.0),
        [(1.4, top - 5), (1.4, top - 3), (1.7, top - 2.9), (1.2, top - 1.6), (0, top - 0.8)],
        tiles,
        12,
    )


def _marquee(model: Model, half: float, dark: Material) -> None:
    rng = model.rng
    model.box((-half, half), (-4.2, -1.6), (3.3, 4.3), dark)
    film = (
        "THE "
        + str(rng.choice(("LAST", "BLUE", "LONG", "LOST", "GREEN")))
        + " "
        + str(rng.choice(("TRAIN", "HARBOUR", "WINTER", "LETTER", "COMET")))
    )
    model.wall(
        (-half, -4.22),
        (half, -4.22),
        3.35,
        4.25,
        Finish(dark),
        [],
        [Ornament("sign", 0.1, 0.1, 2 * half - 0.2, 0.7, film)],
    )
    for x in (-half + 0.3, half - 0.3):
        model.turned((x, -3.9), [(0.14, 0), (0.14, 3.3)], dark, 6)

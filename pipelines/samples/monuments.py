"""Designs of monuments: a town hall, a cathedral, a temple and a castle.

Each public function adds one random building to a model, at the origin, with its front towards -y.
"""

import numpy as np

from .parts import COPPER, SLATE, battlements, column, cornice, dormer, pick, sides, some_roof, square, vary, windows
from .solids import UP, Finish, Model, Opening, Ornament, rectangle, ring, row
from .textures import Material, any_colour, shades


def town_hall(model: Model) -> None:
    """Adds a town hall of cut stone to a model, with an arcade and a clock tower in the middle."""
    rng = model.rng
    half, high = rng.uniform(9, 10.5), rng.uniform(9, 10)
    colour = pick(rng, (216, 192, 150), (204, 184, 160), (222, 204, 170))
    stone = vary(rng, Material("ashlar", (colour, (200, 178, 140), (226, 206, 172)), (160, 146, 122)))
    plain = vary(rng, Material("plaster", ((228, 216, 190),)))
    finish = Finish(stone, (236, 226, 202), pick(rng, (40, 70, 60), (60, 50, 44), (44, 54, 82)), (84, 56, 40))
    arches = [Opening(left, 0, 1.9, 3.3, "round", "") for left in row(8, 0.4, 2 * half - 0.4, 1.9)]
    upper = windows(rng, 2 * half, 4.9, (1.15, 2.5), 9, "round")
    words = [Ornament("band", 0.2, 4.05, 2 * half - 0.4, 0.42)]
    model.wall((-half, 0), (half, 0), 0, high, finish, arches + upper, words, depth=0.55)
    shops = [
        Opening(left, 0, 1.8, 2.8, "flat", "door" if i % 3 == 0 else "pane", False)
        for i, left in enumerate(row(7, 0.5, 2 * half - 0.5, 1.8))
    ]
    model.wall((-half, 2.6), (half, 2.6), 0, 3.8, Finish(plain, finish.trim, finish.frame, finish.door), shops)
    model.polygon(np.array([[-half, 0.1, 3.7], [half, 0.1, 3.7], [half, 2.6, 3.7], [-half, 2.6, 3.7]]), plain)
    sides(model, (-half, half), (0, 9), (0, high), finish)
    cornice(model, (-half, half), (0, 9), high, plain)
    model.ridge((-half - 0.3, half + 0.3), (-0.3, 9.3), high + 0.48, high + 4.6, vary(rng, SLATE), hip=3.5)
    for x in np.linspace(-half + 2.5, half - 2.5, 4):
        dormer(model, (x - 0.75, x + 0.75), (0.6, 3.2), high + 0.7, finish, vary(rng, SLATE))
    _clock_tower(model, finish, high, plain)


def _clock_tower(model: Model, finish: Finish, high: float, plain: Material) -> None:
    rng, side, top = model.rng, 2.3, high + model.rng.uniform(6.5, 8.5)
    bells = [Opening(left, top - 3.2, 0.9, 2.2, "round") for left in row(2, 0.4, 2 * side - 0.4, 0.9)]
    clock = [Ornament("clock", side - 1.1, top - 6.2, 2.2, 2.2)]
    corners = rectangle((-side, side), (-0.7, 2 * side - 0.7))
    for a, b in zip(corners, np.roll(corners, -1, 0), strict=True):
        front = abs(a[1] - b[1]) < 0.1 and a[1] < 0
        door = [Opening(side - 1, 0, 2, 3.4, "round", "door", False)] if front else []
        middle = [Opening(side - 0.8, 5, 1.6, 2.8, "round")] if front else []
        model.wall(tuple(a), tuple(b), 0, top, finish, bells + door + middle, clock)
    cornice(model, (-side, side), (-0.7, 2 * side - 0.7), top, plain)
    for corner in corners:
        model.turned(
            (corner[0], corner[1]), [(0.35, top), (0.3, top + 1.5), (0.4, top + 1.5), (0, top + 2.6)], plain, 6
        )
    centre, copper = (0.0, side - 0.7), vary(rng, COPPER)
    tall = rng.uniform(4, 6)
    model.turned(
        centre,
        [
            (2.5, top + 0.5),
            (2.2, top + 1.5),
            (1.2, top + 2.4),
            (1.0, top + 3.2),
            (0.5, top + 3.7),
            (0, top + 3.7 + tall),
        ],
        copper,
        8,
    )


def cathedral(model: Model) -> None:
    """Adds a cathedral to a model, with two unequal spires, a rose window and pointed portals."""
    rng = model.rng
    colour = pick(rng, (176, 172, 166), (190, 178, 156), (168, 160, 158))
    stone = vary(rng, Material("rubble", (colour, (158, 152, 146), (192, 186, 176)), (128, 122, 114)))
    trim = vary(rng, Material("ashlar", ((206, 198, 182), (190, 184, 172)), (150, 144, 132)))
    finish = Finish(stone, (212, 204, 188), (64, 60, 60), pick(rng, (110, 40, 36), (54, 70, 60)))
    nave, high = rng.uniform(3.8, 4.4), rng.uniform(10, 11.5)
    door = [Opening(nave - 1.3, 0, 2.6, 4.2, "pointed", "door", False)]
    rose = [Ornament("rose", nave - 1.75, 6.4, 3.5, 3.5)]
    slits = [Opening(left, high + 0.2, 0.7, 1.7, "pointed") for left in row(3, 1.6, 2 * nave - 1.6, 0.7)]
    model.wall((-nave, 0), (nave, 0), 0, high, finish, door + slits, rose, peak=4.2, depth=0.9)
    model.gable((-nave, nave), (0.5, 17), high, high + 4.2, vary(rng, SLATE), eaves=0.2)
    for reach in (0.35, 0.7):
        _portal(model, (0.0, -reach), 1.7 + reach, 4.4 + reach, trim)
    for side, top in ((-1, high + rng.uniform(3, 5)), (1, high + rng.uniform(6.5, 8.5))):
        _spire(model, side * (nave + 2.1), top, finish, trim)
    model.wall((nave + 4, 4.4), (nave + 4, 16), 0, 6, finish, windows(rng, 11.6, 1.2, (1.1, 3.4), 4, "pointed"))
    model.wall((-nave - 4, 16), (-nave - 4, 4.4), 0, 6, finish, windows(rng, 11.6, 1.2, (1.1, 3.4), 4, "pointed"))
    for side in (-1, 1):
        edge, inner = side * (nave + 4.3), side * nave
        slope = [[edge, 4, 5.9], [edge, 16, 5.9], [inner, 16, 8.8], [inner, 4, 8.8]]
        model.polygon(np.array(slope), vary(rng, SLATE))
        model.wall((inner, 16), (inner, 4), 8, high, finish)
        for y in (6.6, 9.4, 12.2):
            model.box((edge - 0.5, edge + 0.5), (y, y + 0.7), (0, 6.6), trim)


def _portal(model: Model, place: tuple[float, float], half: float, high: float, stone: Material) -> None:
    """Adds a gabled frame in front of a door, which consists of two posts and two sloping beams."""
    (x, y), back = place, np.array([0, 0.5, 0.5])
    for side in (-1, 1):
        model.box((x + side * half - 0.25, x + side * half + 0.25), (y, y + 0.5), (0, high - 1.6), stone)
        low, top = np.array([x + side * (half + 0.3), y, high - 1.6]), np.array([x, y, high + 1.0])
        for near in (0.0, 0.5):
            away = np.array([0, near, 0])
            model.polygon(np.array([low, top, top + 0.5 * UP, low + 0.5 * UP]) + away, stone)
        model.polygon(np.array([low + 0.5 * UP, top + 0.5 * UP, top + back, low + back]), stone)


def _spire(model: Model, x: float, top: float, finish: Finish, trim: Material) -> None:
    rng, half = model.rng, 2.1
    corners = square((x, half - 0.5), half)
    for a, b in zip(corners, np.roll(corners, -1, 0), strict=True):
        tall = [Opening(left, top - 4.2, 0.95, 3.2, "pointed") for left in row(2, 0.5, 2 * half - 0.5, 0.95)]
        low = [Opening(half - 0.5, top - 9.0, 1.0, 2.6, "pointed")]
        foot = [Opening(half - 0.9, 0, 1.8, 3, "pointed", "door", False)] if a[1] < 0 and b[1] < 0 else []
        model.wall(tuple(a), tuple(b), 0, top, finish, tall + low + foot)
    for corner in corners:
        model.prism(square((corner[0], corner[1]), 0.45), 0, top - rng.uniform(2, 4), trim)
        model.turned((corner[0], corner[1]), [(0.4, top), (0.34, top + 1.4), (0, top + 3)], trim, 6)
    model.box((x - half - 0.25, x + half + 0.25), (-0.75, 2 * half - 0.25), (top - 0.3, top), trim)
    model.box((x - half - 0.2, x + half + 0.2), (-0.7, 2 * half - 0.3), (top - 5.2, top - 4.95), trim)
    spire = [(half * 0.98, top), (half * 0.9, top + 0.4), (0, top + rng.uniform(6.5, 8.5))]
    model.turned((x, half - 0.5), spire, vary(rng, some_roof(rng)), 8)


def temple(model: Model) -> None:
    """Adds a temple to a model: a round hall with a dome behind a portico with columns and a pediment."""
    rng, count = model.rng, 6
    marble = vary(rng, Material("ashlar", ((232, 226, 212), (220, 212, 196), (238, 234, 224)), (190, 182, 166)), 6)
    stucco = vary(
        rng,
        Material(
            "ashlar", (pick(rng, (214, 150, 116), (150, 170, 190), (206, 180, 120)), (206, 164, 132)), (170, 140, 116)
        ),
    )
    half, high, radius = rng.uniform(6.6, 7.4), rng.uniform(7, 8), rng.uniform(6.6, 7.4)
    for step in range(4):
        model.box(
            (-half - 1.5 + 0.35 * step, half + 1.5 - 0.35 * step),
            (-4.4 + 0.35 * step, 2),
            (0.3 * step, 0.3 * step + 0.3),
            marble,
        )
    for x in np.linspace(-half + 0.5, half - 0.5, count):
        column(model, (x, -2.3), 1.2, high, 0.52, marble)
    for x in (-half + 0.5, half - 0.5):
        column(model, (x, 0.1), 1.2, high, 0.52, marble)
    words = [
        Ornament(
            "sign",
            half - 4.2,
            0.25,
            8.4,
            0.95,
            "MUSEUM OF " + str(rng.choice(("TIME", "MAPS", "ECHOES", "CLOUDS", "GLASS"))),
        )
    ]
    model.wall((-half, -2.9), (half, -2.9), high, high + 1.4, Finish(marble), [], words)
    model.box((-half, half), (-2.88, 3), (high, high + 1.4), marble)
    model.box((-half - 0.4, half + 0.4), (-3.4, 3), (high + 1.4, high + 1.75), marble)
    model.gable((-half, half), (-2.9, 3.5), high + 1.75, high + 4.5, vary(rng, COPPER), eaves=0.35)
    ornament = [Ornament("mural", half - 2.6, 0.35, 5.2, 1.15)]
    model.wall((-half, -2.85), (half, -2.85), high + 1.75, high + 1.76, Finish(marble), [], ornament, peak=2.6)
    doors = [Opening(half - 1.4, 0, 2.8, 4.6, "round", "door", False)] + [
        Opening(half + d, 1.2, 1.4, 3.0, "round") for d in (-5.2, 3.8)
    ]
    model.wall((-half, 1.2), (half, 1.2), 1.2, high, Finish(stucco, (238, 232, 220), (70, 60, 50), (70, 92, 84)), doors)
    _drum(model, (0.0, radius + 2.0), radius, high, stucco, marble)


def _drum(
    model: Model, centre: tuple[float, float], radius: float, high: float, stucco: Material, marble: Material
) -> None:
    rng, top = model.rng, high + model.rng.uniform(3.5, 4.5)
    finish = Finish(stucco, (238, 232, 220), (240, 236, 228))
    around = ring(centre, radius, 12)
    side = float(np.linalg.norm(around[1] - around[0]))
    for a, b in zip(around, np.roll(around, -1, 0), strict=True):
        holes = [Opening(side / 2 - 0.65, top - 3.0, 1.3, 2.0, "round"), Opening(side / 2 - 0.65, 1.6, 1.3, 3.0)]
        model.wall(tuple(a), tuple(b), 0, top, finish, holes)
    for corner in around:
        model.turned((corner[0], corner[1]), [(0.32, 0), (0.28, top - 0.3), (0.42, top)], marble, 6)
    model.turned(
        centre,
        [(radius, top), (radius + 0.5, top + 0.2), (radius + 0.5, top + 0.55), (radius - 0.5, top + 0.6)],
        marble,
        12,
    )
    angles = np.linspace(0, 1.42, 7)
    dome = [((radius - 0.5) * np.cos(a), top + 0.6 + radius * 0.82 * np.sin(a)) for a in angles]
    model.turned(centre, [(float(r), float(z)) for r, z in dome], vary(rng, some_roof(rng)), 12)
    tip = dome[-1][1]
    model.turned(
        centre, [(0.9, tip - 0.3), (0.9, tip + 1.4), (1.15, tip + 1.5), (0.5, tip + 2.3), (0, tip + 3.6)], marble, 8
    )


def castle(model: Model) -> None:
    """Adds a castle to a model: a gatehouse of rubble between round towers, with battlements, flags and ivy."""
    rng = model.rng
    colour = pick(rng, (156, 148, 134), (180, 148, 112), (140, 140, 146))
    stone = Material("rubble", shades(colour, 1.0, 0.86, 1.12), (110, 104, 94))
    finish = Finish(stone, (190, 180, 158), (56, 48, 44), (88, 62, 42))
    half, high = rng.uniform(4.2, 5.0), rng.uniform(8, 9)
    gate = [Opening(half - 1.6, 0, 3.2, 4.6, "pointed", "door", False)]
    slits = [Opening(left, 5.6, 0.55, 1.7, "round") for left in row(4, 0.6, 2 * half - 0.6, 0.55)]
    banners = [Ornament("poster", half - 0.75, 5.4, 1.5, 2.4, "1" + str(rng.integers(200, 699)))]
    model.wall((-half, 0), (half, 0), 0, high, finish, gate + slits, banners, depth=0.8)
    model.box((-half - 0.2, half + 0.2), (-0.5, 6), (high, high + 0.6), stone)
    for x in np.arange(-half, half, 0.9):
        model.box((x, x + 0.4), (-0.5, 0), (high - 0.5, high), stone)
    battlements(model, rectangle((-half, half), (-0.15, 5.6)), high + 0.6, stone)
    for side, radius in ((-1, rng.uniform(2.5, 2.9)), (1, rng.uniform(3.0, 3.6))):
        _round_tower(model, (side * (half + radius * 0.8), 1.2), radius, high + rng.uniform(2, 5.5), finish, side > 0)
    for side in (-1, 1):
        a, b = (side * (half + 4), 3.0), (side * (half + 9.5), 5.5)
        start, end = (b, a) if side < 0 else (a, b)
        low = rng.uniform(4.8, 6)
        model.wall(start, end, 0, low, finish, [], [Ornament("ivy", 0.3, 0, 4.5, low * 0.9)])
        back = [[*start, low], [*end, low], [end[0], end[1] + 1.2, low], [start[0], start[1] + 1.2, low]]
        model.polygon(np.array(back), stone)
        for part in np.linspace(0.08, 0.92, 5):
            middle = np.asarray(start) * (1 - part) + np.asarray(end) * part
            model.prism(square((middle[0], middle[1] + 0.36), 0.38), low, low + 0.8, stone)


def _round_tower(
    model: Model, centre: tuple[float, float], radius: float, top: float, finish: Finish, roofed: bool
) -> None:
    rng, around = model.rng, ring(centre, radius, 10)
    side = float(np.linalg.norm(around[1] - around[0]))
    for i, (a, b) in enumerate(zip(around, np.roll(around, -1, 0), strict=True)):
        if b[0] - a[0] < -0.5 * side:
            continue
        holes = [Opening(side / 2 - 0.25, z + 0.4 * (i % 3), 0.5, 1.5, "round") for z in np.arange(2.5, top - 2.5, 3.2)]
        ivy = [Ornament("ivy", 0, 0, side, top * 0.7)] if rng.random() < 0.3 else []
        model.wall(tuple(a), tuple(b), 0, top, finish, holes, ivy)
    stone = finish.material
    model.turned(
        centre,
        [(radius, top - 0.6), (radius + 0.5, top), (radius + 0.5, top + 0.7), (radius - 0.2, top + 0.7)],
        stone,
        10,
    )
    battlements(model, ring(centre, radius + 0.1, 10), top + 0.7, stone)
    if roofed:
        roof = [
            (radius - 0.2, top + 0.7),
            (radius - 0.2, top + 1.8),
            (radius + 0.4, top + 1.7),
            (0, top + rng.uniform(6, 7.5)),
        ]
        model.turned(centre, roof, vary(rng, some_roof(rng)), 10)
    tip = top + (7.5 if roofed else 0.7)
    model.turned(centre, [(0.08, top), (0.08, tip + 2.4), (0, tip + 2.5)], stone, 5)
    cloth = Material("glazed", (any_colour(rng, 30, 230), any_colour(rng, 30, 230)), (230, 224, 210))
    x, y = centre
    model.polygon(
        np.array([[x, y, tip + 1.2], [x + 1.7, y - 0.5, tip + 1.5], [x + 1.7, y - 0.5, tip + 2.0], [x, y, tip + 2.4]]),
        cloth,
    )

"""Paints windows, doors, signs, posters, ivy, clocks and murals on the walls of invented buildings.

Each painting function draws colours and shapes from a random generator, so that no two results are alike.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from PIL import ImageDraw, ImageFont

from .textures import Colour, any_colour, shades, tint


def outline(box: tuple[float, float, float, float], arch: str, grow: float = 0) -> list[tuple[float, float]]:
    """Computes the outline of a window, door or passage as a polygon.

    Args:
        box: the left, top, right and bottom of the opening, with y pointing down.
        arch: the shape of the top: "flat", "round" (a semicircle) or "pointed" (two arcs).
        grow: the distance by which the outline is widened on every side except the bottom, in the unit of `box`.

    Returns:
        The points (x, y) of the outline, clockwise from the bottom left.
    """
    left, top, right, bottom = box[0] - grow, box[1] - grow, box[2] + grow, box[3]
    middle, half = (left + right) / 2, (right - left) / 2
    if arch == "flat":
        arc = [(left, top), (right, top)]
    elif arch == "round":
        angles = np.linspace(np.pi, 0, 9)
        arc = [(middle + half * np.cos(a), top + half - half * np.sin(a)) for a in angles]
    else:
        rise = np.sqrt(3) * half
        angles = np.linspace(0, np.pi / 3, 5)
        rising = [(right - 2 * half * np.cos(a), top + rise - 2 * half * np.sin(a)) for a in angles]
        arc = rising + [(left + right - x, y) for x, y in rising[-2::-1]]
    return [(left, bottom), *((float(x), float(y)) for x, y in arc), (right, bottom)]


def paint_pane(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], frame: Colour
) -> None:
    """Paints a window with random light, curtains and objects on the window sill.

    Args:
        rng: the random generator.
        draw: the Pillow drawing object of the texture to paint on.
        box: the left, top, right and bottom of the window in texels.
        frame: the RGB colour of the window frame, 0..255.
    """
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    lit = rng.random() < 0.15
    glass = (226, 190, 116) if lit else (58, 78, 96)
    for band in np.linspace(0, 1, 9)[:-1]:
        y = top + band * height
        tone = tint(rng, shades(glass, 1.25 - 0.6 * band)[0], 4)
        draw.rectangle((left, y, right, y + height / 8 + 1), fill=tone)
    slope = rng.uniform(0.2, 0.8) * width
    draw.polygon(
        [(left + slope, top), (left + slope + width / 4, top), (left + width / 5, bottom), (left, bottom)],
        fill=tint(rng, (118, 142, 160), 10),
    )
    _paint_inside(rng, draw, box)
    bar, rim = max(width / 22, 1.2), max(width / 13, 2)
    colour = tint(rng, frame, 6)
    for part in np.linspace(left, right, int(rng.integers(2, 5)))[1:-1]:
        draw.rectangle((part - bar, top, part + bar, bottom), fill=colour)
    for part in np.linspace(top, bottom, int(rng.integers(2, 5)))[1:-1]:
        draw.rectangle((left, part - bar, right, part + bar), fill=colour)
    draw.rectangle(box, outline=colour, width=int(rim))


def _paint_inside(rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float]) -> None:
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    cloth = tint(rng, any_colour(rng, 90, 245), 5)
    choice = rng.integers(4)
    if choice == 0:
        for side, sign in ((left, 1), (right, -1)):
            reach = side + sign * width * rng.uniform(0.15, 0.42)
            draw.polygon([(side, top), (reach, top), (side + sign * width * 0.1, bottom), (side, bottom)], fill=cloth)
    elif choice == 1:
        low = top + height * rng.uniform(0.15, 0.75)
        draw.rectangle((left, top, right, low), fill=cloth)
        for y in np.arange(top + 4, low, 4):
            draw.line((left, y, right, y), fill=tint(rng, cloth, 12))
    for _ in range(int(rng.integers(0, 5))):
        x, size = rng.uniform(left, right), rng.uniform(0.05, 0.2) * width
        thing = (x - size, bottom - size * rng.uniform(1, 4), x + size, bottom)
        draw.ellipse(thing, fill=tint(rng, any_colour(rng, 20, 230), 10))


def paint_door(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], frame: Colour
) -> None:
    """Paints a double door with boards, bars and nails.

    Args:
        rng: the random generator.
        draw: the Pillow drawing object of the texture to paint on.
        box: the left, top, right and bottom of the door in texels.
        frame: the RGB colour of the door, 0..255.
    """
    left, top, right, bottom = box
    draw.rectangle(box, fill=tint(rng, frame, 8))
    boards = np.linspace(left, right, 9)
    for start, end in pairwise(boards):
        draw.rectangle((start, top, end - 1, bottom), fill=tint(rng, frame, 13))
    for y in np.linspace(top, bottom, 6)[1:-1]:
        draw.rectangle((left, y - 2, right, y + 2), fill=tint(rng, (44, 38, 36), 6))
        for x in boards[1:-1]:
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=tint(rng, (150, 130, 90), 20))
    middle = (left + right) / 2
    draw.rectangle((middle - 1, top, middle + 1, bottom), fill=(24, 20, 18))


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(max(int(size), 6))


def _sign(rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: tuple[float, ...], text: str) -> None:
    left, top, right, bottom = box
    back = tint(rng, any_colour(rng, 20, 110), 8)
    draw.rectangle((left, top, right, bottom), fill=back, outline=(226, 200, 130), width=3)
    size = min((bottom - top) * 0.72, 1.55 * (right - left) / max(len(text), 1))
    middle = ((left + right) / 2, (top + bottom) / 2)
    draw.text(middle, text, fill=(244, 226, 170), font=_font(size), anchor="mm")


def _poster(rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: tuple[float, ...], text: str) -> None:
    left, top, right, bottom = box
    draw.rectangle((left, top, right, bottom), fill=tint(rng, any_colour(rng, 60, 240), 5))
    for _ in range(9):
        x, y = np.sort(rng.uniform(left, right, 2)), np.sort(rng.uniform(top, bottom, 2))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x[0], y[0], x[1], y[1]), fill=tint(rng, any_colour(rng, 20, 250), 5))
    draw.text((left + 3, top + 3), text, fill=(20, 20, 24), font=_font((bottom - top) / 6))
    draw.rectangle((left, top, right, bottom), outline=(236, 232, 220), width=2)


def _ivy(rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: tuple[float, ...], text: str) -> None:
    left, top, right, bottom = box
    for _ in range(int((right - left) * (bottom - top) / 26)):
        height = rng.beta(1.0, 1.9)
        x = (left + right) / 2 + rng.normal() * (right - left) * (0.32 - 0.2 * height)
        x += 9 * np.sin(height * 11 + left)
        y, size = bottom - height * (bottom - top), rng.uniform(2, 5.5)
        leaf = tint(rng, (52 + 46 * rng.random(), 88 + 55 * rng.random(), 36), 9)
        draw.ellipse((x - size, y - size * 0.8, x + size, y + size * 0.8), fill=leaf)


def _clock(rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: tuple[float, ...], text: str) -> None:
    left, top, right, bottom = box
    x, y, radius = (left + right) / 2, (top + bottom) / 2, (right - left) / 2
    draw.ellipse((left, top, right, bottom), fill=(240, 234, 214), outline=(176, 138, 60), width=4)
    for hour in range(12):
        turn = np.pi * hour / 6
        tip = (x + 0.82 * radius * np.sin(turn), y - 0.82 * radius * np.cos(turn))
        draw.line(
            (*tip, x + 0.62 * radius * np.sin(turn), y - 0.62 * radius * np.cos(turn)), fill=(30, 30, 40), width=3
        )
    for reach, turn in ((0.45, rng.uniform(0, 6.28)), (0.7, rng.uniform(0, 6.28))):
        end = (x + reach * radius * np.sin(turn), y - reach * radius * np.cos(turn))
        draw.line((x, y, *end), fill=(30, 30, 40), width=4)


def _rose(rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: tuple[float, ...], text: str) -> None:
    left, top, right, bottom = box
    x, y, radius = (left + right) / 2, (top + bottom) / 2, (right - left) / 2
    draw.ellipse((left, top, right, bottom), fill=(206, 196, 172))
    for ring, petals in ((0.76, 16), (0.45, 10), (0.15, 4)):
        size = radius * 0.8 * ring * np.pi / petals if ring > 0.2 else radius * 0.1
        for turn in np.linspace(0, 2 * np.pi, petals, endpoint=False):
            px, py = x + ring * radius * np.cos(turn), y + ring * radius * np.sin(turn)
            glass = tint(rng, ((170, 40, 40), (40, 70, 160), (210, 160, 50), (50, 120, 80))[rng.integers(4)], 20)
            draw.ellipse((px - size, py - size, px + size, py + size), fill=glass, outline=(40, 36, 34))


def _mural(rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: tuple[float, ...], text: str) -> None:
    left, top, right, bottom = box
    for _ in range(70):
        x, y = rng.uniform(left, right), rng.uniform(top, bottom)
        size = rng.uniform(0.02, 0.12) * (right - left)
        colour = tint(rng, ((214, 120, 70), (60, 130, 140), (232, 196, 110), (150, 70, 90))[rng.integers(4)], 16)
        corners = [(x + size * np.cos(a), y + size * np.sin(a)) for a in np.sort(rng.uniform(0, 6.28, 5))]
        draw.polygon([(min(max(px, left), right), min(max(py, top), bottom)) for px, py in corners], fill=colour)


def _timber(rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: tuple[float, ...], text: str) -> None:
    left, top, right, bottom = box
    posts = np.linspace(left, right, max(int((right - left) / 52), 2) + 1)
    for start, end in pairwise(posts):
        if rng.random() < 0.45:
            ends = (start, bottom, end, top) if rng.random() < 0.5 else (start, top, end, bottom)
            draw.line(ends, fill=tint(rng, (74, 50, 36), 7), width=8)
        draw.line((start, top, start, bottom), fill=tint(rng, (70, 48, 34), 7), width=9)
    for y in (top + 3, (top + bottom) / 2 + rng.uniform(-6, 6), bottom - 4):
        draw.line((left, y, right, y), fill=tint(rng, (66, 45, 33), 7), width=9)
    draw.line((right - 4, top, right - 4, bottom), fill=tint(rng, (70, 48, 34), 7), width=9)


def _band(rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: tuple[float, ...], text: str) -> None:
    left, top, right, bottom = box
    colours = [tint(rng, any_colour(rng, 50, 220), 4) for _ in range(5)]
    size = bottom - top
    for x in np.arange(left, right, size):
        draw.rectangle((x, top, min(x + size, right) - 1, bottom), fill=colours[rng.integers(5)])
        grow = size * rng.uniform(0.15, 0.42)
        centre = x + size / 2
        if centre + grow < right:
            shape = draw.ellipse if rng.random() < 0.6 else draw.rectangle
            shape(
                (centre - grow, top + size / 2 - grow, centre + grow, top + size / 2 + grow),
                fill=colours[rng.integers(5)],
            )


Painter = Callable[[np.random.Generator, ImageDraw.ImageDraw, tuple[float, ...], str], None]


ORNAMENTS: dict[str, Painter] = {
    "sign": _sign,
    "poster": _poster,
    "ivy": _ivy,
    "clock": _clock,
    "rose": _rose,
    "mural": _mural,
    "timber": _timber,
    "band": _band,
}

"""Generates the surroundings of a building at random for each photo: light, sky, ground, trees, people, lamps, cars.

Trees, people, lamps and cars are sprites, flat RGBA pictures that are placed upright in the scene. A function that
generates a sprite returns a `Picture`, which is the image and its width in metres.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from . import textures
from .renderer import Camera, Light
from .solids import UP, Face, Model
from .textures import Material, any_colour, shades, tint

GROUND = 18  # texels per metre
SPRITE = 50
Picture = tuple[Image.Image, float]  # RGBA image, width in metres


def make_light(rng: np.random.Generator) -> Light:
    """Returns a random lighting, with the sun in front of the building or to one side, and a clear or overcast sky."""
    azimuth, height = rng.uniform(-1.15, 1.15), rng.uniform(0.4, 1.1)
    sun = np.array([np.sin(azimuth) * np.cos(height), -np.cos(azimuth) * np.cos(height), np.sin(height)])
    clear, warm = (rng.uniform(0.75, 1.15) if rng.random() < 0.75 else rng.uniform(0.12, 0.35)), rng.uniform(0, 1)
    sun_colour = clear * np.array([1.08, 0.98 - 0.12 * warm, 0.9 - 0.36 * warm])
    sky_colour = (0.52 - 0.2 * clear) * np.array([0.92 + 0.1 * warm, 1.0, 1.16 - 0.16 * warm])
    haze = np.array([0.62, 0.7, 0.8]) * (0.75 + 0.25 * clear) + 0.1 * warm * np.array([1.0, 0.45, 0.0])
    return Light(sun, sun_colour, sky_colour, haze, float(np.exp(rng.uniform(np.log(300), np.log(2000)))))


def paint_sky(rng: np.random.Generator, camera: Camera, light: Light) -> np.ndarray:
    """Paints a random sky with clouds and distant hills as the background of a photo.

    Args:
        rng: the random generator.
        camera: the camera of the photo.
        light: the lighting of the photo.

    Returns:
        The background in linear RGB, (height, width, 3) float32.
    """
    columns, rows = np.meshgrid(*(np.arange(n, dtype=np.float32) + 0.5 for n in (camera.width, camera.height)))
    rays = np.stack([columns, rows, np.ones_like(rows)], -1) @ (camera.R.T @ np.linalg.inv(camera.K)).T.astype(
        np.float32
    )
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    height, turn = np.maximum(rays[..., 2:], 0), np.arctan2(rays[..., 0], rays[..., 1])
    clear = np.clip(light.sun_colour[0], 0, 1)
    zenith = clear * np.array([0.14, 0.32, 0.72]) + (1 - clear) * np.array([0.5, 0.54, 0.6])
    sky = light.haze_colour + (zenith - light.haze_colour) * np.minimum(1.9 * height, 1) ** 0.7
    cell = max(camera.width, camera.height) * rng.uniform(0.2, 0.4)
    clouds = textures.noise(rng, camera.height * 2, camera.width, cell, 6)[::2]
    amount = np.clip((clouds - rng.uniform(-0.3, 1.3)) * 0.7, 0, 0.92)[..., None]
    white = (0.55 + 0.42 * clear) * np.array([1.0, 0.98, 0.96]) - 0.1 * np.clip(clouds, 0, 2)[..., None]
    sky = sky + (white - sky) * amount
    for far, rise, detail in ((0.75, 0.085, 3), (0.45, 0.05, 9)):
        sky = _hills(rng, sky, rays[..., 2], turn, light.haze_colour, (far, rise, detail))
    return sky.astype(np.float32)


def _hills(
    rng: np.random.Generator,
    sky: np.ndarray,
    up: np.ndarray,
    turn: np.ndarray,
    haze: np.ndarray,
    shape: tuple[float, float, int],
) -> np.ndarray:
    far, rise, detail = shape
    edge = np.full_like(turn, rise)
    for octave in range(1, 6):
        edge += rise * rng.uniform(0.2, 0.8) / octave * np.sin(detail * 1.7**octave * turn + rng.uniform(0, 6.3))
    green = np.array([0.1, 0.17, 0.08]) * rng.uniform(0.7, 1.3, 3)
    cover = np.clip((edge - up) * 220, 0, 1)[..., None]
    return sky + (green + (haze - green) * far - sky) * cover


def make_ground(rng: np.random.Generator) -> np.ndarray:
    """Paints the ground around a building as a random pattern of paving and grass.

    Returns:
        The texture in RGB, (900, 900, 3), 0..255, with 18 texels per metre (GROUND).
    """
    size = 900
    grey = rng.uniform(0.75, 1.1) * np.array([156, 148, 136]) + rng.normal(0, 9, 3)
    stone = shades((grey[0], grey[1], grey[2]), 1.0, 0.9, 1.1)
    kind = str(rng.choice(["cobbles", "slabs", "glazed"]))
    paving = textures.surface(rng, size, size, Material(kind, stone, (112, 106, 96)))
    meadow = Material("plaster", ((rng.uniform(84, 116), rng.uniform(118, 146), 62),))
    grass = textures.surface(rng, size, size, meadow)
    grass *= 1 + 0.13 * textures.noise(rng, size, size, 4, 2)[..., None]
    where = textures.noise(rng, size, size, 260, 3) > rng.uniform(-0.9, 0.5)
    return np.where(where[..., None], paving, grass)


def lay_ground(rng: np.random.Generator, ground: np.ndarray) -> Model:
    """Creates a model of the ground for one photo, with random damp patches, fallen leaves and a shift of its colours.

    Args:
        rng: the random generator.
        ground: the texture of the ground from `make_ground`, (900, 900, 3).

    Returns:
        A model with a single face, to which sprites can be added.
    """
    model, size = Model(rng), len(ground)
    patches = np.clip(textures.noise(rng, size, size, 90, 3) - 0.6, 0, 1)[..., None]
    colours = ground * rng.uniform(0.86, 1.1, 3) * (1 - rng.uniform(0, 0.35) * patches)
    sheet = Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))
    brush, leaf = ImageDraw.Draw(sheet), rng.uniform((120, 60, 20), (210, 150, 70))
    for x, y in rng.uniform(0, size, (int(rng.integers(0, 500)), 2)):
        brush.ellipse((x - 2, y - 1, x + 2, y + 1), fill=tint(rng, (leaf[0], leaf[1], leaf[2])))
    frame = np.array([[1 / GROUND, 0, -25.0], [0, -1 / GROUND, 25.0], [0, 0, 0]])
    far = 600.0
    corners = np.array([[-far, -far, 0], [far, -far, 0], [far, far, 0], [-far, far, 0]])
    model.faces.append(Face(corners, frame, model.sheet(textures.to_sheet(np.asarray(sheet)))))
    return model


def stand_up(model: Model, picture: Picture, place: np.ndarray, eye: np.ndarray) -> None:
    """Adds a sprite to a model as an upright rectangle that faces a camera.

    Args:
        model: the model to add the rectangle to.
        picture: the RGBA image of the sprite and its width in metres.
        place: the position on the ground, in metres, of the centre of the rectangle's lower edge, (2,).
        eye: the position of the camera in metres, (3,).
    """
    image, wide = picture
    away = place - eye[:2]
    along = np.array([away[1], -away[0], 0]) / np.linalg.norm(away)
    scale = wide / image.width
    top = np.array([*place, image.height * scale]) - along * wide / 2
    foot = top * [1, 1, 0]
    corners = np.array([foot, foot + along * wide, top + along * wide, top])
    frame = np.stack([along * scale, -UP * scale, top], 1)
    model.faces.append(Face(corners, frame, model.sheet(np.asarray(image)), cut=True, upright=True))


def _canvas(wide: float, high: float, colour: tuple[int, int, int]) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Creates a transparent image of a size in metres.

    `colour` is the RGB of the transparent texels, which becomes visible at the borders of the sprite at lower mip
    levels.
    """
    image = Image.new("RGBA", (int(wide * SPRITE), int(high * SPRITE)), (*colour, 0))
    return image, ImageDraw.Draw(image)


def _leaves(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, green: np.ndarray
) -> None:
    """Paints a round mass of leaves, dark leaves first and lighter leaves over them on the side of the light."""
    count = int(50 + radius)
    light, turn, out = np.linspace(0, 1, count), rng.uniform(0, 6.3, count), radius * 0.9 * rng.random(count) ** 0.5
    x = centre[0] + out * np.cos(turn) * (1 - 0.2 * light) - 0.16 * radius * light
    y = centre[1] + out * np.sin(turn) * (1 - 0.25 * light) - 0.22 * radius * light
    size = radius * rng.uniform(0.07, 0.2, count) * (1.2 - 0.6 * light)
    bounds = np.stack([x - size, y - 0.8 * size, x + size, y + 0.8 * size], 1).tolist()
    shade = green * (0.55 + 0.75 * light[:, None]) + rng.normal(0, 8, (count, 3))
    for box, (red, green_, blue) in zip(bounds, shade.clip(0, 255).astype(int).tolist(), strict=True):
        draw.ellipse(box, fill=(red, green_, blue))


def tree(rng: np.random.Generator) -> Picture:
    """Paints the sprite of a deciduous tree with green, yellow or red leaves."""
    wide, high = rng.uniform(2.6, 4.6), rng.uniform(4, 7.5)
    season = ((74, 112, 52), (92, 124, 50), (168, 132, 46), (160, 84, 40))[rng.choice(4, p=[0.4, 0.3, 0.18, 0.12])]
    image, draw = _canvas(wide, high, season)
    middle, foot = image.width / 2, image.height
    lean = rng.uniform(-0.06, 0.06) * image.width
    trunk = [(middle - 7, foot), (middle + lean - 3, foot * 0.4), (middle + lean + 3, foot * 0.4), (middle + 8, foot)]
    draw.polygon(trunk, fill=tint(rng, (86, 68, 52), 8))
    masses = int(rng.integers(5, 9))
    for x, y in zip(rng.normal(0, 0.15, masses), np.linspace(0.56, 0.2, masses), strict=True):
        radius = image.width * rng.uniform(0.2, 0.28)
        at = (middle + lean + x * image.width, max(y * foot + rng.normal(0, 6), radius))
        _leaves(rng, draw, at, radius, np.asarray(season) * rng.uniform(0.85, 1.1))
    return image, wide


def conifer(rng: np.random.Generator) -> Picture:
    """Paints the sprite of a narrow fir or cypress."""
    wide, high = rng.uniform(1.5, 2.6), rng.uniform(4.5, 8)
    green = np.array([46, 84, 56]) * rng.uniform(0.8, 1.25)
    image, draw = _canvas(wide, high, (46, 80, 52))
    draw.rectangle((image.width / 2 - 5, image.height * 0.8, image.width / 2 + 5, image.height), fill=(74, 56, 44))
    for part in np.linspace(0.96, 0.08, 46) ** 0.9:
        reach, y = image.width * 0.48 * part * rng.uniform(0.8, 1.05), part * image.height * 0.93
        xs = image.width / 2 + np.linspace(-reach, reach, 11) + rng.normal(0, 1.5, 11)
        for x, turn in zip(xs.tolist(), np.linspace(-1, 1, 11).tolist(), strict=True):
            shade = green * (1.05 - 0.3 * turn + rng.normal(0, 0.16))
            tip = (x + 7 * turn, y + rng.uniform(6, 17) + 8 * abs(turn))
            draw.line((x - 5 * turn, y - 8, *tip), fill=tint(rng, (shade[0], shade[1], shade[2]), 3), width=5)
    return image, wide


def bush(rng: np.random.Generator) -> Picture:
    """Paints the sprite of a low bush, with or without flowers."""
    wide, high = rng.uniform(1.4, 3), rng.uniform(0.8, 1.4)
    green = np.array([70, 112, 58]) * rng.uniform(0.8, 1.2)
    image, draw = _canvas(wide, high, (64, 104, 54))
    for x in np.linspace(0.2, 0.8, 6):
        _leaves(rng, draw, (x * image.width, image.height * 0.62), image.height * 0.38, green)
    petal = rng.uniform((150, 40, 60), (250, 220, 220))
    for x, y in rng.uniform((0.15, 0.35), (0.85, 0.95), (int(rng.integers(0, 40)), 2)) * image.size:
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=tint(rng, (petal[0], petal[1], petal[2]), 14))
    return image, wide


def person(rng: np.random.Generator) -> Picture:
    """Paints the sprite of a standing or walking person."""
    high = rng.uniform(1.5, 1.9)
    image, draw = _canvas(0.9, high, (90, 80, 80))
    unit, middle, foot = high * SPRITE / 8, image.width / 2, image.height
    coat, legs = (tint(rng, any_colour(rng, 30, 220), 4) for _ in range(2))
    skin, hair = (
        tint(rng, ((232, 190, 160), (150, 104, 76), (200, 150, 118))[rng.integers(3)], 8),
        tint(rng, (70, 50, 36), 25),
    )
    stride = rng.uniform(0.2, 1.0) * unit
    for side in (-1, 1):
        x = middle + side * (0.35 * unit + stride * 0.6)
        draw.line((middle + side * 0.35 * unit, foot - 4 * unit, x, foot - 3), fill=legs, width=int(0.75 * unit))
        draw.ellipse((x - 0.5 * unit, foot - 0.5 * unit, x + 0.6 * unit, foot), fill=(36, 30, 30))
        hand = middle + side * (1.25 + rng.uniform(0, 0.4)) * unit
        draw.line(
            (middle + side * 0.9 * unit, foot - 6.2 * unit, hand, foot - 3.8 * unit), fill=coat, width=int(0.55 * unit)
        )
    body = (middle - unit, foot - 6.7 * unit, middle + unit, foot - (3.0 if rng.random() < 0.4 else 3.8) * unit)
    draw.rounded_rectangle(body, radius=0.6 * unit, fill=coat)
    draw.ellipse((middle - 0.55 * unit, foot - 8 * unit, middle + 0.55 * unit, foot - 6.7 * unit), fill=hair)
    draw.ellipse(
        (middle - 0.45 * unit, foot - 7.7 * unit, middle + 0.45 * unit, foot - 6.6 * unit),
        fill=skin if rng.random() < 0.5 else hair,
    )
    if rng.random() < 0.4:
        bag = (middle + 0.6 * unit, foot - 4.6 * unit, middle + 1.6 * unit, foot - 3.2 * unit)
        draw.rectangle(bag, fill=tint(rng, any_colour(rng, 30, 220), 4))
    return image, 0.9


def lamp(rng: np.random.Generator) -> Picture:
    """Paints the sprite of a street lamp with one or two lanterns."""
    high, iron = rng.uniform(3.6, 5), tint(rng, (46, 54, 52), 10)
    image, draw = _canvas(1.6, high, iron)
    middle, foot = image.width / 2, image.height
    draw.rectangle((middle - 3, 24, middle + 3, foot), fill=iron)
    draw.polygon(
        [(middle - 11, foot), (middle - 5, foot - 34), (middle + 5, foot - 34), (middle + 11, foot)], fill=iron
    )
    for x in [middle] if rng.random() < 0.5 else [middle - 27, middle + 27]:
        draw.line((middle, 48, x, 34), fill=iron, width=4)
        draw.polygon(
            [(x - 10, 10), (x + 10, 10), (x + 6, 34), (x - 6, 34)], fill=(244, 232, 190), outline=iron, width=2
        )
        draw.polygon([(x - 12, 10), (x + 12, 10), (x, 1)], fill=iron)
    return image, 1.6


def car(rng: np.random.Generator) -> Picture:
    """Paints the sprite of a parked car or van as seen from the side."""
    wide, high = rng.uniform(3.7, 4.5), rng.uniform(1.4, 2.0)
    paint = tint(
        rng,
        ((178, 40, 38), (44, 84, 140), (226, 222, 212), (60, 64, 70), (228, 178, 60), (80, 130, 110))[rng.integers(6)],
        14,
    )
    image, draw = _canvas(wide, high, paint)
    w, h = image.size
    front, back = rng.uniform(0.2, 0.32), rng.uniform(0.04, 0.2)
    cabin = [(back * w, 0.52 * h), ((back + 0.1) * w, 3), ((0.92 - front) * w, 3), ((1 - front) * w, 0.52 * h)]
    draw.polygon(cabin, fill=paint)
    draw.rounded_rectangle((2, 0.45 * h, w - 2, 0.86 * h), radius=0.13 * h, fill=paint)
    glass = [(x * 0.86 + 0.065 * w, y * 0.8 + 0.09 * h) for x, y in cabin]
    draw.polygon(glass, fill=tint(rng, (76, 96, 108), 10))
    draw.rectangle((0.47 * w, 4, 0.5 * w, 0.5 * h), fill=paint)
    draw.line((4, 0.66 * h, w - 4, 0.66 * h), fill=tint(rng, shades(paint, 0.75)[0], 2), width=3)
    draw.ellipse((w - 12, 0.5 * h, w - 3, 0.6 * h), fill=(250, 240, 200))
    for x in (0.2 * w, 0.8 * w):
        for radius, colour in ((0.21, (26, 26, 28)), (0.12, (150, 152, 156)), (0.04, (50, 50, 54))):
            draw.ellipse((x - radius * h, (0.79 - radius) * h, x + radius * h, (0.79 + radius) * h - 1), fill=colour)
    return image, wide


PICTURES: tuple[Callable[[np.random.Generator], Picture], ...] = (tree, conifer, bush, person, person, lamp, car)

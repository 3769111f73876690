"""Solids of invented buildings: walls with openings, prisms, turned shapes, roofs.

Lengths are in metres; x points right, y away from the viewer, z up, and the front of a building faces -y. Footprints
are counter-clockwise seen from above. All parts become convex faces, each with a texture sheet.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from . import textures
from .ornaments import ORNAMENTS, outline, paint_door, paint_pane
from .textures import TEXELS, Colour, Material

UP = np.array([0.0, 0.0, 1.0])


class Face(NamedTuple):
    """A convex polygon with its texture.

    Attributes:
        corners: the corners in metres, (k, 3).
        frame: a matrix (3, 3), whose columns U, V, O give the point U u + V v + O of texel (u, v).
        sheet: number of the texture sheet.
        cut: whether transparent texels are holes.
        upright: whether it is a flat picture of a solid object (a tree, a person), lit alike from all sides.
    """

    corners: np.ndarray
    frame: np.ndarray
    sheet: int
    cut: bool = False
    upright: bool = False


class Opening(NamedTuple):
    """An opening in a wall, in metres from the left end and the bottom of the wall.

    Attributes:
        left: the left edge of the opening.
        low: the bottom edge.
        width: the width of the opening.
        height: the height of the opening.
        arch: the shape of its top: "flat", "round" or "pointed".
        filled: the filling: "pane", "door", or "" for an open passage.
        sill: whether it has a sill in relief.
    """

    left: float
    low: float
    width: float
    height: float
    arch: str = "flat"
    filled: str = "pane"
    sill: bool = True


class Ornament(NamedTuple):
    """A picture on a wall: a key of `ORNAMENTS`, and its box as in `Opening`."""

    kind: str
    left: float
    low: float
    width: float
    height: float
    text: str = ""


class Finish(NamedTuple):
    """The finish of a wall: its material, and the colours of the trim around openings, of frames and of doors."""

    material: Material
    trim: Colour = (214, 206, 188)
    frame: Colour = (236, 232, 222)
    door: Colour = (96, 62, 40)


class Model:
    """A building as faces and their texture sheets.

    Args:
        rng: the random generator that draws the surfaces.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.faces: list[Face] = []
        self.sheets: list[np.ndarray] = []
        self._materials: dict[Material, int] = {}

    def sheet(self, texels: np.ndarray) -> int:
        """Adds a texture sheet, (height, width, 4) uint8, and returns its number."""
        self.sheets.append(texels)
        return len(self.sheets) - 1

    def material(self, material: Material) -> int:
        """The number of the sheet of a material, which can be tiled."""
        if material not in self._materials:
            rgb = textures.surface(self.rng, 480, 480, material)
            self._materials[material] = self.sheet(textures.to_sheet(rgb))
        return self._materials[material]

    def polygon(self, corners: np.ndarray, material: Material, turned: bool = False) -> None:
        """Adds a convex polygon with a random section of a material's texture.

        Args:
            corners: the corners, (k, 3), in one plane; the rows of the texture are parallel to the first edge.
            material: the material of the surface.
            turned: whether the rows are perpendicular to the first edge instead.
        """
        corners = np.asarray(corners, float)
        along = corners[1] - corners[0]
        along = along / np.linalg.norm(along)
        spread = corners - corners[0]
        across = spread - np.outer(spread @ along, along)
        across = across[np.argmax(np.linalg.norm(across, axis=1))]
        down = -across / np.linalg.norm(across)
        u, v = (down, along) if turned else (along, down)
        start = self.rng.uniform(0, 480, 2)
        frame = np.stack([u / TEXELS, v / TEXELS, corners[0] - (u * start[0] + v * start[1]) / TEXELS], 1)
        self.faces.append(Face(corners, frame, self.material(material)))

    def prism(self, footprint: np.ndarray, low: float, high: float, material: Material) -> None:
        """Adds an upright prism with top and bottom over an (n, 2) convex footprint."""
        footprint = np.asarray(footprint, float)
        for a, b in zip(footprint, np.roll(footprint, -1, 0), strict=True):
            self.polygon(np.array([[*a, low], [*b, low], [*b, high], [*a, high]]), material)
        for level in (low, high):
            self.polygon(np.column_stack([footprint, np.full(len(footprint), level)]), material)

    def box(self, x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], material: Material) -> None:
        """Adds a box between two bounds on each axis."""
        self.prism(rectangle(x, y), *z, material)

    def turned(
        self, centre: tuple[float, float], profile: list[tuple[float, float]], material: Material, facets: int = 10
    ) -> None:
        """Adds a turned shape: a column, a dome, a spire, a turret.

        Args:
            centre: the centre of the axis.
            profile: the (radius, height) of each ring from bottom to top; a radius of 0 makes a point.
            material: the material of the surface.
            facets: number of flat sides around the axis.
        """
        for (r0, z0), (r1, z1) in pairwise(profile):
            low, high = ring(centre, r0, facets), ring(centre, r1, facets)
            for i in range(facets):
                j = (i + 1) % facets
                quad = [[*low[i], z0], [*low[j], z0], [*high[j], z1], [*high[i], z1]]
                if r1 == 0:
                    quad.pop()
                elif r0 == 0:
                    quad.pop(0)
                self.polygon(np.array(quad), material)

    def gable(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        low: float,
        high: float,
        roof: Material,
        eaves: float = 0.4,
    ) -> None:
        """Adds a roof with its ridge along y over x by y; `eaves` is the overhang on all sides."""
        middle, fall = (x[0] + x[1]) / 2, eaves * (high - low) / ((x[1] - x[0]) / 2)
        y0, y1 = y[0] - eaves, y[1] + eaves
        for side, sign in ((x[0], -1), (x[1], 1)):
            edge = side + sign * eaves
            for lift in (0.0, 0.22):
                slope = [[edge, y0, low - fall], [edge, y1, low - fall], [middle, y1, high], [middle, y0, high]]
                self.polygon(np.array(slope) + lift * UP, roof)
            verge = [
                [edge, y0, low - fall],
                [middle, y0, high],
                [middle, y0, high + 0.22],
                [edge, y0, low - fall + 0.22],
            ]
            self.polygon(np.array(verge), roof)

    def ridge(
        self, x: tuple[float, float], y: tuple[float, float], low: float, high: float, roof: Material, hip: float = 0.0
    ) -> None:
        """Adds a roof with its ridge along x; its ends slope inwards by `hip` metres (0: upright gables, left open)."""
        middle = (y[0] + y[1]) / 2
        left, right = x[0] + hip, x[1] - hip
        for side in y:
            self.polygon(
                np.array([[x[0], side, low], [x[1], side, low], [right, middle, high], [left, middle, high]]), roof
            )
        for edge, top in ((x[0], left), (x[1], right)):
            self.polygon(np.array([[edge, y[0], low], [edge, y[1], low], [top, middle, high]]), roof)

    def wall(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        low: float,
        high: float,
        finish: Finish,
        openings: list[Opening] | None = None,
        ornaments: list[Ornament] | None = None,
        peak: float = 0.0,
        depth: float = 0.3,
    ) -> None:
        """Adds an upright wall with openings.

        Args:
            start: the left end of the wall, seen from outside.
            end: the right end of the wall.
            low: the height of its bottom.
            high: the height of its top.
            finish: the material and the colours.
            openings: the windows, doors and passages.
            ornaments: the pictures on the wall.
            peak: the height of a gable above `high`.
            depth: the depth of panes and doors behind the front of the wall.
        """
        ends = np.array([[*start, high + peak], [*end, high + peak]], float)
        length = np.linalg.norm(ends[1] - ends[0])
        along = (ends[1] - ends[0]) / length
        inward = np.cross(UP, along)
        size = (int(np.ceil((high + peak - low) * TEXELS)), int(np.ceil(length * TEXELS)))
        front, back = self._paint_wall(size, finish, openings or [], ornaments or [])
        frame = np.stack([along / TEXELS, -UP / TEXELS, ends[0]], 1)
        fall = peak * UP
        corners = [ends[0] - (high + peak - low) * UP, ends[1] - (high + peak - low) * UP, ends[1] - fall]
        corners += [(ends[0] + ends[1]) / 2, ends[0] - fall] if peak else [ends[0]]
        self.faces.append(Face(np.array(corners), frame, self.sheet(front), bool(openings)))
        if openings:
            set_back = np.column_stack([np.zeros((3, 2)), inward * depth])
            behind = Face(np.array(corners) + inward * depth, frame + set_back, self.sheet(back), True)
            self.faces.append(behind)
        for opening in openings or []:
            foot = ends[0] - (high + peak - low) * UP + along * opening.left + UP * opening.low
            self._line_opening(foot, along, inward, opening, finish, depth)

    def _paint_wall(
        self, size: tuple[int, int], finish: Finish, openings: list[Opening], ornaments: list[Ornament]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The texture of the wall with holes, and that of the panes and doors behind the holes."""
        rgb = np.clip(textures.surface(self.rng, *size, finish.material), 0, 255)
        front, solid = Image.fromarray(rgb.astype(np.uint8)), Image.new("L", size[::-1], 255)
        back, filled = Image.new("RGB", size[::-1], (40, 36, 34)), Image.new("L", size[::-1], 0)
        brush, cutter = ImageDraw.Draw(front), ImageDraw.Draw(solid)
        for opening in openings:
            box = _texels(opening, size[0])
            stone = textures.tint(self.rng, finish.trim, 8)
            brush.polygon(outline(box, opening.arch, 6), fill=stone, outline=textures.tint(self.rng, (90, 84, 76), 8))
            cutter.polygon(outline(box, opening.arch), fill=0)
            if opening.filled:
                ImageDraw.Draw(filled).rectangle(box, fill=255)
                paint, colour = paint_pane, finish.frame
                if opening.filled == "door":
                    paint, colour = paint_door, finish.door
                paint(self.rng, ImageDraw.Draw(back), box, colour)
        for ornament in ornaments:
            painter = ORNAMENTS[ornament.kind]
            painter(self.rng, brush, _texels(ornament, size[0]), ornament.text)
        worn = np.asarray(front, np.float32) * (1 + 0.04 * textures.noise(self.rng, *size, 3, 2)[..., None])
        face = textures.to_sheet(worn, np.asarray(solid) > 0)
        return face, textures.to_sheet(np.asarray(back, np.float32), np.asarray(filled) > 0)

    def _line_opening(
        self, foot: np.ndarray, along: np.ndarray, inward: np.ndarray, opening: Opening, finish: Finish, depth: float
    ) -> None:
        """Adds the reveals of an opening and its sill."""
        box = (0.0, -opening.height, opening.width, 0.0)
        edge = np.array([foot + along * x - UP * y for x, y in outline(box, opening.arch)])
        stone = Material("plaster", (finish.trim,))
        for a, b in zip(edge, np.roll(edge, -1, 0), strict=True):
            self.polygon(np.array([a, b, b + inward * depth, a + inward * depth]), stone)
        if opening.sill and opening.filled == "pane":
            a, b = edge[0] - along * 0.12, edge[-1] + along * 0.12
            out, down = -inward * 0.18, -UP * 0.13
            self.polygon(np.array([a + down + out, b + down + out, b + out, a + out]), stone)
            self.polygon(np.array([a + out, b + out, b, a]), stone)
            self.polygon(np.array([a + out + down, b + out + down, b + down, a + down]), stone)


def _texels(part: Opening | Ornament, height: int) -> tuple[float, float, float, float]:
    left, low = part.left * TEXELS, height - part.low * TEXELS
    return left, low - part.height * TEXELS, left + part.width * TEXELS, low


def rectangle(x: tuple[float, float], y: tuple[float, float]) -> np.ndarray:
    """A rectangular footprint, (4, 2), from two bounds on each axis."""
    return np.array([[x[0], y[0]], [x[1], y[0]], [x[1], y[1]], [x[0], y[1]]])


def ring(centre: tuple[float, float], radius: float, count: int) -> np.ndarray:
    """A regular polygon as footprint, (count, 2), with one side facing the viewer."""
    angles = 2 * np.pi * (np.arange(count) + 0.5) / count - np.pi / 2
    return np.column_stack([centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)])


def row(count: int, start: float, end: float, width: float) -> list[float]:
    """The left ends of `count` openings of one width, evenly spaced from start to end."""
    gap = (end - start - count * width) / count
    return [start + gap / 2 + i * (width + gap) for i in range(count)]

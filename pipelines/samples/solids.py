"""Builds the 3D models of invented buildings from walls with openings, prisms, solids of revolution and roofs.

Lengths are in metres. x points to the right, y away from the viewer and z up; the front of a building faces -y. A
footprint is the ground plan of a solid, a polygon (n, 2) whose corners are counter-clockwise as seen from above. All
solids consist of convex faces with a texture from a texture sheet, an RGBA image (height, width, 4) uint8.
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
        corners: the k corners in metres, (k, 3).
        frame: the matrix (3, 3) with the columns U, V, O that maps texel (u, v) to the world point U u + V v + O.
        sheet: the number of the texture sheet in the model.
        cut: whether transparent texels are holes in the polygon.
        upright: whether the polygon is an upright flat picture of a solid object, such as a tree or a person, which is
            lit alike from all sides.
    """

    corners: np.ndarray
    frame: np.ndarray
    sheet: int
    cut: bool = False
    upright: bool = False


class Opening(NamedTuple):
    """A window, door or passage in a wall. Lengths are in metres.

    Attributes:
        left: the distance of the left edge of the opening from the left end of the wall.
        low: the height of the bottom of the opening above the bottom of the wall.
        width: the width of the opening.
        height: the height of the opening.
        arch: the shape of the top: "flat", "round" or "pointed".
        filled: "pane" for a window, "door" for a door, "" for an open passage.
        sill: whether a window has a protruding window sill.
    """

    left: float
    low: float
    width: float
    height: float
    arch: str = "flat"
    filled: str = "pane"
    sill: bool = True


class Ornament(NamedTuple):
    """A painted ornament on a wall. Lengths are in metres.

    Attributes:
        kind: the kind of ornament, a key of `ornaments.ORNAMENTS` such as "clock".
        left: the distance of the left edge of the ornament from the left end of the wall.
        low: the height of the bottom of the ornament above the bottom of the wall.
        width: the width of the ornament.
        height: the height of the ornament.
        text: the text of a sign or poster; other kinds ignore it.
    """

    kind: str
    left: float
    low: float
    width: float
    height: float
    text: str = ""


class Finish(NamedTuple):
    """The material and colours of a wall. Colours are RGB, 0..255.

    Attributes:
        material: the material of the surface.
        trim: the colour of the trim around openings.
        frame: the colour of window frames.
        door: the colour of doors.
    """

    material: Material
    trim: Colour = (214, 206, 188)
    frame: Colour = (236, 232, 222)
    door: Colour = (96, 62, 40)


class Model:
    """A 3D model, such as a building, as a list of textured faces.

    Args:
        rng: the random generator for textures and, in the designs, for the building's sizes and colours.

    Attributes:
        rng: the random generator.
        faces: the faces that have been added.
        sheets: the RGBA texture sheets, each (height, width, 4) uint8.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.faces: list[Face] = []
        self.sheets: list[np.ndarray] = []
        self._materials: dict[Material, int] = {}

    def sheet(self, texels: np.ndarray) -> int:
        """Adds a texture sheet to the model.

        Args:
            texels: the RGBA texels, (height, width, 4) uint8.

        Returns:
            The number of the sheet, its index in `sheets`.
        """
        self.sheets.append(texels)
        return len(self.sheets) - 1

    def material(self, material: Material) -> int:
        """Returns the number of the texture sheet of a material.

        The sheet has 480 x 480 texels and is repeated over large faces. It is painted and added to the model when the
        material is first used.
        """
        if material not in self._materials:
            rgb = textures.surface(self.rng, 480, 480, material)
            self._materials[material] = self.sheet(textures.to_sheet(rgb))
        return self._materials[material]

    def polygon(self, corners: np.ndarray, material: Material, turned: bool = False) -> None:
        """Adds a convex polygon with a random section of a material's texture.

        Args:
            corners: the k corners in metres, (k, 3), in one plane.
            material: the material of the surface.
            turned: whether the rows of the texture are perpendicular to the edge from the first to the second corner.
                Otherwise the rows are parallel to this edge.
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
        """Adds a vertical prism, including its top and bottom faces.

        Args:
            footprint: the corners of a convex polygon in metres, (n, 2).
            low: the height of the bottom.
            high: the height of the top.
            material: the material of the surface.
        """
        footprint = np.asarray(footprint, float)
        for a, b in zip(footprint, np.roll(footprint, -1, 0), strict=True):
            self.polygon(np.array([[*a, low], [*b, low], [*b, high], [*a, high]]), material)
        for level in (low, high):
            self.polygon(np.column_stack([footprint, np.full(len(footprint), level)]), material)

    def box(self, x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], material: Material) -> None:
        """Adds a box whose edges are parallel to the axes.

        Args:
            x: the smallest and the largest x in metres.
            y: the smallest and the largest y.
            z: the smallest and the largest z.
            material: the material of the surface.
        """
        self.prism(rectangle(x, y), *z, material)

    def turned(
        self, centre: tuple[float, float], profile: list[tuple[float, float]], material: Material, facets: int = 10
    ) -> None:
        """Adds a solid of revolution around a vertical axis, such as a column, a dome or a spire.

        Args:
            centre: the (x, y) position of the axis in metres.
            profile: the (radius, height) of each ring, from bottom to top; a radius of 0 makes a tip.
            material: the material of the surface.
            facets: the number of flat sides around the axis.
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
        """Adds a gable roof whose ridge is parallel to y.

        Args:
            x: the smallest and the largest x of the walls under the roof, in metres.
            y: the smallest and the largest y of the walls.
            low: the height of the top of the walls.
            high: the height of the ridge.
            roof: the material of the roof.
            eaves: the overhang on all sides.
        """
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
        """Adds a roof whose ridge is parallel to x.

        Args:
            x: the smallest and the largest x of the roof, in metres.
            y: the smallest and the largest y of the roof.
            low: the height of the lower edges.
            high: the height of the ridge.
            roof: the material of the roof.
            hip: the horizontal distance in metres by which the ends of the roof slope inwards, as in a hip roof; 0 for
                vertical ends.
        """
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
        """Adds a vertical wall with openings. Lengths are in metres.

        Args:
            start: the (x, y) position of the left end of the wall, as seen from outside.
            end: the (x, y) position of the right end of the wall.
            low: the height of the bottom of the wall.
            high: the height of the top of the wall.
            finish: the material and the colours.
            openings: the windows, doors and passages; None for none.
            ornaments: the painted ornaments on the wall; None for none.
            peak: the height above `high` of a triangular gable on the wall; 0 for no gable.
            depth: the distance of windows and doors behind the front of the wall.
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
        """Paints the texture of a wall with holes, and the texture of the windows and doors behind the holes."""
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
        """Adds the sill of an opening and its reveals, the surfaces from the front of the wall to the pane or door."""
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
    """Returns the corners of a rectangular footprint, (4, 2).

    Args:
        x: the smallest and the largest x in metres.
        y: the smallest and the largest y in metres.
    """
    return np.array([[x[0], y[0]], [x[1], y[0]], [x[1], y[1]], [x[0], y[1]]])


def ring(centre: tuple[float, float], radius: float, count: int) -> np.ndarray:
    """Returns the corners of a regular polygon as a footprint, (count, 2).

    One side of the polygon faces the front, -y.

    Args:
        centre: the (x, y) position of the centre in metres.
        radius: the distance of the corners from the centre.
        count: the number of corners.
    """
    angles = 2 * np.pi * (np.arange(count) + 0.5) / count - np.pi / 2
    return np.column_stack([centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)])


def row(count: int, start: float, end: float, width: float) -> list[float]:
    """Spaces openings evenly along a wall.

    Args:
        count: the number of openings.
        start: the position on the wall where the row begins, in metres from the left end.
        end: the position where the row ends.
        width: the width of each opening.

    Returns:
        The position of the left edge of each opening.
    """
    gap = (end - start - count * width) / count
    return [start + gap / 2 + i * (width + gap) for i in range(count)]

"""Converts the faces and texture sheets of a model to arrays for the renderer.

A texture sheet is an RGBA image, (height, width, 4) uint8, from which the texels of one or several faces are read.
"""

from dataclasses import dataclass, replace

import numpy as np

from .solids import Face

LEVELS = 6  # mip levels of each sheet, each half the size of the previous one


@dataclass(frozen=True)
class Atlas:
    """All texture sheets at all mip levels in one array.

    Attributes:
        words: the texels of all sheets and levels one after another, row by row, each RGBA in one uint32, (n,).
        base: the index in `words` of the first texel of each sheet at each mip level, (sheets, LEVELS).
        width: the width of each sheet at each mip level in texels, (sheets, LEVELS).
        height: the height of each sheet at each mip level in texels, (sheets, LEVELS).
    """

    words: np.ndarray
    base: np.ndarray
    width: np.ndarray
    height: np.ndarray


@dataclass(frozen=True)
class Mesh:
    """F faces as arrays, where K is the largest number of corners of a face.

    Attributes:
        corners: the corners in metres, (F, K, 3). A face with fewer than K corners repeats its last corner.
        frames: the matrix of each face that maps texels to world coordinates, (F, 3, 3), see `Face.frame`.
        edges: the coefficients (a, b, c) of each edge, (F, K, 3): a u + b v + c >= 0 for texels (u, v) inside the face.
        normals: the unit normal of each face, (F, 3).
        sheets: the number of each face's texture sheet, (F,).
        cut: whether transparent texels of each face are holes, (F,) bool.
        upright: whether each face is lit alike from all sides, (F,) bool, see `Face.upright`.
        atlas: the texture sheets.
    """

    corners: np.ndarray
    frames: np.ndarray
    edges: np.ndarray
    normals: np.ndarray
    sheets: np.ndarray
    cut: np.ndarray
    upright: np.ndarray
    atlas: Atlas

    def __add__(self, other: "Mesh") -> "Mesh":
        """Returns a mesh with the faces of this mesh followed by the faces of `other`."""
        sides = max(self.corners.shape[1], other.corners.shape[1])
        first, second = self._with(sides), other._with(sides)
        names = ("corners", "frames", "edges", "normals", "cut", "upright")
        joined = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in names}
        sheets = np.concatenate([self.sheets, other.sheets + len(self.atlas.base)])
        return Mesh(**joined, sheets=sheets, atlas=_join(self.atlas, other.atlas))

    def _with(self, sides: int) -> "Mesh":
        extra = ((0, 0), (0, sides - self.corners.shape[1]), (0, 0))
        return replace(self, corners=np.pad(self.corners, extra, "edge"), edges=np.pad(self.edges, extra, "edge"))


def _join(first: Atlas, second: Atlas) -> Atlas:
    return Atlas(
        np.concatenate([first.words, second.words]),
        np.concatenate([first.base, second.base + len(first.words)]),
        np.concatenate([first.width, second.width]),
        np.concatenate([first.height, second.height]),
    )


def make_atlas(sheets: list[np.ndarray]) -> Atlas:
    """Computes the mip levels of texture sheets and joins them in one array.

    Args:
        sheets: the RGBA sheets, each (height, width, 4) uint8.

    Returns:
        The sheets at `LEVELS` sizes, each half the size of the previous one.
    """
    words: list[np.ndarray] = []
    shapes: list[tuple[int, int]] = []
    for sheet in sheets:
        for _ in range(LEVELS):
            words.append(np.ascontiguousarray(sheet).view(np.uint32).ravel())
            shapes.append((sheet.shape[0], sheet.shape[1]))
            sheet = _halve(sheet)
    sizes = np.array(shapes).reshape(len(sheets), LEVELS, 2)
    counts = np.array([len(part) for part in words])
    base = (np.cumsum(counts) - counts).reshape(len(sheets), LEVELS)
    return Atlas(np.concatenate(words), base, sizes[..., 1], sizes[..., 0])


def _halve(sheet: np.ndarray) -> np.ndarray:
    even = np.pad(sheet, ((0, sheet.shape[0] % 2), (0, sheet.shape[1] % 2), (0, 0)), "edge").astype(np.uint16)
    quarters = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    return ((quarters + 2) // 4).astype(np.uint8)


def make_mesh(faces: list[Face], sheets: list[np.ndarray]) -> Mesh:
    """Converts faces and their texture sheets to arrays.

    Args:
        faces: the faces; `Face.sheet` is an index into `sheets`.
        sheets: the RGBA texture sheets, each (height, width, 4) uint8.
    """
    sides = max(len(face.corners) for face in faces)
    corners = np.stack([np.pad(f.corners, ((0, sides - len(f.corners)), (0, 0)), "edge") for f in faces])
    frames = np.stack([face.frame for face in faces])
    normals = np.cross(frames[:, :, 1], frames[:, :, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Mesh(
        corners,
        frames,
        np.stack([_edges(face, sides) for face in faces]),
        normals,
        np.array([face.sheet for face in faces]),
        np.array([face.cut for face in faces]),
        np.array([face.upright for face in faces]),
        make_atlas(sheets),
    )


def _edges(face: Face, sides: int) -> np.ndarray:
    U, V, start = face.frame.T
    offset = face.corners - start
    flat = np.column_stack([offset @ U / (U @ U), offset @ V / (V @ V)])
    step = np.roll(flat, -1, 0) - flat
    lines = np.column_stack([-step[:, 1], step[:, 0], step[:, 1] * flat[:, 0] - step[:, 0] * flat[:, 1]])
    lines *= np.sign(lines @ [*flat.mean(0), 1]).sum() or 1.0
    return np.pad(lines, ((0, sides - len(lines)), (0, 0)), "edge")

"""Renders flat textured faces with a z-buffer: pinhole camera, sun with shadows, haze, 2 x 2 samples per pixel.

The texels (u, v) of a face and the positions (x, y) on the screen are related by a homography H (Heckbert 1989):
(u, v, 1) / z = H^-1 (x, y, 1). The edges of the face and 1/z are therefore linear functions on the screen, so that no
face needs clipping (Olano & Greer 1997).
"""

from dataclasses import dataclass

import numpy as np

from .mesh import LEVELS, Mesh

SAMPLES = 2  # samples per pixel along each axis
SHADOW = 900  # samples of the shadow map along each axis
LINEAR = ((np.arange(256) / 255) ** 2.2).astype(np.float32)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that projects a world point X to the pixel coordinates x ~ K (R X + t).

    The camera's axes are x to the right, y down and z forward. The centre of the first pixel is at (0.5, 0.5), as in
    COLMAP.

    Attributes:
        K: the intrinsic matrix, (3, 3).
        R: the rotation from world to camera, (3, 3).
        t: the translation in metres, (3,).
        width: the width of the photo in pixels.
        height: the height of the photo in pixels.
    """

    K: np.ndarray
    R: np.ndarray
    t: np.ndarray
    width: int
    height: int

    @property
    def centre(self) -> np.ndarray:
        """The position of the camera in world coordinates in metres, (3,)."""
        return -self.R.T @ self.t

    def project(self, points: np.ndarray) -> np.ndarray:
        """Projects world points to the photo.

        Args:
            points: the points in metres, (n, 3).

        Returns:
            An array (n, 3) of x, y and depth. x and y are in pixels from the upper left corner of the photo, x to the
            right and y down, so that the centre of the first pixel is at (0.5, 0.5). The depth is the distance in
            metres along the viewing direction, negative behind the camera.
        """
        seen = (points @ self.R.T + self.t) @ self.K.T
        return np.column_stack([seen[:, :2] / seen[:, 2:], seen[:, 2]])


@dataclass(frozen=True)
class Light:
    """The lighting of a photo.

    Attributes:
        sun: the unit vector towards the sun, (3,).
        sun_colour: the colour and intensity of direct sunlight in linear RGB, (3,).
        sky_colour: the colour and intensity of the light from the sky in linear RGB, (3,).
        haze_colour: the colour of the haze in linear RGB, (3,).
        haze: the distance in metres at which 63 % of an object's light is replaced by haze.
    """

    sun: np.ndarray
    sun_colour: np.ndarray
    sky_colour: np.ndarray
    haze_colour: np.ndarray
    haze: float


class View:
    """A z-buffer, which stores the nearest face of a mesh at each sample, as seen by a camera or by the sun.

    Args:
        mesh: the faces.
        P: the matrix (3, 4) that projects homogeneous world points to positions (x, y) in units of samples.
        nearness: the coefficients (4,) of a linear function of homogeneous world points, whose values are larger for
            nearer points, for a parallel projection. None for a perspective projection, where 1/z is used.
        size: the number of rows and the number of columns of samples.

    Attributes:
        ids: the number of the nearest drawn face at each sample, (rows, columns) int32; -1 where no face is drawn.
        near: the nearness of this face, (rows, columns) float32.
        boxes: the bounding box of each face in samples, (F, 4) int: first column, end column, first row, end row.
    """

    def __init__(self, mesh: Mesh, P: np.ndarray, nearness: np.ndarray | None, size: tuple[int, int]) -> None:
        self.mesh = mesh
        self.ids = np.full(size, -1, np.int32)
        self.near = np.full(size, -np.inf if nearness is not None else 0.0, np.float32)
        H = P[:, :3] @ mesh.frames
        H[:, :, 2] += P[:, 3]
        usable = np.abs(np.linalg.det(H)) > 1e-12
        H[~usable] = np.eye(3)
        self.inverse = np.linalg.inv(H)
        if nearness is None:
            depth = self.inverse[:, 2]
        else:
            row = nearness[:3] @ mesh.frames
            row[:, 2] += nearness[3]
            depth = np.einsum("fi,fij->fj", row, self.inverse)
        lines = mesh.edges @ self.inverse
        lines /= np.hypot(lines[..., 0], lines[..., 1])[..., None] + 1e-12
        self.lines = np.concatenate([depth[:, None], lines], 1)
        self.boxes = self._boxes(P)
        self.boxes[~usable] = 0

    def _boxes(self, P: np.ndarray) -> np.ndarray:
        """Computes the range of columns and rows of samples that each face may cover, (F, 4)."""
        seen = self.mesh.corners @ P[:, :3].T + P[:, 3]
        rows, columns = self.ids.shape
        behind = (seen[..., 2] < 0.05).any(1)
        flat = seen[..., :2] / np.maximum(seen[..., 2:], 0.05)
        low, high = np.floor(flat.min(1)) - 1, np.ceil(flat.max(1)) + 1
        low[behind], high[behind] = 0, (columns, rows)
        low[(seen[..., 2] < 0.05).all(1)] = 1e6
        limits = np.array([columns, rows])
        return np.clip(np.stack([low, high], -1), 0, limits[:, None]).reshape(-1, 4).astype(int)

    def draw(self, face: int) -> None:
        """Draws a face into `ids` and `near`, except at samples where a nearer face is drawn already.

        Args:
            face: the number of the face in the mesh.
        """
        x0, x1, y0, y1 = self.boxes[face]
        if x1 <= x0 or y1 <= y0:
            return
        columns, rows = np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5
        lines = self.lines[face]
        across = (lines[:, 0, None] * columns).astype(np.float32)
        down = (lines[:, 1, None] * rows + lines[:, 2, None]).astype(np.float32)
        near = across[0] + down[0][:, None]
        part = self.near[y0:y1, x0:x1]
        seen = near > part
        for i in range(1, len(lines)):
            seen &= across[i] > (-0.05 - down[i])[:, None]
        if self.mesh.cut[face]:
            self._keep_solid(face, seen, x0, y0)
        np.copyto(part, near, where=seen)
        np.copyto(self.ids[y0:y1, x0:x1], face, where=seen)

    def draw_all(self, first: int = 0) -> None:
        """Draws all faces whose number is at least `first`."""
        for face in range(first, len(self.boxes)):
            self.draw(face)

    def _keep_solid(self, face: int, seen: np.ndarray, x0: int, y0: int) -> None:
        y, x = np.nonzero(seen)
        u, v, s = self.inverse[face] @ np.stack([x + x0 + 0.5, y + y0 + 0.5, np.ones(len(x))])
        atlas, sheet = self.mesh.atlas, self.mesh.sheets[face]
        width, height = atlas.width[sheet, 0], atlas.height[sheet, 0]
        u, v = (u / s).astype(np.int64).clip(0, width - 1), (v / s).astype(np.int64).clip(0, height - 1)
        seen[y, x] = atlas.words[atlas.base[sheet, 0] + v * width + u] >> 24 > 127


def view_from(camera: Camera, mesh: Mesh) -> View:
    """Creates an empty z-buffer for a camera, with `SAMPLES` x `SAMPLES` samples per pixel.

    Args:
        camera: the camera.
        mesh: the faces that will be drawn.
    """
    scale = np.diag([SAMPLES, SAMPLES, 1.0])
    P = scale @ camera.K @ np.column_stack([camera.R, camera.t])
    return View(mesh, P, None, (camera.height * SAMPLES, camera.width * SAMPLES))


class Shadows:
    """A shadow map, which determines the points that direct sunlight reaches.

    Args:
        mesh: the faces.
        casting: the numbers of the faces that cast shadows, (n,).
        sun: the unit vector towards the sun, (3,).
        reach: world points that the map must cover, (n, 3). Points outside the map are sunlit.
    """

    def __init__(self, mesh: Mesh, casting: np.ndarray, sun: np.ndarray, reach: np.ndarray) -> None:
        right = np.cross([0, 0, 1.0], sun)
        right /= np.linalg.norm(right)
        axes = np.stack([right, np.cross(sun, right)])
        flat = reach @ axes.T
        low, high = flat.min(0) - 0.5, flat.max(0) + 0.5
        scale = SHADOW / (high - low)
        self.P = np.zeros((3, 4))
        self.P[:2, :3], self.P[:2, 3], self.P[2, 3] = axes * scale[:, None], -low * scale, 1
        self.sun = sun
        self.bias = 1.6 * float((1 / scale).max())
        view = View(mesh, self.P, np.array([*sun, 0.0]), (SHADOW, SHADOW))
        for face in casting:
            view.draw(face)
        self.near = view.near

    def lit(self, x: np.ndarray, y: np.ndarray, depth: np.ndarray, rays: np.ndarray, eye: np.ndarray) -> np.ndarray:
        """Returns which points, seen at n samples of a camera, are in direct sunlight.

        Args:
            x: the columns of the samples, (n,) float32.
            y: the rows of the samples, (n,) float32.
            depth: the depths of the points in metres, (n,).
            rays: the matrix (3, 3) that maps a sample (x, y, 1) to the world vector from the camera to the point at
                depth 1.
            eye: the position of the camera, (3,).

        Returns:
            An array (n,) bool, true for sunlight and false for shadow.
        """
        M = np.concatenate([self.P[:2, :3], self.sun[None]]) @ rays
        start = np.concatenate([self.P[:2] @ [*eye, 1], [self.sun @ eye]])
        u, v, near = (
            np.float32(start[i]) + depth * (np.float32(M[i, 0]) * x + np.float32(M[i, 1]) * y + np.float32(M[i, 2]))
            for i in range(3)
        )
        # The samples of a pixel read the map at different places, which softens the edges of shadows.
        u = (u + 1.3 * ((x.astype(np.int32) & 1) - 0.5)).astype(np.int32)
        v = (v + 1.3 * ((y.astype(np.int32) & 1) - 0.5)).astype(np.int32)
        inside = (u >= 0) & (v >= 0) & (u < SHADOW) & (v < SHADOW)
        nearest = self.near[v.clip(0, SHADOW - 1), u.clip(0, SHADOW - 1)]
        return ~(inside & (nearest > near + np.float32(self.bias)))


def shade(view: View, camera: Camera, light: Light, shadows: Shadows) -> tuple[np.ndarray, np.ndarray]:
    """Computes the colours of the faces that are drawn in a z-buffer.

    Args:
        view: the z-buffer, from `view_from` for the same camera, in which all faces are drawn.
        camera: the camera.
        light: the lighting of the photo.
        shadows: the shadow map.

    Returns:
        The colours in linear RGB, (height, width, 3) float32, multiplied by the coverage; and the coverage, (height,
        width) float32, which is the fraction of each pixel that faces cover.
    """
    rows, columns = view.ids.shape
    total = np.zeros((rows * columns, 3), np.float32)
    covered = np.flatnonzero(view.ids.ravel() >= 0)
    rays = camera.R.T @ np.linalg.inv(camera.K) @ np.diag([1 / SAMPLES, 1 / SAMPLES, 1])
    for part in np.array_split(covered, max(len(covered) // 60_000, 1)):
        face = view.ids.ravel()[part]
        x, y = (part % columns + 0.5).astype(np.float32), (part // columns + 0.5).astype(np.float32)
        depth = 1 / view.near.ravel()[part]
        sunny = shadows.lit(x, y, depth, rays, camera.centre)
        colour = _albedo(view, face, x, y, depth) * _lighting(view.mesh, camera, light, face, sunny)
        veil = np.exp(-depth / np.float32(light.haze))[:, None]
        total[part] = colour * veil + light.haze_colour.astype(np.float32) * (1 - veil)
    shape = (camera.height, SAMPLES, camera.width, SAMPLES)
    cover = (view.ids >= 0).reshape(shape).mean((1, 3), dtype=np.float32)
    return total.reshape(*shape, 3).mean((1, 3)), cover


def _albedo(view: View, face: np.ndarray, x: np.ndarray, y: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Looks up the linear colours (n, 3) of the texels at samples, in the mip level that fits the distance."""
    atlas, inverse = view.mesh.atlas, view.inverse.astype(np.float32)
    u, v = ((inverse[face, i, 0] * x + inverse[face, i, 1] * y + inverse[face, i, 2]) * depth for i in (0, 1))
    texels = 0.5 * np.log2(np.abs(np.linalg.det(view.inverse)) + 1e-20).astype(np.float32)
    level = np.clip(texels[face] + 1.5 * np.log2(depth) + 0.3, 0, LEVELS - 1).astype(np.int32)
    slot = view.mesh.sheets[face] * LEVELS + level
    width, height = atlas.width.ravel()[slot], atlas.height.ravel()[slot]
    column = np.floor(u).astype(np.int64) >> level
    line = np.floor(v).astype(np.int64) >> level
    words = atlas.words[atlas.base.ravel()[slot] + (line % height) * width + column % width]
    return LINEAR[words[:, None] >> np.array([0, 8, 16], np.uint32) & 255]


def _lighting(mesh: Mesh, camera: Camera, light: Light, face: np.ndarray, sunny: np.ndarray) -> np.ndarray:
    """Computes the light (n, 3) at samples, the sum of light from the sky and, outside shadows, of the sun."""
    to_eye = ((camera.centre - mesh.corners[:, 0]) * mesh.normals).sum(1)
    normals = mesh.normals * np.where(to_eye < 0, -1, 1)[:, None]
    facing = np.where(mesh.upright, 0.62, np.maximum(normals @ light.sun, 0))
    above = np.where(mesh.upright, 0.8, 0.7 + 0.3 * normals[:, 2])
    ambient = (above[:, None] * light.sky_colour).astype(np.float32)
    direct = (facing[:, None] * light.sun_colour).astype(np.float32)
    return ambient[face] + direct[face] * sunny[:, None]

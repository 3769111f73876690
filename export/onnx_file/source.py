"""Loads what an ONNX export starts from: the Keras network with its metadata, and photos for measurements."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from keras_retrieval.pipelines.descriptors.describer import DescribeFn, describer
from keras_retrieval.pipelines.networks.files import load_model, model_identity, smallest_side, takes_edges
from keras_retrieval.pipelines.networks.onnx_network import (
    DIMENSIONS,
    EDGE_MAPS,
    INPUT,
    NETWORK,
    SCALES,
    SIZE,
    SMALLEST,
)
from keras_retrieval.pipelines.photos.intake import list_photos
from keras_retrieval.pipelines.photos.object_folders import find_objects
from keras_retrieval.pipelines.photos.reader import PhotoError
from keras_retrieval.pipelines.photos.reading import Reading

import keras_retrieval

from .errors import OnnxExportError
from .options import ExportOnnxOptions

LEAST_PHOTOS = 16
"""Minimum number of photos for int8: on one half it is calibrated, on the other it is measured."""

PHOTOS = 64  # maximum number of photos for the calibration of int8, and of other photos to measure its effect

log = logging.getLogger("keras_retrieval")


@dataclass(frozen=True)
class ExportSource:
    """A Keras network to export, and the metadata of its ONNX file.

    Attributes:
        network: keras.Model that describes photos at one scale.
        joined: keras.Model that combines the descriptors of all scales; this model is converted.
        describe: function that computes the descriptors of `joined` in Keras, from photos (B, H, W, 3) uint8 to (B, D).
        smallest: shortest side in pixels that the network can describe.
        size: longest side in pixels of the photos to describe.
        facts: metadata of the ONNX file, as text by key.
    """

    network: Any
    joined: Any
    describe: DescribeFn
    smallest: int
    size: int
    facts: dict[str, str]


class MeasuredPhoto(NamedTuple):
    """A photo for measurements.

    Attributes:
        pixels: pixels of the photo, (1, H, W, 3) uint8.
        shown: the object that the photo shows; None if it is unknown.
    """

    pixels: np.ndarray
    shown: str | None


def load_source(options: ExportOnnxOptions) -> ExportSource:
    """Loads the network `options.model`, and makes the metadata that its ONNX file will contain.

    Raises:
        RetrievalError: the network cannot be loaded, or does not accept photos of any size.
    """
    network, factors = load_model(options.model), options.factors
    smallest = smallest_side(network, factors)
    views = {"antialias": options.antialias, "mirror": options.mirror}
    facts = {
        NETWORK: network.name,
        DIMENSIONS: str(network.output_shape[-1]),
        SIZE: str(options.size),
        SCALES: ",".join(map(str, factors)),
        SMALLEST: str(smallest),
        INPUT: EDGE_MAPS if takes_edges(network) else "photos",
        **{name: str(value).lower() for name, value in views.items()},
        "pixels": "RGB 0..255, float32; photos are shrunk to size (Lanczos) and never enlarged",
        "precision": "float32",
        "source": model_identity(options.model).get("sha256", options.model),
        "training_set": options.training_set or "unknown",
    }
    joined = keras_retrieval.multi_scale(network, factors, **views)
    return ExportSource(network, joined, describer(network, factors, **views), smallest, options.size, facts)


def read_photos(folder: Path, source: ExportSource, rule: str | None = None, least: int = 2) -> list[MeasuredPhoto]:
    """Reads up to 128 photos that are spread evenly over a folder. Photos that cannot be read are logged and skipped.

    Args:
        folder: folder of photos; photos in sub-folders are read as well.
        source: network that determines the size of the photos.
        rule: the rule by which folders are objects, one of `object_folders.RULES`; None if objects are not needed.
        least: minimum number of photos that can be read.

    Raises:
        PhotoFolderError: the folder contains no photos, or its sub-folders do not show what is an object.
        OnnxExportError: fewer than `least` photos can be read.
    """
    reading = Reading(folder, source.size, smallest=source.smallest)
    names, objects = list_photos(folder), {}
    if rule is not None:
        found = find_objects(names, folder, rule)
        log.info(found.account)
        objects = found.of_photo
    photos = []
    for row in np.unique(np.linspace(0, len(names) - 1, 2 * PHOTOS).astype(int)):
        try:
            photos.append(MeasuredPhoto(reading.read(names[row])[None], objects.get(names[row])))
        except PhotoError as error:
            log.info("left out: %s", error)
    if len(photos) < least:
        raise OnnxExportError(
            f"--calibrate {folder} must contain at least {least} readable photos, half of them to calibrate on and "
            f"half to compare, got {len(photos)}"
        )
    return photos

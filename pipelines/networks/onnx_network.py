"""A network that `keras-retrieval export-onnx` wrote, run by ONNX Runtime without Keras and TensorFlow."""

from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.errors import ArgumentError, missing_extra

from .errors import NetworkError

NETWORK, SIZE, SCALES = "network", "size", "scales"
DIMENSIONS, SMALLEST, SIDES = "dimensions", "smallest_side", "height_and_width"
ANY_SIDES = "any"
INPUT, EDGE_MAPS = "input", "edge maps"


class OnnxNetwork:
    """An .onnx network that computes descriptors of photos, with the metadata of its file.

    Args:
        path: the .onnx file.

    Attributes:
        facts: all metadata of the file.
        name: the name of the network that was exported.
        size: the longest side of photos, in pixels, that it was exported for; it takes other sizes, too.
        scales: factors on the photo's size; the network combines the descriptors at these scales.
        smallest: the smallest height and width of a photo in pixels.
        sides: the only height and width that it takes, as "H x W", or None if it takes any.
        output_shape: the shape of its output, (None, D).
        takes_edges: whether it takes edge maps instead of photos.

    Raises:
        NetworkError: the file cannot be loaded, or was not written by `keras-retrieval export-onnx`.
        MissingExtraError: ONNX Runtime is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._session = _session(path)
        facts = self.facts = dict(self._session.get_modelmeta().custom_metadata_map)
        try:
            self.name = facts[NETWORK]
            self.size, self.smallest = int(facts[SIZE]), int(facts[SMALLEST])
            self.scales = tuple(float(scale) for scale in facts[SCALES].split(","))
            self.output_shape = (None, int(facts[DIMENSIONS]))
            self.sides = None if facts[SIDES] == ANY_SIDES else facts[SIDES]
            self.takes_edges = facts.get(INPUT) == EDGE_MAPS
        except (KeyError, ValueError) as error:
            raise NetworkError(
                f"{path} was not written by `keras-retrieval export-onnx`: its metadata lack {error}"
            ) from None

    def describe(self, images: np.ndarray) -> np.ndarray:
        """Computes descriptors (B, D) float32 of photos (B, H, W, 3), RGB 0..255 of any dtype.

        Raises:
            NetworkError: the photos have fewer pixels on a side than `smallest`.
        """
        require_sides(images, self.smallest, self.name)
        (rows,) = self._session.run(["descriptors"], {"images": images.astype(np.float32)})
        return rows

    def check(self, scales: tuple[float, ...], bfloat16: bool, mirror: bool = False) -> None:
        """Checks that the network takes photos of any size, and that no option is given that was fixed at its export.

        Raises:
            ArgumentError: scales other than (1.0,), bfloat16 or mirror are given.
            NetworkError: the network takes photos of one size only.
        """
        if self.sides:
            raise NetworkError(f"{self.name} was exported for photos of {self.sides} pixels only, not for any size")
        if scales != (1.0,):
            inside = ",".join(f"{scale:g}" for scale in self.scales)
            raise ArgumentError(
                f"the scales of an .onnx network are chosen at its export (here {inside}): leave out --scales, "
                "or export it again with other scales"
            )
        if mirror:
            raise ArgumentError("--mirror is chosen at the export of an .onnx network: export it again with --mirror")
        if bfloat16:
            raise ArgumentError(
                "the precision of an .onnx network is chosen at its export: leave out --precision bfloat16, or export "
                "it again with --fp16 or --int8"
            )


def require_sides(images: np.ndarray, smallest: int, name: str) -> None:
    """Checks that photos are large enough to give a network a feature map.

    Args:
        images: the photos, (B, H, W, 3).
        smallest: the number of pixels that the network needs on each side.
        name: the name of the network, for the message.

    Raises:
        NetworkError: a side has fewer pixels.
    """
    height, width = images.shape[1:3]
    if min(height, width) < smallest:
        raise NetworkError(
            f"photos of {width} x {height} pixels are too small for {name}, which needs {smallest} on each side: "
            f"Reading(.., smallest={smallest}) repeats their edges up to it"
        )


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise missing_extra("ONNX Runtime", "onnx", error) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: the warnings are hints on speed
    # Waiting threads would otherwise spin on the cores that decode photos: up to twice the CPU time per photo.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has an exception class for each status
        raise NetworkError(f"{path} could not be loaded as an ONNX network: {error}") from error

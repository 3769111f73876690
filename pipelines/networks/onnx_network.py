"""Runs networks that `keras-retrieval export-onnx` wrote with ONNX Runtime, without Keras and TensorFlow."""

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
    """A network in an .onnx file that computes descriptors of photos.

    Args:
        path: the .onnx file.

    Attributes:
        path: the .onnx file.
        facts: all metadata of the file, as a dict of strings.
        name: the name of the network that was exported.
        size: the longest side in pixels for which the network was exported; photos of other sizes are accepted, too.
        scales: factors by which the network resizes a photo; it combines the descriptors at these scales.
        smallest: the smallest height and width of a photo in pixels.
        sides: "H x W" if the network accepts only photos of this height and width; None if it accepts any size.
        output_shape: the shape of the network's output, (None, D).
        takes_edges: whether the input is edge maps of photos, not the photos themselves.

    Raises:
        NetworkError: the file cannot be loaded, or was not written by `keras-retrieval export-onnx`.
        MissingExtraError: ONNX Runtime is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._session = open_session(path)
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
        """Computes the descriptors of photos of one size.

        Args:
            images: (B, H, W, 3) photos, RGB in 0..255, of any dtype.

        Returns:
            (B, D) float32 descriptors.

        Raises:
            NetworkError: the height or the width of the photos is less than `smallest`.
        """
        require_sides(images, self.smallest, self.name)
        (rows,) = self._session.run(["descriptors"], {"images": images.astype(np.float32)})
        return rows

    def check(self, scales: tuple[float, ...], bfloat16: bool, mirror: bool = False) -> None:
        """Checks that the network accepts photos of any size and can be run with the given options.

        Scales, precision and mirroring were chosen when the network was exported, so that they cannot be changed.

        Args:
            scales: factors on the photo's size, which must be (1.0,).
            bfloat16: whether bfloat16 is requested, which must be False.
            mirror: whether mirrored photos are to be included, which must be False.

        Raises:
            ArgumentError: an option has another value.
            NetworkError: the network accepts photos of one size only.
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
    """Checks that photos are large enough for a network, so that its feature map is not empty.

    Args:
        images: (B, H, W, 3) photos.
        smallest: the smallest height and width in pixels that the network accepts.
        name: the name of the network, for the error message.

    Raises:
        NetworkError: the height or the width of the photos is less than `smallest`.
    """
    height, width = images.shape[1:3]
    if min(height, width) < smallest:
        raise NetworkError(
            f"photos of {width} x {height} pixels are too small for {name}, which needs {smallest} on each side: "
            f"Reading(.., smallest={smallest}) repeats their edges up to it"
        )


def open_session(path: Path) -> Any:
    """Opens an .onnx file with ONNX Runtime, on the CPU.

    Raises:
        NetworkError: the file cannot be loaded.
        MissingExtraError: ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise missing_extra("ONNX Runtime", "onnx", error) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: the warnings are hints on speed
    # Otherwise waiting threads spin on the cores that decode photos, which takes up to twice the CPU time per photo.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has an exception class for each status
        raise NetworkError(f"{path} could not be loaded as an ONNX network: {error}") from error

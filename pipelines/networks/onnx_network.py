"""A network as `keras-retrieval export-onnx` writes it, run by ONNX Runtime: no Keras and no TensorFlow."""

from pathlib import Path
from typing import Any

import numpy as np

NETWORK, SIZE, SCALES = "network", "size", "scales"
DIMENSIONS, SMALLEST, SIDES = "dimensions", "smallest_side", "height_and_width"
ANY_SIDES = "any"
INPUT, EDGE_MAPS = "input", "edge maps"


class OnnxNetwork:
    """An .onnx file that describes photos, and what its metadata says of it.

    Args:
        path: of the file.

    Attributes:
        facts: all its metadata.
        name: of the network that it was made of.
        size: the longest side of photos that it was made for, in pixels; it takes others too.
        scales: factors that are joined inside it.
        smallest: pixels that it needs on each side of a photo.
        sides: height and width of the photos that it takes, or None where it takes any.
        output_shape: (None, D).
        takes_edges: whether it takes edge maps in place of photos.

    Raises:
        ValueError: it cannot be loaded, or was not made by `keras-retrieval export-onnx`.
        ImportError: ONNX Runtime is not installed.
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
            raise ValueError(
                f"{path} was not made by `keras-retrieval export-onnx`: its metadata lack {error}"
            ) from None

    def describe(self, images: np.ndarray) -> np.ndarray:
        """Descriptors (B, D) float32 of photos (B, H, W, 3), RGB 0..255 of any dtype.

        Raises:
            ValueError: the photos have fewer pixels on a side than `smallest`.
        """
        require_sides(images, self.smallest, self.name)
        (rows,) = self._session.run(["descriptors"], {"images": images.astype(np.float32)})
        return rows

    def check(self, scales: tuple[float, ...], bfloat16: bool, mirror: bool = False) -> None:
        """Refuses options that were settled when the file was written, and a network of one size only.

        Raises:
            ValueError: scales other than (1.0,), bfloat16, mirror, or photos cannot have any size.
        """
        if self.sides:
            raise ValueError(f"{self.name} was exported for photos of {self.sides} pixels only, not for any size")
        if scales != (1.0,):
            inside = ",".join(f"{scale:g}" for scale in self.scales)
            raise ValueError(
                f"the scales of an .onnx network are inside it (here {inside}): leave --scales out, "
                "or export again with others"
            )
        if mirror:
            raise ValueError("an .onnx network mirrors photos inside it, if at all: export it with --mirror instead")
        if bfloat16:
            raise ValueError("an .onnx network has its precision inside: export it with --fp16 or --int8 instead")


def require_sides(images: np.ndarray, smallest: int, name: str) -> None:
    """Refuses photos (B, H, W, 3) that would leave a network an empty feature map.

    Raises:
        ValueError: a side has fewer pixels than the network called `name` needs.
    """
    height, width = images.shape[1:3]
    if min(height, width) < smallest:
        raise ValueError(
            f"photos of {width} x {height} pixels are too small for {name}, which needs {smallest} on each side: "
            f"Reading(.., smallest={smallest}) repeats their edges up to it"
        )


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(f"{path} is run by ONNX Runtime: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors: warnings are about how it may be made faster
    # Threads that wait would otherwise hold the cores that decode photos: up to twice the CPU time a photo.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has an exception of its own for each status
        raise ValueError(f"{path} could not be loaded as an ONNX network: {error}") from error

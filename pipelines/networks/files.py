"""files."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..files.durable import whole_path
from .onnx_network import OnnxNetwork

FILES = (".keras", ".onnx")  # what networks are read from


def load_model(model: str | Path) -> Any:
    """Loads a network from a .keras or .onnx file, or builds it by name with ImageNet weights.

    Returns:
        A keras.Model; of an .onnx file an OnnxNetwork, for which neither Keras nor TensorFlow is imported.

    Raises:
        ValueError: no file of that name and no known network either, or the file cannot be loaded.
        ConnectionError: the ImageNet weights of a name could not be downloaded.
    """
    path = Path(model)
    named = path.suffix not in FILES
    if named and os.sep in str(model):
        raise ValueError(f"{model}: a network is a .keras file, an .onnx file or a name such as vgg16_gem")
    if not named and not path.is_file():  # told before Keras takes seconds to import
        maker = "build vgg16_gem" if path.suffix == ".keras" else "export-onnx model.keras"
        raise ValueError(f"no network at {path}: `keras-retrieval {maker} {path}` makes one")
    if path.suffix == ".onnx":
        return OnnxNetwork(path)
    import keras_retrieval

    return keras_retrieval.build(str(model)) if named else keras_retrieval.load(path)


def save_model(model: Any, path: Path) -> None:
    """Writes a network so that its name only ever stands for a whole file: temporary name, sync, rename.

    Args:
        model: a keras.Model.
        path: a .keras file; it is replaced, and its folder is made where it is missing.

    Raises:
        OSError: it could not be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_path(path) as temporary:
        model.save(temporary)


def model_identity(model: str | Path) -> dict[str, str]:
    """What tells a network from another in a manifest: its path and checksum, or its name."""
    path = Path(model)
    if path.suffix not in FILES or not path.is_file():
        return {"name": str(model)}
    with path.open("rb") as file:
        return {"path": str(path.resolve()), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def takes_edges(model: Any) -> bool:
    """Whether a keras.Model has a layer that asks for edge maps, or an OnnxNetwork was made of one that has."""
    if isinstance(model, OnnxNetwork):
        return model.takes_edges
    return any(layer.__class__.__name__ == "EdgeStrength" for layer in model.layers)


def require_edges(model: Any, edges: str) -> None:
    """Refuses photos for a network that takes edge maps.

    Raises:
        ValueError: `edges` is empty, and the network was made for edge maps.
    """
    if not edges and takes_edges(model):
        raise ValueError(
            f"{model.name} takes edge maps, not photos: give --edges sobel or another kind; a step without --edges "
            "takes another network"
        )


def smallest_side(model: Any, scales: tuple[float, ...] = (1.0,)) -> int:
    """The least number of pixels on a side that leaves the trunk a feature map at every scale.

    Raises:
        ValueError: the network takes no photo, since its input has a fixed size; or scales with an OnnxNetwork.
    """
    if isinstance(model, OnnxNetwork):
        model.check(scales, bfloat16=False)
        return model.smallest
    import keras

    from keras_retrieval.layers import Rescaling

    trunk = next((layer for layer in model.layers if isinstance(layer, keras.Model)), model)
    side = next((side for side in range(1, 1025) if _has_feature_map(trunk, side)), None)
    if side is None or any(model.input_shape[1:3]):
        raise ValueError(f"{model.name} takes {model.input_shape}, not photos of any size (B, H, W, 3)")
    least = min(scales) * min([1.0, *(layer.factor for layer in model.layers if isinstance(layer, Rescaling))])
    # A scaled side is rounded down, in float32: one pixel more than the quotient is sure to be enough.
    return side if least == 1 else int(np.ceil(side / least)) + 1


def _has_feature_map(trunk: Any, side: int) -> bool:
    channels = trunk.input_shape[-1]
    try:
        return all(size is None or size > 0 for size in trunk.compute_output_shape((1, side, side, channels))[1:])
    except ValueError:
        return False

"""Network files: loading, saving, identity, and the input that a network takes."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.errors import ArgumentError

from ..files.durable import atomic_path
from .errors import NetworkError
from .onnx_network import OnnxNetwork

FILES = (".keras", ".onnx")  # suffixes of the files that networks are loaded from


def load_model(model: str | Path) -> Any:
    """Loads a network from a .keras or .onnx file, or builds it by name with ImageNet weights.

    Returns:
        A keras.Model; for an .onnx file an OnnxNetwork, without an import of Keras or TensorFlow.

    Raises:
        NetworkError: the file does not exist.
        ValueError: the file cannot be loaded, or the name is unknown.
        MissingExtraError: ONNX Runtime is not installed.
        ConnectionError: the ImageNet weights of a network's name cannot be downloaded.
    """
    path = Path(model)
    named = path.suffix not in FILES
    if named and os.sep in str(model):
        raise ArgumentError(f"MODEL must be a .keras file, an .onnx file or a name such as vgg16_gem, got {model}")
    if not named and not path.is_file():  # checked before the import of Keras, which takes seconds
        maker = "build vgg16_gem" if path.suffix == ".keras" else "export-onnx model.keras"
        raise NetworkError(f"no network at {path}: `keras-retrieval {maker} {path}` writes one")
    if path.suffix == ".onnx":
        return OnnxNetwork(path)
    import keras_retrieval

    return keras_retrieval.build(str(model)) if named else keras_retrieval.load(path)


def check_keras_path(path: Path) -> None:
    """Checks the output path of a step that saves a network.

    Raises:
        ArgumentError: the path does not end in .keras.
    """
    if path.suffix != ".keras":
        raise ArgumentError(f"OUTPUT must end in .keras, got {path}")


def save_model(model: Any, path: Path) -> None:
    """Saves a network atomically: writes a temporary file, syncs it and renames it to `path`.

    Args:
        model: a keras.Model.
        path: a .keras file; an existing one is replaced, and missing folders are created.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        model.save(temporary)


def model_identity(model: str | Path) -> dict[str, str]:
    """The identity of a network for a manifest: the path and SHA-256 of its file, or its name."""
    path = Path(model)
    if path.suffix not in FILES or not path.is_file():
        return {"name": str(model)}
    with path.open("rb") as file:
        return {"path": str(path.resolve()), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def takes_edges(model: Any) -> bool:
    """Whether a network takes edge maps: a keras.Model with an EdgeStrength layer, or an OnnxNetwork made from one."""
    if isinstance(model, OnnxNetwork):
        return model.takes_edges
    return any(layer.__class__.__name__ == "EdgeStrength" for layer in model.layers)


def require_edges(model: Any, edges: str) -> None:
    """Checks that a network that takes edge maps gets them.

    Args:
        model: a keras.Model or an OnnxNetwork.
        edges: the kind of edge maps that are read; "" for photos.

    Raises:
        NetworkError: the network takes edge maps, and `edges` is "".
    """
    if not edges and takes_edges(model):
        raise NetworkError(
            f"{model.name} takes edge maps, not photos: give --edges sobel or another kind, or, in a step without "
            "--edges, another network"
        )


def smallest_side(model: Any, scales: tuple[float, ...] = (1.0,)) -> int:
    """The smallest height and width of a photo, in pixels, that give the trunk a feature map at every scale.

    Args:
        model: a keras.Model or an OnnxNetwork.
        scales: factors on the photo's size; (1.0,) for an OnnxNetwork.

    Raises:
        NetworkError: the network takes photos of a fixed size only.
        ArgumentError: scales are given for an OnnxNetwork.
    """
    if isinstance(model, OnnxNetwork):
        model.check(scales, bfloat16=False)
        return model.smallest
    import keras

    from keras_retrieval.layers import Rescaling

    trunk = next((layer for layer in model.layers if isinstance(layer, keras.Model)), model)
    side = next((side for side in range(1, 1025) if _has_feature_map(trunk, side)), None)
    if side is None or any(model.input_shape[1:3]):
        raise NetworkError(f"{model.name} takes {model.input_shape}, not photos of any size (B, H, W, 3)")
    least = min(scales) * min([1.0, *(layer.factor for layer in model.layers if isinstance(layer, Rescaling))])
    # A scaled side is rounded down, in float32: one pixel more than the quotient is sure to be enough.
    return side if least == 1 else int(np.ceil(side / least)) + 1


def _has_feature_map(trunk: Any, side: int) -> bool:
    channels = trunk.input_shape[-1]
    try:
        return all(size is None or size > 0 for size in trunk.compute_output_shape((1, side, side, channels))[1:])
    except ValueError:
        return False

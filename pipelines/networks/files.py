"""Loads and saves network files, and finds out which input a network takes."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.errors import ArgumentError, RetrievalError
from keras_retrieval.networks.names import published_file
from keras_retrieval.networks.published_files import FILES as PUBLISHED_FILES
from keras_retrieval.networks.published_files import require_file

from ..files.durable import atomic_path, sha256_of
from .custom_layers import register_custom_layers
from .descriptor_check import check_descriptors
from .errors import NetworkError
from .kinds import FILES, check_network
from .onnx_network import OnnxNetwork

WHITENINGS = ("retrieval-SfM-120k", "Landmarks_clean")
"""The whitenings that published files of cirtorch and dirtorch are used with, where they have them."""


def load_model(model: str | Path) -> Any:
    """Loads a network from a .keras or .onnx file, or makes it by name, from its published weights.

    Args:
        model: path of a .keras or .onnx file, or the name of a network: such as "vgg16_gem", which has ImageNet
            weights, or "megaloc", whose file is in the weights folder, see `published_files`.

    Returns:
        A keras.Model. For an .onnx file an OnnxNetwork; Keras and TensorFlow are not imported then.

    Raises:
        NetworkError: the file does not exist, an .onnx file cannot be loaded, or a .keras file does not compute
            descriptors of unit length, see `descriptor_check`.
        NetworkFileError: a .keras file cannot be loaded.
        ArgumentError: the name is unknown.
        WeightsNotFoundError: the weights folder does not have the published file of the network.
        ConversionError: the published file is not of the network that its name says.
        MissingExtraError: the file is an .onnx file, and ONNX Runtime is not installed.
        DownloadError: the ImageNet weights cannot be downloaded.
    """
    check_network(model)  # before the import of Keras, which takes seconds
    path = Path(model)
    if path.suffix == ".onnx":
        return OnnxNetwork(path)
    if path.suffix != ".keras":
        return _by_name(str(model))
    network = load_keras(path)
    check_descriptors(network, path)
    return network


def _by_name(name: str) -> Any:
    if name not in PUBLISHED_FILES or not PUBLISHED_FILES[name].publisher.convert:
        import keras_retrieval

        return keras_retrieval.build(name)
    from .published_file import read_published_whitened

    return read_published_whitened(require_file([name], name), WHITENINGS)


def load_keras(path: Path) -> Any:
    """Loads a .keras file, with the layers of `--custom`, without a check of the descriptors.

    Raises:
        NetworkFileError: the file cannot be loaded.
        ArgumentError: a custom layer cannot be imported.
    """
    import keras_retrieval

    register_custom_layers()
    return keras_retrieval.load(path)


def check_keras_path(path: Path) -> None:
    """Checks that the output path of a step that saves a network ends in .keras.

    Args:
        path: the path.

    Raises:
        ArgumentError: the path does not end in .keras.
    """
    if path.suffix != ".keras":
        raise ArgumentError(f"OUTPUT must end in .keras, got {path}")


def save_model(model: Any, path: Path) -> None:
    """Saves a network atomically: writes a temporary file, syncs it and renames it to `path`.

    Args:
        model: a keras.Model.
        path: path of the .keras file; an existing file is replaced, and missing folders are created.

    Raises:
        DiskSpaceError: the disk is full; an existing file is unchanged.
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path, size=weights_size(model)) as temporary:
        model.save(temporary)


def weights_size(model: Any) -> int:
    """Returns the number of bytes of the weights of a network."""
    return sum(math.prod(weight.shape) * np.dtype(weight.dtype).itemsize for weight in model.weights)


def model_identity(model: str | Path) -> dict[str, str]:
    """Returns the identity of a network, which manifests and results record.

    Args:
        model: path of a .keras or .onnx file, or the name of a network.

    Returns:
        {"path": absolute path, "sha256": hexadecimal SHA-256 of the file}; or {"name": `model`} if it is not an
        existing file, with the "sha256" of the published file of weights if it is made from one.
    """
    path = Path(model)
    if path.suffix not in FILES or not path.is_file():
        file = _published(str(model))
        return {"name": str(model)} | ({} if file is None else {"sha256": sha256_of(file)})
    return {"path": str(path.resolve()), "sha256": sha256_of(path)}


def _published(name: str) -> Path | None:
    """The published file from which a network is made by name; None if there is none."""
    try:
        if name in PUBLISHED_FILES and PUBLISHED_FILES[name].publisher.convert:
            return require_file([name], name)
        return published_file(name)
    except RetrievalError:
        return None


def takes_edges(model: Any) -> bool:
    """Returns whether the input of a network is edge maps of photos, not the photos themselves.

    Args:
        model: a keras.Model, which takes edge maps if it has an EdgeStrength layer, or an OnnxNetwork.
    """
    if isinstance(model, OnnxNetwork):
        return model.takes_edges
    return any(layer.__class__.__name__ == "EdgeStrength" for layer in model.layers)


def require_edges(model: Any, edges: str) -> None:
    """Checks that edge maps, not photos, are read for a network that takes edge maps.

    Args:
        model: a keras.Model or an OnnxNetwork.
        edges: the kind of edge maps that are read instead of photos, such as "sobel"; "" for photos.

    Raises:
        NetworkError: the network takes edge maps, and `edges` is "".
    """
    if not edges and takes_edges(model):
        raise NetworkError(
            f"{model.name} takes edge maps, not photos: give --edges sobel or another kind, or, in a step without "
            "--edges, another network"
        )


def smallest_side(model: Any, scales: tuple[float, ...] = (1.0,)) -> int:
    """Returns the smallest height and width in pixels for which a photo has a feature map at every scale.

    Args:
        model: a keras.Model or an OnnxNetwork.
        scales: factors by which the photo is resized. For an OnnxNetwork they must be (1.0,), because its scales were
            chosen when it was exported.

    Raises:
        NetworkError: the network takes photos of a fixed size only.
        ArgumentError: other scales are given for an OnnxNetwork.
    """
    if isinstance(model, OnnxNetwork):
        model.check(scales, bfloat16=False)
        return model.smallest
    import keras

    from keras_retrieval.layers import Rescaling

    trunk = next((layer for layer in model.layers if isinstance(layer, keras.Model)), model)
    cells = max(getattr(layer, "least_cells", 1) for layer in model._flatten_layers())
    if cells > 1:  # the trunk is inside the network of each scale
        trunk = next((layer for layer in trunk.layers if isinstance(layer, keras.Model)), trunk)
    side = next((side for side in range(1, 1025) if _has_feature_map(trunk, side, cells)), None)
    if side is None or any(model.input_shape[1:3]):
        raise NetworkError(f"{model.name} takes {model.input_shape}, not photos of any size (B, H, W, 3)")
    least = min(scales) * min([1.0, *(layer.factor for layer in model.layers if isinstance(layer, Rescaling))])
    # A scaled side is rounded down in float32, so that one pixel is added to the quotient.
    return side if least == 1 else int(np.ceil(side / least)) + 1


def _has_feature_map(trunk: Any, side: int, cells: int) -> bool:
    """Whether the feature map of a square photo has at least so many cells."""
    channels = trunk.input_shape[-1]
    try:
        shape = trunk.compute_output_shape((1, side, side, channels))[1:]
        sizes = [size for size in shape[:-1] if size is not None]
        return all(size is None or size > 0 for size in shape) and (len(sizes) < 2 or sizes[0] * sizes[1] >= cells)
    except ValueError:
        return False

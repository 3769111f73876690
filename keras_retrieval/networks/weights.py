"""Loads the weights of a trunk, the backbone of a network, from a file."""

from pathlib import Path

import keras
import numpy as np

from .errors import WeightsError, WeightsNotFoundError

Weights = dict[str, list[np.ndarray]]


def load_trunk(trunk: keras.Model, path: str | Path) -> str | None:
    """Sets the weights of a trunk (backbone) from a file, whose layers are matched to those of the trunk by name.

    All layers are checked before any weight is set, so that the trunk is unchanged if an error is raised. Layers of the
    file that the trunk does not have, such as a classifier, are ignored.

    Args:
        trunk: the model to change.
        path: a .h5 (or .hdf5) file as published by keras.applications; a .npz file with arrays named
            `<layer>/<weight>`, in which the arrays of a layer are in the order of the layer's weights; or a .keras file
            of a trunk or of a network from `build`.

    Returns:
        The pixel normalisation that the weights expect, "torch", "caffe" or "none", or None if the file does not state
        it. A .h5 file states it as the attribute `normalization`, a .npz file as the array `normalization`, and a
        .keras file by its `layers.PixelNormalization`.

    Raises:
        WeightsNotFoundError: the file does not exist.
        WeightsError: the format is not supported; the file is damaged; or a layer of the trunk is missing in the file,
            has weights of other shapes there, or has weights that are not finite. The message names the layer.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsNotFoundError(f"no weights file at {path}")
    readers = {".h5": _read_h5, ".hdf5": _read_h5, ".npz": _read_npz, ".keras": _read_keras}
    if path.suffix not in readers:
        raise WeightsError(f"{path}: weights are read from {', '.join(readers)} files, not from '{path.suffix}'")
    try:
        found, normalization = readers[path.suffix](path)
    except Exception as error:  # h5py, zipfile, numpy and Keras have different errors
        raise WeightsError(f"{path} cannot be read as a {path.suffix} file of weights: {error}") from error
    wanted = {layer.name: layer for layer in trunk.layers if layer.weights}
    for name, layer in wanted.items():
        _check(path, name, [tuple(weight.shape) for weight in layer.weights], found)
    for name, layer in wanted.items():
        layer.set_weights(found[name])
    return normalization


def _check(path: Path, name: str, shapes: list[tuple[int, ...]], found: Weights) -> None:
    if name not in found:
        raise WeightsError(f"{path} does not fit: it has no layer '{name}', only {', '.join(found) or 'none at all'}")
    stored = [array.shape for array in found[name]]
    if stored != shapes:
        raise WeightsError(f"{path} does not fit: layer '{name}' needs weights of {shapes}, the file has {stored}")
    if not all(np.isfinite(array).all() for array in found[name]):
        raise WeightsError(f"{path} does not fit: layer '{name}' has weights that are not finite")


def _read_h5(path: Path) -> tuple[Weights, str | None]:
    import h5py

    with h5py.File(path) as file:
        group = file.get("model_weights", file)
        if "layer_names" not in group.attrs:
            raise WeightsError("it has no layer_names; save the model as .keras instead")
        found = {}
        for name in map(_text, group.attrs["layer_names"]):
            arrays = [np.asarray(group[name][_text(weight)]) for weight in group[name].attrs["weight_names"]]
            if arrays:
                found[name] = arrays
        return found, _text(file.attrs["normalization"]) if "normalization" in file.attrs else None


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _read_npz(path: Path) -> tuple[Weights, str | None]:
    found: Weights = {}
    with np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            if key != "normalization":
                found.setdefault(key.rpartition("/")[0], []).append(arrays[key])
        return found, str(arrays["normalization"]) if "normalization" in arrays.files else None


def _read_keras(path: Path) -> tuple[Weights, str | None]:
    from ..layers.pixel_normalization import CONVENTIONS, PixelNormalization

    found: Weights = {}
    normalization = None
    stack = list(keras.saving.load_model(path, compile=False).layers)
    while stack:
        layer = stack.pop(0)
        if isinstance(layer, keras.Model):
            stack.extend(layer.layers)
        elif layer.weights:
            found.setdefault(layer.name, [np.asarray(weight) for weight in layer.get_weights()])
        elif isinstance(layer, PixelNormalization):
            config = {key: getattr(layer, key) for key in ("mean", "deviation", "channels")}
            normalization = next((name for name, numbers in CONVENTIONS.items() if numbers == config), None)
    return found, normalization

"""Reads the weights of a file, whose format is recognised by its content: torch, safetensors, Keras or .npz."""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .errors import StoredWeightsError
from .inert_pickle import Opaque, cut_off
from .keras_file import StoredLayer, read_hdf5, read_keras
from .mistaken import mistaken_for_weights
from .torch_file import TorchFileError, read_torch

FORMATS = "torch's .pth, .pt, .ckpt and .bin, .safetensors, Keras' .h5, .weights.h5 and .keras, and .npz"

_HDF5 = b"\x89HDF\r\n\x1a\n"
_MAX_DEPTH = 100


@dataclass(frozen=True)
class StoredWeights:
    """The weights of a file.

    Attributes:
        tensors: maps the names of tensors to their values; those of nested dicts and modules are joined by dots, such
            as "state_dict.conv1.weight". In a file of Keras, the names of layers and weights are joined by "/".
        layers: the layers, where names say which weight belongs to which layer as Keras names them.
        torch: whether it is a file of torch, or tensors named as in torch.
        normalization: the pixel normalisation that the file states, or None.
        config: the configuration of a .keras file.
    """

    tensors: dict[str, np.ndarray]
    layers: list[StoredLayer]
    torch: bool
    normalization: str | None = None
    config: dict[str, Any] = field(default_factory=dict)


def read_weights(path: Path) -> StoredWeights:
    """Reads the weights of a file. Nothing in it is executed.

    Args:
        path: the file.

    Raises:
        StoredWeightsError: the file is empty, damaged, or contains no weights; the message is the reason.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(1024)
    reader = _reader(path, head)
    try:
        return reader(path)
    except StoredWeightsError:
        raise
    except TorchFileError as error:
        raise StoredWeightsError(str(error).removeprefix(f"{path} cannot be read: ")) from error
    except Exception as error:  # h5py, zipfile, numpy and safetensors have different errors
        raise StoredWeightsError(cut_off(_line(error))) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _reader(path: Path, head: bytes) -> Any:
    if not head:
        raise StoredWeightsError("it is empty: download or copy it again")
    if head.startswith(_HDF5):
        return _from_hdf5
    if head.startswith(b"PK"):
        return _zip_reader(path)
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**40:
        return _from_safetensors
    if head[:1] == b"\x80" or head[257:262] == b"ustar":
        return _from_torch
    if reason := mistaken_for_weights(head):
        raise StoredWeightsError(reason)
    raise StoredWeightsError(f"its content is not that of a file of weights: read are {FORMATS}")


def _zip_reader(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, RuntimeError, OSError) as error:
        raise StoredWeightsError(cut_off(_line(error))) from error
    if any(name.endswith("data.pkl") for name in names):
        return _from_torch
    if "config.json" in names or "model.weights.h5" in names:
        return _from_keras
    if names and all(name.endswith(".npy") for name in names):
        return _from_npz
    raise StoredWeightsError(f"it is a zip without weights: read are {FORMATS}")


def _from_hdf5(path: Path) -> StoredWeights:
    found = read_hdf5(path)
    return StoredWeights(_joined(found.layers), found.layers, False, found.normalization)


def _from_keras(path: Path) -> StoredWeights:
    found = read_keras(path)
    return StoredWeights(_joined(found.layers), found.layers, False, found.normalization, found.config)


def _joined(layers: list[StoredLayer]) -> dict[str, np.ndarray]:
    return {"/".join((*layer.path, name)): array for layer in layers for name, array in layer.arrays.items()}


def _from_npz(path: Path) -> StoredWeights:
    tensors = {}
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            try:
                tensors[name] = arrays[name]
            except ValueError as error:
                if "allow_pickle" not in str(error):
                    raise
                raise StoredWeightsError(
                    f"its array {name!r} is a pickled Python object: save each weight by its own name, with "
                    "np.savez(path, **{'conv1/kernel': kernel, ..})"
                ) from error
    stated = tensors.pop("normalization", None)
    if tensors and all(name.startswith("arr_") for name in tensors):
        raise StoredWeightsError(
            "its arrays have no names, and their order says nothing: save each weight by its name, with "
            "np.savez(path, **{'conv1/kernel': kernel, ..})"
        )
    return _named(tensors, None if stated is None else str(stated))


def _from_safetensors(path: Path) -> StoredWeights:
    import safetensors

    with safetensors.safe_open(path, framework="numpy") as file:
        return _named({name: file.get_tensor(name) for name in file.keys()}, None)  # noqa: SIM118 (not a mapping)


def _named(tensors: dict[str, np.ndarray], normalization: str | None) -> StoredWeights:
    """Tensors named as in Keras, `layer/weight`, or in torch, `layer.weight`."""
    layers: dict[tuple[str, ...], dict[str, np.ndarray]] = {}
    for name, array in tensors.items():
        *path, leaf = name.split("/")
        if path:
            layers.setdefault(tuple(path), {})[leaf] = array
    stored = [StoredLayer(path, arrays, ordered=False) for path, arrays in layers.items()]
    return StoredWeights(tensors, stored, not layers, normalization)


def _from_torch(path: Path) -> StoredWeights:
    return StoredWeights(dict(_flat(read_torch(path, objects=True), (), set())), [], True)


def _flat(tree: Any, path: tuple[str, ...], seen: set[int]) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors in nested dicts, lists and modules by their joined names; each container is visited once."""
    if isinstance(tree, np.ndarray):
        yield ".".join(path), tree
        return
    if id(tree) in seen or len(path) > _MAX_DEPTH:
        return
    seen.add(id(tree))
    if isinstance(tree, Opaque):
        for part in (tree.items, tree.state):
            yield from _flat(part, path, seen)
    elif isinstance(tree, dict):
        for key, value in tree.items():
            # Where a pickled module keeps its tensors and submodules.
            step = () if key in ("_parameters", "_buffers", "_modules") else (str(key),)
            yield from _flat(value, (*path, *step), seen)
    elif isinstance(tree, list | tuple):
        for number, value in enumerate(tree):
            yield from _flat(value, (*path, str(number)), seen)

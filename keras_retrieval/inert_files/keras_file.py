"""Reads weights from Keras' files: .h5 of Keras 2, .weights.h5 and .keras of Keras 3. No layer is made.

A file of Keras 2 lists its layers and the weights of each, with names. One of Keras 3 has a group `vars` for each
layer, with weights by number and, in newer versions, the layer's name. Groups are named by class and count, such as
`layers/conv2d_3`, so that the names in files of older versions come from the configuration.
"""

import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .errors import StoredWeightsError


@dataclass(frozen=True)
class StoredLayer:
    """The weights of one layer.

    Attributes:
        path: the names of the models that contain the layer, outermost first, and its own name; components of a name
            that contains "/" are entries of their own.
        arrays: maps the name of each weight, or its number as text, to its values.
        ordered: whether the file defines the order of `arrays`.
        slot: class and count, such as ("conv2d", 3), where the file has no name for the layer; the last of `path` then
            contains the same.
    """

    path: tuple[str, ...]
    arrays: dict[str, np.ndarray]
    ordered: bool = True
    slot: tuple[str, int] | None = None


@dataclass(frozen=True)
class KerasWeights:
    """The weights of a file of Keras, and its configuration.

    Attributes:
        layers: the layers with weights, in the order of the file.
        normalization: the attribute `normalization` of an .h5 file; None without it.
        config: the configuration of a .keras file; empty for others.
    """

    layers: list[StoredLayer]
    normalization: str | None
    config: dict[str, Any]


def read_hdf5(path: Path | BinaryIO, names: Mapping[str, str] | None = None) -> KerasWeights:
    """Reads an .h5 file of Keras 2 or 3.

    Args:
        path: the file.
        names: maps the path of a group without `vars`, such as "layers/conv2d_3", to the name of its layer.

    Raises:
        StoredWeightsError: the file has no weights, or refers to other files.
        OSError, KeyError, ValueError: the file is damaged.
    """
    import h5py

    with h5py.File(path) as file:
        datasets = _datasets(file)
        root = "model_weights" if isinstance(file.get("model_weights"), h5py.Group) else ""
        group = file[root] if root else file
        if _has_list(group.attrs, "layer_names"):
            layers = list(_keras_2(group, f"{root}/" if root else "", datasets))
        else:
            layers = list(_keras_3(file, datasets, names or {}))
        stated = file.attrs.get("normalization")
        return KerasWeights(layers, None if stated is None else _text(stated), {})


def read_keras(path: Path) -> KerasWeights:
    """Reads the weights of a .keras file; none of its layers is made, so that the file may contain any.

    Raises:
        StoredWeightsError: the file contains no weights.
        OSError, KeyError, ValueError, zipfile.BadZipFile: the file is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
        weights = archive.read("model.weights.h5")
    found = read_hdf5(BytesIO(weights), dict(_names(config, "")))
    return KerasWeights(found.layers, found.normalization, config)


def keras_version(path: Path) -> str:
    """The version of Keras that wrote a .keras file; "" if the file does not say."""
    try:
        with zipfile.ZipFile(path) as archive:
            return str(json.loads(archive.read("metadata.json")).get("keras_version", ""))
    except (OSError, KeyError, ValueError, AttributeError, zipfile.BadZipFile, RuntimeError):
        return ""


def _datasets(file: Any) -> dict[str, Any]:
    """All datasets by path. Links are not followed, so that no other file is opened."""
    import h5py

    found: dict[str, Any] = {}

    def visit(name: str, value: Any) -> None:
        if isinstance(value, h5py.Dataset):
            if value.external is not None or value.is_virtual:
                raise StoredWeightsError(f"its dataset {name!r} refers to another file")
            found[name] = value

    file.visititems(visit)
    return found


def _has_list(attributes: Mapping[str, Any], name: str) -> bool:
    return name in attributes or f"{name}0" in attributes


def _list(attributes: Mapping[str, Any], name: str) -> list[str]:
    """A list of names; Keras cuts lists of more than 64 kB into parts."""
    if name in attributes:
        return [_text(value) for value in attributes[name]]
    parts, found = 0, []
    while f"{name}{parts}" in attributes:
        found += [_text(value) for value in attributes[f"{name}{parts}"]]
        parts += 1
    return found


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _keras_2(group: Any, root: str, datasets: Mapping[str, Any]) -> Iterator[StoredLayer]:
    for layer in _list(group.attrs, "layer_names"):
        weights: dict[tuple[str, ...], dict[str, np.ndarray]] = {}
        for name in _list(group[layer].attrs, "weight_names"):
            *parents, leaf = name.split("/")
            weights.setdefault(tuple(filter(None, parents)), {})[leaf] = _array(datasets, f"{root}{layer}/{name}")
        own = tuple(layer.split("/"))
        for inner, arrays in weights.items():
            # A layer's weights are named after itself, or after how often a graph contains it; those of a nested model
            # after the layers in it.
            itself = len(weights) == 1 and (not inner or inner[-1].startswith(own[-1]))
            yield StoredLayer(own if itself and len(inner) <= len(own) else (*own, *inner), arrays)


def _keras_3(file: Any, datasets: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[StoredLayer]:
    groups: dict[str, dict[str, Any]] = {}
    for path in datasets:
        group, _, number = path.rpartition("/")
        if (group == "vars" or group.endswith("/vars")) and not path.startswith(("optimizer", "_optimizer")):
            groups.setdefault(group, {})[number] = path
    if not groups:
        raise StoredWeightsError(
            "it contains no weights as Keras saves them: neither layer_names nor groups named vars"
        )
    for group, paths in groups.items():
        arrays = {number: _array(datasets, path) for number, path in paths.items()}
        place = group.removesuffix("vars").rstrip("/")
        parts = [part for part in place.split("/") if part not in ("layers", "_layer_checkpoint_dependencies")]
        name = file[group].attrs.get("name", names.get(place))
        slot = None if name is not None or not parts else _slot(parts[-1])
        own = parts[-1:] if name is None else _text(name).split("/")
        yield StoredLayer((*parts[:-1], *own), arrays, ordered=False, slot=slot)


def _slot(group: str) -> tuple[str, int]:
    """conv2d_3 -> ("conv2d", 3); the first of a class has no number."""
    kind, _, number = group.rpartition("_")
    return (kind, int(number)) if kind and number.isdigit() else (group, 0)


def _array(datasets: Mapping[str, Any], path: str) -> np.ndarray:
    if path not in datasets:
        raise StoredWeightsError(f"its dataset {path!r} is missing")
    value = datasets[path]
    array = np.asarray(value)
    if _text(value.attrs.get("dtype", "")) == "bfloat16":
        return (array.view("<u2").astype("<u4") << 16).view("<f4")
    return array


def _names(config: Any, place: str) -> Iterator[tuple[str, str]]:
    """Maps the groups of a model's weights to the names of layers, as Keras derives the former from the latter."""
    inner = config.get("config") if isinstance(config, dict) else None
    layers = inner.get("layers") if isinstance(inner, dict) else None
    used: Counter[str] = Counter()
    for layer in layers if isinstance(layers, list) else []:
        if not isinstance(layer, dict) or not isinstance(layer.get("class_name"), str):
            continue
        kind = snake_case(layer["class_name"].rpartition(">")[2])
        group = f"{place}layers/{kind}{f'_{used[kind]}' if used[kind] else ''}"
        used[kind] += 1
        settings = layer.get("config")
        if isinstance(settings, dict) and isinstance(settings.get("name"), str):
            yield group, settings["name"]
        yield from _names(layer, f"{group}/")


def snake_case(name: str) -> str:
    """The name of a class in Keras' groups: BatchNormalization -> batch_normalization, Conv2D -> conv2d."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()

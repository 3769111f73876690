"""Loads the weights of a trunk, the backbone of a network, from a file."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..inert_files.errors import StoredWeightsError
from ..inert_files.keras_file import StoredLayer
from ..inert_files.weights_file import StoredWeights, read_weights
from ..layers.netvlad import NetVLAD
from ..layers.token_sequence import Interpolation, TokenSequence
from .dino_names import dino_names
from .errors import WeightsError, WeightsNotFoundError
from .leaf_layers import Leaf, leaf_layers
from .looks_like import looks_like
from .pooling_names import pooling_tensors
from .torch_names import Naming, namings

# The names of weights in older files, and Keras' own.
_ALIASES = {
    "W": "kernel",
    "w": "kernel",
    "b": "bias",
    "depthwise_kernel": "kernel",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
    "running_var": "moving_variance",
}
_OLD_NAME = re.compile(r".*_(W|b|gamma|beta|running_mean|running_std)(_\d+)?")
_MANY = 3  # layers whose names differ in numbers only are one series of a network
_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".h5", ".hdf5", ".keras", ".npz")


@dataclass(frozen=True)
class _Fit:
    """How the weights of a file fit a trunk, under one way to read their names.

    Attributes:
        weights: maps the trunk's layers to their weights, in order; incomplete with a problem.
        found: the number of weights that fit.
        problem: the first thing that does not fit; "" if everything fits.
        prefix: what stands before the names.
        torch: whether the names are torch's.
    """

    weights: Mapping[str, list[np.ndarray]]
    found: int
    problem: str
    prefix: str
    torch: bool


def load_trunk(trunk: keras.Model, path: str | Path, prefix: str = "") -> str | None:
    """Sets the weights of a trunk (backbone) from a file, whose tensors are matched to those of the trunk by name.

    The format is recognised by the content, and nothing in the file is executed. All weights are checked before any is
    set, so that the trunk is unchanged if an error is raised.

    Args:
        trunk: the model to change, as `build` names it.
        path: a file of torch (a state dict, alone or within a checkpoint, in the zip format or the old one),
            .safetensors, .h5 of Keras 2, with or without a classifier, .weights.h5 or .keras of Keras 3, or .npz with
            arrays named `layer/weight` or as in torch. float16 and bfloat16 become float32. Weights are found by their
            names, with anything in front of them, such as "module." or "state_dict."; other weights of the file, such
            as a classifier's, are ignored.
        prefix: the beginning of the names, where a file contains the trunk more than once.

    Returns:
        The pixel normalisation of the weights ("torch", "caffe" or "none"), or None if the file does not state it. In
        .h5 it is the attribute `normalization`, in .npz the array `normalization`; a file of torch means "torch".

    Raises:
        WeightsNotFoundError: the file does not exist.
        WeightsError: the file is damaged or contains no weights, or a weight is missing, left over or has another
            shape; the message names the first that does not fit, and what network the file looks like.
    """
    return fill_trunk(trunk, read_stored(path), path, prefix)


def read_stored(path: str | Path) -> StoredWeights:
    """Reads the weights of a file.

    Args:
        path: the file, as for `load_trunk`.

    Raises:
        WeightsNotFoundError: the file does not exist.
        WeightsError: the file is damaged or contains no weights.
    """
    path = Path(path)
    if path.is_dir():
        inside = sorted(file.name for file in path.iterdir() if file.suffix in _SUFFIXES)
        hint = f", such as {inside[0]}" if inside else ""
        raise WeightsError(f"{path} is a folder: give the file of weights in it{hint}")
    if not path.is_file():
        raise WeightsNotFoundError(f"no weights file at {path}")
    try:
        stored = read_weights(path)
    except StoredWeightsError as error:
        raise WeightsError(f"{path} cannot be read as a file of weights: {error}") from error
    if not stored.tensors:
        raise WeightsError(f"{path} contains no weights")
    return stored


def fill_trunk(trunk: keras.Model, stored: StoredWeights, path: str | Path, prefix: str = "") -> str | None:
    """Sets the weights of a trunk from those of a file, which are read already; see `load_trunk`.

    Args:
        trunk: the model to change.
        stored: the weights of the file.
        path: the file, for messages.
        prefix: the beginning of the names, where the file contains the trunk more than once.

    Returns:
        The pixel normalisation that the file states, or None.

    Raises:
        WeightsError: the weights do not fit the trunk.
    """
    path = Path(path)
    stored, interpolation = _with_dino_names(stored)
    leaves = list(leaf_layers(trunk))
    fits = [*_keras_fits(leaves, stored, prefix), *_torch_fits(trunk, stored, prefix)]
    fit = _best(path, trunk.name, fits, stored)
    for leaf in leaves:
        leaf.layer.set_weights(fit.weights[leaf.name])
        if isinstance(leaf.layer, TokenSequence) and interpolation is not None:
            leaf.layer.interpolation = interpolation
    stated = stored.normalization or _normalization_in(stored.config)
    inside_trunk = trunk.name.startswith(("convnext", "cvnet"))  # they have pixels of their own
    return stated or ("torch" if fit.torch and not inside_trunk else None)


def fill_pooling(pooling: keras.layers.Layer, stored: StoredWeights, path: str | Path) -> bool:
    """Sets the weights of a pooling, if a file of torch contains them beside those of the trunk.

    Args:
        pooling: a built pooling of a network from `build`.
        stored: the weights of the file.
        path: the file, for messages.

    Returns:
        Whether the file contains them.

    Raises:
        WeightsError: one of them is missing, has another shape, or is not finite, or they are in the file more than
            once; no weight is set then.
    """
    pairs = pooling_tensors(pooling) if stored.torch else []
    naming = {"": [tensor for _, tensor in pairs]}
    first = pairs[0][1].key if pairs else ""  # others, such as fc.weight, may belong to a classifier
    starts = _starts(stored.tensors, (first,), "") if pairs else []
    starts += [""] if first in stored.tensors else []
    if not starts:
        return False
    tensors = stored.tensors
    if isinstance(pooling, NetVLAD):  # the assignment has a bias in version 2 only
        zeros = np.zeros(pooling.clusters, "float32")
        tensors = {**{f"{start}pool.conv.bias": zeros for start in starts}, **tensors}
    fits = [_torch_fit(naming, tensors, start, deeper=False) for start in starts]
    whole = [fit for fit in fits if not fit.problem]
    if not whole:
        best = max(fits, key=lambda fit: fit.found)
        raise WeightsError(f"{path} does not fit the pooling {type(pooling).__name__}: {best.problem}")
    if any(not _same(whole[0], other) for other in whole[1:]):
        raise WeightsError(f"{path} contains weights of the pooling {type(pooling).__name__} more than once")
    for (weight, _), array in zip(pairs, whole[0].weights[""], strict=True):
        weight.assign(array)
    return True


def _with_dino_names(stored: StoredWeights) -> tuple[StoredWeights, Interpolation | None]:
    """The weights, those of a DINO under their common names, and how the file's code resizes their positions."""
    if not stored.torch:
        found = [part.get("interpolation") for part in _configurations(stored.config, "TokenSequence")]
        return stored, found[0] if found else None
    renamed = dino_names(stored.tensors)
    return replace(stored, tensors=renamed.tensors), renamed.interpolation


def _best(path: Path, trunk: str, fits: list[_Fit], stored: StoredWeights) -> _Fit:
    whole = [fit for fit in fits if not fit.problem]
    if whole and all(_same(whole[0], other) for other in whole[1:]):
        return whole[0]
    if whole:
        places = list(dict.fromkeys(fit.prefix for fit in whole))
        raise WeightsError(
            f"{path} contains weights of {trunk} more than once, under {', '.join(map(repr, places))}: choose one with "
            f"weights_prefix={places[0]!r}"
        )
    shapes = {name: array.shape for name, array in stored.tensors.items()}
    kind = looks_like(shapes)
    likeness = f"; the file looks like {kind}" if kind else f"; the file has {_first(shapes)}"
    if not fits:
        other = f"torch{trunk}"
        hint = (
            f"build {other}_.., which computes as torch does" if trunk.startswith("resnet") else "give Keras' weights"
        )
        raise WeightsError(f"{path} does not fit {trunk}, which torch computes with other padding{likeness}: {hint}")
    best = max(fits, key=lambda fit: fit.found)
    raise WeightsError(f"{path} does not fit {trunk}: {best.problem}{likeness}")


def _first(shapes: Mapping[str, tuple[int, ...]]) -> str:
    names = [repr(name[:80]) for name in list(shapes)[:3]]
    more = f" and {len(shapes) - len(names):,} others" if len(shapes) > len(names) else ""
    return f"{', '.join(names)}{more}"


def _same(one: _Fit, other: _Fit) -> bool:
    pairs = ((one.weights[name], other.weights[name]) for name in one.weights)
    return all(np.array_equal(a, b) for mine, theirs in pairs for a, b in zip(mine, theirs, strict=True))


def _problem_of(array: np.ndarray) -> str:
    """Why values are no weights; "" if they are."""
    if not array.dtype.name.startswith(("float", "bfloat")):
        return f"is of {array.dtype.name}, not of floating-point numbers: give weights that are not quantised"
    return "" if np.isfinite(array.astype("float32")).all() else "has values that are not finite"


# Names as in torch


def _torch_fits(trunk: keras.Model, stored: StoredWeights, prefix: str) -> Iterator[_Fit]:
    if not stored.torch:
        return
    for naming in namings(trunk):
        keys = [tensor.key for tensors in naming.values() for tensor in tensors]
        for start in _starts(stored.tensors, (keys[0], keys[len(keys) // 2], keys[-1]), prefix):
            yield _torch_fit(naming, stored.tensors, start)
        yield _torch_fit(naming, stored.tensors, prefix)


def _starts(tensors: Mapping[str, Any], keys: tuple[str, ...], prefix: str) -> list[str]:
    """What stands before any of the keys in the names of tensors."""
    found = {
        name.removesuffix(key): None
        for name in tensors
        for key in keys
        if (name == key or name.endswith(f".{key}")) and name.startswith(prefix)
    }
    found.pop(prefix, None)
    return [start for start in found if start.startswith(prefix)]


def _torch_fit(naming: Naming, tensors: Mapping[str, np.ndarray], start: str, deeper: bool = True) -> _Fit:
    weights: dict[str, list[np.ndarray]] = {}
    problem, found = "", 0
    used = set()
    for layer, wanted in naming.items():
        weights[layer] = []
        for tensor in wanted:
            name = start + tensor.key
            used.add(name)
            array = tensors.get(name)
            if array is None:
                wrong = f"it has no tensor {name!r}"
            elif array.shape not in tensor.shapes:
                wrong = f"its tensor {name!r} has shape {array.shape}, expected {tensor.shapes[0]}"
            else:
                reason = _problem_of(array)
                wrong = f"its tensor {name!r} {reason}" if reason else ""
                found += 1
            if array is not None and not wrong:
                weights[layer].append(tensor.to_keras(array))
            problem = problem or wrong
    problem = problem or (_left_over(naming, tensors, start, used) if deeper else "")
    return _Fit(weights, found, problem, start, True)


def _left_over(naming: Naming, tensors: Mapping[str, np.ndarray], start: str, used: set[str]) -> str:
    """The first tensor in the modules of the trunk that the trunk does not have: the file is of a deeper network."""
    *layers, _ = naming.values()  # the last may be in the module of the classifier
    modules = {tensor.key.partition(".")[0] for wanted in layers for tensor in wanted}
    for name in tensors:
        rest = name.removeprefix(start)
        inside = name.startswith(start) and rest.partition(".")[0] in modules
        if inside and name not in used and not rest.endswith("num_batches_tracked"):
            return f"its tensor {name!r} belongs to no layer"
    return ""


# Names as in Keras


def _keras_fits(leaves: list[Leaf], stored: StoredWeights, prefix: str) -> Iterator[_Fit]:
    layers = [layer for layer in stored.layers if "/".join(layer.path).startswith(prefix)]
    if layers or not stored.torch:
        yield _keras_fit(leaves, layers)


def _keras_fit(leaves: list[Leaf], layers: list[StoredLayer]) -> _Fit:
    named, slotted = _by_name(layers, False), _by_name(layers, True)
    weights: dict[str, list[np.ndarray]] = {}
    problem, found = "", 0
    used: list[StoredLayer] = []
    for leaf in leaves:
        candidates = _candidates(leaf, named, slotted)
        arrays, wrong = _arrays(leaf, candidates)
        used += candidates
        weights[leaf.name] = arrays
        found += 0 if wrong else len(arrays)
        problem = problem or wrong
    problem = problem or _layer_left_over(leaves, layers, used)
    return _Fit(weights, found, problem, "", False)


def _plain(name: str) -> str:
    """A name as compared: older versions of Keras have "conv1/conv" and "Conv/BatchNorm"."""
    return name.lower().replace("batchnorm", "bn") if "/" in name or "BatchNorm" in name else name.lower()


_Index = Mapping[str, list[tuple[int, StoredLayer]]]


def _by_name(layers: list[StoredLayer], slotted: bool) -> _Index:
    """Maps the end of each path, joined by "_", to (number of components before it, layer)."""
    found: dict[str, list[tuple[int, StoredLayer]]] = defaultdict(list)
    for layer in layers:
        if (layer.slot is not None) == slotted:
            for before in range(len(layer.path)):
                name = "/" if slotted else "_"
                found[_plain(name.join(layer.path[before:]))].append((before, layer))
    return found


def _candidates(leaf: Leaf, named: _Index, slotted: _Index) -> list[StoredLayer]:
    """The stored layers that may be a layer of the trunk: those with the fewest models around them."""
    if leaf.automatic:
        kind = re.compile(rf"{re.escape(leaf.slots[-1].rstrip('_0123456789'))}(_\d+)?")
        found = [entry for name, entries in named.items() if kind.fullmatch(name) for entry in entries]
        shapes = sorted(tuple(weight.shape) for weight in leaf.layer.weights)
        fitting = [entry for entry in found if sorted(array.shape for array in entry[1].arrays.values()) == shapes]
        found = fitting or found
    else:
        found = list(named.get(leaf.name.lower(), ()))
    found = found or list(slotted.get("/".join(leaf.slots), ()))
    least = min((before for before, _ in found), default=0)
    return [layer for before, layer in found if before == least]


def _arrays(leaf: Leaf, candidates: list[StoredLayer]) -> tuple[list[np.ndarray], str]:
    """The weights of a layer in order, and what is wrong with them."""
    if not candidates:
        return [], f"it has no layer {leaf.name!r}"
    stored = candidates[0]
    for other in candidates[1:]:
        same = stored.arrays.keys() == other.arrays.keys() and all(
            np.array_equal(stored.arrays[name], other.arrays[name]) for name in stored.arrays
        )
        if not same:
            places = " and ".join(repr("/".join(layer.path)) for layer in (stored, other))
            return [], f"its layer {leaf.name!r} may be {places}: choose one with weights_prefix"
    shapes = [tuple(weight.shape) for weight in leaf.layer.weights]
    arrays = _in_order(leaf, stored, shapes)
    if arrays is None:
        names = [weight.name for weight in leaf.layer.weights]
        return [], (
            f"the weights of its layer {leaf.name!r} are named {', '.join(stored.arrays)}, which does not say which is "
            f"which of {', '.join(names)}"
        )
    if [array.shape for array in arrays] != shapes:
        found = [array.shape for array in arrays]
        return [], f"its layer {leaf.name!r} needs weights of {shapes}, the file has {found}"
    reason = next(filter(None, map(_problem_of, arrays)), "")
    return [array.astype("float32") for array in arrays], f"its layer {leaf.name!r} {reason}" if reason else ""


def _in_order(leaf: Leaf, stored: StoredLayer, shapes: list[tuple[int, ...]]) -> list[np.ndarray] | None:
    """The arrays in the order of the layer's weights: by name, by number, or as the format orders them.

    Returns:
        The arrays; all of them, in any order, where their number or shapes do not fit; None where their names do not
        say which is which.
    """
    names = [_leaf_name(weight.name) for weight in leaf.layer.weights]
    arrays = {_leaf_name(name): array for name, array in stored.arrays.items()}
    if len(arrays) != len(shapes) or len(arrays) == 1:
        return list(stored.arrays.values())
    if set(arrays) == set(names):
        return [arrays[name] for name in names]
    if all(name.isdigit() for name in arrays):
        return [arrays[name] for name in sorted(arrays, key=int)]
    found = [array.shape for array in arrays.values()]
    if stored.ordered or Counter(found) != Counter(shapes):
        return list(stored.arrays.values())
    if len(set(shapes)) == len(shapes):
        by_shape = {array.shape: array for array in arrays.values()}
        return [by_shape[shape] for shape in shapes]
    return None


def _leaf_name(name: str) -> str:
    name = name.partition(":")[0]
    old = _OLD_NAME.fullmatch(name)
    name = old[1] if old else name
    return _ALIASES.get(name, name)


def _layer_left_over(leaves: list[Leaf], layers: list[StoredLayer], used: list[StoredLayer]) -> str:
    """The first layer that continues a series of the trunk's layers: the file is of a deeper network."""
    series = Counter(_series(leaf.name) for leaf in leaves if not leaf.automatic)
    taken = {id(layer) for layer in used}
    containers = {layer.path[:-1] for layer in used if layer.slot is not None}
    kinds = {leaf.slots[-1].rstrip("_0123456789") for leaf in leaves}
    for layer in layers:
        if id(layer) in taken:
            continue
        ends = ["_".join(layer.path[before:]) for before in range(len(layer.path))]
        deeper = any(series[_series(_plain(end))] >= _MANY for end in ends)
        if layer.slot is not None:
            deeper = layer.path[:-1] in containers and layer.slot[0].rstrip("_0123456789") in kinds
        if deeper:
            return f"its layer {'/'.join(layer.path)!r} belongs to no layer"
    return ""


def _series(name: str) -> str:
    """A name without its numbers: block5_conv4 -> block#_conv#, block6a_expand_conv -> block#_expand_conv."""
    return re.sub(r"\d+[a-z]?(?=_|$)|\d+", "#", name)


def _normalization_in(config: Any) -> str | None:
    """The pixel normalisation of a network of this package, from its configuration."""
    from ..layers.pixel_normalization import CONVENTIONS

    for settings in _configurations(config, "PixelNormalization"):
        numbers = {key: settings.get(key) for key in ("mean", "deviation", "channels")}
        known = {
            name: {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()}
            for name, given in CONVENTIONS.items()
        }
        return next((name for name, given in known.items() if given == numbers), None)
    return None


def _configurations(config: Any, layer: str) -> Iterator[dict[str, Any]]:
    """The configurations of the layers of a class in that of a network."""
    stack = [config]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            if str(part.get("class_name", "")).rpartition(">")[2] == layer:
                yield part.get("config", {})
            stack.extend(part.values())
        elif isinstance(part, list):
            stack.extend(part)

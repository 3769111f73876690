"""Writes weights in the formats that people have: torch, safetensors, Keras 2 and 3, .npz."""

import json
import zipfile
from io import BytesIO

import h5py
import numpy as np

from tests.helpers.published_networks import trunk_state
from tests.helpers.torch_files import Program, Raw, old_bytes, rebuild, zip_bytes

CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


def children_state(architecture, seed=0):
    """The state dict of a trunk as a sequence of its children."""
    return {name: np.asarray(v) for name, v in trunk_state(architecture, np.random.default_rng(seed)).items()}


def torchvision_state(architecture, seed=0):
    """A state dict as torchvision names it, with a classifier."""
    state = children_state(architecture, seed)
    if architecture.startswith("resnet"):
        state = {torchvision_name(name): values for name, values in state.items()}
        return state | {"fc.weight": np.ones((7, 2048), "f4"), "fc.bias": np.ones(7, "f4")}
    return state | {"classifier.6.weight": np.ones((7, 4096), "f4"), "classifier.6.bias": np.ones(7, "f4")}


def torchvision_name(name):
    """features.4.0.conv1.weight -> layer1.0.conv1.weight."""
    child, _, rest = name.removeprefix("features.").partition(".")
    return f"{CHILDREN[child]}.{rest}"


def bfloat16(array):
    """The upper halves of float32 numbers, as uint16."""
    return (np.ascontiguousarray(array, "<f4").view("<u4") >> 16).astype("<u2")


class HalfTensors(Program):
    """Writes float32 arrays as tensors of bfloat16."""

    def tensor(self, array):
        if array.dtype != np.float32:
            return super().tensor(array)
        key = str(len(self.storages))
        self.storages[key] = bfloat16(array).tobytes()
        self.counts[key] = array.size
        strides = tuple(int(np.prod(array.shape[axis + 1 :])) for axis in range(array.ndim))
        return rebuild(key, "BFloat16Storage", array.size, 0, array.shape, strides)


def instance(module, name, state=None):
    """An object as Python pickles it: NEWOBJ and its state."""
    program = Program()
    build = b"" if state is None else program._code(state) + b"b"
    return Raw(f"c{module}\n{name}\n".encode() + b")\x81" + build)


def lightning(state, module="model."):
    """A checkpoint of Lightning: weights, an optimizer and objects of many classes."""
    moments = {"step": 3, "exp_avg": np.zeros((2, 3), "f4"), "exp_avg_sq": np.zeros((2, 3), "f4")}
    return {
        "epoch": 3,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {f"{module}{name}": values for name, values in state.items()},
        "optimizer_states": [{"state": {0: moments}, "param_groups": [{"lr": 1e-3, "params": [0]}]}],
        "callbacks": {"ModelCheckpoint": {"best": instance("pathlib", "PosixPath"), "score": np.ones((), "f4")}},
        "hyper_parameters": instance("argparse", "Namespace", {"lr": 0.1, "backbone": "resnet50"}),
        "config": instance("omegaconf.dictconfig", "DictConfig", {"_content": {"a": 1}}),
    }


TORCH_FORMS = {"zip": zip_bytes, "old": old_bytes}


def keras_2(path, arrays, group=""):
    """An .h5 file of Keras 2 from {layer: {weight: values}}, with a classifier; `group` is a model around them."""
    layers = {"flatten": {}, "predictions": {"predictions/kernel": np.ones((3, 4)), "predictions/bias": np.ones(4)}}
    for layer, one in arrays.items():
        layers.setdefault(group or layer, {}).update({f"{layer}/{name}": values for name, values in one.items()})
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.encode() for layer in layers]
        for layer, weights in layers.items():
            inner = file.create_group(layer)
            inner.attrs["weight_names"] = [f"{name}:0".encode() for name in weights]
            for name, values in weights.items():
                inner[f"{name}:0"] = values
    return path


def keras_arrays(model):
    """{layer: {weight: values}} of a model without nested ones."""
    return {
        layer.name: {weight.name: np.asarray(weight) for weight in layer.weights}
        for layer in model.layers
        if layer.weights
    }


def nameless(path):
    """Removes the names of layers from a .weights.h5 or .keras file, as versions before them wrote it."""

    def strip(file):
        file.visititems(lambda _, value: value.attrs.pop("name", None) if "name" in value.attrs else None)

    if path.suffix != ".keras":
        with h5py.File(path, "a") as file:
            strip(file)
        return path
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    content = BytesIO(members["model.weights.h5"])
    with h5py.File(content, "a") as file:
        strip(file)
    members["model.weights.h5"] = content.getvalue()
    return rewrite(path, members)


def rewrite(path, members):
    """Writes a zip of the members, or changes those of a zip that is there."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def change_member(path, name, change):
    """Changes a JSON member of a .keras file."""
    with zipfile.ZipFile(path) as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    members[name] = json.dumps(change(json.loads(members[name]))).encode()
    return rewrite(path, members)

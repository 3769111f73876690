"""Weights from files: every format and way to name tensors gives the same descriptors; what does not fit is named."""

import functools
import shutil

import h5py
import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_retrieval
from keras_retrieval.networks import build as build_module
from tests.helpers import published_networks as published
from tests.helpers.torch_files import Call, Global, old_bytes, save, zip_bytes
from tests.helpers.weight_files import (
    TORCH_FORMS,
    HalfTensors,
    children_state,
    instance,
    keras_2,
    keras_arrays,
    lightning,
    nameless,
    torchvision_state,
)

IMAGE = np.random.default_rng(1).integers(0, 256, (70, 90, 3)).astype("float32")
_make_trunk = build_module._trunk
TRUNKS = {"alexnet": "alexnet", "vgg16": "vgg16", "resnet50": "torchresnet50"}


def described(model, image=IMAGE):
    return published.described(model, image)


_made: dict[tuple[str, bool], keras.Model] = {}


def reused_trunk(name, backbone, weights, before_relu):
    """A trunk that is made once, since that takes seconds. A weight that is not read stays NaN."""
    if (name, before_relu) not in _made:
        _made[name, before_relu] = _make_trunk(name, backbone, None, before_relu)
    trunk = _made[name, before_relu]
    for weight in trunk.weights:
        weight.assign(np.full(weight.shape, np.nan, "float32"))
    return trunk


def built(path, trunk="alexnet", **options):
    """A network that no other one of this process may be compared with, as they have one trunk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_module, "_trunk", reused_trunk)
        return keras_retrieval.build(f"{trunk}_mac", weights=path, **options)


def load(path, trunk="alexnet", **options):
    return described(built(path, trunk, **options))


def expected(architecture, state):
    """The descriptor that torch computes with the state dict of a trunk."""
    return published.l2(published.pool(published.feature_map(architecture, state, IMAGE), "mac"))


@pytest.fixture(scope="module")
def states():
    """The state dicts of torchvision's networks, and the descriptors that they give."""
    found = {}
    for architecture in TRUNKS:
        children = children_state(architecture)
        found[architecture] = (torchvision_state(architecture), expected(architecture, children))
    return found


@pytest.fixture(scope="module")
def alexnet():
    """A network and its descriptor."""
    model = keras_retrieval.build("alexnet_mac", weights=None)
    return model, described(model)


def close(one, other, tolerance=2e-5):
    np.testing.assert_allclose(one, other, atol=tolerance)


# torch


@pytest.mark.parametrize("form", TORCH_FORMS)
@pytest.mark.parametrize("architecture", TRUNKS)
def test_state_dicts_of_torchvision(architecture, form, states, tmp_path):
    state, descriptor = states[architecture]
    close(load(save(tmp_path / "net.pth", state, form), TRUNKS[architecture]), descriptor)


def nested(state, *keys, **beside):
    for key in reversed(keys):
        state = {key: state}
    return {**state, **beside}


def prefixed(state, prefix):
    return {prefix + name: values for name, values in state.items()}


WRAPPED = {
    "module.": lambda s: prefixed(s, "module."),
    "net.": lambda s: prefixed(s, "net."),
    "module.net.backbone.": lambda s: prefixed(s, "module.net.backbone."),
    "_orig_mod.": lambda s: prefixed(s, "_orig_mod."),
    "state_dict": lambda s: nested(s, "state_dict", epoch=3, arch="x", best_acc1=np.ones((), "f4")),
    "model": lambda s: nested(s, "model", optimizer={"state": {0: {"exp_avg": np.ones(3, "f4")}}}),
    "model_state_dict": lambda s: nested(s, "model_state_dict", loss=0.5),
    "lightning": lightning,
    "lightning with net.": lambda s: lightning(s, "net."),
    "nested twice": lambda s: nested(prefixed(s, "module."), "checkpoint", "model"),
    "the same weights twice": lambda s: {"model": dict(s), "copy": prefixed(s, "module.")},
}


@pytest.mark.parametrize("wrapping", WRAPPED)
@pytest.mark.parametrize("form", TORCH_FORMS)
def test_prefixes_and_checkpoints(wrapping, form, states, tmp_path):
    state, descriptor = states["alexnet"]
    path = save(tmp_path / "net.ckpt", WRAPPED[wrapping](state), form)
    close(load(path), descriptor)


@pytest.mark.parametrize("name", ["children", "transformers", "timm"])
def test_other_names_of_a_resnet(name, states, tmp_path):
    _, descriptor = states["resnet50"]
    state = children_state("resnet50")
    if name == "timm":
        state = torchvision_state("resnet50") | {"fc.weight": np.ones((5, 2048), "f4")}
    elif name == "transformers":
        state = {_transformers(key.removeprefix("features.")): value for key, value in state.items()}
    else:  # CosPlace
        state = {key.replace("features.", "backbone."): value for key, value in state.items()}
        state["aggregation.1.p"] = np.full(1, 3, "f4")
    save_file(state, tmp_path / "model.safetensors")
    close(load(tmp_path / "model.safetensors", "torchresnet50"), descriptor)


def _transformers(name):
    """7.2.conv1.weight -> resnet.encoder.stages.3.layers.2.layer.0.convolution.weight."""
    child, *rest = name.split(".")
    kinds = {"conv": "convolution", "bn": "normalization"}
    if int(child) < 2:
        return ".".join(["resnet.embedder.embedder", ("convolution", "normalization")[int(child)], *rest])
    place = f"resnet.encoder.stages.{int(child) - 4}.layers.{rest[0]}"
    if rest[1] == "downsample":
        return f"{place}.shortcut.{('convolution', 'normalization')[int(rest[2])]}.{rest[3]}"
    return f"{place}.layer.{int(rest[1][-1]) - 1}.{kinds[rest[1][:-1]]}.{rest[2]}"


def test_a_whole_pickled_module(states, tmp_path):
    state, descriptor = states["alexnet"]

    def module(tensors, modules=None):
        # nn.Module keeps its parts in three dicts.
        return {"training": True, "_parameters": tensors, "_buffers": {}, "_modules": modules or {}}

    tree = {}
    for key, value in state.items():
        _, number, part = key.split(".")
        if key.startswith("features."):
            tree.setdefault(number, {})[part] = value
    program = HalfTensors()
    program.tensor = super(HalfTensors, program).tensor
    layers = {number: module(tensors) for number, tensors in tree.items()}
    net = {"net": module({}, {"features": module({}, layers)})}
    path = tmp_path / "net.pt"
    path.write_bytes(zip_bytes(net, program))
    close(load(path), descriptor)


@pytest.mark.parametrize("form", TORCH_FORMS)
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_becomes_float32(kind, form, states, tmp_path):
    state, descriptor = states["alexnet"]
    path = tmp_path / "net.pt"
    if kind == "float16":
        save(path, {name: values.astype("f2") for name, values in state.items()}, form)
    else:
        program = HalfTensors()
        path.write_bytes(TORCH_FORMS[form](state, program))
    found = load(path)
    assert found.dtype == np.float32
    assert found @ descriptor > 0.9999
    assert np.abs(found - descriptor).max() > 1e-7


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_safetensors(dtype, states, tmp_path):
    import ml_dtypes

    state, descriptor = states["alexnet"]
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    tensors = {f"module.{name}": values.astype(kind) for name, values in state.items()}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found = load(tmp_path / "model.safetensors")
    assert found @ descriptor > 0.9999
    if dtype == "float32":
        close(found, descriptor)


def densenet_state(model, old=False):
    """The weights of a DenseNet of Keras, named and laid out as in torchvision."""
    state = {}
    for layer in model.layers:
        name = layer.name
        if not layer.weights:
            continue
        stem = {"conv1_conv": "conv0", "conv1_bn": "norm0", "bn": "norm5"}
        if name in stem:
            place = stem[name]
        elif name.startswith("pool"):
            place = f"transition{int(name[4]) - 1}.{'norm' if name.endswith('bn') else 'conv'}"
        else:
            stage, block, inner, kind = name.split("_")
            parts = {"0bn": "norm1", "1conv": "conv1", "1bn": "norm2", "2conv": "conv2"}
            part = parts[inner + kind]
            part = f"{part[:-1]}.{part[-1]}" if old else part
            place = f"denseblock{int(stage[4:]) - 1}.denselayer{block[5:]}.{part}"
        values = [np.asarray(weight) for weight in layer.weights]
        if len(values) == 1:
            state[f"features.{place}.weight"] = values[0].transpose(3, 2, 0, 1)
        else:
            keys = ("weight", "bias", "running_mean", "running_var")
            state |= {f"features.{place}.{key}": value for key, value in zip(keys, values, strict=True)}
    return state


def randomized(trunk, seed=0):
    """Gives every weight, also those that start as 0 or 1, random values."""
    rng = np.random.default_rng(seed)
    for weight in trunk.weights:
        low = 0.5 if "variance" in weight.path or "gamma" in weight.path else -0.1
        if len(weight.shape) == 1:
            weight.assign(rng.uniform(low, low + 0.5, weight.shape))
    return trunk


@pytest.fixture(scope="module")
def densenet():
    """A trunk of random weights, and its descriptor."""
    model = keras_retrieval.build("densenet121_mac", weights=None)
    return randomized(model.get_layer("densenet121")), described(model)


@pytest.mark.parametrize("old", [False, True])
def test_densenet_of_torchvision(old, densenet, tmp_path):
    trunk, descriptor = densenet
    path = save(tmp_path / "densenet.pth", densenet_state(trunk, old))
    close(load(path, "densenet121"), descriptor, 1e-5)


CONVNEXTS = {
    "torchvision": ("features.{0}.{1}.block.{p}", "features.{0}.{1}.layer_scale", "classifier.0"),
    "published": ("stages.{s}.{1}.{p}", "stages.{s}.{1}.gamma", "norm"),
}


def convnext_state(trunk, family):
    state = {}

    def add(place, layer):
        values = [np.asarray(weight) for weight in layer.weights]
        first = values[0]
        order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[first.ndim]
        state[f"{place}.weight"] = first.transpose(order)
        state[f"{place}.bias"] = values[1]

    pattern, scale, last = CONVNEXTS[family]
    torchvision = family == "torchvision"
    parts = {"depthwise_conv": ("0", "dwconv"), "layernorm": ("2", "norm")}
    parts |= {"pointwise_conv_1": ("3", "pwconv1"), "pointwise_conv_2": ("5", "pwconv2")}
    for layer in trunk.layers:
        if isinstance(layer, keras.Sequential):
            inner = [one for one in layer.layers if one.weights]
            stage = 0 if "stem" in layer.name else int(layer.name[-1]) + 1
            for number, one in enumerate(inner):
                add(f"features.{2 * stage}.{number}" if torchvision else f"downsample_layers.{stage}.{number}", one)
        elif "_stage_" in layer.name and layer.weights:
            stage, _, block, *part = layer.name.split("_stage_")[1].split("_")
            place = {"s": stage, "p": parts.get("_".join(part), ("", ""))[not torchvision]}
            numbers = (2 * int(stage) + 1, block)
            if part == ["layer", "scale"]:
                values = np.asarray(layer.weights[0])
                state[scale.format(*numbers, **place)] = values[:, None, None] if torchvision else values
            else:
                add(pattern.format(*numbers, **place), layer)
        elif layer.weights:
            add(last, layer)
    return state | {"classifier.2.weight" if torchvision else "head.weight": np.ones((3, 768), "f4")}


@pytest.mark.parametrize("family", ["torchvision", pytest.param("published", marks=pytest.mark.long)])
def test_convnext_with_its_own_normalisation(family, second_convnext, tmp_path):
    trunk, descriptor = second_convnext
    path = save(tmp_path / "convnext.pth", convnext_state(trunk, family))
    model = built(path, "convnexttiny")
    assert model.get_layer("normalization").get_config()["mean"] == [0, 0, 0], "the trunk normalises by itself"
    close(described(model), descriptor, 1e-5)


def test_torchs_pixels_are_assumed_and_an_option_overrides(states, tmp_path):
    path = save(tmp_path / "vgg.pth", states["vgg16"][0])
    assert keras_retrieval.build("vgg16_mac", weights=path).get_layer("normalization").channels == "rgb"
    other = keras_retrieval.build("vgg16_mac", weights=path, normalization="caffe")
    assert other.get_layer("normalization").channels == "bgr"


# Keras


@pytest.mark.parametrize("group", ["", "alexnet"])
def test_keras_2_with_and_without_a_classifier_and_nested(group, alexnet, tmp_path):
    model, descriptor = alexnet
    arrays = keras_arrays(model.get_layer("alexnet"))
    close(load(keras_2(tmp_path / "net.h5", arrays, group)), descriptor, 1e-6)


def test_a_nested_model_of_one_layer(alexnet, tmp_path):
    model, descriptor = alexnet
    arrays = keras_arrays(model.get_layer("alexnet"))
    path = keras_2(tmp_path / "net.h5", arrays)
    with h5py.File(path, "a") as file:
        file.move("conv3", "sequential_4")
        names = list(file.attrs["layer_names"].astype(str))
        file.attrs["layer_names"] = [("sequential_4" if name == "conv3" else name).encode() for name in names]
    close(load(path), descriptor, 1e-6)


def test_old_names_of_keras_2(alexnet, tmp_path):
    model, descriptor = alexnet
    with h5py.File(tmp_path / "net.h5", "w") as file:
        arrays = keras_arrays(model.get_layer("alexnet"))
        file.attrs["layer_names"] = [name.encode() for name in arrays]
        for layer, one in arrays.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}_b_1:0".encode(), f"{layer}_W_1:0".encode()]
            group[f"{layer}_W_1:0"], group[f"{layer}_b_1:0"] = one["kernel"], one["bias"]
    close(load(tmp_path / "net.h5"), descriptor, 1e-6)


def test_a_list_of_names_in_parts(alexnet, tmp_path):
    model, descriptor = alexnet
    path = keras_2(tmp_path / "net.h5", keras_arrays(model.get_layer("alexnet")))
    with h5py.File(path, "a") as file:
        names = file.attrs.pop("layer_names")
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:2], names[2:]
    close(load(path), descriptor, 1e-6)


@pytest.fixture(scope="module")
def mobile():
    """A network whose layers have 1 to 4 weights, and its descriptor before the whitening."""
    model = keras_retrieval.build("mobilenetv3small_mac", weights=None, dim=5)
    randomized(model.get_layer("mobilenetv3small"))
    return model, described(keras.Model(model.input, model.get_layer("l2").output))


@pytest.mark.parametrize(
    ("suffix", "whole", "named"),
    [(".weights.h5", True, True), (".weights.h5", False, False), (".keras", True, False), (".keras", False, True)],
)
def test_keras_3(suffix, whole, named, mobile, tmp_path):
    model, descriptor = mobile
    path = tmp_path / f"net{suffix}"
    saved = model if whole else model.get_layer("mobilenetv3small")
    saved.save_weights(path) if suffix == ".weights.h5" else saved.save(path)
    if not named:
        nameless(path)
    close(load(path, "mobilenetv3small"), descriptor, 1e-6)


@pytest.fixture(scope="module")
def second_convnext():
    """The second of its kind in a process, whose last LayerNormalization is named by a counter, and its descriptor."""
    for _ in range(2):
        model = keras_retrieval.build("convnexttiny_mac", weights=None)
    trunk = randomized(model.get_layer("convnexttiny"))
    return trunk, described(model)


@pytest.mark.parametrize(
    "suffix", [".h5", *(pytest.param(s, marks=pytest.mark.long) for s in (".weights.h5", ".keras"))]
)
def test_layers_that_keras_named_in_another_process(suffix, second_convnext, tmp_path):
    trunk, descriptor = second_convnext
    path = tmp_path / f"net{suffix}"
    trunk.save_weights(path) if suffix == ".weights.h5" else trunk.save(path)
    close(load(path, "convnexttiny"), descriptor, 1e-6)


def test_a_user_network_around_a_trunk_of_keras_2_layout(densenet, tmp_path):
    trunk, _ = densenet
    arrays = {layer.replace("_", "/", 1) if layer != "bn" else layer: one for layer, one in keras_arrays(trunk).items()}
    path = keras_2(tmp_path / "net.h5", arrays)
    for mine, theirs in zip(built(path, "densenet121").get_layer("densenet121").weights, trunk.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(theirs))


# .npz


@pytest.fixture(scope="module")
def resnet():
    """The arrays of a network of random weights, and its descriptor."""
    model = keras_retrieval.build("torchresnet18_mac", weights=None)
    layers = keras_arrays(randomized(model.get_layer("torchresnet18"))).items()
    return {f"{layer}/{name}": values for layer, one in layers for name, values in one.items()}, described(model)


@pytest.mark.parametrize(
    ("order", "prefix"),
    [
        ("sorted", "torchresnet18/"),
        ("shuffled", ""),
        *(pytest.param(*one, marks=pytest.mark.long) for one in (("as it is", ""), ("reversed", "torchresnet18/"))),
    ],
)
def test_npz_by_names_and_never_by_order(order, prefix, resnet, tmp_path):
    stored, descriptor = resnet
    arrays = {f"{prefix}{name}": values for name, values in stored.items()}
    names = list(arrays)
    if order == "sorted":
        names = sorted(names)
        assert names.index(f"{prefix}bn1/beta") < names.index(f"{prefix}bn1/gamma")
    elif order == "reversed":
        names = names[::-1]
    elif order == "shuffled":
        names = list(np.random.default_rng(0).permutation(names))
    np.savez(tmp_path / "net.npz", **{name: arrays[name] for name in names})
    close(load(tmp_path / "net.npz", "torchresnet18"), descriptor, 1e-6)


def test_npz_of_a_state_dict(states, tmp_path):
    state, descriptor = states["resnet50"]
    np.savez(tmp_path / "net.npz", **dict(sorted(state.items())))
    close(load(tmp_path / "net.npz", "torchresnet50"), descriptor)


def test_npz_whose_names_do_not_say_which_weight_is_which(tmp_path):
    trunk = randomized(keras_retrieval.build("torchresnet18_mac", weights=None).get_layer("torchresnet18"))
    arrays = {}
    for layer, one in keras_arrays(trunk).items():
        arrays |= {f"{layer}/{'abcd'[number]}": values for number, values in enumerate(one.values())}
    np.savez(tmp_path / "net.npz", **arrays)
    refuse(
        tmp_path / "net.npz", "torchresnet18", "'bn1' are named a, b, c, d, which does not say which is which of gamma"
    )


def test_npz_of_renamed_layers_and_without_names(alexnet, tmp_path):
    arrays = keras_arrays(alexnet[0].get_layer("alexnet"))
    np.savez(
        tmp_path / "net.npz", **{f"conv2d_{n}/{k}": v for n, one in enumerate(arrays.values()) for k, v in one.items()}
    )
    refuse(tmp_path / "net.npz", "alexnet", "it has no layer 'conv1'; the file has 'conv2d_0/kernel'")
    np.savez(tmp_path / "list.npz", *[value for one in arrays.values() for value in one.values()])
    refuse(tmp_path / "list.npz", "alexnet", "its arrays have no names, and their order says nothing")
    np.savez(tmp_path / "object.npz", state=np.array({"a": 1}, object))
    refuse(tmp_path / "object.npz", "alexnet", "its array 'state' is a pickled Python object")


# Files that do not fit


def refuse(path, trunk, message, **options):
    with pytest.raises(keras_retrieval.networks.errors.WeightsError) as caught:
        built(path, trunk, **options)
    text = str(caught.value)
    assert str(path) in text
    assert message in text, text
    assert "\n" not in text


def vit(width=384, depth=2, **more):
    state = {"cls_token": (1, 1, width), "pos_embed": (1, 1370, width), "patch_embed.proj.weight": (width, 3, 14, 14)}
    for block in range(depth):
        state |= {f"blocks.{block}.attn.qkv.weight": (3 * width, width), f"blocks.{block}.ls1.gamma": (width,)}
    return {name: np.ones(shape, "f4") for name, shape in (state | more).items()}


def basic_resnet():
    state = {"conv1.weight": np.ones((64, 3, 7, 7), "f4")}
    for stage in range(1, 5):
        for block in range(2):
            for part in (1, 2):
                state[f"layer{stage}.{block}.conv{part}.weight"] = np.ones((8, 8, 3, 3), "f4")
    return state


WRONG = {
    "DINOv2": (
        lambda: vit(),
        "torchresnet50",
        "it has no tensor 'conv1.weight'; the file looks like a DINOv2 of width 384",
    ),
    "DINOv2 with registers": (
        lambda: prefixed(vit(768, register_tokens=(1, 4, 768)), "module."),
        "vgg16",
        "looks like a DINOv2 of width 768 with registers",
    ),
    "DINOv3": (
        lambda: vit(384, **{"rope_embed.periods": (16,)}),
        "alexnet",
        "looks like a DINOv3 of width 384",
    ),
    "ResNet18": (basic_resnet, "torchresnet50", "looks like a ResNet18"),
    "deeper ResNet": (
        lambda: torchvision_state("resnet101"),
        "torchresnet50",
        "its tensor 'layer3.6.conv1.weight' belongs to no layer; the file looks like a ResNet101",
    ),
    "shallower ResNet": (
        lambda: torchvision_state("resnet50"),
        "torchresnet101",
        "it has no tensor 'layer3.6.conv1.weight'; the file looks like a ResNet50",
    ),
    "ResNet of Keras' strides": (
        lambda: torchvision_state("resnet50"),
        "resnet50",
        "the file looks like a ResNet50: build torchresnet50_..",
    ),
    "EfficientNet": (
        lambda: torchvision_state("alexnet"),
        "efficientnetv2b0",
        "which torch computes with other padding",
    ),
    "VGG with batch normalisation": (
        lambda: {f"features.{n}.{k}": np.ones(s, "f4") for n, k, s in _vgg_bn()},
        "vgg16",
        "looks like a VGG16 with batch normalisation",
    ),
    "detector": (
        lambda: {
            "model.0.conv.weight": np.ones((8, 3, 6, 6), "f4"),
            "model.1.cv1.conv.weight": np.ones((8, 8, 1, 1), "f4"),
        },
        "torchresnet50",
        "looks like a detector (YOLO)",
    ),
    "optimizer": (
        lambda: {"state": {0: {"exp_avg": np.ones(3, "f4")}}, "param_groups": [{"lr": 0.1}]},
        "torchresnet50",
        "looks like the state of an optimizer",
    ),
    "squeeze and excitation": (
        lambda: torchvision_state("resnet50") | {"layer1.0.se.fc1.weight": np.ones((8, 8, 1, 1), "f4")},
        "torchresnet50",
        "its tensor 'layer1.0.se.fc1.weight' belongs to no layer",
    ),
    "half a file": (
        lambda: dict(list(torchvision_state("alexnet").items())[:5]),
        "alexnet",
        "it has no tensor 'features.6.bias'",
    ),
    "another shape": (
        lambda: torchvision_state("alexnet") | {"features.3.weight": np.ones((100, 64, 5, 5), "f4")},
        "alexnet",
        "its tensor 'features.3.weight' has shape (100, 64, 5, 5), expected (192, 64, 5, 5)",
    ),
    "not finite": (
        lambda: torchvision_state("alexnet") | {"features.3.bias": np.full(192, np.nan, "f4")},
        "alexnet",
        "its tensor 'features.3.bias' has values that are not finite",
    ),
    "quantised": (
        lambda: torchvision_state("alexnet") | {"features.3.weight": np.ones((192, 64, 5, 5), "i1")},
        "alexnet",
        "is of int8, not of floating-point numbers",
    ),
    "no tensors": (lambda: {"epoch": 3}, "alexnet", "contains no weights"),
}


def _vgg_bn():
    place, inputs = 0, 3
    for width in published.VGG16:
        if not width:
            place += 1
            continue
        yield place, "weight", (width, inputs, 3, 3)
        yield place, "bias", (width,)
        for part in ("weight", "bias", "running_mean", "running_var"):
            yield place + 1, part, (width,)
        place, inputs = place + 3, width


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.long] * (n == "shallower ResNet")) for n in WRONG])
def test_a_file_of_another_network(name, tmp_path):
    make, trunk, message = WRONG[name]
    refuse(save(tmp_path / "net.pth", make()), trunk, message)


def test_the_backbone_of_a_detector_fits(states, tmp_path):
    state, descriptor = states["resnet50"]
    tensors = {f"backbone.body.{name}": values for name, values in state.items() if "num_batches" not in name}
    tensors["rpn.head.conv.0.0.weight"] = np.ones((4, 4, 3, 3), "f4")
    close(load(save(tmp_path / "net.pth", tensors), "torchresnet50"), descriptor)


def test_a_trunk_that_is_there_twice(states, tmp_path):
    state, descriptor = states["alexnet"]
    other = torchvision_state("alexnet", seed=5)
    path = save(tmp_path / "net.ckpt", prefixed(other, "student.") | prefixed(state, "teacher."))
    refuse(
        path,
        "alexnet",
        "more than once, under 'student.features.', 'teacher.features.': choose one with weights_prefix=",
    )
    close(load(path, weights_prefix="teacher."), descriptor)
    assert np.abs(load(path, weights_prefix="student.") - descriptor).max() > 1e-3
    refuse(path, "alexnet", "it has no tensor", weights_prefix="ema.")


@functools.cache
def random_trunk(name):
    return keras_retrieval.build(f"{name}_mac", weights=None, normalization="torch").get_layer(name)


@pytest.mark.parametrize(
    ("saved", "wanted", "suffix"),
    [
        *(("vgg19", "vgg16", ".h5"), ("vgg19", "vgg16", ".weights.h5")),
        pytest.param("resnet101", "resnet50", ".h5", marks=pytest.mark.long),
    ],
)
def test_a_deeper_network_of_keras(saved, wanted, suffix, tmp_path):
    trunk = random_trunk(saved)
    path = tmp_path / f"net{suffix}"
    keras_2(path, keras_arrays(trunk)) if suffix == ".h5" else trunk.save_weights(path)
    name = {"resnet101": "ResNet101", "vgg19": "VGG19"}[saved]
    refuse(path, wanted, f"looks like a {name} of Keras", normalization="torch")
    nameless(path)
    with pytest.raises(ValueError, match="does not fit"):
        built(path, wanted, normalization="torch")


DAMAGED = {
    "empty": (b"", "it is empty: download"),
    "text": (b"hello, these are my weights", "its content is not that of a file of weights"),
    "page": (b"\n<!DOCTYPE html><html>not found</html>", "a web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer"),
    "json": (b'{"weight_map": {}}', "it is JSON"),
    "gzip": (b"\x1f\x8b\x08" + b"\0" * 100, "it is compressed with gzip: unpack it first"),
    "zstd": (b"\x28\xb5\x2f\xfd" + b"\0" * 100, "it is compressed with zstd: unpack it first"),
    "zip": (b"PK\x03\x04" + b"\0" * 100, "download or copy it again"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "download or copy it again"),
    "pickle": (b"\x80\x02}.", "does not start like a file of torch.save"),
    "safetensors": (b'\x40\0\0\0\0\0\0\0{"a":' + b" " * 60, "download or copy it again"),
    "tar": (b"\0" * 257 + b"ustar" + b"\0" * 300, "it is a tar"),
}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("suffix", [".pth", ".h5"])
def test_damaged_files(name, suffix, tmp_path):
    content, message = DAMAGED[name]
    path = tmp_path / f"net{suffix}"
    path.write_bytes(content)
    refuse(path, "alexnet", message)


@pytest.mark.parametrize("kind", ["zip", "old", "safetensors", "h5", "weights.h5", "keras", "npz"])
def test_cut_off_anywhere(kind, alexnet, tmp_path):
    model, _ = alexnet
    trunk, path = model.get_layer("alexnet"), tmp_path / f"net.{kind}"
    state = {"conv1.weight": np.ones((2, 3), "f4")}
    if kind in TORCH_FORMS:
        path.write_bytes(TORCH_FORMS[kind](state))
    elif kind == "safetensors":
        save_file(state, path)
    elif kind == "npz":
        np.savez(path, **state)
    elif kind == "h5":
        keras_2(path, {"conv1": {"kernel": np.ones((2, 3))}})
    else:
        trunk.save_weights(path) if kind == "weights.h5" else trunk.save(path)
    content = path.read_bytes()
    for length in sorted({1, 8, 9, 64, *np.linspace(0, len(content) - 1, 25, dtype=int)}):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"net\..*(again|content is not|start like)"):
            built(path)


def test_folders_and_missing_files(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").touch()
    refuse(tmp_path / "model", "alexnet", "is a folder: give the file of weights in it, such as model.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no weights file at .*gone\.pth"):
        keras_retrieval.build("alexnet_mac", weights=tmp_path / "gone.pth")


def test_the_suffix_does_not_matter(states, tmp_path):
    state, descriptor = states["alexnet"]
    for name in ("net.pth.tar", "net", "pytorch_model.bin"):
        close(load(save(tmp_path / name, state)), descriptor)
    shutil.move(tmp_path / "net", tmp_path / "net.h5")
    close(load(tmp_path / "net.h5"), descriptor)


def test_nothing_in_a_checkpoint_is_executed(states, tmp_path):
    state, _ = states["alexnet"]
    mark = tmp_path / "executed"
    hostile = Call(Global("os", "system"), (f"touch {mark}",))
    for form in (zip_bytes, old_bytes):
        (tmp_path / "net.ckpt").write_bytes(form(state | {"hyper_parameters": hostile}))
        refuse(tmp_path / "net.ckpt", "alexnet", "it refers to 'os.system', which is not allowed")
    unknown = Call(Global("evil.package", "run"), (f"touch {mark}",))
    (tmp_path / "net.ckpt").write_bytes(zip_bytes(state | {"other": unknown, "third": instance("evil", "C")}))
    close(load(tmp_path / "net.ckpt"), states["alexnet"][1])
    assert not mark.exists()


def test_links_to_other_files_are_not_followed(alexnet, tmp_path):
    arrays = keras_arrays(alexnet[0].get_layer("alexnet"))
    keras_2(tmp_path / "other.h5", arrays)
    path = keras_2(tmp_path / "net.h5", arrays)
    with h5py.File(path, "a") as file:
        del file["conv1/conv1/kernel:0"]
        file["conv1/conv1/kernel:0"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/conv1/conv1/kernel:0")
    refuse(path, "alexnet", "its dataset 'conv1/conv1/kernel:0' is missing")

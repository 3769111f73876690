"""Published networks through `convert`: the descriptors of the published code, in each format of file."""

import re

import keras
import numpy as np
import pytest
from keras import ops

import keras_retrieval
from keras_retrieval.inert_files.weights_file import StoredWeights
from keras_retrieval.networks.weights import fill_trunk
from pipelines.networks.convert import convert
from pipelines.networks.errors import ConversionError
from pipelines.networks.published import Published, _recognised, convolutional
from tests.helpers import numpy_convnext
from tests.helpers.published_goldens import FORMS, Goldens, write
from tests.helpers.torch_files import Call, Global, Pickled, save

# golden -> the form of its file, and the name of the network
DESCRIPTORS = {
    "salad_vits14": ("ckpt", "dinov2vits14_salad"),
    "megaloc_small": ("safetensors", "dinov2_megaloc"),
    "boq_dinov2_vits14": ("pth", "dinov2vits14_boq"),
    "boq_resnet50": ("pth old", "torchresnet50layer3_boq"),
    "mixvpr_resnet50": ("ckpt", "torchresnet50layer3_mixvpr"),
    "cosplace_resnet18": ("pth", "torchresnet18_cosplace"),
    "cosplace_vgg16": ("pth old", "vgg16_cosplace"),
    "superglobal_r50": ("pth old", "cvnetresnet50_superglobal"),
    "nanne_vgg16_netvlad": ("pth old", "vgg16_netvlad"),
}
TOKENS = {
    "dinov2_vits14": ("pth", "dinov2vits14_cls"),
    "dinov2_vits14_reg": ("safetensors", "dinov2vits14reg_cls"),
    "dinov3_vits16": ("pth old", "dinov3vits16_cls"),
}
# Their trunks are those of salad_vits14 and dinov2_vits14_reg, and of VGG16 in other files; their poolings are those of
# boq_resnet50 and cosplace_resnet18.
LONG = {"boq_dinov2_vits14", "dinov2_vits14", "cosplace_vgg16"}


def marked_long(names):
    return [pytest.param(name, marks=[pytest.mark.long] * (name in LONG)) for name in names]


@pytest.fixture(scope="module")
def goldens(shared):
    return Goldens(shared / "goldens" / "published")


def numpy(x):
    return ops.convert_to_numpy(x)


def converted(path, tmp_path):
    return keras.saving.load_model(convert(path, tmp_path / "model.keras"))


@pytest.mark.parametrize("name", marked_long(DESCRIPTORS))
def test_descriptors_equal_those_of_the_published_code(goldens, tmp_path, name):
    form, network = DESCRIPTORS[name]
    model = converted(write(tmp_path, goldens.state_dict(name), form), tmp_path)
    assert model.name == network
    found, expected = [], []
    for photo, given in goldens.photos(name):
        found.append(numpy(model(photo))[0])
        expected.append(given["descriptor"])
        np.testing.assert_allclose(found[-1], expected[-1], atol=1e-5)
    if len(found) > 1:  # descriptors of made weights are much alike
        one, other = found[1] - found[0], expected[1] - expected[0]
        assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) >= 0.9999
    if name == "superglobal_r50":  # takes the maximum over scales
        several = keras_retrieval.multi_scale(model, (0.7071, 1.0, 1.4142))
        np.testing.assert_allclose(numpy(several(photo))[0], given["descriptor_3_scales"], atol=1e-5)


def test_dirtorch_and_its_pca(goldens, tmp_path):
    """The descriptor of the published code, and the PCA of scikit-learn, which is not executed."""
    rng = np.random.default_rng(0)
    facts = {
        "mean_": rng.normal(size=64) / 50,
        "components_": np.linalg.qr(rng.normal(size=(64, 64)))[0],
        "explained_variance_": rng.uniform(0.5, 2, 64),
        "whiten": True,
    }
    pickled = {key: Pickled(value) if isinstance(value, np.ndarray) else value for key, value in facts.items()}
    pca = Call(Global("sklearn.decomposition.pca", "PCA"), (), pickled)
    state = {f"module.{name}": array for name, array in goldens.state_dict("dirtorch_resnet18").items()}
    options = {"arch": "resnet18_rmac", "pooling": "gem", "norm_features": False}
    path = save(tmp_path / "net.pt", {"state_dict": state, "model_options": options, "pca": {"Landmarks": pca}}, "zip")
    ((photo, given),) = goldens.photos("dirtorch_resnet18")
    model = converted(path, tmp_path)
    assert model.name == "torchresnet18_gem"
    np.testing.assert_allclose(numpy(model(photo))[0], given["descriptor"], atol=1e-5)
    whitened = keras.saving.load_model(convert(path, tmp_path / "white.keras", lw="Landmarks", dim=20))
    y = (facts["components_"] @ (given["descriptor"] - facts["mean_"]) / facts["explained_variance_"] ** 0.25)[:20]
    np.testing.assert_allclose(numpy(whitened(photo))[0], y / np.linalg.norm(y), atol=1e-4)
    with pytest.raises(ConversionError, match="no PCA 'other': it has 'Landmarks'"):
        convert(path, tmp_path / "white.keras", lw="other")


def check_tokens(model, goldens, name, count=None):
    trunk = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    for photo, given in goldens.photos(name)[:count]:
        tokens = numpy(trunk(model.get_layer("normalization")(photo)))[0]
        patches, token = np.split(tokens, 2, axis=-1)
        for values, key in ((token[0, 0], "cls"), (patches.reshape(-1, patches.shape[-1])[::7], "patches")):
            np.testing.assert_allclose(values, given[key], atol=2e-5 * np.abs(given[key]).max(), rtol=0)
        expected = given["cls"] / np.linalg.norm(given["cls"])
        np.testing.assert_allclose(numpy(model(photo))[0], expected, atol=1e-5)


@pytest.mark.parametrize("name", marked_long(TOKENS))
def test_tokens_equal_those_of_the_published_code(goldens, tmp_path, name):
    form, network = TOKENS[name]
    model = converted(write(tmp_path, goldens.state_dict(name), form), tmp_path)
    assert model.name == network
    check_tokens(model, goldens, name)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_file(goldens, tmp_path, form):
    model = converted(write(tmp_path, goldens.state_dict("dinov2_tiny_swiglu"), form), tmp_path)
    check_tokens(model, goldens, "dinov2_tiny_swiglu", 1)


def test_chunked_blocks_of_training(goldens, tmp_path):
    state = {name.replace("blocks.", "blocks.0."): a for name, a in goldens.state_dict("dinov2_tiny_swiglu").items()}
    check_tokens(converted(write(tmp_path, state, "pth"), tmp_path), goldens, "dinov2_tiny_swiglu", 1)


def hugging_face(state, dinov3=False):
    """A state dict under the names of Hugging Face."""
    names = {
        "cls_token": "embeddings.cls_token",
        "mask_token": "embeddings.mask_token",
        "register_tokens": "embeddings.register_tokens",
        "storage_tokens": "embeddings.register_tokens",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj.": "embeddings.patch_embeddings." if dinov3 else "embeddings.patch_embeddings.projection.",
        "attn.proj.": "attention.o_proj." if dinov3 else "attention.output.dense.",
        "ls1.gamma": "layer_scale1.lambda1",
        "ls2.gamma": "layer_scale2.lambda1",
        "mlp.w12.": "mlp.weights_in.",
        "mlp.w3.": "mlp.weights_out.",
        "blocks.": "layer." if dinov3 else "encoder.layer.",
    }
    if dinov3:
        names |= {"mlp.fc1.": "mlp.up_proj.", "mlp.fc2.": "mlp.down_proj."}
    else:
        names["norm."] = "layernorm."
    parts = ("q_proj", "k_proj", "v_proj") if dinov3 else [f"attention.{part}" for part in ("query", "key", "value")]
    found = {}
    for name, array in state.items():
        if name.endswith("bias_mask") or name.startswith("rope_embed"):
            continue
        for old, new in names.items():
            if old != "norm." or name.startswith(old):
                name = name.replace(old, new)
        if "attn.qkv." in name:
            for part, third in zip(parts, np.split(array, 3), strict=True):
                if not (dinov3 and part == "k_proj" and name.endswith("bias")):
                    found[name.replace("attn.qkv.", f"attention.{part}.")] = third.copy()
        else:
            found[name] = array
    return found


def test_hugging_face_names_of_dinov3(goldens, tmp_path):
    """Two of the blocks, against the names of the published code, whose tokens another test compares."""
    whole = goldens.state_dict("dinov3_vits16")
    state = {name: a for name, a in whole.items() if not re.match(r"blocks\.([2-9]|1\d)\.", name)}
    own = converted(write(tmp_path, state, "safetensors"), tmp_path)
    other = converted(write(tmp_path, hugging_face(state, dinov3=True), "safetensors"), tmp_path)
    assert own.name == other.name
    for one, weight in zip(other.get_weights(), own.get_weights(), strict=True):
        np.testing.assert_array_equal(one, weight)
    ((photo, _), *_) = goldens.photos("dinov3_vits16")
    np.testing.assert_array_equal(numpy(other(photo)), numpy(own(photo)))


@pytest.mark.parametrize("registers", [False, True])
def test_hugging_face_resizes_positions_without_antialiasing_but_for_registers(goldens, tmp_path, registers):
    """At the size of the grid all ways to resize positions agree; elsewhere the file's own is used."""
    state = goldens.state_dict("dinov2_tiny_swiglu")
    if not registers:
        del state["register_tokens"]
    models = {}
    for kind, tensors in (("own", state), ("hf", hugging_face(state))):
        models[kind] = converted(write(tmp_path, tensors, "pth"), tmp_path)
    layers = {kind: model.layers[2].get_layer("tokens") for kind, model in models.items()}
    ways = {"own": "antialias", "hf": "antialias"} if registers else {"own": "offset", "hf": "size"}
    assert {kind: layer.interpolation for kind, layer in layers.items()} == ways
    for kind, layer in layers.items():
        for weight, other in zip(layer.weights, layers["own"].weights, strict=True):
            np.testing.assert_array_equal(numpy(weight), numpy(other), err_msg=kind)
    photos = np.random.default_rng(0).integers(0, 256, (1, 518, 518, 3)).astype("float32")
    whole = {kind: numpy(model(photos)) for kind, model in models.items()}
    np.testing.assert_allclose(whole["hf"], whole["own"], atol=1e-6)
    small = {kind: numpy(model(photos[:, :112, :140])) for kind, model in models.items()}
    assert (np.abs(small["hf"] - small["own"]).max() > 1e-4) != registers


def test_hugging_face_names_of_dinov2_with_registers(goldens, tmp_path):
    """Its positions are antialiased, as by the published code, whose descriptors are those of the goldens."""
    state = hugging_face(goldens.state_dict("dinov2_vits14_reg"))
    check_tokens(converted(write(tmp_path, state, "safetensors"), tmp_path), goldens, "dinov2_vits14_reg")


def test_convnexts_of_dinov3_have_the_normalised_mean_as_descriptor(tmp_path, monkeypatch):
    """From the weights folder by name, against a computation in NumPy; and under the names of Hugging Face."""
    state = numpy_convnext.made_state()
    monkeypatch.setenv("KERAS_RETRIEVAL_WEIGHTS", str(tmp_path))
    save(tmp_path / "dinov3_convnext_tiny_pretrain_lvd1689m-21b726bb.pth", state, "zip")
    model = keras_retrieval.build("dinov3convnexttiny")
    assert model.name == "convnexttiny_spocnorm"
    photos = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3)).astype("float32")
    expected = [numpy_convnext.descriptor(state, photo) for photo in photos]
    found = numpy(model(photos))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    one, other = found[1] - found[0], expected[1] - expected[0]
    assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) >= 0.9999

    tensors = numpy_convnext.hugging_face(state)
    assert _recognised({name: array.shape for name, array in tensors.items()}) == Published("spocnorm")
    assert convolutional({name: array.shape for name, array in tensors.items()}) == "convnexttiny"
    for part in ("convnexttiny", "pooling"):
        model.get_layer(part).set_weights([np.zeros_like(weight) for weight in model.get_layer(part).get_weights()])
    fill_trunk(model.get_layer("convnexttiny"), StoredWeights(tensors, [], torch=True), "file")
    model.get_layer("pooling").set_weights([tensors["layer_norm.weight"], tensors["layer_norm.bias"]])
    np.testing.assert_allclose(numpy(model(photos)), expected, atol=1e-5)


def test_a_convnext_with_a_classifier_is_no_descriptor():
    shapes = {name: array.shape for name, array in numpy_convnext.made_state().items()}
    assert _recognised(shapes | {"head.weight": (1000, 768)}) is None


def test_what_does_not_fit_is_named(goldens, tmp_path):
    whole = goldens.state_dict("dinov2_tiny_swiglu")
    cases = {
        "has no tensor 'blocks.1.attn.proj.weight'": {
            k: v for k, v in whole.items() if k != "blocks.1.attn.proj.weight"
        },
        "has no tensor 'pos_embed', the positions of a DINOv2": {
            k: v for k, v in whole.items() if k not in ("pos_embed", "register_tokens")
        },
        "without layer scale": {k: v for k, v in whole.items() if ".ls1." not in k},
        "not finite": whole | {"norm.bias": whole["norm.bias"] * np.nan},
        "several vision transformers, 'student.', 'teacher.'": {
            f"{who}.{name}": array for who in ("student", "teacher") for name, array in whole.items()
        },
        "looks like a ResNet18, which is none of": {
            name.removeprefix("backbone."): array
            for name, array in goldens.state_dict("cosplace_resnet18").items()
            if name.startswith("backbone")
        },
    }
    for message, state in cases.items():
        path = write(tmp_path, state, "safetensors")
        with pytest.raises(ConversionError, match=message) as caught:
            convert(path, tmp_path / "model.keras")
        assert str(path) in str(caught.value)

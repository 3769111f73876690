"""Networks by name: every trunk and pooling, weights from files, whitening, scales, saving."""

import re
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest
from keras import ops

import keras_retrieval
from keras_retrieval import layers
from keras_retrieval.networks import torchvision_trunks
from keras_retrieval.networks.backbones import BACKBONES, TRANSFORMERS
from keras_retrieval.networks.build import POOLINGS, options_of_pooling, reads_class_token
from keras_retrieval.networks.names import CLASS_TOKEN, NETWORKS, POOLING_OPTIONS, misfit

DIMENSIONS = {"alexnet": 256, "vgg16": 512, "vgg19": 512, "densenet121": 1024, "mobilenetv3small": 576}
SMALL = ["alexnet", "vgg16"]


def photos(seed=0, shape=(2, 64, 96, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape).astype("float32")


def numpy(x):
    return ops.convert_to_numpy(x)


def norms(y):
    return np.linalg.norm(numpy(y), axis=-1)


def _family(name):
    """The trunks of a family run the same code, and differ only in depth and width."""
    if name in TRANSFORMERS:
        return f"{name[:6]}, gated {TRANSFORMERS[name].gated}, registers {TRANSFORMERS[name].registers}"
    return re.sub(r"(\d+|tiny|small|base|large|v2[bsml]?\d*)$", "", name)


# Transformers of more than 50 million weights differ from the small ones in their numbers only.
_LARGE = {name for name, shape in TRANSFORMERS.items() if shape.width > 384}
FIRST = list({_family(name): name for name in reversed(BACKBONES) if name not in _LARGE}.values())
NAMED = [name for name in BACKBONES if name not in TRANSFORMERS and name != "alexnet"]
# Smaller tests run their code: that of NAMED for Keras' own, tests of published files for ConvNeXt and transformers.
LONG = {"densenet121", "efficientnetv2b0", "convnexttiny", "dinov2vits14", "dinov2vits14reg", "dinov3vits16"}
LONG |= {"torchresnet50layer3", "cvnetresnet50"}  # stages and numbers of the ResNets that stay


def marked_long(names, long):
    return [pytest.param(name, marks=[pytest.mark.long] * (name in long)) for name in names]


@pytest.mark.parametrize("backbone", marked_long(FIRST, LONG))
def test_a_trunk_of_each_family_describes_photos_of_any_size(backbone):
    model = keras_retrieval.build(f"{backbone}_gem", weights=None)
    assert model.input_shape == (None, None, None, 3)
    assert model.output_shape[-1] == DIMENSIONS.get(backbone, model.output_shape[-1])
    for size in ((64, 96), (75, 64)):
        y = numpy(model(photos(shape=(1, *size, 3)), training=False))
        assert y.shape == (1, model.output_shape[-1])
        assert y.dtype == "float32"
        # The maps of random MobileNets are near 0, where the epsilons of GeM and L2 matter.
        assert 0.9 < norms(y)[0] < 1 + 1e-6
    keras.backend.clear_session()


@pytest.mark.parametrize("backbone", NAMED)
def test_trunks_are_those_of_their_names(backbone, monkeypatch):
    made = []
    x = keras.Input((None, None, 3))
    small = keras.Model(x, keras.layers.ReLU()(x))

    def application(**options):
        made.append(options)
        return small

    for name in dir(keras.applications):
        if name.lower() == backbone:
            monkeypatch.setattr(keras.applications, name, application)
    monkeypatch.setattr(torchvision_trunks, "torch_resnet", lambda *arguments: made.append(arguments))
    BACKBONES[backbone].make(None)
    (made,) = made
    if isinstance(made, dict):
        assert made == {"include_top": False, "weights": None, "input_shape": (None, None, 3)}
    else:
        blocks, name, basic, floor = (*made, False, 0.0)[:4] if len(made) < 4 else made
        assert (name, floor) == (backbone, 0.014 if "cvnet" in backbone else 0.0)
        if backbone.endswith("layer3"):
            assert blocks == (3, 4, 6)
        else:
            assert 2 + (2 if basic else 3) * sum(blocks) == int(re.sub(r"\D", "", backbone))


# spocnorm needs a ConvNeXt, of 28 million weights: test_layers saves its layer, and test_published describes with both.
OF_MAPS = [pooling for pooling in POOLINGS if not reads_class_token(pooling)]


@pytest.mark.parametrize("pooling", marked_long(OF_MAPS, {"spocnorm"}))
def test_every_pooling_describes_and_saves(pooling, tmp_path):
    trunk = next(name for name in ("alexnet", "convnexttiny") if not misfit(name, pooling))
    model = keras_retrieval.build(f"{trunk}_{pooling}", weights=None)
    y = numpy(model(photos(), training=False))
    np.testing.assert_allclose(norms(y), 1, atol=1e-3)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy(loaded(photos(), training=False)), y)


def test_list_models_is_every_backbone_with_every_pooling_that_fits_and_published_networks():
    names = keras_retrieval.list_models()
    assert len(names) == len(set(names))
    token = sum(reads_class_token(pooling) for pooling in POOLINGS)
    convnext = sum(name.startswith("convnext") for name in BACKBONES)
    pairs = len(BACKBONES) * (len(POOLINGS) - 1) + convnext - len(TRANSFORMERS)  # spocnorm and edgemac
    assert len(names) == pairs - token * (len(BACKBONES) - len(TRANSFORMERS)) + len(NETWORKS)
    assert {"vgg16_gem", "megaloc"} <= set(names)
    assert {name for name, _ in NETWORKS.values()} <= set(names)


def test_the_name_of_a_published_network_stands_for_its_trunk_and_pooling():
    model = keras_retrieval.build("mixvpr", weights=None, mixers=1)
    assert model.name == "torchresnet50layer3_mixvpr"
    assert model.output_shape == (None, 4096)
    assert keras_retrieval.build("eigenplaces", weights=None).output_shape == (None, 2048)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vgg_16_gem", "unknown backbone 'vgg_16'.*nearest is 'vgg16'.*alexnet"),
        ("vgg16_gme", "unknown pooling 'gme'.*nearest is 'gem'.*netvlad"),
        ("vgg16", "'vgg16' is a trunk.*such as vgg16_gem"),
        ("vgg", "unknown network 'vgg'"),
        ("", "unknown network ''"),
        ("vgg16_gem_x", "unknown backbone 'vgg16_gem'"),
    ],
)
def test_an_unknown_part_is_answered_with_the_known_ones(name, message):
    with pytest.raises(ValueError, match=message):
        keras_retrieval.build(name, weights=None)


def test_pooling_options_reach_the_layer():
    assert (
        keras_retrieval.build("alexnet_gem", weights=None, p=2.0, trainable_p=False).get_layer("pooling").initial_p == 2
    )
    assert keras_retrieval.build("alexnet_netvlad", weights=None, clusters=7).output_shape == (None, 7 * 256)
    assert keras_retrieval.build("alexnet_rmac", weights=None, levels=2).get_layer("pooling").levels == 2
    frozen = keras_retrieval.build("alexnet_rgem", weights=None, trainable_p=False).get_layer("pooling")
    assert not frozen.trainable_weights
    regional = keras_retrieval.build("alexnet_rgem", weights=None, p=4.0, p_speed=10).get_layer("pooling").pooling
    assert (regional.initial_p, regional.p_speed) == (4, 10)
    assert keras_retrieval.build("alexnet_gemmp", weights=None, p_speed=100).get_layer("pooling").p_speed == 100
    for name in ("alexnet_gem", "alexnet_rgem", "alexnet_rmac", "alexnet_mac"):
        with pytest.raises(ValueError, match="does not take clusters; it takes"):
            keras_retrieval.build(name, weights=None, clusters=7)
    with pytest.raises(ValueError, match="True or False"):
        keras_retrieval.build("alexnet_gem", weights=None, whitening=layers.Whitening(5))


def test_netvlad_takes_vgg_before_its_last_relu_and_the_others_after():
    for pooling, activation in (("netvlad", "linear"), ("gem", "relu")):
        model = keras_retrieval.build(f"vgg16_{pooling}", weights=None)
        last = model.get_layer("vgg16").layers[-1]
        assert last.name == "block5_conv3"
        assert last.activation.__name__ == activation


@pytest.mark.parametrize(
    "name",
    marked_long(
        ["alexnet_netvlad", "torchresnet18_netvlad", "vgg16_netvlad", "resnet50_netvlad"], {"resnet50_netvlad"}
    ),
)
def test_negative_activations_reach_netvlad(name, tmp_path):
    model = keras_retrieval.build(name, weights=None)
    model.save(tmp_path / "model.keras")
    for each in (model, keras.saving.load_model(tmp_path / "model.keras")):
        assert numpy(each.get_layer(name.split("_")[0])(photos() - 128)).min() < 0


def test_whitening_shortens_and_starts_as_the_identity():
    whole = keras_retrieval.build("alexnet_gem", weights=None)
    whitened = keras_retrieval.build("alexnet_gem", weights=None, dim=100)
    assert whitened.output_shape == (None, 100)
    assert keras_retrieval.build("alexnet_gem", weights=None, whitening=True).output_shape == (None, 256)
    whitened.get_layer("alexnet").set_weights(whole.get_layer("alexnet").get_weights())
    cut = numpy(whole(photos()))[:, :100]
    np.testing.assert_allclose(numpy(whitened(photos())), cut / np.linalg.norm(cut, axis=1, keepdims=True), atol=1e-4)


def test_mixed_precision_keeps_descriptors_in_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = keras_retrieval.build("alexnet_gem", weights=None, dim=64)
        assert model.get_layer("alexnet").layers[-1].compute_dtype == "bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    y = model(photos())
    assert keras.backend.standardize_dtype(y.dtype) == "float32"
    np.testing.assert_allclose(norms(y), 1, atol=1e-3)


# Pixels


@pytest.mark.parametrize("backbone", SMALL)
def test_pixel_normalisation_is_inside_and_saved(backbone, tmp_path):
    model = keras_retrieval.build(f"{backbone}_gem", weights=None, normalization="caffe")
    y = numpy(model(photos()))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("normalization").channels == "bgr"
    assert model.get_layer("normalization").get_config() == loaded.get_layer("normalization").get_config()
    np.testing.assert_array_equal(numpy(loaded(photos())), y)
    other = keras_retrieval.build(f"{backbone}_gem", weights=None, normalization="none")
    other.set_weights(model.get_weights())
    assert np.abs(numpy(other(photos())) - y).max() > 1e-3


def test_unknown_normalisation():
    with pytest.raises(ValueError, match="torch, caffe, none, torch-bgr"):
        keras_retrieval.build("alexnet_gem", weights=None, normalization="tf")


# Weights


def write_h5(path, trunk, change=None):
    """Writes weights in the format of keras.applications: a group per layer with its weights in order."""
    arrays = {layer.name: layer.get_weights() for layer in trunk.layers}
    if change:
        change(arrays)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in arrays]
        for name, weights in arrays.items():
            group = file.create_group(name)
            keys = [f"{name}/w{number}:0" for number in range(len(weights))]
            group.attrs["weight_names"] = [key.encode() for key in keys]
            for key, weight in zip(keys, weights, strict=True):
                group[key] = weight


def write_npz(path, trunk, change=None, **more):
    arrays = {layer.name: layer.get_weights() for layer in trunk.layers if layer.weights}
    if change:
        change(arrays)
    flat = {f"{name}/{number}": weight for name, weights in arrays.items() for number, weight in enumerate(weights)}
    np.savez(path, **flat, **more)


WRITERS = {".h5": write_h5, ".npz": write_npz}


@pytest.fixture(scope="module")
def alexnet():
    return keras_retrieval.build("alexnet_gem", weights=None)


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".keras"])
def test_weights_from_a_file(suffix, alexnet, tmp_path):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".keras":
        alexnet.save(path)
    else:
        WRITERS[suffix](path, alexnet.get_layer("alexnet"))
    model = keras_retrieval.build("alexnet_mac", weights=path)
    for mine, theirs in zip(model.get_layer("alexnet").weights, alexnet.get_layer("alexnet").weights, strict=True):
        np.testing.assert_array_equal(numpy(mine), numpy(theirs))


def drop(arrays):
    del arrays["conv3"]


def reshape(arrays):
    arrays["conv2"][0] = arrays["conv2"][0][..., :100]


def lose_bias(arrays):
    arrays["conv5"].pop()


def spoil(arrays):
    arrays["conv4"][0] = arrays["conv4"][0] * np.nan


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, "no layer 'conv3'"),
        (reshape, r"layer 'conv2' needs weights of .*192.*the file has .*100"),
        (lose_bias, "layer 'conv5' needs weights of"),
        (spoil, "layer 'conv4' has values that are not finite"),
    ],
)
def test_a_file_that_does_not_fit_names_the_layer(suffix, change, message, alexnet, tmp_path):
    path = tmp_path / f"weights{suffix}"
    WRITERS[suffix](path, alexnet.get_layer("alexnet"), change)
    with pytest.raises(ValueError, match=message) as caught:
        keras_retrieval.build("alexnet_gem", weights=path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".keras"])
@pytest.mark.parametrize("content", [b"", b"not a file of weights", b"PK\x03\x04" + b"\0" * 100])
def test_a_damaged_file_of_weights(suffix, content, tmp_path):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as a file of weights: it"):
        keras_retrieval.build("alexnet_gem", weights=path)


def test_weights_of_another_kind_or_none_at_all(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights file at .*gone\.h5"):
        keras_retrieval.build("alexnet_gem", weights=tmp_path / "gone.h5")
    (tmp_path / "weights.pth").write_bytes(b"x")
    with pytest.raises(ValueError, match="its content is not that of a file of weights: read are torch's"):
        keras_retrieval.build("alexnet_gem", weights=tmp_path / "weights.pth")
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(ValueError, match="neither layer_names nor groups named vars"):
        keras_retrieval.build("alexnet_gem", weights=tmp_path / "empty.h5")
    with pytest.raises(ValueError, match="no ImageNet weights of alexnet"):
        keras_retrieval.build("alexnet_gem", weights="imagenet")
    with pytest.raises(FileNotFoundError, match=r"alexnet-owt-7be5be79\.pth is not in .*weights get alexnet"):
        keras_retrieval.build("alexnet_gem")


def test_a_download_that_fails_says_what_to_do(monkeypatch):
    def fail(**_):
        raise Exception("URL fetch failure on https://example: 404")

    monkeypatch.setattr(keras.applications, "VGG16", fail)
    with pytest.raises(ConnectionError, match=r"weights=None \(random\) or the path"):
        keras_retrieval.build("vgg16_gem")


def test_the_normalisation_travels_with_the_weights(alexnet, tmp_path):
    vgg = keras_retrieval.build("vgg16_gem", weights=None, normalization="torch")
    vgg.save(tmp_path / "vgg.keras")
    again = keras_retrieval.build("vgg16_mac", weights=tmp_path / "vgg.keras")
    assert again.get_layer("normalization").channels == "rgb"
    write_npz(tmp_path / "stated.npz", vgg.get_layer("vgg16"), normalization="torch")
    stated = keras_retrieval.build("vgg16_mac", weights=tmp_path / "stated.npz")
    assert stated.get_layer("normalization").channels == "rgb"
    write_npz(tmp_path / "silent.npz", vgg.get_layer("vgg16"))
    with pytest.raises(ValueError, match=r"normalization='caffe' .*normalization='torch'"):
        keras_retrieval.build("vgg16_mac", weights=tmp_path / "silent.npz")
    told = keras_retrieval.build("vgg16_mac", weights=tmp_path / "silent.npz", normalization="caffe")
    assert told.get_layer("normalization").channels == "bgr"


def test_load_needs_no_import_of_layers_and_names_what_is_wrong(tmp_path):
    keras_retrieval.build("alexnet_rmac", weights=None).save(tmp_path / "model.keras")
    code = "import keras_retrieval as k, sys; assert 'keras' not in sys.modules; print(k.load(sys.argv[1]).name)"
    run = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "model.keras"], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "alexnet_rmac"
    (tmp_path / "broken.keras").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"broken\.keras could not be loaded"):
        keras_retrieval.load(tmp_path / "broken.keras")
    for missing in ("gone.keras", "model.h5"):
        with pytest.raises(ValueError, match="no network at"):
            keras_retrieval.load(tmp_path / missing)


# Scales


@pytest.mark.parametrize("pooling", ["gem", "mac", "gemmp"])
def test_multi_scale_is_the_power_mean_of_the_scales(pooling):
    model = keras_retrieval.build(f"alexnet_{pooling}", weights=None, **({"p": 2.5} if pooling == "gem" else {}))
    x = photos(shape=(2, 128, 160, 3))
    scales = (1.0, 0.5)
    both = keras_retrieval.multi_scale(model, scales)
    power = 2.5 if pooling == "gem" else 1.0
    half = layers.Rescaling(0.5)(x)
    mean = np.mean([numpy(model(x)) ** power, numpy(model(half)) ** power], axis=0) ** (1 / power)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(numpy(both(x)), expected, atol=1e-5)


def test_whitening_comes_after_the_scales_are_joined():
    model = keras_retrieval.build("alexnet_gem", weights=None, dim=20)
    rng = np.random.default_rng(0)
    m, P = rng.normal(size=256) * 0.01, rng.normal(size=(20, 256))
    model.get_layer("whitening").set_projection(m, P)
    plain = keras.Model(model.input, model.get_layer("l2").output)
    x = photos(shape=(2, 128, 160, 3))
    joined = numpy(keras_retrieval.multi_scale(plain, (1.0, 0.7, 0.5), power=3.0)(x))
    y = (joined - m) @ P.T
    expected = y / np.linalg.norm(y, axis=1, keepdims=True)
    np.testing.assert_allclose(numpy(keras_retrieval.multi_scale(model, (1.0, 0.7, 0.5))(x)), expected, atol=1e-4)


def test_mirrored_photos_join_at_every_scale():
    model = keras_retrieval.build("alexnet_mac", weights=None, dim=30)
    x = photos(shape=(2, 128, 160, 3))
    plain = keras.Model(model.input, model.get_layer("l2").output)
    views = [layers.Rescaling(scale)(image) for scale in (1.0, 0.5) for image in (x, x[:, :, ::-1])]
    mean = np.mean([numpy(plain(view)) for view in views], axis=0)
    joined = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    both = keras_retrieval.multi_scale(plain, (1.0, 0.5), mirror=True)
    np.testing.assert_allclose(numpy(both(x)), joined, atol=1e-5)
    whitened = numpy(keras_retrieval.multi_scale(model, (1.0, 0.5), mirror=True)(x))
    np.testing.assert_allclose(
        whitened, joined[:, :30] / np.linalg.norm(joined[:, :30], axis=1, keepdims=True), atol=1e-4
    )
    alone = keras_retrieval.multi_scale(plain, (1.0,), mirror=True)
    np.testing.assert_allclose(numpy(alone(x)), numpy(alone(x[:, :, ::-1])), atol=1e-5)


def test_one_scale_of_one_is_the_model_itself_and_scales_are_checked():
    model = keras_retrieval.build("alexnet_gem", weights=None)
    assert keras_retrieval.multi_scale(model, (1.0,)) is model
    x = photos(shape=(1, 128, 160, 3))
    single = keras_retrieval.multi_scale(model, (0.5,))
    np.testing.assert_allclose(numpy(single(x)), numpy(model(layers.Rescaling(0.5)(x))), atol=1e-5)
    for wrong in ((), (0.0,), (1.0, -1.0)):
        with pytest.raises(ValueError, match="scales"):
            keras_retrieval.multi_scale(model, wrong)


def test_the_package_names_what_it_has():
    assert {"build", "layers", "losses", "list_models"} <= set(dir(keras_retrieval))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = keras_retrieval.nothing
    for name in keras_retrieval.__all__:
        assert getattr(keras_retrieval, name) is not None


# Real weights


def test_real_vgg16_finds_the_same_object(shared):
    """UKBench has four photos of each object, which must be nearer to each other than to other photos."""
    from pipelines.photos.reader import read_photo

    weights = shared / "data" / "weights" / "vgg16_imagenet_torchvision_notop.h5"
    model = keras_retrieval.build("vgg16_gem", weights=weights, normalization="torch")
    paths = sorted((shared / "data" / "eval" / "ukbench_mini").rglob("*.jpg"))[:16]
    rows = np.concatenate([numpy(model(read_photo(path, size=224)[None], training=False)) for path in paths])
    scores = rows @ rows.T
    nearest = np.argsort(-scores, axis=1)[:, :4]
    right = (nearest // 4 == np.arange(16)[:, None] // 4).mean()
    assert right > 0.85


def test_the_table_of_names_is_that_of_the_layers():
    assert {pooling: tuple(options_of_pooling(pooling)) for pooling in POOLINGS} == dict(POOLING_OPTIONS)
    assert [pooling for pooling in POOLINGS if reads_class_token(pooling)] == list(CLASS_TOKEN)


def test_names_are_checked_without_keras():
    code = "import sys; from keras_retrieval.networks.names import split_name; split_name('vgg16_gem')\n"
    code += "assert not {'keras', 'tensorflow', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

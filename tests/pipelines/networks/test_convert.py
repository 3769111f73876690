import functools

import keras
import numpy as np
import pytest

import keras_retrieval
from keras_retrieval.errors import ArgumentError
from keras_retrieval.networks.regional import with_whitening
from pipelines.networks import cirtorch, matconvnet
from pipelines.networks.convert import convert
from pipelines.networks.errors import ConversionError
from pipelines.networks.torch_file import TorchFileError, read_torch
from tests.helpers import published_networks as published
from tests.helpers.torch_files import Pickled, save

GOLDENS = ("alexnet_gem_cirtorch", "alexnet_gem_regional_whitened_cirtorch")


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(1).integers(0, 256, (75, 107, 3)).astype("uint8")


def describe(model, image):
    return keras.ops.convert_to_numpy(model(image[None].astype("float32")))[0]


@pytest.mark.parametrize("name", GOLDENS)
def test_goldens(shared, tmp_path, name):
    """Networks and descriptors of the published code: cosine and difference, at one scale and at three."""
    model = keras.saving.load_model(convert(shared / "goldens" / f"{name}.pth", tmp_path / "net.keras"))
    with np.load(shared / "goldens" / f"{name}.npz") as golden:
        scales = keras_retrieval.multi_scale(model, antialias=False)
        for number in (0, 1):
            for network, key in ((model, f"descriptor{number}"), (scales, f"descriptor{number}_multiscale")):
                found, expected = describe(network, golden[f"image{number}"]), golden[key]
                assert found @ expected / np.linalg.norm(found) / np.linalg.norm(expected) >= 0.99999
                np.testing.assert_allclose(found, expected, atol=2e-6)


NETWORKS: list[tuple[str, str, dict]] = [
    ("alexnet", "mac", {}),
    ("alexnet", "spoc", {"whitening": True}),
    ("alexnet", "gemmp", {}),
    ("alexnet", "rmac", {"local_whitening": True}),
    ("alexnet", "gem", {"regional": True, "local_whitening": True}),
    ("alexnet", "mac", {"regional": True, "whitening": True}),
    ("alexnet", "gemmp", {"regional": True}),
    ("vgg16", "gem", {"whitening": True}),
    ("resnet50", "gem", {"whitening": True}),
    ("resnet101", "gem", {}),
]


@pytest.mark.parametrize(("architecture", "pooling", "meta"), NETWORKS)
def test_computes_what_the_published_network_does(image, architecture, pooling, meta):
    saved = published.checkpoint(architecture, pooling, **meta)
    found, expected = describe(cirtorch.to_keras(saved), image), published.descriptor(saved, image)
    assert np.std(expected) > 1e-3
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_every_tensor_of_resnet152_has_its_place():
    """Names and shapes; what such a network computes, ResNet50 and ResNet101 show."""
    with keras.StatelessScope(initialize_variables=False):  # shapes without values, which take seconds
        trunk = keras_retrieval.build("torchresnet152_gem", weights=None).get_layer("torchresnet152")
    state = published.checkpoint("resnet152", "mac")["state_dict"]
    tensors = cirtorch.Tensors(state)
    found = cirtorch.trunk_weights("resnet152", trunk, tensors)
    tensors.finish()
    shapes = {layer.name: [weight.shape for weight in layer.weights] for layer in trunk.layers if layer.weights}
    assert {name: [array.shape for array in arrays] for name, arrays in found.items()} == shapes
    np.testing.assert_array_equal(found["layer3_35_conv2"][0][1, 2], state["features.6.35.conv2.weight"][:, :, 1, 2].T)


def test_own_mean_and_deviation(image):
    saved = published.checkpoint("alexnet", "mac")
    plain = describe(cirtorch.to_keras(saved), image)
    saved["meta"] |= {"mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3]}
    model = cirtorch.to_keras(saved)
    pixels = keras.ops.convert_to_numpy(model.get_layer("normalization")(np.full((1, 1, 1, 3), 51.0)))
    np.testing.assert_allclose(pixels.ravel(), [-3, -1, -1 / 3], rtol=1e-5)
    assert not np.allclose(plain, describe(model, image))


@pytest.fixture(scope="module")
def lw():
    rng = np.random.default_rng(5)
    return {
        key: {"m": rng.normal(size=(256, 1)) / 50, "P": np.linalg.qr(rng.normal(size=(256, 256)))[0]}
        for key in ("ss", "ms")
    }


def pickled(tree):
    return {key: pickled(value) if isinstance(value, dict) else Pickled(value) for key, value in tree.items()}


def whiten(v, lw, dim=None):
    v = lw["P"][:dim] @ (v - lw["m"][:, 0])
    return v / (np.linalg.norm(v) + 1e-6)


def test_whitening_of_the_meta_and_of_a_file(tmp_path, image, lw):
    saved = published.checkpoint("alexnet", "gem")
    plain = published.descriptor(saved, image)
    saved["meta"]["Lw"] = {"retrieval-SfM-120k": pickled(lw)}
    network = save(tmp_path / "net.pth", saved, "old")
    both = save(tmp_path / "both.pth", pickled(lw), "old")
    single = save(tmp_path / "single.pth", {"m": lw["ss"]["m"], "P": lw["ss"]["P"]}, "zip")
    cases: list[tuple[dict, str, int | None]] = [
        ({"lw": "retrieval-SfM-120k"}, "ss", None),
        ({"lw": "retrieval-SfM-120k", "lw_scales": "ms", "dim": 64}, "ms", 64),
        ({"whitening": both, "lw_scales": "ms"}, "ms", None),
        ({"whitening": single, "dim": 32}, "ss", 32),
    ]
    for options, scales, dim in cases:
        model = keras.saving.load_model(convert(network, tmp_path / "net.keras", **options))
        np.testing.assert_allclose(describe(model, image), whiten(plain, lw[scales], dim), atol=1e-5)


def test_whitening_comes_after_the_scales_are_joined_and_fc_before(image, lw):
    saved = published.checkpoint("alexnet", "gem", whitening=True)
    model = cirtorch.to_keras(saved)
    joined = describe(keras_retrieval.multi_scale(model, (1.0, 0.8), antialias=False), image)
    one, other = (
        describe(keras_retrieval.multi_scale(model, (scale,), antialias=False), image) for scale in (1.0, 0.8)
    )
    np.testing.assert_allclose(joined, (one + other) / np.linalg.norm(one + other), atol=1e-5)
    whole = with_whitening(model, lw["ms"]["m"], lw["ms"]["P"], 40)
    found = describe(keras_retrieval.multi_scale(whole, (1.0, 0.8), antialias=False), image)
    np.testing.assert_allclose(found, whiten(joined, lw["ms"], 40), atol=1e-5)


def changed(**state):
    def change(saved):
        for name, value in state.items():
            name = name.replace("__", ".")
            if value is None:
                del saved["state_dict"][name]
            else:
                saved["state_dict"][name] = value

    return change


def with_meta(**meta):
    return lambda saved: saved["meta"].update(meta)


REFUSED = {
    "unknown architecture": (with_meta(architecture="densenet121"), "'densenet121' is not one of alexnet, vgg16"),
    "architecture is no text": (with_meta(architecture=["a"]), "is not one of alexnet"),
    "unknown pooling": (with_meta(pooling="max"), "pooling 'max' is not one of mac, spoc"),
    "regional R-MAC": (with_meta(pooling="rmac", regional=True), "R-MAC of R-MAC"),
    "another architecture": (with_meta(architecture="vgg16"), r"'features.0.weight' has shape \(64, 3, 11, 11\)"),
    "missing tensor": (changed(features__3__bias=None), r"no tensor 'features.3.bias' of shape \(192,\)"),
    "tensor left over": (changed(classifier__weight=np.zeros(3, "f4")), "1 of its tensors .* 'classifier.weight'"),
    "whitening not said": (changed(whiten__bias=np.zeros(256, "f4")), "'whiten.bias'"),
    "whitening missing": (with_meta(whitening=True), "no tensor 'whiten.weight'"),
    "regional missing": (with_meta(regional=True), "no tensor 'pool.rpool.p'"),
    "other shape": (
        changed(features__3__weight=np.zeros((192, 64, 3, 3), "f4")),
        r"'features.3.weight' has shape \(192, 64, 3, 3\), expected \(192, 64, 5, 5\)",
    ),
    "not finite": (changed(features__0__bias=np.full(64, np.nan, "f4")), "'features.0.bias' .* not finite"),
    "whole numbers": (changed(features__0__bias=np.ones(64, "i8")), "'features.0.bias' .* not finite"),
    "exponent": (changed(pool__p=np.zeros(1, "f4")), "exponent must be above 0, got 0"),
    "one number too few": (with_meta(mean=[0.5, 0.5]), "mean in its meta is not three numbers"),
    "text as numbers": (with_meta(std=["a", "b", "c"]), "std in its meta is not three numbers"),
    "no deviation": (with_meta(std=[0.0, 1.0, 1.0]), "mean or std"),
    "no tensors": (lambda saved: saved.update(state_dict=[]), "no tensors"),
    "no state": (lambda saved: saved.pop("state_dict"), "no 'meta' and 'state_dict'"),
    "no meta": (lambda saved: saved.pop("meta"), "no 'meta' and 'state_dict'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_networks_that_do_not_fit(tmp_path, name):
    change, reason = REFUSED[name]
    saved = published.checkpoint("alexnet", "gem")
    change(saved)
    network = save(tmp_path / "net.pth", saved)
    with pytest.raises(ConversionError, match=reason) as caught:
        convert(network, tmp_path / "net.keras")
    assert str(network) in str(caught.value)
    assert list(tmp_path.iterdir()) == [network]


def test_options_that_do_not_fit(tmp_path, lw):
    saved = published.checkpoint("alexnet", "gem", Lw={"retrieval-SfM-30k": pickled({"ss": lw["ss"]})})
    network, file = save(tmp_path / "net.pth", saved), tmp_path / "whitening.pth"

    def refused(reason, output="net.keras", **options):
        with pytest.raises(ValueError, match=reason):
            convert(network, tmp_path / output, **options)

    refused(r"OUTPUT must end in \.keras", "net.h5")
    refused("leave out one of them", whitening=file, lw="retrieval-SfM-30k")
    refused("--dim needs a whitening", dim=4)
    refused("no whitening Lw of 'x': it has 'retrieval-SfM-30k'", lw="x")
    refused("no whitening 'ms': it has 'ss'", lw="retrieval-SfM-30k", lw_scales="ms")
    refused(
        "--lw-scales must be ss \\(a single scale\\) or ms \\(multi-scale\\), got both",
        lw="retrieval-SfM-30k",
        lw_scales="both",
    )
    refused("of which 300 rows", lw="retrieval-SfM-30k", dim=300)
    for saved, reason in (
        (
            {"weight": np.zeros((2, 2), "f4"), "bias": np.zeros(2, "f4")},
            "the whitening of .*whitening.pth cannot be added.*'weight', 'bias'",
        ),
        ({"m": np.zeros(3, "f4"), "P": np.zeros((256, 256), "f4")}, r"m \(3,\), P \(256, 256\)"),
        ({"m": np.zeros(9, "f4"), "P": np.zeros((9, 9), "f4")}, r"P \(9, 9\), .* does not fit 256 dimensions"),
        ({"m": np.full(256, np.nan), "P": np.zeros((256, 256))}, "not finite"),
        ({"m": 1, "P": 2}, "arrays m and P"),
    ):
        save(file, saved)
        refused(reason, whitening=file)
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(TorchFileError, match="damaged or cut off"):
        convert(network, tmp_path / "net.keras", whitening=file)
    with pytest.raises(ArgumentError, match="already ends with a whitening"):
        with_whitening(with_whitening(cirtorch.to_keras(read_torch(network)), **names(lw["ss"])), **names(lw["ss"]))


def names(found):
    return {"mean": found["m"], "projection": found["P"]}


def test_no_network_of_published_layouts(tmp_path):
    path = tmp_path / "net.pth"
    path.write_bytes(b"not a network")
    with pytest.raises(TorchFileError, match="does not start as"):
        convert(path, tmp_path / "net.keras")
    with pytest.raises(FileNotFoundError):
        convert(tmp_path / "none.pth", tmp_path / "net.keras")


# NetVLAD


@functools.cache
def vgg16_state():
    return published.trunk_state("vgg16", np.random.default_rng(2))


def matlab_network(clusters=4, dims=8, version=1, pca=True, rare=0.0):
    """Layers as scipy writes structs: dicts in an array of objects; `rare` empties version 2's last cluster."""
    rng = np.random.default_rng(3)
    state, place = vgg16_state(), 0
    layers: list[dict] = []
    for outputs in published.VGG16:
        if outputs:
            weights = cell(
                state[f"features.{place}.weight"].transpose(2, 3, 1, 0), state[f"features.{place}.bias"][None]
            )
            layers += [
                {"type": "conv", "name": f"conv{place}", "weights": weights, "pad": np.ones((1, 4)), "stride": 1.0},
                {"type": "relu", "name": f"relu{place}", "leak": 0.0},
            ]
            place += 2
        else:
            layers.append({"type": "pool", "name": "pool", "pool": [2.0, 2.0], "pad": 0.0, "stride": [2.0, 2.0]})
            place += 1
    kernel, centroids = rng.normal(size=(512, clusters)) * 8, rng.normal(size=(512, clusters)) / 30
    bias = rng.normal(size=(1, clusters)) - rare * (np.arange(clusters) == clusters - 1)
    parts = [kernel[None, None], -centroids[None, None]]
    parts = [parts[0], bias, parts[1]] if version == 2 else parts
    normalize = {"type": "normalize", "name": "preL2", "param": [1024, 1e-12, 1, 0.5]}
    layers = [*layers[:-1], normalize, {"type": "custom", "name": "vlad:core", "weights": cell(*parts)}]
    layers += [{**normalize, "name": "vlad:intranorm"}, {"type": "custom", "name": "postL2"}]
    projection, shift = rng.normal(size=(512 * clusters, dims)) / 20, rng.normal(size=(dims, 1)) / 10
    if pca:
        weights = cell(projection[None, None], shift)
        layers += [{"type": "conv", "name": "WPCA", "weights": weights, "pad": 0.0, "stride": 1.0}]
        layers += [{"type": "custom", "name": "finalL2"}]
    average = np.array([[[123.7, 116.8, 103.9]]])
    numbers = (state, average, kernel, bias[0] if version == 2 else 0, centroids, projection, shift[:, 0])
    return {"layers": cell(*layers)[None], "meta": {"normalization": {"averageImage": average}}}, numbers


def cell(*items):
    array = np.empty(len(items), object)
    array[:] = items
    return array


def matlab_descriptor(numbers, image, pca):
    """The layers one after the other, as MatConvNet computes them."""
    state, average, kernel, bias, centroids, projection, shift = numbers

    def normalize(x, axis):
        return x / np.sqrt((x**2).sum(axis, keepdims=True) + 1e-12)

    x = published.feature_map("vgg16", state, image, image - average, last_relu=False)
    x = normalize(x.reshape(512, -1), 0)
    scores = kernel.T @ x + np.reshape(bias, (-1, 1))
    assignment = np.exp(scores - scores.max(0))
    assignment /= assignment.sum(0)
    clusters = [(assignment[k] * (x - centroids[:, [k]])).sum(1) for k in range(kernel.shape[1])]
    vlad = normalize(normalize(np.array(clusters), 1).ravel(order="F"), 0)
    return normalize(projection.T @ vlad + shift, 0) if pca else vlad


def write_matlab(path, net, **options):
    pytest.importorskip("scipy.io").savemat(path, {"net": net}, **options)
    return path


@pytest.mark.parametrize(("version", "pca", "dim"), [(1, True, None), (2, True, 3), (1, False, None)])
def test_netvlad_computes_what_the_published_network_does(tmp_path, image, version, pca, dim):
    net, numbers = matlab_network(version=version, pca=pca)
    path = write_matlab(tmp_path / "net.mat", net)
    found = describe(keras.saving.load_model(convert(path, tmp_path / "net.keras", dim=dim)), image)
    expected = matlab_descriptor(numbers, image, pca)
    if not pca:  # MATLAB has the clusters changing fastest
        expected = expected.reshape(512, -1).T.ravel()
    elif dim:
        expected = expected[:dim] / np.linalg.norm(expected[:dim])
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_compressed_matlab_files_are_read(tmp_path):
    weights = np.random.default_rng(0).normal(size=(1, 1, 512, 8))
    net = {"layers": cell({"type": "conv", "weights": cell(weights, np.zeros(8))})[None]}
    plain, compressed = (
        matconvnet.read_matlab(write_matlab(tmp_path / f"{small}.mat", net, do_compression=small)).layers
        for small in (False, True)
    )
    assert (tmp_path / "True.mat").stat().st_size < (tmp_path / "False.mat").stat().st_size
    for layers in (plain, compressed):
        np.testing.assert_array_equal(layers.ravel()[0][0, 0].weights.ravel()[0], weights)


def test_netvlad_of_a_cluster_that_is_nearly_empty(tmp_path, image):
    """In real photos many of 64 clusters are: the published normalisation of their residuals then counts."""
    net, numbers = matlab_network(version=2, rare=16.0)
    path = write_matlab(tmp_path / "net.mat", net)
    found = describe(matconvnet.to_keras(matconvnet.read_matlab(path)), image)
    np.testing.assert_allclose(found, matlab_descriptor(numbers, image, pca=True), atol=2e-5)


def matlab_change(index, **fields):
    def change(net):
        layers = net["layers"][0]
        layers[index] = {**layers[index], **fields}

    return change


def drop_layer(net):
    net["layers"] = net["layers"][:, :-1]


def drop_types(net):
    net["layers"][0, 3] = {"weights": 1.0}


def one_size_average(net):
    net["meta"]["normalization"]["averageImage"] = np.arange(12.0).reshape(2, 2, 3)


MATLAB_REFUSED = {
    "other layers": (drop_layer, "layers are not those of VGG16 with NetVLAD"),
    "layer is no struct": (drop_types, "is not a struct: in MATLAB"),
    "average image": (one_size_average, "is not the same for all pixels"),
    "no average image": (lambda net: net.update(meta={"normalization": 1.0}), "no net.meta.normalization.averageImage"),
    "pad": (matlab_change(0, pad=0.0), "'conv0' has another pad"),
    "one weight": (matlab_change(0, weights=cell(np.zeros((3, 3, 3, 64)))), "'conv0' has 1 weights"),
    "kernel": (
        matlab_change(0, weights=cell(np.zeros((5, 5, 3, 64)), np.zeros(64))),
        r"'conv0' has weights of shape \(5, 5, 3, 64\), expected \(3, 3, 3, 64\)",
    ),
    "not finite": (matlab_change(0, weights=cell(np.full((3, 3, 3, 64), np.inf), np.zeros(64))), "not finite"),
    "assignment": (matlab_change(30, weights=cell(np.zeros((512, 4)), np.zeros((512, 4)))), r"\(1, 1, 512, K\)"),
    "vlad": (matlab_change(30, weights=cell(np.zeros(1))), "NetVLAD has 2 or 3"),
    "PCA": (matlab_change(33, weights=cell(np.zeros((1, 1, 99, 8)), np.zeros(8))), r"\(1, 1, 99, 8\), .* \(2048, 8\)"),
}


@pytest.mark.parametrize("name", MATLAB_REFUSED)
def test_matlab_networks_that_do_not_fit(tmp_path, name):
    change, reason = MATLAB_REFUSED[name]
    net, _ = matlab_network()
    change(net)
    path = write_matlab(tmp_path / "net.mat", net)
    with pytest.raises(ConversionError, match=reason):
        matconvnet.to_keras(matconvnet.read_matlab(path))


def test_matlab_files_that_are_no_networks(tmp_path):
    path = tmp_path / "net.mat"
    for content, reason in ((b"MATLAB 7.3 MAT-file" + bytes(600), "save it again"), (b"no", "not a MATLAB file")):
        path.write_bytes(content)
        with pytest.raises(ConversionError, match=reason):
            convert(path, tmp_path / "net.keras")
    write_matlab(path, 1.0)
    with pytest.raises(ConversionError, match="no struct 'net'"):
        convert(path, tmp_path / "net.keras")
    net, _ = matlab_network(pca=False)
    write_matlab(path, net)
    for options, reason in (({"dim": 3}, "no PCA"), ({"lw": "x"}, "--lw is for")):
        with pytest.raises(ConversionError, match=reason):
            convert(path, tmp_path / "net.keras", **options)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConversionError, match="not a MATLAB file, or it is damaged"):
        convert(path, tmp_path / "net.keras")

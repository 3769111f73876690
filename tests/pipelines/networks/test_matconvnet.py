"""NetVLAD's published networks from MATLAB files: the same descriptors, and files that do not fit."""

import functools

import keras
import numpy as np
import pytest

from pipelines.networks import matconvnet
from pipelines.networks.convert import convert
from pipelines.networks.errors import ConversionError
from tests.helpers import published_networks as published


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
    found = published.described(keras.saving.load_model(convert(path, tmp_path / "net.keras", dim=dim)), image)
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
    found = published.described(matconvnet.to_keras(matconvnet.read_matlab(path)), image)
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

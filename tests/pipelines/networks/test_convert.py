"""The step `convert` for networks of cirtorch: published descriptors, whitenings, and files that do not fit."""

import keras
import numpy as np
import pytest

import keras_retrieval
from keras_retrieval.errors import ArgumentError
from keras_retrieval.inert_files.torch_file import TorchFileError, read_torch
from keras_retrieval.networks.regional import with_whitening
from pipelines.networks import cirtorch
from pipelines.networks.convert import convert
from pipelines.networks.errors import ConversionError
from tests.helpers import published_networks as published
from tests.helpers.torch_files import Pickled, save

GOLDENS = ("alexnet_gem_cirtorch", "alexnet_gem_regional_whitened_cirtorch")


@pytest.mark.parametrize("name", GOLDENS)
def test_goldens(shared, tmp_path, name):
    """Networks and descriptors of the published code: cosine and difference, at one scale and at three."""
    model = keras.saving.load_model(convert(shared / "goldens" / f"{name}.pth", tmp_path / "net.keras"))
    with np.load(shared / "goldens" / f"{name}.npz") as golden:
        scales = keras_retrieval.multi_scale(model, antialias=False)
        for number in (0, 1):
            for network, key in ((model, f"descriptor{number}"), (scales, f"descriptor{number}_multiscale")):
                found, expected = published.described(network, golden[f"image{number}"]), golden[key]
                assert found @ expected / np.linalg.norm(found) / np.linalg.norm(expected) >= 0.99999
                np.testing.assert_allclose(found, expected, atol=2e-6)


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
        np.testing.assert_allclose(published.described(model, image), whiten(plain, lw[scales], dim), atol=1e-5)


def test_whitening_comes_after_the_scales_are_joined_and_fc_before(image, lw):
    saved = published.checkpoint("alexnet", "gem", whitening=True)
    model = cirtorch.to_keras(saved)
    joined = published.described(keras_retrieval.multi_scale(model, (1.0, 0.8), antialias=False), image)
    one, other = (
        published.described(keras_retrieval.multi_scale(model, (scale,), antialias=False), image)
        for scale in (1.0, 0.8)
    )
    np.testing.assert_allclose(joined, (one + other) / np.linalg.norm(one + other), atol=1e-5)
    whole = with_whitening(model, lw["ms"]["m"], lw["ms"]["P"], 40)
    found = published.described(keras_retrieval.multi_scale(whole, (1.0, 0.8), antialias=False), image)
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
        "--lw-scales must be one of ss, ms, got both",
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
    with pytest.raises(TorchFileError, match="cut off or damaged"):
        convert(network, tmp_path / "net.keras", whitening=file)
    with pytest.raises(ArgumentError, match="already ends with a whitening"):
        with_whitening(with_whitening(cirtorch.to_keras(read_torch(network)), **names(lw["ss"])), **names(lw["ss"]))


def names(found):
    return {"mean": found["m"], "projection": found["P"]}


def test_no_network_of_published_layouts(tmp_path):
    path = tmp_path / "net.pth"
    path.write_bytes(b"not a network")
    with pytest.raises(TorchFileError, match="does not start like"):
        convert(path, tmp_path / "net.keras")
    with pytest.raises(FileNotFoundError):
        convert(tmp_path / "none.pth", tmp_path / "net.keras")
    for kind, name in (
        ("its tensors are those of no network that is recognised", "scale"),
        (r"it looks like a detector \(DETR\), which is none of the published", "bbox_embed.weight"),
    ):
        save(path, {name: np.ones((3, 3), "f4")})
        with pytest.raises(ConversionError, match=kind):
            convert(path, tmp_path / "net.keras")

"""The step `build`: a name becomes a file that all other steps accept, and errors give the reason."""

import math
from pathlib import Path

import numpy as np
import pytest

from pipelines.networks.build import build as build_model
from pipelines.networks.files import load_model


def describe(path):
    return np.asarray(load_model(path)(np.full((1, 64, 80, 3), 99.0, "float32")))


def test_a_network_is_built_saved_and_loaded(tmp_path, capsys):
    path = build_model("alexnet_gem", tmp_path / "new" / "model.keras", weights="none", dim=32, p=2.5)
    assert path == tmp_path / "new" / "model.keras"
    assert describe(path).shape == (1, 32)
    assert float(load_model(path).get_layer("pooling").p[0]) == pytest.approx(2.5)
    assert "alexnet_gem, 32 dimensions" in capsys.readouterr().out
    assert [file.name for file in path.parent.iterdir()] == ["model.keras"]


def test_the_seed_makes_the_weights(tmp_path):
    seeds = {"a": 3, "b": 3, "c": 4}
    rows = {
        name: describe(build_model("alexnet_mac", tmp_path / f"{name}.keras", weights="none", seed=seed))
        for name, seed in seeds.items()
    }
    np.testing.assert_array_equal(rows["a"], rows["b"])
    assert np.abs(rows["a"] - rows["c"]).max() > 1e-3


def test_weights_come_from_a_file(tmp_path):
    first = build_model("alexnet_gem", tmp_path / "first.keras", weights="none", seed=1)
    second = build_model("alexnet_gem", tmp_path / "second.keras", weights=str(first), seed=2)
    np.testing.assert_array_equal(describe(first), describe(second))


def test_real_weights_come_from_a_file(tmp_path, shared):
    weights = shared / "data" / "weights" / "alexnet_imagenet_torchvision_features.npz"
    path = build_model("alexnet_rmac", tmp_path / "model.keras", weights=str(weights), levels=2)
    with np.load(weights) as arrays:
        first = next(key for key in arrays.files if key.startswith("conv1/"))
        np.testing.assert_array_equal(load_model(path).get_layer("alexnet").get_weights()[0], arrays[first])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("alexnet_gm", {}, "unknown pooling 'gm' in 'alexnet_gm'. The nearest is 'gem'"),
        ("alexnt_gem", {}, "unknown backbone 'alexnt'.* The nearest is 'alexnet'"),
        ("alexnet_gem", {"levels": 2}, "^--levels does not apply to alexnet_gem: its pooling 'gem' takes --p$"),
        ("alexnet_gem", {"levels": 0}, "^--levels does not apply to alexnet_gem"),
        ("alexnet_mac", {"p": 2.0}, "^--p does not apply to alexnet_mac: its pooling 'mac' takes no such option$"),
        ("alexnet_rmac", {"levels": 0}, "^--levels must be at least 1, got 0"),
        ("alexnet_rmac", {"p": 2.0}, "^--p does not apply to alexnet_rmac: its pooling 'rmac' takes --levels$"),
        ("alexnet_gem", {"p": 0.0}, "^--p must be above 0, got 0.0"),
        ("alexnet_gem", {"p": math.inf}, "^--p must be a finite number, got inf"),
        ("alexnet_gem", {"seed": -1}, "^--seed must be at least 0, got -1"),
        ("alexnet_gem", {"dim": 0}, "^--dim must be at least 1, got 0"),
        ("alexnet_gem", {"dim": 257}, "^dim of the whitening must be at most 256, .* got 257"),
        ("alexnet_gem", {"normalization": "x"}, "torch, caffe, none"),
        ("alexnet_gem", {"weights": "imagenet"}, "no ImageNet weights of alexnet"),
        ("alexnet_gem", {"weights": "model.txt"}, "model.txt does not exist"),
    ],
)
def test_what_cannot_be_built_says_why_and_leaves_no_file(tmp_path, name, options, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        build_model(name, tmp_path / "new" / "model.keras", **{"weights": "none", **options})
    assert list(tmp_path.iterdir()) == []


def test_paths_may_be_given_as_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert build_model("alexnet_gem", "model.keras", weights=None) == Path("model.keras")


def test_the_file_s_name_must_end_in_keras(tmp_path):
    with pytest.raises(ValueError, match=r"OUTPUT must end in \.keras"):
        build_model("alexnet_gem", tmp_path / "model.h5", weights="none")

"""Which network a collection takes: a given one, the best of the weights folder, ImageNet weights, or a random one."""

import pytest

from export.collection import network_choice as choices
from export.collection.network_choice import AUTO, GIVEN, ChosenNetwork, check_model, choose, prepare, recorded


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """An empty weights folder, and a Keras without weights."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv("KERAS_RETRIEVAL_WEIGHTS", str(folder))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(choices, "_is_connected", lambda: False)
    return folder


RANKED = [
    "dinov3_vitb16_pretrain_lvd1689m-73cec8be.pth",
    "gl18-tl-resnet152-gem-w-21278d5.pth",
    "gl18-tl-resnet101-gem-w-a4d43db.pth",
    "rSfM120k-tl-resnet101-gem-w-a155e54.pth",
    "retrievalSfM120k-resnet101-gem-b80fb85.pth",
    "retrievalSfM120k-vgg16-gem-b4dcdc6.pth",
    "vd16_pitts30k_conv5_3_vlad_preL2_intra_white.mat",
    "ResNet50_2048_cosplace.pth",
    "renamed by somebody.pth",
    "mine.keras",
    "vgg16_imagenet_torchvision_notop.h5",
    "alexnet_imagenet_torchvision_features.npz",
]


def test_the_best_of_the_weights_folder_comes_first(weights):
    for name in [*reversed(RANKED), "readme.txt", "photo.jpg"]:
        (weights / name).write_bytes(b"x")
    assert [candidate.source.rpartition("/")[2] for candidate in choose(None, None)] == RANKED


def test_keras_own_weights_come_after_those_of_the_folder(weights, tmp_path):
    path = tmp_path / "keras" / "models" / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    assert [candidate.source for candidate in choose("auto", None)] == ["vgg16_gem"]
    (weights / RANKED[-1]).write_bytes(b"x")
    assert [candidate.source.rpartition("/")[2] for candidate in choose("auto", None)] == [RANKED[-1], "vgg16_gem"]


def record(path, choice=AUTO, kind=choices.RANDOM, rank=0):
    return ChosenNetwork(str(path), "label", choice, kind, rank, "source").record()


def test_an_automatic_choice_is_kept_until_a_better_network_appears(weights, tmp_path):
    network = tmp_path / "network.keras"
    network.write_bytes(b"x")
    random, given, trained = record(network), record(network, GIVEN), record(network, choices.TRAINED)
    assert choose(None, random) == recorded(random)
    (weights / RANKED[4]).write_bytes(b"x")
    assert choose(None, random)[0].source.endswith(RANKED[4])
    assert choose(None, given) == recorded(given)
    assert choose(None, trained) == recorded(trained)
    assert choose("auto", given)[0].source.endswith(RANKED[4])
    kept = record(network, AUTO, choices.PUBLISHED, 7)
    assert choose(None, kept) == recorded(kept)
    (weights / RANKED[0]).write_bytes(b"x")
    assert choose(None, kept)[0].source.endswith(RANKED[0])


def test_a_recorded_network_whose_file_is_gone_is_chosen_anew(weights, tmp_path):
    assert recorded(record(tmp_path / "gone.keras")) is None
    assert recorded({"model": 3}) is None
    assert recorded(record("vgg16_gem")) is not None
    assert choose("auto", record(tmp_path / "gone.keras")) == []


@pytest.mark.parametrize("gone", [record("gone.keras", GIVEN, choices.FOLDER_FILE), record("gone.keras", AUTO, 0, 8)])
def test_an_index_is_not_replaced_by_one_of_a_worse_network_because_a_file_is_gone(weights, gone):
    (weights / RANKED[-1]).write_bytes(b"x")
    with pytest.raises(ValueError, match=r"no longer at gone.keras.*--model auto"):
        choose(None, gone)
    assert choose("auto", gone)[0].source.endswith(RANKED[-1])
    (weights / RANKED[0]).write_bytes(b"x")
    if gone["choice"] == AUTO:
        assert choose(None, gone)[0].source.endswith(RANKED[0])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("gone.keras", "no network at"),
        ("gone.pth", "no network at"),
        ("folder/vgg16_gem", "MODEL must be"),
        ("model.xyz", "MODEL must be"),
        ("vgg17_gem", "The nearest is 'vgg1"),
        ("alexnet_gem", "weights get alexnet"),
        ("megaloc", r"megaloc\.safetensors is not in .*weights get megaloc"),
        ("dinov3vitl16plus_cls", "no ImageNet weights of dinov3vitl16plus"),
    ],
)
def test_a_network_that_cannot_be_is_an_error_at_once(model, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        check_model(model)


def test_without_any_weights_the_network_is_random_and_says_what_to_do(weights, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    network = prepare(choose(None, None), models, AUTO)
    assert network.kind == choices.RANDOM
    for part in ("random network", "retrievalSfM120k-vgg16-gem.pth", str(weights), "_notop.h5"):
        assert part in network.message
    before = (models / "random-alexnet_gem.keras").stat().st_mtime_ns
    assert prepare(choose(None, None), models, AUTO) == network
    assert (models / "random-alexnet_gem.keras").stat().st_mtime_ns == before


def test_a_file_that_cannot_be_converted_is_passed_over_unless_it_was_given(weights, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    (weights / RANKED[4]).write_bytes(b"no checkpoint")
    assert prepare(choose(None, None), models, AUTO).kind == choices.RANDOM
    kept = ChosenNetwork("vgg16_gem", "VGG16", AUTO, choices.IMAGENET)
    assert prepare(choose(None, kept.record()), models, AUTO, kept) == kept
    with pytest.raises(ValueError, match=RANKED[4]):
        prepare(choose(str(weights / RANKED[4]), None), models, GIVEN)


def test_published_files_are_converted_once(weights, tmp_path, shared):
    import shutil

    import keras_retrieval

    models = tmp_path / "models"
    models.mkdir()
    shutil.copy(shared / "goldens" / "alexnet_gem_cirtorch.pth", weights / "somebody's network.pth")
    network = prepare(choose(None, None), models, AUTO)
    assert (network.kind, network.label) == (choices.PUBLISHED, "somebody's network.pth")
    assert keras_retrieval.load(network.model).output_shape == (None, 256)
    before = (models / network.model).stat().st_mtime_ns
    assert prepare(choose(None, None), models, AUTO).model == network.model
    assert (models / network.model).stat().st_mtime_ns == before


def test_the_pixels_that_vgg16_expects_are_recognised_by_its_weights(tmp_path):
    import h5py
    import numpy as np

    for value, expected in ((-0.5537306, "torch"), (0.4294705, "caffe"), (0.1, "caffe")):
        path = tmp_path / f"vgg16 {expected} {value}.h5".replace("torch", "x")
        with h5py.File(path, "w") as file:
            file["block1_conv1/block1_conv1/kernel"] = np.full((3, 3, 3, 64), value, "float32")
        assert choices._normalization(path, "vgg16") == expected
    assert choices._normalization(tmp_path / "vgg16-397923af.pth", "vgg16") == "torch"
    assert choices._normalization(tmp_path / "alexnet.npz", "alexnet") is None

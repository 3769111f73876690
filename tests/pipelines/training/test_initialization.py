"""NetVLAD's clusters from the photos of a run: the cells, the layers, and the start of training."""

import keras
import numpy as np
import pytest

import keras_retrieval
from keras_retrieval import layers
from pipelines.photos.reading import Reading
from pipelines.training import initialization as module
from pipelines.training import report
from pipelines.training.initialization import initialize
from pipelines.training.train import train
from pipelines.training_tuples.file import read_tuples
from tests.helpers import small
from tests.helpers.small_network import draw_photo


def netvlad(clusters=3):
    """The small network with NetVLAD behind its trunk."""
    net = small.network()
    trunk = net.get_layer("trunk")
    x = trunk(net.get_layer("normalization").output)
    x = layers.NetVLAD(clusters, name="pooling", dtype="float32")(x)
    x = layers.L2Normalization(name="l2", dtype="float32")(x)
    return keras.Model(net.input, x, name="small_netvlad")


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    """Eight places 60 m apart with five photos each, 3 m apart, and the table of their positions."""
    folder = tmp_path_factory.mktemp("streets")
    table = ["photo,east,north"]
    for place in range(8):
        for view in range(5):
            draw_photo(folder / "photos" / f"{place}/{view}.png", place, view)
            table.append(f"{place}/{view}.png,{60 * place + 3 * view},0")
    (folder / "photos" / "places.csv").write_text("\n".join(table))
    netvlad().save(folder / "netvlad.keras")
    return folder


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_it_begins_as_the_layer_does_from_the_cells_of_the_photos(streets, monkeypatch, version):
    monkeypatch.setattr(module, "CELLS", 10**6)
    network, names = netvlad(), [f"{place}/{view}.png" for place in range(8) for view in range(5)]
    photos = Reading(streets / "photos", 56)
    initialize(network, photos, names, version, 0)
    trunk = keras.Model(network.input, network.get_layer("pooling").input)
    order = np.random.default_rng(0).permutation(len(names))
    cells = [trunk(photos.read(names[row])[None].astype("float32")).numpy().reshape(-1, 16) for row in order]
    drawn = np.random.default_rng(0)
    drawn.permutation(len(names))
    alone = layers.NetVLAD(3).initialize(np.concatenate([drawn.permutation(part) for part in cells]), version)
    for one, other in zip(network.get_layer("pooling").get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_so_many_cells_of_so_many_photos_that_can_be_read(streets, monkeypatch):
    monkeypatch.setattr(module, "PHOTOS", 4)
    monkeypatch.setattr(module, "CELLS", 6)
    seen = []
    monkeypatch.setattr(layers.NetVLAD, "initialize", lambda self, cells, *rest: seen.append((cells.shape, *rest)))
    names = ["gone.png", *(f"0/{view}.png" for view in range(5))]
    initialize(netvlad(), Reading(streets / "photos", 56), names, "v2", 7)
    assert seen == [((24, 16), "v2", 7)]
    with pytest.raises(ValueError, match="none of the 1 photos can be read"):
        initialize(netvlad(), Reading(streets / "photos", 56), ["gone.png"], "v1", 0)
    with pytest.raises(ValueError, match=r"--initialize v1 needs a layer .* and small has none"):
        initialize(small.network(), Reading(streets / "photos", 56), names, "v1", 0)


def test_a_table_of_places_trains_netvlad_as_published(streets, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "training_page", lambda *_: "")
    arguments = {
        "model": str(streets / "netvlad.keras"), "output": tmp_path / "run", "epochs": 2, "size": 56, "test_size": 56,
        "scales": "1", "initialize": "v1", "negatives": 3, "dim": 5, "queries": 20, "lr": 1e-3,
    }  # fmt: skip
    table = streets / "photos" / "places.csv"
    results = train(table, **arguments)
    chosen = {"loss": "ranking", "positive": "nearest", "sample": 1000, "remember": True, "batch": 4, "whiten": "pca"}
    assert {name: results["options"][name] for name in chosen} == chosen
    assert results["tuples"]["training"]["pairs_per_query"] == pytest.approx(3.6, abs=0.01)  # within 10 m
    assert keras_retrieval.load(tmp_path / "run" / "model.keras").output_shape == (None, 5)
    first = keras_retrieval.load(tmp_path / "run" / "initial.keras").get_layer("pooling")
    assert np.abs(first.get_weights()[0] - netvlad().get_layer("pooling").get_weights()[0]).max() > 1
    assert results["pretrained"]["path"] == str(tmp_path / "run" / "initial.keras")
    assert len(read_tuples(tmp_path / "run" / "tuples.npz").images) == 40
    longer = train(table, **arguments | {"epochs": 3, "resume": True})
    assert longer["history"][:2] == results["history"]
    whole = train(table, **arguments | {"epochs": 3, "output": tmp_path / "whole"})
    assert whole["history"][2]["loss"] == pytest.approx(longer["history"][2]["loss"], abs=1e-5)

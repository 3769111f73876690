"""Search of photos by sketches, from `extract` to the page: a small network of edge maps, on drawn photos."""

import json
import shutil

import keras
import numpy as np
import pytest
from PIL import Image, ImageDraw

from export.indexes.index import index
from export.indexes.search import search
from keras_retrieval import layers
from pipelines.descriptors.extract import extract
from pipelines.evaluation.evaluate import evaluate
from pipelines.files.durable import read_manifest
from pipelines.networks.files import load_model, require_edges
from pipelines.photos.cache import PhotoCache
from pipelines.photos.reading import Reading
from pipelines.training.train import train
from pipelines.training_tuples.tuples import tuples as make_tuples
from tests.helpers.small import saved_network, shards

pytest.importorskip("scann")

SHAPES = {
    "roof": [(20, 70), (50, 25), (80, 70)],
    "tower": [(42, 80), (42, 15), (58, 15), (58, 80)],
    "wall": [(10, 45), (88, 45), (88, 55), (10, 55)],
    "slope": [(15, 60), (85, 20), (85, 32), (15, 72)],
}


def edge_network(path):
    """Finds lines of twelve directions in edge maps; a descriptor is how long and clear the best of each is."""
    images, strengths = keras.Input((None, None, 3), name="images"), keras.Input((None, None, 1))
    directions = keras.layers.Conv2D(12, 31, strides=2, activation="relu", name="directions")
    trunk = keras.Model(strengths, directions(strengths), name="trunk")
    down, right = np.indices((31, 31)) - 15
    angles = np.arange(12) * np.pi / 12
    lines = np.abs(down[..., None] * np.cos(angles) - right[..., None] * np.sin(angles)) < 2
    directions.set_weights([(lines - lines.mean(axis=(0, 1)))[:, :, None].astype("float32"), np.full(12, -150.0)])
    x = layers.EdgeFilter(name="edge_filter")(layers.EdgeStrength(name="normalization")(images))
    x = layers.L2Normalization(name="l2")(layers.MAC(name="pooling")(trunk(x)))
    keras.Model(images, x, name="small_edgemac").save(path)
    return str(path)


def draw_photos(folder):
    """Each shape filled, in other colours, at two places of a coloured background."""
    rng = np.random.default_rng(0)
    for name, corners in SHAPES.items():
        (folder / "photos" / name).mkdir(parents=True)
        for view, (right, down) in enumerate([(0, 0), (6, -4)]):
            low, high = (tuple(int(value) for value in rng.integers(start, start + 70, 3)) for start in (10, 170))
            picture = Image.new("RGB", (100, 100), low if view else high)
            ImageDraw.Draw(picture).polygon([(x + right, y + down) for x, y in corners], high if view else low)
            picture.save(folder / "photos" / name / f"{view}.png")


def draw_sketches(folder):
    (folder / "sketches").mkdir()
    for name, corners in SHAPES.items():
        picture = Image.new("L", (300, 300), 255)
        ImageDraw.Draw(picture).line([(3 * x, 3 * y) for x, y in (*corners, corners[0])], 0, 4)
        picture.save(folder / "sketches" / f"{name}.png")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    draw_photos(folder / "collection")
    draw_sketches(folder / "collection")
    model = edge_network(folder / "edges.keras")
    described = extract(model, folder / "collection" / "photos", folder / "d", size=100, edges="sobel", mirror=True)
    index(described, folder / "index")
    return folder


def test_each_sketch_finds_its_photos(made, tmp_path, capsys):
    found = search(str(made / "index"), [made / "collection" / "sketches"], k=3, html=tmp_path / "page.html")
    assert [query.query.stem for query in found] == sorted(SHAPES)
    for query in found:
        assert {name.split("/")[0] for name in query.names[:2]} == {query.query.stem}, query
    assert "roof.png" in capsys.readouterr().out
    assert (tmp_path / "page.html").read_text().count('role="img"') >= 4


def test_photos_are_still_found_by_photos(made):
    (found,) = search(str(made / "index"), [made / "collection" / "photos" / "tower" / "0.png"], k=1)
    assert found.names == ["tower/1.png"]
    assert found.scores[0] > 0.9


def test_what_is_a_sketch_is_seen_or_said(made):
    sketch = made / "collection" / "sketches" / "tower.png"

    def scores(path, **options):
        return search(str(made / "index"), [path], k=8, **options)[0].scores

    np.testing.assert_array_equal(scores(sketch), scores(sketch, sketch=True))
    assert np.abs(scores(sketch) - scores(sketch, sketch=False)).max() > 0.01
    photo = made / "collection" / "photos" / "tower" / "0.png"
    np.testing.assert_array_equal(scores(photo), scores(photo, sketch=False))


def test_an_empty_sheet_is_left_out(made, tmp_path, capsys):
    Image.new("L", (80, 80), 255).save(tmp_path / "empty.png")
    with pytest.raises(ValueError, match="none of the query photos"):
        search(str(made / "index"), [tmp_path / "empty.png"], sketch=True)
    assert "it is blank" in capsys.readouterr().out


def test_an_index_of_photos_takes_no_sketches(made, tmp_path):
    model = str(saved_network(tmp_path))
    photos = made / "collection" / "photos"
    index(extract(model, photos, tmp_path / "d", size=100), tmp_path / "index")
    sketch = made / "collection" / "sketches" / "roof.png"
    with pytest.raises(ValueError, match="--sketch needs an index of edge maps, this one is of photos"):
        search(str(tmp_path / "index"), [sketch], sketch=True)
    assert len(search(str(tmp_path / "index"), [sketch], k=2)[0].names) == 2


def test_a_network_of_edge_maps_refuses_photos(made, tmp_path):
    with pytest.raises(ValueError, match="takes edge maps, not photos: give --edges sobel"):
        extract(str(made / "edges.keras"), made / "collection" / "photos", tmp_path / "d", size=100)
    assert not (tmp_path / "d").exists()
    require_edges(keras.Sequential([keras.layers.ReLU()]), "")


def test_the_manifest_says_how_edges_were_found(made):
    facts = read_manifest(made / "d", kind="descriptors", version=1)
    assert (facts["edges"], facts["mirror"]) == ("sobel", True)
    with pytest.raises(ValueError, match="other photos or options"):
        extract(str(made / "edges.keras"), made / "collection" / "photos", made / "d", size=100, edges="sobel")


def test_sketches_of_a_dataset_are_described_as_sketches(made, tmp_path):
    """Flickr15k's protocol: the ranking is that of descriptors made by hand."""
    photos = tmp_path / "photos"
    shutil.copytree(made / "collection", photos)
    (photos / "gnd.json").write_text(json.dumps({"queries": {name: [name] for name in SHAPES}}))
    model, options = str(made / "edges.keras"), {"size": 100, "edges": "sobel"}
    results = evaluate(model, dataset="flickr15k", photos=photos, output=tmp_path / "e", **options)
    assert results["mean"]["all"]["mAP"] == 1
    assert results["edges"] == "sobel"
    again = evaluate(model, dataset="flickr15k", photos=photos, output=tmp_path / "e", **options)
    assert again["mean"] == results["mean"]
    extract(model, photos / "sketches", tmp_path / "s", size=100, edges="sketch")
    (kept,) = (tmp_path / "e").glob("queries-*.npy")
    np.testing.assert_allclose(np.sort(np.load(kept), axis=0), np.sort(shards(tmp_path / "s"), axis=0), atol=1e-6)


def test_a_network_learns_from_edge_maps(made, tmp_path):
    photos, model = made / "collection" / "photos", str(made / "edges.keras")
    make_tuples(photos, tmp_path / "tuples.npz", validation=0, negatives=2)
    options = {"photos": photos, "model": model, "size": 100, "test_size": 100, "scales": "1", "mirror": True}
    options |= {"epochs": 1, "queries": 4, "batch": 2, "negatives": 2, "lr": 1e-3, "dim": 5}
    options |= {"edges": "sobel", "flip": True, "binarize": 0.2}
    train(tmp_path / "tuples.npz", output=tmp_path / "run", **options)
    before, after = (load_model(path).get_layer("edge_filter") for path in (model, tmp_path / "run" / "trained.keras"))
    moved = [abs(float((new - old)[0])) for old, new in ((before.p, after.p), (before.t, after.t))]
    assert 0 < moved[0] <= 2e-3
    assert 0 < moved[1] <= 2e-4  # two steps at a tenth of the rate
    cache = PhotoCache(tmp_path / "run" / "photos")
    expected = Reading(photos, 100, edges="sobel", smallest=31).read("roof/0.png")
    np.testing.assert_array_equal(cache.read("roof/0.png"), expected)
    described = extract(
        str(tmp_path / "run" / "model.keras"), photos, tmp_path / "d", size=100, edges="sobel", mirror=True
    )
    assert shards(described).shape == (8, 5)
    for wrong, message in (
        ({"edges": ""}, "--binarize needs edge maps: give --edges"),
        ({"edges": "", "binarize": 0}, "takes edge"),
    ):
        with pytest.raises(ValueError, match=message):
            train(tmp_path / "tuples.npz", output=tmp_path / "none", **{**options, **wrong})

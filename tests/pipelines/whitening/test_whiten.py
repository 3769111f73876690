"""The step `whiten`: the learned whitening equals the formulas, and the saved network computes it."""

import shutil

import keras
import numpy as np
import pytest

from keras_retrieval import layers
from keras_retrieval.networks.multi_scale import multi_scale
from keras_retrieval.whitening.covariance import learn_lw, learn_pca
from keras_retrieval.whitening.linear import Strength, learn_linear
from pipelines.descriptors.folder import read_descriptors
from pipelines.descriptors.learn_whitening import learn_whitening
from pipelines.descriptors.matching_pairs import MatchingPairs, read_pairs
from pipelines.photos.reader import read_photo
from pipelines.whitening import adaptation
from pipelines.whitening.whiten import whiten
from tests.helpers.faulty_storage import faulty_storage, upload
from tests.helpers.small_network import draw_photo, draw_scenes, save_network, write_pairs

SCALES = (1.0, 0.5)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = draw_scenes(tmp_path_factory.mktemp("scenes"))
    (folder / "alone.png").unlink()  # a photo outside of folders has no object
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return save_network(tmp_path_factory.mktemp("network") / "small.keras")


def described(model, folder, names):
    """The descriptors of photos, one by one."""
    model = multi_scale(model, SCALES)
    return np.concatenate([model(read_photo(folder / name)[None]).numpy() for name in names])


@pytest.mark.parametrize(
    ("method", "dim"), [pytest.param("lw", None, marks=pytest.mark.kernels), ("lw", 3), ("pca", 4)]
)
def test_the_saved_network_whitens_after_the_scales_are_joined(scenes, network, tmp_path, method, dim):
    output = whiten(
        str(network), scenes, tmp_path / "w.keras", method=method, dim=dim, size=56, scales="1,0.5",
        descriptors=tmp_path / "rows",
    )  # fmt: skip
    pairs = read_pairs(scenes)
    rows = described(keras.saving.load_model(network), scenes, pairs.images)
    projection = learn_lw(rows, pairs.qidxs, pairs.pidxs) if method == "lw" else learn_pca(rows)
    saved = keras.saving.load_model(output)
    assert [layer.name for layer in saved.layers][-3:] == ["l2", "whitening", "l2_whitened"]
    whitened = described(saved, scenes, pairs.images)
    assert whitened.shape == (32, dim or 6)
    expected = projection.apply(rows, dim)
    assert (np.abs((whitened * expected).sum(axis=1)) > 0.999).all()
    np.testing.assert_allclose(whitened @ whitened.T, expected @ expected.T, atol=2e-3)


@pytest.mark.parametrize("dim", [None, 3])
def test_regions_are_whitened_before_they_are_summed(scenes, tmp_path, dim):
    images = keras.Input((None, None, 3), name="images")
    x = layers.PixelNormalization.of("torch", name="normalization")(images)
    x = keras.layers.Conv2D(6, 5, 3, activation="relu", name="trunk")(x)
    x = layers.L2Normalization(name="l2", dtype="float32")(layers.RMAC(name="pooling", dtype="float32")(x))
    model = keras.Model(images, x, name="small_rmac")
    model.save(tmp_path / "small.keras")
    output = whiten(
        str(tmp_path / "small.keras"), scenes, tmp_path / "w.keras", method="regional-pca", dim=dim, size=56
    )
    pooling, trunk = model.get_layer("pooling"), keras.Model(model.input, model.get_layer("trunk").output)
    regions = [pooling.regions(trunk(read_photo(scenes / name)[None])) for name in read_pairs(scenes).images]
    rows = [np.array(found.vectors)[np.array(found.exist)] for found in regions]
    projection = learn_pca(np.concatenate(rows))
    expected = np.stack([projection.apply(some, dim).sum(axis=0) for some in rows])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    for source in (
        output,
        whiten(str(output), scenes, tmp_path / "again.keras", method="regional-pca", dim=dim, size=56),
    ):
        saved = keras.saving.load_model(source)
        found = np.concatenate([saved(read_photo(scenes / name)[None]) for name in read_pairs(scenes).images])
        np.testing.assert_allclose(found, expected, atol=2e-3)
    with pytest.raises(ValueError, match="does not take --scales or --mirror"):
        whiten(str(output), scenes, tmp_path / "w.keras", method="regional-pca", scales="1,0.5")


def test_photos_at_an_address_give_the_whitening_of_a_local_folder(scenes, network, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", str(tmp_path / "cache"))
    local = whiten(str(network), scenes, tmp_path / "local.keras", size=40)
    with faulty_storage(monkeypatch) as faults:
        upload(scenes, "bucket/scenes")
        faults.every, faults.outage = 5, (0.0, 60.0)
        there = whiten(str(network), "faulty://bucket/scenes", tmp_path / "there.keras", size=40)
        (descriptors,) = tmp_path.glob("there*descriptors")
        shutil.rmtree(descriptors)
        found = read_pairs(scenes)
        rows = np.stack([found.qidxs, found.pidxs], axis=1)
        pairs = write_pairs(tmp_path / "tuples.npz", found.images, rows)
        again = whiten(str(network), pairs, tmp_path / "there.keras", photos="faulty://bucket/scenes", size=40)
    weights = [keras.saving.load_model(path).get_layer("whitening").get_weights() for path in (local, there, again)]
    for one, *others in zip(*weights, strict=True):
        assert all(np.array_equal(one, other) for other in others)


def test_the_methods_without_pairs_need_no_objects(network, tmp_path):
    for year in ("2018", "2019"):
        for view in range(4):
            draw_photo(tmp_path / "photos" / year / f"{view}.png", view, int(year))
    output = whiten(str(network), tmp_path / "photos", tmp_path / "w.keras", size=56, method="pca", dim=2)
    assert keras.saving.load_model(output).output_shape == (None, 2)
    with pytest.raises(ValueError, match="the folders 2018 and 2019 are named after years"):
        whiten(str(network), tmp_path / "photos", tmp_path / "lw.keras", size=56)
    whiten(str(network), tmp_path / "photos", tmp_path / "lw.keras", size=56, shrinkage=1, objects="folders")


def test_a_network_without_regions_has_none_to_whiten(scenes, network, tmp_path):
    with pytest.raises(ValueError, match="small_gem does not pool regions"):
        whiten(str(network), scenes, tmp_path / "w.keras", method="regional-pca", size=56)


def test_shrinkage_reaches_the_saved_network(scenes, network, tmp_path):
    options = {"size": 56, "descriptors": tmp_path / "rows"}
    output = whiten(str(network), scenes, tmp_path / "w.keras", shrinkage=0.7, **options)
    shards, names, _ = read_descriptors(tmp_path / "rows")
    pairs = read_pairs(scenes)
    rows = np.concatenate(shards)[[names.index(name) for name in pairs.images]]
    kernel, _ = learn_lw(rows, pairs.qidxs, pairs.pidxs, 0.7).as_dense()
    saved = keras.saving.load_model(output).get_layer("whitening")
    np.testing.assert_allclose(saved.get_weights()[0], kernel, rtol=1e-5, atol=1e-5)


def test_another_dim_or_method_describes_nothing_again(scenes, network, tmp_path, monkeypatch):
    rows = tmp_path / "rows"
    whiten(str(network), scenes, tmp_path / "a.keras", size=56, descriptors=rows)
    monkeypatch.setattr("pipelines.descriptors.extraction.describe_photos", None)
    output = whiten(str(network), scenes, tmp_path / "b.keras", size=56, method="pca", dim=2, descriptors=rows)
    assert keras.saving.load_model(output).output_shape == (None, 2)


def test_wide_descriptors_are_whitened_without_a_matrix_of_their_width(scenes, network, tmp_path, monkeypatch):
    rows = tmp_path / "rows"
    options = {"size": 56, "method": "pca", "descriptors": rows}
    plain = whiten(str(network), scenes, tmp_path / "a.keras", dim=3, **options)
    monkeypatch.setattr("pipelines.descriptors.learn_whitening.WIDE", 5)
    wide = whiten(str(network), scenes, tmp_path / "b.keras", dim=3, **options)
    kernels = [keras.saving.load_model(path).get_layer("whitening").get_weights() for path in (plain, wide)]
    for one, other in zip(*kernels, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    monkeypatch.setattr("pipelines.descriptors.learn_whitening.DIM", 4)
    assert keras.saving.load_model(whiten(str(network), scenes, tmp_path / "c.keras", **options)).output_shape[1] == 4
    with pytest.raises(ValueError, match="lw of 6 dimensions does not fit in memory: use pca"):
        whiten(str(network), scenes, tmp_path / "d.keras", **options | {"method": "lw"})
    few = write_pairs(tmp_path / "few.npz", ["scene0/0.png", "scene0/1.png", "scene1/0.png"], [(0, 1)])
    with pytest.raises(
        ValueError, match="--dim must be at most 2, the dimensions that the descriptors of 3 photos span, got 5"
    ):
        whiten(str(network), few, tmp_path / "e.keras", photos=scenes, dim=5, **options)


def test_a_whitening_that_is_there_is_replaced(scenes, network, tmp_path):
    first = whiten(str(network), scenes, tmp_path / "first.keras", size=56, method="pca", dim=3)
    again = whiten(str(first), scenes, tmp_path / "again.keras", size=56, scales="1,0.5")
    assert whiten(str(first), scenes, tmp_path / "again.keras", size=56, scales="1,0.5") == again
    fresh = whiten(str(network), scenes, tmp_path / "fresh.keras", size=56, scales="1,0.5")
    kernels = [keras.saving.load_model(path).get_layer("whitening").get_weights() for path in (again, fresh)]
    for one, other in zip(*kernels, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_only_the_photos_of_the_tuples_count(scenes, network, tmp_path, caplog):
    caplog.set_level("INFO")
    images = ["scene0/0.png", "scene0/1.png", "gone.png", "scene1/0.png", "scene1/2.png", "scene2/0.png"]
    pairs = [(0, 1), (3, 4), (4, 3), (2, 0), (5, 2)]
    tuples = write_pairs(tmp_path / "tuples.npz", images, pairs)
    whiten(str(network), tuples, tmp_path / "w.keras", photos=scenes, size=56, descriptors=tmp_path / "rows")
    assert "learned from 5 of 6 photos and 3 of 5 pairs" in caplog.text
    shards, names, _ = read_descriptors(tmp_path / "rows")
    kept = [name for name in images if name != "gone.png"]
    rows = np.concatenate(shards)[[names.index(name) for name in kept]]
    expected = learn_lw(rows, np.array([0, 2, 3]), np.array([1, 3, 2]), 1.0)
    found = learn_whitening(tmp_path / "rows", read_pairs(tuples), "lw")
    np.testing.assert_allclose(found.m, expected.m, atol=1e-12)
    np.testing.assert_allclose(found.P, expected.P, rtol=1e-5, atol=1e-7 * np.abs(expected.P).max())


def cosines(rows):
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T


def test_a_linear_adaptation_is_saved_as_a_whitening_is(scenes, network, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(adaptation, "STRENGTHS", (Strength(1.0),))
    monkeypatch.setattr(adaptation, "SIGNIFICANT", 1.0)
    options = {"method": "linear", "size": 56, "scales": "1,0.5"}
    names = read_pairs(scenes).images
    before = described(keras.saving.load_model(network), scenes, names)
    output = whiten(str(network), scenes, tmp_path / "a.keras", **options)
    assert "linear: learned from 32 photos of 8 objects: whitened with shrinkage 1" in capsys.readouterr().out
    saved = keras.saving.load_model(output)
    assert [layer.name for layer in saved.layers][-3:] == ["l2", "whitening", "l2_whitened"]
    P = learn_linear(before, np.repeat(np.arange(8), 4), Strength(1.0))
    found = described(saved, scenes, names)
    np.testing.assert_allclose(found @ found.T, cosines(P.apply(before)), atol=2e-3)

    again = whiten(str(output), scenes, tmp_path / "b.keras", **options, dim=4)  # merged with the whitening
    merged = keras.saving.load_model(again)
    assert [layer.name for layer in merged.layers].count("whitening") == 1
    assert merged.output_shape == (None, 4)
    P = learn_linear(found, np.repeat(np.arange(8), 4), Strength(1.0), 4)
    twice = described(merged, scenes, names)
    np.testing.assert_allclose(twice @ twice.T, cosines(P.apply(found)), atol=2e-3)


def test_a_linear_adaptation_that_helps_nobody_leaves_the_network_as_it_is(
    scenes, network, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(adaptation, "STRENGTHS", (Strength(30.0), Strength(penalty=0.01)))
    shifted = whiten(str(network), scenes, tmp_path / "lw.keras", size=56)
    for source in (network, shifted):
        output = whiten(
            str(source), scenes, tmp_path / f"{source.stem}-as-it-is.keras", method="linear", size=56, objects="top"
        )
        said = capsys.readouterr().out
        assert "linear: the network is left as it is: 32 photos of 8 objects: mAP of 32 photos of 8 objects" in said
        assert f"{output}: small_gem unchanged, 6 dimensions" in said
        pair = [described(keras.saving.load_model(path), scenes, ["scene0/0.png"]) for path in (source, output)]
        np.testing.assert_array_equal(*pair)


def test_a_whitening_inside_a_network_is_refused_before_photos_are_described(scenes, network, tmp_path):
    model = keras.saving.load_model(network)
    x = layers.Whitening(name="whitening")(model.output)
    x = layers.L2Normalization(name="l2_last")(keras.layers.Dense(3, name="last")(x))
    keras.Model(model.input, x, name="odd").save(tmp_path / "odd.keras")
    with pytest.raises(ValueError, match="odd has layers after its whitening, so that no adaptation can be merged"):
        whiten(str(tmp_path / "odd.keras"), scenes, tmp_path / "w.keras", method="linear", size=56)
    assert [path.name for path in tmp_path.iterdir()] == ["odd.keras"]


def test_linear_needs_two_photos_of_two_objects(scenes, network, tmp_path):
    for number in range(3):
        draw_photo(tmp_path / "one" / str(number) / "a.png", number, 0)
        draw_photo(tmp_path / "copies" / f"thing{number}" / "a.png", number, 0)
        draw_photo(tmp_path / "copies" / f"thing{number}" / "b.png", number, 0)
    with pytest.raises(ValueError, match="has one photo only, so that no two photos show the same"):
        whiten(str(network), tmp_path / "one", tmp_path / "w.keras", method="linear")
    with pytest.raises(ValueError, match="6 photos of 3 objects none of them has two photos that are not copies"):
        whiten(str(network), tmp_path / "copies", tmp_path / "w.keras", method="linear")
    tuples = write_pairs(tmp_path / "few.npz", ["scene0/0.png", "scene0/1.png"], [(0, 1)])
    with pytest.raises(ValueError, match="has no field version"):
        whiten(str(network), tuples, tmp_path / "w.keras", photos=scenes, method="linear")
    assert not (tmp_path / "w.keras").exists()


@pytest.mark.parametrize(("options", "message"), [
    ({"method": "linear", "dim": 7}, "--dim must be at most 6, the network's dimensions, got 7"),
    ({"method": "linear", "shrinkage": 1.0}, "--shrinkage 1 is for --method lw only, got --method linear"),
    ({"method": "zca"}, "--method must be one of lw, pca, regional-pca, linear, got zca"),
    ({"dim": 7}, "--dim must be at most 6, the network's dimensions, got 7"),
    ({"dim": 0}, "--dim must be at least 1, got 0"),
    ({"shrinkage": -1.0}, "--shrinkage must be at least 0, got -1.0"),
    ({"shrinkage": float("nan")}, "--shrinkage must be a finite number, got nan"),
    ({"edges": "foo", "method": "regional-pca"}, "--edges must be sobel, .*, got foo"),
    ({"shrinkage": 1.0, "method": "pca"}, "--shrinkage 1 is for --method lw only, got --method pca"),
    ({"shift": 0.5, "method": "pca"}, "--shift 0.5 is for --method lw only, got --method pca"),
    ({"shift": -0.5}, "--shift must be"),
])  # fmt: skip
def test_wrong_options_are_refused_before_photos_are_described(scenes, network, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        whiten(str(network), scenes, tmp_path / "w.keras", size=56, **options)
    assert not list(tmp_path.iterdir())


def test_tuples_without_a_folder_of_photos_are_refused(network, tmp_path):
    tuples = write_pairs(tmp_path / "tuples.npz", ["a.jpg", "b.jpg"], [(0, 1)])
    with pytest.raises(ValueError, match="--photos must give the folder"):
        whiten(str(network), tuples, tmp_path / "w.keras")
    with pytest.raises(ValueError, match=r"OUTPUT must end in \.keras"):
        whiten(str(network), tuples, tmp_path / "w.h5", photos=tmp_path)


def test_photos_of_other_names_are_named(scenes, network, tmp_path):
    from pipelines.descriptors.extract import extract

    extract(str(network), scenes, tmp_path / "rows", size=56)
    with pytest.raises(ValueError, match=r"no descriptor of any of the 1 photos to learn from \(such as x.jpg\)"):
        learn_whitening(tmp_path / "rows", MatchingPairs(["x.jpg"], np.zeros(0, int), np.zeros(0, int)), "pca")

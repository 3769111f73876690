"""ONNX files give Keras' descriptors at every size, state their origin, and run in the steps without TensorFlow."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_retrieval
from keras_retrieval import layers
from keras_retrieval.networks.build import POOLINGS, reads_class_token
from keras_retrieval.networks.transformer_shapes import dinov2, dinov3
from pipelines.descriptors.describer import describer
from pipelines.descriptors.extract import extract
from pipelines.evaluation.evaluate import evaluate
from pipelines.files.durable import read_manifest
from pipelines.networks.files import load_model, model_identity, smallest_side
from pipelines.networks.onnx_network import OnnxNetwork
from pipelines.photos.reader import read_photo
from pipelines.whitening.whiten import whiten
from tests.helpers.small import draw_folder, network, saved_network, shards
from tests.helpers.small_network import draw_photo
from tests.helpers.small_transformer import small_transformer

pytest.importorskip("tf2onnx")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from export.onnx_file import check as onnx_check  # noqa: E402
from export.onnx_file import precisions, quantization  # noqa: E402
from export.onnx_file.export_onnx import export_onnx  # noqa: E402
from pipelines.runtimes.conversion import convert  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
OPTIONS = {
    "netvlad": {"clusters": 3},
    "boq": {"width": 64, "queries": 8, "blocks": 1, "rows": 2},
    "cosplace": {"units": 9},
    "superglobal": {"units": 9},
}
SHAPES = ((1, 33, 90), (3, 71, 40), (2, 64, 64), (1, 27, 29), (4, 50, 51))


TINY = ((1, 1, 1), (2, 1, 40), (1, 40, 1), (2, 2, 3), (1, 15, 5))


OF_MAPS = [name for name in POOLINGS if not reads_class_token(name) and name != "mixvpr"]


def pooled(name):
    """The small trunk, with another pooling and a whitening."""
    trunk = network().get_layer("trunk")
    images = keras.Input((None, None, 3), name="images")
    x = trunk(layers.PixelNormalization.of("caffe", name="normalization")(images))
    if name == "rmac proposals":  # of 40 candidates in place of 1000, and with heads not as weak as at the start
        proposals = layers.RegionProposals(9, (2, 4), filters=16, candidates=40, dtype="float32")
        x = layers.RMAC(name="pooling", dtype="float32", proposals=proposals)(x)
        proposals.set_weights([20 * weight for weight in proposals.get_weights()])
    else:
        x = POOLINGS[name](name="pooling", dtype="float32", **OPTIONS.get(name, {}))(x)
    x = layers.L2Normalization(name="l2", dtype="float32")(x)
    x = layers.Whitening(7, name="whitening", dtype="float32")(x)
    x = layers.L2Normalization(name="l2_whitened", dtype="float32")(x)
    model = keras.Model(images, x, name=f"small_{name.replace(' ', '_')}")
    rng = np.random.default_rng(0)
    size = model.get_layer("whitening").kernel.shape[0]
    model.get_layer("whitening").set_projection(rng.normal(size=size) / 10, rng.normal(size=(size, size)))
    return model


def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def photos_of(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype("float32")


def filled_up(images, smallest):
    """Photos whose last row and column are repeated up to the smallest side."""
    missing = [(0, max(0, smallest - side)) for side in images.shape[1:3]]
    return np.pad(images, [(0, 0), *missing, (0, 0)], "edge")


def cosines(a, b):
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def operations(path):
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the small network as .keras and as .onnx, and photos."""
    folder = tmp_path_factory.mktemp("made")
    saved_network(folder)
    draw_folder(folder / "photos", 16)
    export_onnx(str(folder / "small.keras"), folder / "small.onnx", size=64)
    return folder


# rgem has the regions of rmac, and in each the pooling of gem.
LONG = {"rgem"}
POOLED = [pytest.param(name, "1", marks=[pytest.mark.long] * (name in LONG)) for name in [*OF_MAPS, "rmac proposals"]]


@pytest.mark.parametrize(("name", "scales"), [*POOLED, ("gem", "1,0.7071")])
def test_every_pooling_takes_photos_of_any_size(tmp_path, name, scales):
    """At sizes and batches that the export itself does not compare."""
    model = pooled(name)
    model.save(tmp_path / "model.keras")
    path = export_onnx(str(tmp_path / "model.keras"), tmp_path / "model.onnx", size=64, scales=scales)
    joined = keras_retrieval.multi_scale(model, [float(scale) for scale in scales.split(",")])
    ready = session(path)
    for shape in SHAPES:
        images = photos_of(shape)
        (rows,) = ready.run(["descriptors"], {"images": images})
        np.testing.assert_allclose(rows, keras.ops.convert_to_numpy(joined(images)), atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-4)
    smallest = int(ready.get_modelmeta().custom_metadata_map["smallest_side"])
    for shape in TINY:
        images = photos_of(shape)
        (rows,) = ready.run(["descriptors"], {"images": images})
        expected = keras.ops.convert_to_numpy(joined(filled_up(images, smallest)))
        np.testing.assert_allclose(rows, expected, atol=1e-5)


def test_openvino_takes_photos_of_one_pixel(made):
    pytest.importorskip("openvino")
    from pipelines.runtimes.sessions import open_network

    model = network()
    for shape in TINY:  # each as the first photo, which a graph with a branch for small photos answered with zeros
        describe = open_network("openvino", made / "small.onnx")
        images = photos_of(shape)
        expected = keras.ops.convert_to_numpy(model(filled_up(images, smallest_side(model))))
        np.testing.assert_allclose(describe(images), expected, atol=1e-5)


@pytest.mark.parametrize(("shape", "name"), [(dinov2(64, 1, 4), "megaloc"), (dinov3(64, 1), "cls+mean")])
def test_a_vision_transformer_takes_photos_of_any_size(tmp_path, shape, name):
    model = small_transformer(shape, name)
    model.save(tmp_path / "model.keras")
    ready = session(export_onnx(str(tmp_path / "model.keras"), tmp_path / "model.onnx", size=64))
    for size in ((1, 64, 64), (3, 71, 50), (2, 112, 70), (1, 57, 90), (2, 40, 200), (1, 98, 98)):
        images = photos_of(size)
        (rows,) = ready.run(["descriptors"], {"images": images})
        np.testing.assert_allclose(rows, keras.ops.convert_to_numpy(model(images)), atol=1e-5)


@pytest.mark.kernels
def test_the_edges_of_a_photo_that_is_too_small_are_repeated(tmp_path):
    """ONNX Runtime makes a descriptor of an empty feature map, or ends the process."""
    model = keras_retrieval.build("alexnet_mac", weights=None)
    model.save(tmp_path / "model.keras")
    path = export_onnx(str(tmp_path / "model.keras"), tmp_path / "model.onnx", size=64)
    ready, smallest = session(path), smallest_side(model)
    for height, width in ((20, 24), (smallest - 1, 40), (40, 1)):
        images = photos_of((2, height, width))
        missing = [(0, max(0, smallest - side)) for side in (height, width)]
        whole = np.pad(images, [(0, 0), *missing, (0, 0)], mode="edge")
        (rows,), (expected,) = (ready.run(["descriptors"], {"images": pixels}) for pixels in (images, whole))
        np.testing.assert_array_equal(rows, expected)
        np.testing.assert_allclose(rows, describer(model)(whole.astype("uint8")), atol=1e-5)
        with pytest.raises(ValueError, match=f"of {width} x {height} pixels are too small for alexnet_mac"):
            OnnxNetwork(path).describe(images)


def test_the_file_states_its_input_output_and_origin(made):
    ready = session(made / "small.onnx")
    (images,), (descriptors,) = ready.get_inputs(), ready.get_outputs()
    assert (images.name, images.type, images.shape) == ("images", "tensor(float)", ["batch", "height", "width", 3])
    assert (descriptors.name, descriptors.type, descriptors.shape) == ("descriptors", "tensor(float)", ["batch", 16])
    facts = ready.get_modelmeta().custom_metadata_map
    expected = {"network": "small", "dimensions": "16", "size": "64", "scales": "1.0", "height_and_width": "any"}
    assert expected.items() <= facts.items()
    assert facts["source"] == model_identity(made / "small.keras")["sha256"]
    assert int(facts["smallest_side"]) == smallest_side(network())
    assert facts["pixels"].startswith("RGB 0..255")
    assert facts["training_set"] == "unknown"
    model = onnx.load(made / "small.onnx")
    assert (model.producer_name, model.producer_version) == ("keras-retrieval", keras_retrieval.__version__)


def test_the_training_set_is_kept(made, tmp_path):
    path = export_onnx(str(made / "small.keras"), tmp_path / "a.onnx", size=48, training_set="our street, 2024")
    assert session(path).get_modelmeta().custom_metadata_map["training_set"] == "our street, 2024"


def test_a_file_that_differs_from_keras_is_not_kept(made, tmp_path, monkeypatch):
    def wrong(joined, sides, path, *others):
        convert(joined, sides, path, *others)
        model = onnx.load(path)
        kernel = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        changed = onnx.numpy_helper.to_array(kernel) * np.float32(1.001) + np.float32(1e-3)
        kernel.CopyFrom(onnx.numpy_helper.from_array(changed, kernel.name))
        onnx.save(model, path)

    monkeypatch.setattr(precisions, "convert", wrong)
    path = tmp_path / "small.onnx"
    path.write_bytes(b"what stood here")
    with pytest.raises(ValueError, match="differs from Keras by"):
        export_onnx(str(made / "small.keras"), path, size=64)
    assert path.read_bytes() == b"what stood here"
    assert [left.name for left in tmp_path.iterdir()] == ["small.onnx"]


@keras.saving.register_keras_serializable("tests")
class Brightened(keras.layers.Layer):
    """Indexes a number, which tf2onnx converts where sizes are known and the number is a constant."""

    def call(self, x):
        _, height, width, _ = keras.ops.shape(x)
        return x + keras.ops.cast(keras.ops.minimum(height, width)[..., None], "float32")


@keras.saving.register_keras_serializable("tests")
class Unknown(keras.layers.Layer):
    """An operation that ONNX lacks."""

    def call(self, x):
        import tensorflow as tf

        return x + tf.math.betainc(tf.ones_like(x), tf.ones_like(x), tf.clip_by_value(x, 0.0, 1.0))


def with_layer(layer, path):
    trunk = network().get_layer("trunk")
    images = keras.Input((None, None, 3), name="images")
    x = layers.GeM(name="pooling")(trunk(layer(images)))
    keras.Model(images, layers.L2Normalization(name="l2")(x), name="odd").save(path)
    return str(path)


def test_a_network_of_one_size_says_so(made, tmp_path, capsys):
    model = with_layer(Brightened(), tmp_path / "odd.keras")
    path = export_onnx(model, tmp_path / "odd.onnx", size=48)
    assert "photos of 48x48 only" in capsys.readouterr().out
    ready = session(path)
    assert ready.get_inputs()[0].shape == ["batch", 48, 48, 3]
    assert ready.get_modelmeta().custom_metadata_map["height_and_width"] == "48x48"
    with pytest.raises(ValueError, match="odd was exported for photos of 48x48 pixels only"):
        extract(str(path), made / "photos", tmp_path / "out")
    with pytest.raises(ValueError, match=r"--int8 needs a network for photos of any size: odd takes .* 48x48"):
        export_onnx(model, tmp_path / "int8.onnx", size=48, int8=True, calibrate=made / "photos")


def test_a_network_that_onnx_cannot_hold_is_an_error(tmp_path):
    model = with_layer(Unknown(), tmp_path / "odd.keras")
    with pytest.raises(ValueError, match=r"odd cannot be written as ONNX: .*Betainc"):
        export_onnx(model, tmp_path / "odd.onnx", size=48)
    assert not (tmp_path / "odd.onnx").exists()


def test_layers_that_converters_stumble_over(tmp_path):
    """A Normalization's own tensors, a grouped convolution, GELU: EfficientNet and ConvNeXt have them."""
    images = keras.Input((None, None, 3), name="images")
    pixels = keras.Input((None, None, 3))
    x = keras.layers.Normalization(mean=[120.0, 110, 100], variance=[9e3, 8e3, 7e3])(pixels)
    x = keras.layers.Conv2D(8, 3, strides=2)(x)
    x = keras.layers.Conv2D(8, 3, groups=4)(x)
    x = keras.layers.Activation(lambda x: keras.ops.gelu(x, approximate=False))(x)
    trunk = keras.Model(pixels, x, name="trunk")
    x = layers.L2Normalization(name="l2")(layers.SPoC(name="pooling")(trunk(images)))
    model = keras.Model(images, x, name="modern")
    path = tmp_path / "modern.onnx"
    convert(model, (None, None), path)
    assert [value.name for value in onnx.load(path).graph.input] == ["images"]
    for shape in SHAPES:
        (rows,) = session(path).run(None, {"images": photos_of(shape)})
        np.testing.assert_allclose(rows, keras.ops.convert_to_numpy(model(photos_of(shape))), atol=1e-5)


def test_float16_halves_the_trunk_and_says_how_close_it_stays(made, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = export_onnx(str(made / "small.keras"), tmp_path / "half.onnx", size=64, fp16=True)
    types = {tensor.data_type for tensor in onnx.load(path).graph.initializer if np.prod(tensor.dims) > 16}
    assert types == {onnx.TensorProto.FLOAT16}
    ready = session(path)
    assert (ready.get_inputs()[0].type, ready.get_outputs()[0].type) == ("tensor(float)", "tensor(float)")
    facts = ready.get_modelmeta().custom_metadata_map
    assert facts["precision"] == "float16"
    assert f"float16: cosine to float32 at least {float(facts['cosine_least']):.5f}" in caplog.text
    for shape in SHAPES:
        rows, exact = (session(one).run(None, {"images": photos_of(shape)})[0] for one in (path, made / "small.onnx"))
        assert cosines(rows, exact).min() > 0.9999
        assert not (rows == exact).all()


def test_a_network_whose_numbers_leave_float16_is_refused(tmp_path):
    model = network()
    trunk = model.get_layer("trunk")
    trunk.set_weights([weight * 1e3 for weight in trunk.get_weights()])
    model.save(tmp_path / "large.keras")
    with pytest.raises(ValueError, match=r"does not fit float16.*without --fp16"):
        export_onnx(str(tmp_path / "large.keras"), tmp_path / "large.onnx", size=64, fp16=True)
    assert not (tmp_path / "large.onnx").exists()


@pytest.mark.parametrize(("precision", "queries"), [("int8", 8), ("fp16", 16)])
def test_what_a_lighter_file_loses_in_map_is_told(made, tmp_path, caplog, precision, queries):
    """Against a plain loop over the photos that it was not calibrated on; each folder is an object."""
    draw_folder(tmp_path / "drawn", 16)  # whose folders mean nothing, so that the mAP is below 100
    paths = [tmp_path / "photos" / f"object {n // 4}" / f"{n:02}.png" for n in range(16)]
    for n, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "drawn" / f"{n:03}.png").rename(path)
    options = {precision: True, "calibrate": tmp_path / "photos", "score": True}
    caplog.set_level(logging.INFO)
    path = export_onnx(str(made / "small.keras"), tmp_path / "lighter.onnx", size=64, **options)
    facts = session(path).get_modelmeta().custom_metadata_map
    assert f"mAP {facts['map']}, against {facts['map_float32']} in float32" in caplog.text
    compared = paths[1::2] if precision == "int8" else paths
    assert len(compared) == queries
    assert float(facts["map_float32"]) < 99
    for file, figure in ((path, facts["map"]), (made / "small.onnx", facts["map_float32"])):
        rows = {photo: load_model(file).describe(read_photo(photo)[None])[0] for photo in compared}
        assert float(figure) == pytest.approx(100 * np.mean(list(average_precisions(rows))), abs=0.005)


def average_precisions(rows):
    for query in rows:
        others = sorted((photo for photo in rows if photo != query), key=lambda photo: -(rows[photo] @ rows[query]))
        right = [rank for rank, photo in enumerate(others) if photo.parent == query.parent]
        if right:
            yield np.mean([((k / r if r else 1) + (k + 1) / (r + 1)) / 2 for k, r in enumerate(right)])


def test_networks_are_compared_at_five_sizes_at_least():
    shapes = [images.shape for images in onnx_check.drawn_batches(30, 320)]
    assert len({shape[1:] for shape in shapes}) >= 5
    assert {shape[0] for shape in shapes} == {1, 2}
    assert max(max(shape[1:3]) for shape in shapes) == 320


def test_int8_keeps_all_but_convolutions_in_float32(made, tmp_path, caplog):
    photos = tmp_path / "photos"
    draw_folder(photos, 17)
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff, and no more")
    caplog.set_level(logging.INFO)
    path = export_onnx(str(made / "small.keras"), tmp_path / "small.onnx", size=64, int8=True, calibrate=photos)
    assert "left out: " in caplog.text
    assert "broken.jpg" in caplog.text
    kernels = [tensor for tensor in onnx.load(path).graph.initializer if len(tensor.dims) == 4]
    kernels = [tensor for tensor in kernels if np.prod(tensor.dims) > 16]
    assert [tensor.data_type for tensor in kernels] == [onnx.TensorProto.INT8] * 2
    facts = session(path).get_modelmeta().custom_metadata_map
    assert facts["precision"] == "int8"
    assert f"at least {float(facts['cosine_least']):.5f}, mean {float(facts['cosine_mean']):.5f}, on 8" in caplog.text
    graph = onnx.load(path).graph
    makers = {output: node for node in graph.node for output in node.output}
    (power, *_) = [node for node in graph.node if node.op_type == "Pow"]
    assert makers[power.input[0]].op_type not in ("QuantizeLinear", "DequantizeLinear")
    describe, exact = (describer(load_model(one)) for one in (path, made / "small.onnx"))
    for shape in SHAPES:
        images = photos_of(shape).astype("uint8")
        assert cosines(describe(images), exact(images)).min() > 0.99
        assert not (describe(images) == exact(images)).all()
    tiny = {shape: photos_of(shape) for shape in TINY}
    for shape, images in tiny.items():
        (rows,) = session(path).run(["descriptors"], {"images": images})
        filled = filled_up(images, smallest_side(network()))
        assert cosines(rows, exact(filled.astype("uint8"))).min() > 0.99, shape


def test_int8_of_a_vision_transformer_quantizes_its_blocks(tmp_path, caplog, monkeypatch):
    """Calibrated on the middle of each photo: the attention matrices of all blocks at 1024 px took all memory."""
    monkeypatch.setattr(quantization, "BLOCK_SIDE", 28)
    photo, scales = photos_of((1, 50, 61)), []
    photo[:, 11:39, 16:44] /= 4  # the middle, with another range of activations than the whole

    def quantize(source, target, photos):
        for pixels in (photo, photo[:, 11:39, 16:44], photo[:, :28, :28]):
            quantization.quantize(source, target, [pixels])
            scales.append(scales_of(target))
        quantization.quantize(source, target, photos)

    monkeypatch.setattr(precisions, "quantize", quantize)
    caplog.set_level(logging.INFO)
    draw_folder(tmp_path / "photos", 17)
    model = small_transformer(dinov2(64, 1), "cls")
    for weight in model.weights:
        if weight.name in ("scale1", "scale2"):  # as small at the beginning of a training as to hide the blocks
            weight.assign(0.5 * keras.ops.ones_like(weight))
    model.save(tmp_path / "model.keras")
    options = {"size": 64, "int8": True, "calibrate": tmp_path / "photos", "least_cosine": 0.5}
    path = export_onnx(str(tmp_path / "model.keras"), tmp_path / "model.onnx", **options)
    assert "int8 is calibrated on 9 photos: give --calibrate 64 or more" in caplog.text
    graph = onnx.load(path).graph
    kinds = [tensor.data_type for tensor in graph.initializer if len(tensor.dims) == 2]
    assert kinds.count(onnx.TensorProto.INT8) == 4, "the Dense layers of the block"
    cosine = float(session(path).get_modelmeta().custom_metadata_map["cosine_least"])
    assert 0.9 <= cosine < 1
    np.testing.assert_array_equal(scales[0], scales[1])
    assert not (scales[0] == scales[2]).all()
    with pytest.raises(ValueError, match=r"transformer_cls in int8 has a cosine of .* less than --least-cosine 1:"):
        export_onnx(str(tmp_path / "model.keras"), tmp_path / "other.onnx", **options | {"least_cosine": 1.0})
    assert not (tmp_path / "other.onnx").exists()


def scales_of(path):
    """The scales by which the tensors of an int8 file are quantized, in the order of their names."""
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    return np.concatenate([arrays[name].ravel() for name in sorted(arrays) if name.endswith("_scale")])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": "model.keras"}, r"OUTPUT must end in \.onnx, got .*model\.keras"),
        ({"model": "small.onnx"}, "MODEL must be a .keras file or a network's name, got small.onnx"),
        ({"size": 0}, "--size must be at least 1, got 0"),
        ({"scales": "0"}, "--scales must be factors above 0 and up to 4, .* got 0"),
        ({"int8": True}, "--int8 needs --calibrate"),
        ({"int8": True, "fp16": True, "calibrate": Path("photos")}, "--int8 and --fp16 exclude each other"),
        ({"score": True}, "--score compares --fp16 or --int8 with float32: give one of them"),
        ({"score": True, "fp16": True}, "--score needs --calibrate"),
        ({"model": "missing.keras"}, "no network at missing.keras"),
    ],
)
def test_what_cannot_be_exported_is_said(made, tmp_path, changes, message):
    given = {"model": str(made / "small.keras"), "output": "model.onnx"} | changes
    model, output = given.pop("model"), tmp_path / given.pop("output")
    with pytest.raises(ValueError, match=message):
        export_onnx(model, output, **given)
    assert not list(tmp_path.iterdir())


def test_photos_of_no_object_or_of_one_cannot_score(made, tmp_path):
    options = {"size": 64, "int8": True, "score": True}
    with pytest.raises(ValueError, match="has no sub-folders with photos"):
        export_onnx(str(made / "small.keras"), tmp_path / "a.onnx", calibrate=made / "photos", **options)
    for number in range(4):
        draw_photo(tmp_path / "alone" / str(number) / "photo.png", number, 0)
    with pytest.raises(ValueError, match="each of the 4 objects has one photo only"):
        export_onnx(str(made / "small.keras"), tmp_path / "a.onnx", calibrate=tmp_path / "alone", **options)


def test_a_photo_of_no_object_has_no_positives():
    assert [rows.tolist() for rows in onnx_check.positives_by_object(["a", None, "a", "b", None])] == [
        [2],
        [],
        [0],
        [],
        [],
    ]
    with pytest.raises(ValueError, match="needs photos of at least two objects in --calibrate"):
        onnx_check.positives_by_object(["a", "a"])


@pytest.mark.parametrize(("precision", "count", "least"), [("int8", 15, 16), ("fp16", 1, 2)])
def test_too_few_photos_to_calibrate_and_compare(made, tmp_path, precision, count, least):
    draw_folder(tmp_path / "photos", count)
    options = {precision: True, "calibrate": tmp_path / "photos"}
    with pytest.raises(ValueError, match=rf"must contain at least {least} readable photos, .* got {count}"):
        export_onnx(str(made / "small.keras"), tmp_path / "a.onnx", size=64, **options)


def test_a_missing_extra_answers_with_the_pip_command(made, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ImportError, match=r'pip install "keras-retrieval\[onnx\]"'):
        export_onnx(str(made / "small.keras"), tmp_path / "a.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"ONNX Runtime is not installed: pip install .keras-retrieval\[onnx\]"):
        load_model(made / "small.onnx")


WITHOUT_TENSORFLOW = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "keras", "jax", "tf2onnx", "onnx"):
            raise ModuleNotFoundError(f"{name} is not installed here")

sys.meta_path.insert(0, Absent())
from keras_retrieval.__main__ import main
main(["extract", *sys.argv[1:]])
"""


def test_extract_takes_it_without_tensorflow(made, tmp_path):
    arguments = [made / "small.onnx", made / "photos", tmp_path / "onnx", "--size", "45"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "was exported for photos of 64 px, and --size reads them at 45 px" in done.stdout
    extract(str(made / "small.keras"), made / "photos", tmp_path / "keras", size=45)
    names = [(tmp_path / kind / "names.txt").read_text() for kind in ("onnx", "keras")]
    assert names[0] == names[1]
    assert cosines(shards(tmp_path / "onnx"), shards(tmp_path / "keras")).min() >= 0.99999
    manifest = read_manifest(tmp_path / "onnx", kind="descriptors", version=1)
    assert manifest["model"] == model_identity(made / "small.onnx")
    assert len(manifest["model"]["sha256"]) == 64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": "1,0.5"}, r"chosen at its export \(here 1\): leave out --scales"),
        ({"precision": "bfloat16"}, "--fp16 or --int8"),
    ],
)
def test_extract_refuses_what_is_settled_inside(made, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        extract(str(made / "small.onnx"), made / "photos", tmp_path / "out", size=64, **options)
    assert not list(tmp_path.iterdir())


def test_a_whitening_is_not_put_into_it(made, tmp_path):
    with pytest.raises(ValueError, match=r"MODEL must be a \.keras file, got .*: whiten that"):
        whiten(str(made / "small.onnx"), made / "photos", tmp_path / "whitened.keras")


@pytest.mark.parametrize("damage", ["cut", "text", "foreign"])
def test_a_file_that_is_not_ours_is_named(made, tmp_path, damage):
    path = tmp_path / "odd.onnx"
    whole = (made / "small.onnx").read_bytes()
    if damage == "foreign":
        model = onnx.load(made / "small.onnx")
        del model.metadata_props[:]
        onnx.save(model, path)
    else:
        path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"not a network")
    message = "was not written by `keras-retrieval export-onnx`" if damage == "foreign" else "could not be loaded"
    with pytest.raises(ValueError, match=message) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


def test_evaluate_takes_it(made, tmp_path):
    for scene in range(3):
        for view in range(3):
            draw_photo(tmp_path / "photos" / f"scene{scene}_{view}.png", scene, view)
    queries = [
        {"photo": f"scene{scene}_0.png", "positives": [f"scene{scene}_{view}.png" for view in (1, 2)]}
        | ({"box": [4, 2, 44, 34]} if scene else {})
        for scene in range(3)
    ]
    truth = tmp_path / "mine.json"
    truth.write_text(json.dumps({"queries": queries}))
    options = {"dataset": str(truth), "photos": tmp_path / "photos", "size": 64}
    figures = [
        evaluate(str(made / f"small.{kind}"), output=tmp_path / kind, **options)["mean"] for kind in ("keras", "onnx")
    ]
    assert figures[0] == figures[1]

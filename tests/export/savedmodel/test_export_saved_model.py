"""An exported network, loaded by the C++ loader without Keras, against the pipeline in Python."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from keras_retrieval.pipelines.files.space import DiskSpaceError

from export.contract import signatures
from export.contract.drawn_photos import check_photos, warm_up_photos
from export.contract.signatures import WARM_UP
from export.contract.version_manifest import KIND, VERSION
from export.savedmodel import version as version_module
from export.savedmodel.check import Agreement, loaded_version
from export.savedmodel.export_saved_model import export_saved_model
from export.savedmodel.graph import write_graph
from export.savedmodel.options import GraphOptions
from keras_retrieval.networks.transformer_shapes import dinov2
from pipelines.descriptors.describer import describer
from pipelines.files.durable import read_manifest
from pipelines.networks.files import load_model, smallest_side
from pipelines.photos.reader import read_photo
from pipelines.photos.reading import Reading
from tests.helpers import small
from tests.helpers.deadlines import wait_until
from tests.helpers.memory import peak_growth
from tests.helpers.odd_photos import exif, jpeg_of_size, picture, png, saved
from tests.helpers.small_transformer import small_transformer

pytest.importorskip("tensorflow_serving.apis", reason="tensorflow-serving-api is not installed")

ROOT = Path(__file__).resolve().parents[3]
SIZE = 48
ALEXNET = [
    ("alexnet_rmac", {"regions": "proposals", "proposals": 5, "anchors": (2, 4), "regional_dim": 40}),
    ("alexnet_rmac", {"levels": 2, "whitening": True, "dim": 32}),
    ("alexnet_netvlad", {"clusters": 4, "dim": 16}),
]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return small.saved_network(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def version(network, tmp_path_factory):
    """A small network as version 1 of "small", of two scales."""
    return export_saved_model(str(network), tmp_path_factory.mktemp("s") / "small", size=SIZE, scales="1,0.7071")


@pytest.fixture(scope="module")
def loaded(version):
    with loaded_version(version) as found:
        yield found


@pytest.fixture(scope="module")
def by_python(network):
    """Computes the descriptor of a photo's file with the pipeline in Python."""
    model = load_model(str(network))
    describe, smallest = describer(model, (1.0, 0.7071)), smallest_side(model, (1.0, 0.7071))
    return lambda path: describe(Reading(path.parent, SIZE, smallest=smallest).read(path.name)[None])[0]


@pytest.fixture
def quick(monkeypatch, version):
    """Exports of the same network copy the graph of `version`, in tests that are not about the graph."""

    def copied(model, options, folder, index):
        for path in version.iterdir():
            if path.name in ("saved_model.pb", "fingerprint.pb"):
                shutil.copy(path, folder)
        shutil.copytree(version / "variables", folder / "variables")
        return ["images", "images_uint8", "serving_default"]

    monkeypatch.setattr(version_module, "write_graph", copied)
    return {"size": SIZE, "scales": "1,0.7071"}


@pytest.fixture
def quicker(quick, monkeypatch):
    """Such exports that do not load what they wrote, either, in tests that are about folders only."""
    monkeypatch.setattr(version_module, "compare", lambda *arguments: Agreement(1, 1.0, {}))
    return quick


def drawn(tmp_path, height, width, name="photo.png"):
    small.draw(tmp_path / name, height, width)
    return tmp_path / name


ALONE = """
import sys
sys.modules.update(keras=None, keras_retrieval=None)  # to import them is an error
sys.modules["jax"] = None  # which TensorFlow imports for nothing that is needed here
import numpy as np
import tensorflow as tf

with tf.compat.v1.Session(graph=tf.Graph()) as session:
    signature = tf.compat.v1.saved_model.loader.load(session, ["serve"], sys.argv[1]).signature_def["serving_default"]
    photos = [open(path, "rb").read() for path in sys.argv[3:]]
    outputs = {name: output.name for name, output in signature.outputs.items()}
    found = session.run(outputs, {signature.inputs["image_bytes"].name: photos})
np.savez(sys.argv[2], **found)
"""


def test_it_loads_in_a_session_without_keras(by_python, version, tmp_path):
    paths = [drawn(tmp_path, *shape, f"{i}.png") for i, shape in enumerate(((48, 32), (100, 70), (20, 48)))]
    (tmp_path / "broken.jpg").write_bytes(paths[0].read_bytes()[:200])
    paths.insert(1, tmp_path / "broken.jpg")
    command = [sys.executable, "-c", ALONE, version, tmp_path / "found.npz", *paths]
    subprocess.run(command, check=True, cwd=tmp_path, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}, timeout=300)
    found = np.load(tmp_path / "found.npz")
    assert found["status"].tolist() == [0, signatures.DAMAGED, 0, 0]
    assert not found["descriptors"][1].any()
    for row, path in zip(found["descriptors"], paths, strict=True):
        if path.name in ("0.png", "2.png"):  # not shrunk: the same pixels
            np.testing.assert_allclose(row, by_python(path), atol=1e-6)
        elif path.name == "1.png":
            assert row @ by_python(path) >= 0.9999


def test_a_broken_photo_harms_no_other(loaded):
    good = saved(picture(), "JPEG")
    bombs = [png(100_000, 100_000, 8, 2), jpeg_of_size(65500, 65500)]
    batch = [good, good[:100], b"", b"text", *bombs, saved(picture(), "TIFF"), good]
    answer = loaded.predict("serving_default", image_bytes=batch)
    assert answer["status"].tolist() == [0, 2, 1, 1, 3, 3, 1, 0]
    alone = loaded.predict("serving_default", image_bytes=[good])["descriptors"][0]
    np.testing.assert_allclose(answer["descriptors"][[0, 7]], [alone, alone], atol=1e-6)
    assert not answer["descriptors"][1:7].any()
    empty = loaded.predict("serving_default", image_bytes=np.array([], object))
    assert empty["descriptors"].shape == (0, 16)


def test_bombs_take_no_memory(loaded):
    loaded.predict("serving_default", image_bytes=[saved(picture(), "PNG"), saved(picture(), "JPEG")])
    bombs = [png(9500, 9500, 8, 2, bytes(9500 * 28501)), jpeg_of_size(65500, 65500)] * 4
    answers = []
    grown = peak_growth(lambda: answers.append(loaded.predict("serving_default", image_bytes=bombs)))
    assert set(answers[0]["status"]) == {signatures.TOO_MANY_PIXELS}
    assert grown < 50


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_turns_a_photo(by_python, loaded, tmp_path, turn):
    (tmp_path / "turned.jpg").write_bytes(saved(picture().resize((48, 32)), "JPEG", exif=exif(turn)))
    answer = loaded.predict("serving_default", image_bytes=[(tmp_path / "turned.jpg").read_bytes()])
    np.testing.assert_allclose(answer["descriptors"][0], by_python(tmp_path / "turned.jpg"), atol=1e-6)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP"])
def test_every_form_is_described(by_python, loaded, tmp_path, form):
    path = tmp_path / f"photo.{form.lower()}"
    path.write_bytes(saved(picture(), form))
    answer = loaded.predict("serving_default", image_bytes=[path.read_bytes()])
    np.testing.assert_allclose(answer["descriptors"][0], by_python(path), atol=1e-6)


def test_pixels_of_both_dtypes_are_described(network, loaded):
    describe = describer(load_model(str(network)), (1.0, 0.7071))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 33, 3), np.uint8)
    for name, dtype in (("images", "float32"), ("images_uint8", "uint8")):
        rows = loaded.predict(name, images=pixels.astype(dtype))["descriptors"]
        np.testing.assert_allclose(rows, describe(pixels), atol=1e-6)


@pytest.mark.kernels
def test_a_tiny_photo_is_filled_up_as_in_python(by_python, loaded, tmp_path):
    path = drawn(tmp_path, 2, 5)
    answer = loaded.predict("serving_default", image_bytes=[path.read_bytes()])
    np.testing.assert_allclose(answer["descriptors"][0], by_python(path), atol=1e-6)


@pytest.mark.parametrize("name", ["images", "images_uint8"])
def test_pixels_of_every_size_have_a_status(network, loaded, name):
    dtype = "float32" if name == "images" else "uint8"
    model = load_model(str(network))
    describe, smallest = describer(model, (1.0, 0.7071)), smallest_side(model, (1.0, 0.7071))
    for height, width in ((1, 1), (2, 40), (smallest - 1, 1)):
        pixels = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
        answer = loaded.predict(name, images=pixels.astype(dtype))
        filled = [(0, 0), (0, max(0, smallest - height)), (0, max(0, smallest - width)), (0, 0)]
        np.testing.assert_allclose(answer["descriptors"], describe(np.pad(pixels, filled, "edge")), atol=1e-6)
        assert answer["status"].tolist() == [signatures.OK] * 2
    for shape in ((0, 40, 33, 3), (0, 0, 0, 3), (2, 0, 33, 3), (1, 0, 0, 3)):
        answer = loaded.predict(name, images=np.zeros(shape, dtype))
        assert answer["status"].tolist() == [signatures.NO_DESCRIPTOR] * shape[0]
        assert answer["descriptors"].shape == (shape[0], model.output_shape[1])
        assert not answer["descriptors"].any()


def test_a_descriptor_that_is_no_number_has_a_status(tmp_path):
    model = small.network()
    (exponent,) = model.get_layer("pooling").weights
    exponent.assign(np.full(exponent.shape, np.nan))
    write_graph(model, GraphOptions(size=SIZE, max_pixels=10_000), tmp_path / "nan")
    with loaded_version(tmp_path / "nan") as found:
        of_bytes = found.predict("serving_default", image_bytes=[saved(picture(), "PNG")])
        of_pixels = found.predict("images", images=np.array(picture(), np.float32)[None])
    for answer in (of_bytes, of_pixels):
        assert answer["status"] == [signatures.NO_DESCRIPTOR]
        assert not answer["descriptors"].any()


def test_the_folder_says_what_it_is(network, version):
    manifest = read_manifest(version, kind=KIND, version=VERSION, verify=True)
    assert manifest["size"] == SIZE
    assert manifest["scales"] == [1, 0.7071]
    assert manifest["lowest_cosine"] >= 0.9999
    readme = (version / "README.txt").read_text()
    assert "not stated" in readme
    assert manifest["model"]["sha256"] in readme


def test_every_weight_is_written_once(network, version):
    weights = sum(weight.numpy().nbytes for weight in load_model(str(network)).weights)
    (data,) = (version / "variables").glob("variables.data*")
    assert weights <= data.stat().st_size < weights + 4000


def test_warm_up_requests_are_answered(version, loaded):
    import tensorflow as tf
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    seen = set()
    for record in tf.data.TFRecordDataset(str(version / WARM_UP)).as_numpy_iterator():
        request = PredictionLog.FromString(record).predict_log.request
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        answer = loaded.predict(request.model_spec.signature_name, **inputs)
        assert request.model_spec.name == "small"
        assert not answer.get("status", np.zeros(1)).any()
        seen.add(request.model_spec.signature_name)
    assert seen == {"serving_default", "images", "images_uint8"}


def test_saved_model_cli_shows_it(version, capsys):
    """The function that the command of that name calls, without a second TensorFlow."""
    from tensorflow.python.tools.saved_model_cli import main

    show = ["show", "--dir", version, "--tag_set", "serve", "--signature_def", "serving_default"]
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(SystemExit):
        patch.setattr(sys, "argv", ["saved_model_cli", *map(str, show)])
        main()
    shown = capsys.readouterr().out
    for name in ("image_bytes", "descriptors", "status"):
        assert f"['{name}']" in shown


def regional(name, whitening, proposals):
    """The small trunk with R-MAC on a grid, or on proposals of heads that are not as weak as at first."""
    import keras

    from keras_retrieval import layers

    model = small.network()
    front = model.get_layer("pooling").input
    whitening = layers.Whitening(whitening, name="regional_whitening") if whitening else None
    proposals = layers.RegionProposals(5, (2, 4), filters=16, candidates=40) if proposals else None
    x = layers.RMAC(2, whitening=whitening, proposals=proposals, name="pooling")(front)
    if proposals:
        proposals.set_weights([20 * weight for weight in proposals.get_weights()])
    return keras.Model(model.input, layers.L2Normalization(name="l2")(x), name=name)


@pytest.mark.parametrize(("whitening", "proposals"), [(12, False), pytest.param(12, True, marks=pytest.mark.long)])
def test_regions_of_a_photo(tmp_path, whitening, proposals):
    compare("small_rmac", regional("small_rmac", whitening, proposals), tmp_path, 48)


@pytest.mark.long
@pytest.mark.parametrize(("name", "options"), ALEXNET)
def test_alexnet_of_every_pooling(tmp_path, name, options):
    import keras

    import keras_retrieval

    keras.utils.set_random_seed(0)
    compare(name, keras_retrieval.build(name, weights=None, **options), tmp_path, 96)


def compare(name, network, tmp_path, size):
    path = tmp_path / f"{name}.keras"
    network.save(path)
    version = export_saved_model(str(path), tmp_path / name, size=size)
    model = load_model(str(path))
    describe, reading = describer(model), Reading(tmp_path, size)
    photo = drawn(tmp_path, size, size - 25)
    with loaded_version(version) as found:
        (row,) = found.predict("serving_default", image_bytes=[photo.read_bytes()])["descriptors"]
        (expected,) = describe(reading.read(photo.name)[None])
        assert row @ expected / np.linalg.norm(row) / np.linalg.norm(expected) > 0.999999
        assert ("embed_regions" in found.signatures) == name.endswith("rmac")
        if name.endswith("rmac"):
            _check_regions(
                model, reading.read(photo.name), found.predict("embed_regions", image_bytes=[photo.read_bytes()])
            )


def _check_regions(model, pixels, answer):
    """Regions are those of the layer, without padding; boxes lie within the photo."""
    import keras

    pooling = model.get_layer("pooling")
    cells = keras.Model(model.input, pooling.input)(pixels[None])
    expected = np.array(pooling.regions(cells).vectors[0])
    (vectors,), (boxes,) = answer["regions"], answer["boxes"]
    np.testing.assert_allclose(vectors[: len(expected)], expected, atol=1e-5)
    assert not vectors[len(expected) :].any()
    exists = np.linalg.norm(vectors, axis=1) > 0
    np.testing.assert_array_equal(exists, (boxes[:, 2:] > boxes[:, :2]).all(axis=1))
    assert boxes[0].tolist() == [0, 0, 1, 1]
    assert boxes.min() == 0
    assert boxes.max() == 1
    if pooling.whitening is None:
        height, width = cells.shape[1:3]
        left, top, right, bottom = (boxes[1] * [width, height, width, height]).round().astype(int)
        region = np.array(cells)[0, top:bottom, left:right].max(axis=(0, 1))
        np.testing.assert_allclose(vectors[1], region / np.linalg.norm(region), atol=1e-5)


def test_real_photos_are_described_as_in_python(shared, tmp_path):
    import keras_retrieval

    weights = shared / "data" / "weights" / "alexnet_imagenet_torchvision_features.npz"
    keras_retrieval.build("alexnet_gem", weights=weights, whitening=True).save(tmp_path / "alexnet.keras")
    photos = shared / "data" / "photos"
    version = export_saved_model(str(tmp_path / "alexnet.keras"), tmp_path / "alexnet", size=362, check_photos=photos)
    facts = json.loads((version / "manifest.json").read_text())
    assert facts["compared"] == version_module.CHECKED
    assert facts["lowest_cosine"] >= 0.99995


def test_what_differs_from_keras_is_not_published(network, quick, tmp_path, monkeypatch):
    other = small.network(seed=1)
    monkeypatch.setattr(version_module, "describer", lambda model, *args, **kwargs: describer(other, *args, **kwargs))
    with pytest.raises(ValueError, match=r"a cosine of .+ nothing was written"):
        export_saved_model(str(network), tmp_path / "small", **quick)
    assert not [*(tmp_path / "small").iterdir()]


def test_a_full_disk_is_told_and_leaves_no_version(network, quick, tmp_path, monkeypatch):
    def full(model, options, folder, index):
        (folder / "variables").mkdir()
        raise RuntimeError(f"{folder}/variables/variables; No space left on device")  # as TensorFlow's error

    monkeypatch.setattr(version_module, "write_graph", full)
    with pytest.raises(DiskSpaceError, match=r"small.1 needs more than the .* free on its disk"):
        export_saved_model(str(network), tmp_path / "small", **quick)
    assert list((tmp_path / "small").iterdir()) == []


def test_versions_count_up_and_are_never_replaced(network, quicker, tmp_path):
    output = tmp_path / "small"
    (output / "7").mkdir(parents=True)
    (output / "notes").mkdir()
    assert export_saved_model(str(network), output, **quicker).name == "8"
    with pytest.raises(ValueError, match="7 exists already"):
        export_saved_model(str(network), output, size=SIZE, version=7)
    assert sorted(path.name for path in output.iterdir()) == ["7", "8", "notes"]


def test_exports_to_one_folder_take_turns(network, quicker, tmp_path):
    """Two at once would write the same version, and each the other's files."""
    output = tmp_path / "small"
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda _: export_saved_model(str(network), output, **quicker), range(2)))
    assert sorted(path.name for path in paths) == sorted(path.name for path in output.iterdir()) == ["1", "2"]
    for path in paths:
        read_manifest(path, kind=KIND, version=VERSION, verify=True)


def test_photos_to_compare_can_be_drawn_at_every_size():
    for size in (1, 2, 48):
        for data in [*check_photos(size).values(), *warm_up_photos(size)]:
            assert 1 <= max(read_photo(data, size=size).shape[:2]) <= size


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"size": 0}, "--size must be at least 1, got 0"),
        ({"max_pixels": 0}, "--max-pixels must be at least 1, got 0"),
        ({"version": 0}, "--version must be at least 1, got 0"),
        ({"scales": "a"}, "--scales must be factors above 0 and up to 4, .* got a"),
        ({"model": "model.onnx"}, "MODEL must be a .keras file or a network's name, got model.onnx"),
        ({"model": "missing.keras"}, "no network at missing.keras"),
        ({"check_photos": Path("nowhere")}, "nowhere does not exist"),
    ],
)
def test_wrong_options_are_named(tmp_path, options, reason):
    with pytest.raises(ValueError, match=reason):
        export_saved_model(**{"model": "vgg16_gem", "output": tmp_path / "m"} | options)
    assert not (tmp_path / "m").exists()


def test_a_file_in_the_place_of_versions_is_named(tmp_path):
    (tmp_path / "m").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        export_saved_model("vgg16_gem", tmp_path / "m")


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving", None)
    monkeypatch.delitem(sys.modules, "tensorflow_serving.apis", raising=False)
    with pytest.raises(ImportError, match=r'pip install "keras-retrieval\[serving\]"'):
        export_saved_model("vgg16_gem", tmp_path / "m")


KILLED = """
import sys, time
from pathlib import Path
from keras_retrieval.export.savedmodel import version

def writes_for_ever(network, options, folder, index):  # as TensorFlow does, which takes seconds to import
    (folder / "variables").mkdir()
    (folder / "variables" / "variables.index").write_bytes(b"half")
    time.sleep(600)

version.load_model, version.weights_size = lambda model: None, lambda network: 0
version.require_extra, version.write_graph = lambda: None, writes_for_ever
version.export_version(version.ExportSavedModelOptions(sys.argv[1], Path(sys.argv[2]), size=48))
"""


def test_a_killed_export_leaves_no_version(network, quicker, tmp_path):
    output = tmp_path / "small"
    process = subprocess.Popen([sys.executable, "-c", KILLED, network, output], stderr=subprocess.DEVNULL)
    begun = output / "1.partial" / "variables" / "variables.index"
    wait_until(lambda: process.poll() is not None or begun.exists(), "the export has begun to write")
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    assert [path.name for path in output.iterdir()] == ["1.partial"]
    version = export_saved_model(str(network), output, **quicker)
    assert [path.name for path in output.iterdir()] == ["1"]
    read_manifest(version, kind=KIND, version=VERSION, verify=True)


def cosines(x, y):
    return (x * y).sum(axis=1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)


@pytest.mark.long
def test_a_vision_transformer_with_salad_takes_photos_of_any_size(tmp_path):
    import keras

    model = small_transformer(dinov2(64, 1), "salad")
    model.save(tmp_path / "model.keras")
    version = export_saved_model(str(tmp_path / "model.keras"), tmp_path / "served", size=64)
    with loaded_version(version) as served:
        for height, width in ((64, 64), (71, 50), (112, 70), (57, 90), (40, 200), (98, 98)):
            photos = np.random.default_rng(height).integers(0, 256, (2, height, width, 3)).astype("float32")
            rows = served.predict("images", images=photos)["descriptors"]
            expected = keras.ops.convert_to_numpy(model(photos))
            assert cosines(rows.astype("float64"), expected).min() >= 0.999999
            np.testing.assert_allclose(rows, expected, atol=1e-5)

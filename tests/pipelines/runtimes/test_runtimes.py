"""The runtimes give the descriptors of Keras, on networks converted once; what fails falls back to TensorFlow."""

import ctypes
import logging
import os
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_retrieval import layers
from keras_retrieval.errors import ArgumentError
from pipelines.descriptors import extraction
from pipelines.descriptors.describer import Runtime, describer
from pipelines.descriptors.extract import extract
from pipelines.descriptors.folder import read_descriptors
from pipelines.networks.files import load_model
from pipelines.networks.onnx_network import OnnxNetwork
from pipelines.runtimes import switching
from pipelines.runtimes.check import check_batches, drawn
from pipelines.runtimes.conversion import convert, stamp
from pipelines.runtimes.measured import keep, recall
from pipelines.runtimes.sessions import open_network, parts
from pipelines.runtimes.switching import SwitchingDescriber
from tests.helpers.clock import Clock
from tests.helpers.small_network import draw_scenes

for package in ("openvino", "onnxruntime", "ncnn", "tf2onnx"):
    pytest.importorskip(package)

RUNTIMES = ("onnxruntime", "openvino", "ncnn")
CONVERT = "pipelines.descriptors.describer.convert"


def convolutions(path, seed=0):
    """Saves a tiny network whose second convolution is one that ncnn computes, as AlexNet's third."""
    keras.utils.set_random_seed(seed)
    images = keras.Input((None, None, 3), name="images")
    x = layers.PixelNormalization.of("torch", name="normalization")(images)
    x = keras.layers.Conv2D(6, 3, 3, activation="relu", name="conv1")(x)
    x = keras.layers.Conv2D(16, 3, padding="same", activation="relu", name="conv2")(x)
    x = layers.L2Normalization(name="l2", dtype="float32")(layers.GeM(name="pooling", dtype="float32")(x))
    keras.Model(images, x, name="small_gem").save(path)
    return path


def transformer(path):
    """Saves a tiny vision transformer whose class token is the descriptor."""
    keras.utils.set_random_seed(1)
    images = keras.Input((None, None, 3), name="images")
    x = layers.FitToPatches(8, name="fit")(layers.PixelNormalization.of("torch", name="normalization")(images))
    patches = layers.PatchEmbedding(128, 8, name="patches")(x)
    x = layers.TokenSequence(37, 1, name="tokens")(patches)
    x = layers.TransformerBlock(2, 256, scale=1.0, name="block_0")(x)
    x = layers.TokenMap(name="map")([keras.layers.LayerNormalization(name="norm")(x), patches])
    x = layers.L2Normalization(name="l2", dtype="float32")(layers.GeM(name="pooling", dtype="float32")(x))
    keras.Model(images, x, name="tiny_transformer").save(path)
    return path


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    return {"gem": convolutions(folder / "gem.keras"), "transformer": transformer(folder / "transformer.keras")}


@pytest.fixture(scope="module")
def conversion(networks):
    """The small network as an .onnx file, which tests take for a conversion of their own."""
    path = networks["gem"].with_name("conversion.onnx")
    convert(load_model(networks["gem"]), (None, None), path)
    content = path.read_bytes()
    path.unlink()
    return content


@pytest.fixture
def quick(conversion, monkeypatch):
    """Converts the small network in no time; returns the list of conversions."""
    calls = []

    def write(network, sides, place):
        calls.append(place)
        place.write_bytes(conversion)

    monkeypatch.setattr(CONVERT, write)
    return calls


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return draw_scenes(tmp_path_factory.mktemp("photos"))


def converted(folder):
    return sorted(path.name for path in Path(folder).glob("*.onnx"))


def eager(monkeypatch):
    """Conversion pays at once."""
    monkeypatch.setattr(switching, "PAYS", 0.0)
    monkeypatch.setattr(switching, "LOAD_SECONDS", 0.0)
    monkeypatch.setattr(switching, "_SAMPLE", 0.0)
    monkeypatch.setattr(switching, "_MANY_PIXELS", 1)
    monkeypatch.setattr(switching, "_ROUNDS", 1)


def speeds(monkeypatch, **seconds):
    """Runtimes of the given speeds, TensorFlow's being 1."""
    monkeypatch.setattr(
        SwitchingDescriber,
        "_seconds_of",
        lambda self, found, images: {"tensorflow": 1.0} | {name: seconds[name] for name in found},
    )


@pytest.mark.parametrize(
    ("network", "settings"),
    [("gem", {}), ("gem", {"scales": (1.0, 0.7071), "mirror": True}), ("transformer", {})],
    ids=["convolutions", "scales", "transformer"],
)
def test_runtimes_equal_keras_on_all_sizes(networks, network, settings):
    model = load_model(networks[network])
    exact = describer(model, **settings)
    batches = [*check_batches(12), drawn(3, 41, 97), drawn(1, 200, 24), drawn(5, 150, 200)]
    assert [len(part) for part in parts(batches[-1])] == [4, 1]  # OpenVINO describes few pixels at a time
    assert [len(part) for part in parts(np.zeros((2, 400, 400, 3)))] == [1, 1]
    assert [len(part) for part in parts(np.zeros((0, 40, 40, 3)))] == [0]
    for name in RUNTIMES if network == "gem" else ("onnxruntime", "openvino"):
        describe = describer(model, runtime=Runtime(name, networks[network]), **settings)
        assert describe.runtime == name
        for images in batches:
            np.testing.assert_allclose(describe(images), exact(images), atol=1e-5)
    assert describe(batches[0]).dtype == np.float32


def test_bfloat16_is_openvinos_and_close(networks, conversion, tmp_path):
    exact, path, images = describer(load_model(networks["gem"])), tmp_path / "net.onnx", drawn(2, 64, 80)
    path.write_bytes(conversion)
    rows = {half: open_network("openvino", path, half)(images) for half in (False, True)}
    np.testing.assert_allclose(rows[False], exact(images), atol=1e-5)
    assert (rows[True] * exact(images)).sum(axis=1).min() > 0.999


def test_bfloat16_of_a_transformer_leaves_its_sums_in_float32(networks, tmp_path):
    """Entirely in bfloat16, this one differs by 0.04, and published ones have cosines below 0.99."""
    import openvino

    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("the processor has no bfloat16")
    network, images = load_model(networks["transformer"]), drawn(2, 96, 133)
    weights, large = {weight.path: weight for weight in network.weights}, np.arange(128) < 3
    # Three channels far above the others, as in published ones, which the last normalization leaves out.
    weights["patches/bias"].assign(np.where(large, 30.0, 0.0))
    weights["norm/gamma"].assign(np.where(large, 0.0, 1.0))
    convert(network, (None, None), tmp_path / "net.onnx")
    rows = open_network("openvino", tmp_path / "net.onnx", bfloat16=True)(images)
    assert 1e-6 < np.abs(rows - describer(network)(images)).max() < 0.01


def test_a_network_is_converted_once_and_beside_its_file(tmp_path, quick):
    path = convolutions(tmp_path / "net.keras")
    describer(load_model(path), runtime=Runtime("onnxruntime", path))
    (name,) = converted(tmp_path)
    assert name.startswith("net.runtime-")
    assert describer(load_model(path), runtime=Runtime("openvino", path)).runtime == "openvino"
    assert converted(tmp_path) == [name]
    assert len(quick) == 1


def test_another_network_in_the_same_file_is_converted_and_the_old_one_goes(tmp_path, quick):
    path = convolutions(tmp_path / "net.keras", seed=5)
    outdated = tmp_path / "net.runtime-0123456789ab-01234567-01234567.onnx"
    others = [tmp_path / "net2.runtime-0123456789ab-01234567-01234567.onnx", tmp_path / "net.onnx"]
    for file in (outdated, *others):
        file.write_bytes(b"of an earlier network, or of the user")
    convolutions(path)
    assert describer(load_model(path), runtime=Runtime("onnxruntime", path)).runtime == "onnxruntime"
    assert not outdated.exists()
    assert all(file.exists() for file in others)


def test_a_damaged_conversion_is_made_again(tmp_path, quick):
    path = convolutions(tmp_path / "net.keras")
    describer(load_model(path), runtime=Runtime("openvino", path))
    (kept,) = tmp_path.glob("*.onnx")
    whole = kept.read_bytes()
    for content in (b"", whole[: len(whole) // 2]):
        kept.write_bytes(content)
        assert describer(load_model(path), runtime=Runtime("openvino", path)).runtime == "openvino"
        assert kept.read_bytes() == whole


def test_a_conversion_of_other_weights_is_refused(tmp_path, quick, caplog):
    path = convolutions(tmp_path / "net.keras", seed=5)
    assert describer(load_model(path), runtime=Runtime("onnxruntime", path)).runtime == "tensorflow"
    assert "(not onnxruntime: onnxruntime gives descriptors that differ from Keras' by" in caplog.text


@pytest.mark.parametrize("kept", [True, False], ids=["cache", "nothing"])
def test_a_folder_that_cannot_be_written(tmp_path, cache, quick, monkeypatch, kept):
    path = convolutions(tmp_path / "net.keras")
    if not kept:
        monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", "")
    real = tempfile.TemporaryFile

    def refused(*args, dir=None, **kwargs):
        if dir == tmp_path:
            raise PermissionError(13, "Permission denied")
        return real(*args, dir=dir, **kwargs)

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    describe = describer(load_model(path), runtime=Runtime("openvino", path))
    assert describe.runtime == "openvino"
    assert converted(tmp_path) == []
    assert len(converted(cache / "runtimes")) == kept
    np.testing.assert_allclose(describe(drawn(1, 40, 50)), describer(load_model(path))(drawn(1, 40, 50)), atol=1e-5)


def test_a_kill_in_the_middle_of_a_conversion_leaves_nothing_that_is_read(tmp_path, quick, monkeypatch):
    path = convolutions(tmp_path / "net.keras")

    def killed(network, sides, place):
        place.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CONVERT, killed)
        with pytest.raises(KeyboardInterrupt):
            describer(load_model(path), runtime=Runtime("onnxruntime", path))
    left = tmp_path / ".net.runtime-0123456789ab-01234567.99.writing.onnx"  # as of SIGKILL
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    assert describer(load_model(path), runtime=Runtime("onnxruntime", path)).runtime == "onnxruntime"
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".keras", ".onnx"]


def test_what_cannot_be_converted_stays_with_tensorflow(networks, monkeypatch, caplog):
    def fails(*_):
        raise NotImplementedError("no such operation\nin ONNX")

    monkeypatch.setattr(CONVERT, fails)
    describe = describer(load_model(networks["gem"]), (0.9,), runtime=Runtime("openvino", networks["gem"]))
    assert describe.runtime == "tensorflow"
    assert [record.getMessage() for record in caplog.records if "runtime" in record.getMessage()] == [
        "runtime: tensorflow (not openvino: no such operation)"
    ]
    assert describe(drawn(1, 60, 60)).shape == (1, 16)


def test_small_jobs_do_not_pay_for_a_conversion(networks, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "keras_retrieval")
    monkeypatch.setattr(CONVERT, lambda *_: pytest.fail("converted"))
    describe = describer(load_model(networks["gem"]), (0.8,), runtime=Runtime("auto", networks["gem"]))
    describe.expect([(40, 56)] * 6)
    for _ in range(3):
        describe(drawn(2, 40, 56))
    assert describe.runtime == "tensorflow"
    assert caplog.text.count("runtime: ") == 1
    assert "s of TensorFlow pay for converting the network, and the photos need 0 s" in caplog.text


@pytest.mark.parametrize(("seconds", "measured_on"), [(0.004, 8), (0.2, 2), (5.0, 1)])
def test_a_measurement_is_of_few_photos_and_pays_too(networks, monkeypatch, seconds, measured_on):
    """A vision transformer took 5 s for a photo of 1024 px: four runtimes were measured for minutes, for 20 photos."""
    clock = Clock()
    monkeypatch.setattr(switching, "time", clock)

    def tensorflow(images):
        clock.now += seconds * len(images)
        return np.zeros((len(images), 16), np.float32)

    runs = (1 + 3) * (1 + 3)  # each runtime and TensorFlow, to make kernels and then three times
    enough = 10 * (5 + runs * measured_on * seconds) / seconds  # photos
    for share, expected in ((0.8, []), (1.2, [(40, 56, measured_on)])):
        samples = []
        monkeypatch.setattr(SwitchingDescriber, "_measure", lambda self, to=samples: to.append(self._sample()))
        describe = describer(load_model(networks["gem"]), (0.7,), runtime=Runtime("auto", networks["gem"]))
        describe._describe = tensorflow
        calls = 3 + round(1 / seconds / 8)
        describe.expect([(40, 56)] * (8 * calls + round(share * enough)))
        for _ in range(calls):
            describe(np.zeros((8, 40, 56, 3), np.uint8))
        assert samples[:1] == expected


def test_many_photos_are_described_by_the_fastest_which_is_remembered(tmp_path, quick, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "keras_retrieval")
    eager(monkeypatch)
    speeds(monkeypatch, onnxruntime=0.8, openvino=0.5, ncnn=0.6)
    path, images = convolutions(tmp_path / "net.keras"), drawn(2, 40, 56)
    exact = describer(load_model(path))(images)
    first = describer(load_model(path), runtime=Runtime("auto", path))
    first.expect([(40, 56)] * 100)
    found = [(first(images), first.runtime) for _ in range(4)]
    assert [runtime for _, runtime in found] == ["tensorflow", "openvino", "openvino", "openvino"]
    for rows, _ in found:
        np.testing.assert_allclose(rows, exact, atol=1e-5)
    assert "onnxruntime 1.25, openvino 2.00, ncnn 1.67 times as fast as TensorFlow" in caplog.text
    monkeypatch.setattr(SwitchingDescriber, "_measure", lambda _: pytest.fail("measured again"))
    again = describer(load_model(path), runtime=Runtime("auto", path))
    again.expect([(40, 56)] * 100)
    assert again.runtime == "openvino"
    other = describer(load_model(path), runtime=Runtime("auto", path))
    other.expect([(400, 560)] * 100)  # of another class of sizes
    assert other.runtime == "tensorflow"


def test_tensorflow_stays_where_it_is_the_fastest(tmp_path, quick, monkeypatch):
    eager(monkeypatch)
    speeds(monkeypatch, onnxruntime=0.97, openvino=1.2, ncnn=0.96)
    path = convolutions(tmp_path / "net.keras")
    for _ in range(2):
        describe = describer(load_model(path), runtime=Runtime("auto", path))
        describe.expect([(40, 56)] * 100)
        for _ in range(3):
            describe(drawn(2, 40, 56))
        assert describe.runtime == "tensorflow"
        assert len(converted(tmp_path)) == 1
        monkeypatch.setattr(SwitchingDescriber, "_measure", lambda _: pytest.fail("measured again"))


def test_a_failure_is_remembered(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "keras_retrieval")
    eager(monkeypatch)
    path, calls = convolutions(tmp_path / "net.keras"), []

    def fails(*_):
        calls.append(1)
        raise NotImplementedError("no such operation")

    monkeypatch.setattr(CONVERT, fails)
    for _ in range(2):
        describe = describer(load_model(path), runtime=Runtime("auto", path))
        describe.expect([(40, 56)] * 100)
        for _ in range(3):
            describe(drawn(2, 40, 56))
    assert len(calls) == 1
    assert "the network cannot be converted: no such operation" in caplog.text


@pytest.mark.parametrize("content", ["", "{", "[]", '{"x": 1}', "\x00"])
def test_a_damaged_memory_is_no_obstacle(cache, content):
    cache.mkdir(exist_ok=True)
    (cache / "runtimes.json").write_text(content)
    assert recall("key") is None
    for wrong in ({"seconds": {}}, {"seconds": {"tensorflow": 0}}, {"failed": 1}, [], 3):
        keep("key", wrong)
        assert recall("key") is None
    keep("key", {"seconds": {"tensorflow": 1.0}, "cost": 2})
    assert recall("key") == {"seconds": {"tensorflow": 1.0}, "cost": 2}


def test_extract_with_each_runtime_and_continued_with_another(photos, tmp_path, quick, monkeypatch):
    network = convolutions(tmp_path / "net.keras")
    options = {"size": 64, "shard": 8, "precision": "float32"}
    rows = {}
    for name in ("tensorflow", *RUNTIMES):
        shards, names, manifest = read_descriptors(extract(network, photos, tmp_path / name, runtime=name, **options))
        rows[name] = np.concatenate(list(shards))
        assert manifest["runtime"] == name
    for name in RUNTIMES:
        np.testing.assert_allclose(rows[name], rows["tensorflow"], atol=1e-5)
    writer = extraction._ShardWriter
    real, done = writer._finish, []

    def killed(*args):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(writer, "_finish", killed)
        with pytest.raises(KeyboardInterrupt):
            extract(network, photos, tmp_path / "mixed", runtime="tensorflow", **options)
    shards, again, _ = read_descriptors(extract(network, photos, tmp_path / "mixed", runtime="openvino", **options))
    assert again == names
    np.testing.assert_allclose(np.concatenate(list(shards)), rows["tensorflow"], atol=1e-5)


def test_an_onnx_file_is_run_by_any_of_them(conversion, tmp_path):
    path, images = tmp_path / "net.onnx", drawn(2, 40, 56)
    path.write_bytes(conversion)
    facts = {"network": "small", "size": "64", "scales": "1", "dimensions": "6", "smallest_side": "5"}
    stamp(path, "0", facts | {"height_and_width": "any"})
    rows = {name: describer(OnnxNetwork(path), runtime=Runtime(name, path))(images) for name in ("auto", *RUNTIMES)}
    for name in RUNTIMES:
        np.testing.assert_allclose(rows[name], rows["onnxruntime"], atol=1e-5)
    np.testing.assert_array_equal(rows["auto"], rows["onnxruntime"])
    with pytest.raises(ArgumentError, match="--runtime tensorflow does not run"):
        describer(OnnxNetwork(path), runtime=Runtime("tensorflow", path))


class SignalStack(ctypes.Structure):
    """stack_t of Linux."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def signal_stack():
    """(address, flags, size) of the stack on which signal handlers of this thread run."""
    stack = SignalStack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    return stack.address, stack.flags, stack.size


@pytest.mark.skipif(sys.platform != "linux", reason="sigaltstack's structure is that of Linux")
def test_openvino_leaves_the_signal_stack_of_the_thread_alone(conversion, tmp_path):
    """It gives its own one away, and unmaps it later, in any thread: the next signal would end the process."""
    path = tmp_path / "network.onnx"
    path.write_bytes(conversion)
    before = signal_stack()
    describe = open_network("openvino", path)
    describe(np.zeros((1, 32, 32, 3), np.float32))
    assert signal_stack() == before


def test_a_gpu_keeps_tensorflow(networks, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "keras_retrieval")
    eager(monkeypatch)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["GPU"])
    describe = describer(load_model(networks["gem"]), runtime=Runtime("auto", networks["gem"]))
    describe.expect([(40, 56)] * 1000)
    for _ in range(3):
        describe(drawn(2, 40, 56))
    assert describe.runtime == "tensorflow"
    assert "runtime: tensorflow (it has a GPU)" in caplog.text

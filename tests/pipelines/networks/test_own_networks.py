"""Networks of a user's own: the check of their descriptors, layers of their own, other versions of Keras."""

import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_retrieval
from keras_retrieval.errors import ArgumentError
from keras_retrieval.networks.errors import NetworkFileError
from pipelines.descriptors.extract import extract
from pipelines.networks import custom_layers
from pipelines.networks.convert import convert
from pipelines.networks.errors import NetworkError
from pipelines.networks.files import load_model
from tests.helpers.weight_files import change_member

PHOTO = np.random.default_rng(2).integers(0, 256, (1, 64, 80, 3)).astype("float32")


def pixels(height=None, width=None, channels=3):
    return keras.Input((height, width, channels))


def trunk(x):
    return keras.layers.Conv2D(6, 5, 4, activation="relu")(x)


def rows(x):
    return keras.layers.GlobalAveragePooling2D()(trunk(x))


def save(path, inputs, outputs):
    keras.Model(inputs, outputs, name="own").save(path)
    return path


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(3)

    def call(self, x):
        return self.dense(keras.ops.mean(x, (1, 2)))


def two_outputs(path):
    x = pixels()
    return save(path, x, [rows(x), rows(x)])


def two_inputs(path):
    x, y = pixels(), pixels()
    return save(path, [x, y], keras.layers.UnitNormalization()(rows(x) + rows(y)))


def feature_map(path):
    x = pixels()
    return save(path, x, trunk(x))


def rank_3(path):
    x = pixels()
    return save(path, x, keras.layers.UnitNormalization()(keras.layers.Reshape((-1, 6))(trunk(x))))


def grey(path):
    x = pixels(channels=1)
    return save(path, x, keras.layers.UnitNormalization()(rows(x)))


def classifier(path):
    x = pixels()
    return save(path, x, keras.layers.Dense(10, "softmax")(rows(x)))


def other_axis(path):
    x = pixels()
    return save(path, x, keras.layers.UnitNormalization(axis=0)(rows(x)))


def subclassed(path):
    model = Subclassed()
    model(PHOTO)
    model.save(path)
    return path


WRONG = {
    two_outputs: "has 1 inputs and 2 outputs, not photos as the only input and descriptors as the only output",
    two_inputs: "has 2 inputs and 1 outputs",
    feature_map: r"has an output of shape \(None, None, None, 6\), not descriptors \(None, D\).*append a pooling",
    rank_3: r"has an output of shape \(None, None, 6\), not descriptors",
    grey: r"takes an input of shape \(None, None, None, 1\), not photos",
    classifier: "gives descriptors of length .* not 1, .*rank by length: `keras-retrieval convert .* --normalise`",
    other_axis: "gives descriptors of length",
    subclassed: "is a subclassed model",
}


@pytest.mark.parametrize("make", WRONG, ids=lambda make: make.__name__)
def test_a_network_that_gives_no_descriptors(make, tmp_path):
    path = make(tmp_path / "own.keras")
    with pytest.raises(NetworkError, match=WRONG[make]) as caught:
        load_model(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "normalise",
    [
        lambda: keras.layers.UnitNormalization(),
        lambda: keras_retrieval.layers.L2Normalization(),
        lambda: keras.layers.LayerNormalization(center=False, scale=False, epsilon=1e-12),
    ],
)
def test_rows_of_unit_length_pass_by_their_last_layer_or_by_measuring(normalise, tmp_path):
    x = pixels()
    y = normalise()(rows(x))
    if "LayerNormalization" in y._keras_history.operation.__class__.__name__:
        y = keras.layers.Rescaling(6**-0.5)(y)  # a row of 6 with mean 0 and variance 1 has the length sqrt(6)
    network = load_model(save(tmp_path / "own.keras", x, y))
    assert np.linalg.norm(np.asarray(network(PHOTO))) == pytest.approx(1, abs=1e-3)


def test_a_network_of_one_size_is_measured_at_it(tmp_path):
    x = pixels(32, 40)
    path = save(tmp_path / "own.keras", x, rows(x))
    with pytest.raises(NetworkError, match="gives descriptors of length"):
        load_model(path)


def test_convert_normalises_and_every_step_takes_the_result(tmp_path):
    x = pixels()
    path = save(tmp_path / "own.keras", x, rows(x))
    raw = np.asarray(keras.saving.load_model(path)(PHOTO))
    unit = convert(path, tmp_path / "unit.keras", normalise=True)
    np.testing.assert_allclose(np.asarray(load_model(unit)(PHOTO)), raw / np.linalg.norm(raw), atol=1e-5)
    with pytest.raises(ArgumentError, match=r"--normalise is for \.keras files"):
        convert(path, tmp_path / "again.keras")
    with pytest.raises(ArgumentError, match=r"--normalise is for \.keras files"):
        convert(tmp_path / "net.pth", tmp_path / "again.keras", normalise=True)
    with pytest.raises(ArgumentError, match="goes without a whitening"):
        convert(path, tmp_path / "again.keras", normalise=True, dim=3)
    with pytest.raises(NetworkError, match="has an output of shape"):
        convert(feature_map(tmp_path / "map.keras"), tmp_path / "again.keras", normalise=True)


# Own layers

LAYERS = '''
import keras

class Halving(keras.layers.Layer):
    """Not registered with Keras."""
    def call(self, x):
        return x / 2

class inside:
    def halved(x):
        return x / 2
'''


@pytest.fixture(scope="module")
def saved_by_another_process(tmp_path_factory):
    """A folder with a module of layers, and a network that contains one of them, saved by another process."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_layers.py").write_text(LAYERS)
    code = (
        "import keras, keras_retrieval.layers as l, own_layers as o; x = keras.Input((None, None, 3)); "
        "y = o.Halving()(keras.layers.Conv2D(4, 3)(x)); "
        "y = l.L2Normalization()(keras.layers.GlobalAveragePooling2D()(y)); keras.Model(x, y).save('own.keras')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def own(saved_by_another_process, tmp_path, monkeypatch):
    """The network in the current folder, beside the module of its layers."""
    for name in ("own_layers.py", "own.keras"):
        shutil.copy(saved_by_another_process / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(custom_layers, "_named", {})
    yield tmp_path / "own.keras"
    keras.saving.get_custom_objects().pop("Halving", None)
    sys.modules.pop("own_layers", None)


def test_own_layers_by_an_option(own, tmp_path):
    from PIL import Image

    (tmp_path / "photos").mkdir()
    Image.fromarray(PHOTO[0].astype("uint8")).save(tmp_path / "photos" / "a.png")
    with pytest.raises(NetworkFileError, match=r"it contains Halving, .*--custom own_layers:Halving"):
        extract(own, tmp_path / "photos", tmp_path / "out")
    assert "own_layers" not in sys.modules, "nothing is imported that was not given"
    extract(own, tmp_path / "photos", tmp_path / "out", custom=["own_layers:Halving"])
    assert (tmp_path / "out").is_dir()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_layers", "--custom must be module:attribute, such as my_layers:Attention, got 'own_layers'"),
        ("own layers:Halving", "must be module:attribute"),
        ("own_layers:", "must be module:attribute"),
        ("gone_layers:Halving", "gone_layers cannot be imported from .*No module named 'gone_layers'"),
        ("own_layers:Doubling", "the module own_layers has no 'Doubling'"),
    ],
)
def test_own_layers_that_are_not_there(name, message, own):
    def load_with_it():
        custom_layers.CustomLayers(custom=[name])
        load_model(own)

    with pytest.raises(ArgumentError, match=message):
        load_with_it()


def test_a_lambda_layer_is_not_executed(tmp_path):
    x = pixels()
    path = save(tmp_path / "own.keras", x, keras.layers.Lambda(lambda y: y / 2)(rows(x)))
    with pytest.raises(NetworkFileError, match="it contains a Lambda layer, whose code is in the file and is not exec"):
        load_model(path)


# Other versions of Keras


@pytest.mark.parametrize("version", ["2.15.0", "9.1.0"])
def test_another_version_of_keras_is_one_sentence(version, tmp_path):
    x = pixels()
    path = save(tmp_path / "own.keras", x, keras.layers.UnitNormalization()(rows(x)))
    change_member(path, "metadata.json", lambda facts: facts | {"keras_version": version})
    assert load_model(path).name == "own", "a file of another version that loads is taken"

    def unknown(config):
        text = json.dumps(config).replace('"activation"', '"activation_of_the_future"')
        return json.loads(text)

    change_member(path, "config.json", unknown)
    with pytest.raises(NetworkFileError) as caught:
        load_model(path)
    assert f"it was saved by Keras {version}, and this is Keras {keras.__version__}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600

    def newer(config):
        return json.loads(json.dumps(config).replace('"GlobalAveragePooling2D"', '"FuturePooling2D"'))

    change_member(path, "config.json", newer)
    with pytest.raises(NetworkFileError, match=f"it was saved by Keras {version}"):
        load_model(path)

"""Training on TensorFlow and on JAX: the same losses, resumed runs, several devices, and what is refused."""

import json

import keras
import numpy as np
import pytest

from keras_retrieval import losses
from keras_retrieval.errors import ArgumentError
from keras_retrieval.networks.tuple_model import TupleModel
from pipelines.descriptors.folder import read_descriptors
from pipelines.training import report
from pipelines.training.callbacks import checkpointing
from pipelines.training.checkpoint import Checkpoint, read_checkpoint, restore
from pipelines.training.devices import ONE_DEVICE, open_devices
from pipelines.training.jax_model import JaxModel
from pipelines.training.network import check_backend, network_to_train
from pipelines.training.stream import ArraySteps
from pipelines.training.train import train
from pipelines.training.train_options import TrainOptions
from tests.helpers.interrupted_training import make_collection, options
from tests.helpers.small import network
from tests.helpers.small_tuples import batch, photos

BACKEND = keras.backend.backend()
on_jax = pytest.mark.skipif(BACKEND != "jax", reason="is about JAX")


def with_known_weights(net):
    """A network whose weights do not depend on the backend."""
    rng = np.random.default_rng(0)
    net.set_weights([rng.normal(0, 0.2, weight.shape) + (weight.ndim == 1) for weight in net.get_weights()])
    return net


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = make_collection(tmp_path_factory.mktemp("train"))
    path = folder / "small.keras"
    with_known_weights(keras.saving.load_model(path, compile=False)).save(path)
    return folder


@pytest.mark.backend
def test_a_whole_run_has_the_losses_of_tensorflow(folder, monkeypatch):
    monkeypatch.setattr(report, "training_page", lambda *_: "")
    changes = {"epochs": 2, "batch": 4, "queries": 16, "padded": False, "refresh": 2, "chunk": 12}
    results = train(**options(folder, **changes))
    found = [(epoch["loss"], epoch["val_loss"]) for epoch in read_checkpoint(folder / "run").history]
    np.testing.assert_allclose(found, [(2.616682, 1.525380), (2.520800, 1.452049)], atol=2e-5)
    assert results["whitening"]["method"] == "lw"
    assert read_descriptors(folder / "run/descriptors")[2]["runtime"] == BACKEND


class Steps:
    """Stands in for the draw of an epoch of four steps."""

    steps = 4

    def state(self):
        return {}


def jax_model(devices=ONE_DEVICE, chunk=None):
    model = TupleModel(with_known_weights(network(8)))
    model.compile(keras.optimizers.SGD(1e-2, momentum=0.9), losses.ContrastiveLoss(1.0))
    model.optimizer.build(model.trainable_variables)
    return JaxModel(model, devices, chunk)


def losses_of(model, elements, callbacks=()):
    found = []
    logging = keras.callbacks.LambdaCallback(on_train_batch_end=lambda step, logs: found.append(logs["loss"]))
    model.fit(ArraySteps(lambda: iter(elements), len(elements)), epochs=1, callbacks=[logging, *callbacks])
    return found


@on_jax
@pytest.mark.backend
def test_chunks_and_devices_of_jax_have_the_losses_of_one_pass_and_a_checkpoint_continues(tmp_path):
    elements = [batch("padded", photos(tuples=4, count=3, seed=seed), tuples=4) for seed in range(4)]
    model, kept = jax_model(), []
    saving = checkpointing(tmp_path, Checkpoint({}), model, Steps(), steps=2)
    keeping = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda step, logs: kept.append(read_checkpoint(tmp_path))
    )
    expected = losses_of(model, elements, [saving, keeping])
    assert max(expected) - min(expected) > 1e-3
    several = len(keras.distribution.list_devices()) > 1  # JAX_NUM_CPU_DEVICES=2
    found = losses_of(jax_model(open_devices(2, False) if several else ONE_DEVICE, chunk=5), elements)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    if several:
        with pytest.raises(ArgumentError, match="--devices 64 must be the first use of JAX"):
            open_devices(64, False)

    whole = model.network.get_weights()
    assert kept[1].step == 2
    restore(kept[1], model.network.weights, model.optimizer.variables)
    losses_of(model, elements[2:])
    rows, descriptors = model.last_step()
    assert (rows.shape, descriptors.shape) == ((4, 3), (4, 3, 8))
    for one, other in zip(whole, model.network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@on_jax
@pytest.mark.backend
def test_what_jax_cannot_train_is_refused(tmp_path, monkeypatch):
    cluster = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    with pytest.raises(ArgumentError, match="--workers needs Keras on TensorFlow: KERAS_BACKEND is jax"):
        open_devices(1, True)
    assert open_devices(1, False) is ONE_DEVICE
    net = network(8)
    net.get_layer("pooling").supports_masking = False
    monkeypatch.setattr("pipelines.training.network.load_trainable", lambda model: net)
    given = {"tuples": tmp_path / "tuples.npz", "photos": tmp_path}
    with pytest.raises(ArgumentError, match=r"--exact with small needs Keras on TensorFlow.*takes no mask"):
        network_to_train(TrainOptions(**given, padded=False))
    network_to_train(TrainOptions(**given))


def test_another_backend_is_refused(monkeypatch):
    check_backend()
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(
        ArgumentError, match="training needs Keras on TensorFlow or JAX, and KERAS_BACKEND is torch: set"
    ):
        check_backend()
    with pytest.raises(ArgumentError, match="--devices needs Keras on TensorFlow: KERAS_BACKEND is torch"):
        open_devices(2, False)

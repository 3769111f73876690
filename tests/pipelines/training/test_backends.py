"""The step `train` on every Keras backend: mining, training on padded tuples, checkpoints within an epoch."""

import keras
import numpy as np
import pytest

from keras_retrieval.errors import ArgumentError
from pipelines.training import report
from pipelines.training.checkpoint import read_checkpoint
from pipelines.training.network import check_backend
from pipelines.training.train import train
from pipelines.training.train_options import TrainOptions
from tests.helpers.interrupted_training import make_collection, options

pytestmark = pytest.mark.backend


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_collection(tmp_path_factory.mktemp("backends"), scenes=6)


def test_a_run_goes_the_whole_way(folder, monkeypatch):
    monkeypatch.setattr(report, "training_page", lambda *_: "")
    common = {"precision": "float32", "whiten": "none", "batch": 2, "queries": 8, "negatives": 2}
    train(**options(folder, epochs=2, checkpoint_steps=2, **common))
    found = read_checkpoint(folder / "run")
    assert found.epochs == 2
    assert found.history[1]["loss"] < found.history[0]["loss"]
    assert all(np.isfinite(array).all() for array in (*found.weights, *found.optimizer))


@pytest.mark.parametrize("changes", [{"padded": False}, {"chunk": 3}, {"refresh": 2}])
def test_what_needs_tensorflow_is_refused_elsewhere(folder, changes, monkeypatch):
    given = TrainOptions(**options(folder, **changes))
    if keras.backend.backend() == "tensorflow":
        check_backend(given)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ArgumentError, match="--exact, --chunk and --refresh need Keras on TensorFlow"):
        check_backend(given)
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ArgumentError, match="training needs Keras on TensorFlow or JAX: KERAS_BACKEND is torch"):
        check_backend(given)

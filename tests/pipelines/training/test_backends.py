"""Training needs Keras on TensorFlow, which is said before any photo is read."""

import keras
import pytest

from keras_retrieval.errors import ArgumentError
from pipelines.training.network import check_backend


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_backend_is_refused(backend, monkeypatch):
    check_backend()
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    with pytest.raises(ArgumentError, match=f"training needs Keras on TensorFlow, and KERAS_BACKEND is {backend}: set"):
        check_backend()

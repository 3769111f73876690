"""Trains a model step by step in a loop of its own, with the methods of a keras.Model that a run uses."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from .devices import Devices
from .errors import TrainingError


class TrainingLoop(ABC):
    """Base class of the models that train without Keras' own `fit`.

    Args:
        model: the compiled TupleModel.
        devices: the devices.
        elements: the number of elements of the dataset in a step.

    Attributes:
        model: the model.
        network: the network within the model.
        optimizer: the optimizer of the model.
        extra_weights: the weights of the loss.
    """

    def __init__(self, model: Any, devices: Devices, elements: int) -> None:
        import keras

        self.model, self.devices = model, devices
        self.network, self.optimizer, self.extra_weights = model.network, model.optimizer, model.extra_weights
        self._elements = elements
        self._mean = keras.metrics.Mean("loss")
        self._last: tuple[Any, Any] | None = None

    @property
    def metrics_variables(self) -> list[Any]:
        """The variables of the mean loss of the epoch, which a checkpoint contains."""
        return list(self._mean.variables)

    def last_step(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the row numbers (B, M) and descriptors (B, M, D) of the photos of the last training step.

        The descriptors were computed with the weights before the update of that step.

        Raises:
            TrainingError: no step has been trained.
        """
        if self._last is None:
            raise TrainingError("no step has been trained yet")
        rows, descriptors = self._last
        return np.asarray(rows), np.asarray(descriptors)

    def fit(
        self, dataset: Any, epochs: int, initial_epoch: int = 0, callbacks: Sequence[Any] = (), verbose: int = 0,
        shuffle: bool = False,
    ) -> None:  # fmt: skip
        """Trains the network, as `fit` of a keras.Model does.

        Args:
            dataset: the dataset of a `TupleStream` with the part `Devices.part`.
            epochs: the number of epochs, those before `initial_epoch` included.
            initial_epoch: the number of the first epoch, from 0.
            callbacks: Keras callbacks.
            verbose: 0 for no output, 1 for a bar, 2 for a line an epoch.
            shuffle: must be False.

        Raises:
            TrainingError: another process has ended.
        """
        import keras

        steps = len(dataset) // self._elements
        group = keras.callbacks.CallbackList(
            list(callbacks), add_progbar=verbose > 0, model=self.model, verbose=verbose, epochs=epochs, steps=steps
        )
        group.on_train_begin()
        for epoch in range(initial_epoch, epochs):
            self._mean.reset_state()
            group.on_epoch_begin(epoch)
            parts = iter(dataset)
            for step in range(steps):
                group.on_train_batch_begin(step)
                loss, rows, descriptors = self._train_step([next(parts) for _ in range(self._elements)])
                self._last = rows, descriptors
                self._mean.update_state(loss, sample_weight=len(rows))
                group.on_train_batch_end(step, {"loss": float(self._mean.result())})
            group.on_epoch_end(epoch, {"loss": float(self._mean.result())})
        group.on_train_end()

    def evaluate(self, dataset: Any, verbose: int = 0, return_dict: bool = True) -> dict[str, float]:
        """Computes the mean loss of the tuples of all processes.

        Args:
            dataset: the dataset of a `TupleStream` with the part `Devices.whole_steps`.
            verbose: has no effect.
            return_dict: must be True.

        Raises:
            TrainingError: another process has ended.
        """
        total, count = 0.0, 0
        for inputs, objects in dataset:
            total += float(self._test_step(inputs, objects)) * len(objects)
            count += len(objects)
        found = self.devices.workers.tell([total, count])
        return {"loss": sum(one[0] for one in found) / max(1, sum(one[1] for one in found))}

    @abstractmethod
    def _train_step(self, parts: Sequence[Any]) -> tuple[Any, Any, Any]:
        """Updates the weights by a step; returns its loss, and the row numbers and descriptors of its photos."""

    @abstractmethod
    def _test_step(self, inputs: Any, objects: Any) -> Any:
        """Computes the loss of a step without training."""

"""Trains one network on several devices (TensorFlow only).

Each device has a copy of the network, a replica, and trains on an equal part of each step's tuples.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .devices import Devices, connected, local_number
from .errors import TrainingError


class ReplicatedModel:
    """Trains a `ChunkedTupleModel` on several devices, with the methods of a keras.Model that a run uses.

    Keras' own `fit` cannot train on several machines (in Keras 3.15 the values of its replicas cannot be reduced), nor
    on photos at exact sizes, which cannot be divided by their first axis.

    Args:
        model: the compiled model, which was made in the scope of the strategy.
        devices: the devices.

    Attributes:
        model: the model.
        network: the network within the model.
        optimizer: the optimizer of the model.
        extra_weights: the weights of the loss.
        metrics_variables: the variables of the mean loss of the epoch.
    """

    def __init__(self, model: Any, devices: Devices) -> None:
        import keras
        import tensorflow as tf

        from .chunked_model import of_all_replicas

        self.model, self.devices = model, devices
        self.network, self.optimizer, self.extra_weights = model.network, model.optimizer, model.extra_weights
        self._mean = keras.metrics.Mean("loss")
        self._last: tuple[np.ndarray, np.ndarray] | None = None
        strategy = devices.strategy

        def step(inputs: Any, objects: Any) -> Any:
            return (*model.step(inputs, objects), of_all_replicas(inputs["rows"]))

        @tf.function(reduce_retracing=True, autograph=False)
        def train(inputs: Any, objects: Any) -> Any:
            return strategy.run(step, args=(inputs, objects))

        @tf.function(reduce_retracing=True, autograph=False)
        def test(inputs: Any, objects: Any) -> Any:
            return model.compute_loss(inputs, objects, model(inputs, training=False), training=False)

        self._train, self._test = train, test

    @property
    def metrics_variables(self) -> list[Any]:
        """The variables of the mean loss of the epoch, which a checkpoint contains."""
        return list(self._mean.variables)

    def last_step(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the row numbers (B, M) and descriptors (B, M, D) of the photos of the last training step.

        Raises:
            TrainingError: no step has been trained.
        """
        if self._last is None:
            raise TrainingError("no step has been trained yet")
        return self._last

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

        local = self.devices.local
        steps = int(dataset.cardinality()) // local
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
                group.on_train_batch_end(step, {"loss": self._step([next(parts) for _ in range(local)])})
            group.on_epoch_end(epoch, {"loss": float(self._mean.result())})
        group.on_train_end()

    def _step(self, parts: Sequence[Any]) -> float:
        """Trains one step on the parts of the devices of this process; returns the mean loss of the epoch so far."""
        strategy, local = self.devices.strategy, self.devices.local

        def distributed(values: Sequence[Any]) -> Any:
            return strategy.experimental_distribute_values_from_function(
                lambda context: values[local_number(context, local)]
            )

        inputs = {name: distributed([one[name] for one, _ in parts]) for name in parts[0][0]}
        objects = distributed([one for _, one in parts])
        with connected():
            found = self._train(inputs, objects)
            loss, descriptors, rows = (strategy.experimental_local_results(one)[0].numpy() for one in found)
        self._last = rows, descriptors
        self._mean.update_state(loss, sample_weight=len(rows))
        return float(self._mean.result())

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
            total += float(self._test(inputs, objects)) * len(objects)
            count += len(objects)
        found = self.devices.workers.tell([total, count])
        return {"loss": sum(one[0] for one in found) / max(1, sum(one[1] for one in found))}

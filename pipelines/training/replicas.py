"""Trains one network on several devices with TensorFlow.

Each device has a copy of the network, a replica, and trains on an equal part of each step's tuples.
"""

from collections.abc import Sequence
from typing import Any

from .devices import Devices, connected, local_number
from .training_loop import TrainingLoop


class ReplicatedModel(TrainingLoop):
    """Trains a `ChunkedTupleModel` on several devices.

    Keras' own `fit` cannot train on several machines (in Keras 3.15 the values of its replicas cannot be reduced), nor
    on photos at exact sizes, which cannot be divided by their first axis.

    Args:
        model: the compiled model, which was made in the scope of the strategy.
        devices: the devices.
    """

    def __init__(self, model: Any, devices: Devices) -> None:
        import tensorflow as tf

        from .chunked_model import of_all_replicas

        super().__init__(model, devices, devices.local)
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

    def _train_step(self, parts: Sequence[Any]) -> tuple[Any, Any, Any]:
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
        return loss, rows, descriptors

    def _test_step(self, inputs: Any, objects: Any) -> Any:
        return self._test(inputs, objects)

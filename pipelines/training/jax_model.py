"""Trains one network with JAX, on one device or on several.

Keras' own `fit` takes the weights out of the model's variables while it trains on JAX, so that descriptions and
checkpoints between two steps would need them back each time; and it cannot pass photos in chunks.
"""

from collections.abc import Sequence
from typing import Any

from .devices import Devices
from .training_loop import TrainingLoop


class JaxModel(TrainingLoop):
    """Trains a TupleModel on JAX, which compiles one program of a training step, as its photos have one padded size.

    With several devices, each passes an equal part of a step's tuples through the network, and the loss is computed of
    the tuples of all, so that every loss has the value and the gradients that it has on one device.

    Args:
        model: the compiled model, whose optimizer is built.
        devices: the devices.
        chunk: maximum number of photos that pass through the network of a device at once, see `ChunkedTupleModel`;
            None for all.
    """

    def __init__(self, model: Any, devices: Devices, chunk: int | None = None) -> None:
        import jax

        super().__init__(model, devices, 1)
        self._weights = list(model.trainable_variables), list(model.non_trainable_variables)
        self._slots = list(model.optimizer.variables)
        self._chunk = chunk
        self._inputs = ("photos", "sizes") if model.kept is None else ("photos", "sizes", "rows")
        self._everywhere = self._by_tuple = None
        if devices.mesh is not None:
            spec = jax.sharding.PartitionSpec
            self._everywhere = jax.sharding.NamedSharding(devices.mesh, spec())
            self._by_tuple = jax.sharding.NamedSharding(devices.mesh, spec(*devices.mesh.axis_names))
        # The program writes the new weights to where the old ones were.
        self._train = jax.jit(self._trained, donate_argnums=(0, 1, 2))
        self._test = jax.jit(self._tested)

    def _train_step(self, parts: Sequence[Any]) -> tuple[Any, Any, Any]:
        import jax

        ((inputs, objects),) = parts
        state = [[variable.value for variable in part] for part in (*self._weights, self._slots)]
        photos = {name: inputs[name] for name in self._inputs}
        if self._everywhere is not None:
            state = jax.device_put(state, self._everywhere)
            photos, objects = jax.device_put((photos, objects), self._by_tuple)
        loss, descriptors, *state = self._train(*state, photos, objects)
        for part, values in zip((*self._weights, self._slots), state, strict=True):
            for variable, value in zip(part, values, strict=True):
                variable.assign(value)
        return loss, inputs["rows"], descriptors

    def _test_step(self, inputs: Any, objects: Any) -> Any:
        from ..descriptors.describer import on_one_device

        weights = [[on_one_device(variable.value) for variable in part] for part in self._weights]
        return self._test(*weights, {name: inputs[name] for name in self._inputs}, objects)

    def _trained(self, trainable: Any, others: Any, slots: Any, inputs: Any, objects: Any) -> Any:
        """Computes a training step: the loss, the descriptors, and the new values of all variables."""
        import jax

        def loss_of(trainable: Any) -> Any:
            descriptors = self._described(trainable, others, inputs)
            loss, others_after = self._loss(trainable, others, inputs, objects, descriptors, training=True)
            return self.optimizer.scale_loss(loss), (loss, descriptors, others_after)

        gradients, (loss, descriptors, others) = jax.grad(loss_of, has_aux=True)(trainable)
        trainable, slots = self.optimizer.stateless_apply(slots, gradients, trainable)
        return loss, descriptors, trainable, others, slots

    def _tested(self, trainable: Any, others: Any, inputs: Any, objects: Any) -> Any:
        with self._scope(trainable, others):
            descriptors = self.model(inputs, training=False)
        return self._loss(trainable, others, inputs, objects, descriptors, training=False)[0]

    def _loss(
        self, trainable: Any, others: Any, inputs: Any, objects: Any, descriptors: Any, training: bool
    ) -> tuple[Any, list[Any]]:
        """Computes the loss, and the values that the weights that are not trained have after it, such as a memory."""
        with self._scope(trainable, others) as scope:
            loss = self.model.compute_loss(inputs, objects, descriptors, training=training)
        after = [scope.get_current_value(variable) for variable in self._weights[1]]
        return loss, [old if new is None else new for old, new in zip(others, after, strict=True)]

    def _described(self, trainable: Any, others: Any, inputs: Any) -> Any:
        """Computes the descriptors (B, M, D) of the photos of a step, on all devices."""
        import jax

        if self.devices.mesh is None:
            return self._described_here(trainable, others, inputs)
        spec = jax.sharding.PartitionSpec
        by_tuple = spec(*self.devices.mesh.axis_names)
        # Replicated values are those of photos of each device after the first layer, which JAX need not track.
        return jax.shard_map(
            self._described_here,
            mesh=self.devices.mesh,
            in_specs=(spec(), spec(), by_tuple),
            out_specs=by_tuple,
            check_vma=False,
        )(trainable, others, inputs)

    def _described_here(self, trainable: Any, others: Any, inputs: Any) -> Any:
        import jax
        import jax.numpy as jnp

        tuples, width = inputs["sizes"].shape[:2]
        count = tuples * width
        if self._chunk is None or count <= self._chunk:
            with self._scope(trainable, others):
                return self.model(inputs, training=True)
        runs = -(-count // self._chunk)
        filled = jnp.minimum(jnp.arange(runs * self._chunk), count - 1)  # the last run is filled by repetitions
        flat = {name: value.reshape(count, *value.shape[2:]) for name, value in inputs.items()}
        cut = {name: value[filled].reshape(runs, self._chunk, *value.shape[1:]) for name, value in flat.items()}

        @jax.checkpoint  # computes the activations of a run again when its gradients are computed
        def described(trainable: Any, others: Any, photos: Any) -> Any:
            with self._scope(trainable, others):
                return self.model.padded(photos, training=False)

        def run(photos: Any) -> Any:
            return described(trainable, others, photos)

        # In a loop of XLA, convolutions do not take the fast kernels of processors: 37 times as long in a measurement.
        if jax.default_backend() == "cpu":
            rows = jnp.stack([run({name: part[number] for name, part in cut.items()}) for number in range(runs)])
        else:
            rows = jax.lax.map(run, cut)
        return rows.reshape(runs * self._chunk, -1)[:count].reshape(tuples, width, -1)

    def _scope(self, trainable: Any, others: Any) -> Any:
        """A scope in which the model has given weights."""
        import keras

        trained, fixed = self._weights
        pairs = [*zip(trained, trainable, strict=True), *zip(fixed, others, strict=True)]
        return keras.StatelessScope(state_mapping=pairs)

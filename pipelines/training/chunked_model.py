"""Training steps for photos at their exact sizes, and with bounded memory for any number of tuples; TensorFlow only."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_retrieval.errors import ArgumentError
from keras_retrieval.networks.tuple_model import TupleModel

ALL = 2**30  # photos, more than a step can have
Step = tuple[Any, Any, list[Any]]  # loss, (B, M, D) descriptors, gradients


class ChunkedTupleModel(TupleModel):
    """A TupleModel that also accepts photos at their exact sizes, and can pass them through the network in chunks.

    Without `chunk`, all photos of a step pass through the network at once, in one batch per exact size, and the
    activations of all photos are stored. With `chunk`, the descriptors of all photos are first computed without storing
    activations, the loss yields the gradient with respect to each descriptor, and the photos pass through the network
    again, chunk by chunk, to propagate these gradients to the weights. The gradients are the same for every loss; the
    cost is a second forward pass, unless the photos of a step fit in one chunk. XLA does not compile this model.

    Args:
        network: a network from `keras_retrieval.build`.
        l2: weight decay, see TupleModel.
        chunk: maximum number of photos that pass through the network at once; None for all photos of a step.
        keep_descriptors: whether to keep the row numbers and descriptors of the photos of the last training step, see
            `last_step`.

    Input shape:
        A dict of padded photos as for TupleModel, or of photos at exact sizes: "pixels" (T, 3) uint8, the pixels of all
        photos in row-major order, with photos of the same shape next to each other; "groups" (G, 3), the number of
        photos, the height and the width of each group of equal shapes; "places" (B, M), the position of each photo of
        the tuples in that order, or (B * M,) together with "rows" (B, M), the photos' row numbers, which are kept with
        the descriptors.

    Output shape:
        (B, M, D) descriptors.

    Raises:
        ArgumentError: `chunk` is below 1, the inputs do not determine which photos form a tuple, or exact sizes or
            `keep_descriptors` are used under a strategy with several devices.
    """

    def __init__(
        self,
        network: Any,
        l2: float = 1e-6,
        chunk: int | None = None,
        keep_descriptors: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(network, l2, **kwargs)
        if chunk is not None and chunk < 1:
            raise ArgumentError(f"chunk must be at least 1, got {chunk}")
        self.chunk = chunk
        self.supports_jit = False
        if keep_descriptors:
            _require_one_device("keep_descriptors")
        self._kept = _kept(network.output_shape[-1]) if keep_descriptors else None

    def last_step(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the row numbers (B, M) and descriptors (B, M, D) of the photos of the last training step.

        The descriptors are those before the step's update of the weights.

        Raises:
            ArgumentError: the model was created without `keep_descriptors`.
        """
        if self._kept is None:
            raise ArgumentError("no descriptors are kept: create the model with keep_descriptors=True")
        rows, descriptors = self._kept
        return rows.numpy(), descriptors.numpy()

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        import tensorflow as tf

        if "pixels" not in inputs and self.chunk is None:
            return super().call(inputs, training)
        runs = self._runs(inputs)
        return tf.gather(self._describe(runs), runs.places)

    def train_step(self, data: Any) -> dict[str, Any]:
        import keras

        inputs, objects, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        loss, descriptors, gradients = self._step(inputs, objects, sample_weight)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        if self._kept is not None:
            for kept, new in zip(self._kept, (inputs["rows"], descriptors), strict=True):
                kept.assign(new)
        return self._logs(loss, inputs, objects, descriptors, sample_weight)

    def test_step(self, data: Any) -> dict[str, Any]:
        import keras

        inputs, objects, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        descriptors = self(inputs, training=False)
        loss = self.compute_loss(inputs, objects, descriptors, sample_weight, training=False)
        return self._logs(loss, inputs, objects, descriptors, sample_weight)

    def _step(self, *batch: Any) -> Step:
        """Loss, descriptors and gradients, at once if the photos fit in a chunk, else in chunks."""
        import tensorflow as tf

        objects = batch[1]
        photos = objects.shape.num_elements()
        if self.chunk is None or (photos is not None and photos <= self.chunk):
            return self._at_once(*batch)
        if photos is not None:
            return self._in_chunks(*batch)
        return tf.cond(tf.size(objects) <= self.chunk, lambda: self._at_once(*batch), lambda: self._in_chunks(*batch))

    def _at_once(self, inputs: dict[str, Any], objects: Any, sample_weight: Any) -> Step:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            descriptors = self(inputs, training=True)
            loss = self.compute_loss(inputs, objects, descriptors, sample_weight, training=True)
            scaled = self.optimizer.scale_loss(loss)
        return loss, descriptors, tape.gradient(scaled, self._values(), unconnected_gradients="zero")

    def _in_chunks(self, inputs: dict[str, Any], objects: Any, sample_weight: Any) -> Step:
        import tensorflow as tf

        runs = self._runs(inputs)
        rows = self._describe(runs)
        with tf.GradientTape() as tape:
            tape.watch(rows)
            descriptors = tf.gather(rows, runs.places)
            loss = self.compute_loss(inputs, objects, descriptors, sample_weight, training=True)
            scaled = self.optimizer.scale_loss(loss)
        weights = self._values()
        upstream, *penalty = tape.gradient(scaled, [rows, *weights], unconnected_gradients="zero")
        return loss, descriptors, _pull_back(runs, tf.convert_to_tensor(upstream), weights, penalty)

    def _values(self) -> list[Any]:
        """The trainable weights as TensorFlow's variables."""
        return [weight.value for weight in self.trainable_weights]

    def _runs(self, inputs: dict[str, Any]) -> "_Runs":
        cut, network = (_exact_runs, self.network) if "pixels" in inputs else (_padded_runs, self.padded)
        return cut(network, inputs, self.chunk or ALL)

    def _describe(self, runs: "_Runs") -> Any:
        """The descriptors of all photos, in the order of the runs."""
        import tensorflow as tf

        count = tf.size(runs.ends)
        rows = tf.TensorArray(tf.float32, count, infer_shape=False, element_shape=(None, self.network.output_shape[-1]))

        def body(run: Any, rows: Any) -> tuple[Any, Any]:
            return run + 1, rows.write(run, runs.describe(run))

        _, rows = tf.while_loop(lambda run, _: run < count, body, (0, rows), parallel_iterations=1)
        return rows.concat()

    def _logs(self, loss: Any, inputs: Any, objects: Any, descriptors: Any, sample_weight: Any) -> dict[str, Any]:
        import tensorflow as tf

        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        self._loss_tracker.update_state(loss * replicas, sample_weight=tf.shape(objects)[0])
        return self.compute_metrics(inputs, objects, descriptors, sample_weight=sample_weight)


@dataclass(frozen=True)
class _Runs:
    """The photos of a step, cut into runs that pass the network one after the other.

    Attributes:
        describe: computes the descriptors (n, D) of the run of a number.
        ends: (R,), the number of photos up to the end of each run.
        places: (B, M), the position of each photo of the tuples among the photos of all runs.
    """

    describe: Callable[[Any], Any]
    ends: Any
    places: Any


def _padded_runs(network: Any, inputs: dict[str, Any], chunk: int) -> _Runs:
    import tensorflow as tf

    shape = tf.shape(inputs["sizes"])[:2]
    count = tf.reduce_prod(shape)
    photos = tf.reshape(inputs["photos"], (-1, *inputs["photos"].shape[2:]))
    sizes = tf.reshape(inputs["sizes"], (-1, 2))
    ends = tf.minimum(tf.range(chunk, count + chunk, chunk), count)

    def describe(run: Any) -> Any:
        here = slice(run * chunk, ends[run])
        return network({"photos": photos[here], "sizes": sizes[here]}, training=False)

    return _Runs(describe, ends, tf.reshape(tf.range(count), shape))


def _exact_runs(network: Any, inputs: dict[str, Any], chunk: int) -> _Runs:
    import tensorflow as tf

    _require_one_device("photos at exact sizes")
    counts = inputs["groups"][:, 0]
    pieces = (counts + chunk - 1) // chunk
    group = tf.repeat(tf.range(tf.size(counts)), pieces)
    before = tf.range(tf.size(group)) - tf.repeat(tf.cumsum(pieces, exclusive=True), pieces)
    photos = tf.minimum(tf.gather(counts, group) - before * chunk, chunk)
    shapes = tf.gather(inputs["groups"][:, 1:], group)
    pixels = photos * tf.reduce_prod(shapes, axis=1)
    starts = tf.cumsum(pixels, exclusive=True)

    def describe(run: Any) -> Any:
        flat = inputs["pixels"][starts[run] : starts[run] + pixels[run]]
        return network(tf.reshape(flat, (photos[run], shapes[run, 0], shapes[run, 1], 3)), training=False)

    like = inputs.get("rows", inputs["places"])
    if len(like.shape) != 2:
        raise ArgumentError("photos at exact sizes need 'places' (B, M), and can also use 'rows' (B, M)")
    return _Runs(describe, tf.cumsum(photos), tf.reshape(inputs["places"], tf.shape(like)))


def _pull_back(runs: _Runs, upstream: Any, weights: list[Any], sums: list[Any]) -> list[Any]:
    """Propagates the gradients of all descriptors to the weights, run by run, and adds them to `sums`."""
    import tensorflow as tf

    def body(run: Any, start: Any, sums: list[Any]) -> tuple[Any, Any, list[Any]]:
        with tf.GradientTape() as tape:
            rows = runs.describe(run)
        end = runs.ends[run]
        found = tape.gradient(rows, weights, upstream[start:end], unconnected_gradients="zero")
        return run + 1, end, [total + one for total, one in zip(sums, found, strict=True)]

    count = tf.size(runs.ends)
    _, _, sums = tf.while_loop(lambda run, *_: run < count, body, (0, 0, sums), parallel_iterations=1)
    return sums


def _require_one_device(feature: str) -> None:
    import tensorflow as tf

    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        raise ArgumentError(f"{feature} need one device, but the strategy has several")


def _kept(dimensions: int) -> tuple[Any, Any]:
    """Variables of variable shape for the rows and descriptors of a step's photos."""
    import tensorflow as tf

    return (
        tf.Variable(np.zeros((0, 0), "int32"), trainable=False, shape=(None, None)),
        tf.Variable(np.zeros((0, 0, dimensions), "float32"), trainable=False, shape=(None, None, dimensions)),
    )

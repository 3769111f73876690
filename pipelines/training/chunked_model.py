"""Training steps that only TensorFlow takes: photos at exact sizes, and any number of tuples in fixed memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_retrieval.networks.tuple_model import TupleModel

ALL = 2**30  # photos, more than any step has
Step = tuple[Any, Any, list[Any]]  # loss, (B, M, D) descriptors, gradients


class ChunkedTupleModel(TupleModel):
    """A TupleModel that also takes photos at their exact sizes, and passes them through the network in chunks.

    Without `chunk` all photos of a step go through at once, those of one exact size together, and what their gradient
    needs of all is held in memory. With it, every photo is described first and forgotten, the loss gives the gradient
    of each descriptor, and the photos go through once more, chunk by chunk, to take it on to the weights. That costs a
    second forward pass (a step whose photos fit in one chunk is spared it), holds for every loss, and the gradients
    are the same. XLA compiles a plain TupleModel, not this one.

    Args:
        network: from `keras_retrieval.build`.
        l2: see TupleModel.
        chunk: the most photos in memory at once; None for all of a step.
        keep_descriptors: keep the photos' numbers and descriptors of the last training step, see `last_step`.

    Input shape:
        A dict, padded as TupleModel takes it, or exact: "pixels" (T, 3) uint8, the rows of all photos one behind the
        other, photos of one shape side by side; "groups" (G, 3), how many photos, height and width of each run of one
        shape; "places" (B, M), where each photo of the tuples stands in that order, or (B * M,) beside "rows" (B, M),
        the photos' numbers, which are kept beside the descriptors.

    Output shape:
        (B, M, D).

    Raises:
        ValueError: chunk is below 1, the inputs do not say which photos are a tuple, or a strategy has several
            devices where exact sizes or kept descriptors need one.
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
            raise ValueError(f"a chunk is 1 photo or more, not chunk={chunk}")
        self.chunk = chunk
        self.supports_jit = False
        if keep_descriptors:
            _require_one_device("descriptors are kept")
        self._kept = _kept(network.output_shape[-1]) if keep_descriptors else None

    def last_step(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers (B, M) and descriptors (B, M, D) of the photos of the last training step, before it moved weights.

        Raises:
            ValueError: the model was made without `keep_descriptors`.
        """
        if self._kept is None:
            raise ValueError("descriptors are kept by ChunkedTupleModel(network, keep_descriptors=True)")
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
        """The step at once where its photos fit in a chunk, else in chunks."""
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
    """A step's photos cut into runs that go through the network one after the other.

    Attributes:
        describe: from the number of a run to its descriptors, (n, D).
        ends: (R,), how many photos there are up to the end of each run.
        places: (B, M), where each photo of the tuples stands among the runs' photos.
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

    _require_one_device("photos at exact sizes are trained on")
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
        raise ValueError("photos at exact sizes need 'places' (B, M), or 'rows' (B, M) beside them")
    return _Runs(describe, tf.cumsum(photos), tf.reshape(inputs["places"], tf.shape(like)))


def _pull_back(runs: _Runs, upstream: Any, weights: list[Any], sums: list[Any]) -> list[Any]:
    """Adds to `sums` the gradients of the weights that go with the gradients of all descriptors, run by run."""
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


def _require_one_device(what: str) -> None:
    import tensorflow as tf

    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        raise ValueError(f"{what} by one device, and this strategy has several")


def _kept(dimensions: int) -> tuple[Any, Any]:
    """Variables for the numbers and the descriptors of a step's photos, however many they are."""
    import tensorflow as tf

    return (
        tf.Variable(np.zeros((0, 0), "int32"), trainable=False, shape=(None, None)),
        tf.Variable(np.zeros((0, 0, dimensions), "float32"), trainable=False, shape=(None, None, dimensions)),
    )

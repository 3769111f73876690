"""A TupleModel that trains on photos at their exact sizes, and on many tuples with bounded memory (TensorFlow only)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_retrieval.errors import ArgumentError
from keras_retrieval.networks.tuple_model import TupleModel

ALL = 2**30  # a chunk that is larger than the number of photos in any step
Step = tuple[Any, Any, list[Any]]  # loss, (B, M, D) descriptors of all tuples of the step, gradients
_MEANS = ("mean", "sum_over_batch_size", "mean_with_sample_weight")  # reductions that Keras divides by the replicas


class ChunkedTupleModel(TupleModel):
    """A TupleModel that also accepts photos at their exact sizes, and can pass them through the network in chunks.

    Without `chunk`, all photos of a step pass through the network at once (photos at exact sizes in one batch per
    size), and their activations are stored for the backward pass.

    With `chunk`, a step takes a bounded amount of memory. First, the descriptors of all photos are computed without
    storing activations. Then the gradient of the loss with respect to each descriptor is computed. Finally, the photos
    pass through the network again, chunk by chunk, to propagate these gradients to the weights. The resulting gradients
    equal those without `chunk`, for every loss. The cost is a second forward pass, which is not needed if all photos of
    a step fit in one chunk.

    Under a distribution strategy with several replicas, each replica passes its own tuples through the network, and the
    loss is computed of the tuples of all replicas, so that every loss has the value and the gradients that it has on
    one device, also those that compare tuples with each other.

    XLA does not compile this model.

    Args:
        network: a network from `keras_retrieval.build`.
        l2: factor of the L2 penalty on the weights, see TupleModel.
        chunk: maximum number of photos that pass through the network at once; None for all photos of a step.
        kept: a penalty that is added to the training loss, see TupleModel; None for none.
        keep_descriptors: whether to keep the row numbers and descriptors of the photos of the last training step, which
            `last_step` returns. The inputs must then contain "rows".

    Input shape:
        One of two kinds of dict, for B tuples in a step and M photos in a tuple:

        - Padded photos: "photos" and "sizes", as for TupleModel. "rows" (B, M), the row numbers of the photos, is
          needed only with `keep_descriptors`.
        - Photos at exact sizes: "pixels" (T, 3) uint8, "groups" (G, 3) and "places", as `tuple_batches.exact` returns
          them, for T pixels in all photos and G groups of photos of the same shape. Either the dict also contains
          "rows" (B, M), or the caller reshapes "places" from (B * M,) to (B, M), because the model takes B and M from
          one of these shapes.

    Output shape:
        (B, M, D) descriptors.

    Raises:
        ArgumentError: `chunk` is below 1; photos at exact sizes are given without "rows", and "places" has only one
            axis; or `keep_descriptors` is used, or `fit` gets photos at exact sizes, under a distribution strategy
            with several devices, see `ReplicatedModel`.
    """

    def __init__(
        self,
        network: Any,
        l2: float = 1e-6,
        chunk: int | None = None,
        keep_descriptors: bool = False,
        kept: Callable[[Any, Any], Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(network, l2, kept=kept, **kwargs)
        if chunk is not None and chunk < 1:
            raise ArgumentError(f"chunk must be at least 1, got {chunk}")
        self.chunk = chunk
        self.supports_jit = False
        if keep_descriptors:
            _require_one_device("keep_descriptors")
        self._kept = _kept(network.output_shape[-1]) if keep_descriptors else None

    def last_step(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the row numbers (B, M) and descriptors (B, M, D) of the photos of the last training step.

        The descriptors were computed with the weights before the update of that step.

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

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        import keras

        replicas = _replicas()
        if replicas == 1 or not training:
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        # Keras divides means by the number of replicas, but each replica has the descriptors of all tuples.
        loss = keras.Model.compute_loss(self, x, y, y_pred, sample_weight, training)
        return (loss * replicas if self.loss.reduction in _MEANS else loss) + self.penalty()

    def train_step(self, data: Any) -> dict[str, Any]:
        import keras

        inputs, objects, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if "pixels" in inputs:
            _require_one_device("photos at exact sizes")
        loss, descriptors = self.step(inputs, objects, sample_weight)
        if self._kept is not None:
            for kept, new in zip(self._kept, (inputs["rows"], descriptors), strict=True):
                kept.assign(new)
        self._track(loss, objects)
        everyone = (of_all_replicas(one) for one in (objects, sample_weight))
        return self.compute_metrics(inputs, next(everyone), descriptors, sample_weight=next(everyone))

    def step(self, inputs: dict[str, Any], objects: Any, sample_weight: Any = None) -> tuple[Any, Any]:
        """Updates the weights by one training step.

        Args:
            inputs: the inputs of the model; under a distribution strategy those of this replica.
            objects: (B, M) object numbers of the photos.
            sample_weight: (B,) weights of the tuples; None for equal weights.

        Returns:
            The loss, a scalar, and the descriptors (B, M, D). With several replicas both are of the tuples of all
            replicas.
        """
        loss, descriptors, gradients = self._step(inputs, objects, sample_weight)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        return loss, descriptors

    def test_step(self, data: Any) -> dict[str, Any]:
        import keras

        inputs, objects, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        descriptors = self(inputs, training=False)
        loss = self.compute_loss(inputs, objects, descriptors, sample_weight, training=False)
        self._track(loss * _replicas(), objects)
        return self.compute_metrics(inputs, objects, descriptors, sample_weight=sample_weight)

    def _step(self, *batch: Any) -> Step:
        """Computes loss, descriptors and gradients, in chunks unless all photos of the step fit in one chunk."""
        import tensorflow as tf

        objects = batch[1]
        photos = objects.shape[:2].num_elements()
        if self.chunk is None or (photos is not None and photos <= self.chunk):
            return self._at_once(*batch)
        if photos is not None:
            return self._in_chunks(*batch)
        few = tf.reduce_prod(tf.shape(objects)[:2]) <= self.chunk
        return tf.cond(few, lambda: self._at_once(*batch), lambda: self._in_chunks(*batch))

    def _at_once(self, inputs: dict[str, Any], objects: Any, sample_weight: Any) -> Step:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            own = self(inputs, training=True)
        loss, descriptors, upstream, rest = self._loss_of_all(inputs, objects, own, sample_weight)
        found = tape.gradient(own, self._values(), upstream, unconnected_gradients="zero")
        return loss, descriptors, [one + other for one, other in zip(found, rest, strict=True)]

    def _in_chunks(self, inputs: dict[str, Any], objects: Any, sample_weight: Any) -> Step:
        import tensorflow as tf

        runs = self._runs(inputs)
        rows = self._describe(runs)
        with tf.GradientTape() as tape:
            tape.watch(rows)
            own = tf.gather(rows, runs.places)
        loss, descriptors, upstream, rest = self._loss_of_all(inputs, objects, own, sample_weight)
        of_rows = tf.convert_to_tensor(tape.gradient(own, rows, upstream))
        return loss, descriptors, _pull_back(runs, of_rows, self._values(), rest)

    def _loss_of_all(
        self, inputs: dict[str, Any], objects: Any, own: Any, sample_weight: Any
    ) -> tuple[Any, Any, Any, list[Any]]:
        """Computes the loss of the tuples of all replicas.

        Returns:
            The loss; all descriptors; the gradient with respect to the descriptors of this replica, `own`; and for each
            weight the gradient that does not come from the descriptors, divided by the number of replicas, because the
            optimizer sums the gradients of the replicas.
        """
        import tensorflow as tf

        descriptors = of_all_replicas(own)
        objects, sample_weight = of_all_replicas(objects), of_all_replicas(sample_weight)
        with tf.GradientTape() as tape:
            tape.watch(descriptors)
            loss = self.compute_loss(inputs, objects, descriptors, sample_weight, training=True)
            scaled = self.optimizer.scale_loss(loss)
        upstream, *rest = tape.gradient(scaled, [descriptors, *self._values()], unconnected_gradients="zero")
        replicas = _replicas()
        if replicas > 1:
            tuples = tf.shape(own)[0]
            first = tf.distribute.get_replica_context().replica_id_in_sync_group * tuples
            upstream, rest = upstream[first : first + tuples], [one / replicas for one in rest]
        return loss, descriptors, upstream, rest

    def _values(self) -> list[Any]:
        """Returns the trainable weights as TensorFlow variables."""
        return [weight.value for weight in self.trainable_weights]

    def _runs(self, inputs: dict[str, Any]) -> "_Runs":
        cut, network = (_exact_runs, self.network) if "pixels" in inputs else (_padded_runs, self.padded)
        return cut(network, inputs, self.chunk or ALL)

    def _describe(self, runs: "_Runs") -> Any:
        """Computes the descriptors of all photos, in the order of the runs."""
        import tensorflow as tf

        count = tf.size(runs.ends)
        rows = tf.TensorArray(tf.float32, count, infer_shape=False, element_shape=(None, self.network.output_shape[-1]))

        def body(run: Any, rows: Any) -> tuple[Any, Any]:
            return run + 1, rows.write(run, runs.describe(run))

        _, rows = tf.while_loop(lambda run, _: run < count, body, (0, rows), parallel_iterations=1)
        return rows.concat()

    def _track(self, loss: Any, objects: Any) -> None:
        import tensorflow as tf

        self._loss_tracker.update_state(loss, sample_weight=tf.shape(objects)[0])


@dataclass(frozen=True)
class _Runs:
    """The photos of a step, divided into R runs (chunks) that pass through the network one after the other.

    Attributes:
        describe: function from the number of a run to the descriptors (n, D) of its photos.
        ends: (R,) number of photos up to the end of each run.
        places: (B, M) position of each photo of the tuples among the photos of all runs.
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
    """Propagates the gradients `upstream` of all descriptors to the weights, run by run, and adds them to `sums`."""
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


def of_all_replicas(value: Any) -> Any:
    """Joins the tensors of all replicas along their first axis; the argument itself with one replica, or if it is None.

    All tensors must have the same shape but for the first axis.
    """
    import tensorflow as tf

    replicas = _replicas()
    if value is None or replicas == 1:
        return value
    found = tf.distribute.get_replica_context().all_gather(tf.identity(value), axis=0)
    return tf.ensure_shape(found, (None, *value.shape[1:]))  # which some collectives lose


def _replicas() -> int:
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def _require_one_device(feature: str) -> None:
    if _replicas() > 1:
        raise ArgumentError(f"{feature} need one device, but the strategy has several")


def _kept(dimensions: int) -> tuple[Any, Any]:
    """Returns TensorFlow variables without a fixed shape for the row numbers and descriptors of a step's photos."""
    import tensorflow as tf

    return (
        tf.Variable(np.zeros((0, 0), "int32"), trainable=False, shape=(None, None)),
        tf.Variable(np.zeros((0, 0, dimensions), "float32"), trainable=False, shape=(None, None, dimensions)),
    )

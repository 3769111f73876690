"""The tuples of an epoch as a tf.data.Dataset for `fit`:

draw = EpochDraw(read_tuples(path), photos, MiningOptions())
stream = TupleStream(draw, PhotoOptions(side=362))
model.fit(stream.dataset(), epochs=30, callbacks=[mining_callback(draw, describer(network))])
"""

from collections.abc import Iterator
from typing import Any

from .epoch_draw import EpochDraw
from .tuple_reader import PREFETCH, Element, PhotoOptions, TupleReader


class TupleStream:
    """Streams the tuples of an EpochDraw with the pixels of their photos.

    Photos are read by threads, three steps ahead, so that only a few steps' photos are in memory.

    Args:
        draw: the draw of the tuples.
        options: the options for the preparation of photos.
    """

    def __init__(self, draw: EpochDraw, options: PhotoOptions) -> None:
        self.draw = draw
        self._reader = TupleReader(draw.photos, draw.names, draw.objects, options, draw.options.seed)

    @property
    def steps(self) -> int:
        """Number of steps in an epoch."""
        return self.draw.steps

    def dataset(self, start: int = 0) -> Any:
        """Returns a dataset of the tuples; each iteration takes those of the epoch that was mined last.

        In the shapes, B is the number of tuples in a step (the last step of validation may have fewer), and M = 2 + N
        is the number of photos in a tuple.

        Args:
            start: the first step, for a run that is resumed within an epoch.

        Returns:
            A tf.data.Dataset of (inputs, objects). objects is (B, M) int32, equal for photos that may show the same
            object; inputs is a dict of "rows" (B, M) int32, the photos' row numbers, and the arrays of
            `tuple_batches.padded` or `tuple_batches.exact`. A tuple with an unreadable photo is replaced by another
            tuple of the epoch. Iteration raises a TensorFlow error if no epoch has been mined.
        """
        import tensorflow as tf

        tuples = None if self.draw.count % self.draw.batch else self.draw.batch
        data = tf.data.Dataset.from_generator(
            lambda: self._elements(start), output_signature=self._signature(tuples, 2 + self.draw.options.negatives)
        )
        return data.apply(tf.data.experimental.assert_cardinality(self.steps - start)).prefetch(PREFETCH)

    @property
    def left_out(self) -> dict[str, str]:
        """Dict from each photo that could not be read, in the last mining or in any step so far, to the reason."""
        return self.draw.left_out | self._reader.left_out

    def _elements(self, start: int) -> Iterator[Element]:
        self.draw.mined()
        steps = range(start, self.steps)
        return self._reader.elements(self.draw.mined, self.draw.batch, steps, self.draw.epoch or 0)

    def _signature(self, tuples: int | None, photos: int) -> Any:
        """The shapes of an element: B tuples, None if steps differ, of M photos."""
        import tensorflow as tf

        shape, side = (tuples, photos), self._reader.options.side
        inputs = {"rows": tf.TensorSpec(shape, tf.int32)}
        if self._reader.options.padded:
            inputs["photos"] = tf.TensorSpec((*shape, side, side, 3), tf.uint8)
            inputs["sizes"] = tf.TensorSpec((*shape, 2), tf.int32)
        else:
            inputs["pixels"] = tf.TensorSpec((None, 3), tf.uint8)
            inputs["groups"] = tf.TensorSpec((None, 3), tf.int32)
            inputs["places"] = tf.TensorSpec((tuples and tuples * photos,), tf.int32)
        return inputs, tf.TensorSpec(shape, tf.int32)

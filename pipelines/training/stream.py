"""Streams the mined tuples of an epoch, with the pixels of their photos, as a tf.data.Dataset for `fit`.

Example::

    draw = EpochDraw(read_tuples(path), photos, MiningOptions())
    stream = TupleStream(draw, PhotoOptions(side=362))
    model.fit(stream.dataset(), epochs=30, callbacks=[mining_callback(draw, describer(network))])
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from .class_draw import ClassDraw
from .epoch_draw import EpochDraw
from .tuple_reader import PREFETCH, READ_AHEAD, Element, PhotoOptions, TupleReader


@dataclass(frozen=True)
class StreamPart:
    """The part of each step's tuples that one process reads.

    Attributes:
        first: the number of the first part that this process reads, from 0.
        count: the number of parts that this process reads; it is the number of elements of the dataset in a step.
        of: the number of parts into which a step is divided. It must divide the number of tuples of a step.
        every: this process reads whole steps, one in so many. Which ones changes from epoch to epoch, so that a number
            of steps that cannot be divided equally is not always the same process' burden.
    """

    first: int = 0
    count: int = 1
    of: int = 1
    every: int = 1

    def of_steps(self, steps: range, epoch: int = 0) -> list[int]:
        """Returns the numbers of this process' parts of some steps, counted over all steps of the epoch."""
        if self.every > 1:
            return [step for step in steps if (step + epoch) % self.every == self.first]
        return [step * self.of + self.first + number for step in steps for number in range(self.count)]


WHOLE = StreamPart()


@dataclass(frozen=True)
class ArraySteps:
    """A dataset of numpy arrays, of which a thread makes the next element while one is in use.

    Attributes:
        elements: function that returns an iterator over the elements.
        count: the number of elements.
    """

    elements: Callable[[], Iterator[Element]]
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Element]:
        with ThreadPoolExecutor(1) as pool:
            source = self.elements()
            waiting = deque(pool.submit(next, source, None) for _ in range(PREFETCH))
            while (element := waiting.popleft().result()) is not None:
                waiting.append(pool.submit(next, source, None))
                yield element


class TupleStream:
    """Streams the tuples that an `EpochDraw` has mined, or a `ClassDraw` drawn, with the pixels of their photos.

    Threads read the photos three steps ahead of training, so that only the photos of a few steps are in memory.

    Args:
        draw: the `EpochDraw` that draws and mines the tuples of each epoch, or the `ClassDraw` that draws its batches,
            whose tuples are the K photos of a class.
        options: how the photos are padded and augmented.
        part: the part of each step that this process reads, if several devices or processes train together.
        tensors: whether `dataset` returns a tf.data.Dataset; otherwise an `ArraySteps` of numpy arrays, which does not
            need TensorFlow.
    """

    def __init__(
        self, draw: EpochDraw | ClassDraw, options: PhotoOptions, part: StreamPart = WHOLE, tensors: bool = True
    ) -> None:
        self.draw, self.part, self.tensors = draw, part, tensors
        self._reader = TupleReader(draw.photos, draw.names, draw.objects, options, draw.options.seed)

    @property
    def steps(self) -> int:
        """Number of steps in an epoch."""
        return self.draw.steps

    def dataset(self, start: int = 0) -> Any:
        """Returns a dataset of the tuples, one element per step, or for each of the parts of a step that are read.

        Each iteration over the dataset yields the tuples of the epoch that `draw` mined last. A tuple with a photo that
        cannot be read is replaced by another tuple of the epoch. Iteration raises a TensorFlow error if no epoch has
        been mined.

        Args:
            start: number of the first step to yield, above 0 for a run that is resumed within an epoch.

        Returns:
            A tf.data.Dataset, or `ArraySteps`, of (inputs, objects). `inputs` is a dict of "rows" (B, M) int32, the row
            numbers of the photos, and of the arrays that `tuple_batches.padded` or `tuple_batches.exact` returns.
            `objects` is (B, M) int32; photos that may show the same object have the same number. Those of a `ClassDraw`
            are `ClassDraw.objects`, (B, M) or (B, M, 1 + L). B is the number of tuples in a step or its part (the last
            step of validation may have fewer), and M is the number of photos in a tuple: 2 + N with N negatives.
        """
        count = len(self._parts(start))
        if not self.tensors:
            return ArraySteps(lambda: self._elements(start), count)
        import tensorflow as tf

        tuples = None if self.draw.count % self.draw.batch else self.draw.batch // self.part.of
        data = tf.data.Dataset.from_generator(
            lambda: self._elements(start), output_signature=self._signature(tuples, self.draw.width)
        )
        return data.apply(tf.data.experimental.assert_cardinality(count)).prefetch(PREFETCH * self.part.count)

    @property
    def left_out(self) -> dict[str, str]:
        """Dict from the name of each photo that could not be read, in the last mining or in any step, to the reason."""
        return self.draw.left_out | self._reader.left_out

    def _elements(self, start: int) -> Iterator[Element]:
        self.draw.mined()
        batch, ahead = self.draw.batch // self.part.of, READ_AHEAD * self.part.count
        return self._reader.elements(self.draw.mined, batch, self._parts(start), self.draw.epoch or 0, ahead)

    def _parts(self, start: int) -> list[int]:
        return self.part.of_steps(range(start, self.steps), self.draw.epoch or 0)

    def _signature(self, tuples: int | None, photos: int) -> Any:
        """Returns the shapes of an element, for a number of tuples (None if it differs between steps) and of photos."""
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
        return inputs, tf.TensorSpec((*shape, *self.draw.objects.shape[1:]), tf.int32)

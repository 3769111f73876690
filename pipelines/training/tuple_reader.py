"""Reads the photos of tuples step by step, some steps ahead of the one that is asked for."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from ..photos.augmentation import Augmentation
from ..photos.cache import PhotoSource
from ..photos.reader import PhotoError
from .tuple_batches import Arrays, exact, padded

READ_AHEAD = 2  # steps whose photos are being read

Element = tuple[Arrays, np.ndarray]
Read = tuple[np.ndarray, list[np.ndarray]]


@dataclass(frozen=True)
class TupleReader:
    """From tuples of rows to the elements of a dataset.

    Attributes:
        photos: where they are read.
        names: of all photos; a row is an index into them.
        objects: (len(names),) int32, the object of each.
        side: of the padded squares; None for exact sizes.
        augment: what is done to the photos of a tuple; None for nothing.
        seed: of the augmentation and of replacements.
        left_out: name -> reason, of the photos that could not be read.
    """

    photos: PhotoSource
    names: Sequence[str]
    objects: np.ndarray
    side: int | None
    augment: Augmentation | None
    seed: int
    left_out: dict[str, str] = field(default_factory=dict)

    def elements(
        self, tuples: Callable[[], np.ndarray], batch: int, steps: Iterable[int], epoch: int
    ) -> Iterator[Element]:
        """Reads steps in order, READ_AHEAD of them at a time.

        Args:
            tuples: gives all tuples (n, M), rows of photos, as they are when a step is begun to be read.
            batch: tuples in a step.
            steps: their numbers.
            epoch: of the augmentation.

        Yields:
            inputs ("rows" and `padded` or `exact`) and objects (B, M) of each step.
        """
        pending: deque[list[Future[Read]]] = deque()
        upcoming = iter(steps)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            while True:
                for step in islice(upcoming, READ_AHEAD - len(pending)):
                    now = tuples()
                    places = range(step * batch, min((step + 1) * batch, len(now)))
                    pending.append([pool.submit(self._read, now, place, epoch) for place in places])
                if not pending:
                    return
                yield self._element([future.result() for future in pending.popleft()])

    def signature(self, tuples: int | None, photos: int) -> Any:
        """What tf.data is to know of an element.

        Args:
            tuples: B, None if not all steps have as many.
            photos: M.
        """
        import tensorflow as tf

        shape, side = (tuples, photos), self.side
        inputs = {"rows": tf.TensorSpec(shape, tf.int32)}
        if side is None:
            inputs["pixels"] = tf.TensorSpec((None, 3), tf.uint8)
            inputs["groups"] = tf.TensorSpec((None, 3), tf.int32)
            inputs["places"] = tf.TensorSpec((tuples and tuples * photos,), tf.int32)
        else:
            inputs["photos"] = tf.TensorSpec((*shape, side, side, 3), tf.uint8)
            inputs["sizes"] = tf.TensorSpec((*shape, 2), tf.int32)
        return inputs, tf.TensorSpec(shape, tf.int32)

    def _element(self, read: Sequence[Read]) -> Element:
        rows = np.stack([rows for rows, _ in read])
        photos = [photo for _, some in read for photo in some]
        arrays = exact(photos) if self.side is None else padded(photos, len(read), self.side)
        return arrays | {"rows": rows}, self.objects[rows]

    def _read(self, tuples: np.ndarray, place: int, epoch: int) -> Read:
        """The rows and the photos of a tuple, or of another one if it has a photo that cannot be read."""
        for other in self._places(len(tuples), place, epoch):
            photos = self._photos(tuples[other], [self.seed, epoch, place])
            if photos:
                return tuples[other], photos
        name, reason = next(iter(self.left_out.items()))
        raise ValueError(f"every tuple has a photo that cannot be read; one is {name}: {reason}")

    def _places(self, count: int, place: int, epoch: int) -> Iterator[int]:
        yield place
        yield from np.random.default_rng([self.seed, epoch, place]).permutation(count).tolist()

    def _photos(self, rows: np.ndarray, seed: list[int]) -> list[np.ndarray]:
        """The photos of a tuple; none at all if one of them cannot be read."""
        photos = []
        for row in rows.tolist():
            try:
                photos.append(self.photos.read(self.names[row]))
            except PhotoError as error:
                self.left_out[self.names[row]] = error.reason
                return []
        return self.augment.of_tuple(photos, seed) if self.augment else photos

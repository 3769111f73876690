"""Reads the photos of tuples step by step, some steps ahead of the training."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from keras_retrieval.errors import ArgumentError

from ..photos.augmentation import Augmentation
from ..photos.cache import PhotoSource
from ..photos.reader import PhotoError
from ..training_tuples.data import TuplesError
from .tuple_batches import Arrays, exact, padded

READ_AHEAD = 2  # steps whose photos are being read
PREFETCH = 1  # steps that wait as tensors
STEPS_ALREADY_READ = READ_AHEAD + PREFETCH
"""Steps after the one being trained whose photos are read already: a refresh does not change their tuples."""

Element = tuple[Arrays, np.ndarray]
TuplePhotos = tuple[np.ndarray, list[np.ndarray]]
"""A tuple: rows (M,) and pixels of its photos."""


@dataclass(frozen=True, kw_only=True)
class PhotoOptions:
    """The options with which the photos of tuples are prepared.

    Attributes:
        side: the side of the padded squares in pixels, at least that of the largest photo.
        padded: whether photos are padded to squares, or have their exact sizes.
        augment: random changes of the photos of a tuple; None for none.

    Raises:
        ArgumentError: the side is below 1.
    """

    side: int
    padded: bool = True
    augment: Augmentation | None = None

    def __post_init__(self) -> None:
        if self.side < 1:
            raise ArgumentError(f"side must be at least 1, got {self.side}")


@dataclass(frozen=True)
class TupleReader:
    """Reads tuples of rows as the elements of a dataset.

    Attributes:
        photos: read the pixels.
        names: the names of all photos; a row is an index into them.
        objects: (len(names),) int32, the object of each photo.
        options: how photos are prepared.
        seed: random seed of augmentation and of replacements.
        left_out: name -> reason, of the photos that could not be read.
    """

    photos: PhotoSource
    names: Sequence[str]
    objects: np.ndarray
    options: PhotoOptions
    seed: int
    left_out: dict[str, str] = field(default_factory=dict)

    def elements(
        self, tuples: Callable[[], np.ndarray], batch: int, steps: Iterable[int], epoch: int
    ) -> Iterator[Element]:
        """Reads steps in order, READ_AHEAD of them at a time.

        Args:
            tuples: returns all tuples (n, M), rows of photos; it is called when the reading of a step begins.
            batch: tuples in a step.
            steps: their numbers.
            epoch: seeds the augmentation.

        Yields:
            inputs ("rows" and the arrays of `padded` or `exact`) and objects (B, M) of each step.

        Raises:
            TuplesError: every tuple has a photo that cannot be read.
            ArgumentError: a photo is larger than the square.
        """
        pending: deque[list[Future[TuplePhotos]]] = deque()
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

    def _element(self, read: Sequence[TuplePhotos]) -> Element:
        rows = np.stack([rows for rows, _ in read])
        photos = [photo for _, photos in read for photo in photos]
        arrays = padded(photos, len(read), self.options.side) if self.options.padded else exact(photos)
        return arrays | {"rows": rows}, self.objects[rows]

    def _read(self, tuples: np.ndarray, place: int, epoch: int) -> TuplePhotos:
        """The rows and photos of a tuple, or of another one if it has a photo that cannot be read."""
        seed = [self.seed, epoch, place]
        photos = self._photos(tuples[place], seed)
        if photos:
            return tuples[place], photos
        for other in np.random.default_rng(seed).permutation(len(tuples)).tolist():
            photos = self._photos(tuples[other], seed)
            if photos:
                return tuples[other], photos
        name, reason = next(iter(self.left_out.items()))
        raise TuplesError(f"every tuple has a photo that cannot be read; one is {name}: {reason}")

    def _photos(self, rows: np.ndarray, seed: list[int]) -> list[np.ndarray]:
        """The photos of a tuple; an empty list if one of them cannot be read."""
        photos = []
        for row in rows.tolist():
            try:
                photos.append(self.photos.read(self.names[row]))
            except PhotoError as error:
                self.left_out[self.names[row]] = error.reason
                return []
        return self.options.augment.of_tuple(photos, seed) if self.options.augment else photos

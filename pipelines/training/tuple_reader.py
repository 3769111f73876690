"""Reads the photos of tuples step by step, some steps ahead of training."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from keras_retrieval.errors import ArgumentError

from ..files.machine import cores
from ..photos.augmentation import Augmentation
from ..photos.cache import PhotoSource
from ..photos.reader import PhotoError
from ..training_tuples.data import TuplesError
from .tuple_batches import Arrays, exact, padded

READ_AHEAD = 2  # number of steps whose photos are being read
PREFETCH = 1  # number of steps whose photos wait as tensors
STEPS_ALREADY_READ = READ_AHEAD + PREFETCH
"""Number of steps after the current one whose photos have been read, so that their negatives no longer change."""

Element = tuple[Arrays, np.ndarray]
TuplePhotos = tuple[np.ndarray, list[np.ndarray]]
"""A training tuple: the row numbers (M,) of its photos, and the pixels of each photo."""


@dataclass(frozen=True, kw_only=True)
class PhotoOptions:
    """The options by which the photos of tuples are padded and augmented.

    Attributes:
        side: the side of the padded squares in pixels, at least the longest side of any photo.
        padded: whether photos are padded to squares; otherwise they keep their exact sizes.
        augment: random augmentation of the photos of a tuple; None for no augmentation.

    Raises:
        ArgumentError: `side` is below 1.
    """

    side: int
    padded: bool = True
    augment: Augmentation | None = None

    def __post_init__(self) -> None:
        if self.side < 1:
            raise ArgumentError(f"side must be at least 1, got {self.side}")


@dataclass(frozen=True)
class TupleReader:
    """Reads the photos of tuples and yields them as the elements of a dataset.

    Attributes:
        photos: reader of the photos' pixels.
        names: names of all photos; a row number is an index into `names`.
        objects: (len(names),) int32 object numbers of the photos; photos that may show the same object have the same
            number. Or a row of numbers for each photo, (len(names), n).
        options: how the photos are padded and augmented.
        seed: random seed of the augmentation and of the choice of tuples that replace unreadable ones.
        left_out: dict from the name of each photo that could not be read to the reason. `elements` adds the photos to
            it, so that the caller usually leaves the default, an empty dict.
    """

    photos: PhotoSource
    names: Sequence[str]
    objects: np.ndarray
    options: PhotoOptions
    seed: int
    left_out: dict[str, str] = field(default_factory=dict)

    def elements(
        self,
        tuples: Callable[[], np.ndarray],
        batch: int,
        steps: Iterable[int],
        epoch: int,
        ahead: int = READ_AHEAD,
    ) -> Iterator[Element]:
        """Reads the photos of steps in order, while threads read the next ones.

        A tuple with a photo that cannot be read is replaced by a random other tuple.

        Args:
            tuples: function that returns all tuples of the epoch as (n, M) row numbers of photos. It is called before
                each step is read, because the negatives may change during the epoch.
            batch: number of tuples in a step.
            steps: numbers of the steps to read.
            epoch: number of the epoch, which is part of the seed of the augmentation.
            ahead: number of steps that are read at a time.

        Yields:
            For each step the inputs and the objects. The inputs are a dict of "rows" (B, M), the row numbers of the
            photos, and of the arrays that `padded` or `exact` returns; the objects are (B, M) object numbers, or rows
            of them, (B, M, n).

        Raises:
            TuplesError: every tuple has a photo that cannot be read.
            ArgumentError: photos are padded, and one is larger than `side`.
        """
        pending: deque[list[Future[TuplePhotos]]] = deque()
        upcoming = iter(steps)
        with ThreadPoolExecutor(cores()) as pool:
            while True:
                for step in islice(upcoming, ahead - len(pending)):
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
        """Reads the tuple at a place, or another tuple if one of its photos cannot be read."""
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
        """Reads and augments the photos of a tuple; returns an empty list if one of them cannot be read."""
        photos = []
        for row in rows.tolist():
            try:
                photos.append(self.photos.read(self.names[row]))
            except PhotoError as error:
                self.left_out[self.names[row]] = error.reason
                return []
        return self.options.augment.of_tuple(photos, seed) if self.options.augment else photos

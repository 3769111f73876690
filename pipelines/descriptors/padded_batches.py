"""Batches of photos of different sizes, which are padded to the sides of a bucket and described with masks.

The descriptors are those of the photos without padding, to 1e-5, see `keras_retrieval.networks.padded_layers`.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ..networks.onnx_network import require_sides
from ..photos.reading import Shape

AUTO, EXACT, BUCKETS = "auto", "exact", "buckets"
BATCH_SHAPES = (AUTO, EXACT, BUCKETS)
BATCH_SHAPES_HELP = (
    "Photos of a batch: exact, photos of equal size; buckets, photos of similar sizes, padded and masked, whose "
    "descriptors are equal to 1e-5; or auto, which is buckets on JAX, where each size is compiled, else exact. Photos "
    "of networks that read the padding are in exact batches in any case."
)

STEPS = 6
"""Buckets of an axis for a factor of 2 in the side, so that a side is padded by 6 % on average and 12 % at most."""


class Buckets:
    """The sides to which photos are padded: those of the largest photos among all of similar height and width.

    A collection of photos of one size has one bucket of this size, and no padding.
    """

    def __init__(self) -> None:
        self._sides: dict[tuple[int, int], Shape] = {}
        self._mixed: set[tuple[int, int]] = set()

    def add(self, shapes: Iterable[Shape]) -> None:
        """Takes photos into account, which can enlarge the buckets.

        Args:
            shapes: the (height, width) of photos in pixels.
        """
        for height, width in set(shapes):
            cell = _cell(height), _cell(width)
            before = self._sides.setdefault(cell, (height, width))
            if before != (height, width):
                self._mixed.add(cell)
            self._sides[cell] = max(before[0], height), max(before[1], width)

    def sides(self, shape: Shape) -> Shape:
        """Returns the height and width to which a photo is padded."""
        self.add([shape])
        return self._sides[_cell(shape[0]), _cell(shape[1])]

    def has_one_size(self, shape: Shape) -> bool:
        """Whether all photos of a photo's bucket have its size."""
        return (_cell(shape[0]), _cell(shape[1])) not in self._mixed


def _cell(side: int) -> int:
    return math.ceil(STEPS * math.log2(side) - 1e-9)


class BucketDescriber:
    """A function that describes photos, also of different sizes in one batch.

    Args:
        padded: maps photos (B, H, W, 3) uint8, each in the upper left corner, and their sizes (B, 2) int32 to
            descriptors (B, D).
        exact: maps photos (B, H, W, 3) without padding to descriptors.
        smallest: shortest side in pixels that the network can describe.
        name: the network's name, for error messages.
        programs: whether each shape of a batch is compiled, so that batches are completed to a power of 2.
        runtime: what computes the descriptors.
    """

    def __init__(
        self,
        padded: Callable[[np.ndarray, np.ndarray], np.ndarray],
        exact: Callable[[np.ndarray], np.ndarray],
        smallest: int,
        name: str,
        programs: bool,
        runtime: str,
    ) -> None:
        self.runtime = runtime
        self.buckets = Buckets()
        self._padded, self._exact, self.programs = padded, exact, programs
        self._smallest, self._name = smallest, name

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Describes photos of one size, (B, H, W, 3) uint8."""
        return self.describe(list(images))

    def describe(self, photos: Sequence[np.ndarray]) -> np.ndarray:
        """Describes photos of one bucket.

        Args:
            photos: pixels, (height, width, 3) uint8 each.

        Returns:
            The descriptors, (B, D) float32.

        Raises:
            NetworkError: a photo is too small for the network.
        """
        for photo in photos:
            require_sides(photo[None], self._smallest, self._name)
        shapes = [photo.shape[:2] for photo in photos]
        self.buckets.add((height, width) for height, width in shapes)
        count = 1 << (len(photos) - 1).bit_length() if self.programs else len(photos)
        if len(set(shapes)) == 1 and (not self.programs or self.buckets.has_one_size(shapes[0])):
            return self._exact(np.stack([*photos, *[photos[0]] * (count - len(photos))]))[: len(photos)]
        canvas = np.max([self.buckets.sides((height, width)) for height, width in shapes], axis=0)
        images = np.zeros((count, *canvas, 3), np.uint8)
        sizes = np.full((count, 2), canvas, np.int32)
        for number, (photo, (height, width)) in enumerate(zip(photos, shapes, strict=True)):
            images[number, :height, :width] = photo
            sizes[number] = height, width
        return self._padded(images, sizes)[: len(photos)]


def bucket_of(describe: Callable[[np.ndarray], np.ndarray], shape: Shape) -> Shape:
    """Returns the height and width of the batches in which a function from `describer` takes photos of a size."""
    return describe.buckets.sides(shape) if isinstance(describe, BucketDescriber) else shape


def most_photos(describe: Callable[[np.ndarray], np.ndarray], most: int) -> int:
    """Returns how many photos a batch has, if it may have `most`: a power of 2 where batches are completed to one."""
    return 1 << (most.bit_length() - 1) if isinstance(describe, BucketDescriber) and describe.programs else most


def add_to_buckets(describe: Callable[[np.ndarray], np.ndarray], shapes: Iterable[Shape]) -> None:
    """Tells a function from `describer` the sizes of photos that it will describe; nothing if it pads none."""
    if isinstance(describe, BucketDescriber):
        describe.buckets.add(shapes)


def describe_batch(describe: Callable[[np.ndarray], np.ndarray], photos: Sequence[np.ndarray]) -> np.ndarray:
    """Describes photos of one size, or of one bucket, by a function from `describer`."""
    return describe.describe(photos) if isinstance(describe, BucketDescriber) else describe(np.stack(photos))

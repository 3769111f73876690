"""From pixels to descriptors: one compiled function for photos of any size, all scales inside."""

import os
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, Generic, TypeVar

import numpy as np

from keras_retrieval.errors import RetrievalError

from ..networks.files import smallest_side
from ..networks.onnx_network import OnnxNetwork, require_sides
from ..photos.reader import PhotoError
from ..photos.reading import Shape

BATCH_PIXELS = 2**21  # a batch of the network: 8 photos of 512 x 512; more is not faster and takes memory
NO_DESCRIPTOR = "the network's descriptor of it is zero or not finite"  # a reason for which a photo is left out
READ_AHEAD = 3  # batches in memory: one in the network, two being read

DescribeFn = Callable[[np.ndarray], np.ndarray]
Key = TypeVar("Key", bound=Hashable)


class NoDescriptorsError(RetrievalError, ValueError):
    """A network describes every photo by zeros or by numbers that are not finite.

    Args:
        photos: the number of photos that could be read.
    """

    def __init__(self, photos: int) -> None:
        super().__init__(
            f"the network's descriptors of all {photos:,} readable photos are zero or not finite: it has diverged in "
            "training (lower --lr), or its file is damaged"
        )


@dataclass(frozen=True)
class DescribedBatch(Generic[Key]):
    """What came of a batch of photos.

    Attributes:
        keys: those that have a descriptor.
        rows: (n, D) float32, in the order of `keys`.
        left_out: the reason for each of the others.
        seconds: that the network took.
    """

    keys: list[Key]
    rows: np.ndarray
    left_out: dict[Key, str]
    seconds: float


ANTIALIAS_HELP = "Antialias the scales below 1; published PyTorch networks were measured without."
MIRROR_HELP = "Join mirrored photos in the descriptor, too, at every scale."


def parse_scales(scales: str) -> tuple[float, ...]:
    """Reads "1,0.7071,0.5".

    Raises:
        ValueError: not numbers above 0 and up to 4 with commas between them.
    """
    try:
        found = tuple(float(scale) for scale in scales.split(","))
    except ValueError:
        found = ()
    if not found or not all(0 < scale <= 4 for scale in found):
        raise ValueError(
            f"--scales {scales}: give factors above 0 and up to 4 with commas between, such as 1,0.7071,0.5"
        )
    return found


def describer(
    model: Any,
    scales: tuple[float, ...] = (1.0,),
    bfloat16: bool = False,
    antialias: bool = True,
    mirror: bool = False,
) -> DescribeFn:
    """Compiles a network into a function from photos of one size to descriptors.

    It is traced once, for a batch and size that are unknown, so that a million sizes cost no more than one.

    Args:
        model: a keras.Model from `keras_retrieval.build`, or an OnnxNetwork, which takes none of the options.
        scales: joined inside the same graph.
        bfloat16: run the trunk in bfloat16. This changes the model that is given, for good.
        antialias: how the scales below 1 are made, see `keras_retrieval.layers.Rescaling`.
        mirror: join mirrored photos, too.

    Returns:
        A function (B, H, W, 3) uint8 -> (B, D) float32. It raises ValueError for photos below `smallest_side`: some
        kernels of TensorFlow process empty feature maps without an error, and the descriptor would be NaN or zero.

    Raises:
        ValueError: Keras runs on another backend than TensorFlow, or `bfloat16` with a network that has no trunk,
            or scales, `bfloat16` or `mirror` with an OnnxNetwork; or the network takes photos of one size only.
    """
    if isinstance(model, OnnxNetwork):
        model.check(scales, bfloat16, mirror)
        return model.describe
    import keras
    import tensorflow as tf

    import keras_retrieval
    from keras_retrieval.networks.precision import set_trunk_precision

    if keras.backend.backend() != "tensorflow":
        raise ValueError(f"photos are described on TensorFlow: KERAS_BACKEND is {keras.backend.backend()}")
    smallest = smallest_side(model, scales)
    if bfloat16:
        set_trunk_precision(model, "mixed_bfloat16")
    network = keras_retrieval.multi_scale(model, scales, antialias=antialias, mirror=mirror)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)], autograph=False)
    def describe(images: Any) -> Any:
        return network(images, training=False)

    def checked(images: np.ndarray) -> np.ndarray:
        require_sides(images, smallest, model.name)
        return describe(images).numpy()

    return checked


def describe_photos(
    describe: DescribeFn, photos: Sequence[tuple[Shape, Key]], read: Callable[[Key], np.ndarray]
) -> Iterator[DescribedBatch[Key]]:
    """Describes photos batch by batch while threads read the next ones.

    Args:
        describe: from `describer`.
        photos: (shape, key) of each photo, those of one shape side by side.
        read: the pixels of a key, of that shape; raises PhotoError.

    Yields:
        What came of each batch, in order.
    """
    upcoming = _batches(photos)
    reading: deque[tuple[Shape, dict[Key, Future[np.ndarray]]]] = deque()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while True:
            for shape, batch in islice(upcoming, READ_AHEAD - len(reading)):
                reading.append((shape, {key: pool.submit(read, key) for key in batch}))
            if not reading:
                return
            yield _described(describe, *reading.popleft())


def _batches(photos: Sequence[tuple[Shape, Key]]) -> Iterator[tuple[Shape, list[Key]]]:
    for shape, group in groupby(photos, key=lambda photo: photo[0]):
        most = max(1, BATCH_PIXELS // (shape[0] * shape[1]))
        while batch := [key for _, key in islice(group, most)]:
            yield shape, batch


def _described(describe: DescribeFn, shape: Shape, batch: dict[Key, Future[np.ndarray]]) -> DescribedBatch[Key]:
    pixels, left_out = _pixels(shape, batch)
    if not pixels:
        return DescribedBatch([], np.zeros((0, 0), "float32"), left_out, 0.0)
    started = time.monotonic()
    rows = describe(np.stack(list(pixels.values())))
    seconds = time.monotonic() - started
    usable = np.isfinite(rows).all(axis=1) & (rows != 0).any(axis=1)
    left_out |= {
        key: NO_DESCRIPTOR for key, row_is_usable in zip(pixels, usable.tolist(), strict=True) if not row_is_usable
    }
    return DescribedBatch([key for key in pixels if key not in left_out], rows[usable], left_out, seconds)


def _pixels(shape: Shape, batch: dict[Key, Future[np.ndarray]]) -> tuple[dict[Key, np.ndarray], dict[Key, str]]:
    """Waits for the photos of a batch: their pixels, and the reasons of those that could not be read."""
    pixels: dict[Key, np.ndarray] = {}
    left_out: dict[Key, str] = {}
    for key, future in batch.items():
        try:
            photo = future.result()
        except PhotoError as error:
            left_out[key] = error.reason
            continue
        if photo.shape[:2] == shape:
            pixels[key] = photo
        else:
            left_out[key] = "it has changed since its size was read"
    return pixels, left_out

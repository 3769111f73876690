"""Computes descriptors of photos: compiles a network into a function, and runs the function on batches of photos."""

import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from keras_retrieval.errors import ArgumentError, RetrievalError

from ..files.machine import cores
from ..networks.errors import NetworkError
from ..networks.files import model_identity, smallest_side
from ..networks.onnx_network import OnnxNetwork, require_sides
from ..photos.reader import Crop, PhotoError
from ..photos.reading import Shape
from ..runtimes.conversion import convert
from ..runtimes.options import JAX, ONNXRUNTIME, TENSORFLOW, named_runtime, require_runtime
from ..runtimes.sessions import open_network
from ..runtimes.switching import Convertible, SwitchingDescriber
from .padded_batches import (
    AUTO,
    BATCH_SHAPES,
    BUCKETS,
    EXACT,
    BucketDescriber,
    add_to_buckets,
    bucket_of,
    describe_batch,
    most_photos,
)

BATCH_PIXELS = 2**21  # pixels per batch of the network, 8 photos of 512 x 512; larger batches are not faster
NO_DESCRIPTOR = "the network's descriptor of it is zero or not finite"  # the reason for leaving out a photo
WINDOW_BATCHES = 4  # batches that the crops of the photos make that are read at a time
READ_AHEAD = 3  # number of batches in memory, of which one is in the network and the others are read

DescribeFn = Callable[[np.ndarray], np.ndarray]
"""A function that maps a batch of photos, (B, H, W, 3) uint8, to their descriptors, (B, D) float32."""

Key = TypeVar("Key", bound=Hashable)

log = logging.getLogger("keras_retrieval")


class NoDescriptorsError(RetrievalError, ValueError):
    """The descriptors that a network computes are all zero or not finite, for every photo of a folder.

    Args:
        photos: the number of photos for which the network computed a descriptor.
    """

    def __init__(self, photos: int) -> None:
        super().__init__(
            f"the network's descriptors of all {photos:,} readable photos are zero or not finite: it has diverged in "
            "training (lower --lr), or its file is damaged"
        )


@dataclass(frozen=True)
class DescribedBatch(Generic[Key]):
    """The descriptors of one batch of photos.

    A key is the value by which the caller of `describe_photos` identifies a photo, such as its name.

    Attributes:
        keys: the keys of the n photos that have a descriptor, in the order of `rows`.
        rows: the descriptors, (n, D) float32; (0, 0) if no photo of the batch could be read.
        left_out: maps the key of each photo without a descriptor to the reason.
        seconds: the time spent in the network, in seconds.
        boxes: with crops, the box of each row, (n, 4) float32: left, top, right and bottom in pixels of the upright
            photo. A key is then repeated for each row of its photo, of which the first is that of the whole photo. None
            without crops.
    """

    keys: list[Key]
    rows: np.ndarray
    left_out: dict[Key, str]
    seconds: float
    boxes: np.ndarray | None = None

    @property
    def photos(self) -> int:
        """The number of photos of the batch, with a descriptor or without."""
        return len(self.left_out) + (len(self.keys) if self.boxes is None else len(dict.fromkeys(self.keys)))


@dataclass(frozen=True)
class Runtime:
    """What computes descriptors.

    Attributes:
        name: the value of the option `--runtime`.
        model: path of the network's file, or its name. A converted network is kept beside the file.
    """

    name: str
    model: str | Path


def describer(
    model: Any,
    scales: tuple[float, ...] = (1.0,),
    bfloat16: bool = False,
    antialias: bool = True,
    mirror: bool = False,
    runtime: Runtime | None = None,
    batch_shapes: str = AUTO,
) -> DescribeFn:
    """Compiles a network into a function that computes the descriptors of a batch of photos.

    TensorFlow traces the function only once, so that batches and photos may have any size. JAX compiles it for each
    shape of a batch.

    Args:
        model: a keras.Model from `keras_retrieval.build`, or an OnnxNetwork (a loaded .onnx file), whose scales and
            precision were fixed when the file was exported.
        scales: the factors by which each photo is resized. The descriptors at all scales are combined into one, see
            `keras_retrieval.multi_scale`.
        bfloat16: whether the network's trunk runs in bfloat16. This changes `model` permanently.
        antialias: whether photos are antialiased when they are resized by a factor below 1, see
            `keras_retrieval.layers.Rescaling`.
        mirror: whether the descriptors of the photo mirrored left to right are combined with those of the photo.
        runtime: what computes the descriptors; None for Keras' backend, or ONNX Runtime for an .onnx file.
        batch_shapes: the value of the option `--batch-shapes`.

    Returns:
        A function that maps photos, (B, H, W, 3) uint8, to descriptors, (B, D) float32. If `runtime` leaves a choice,
        it is a `SwitchingDescriber`, which takes another runtime only if `expect` says which photos will be described.
        If photos are padded to buckets, it is a `BucketDescriber`, which TensorFlow or JAX computes.
        The function raises NetworkError for photos that are too small for the network, because some kernels of
        TensorFlow process empty feature maps without an error and would return NaN or zero.

    Raises:
        ArgumentError: `model` is an OnnxNetwork, and `scales`, `bfloat16` or `mirror` differ from their defaults.
        NetworkError: Keras runs on neither TensorFlow nor JAX, or the network accepts photos of one size only.
        ValueError: `bfloat16` is set for a network without a trunk.
    """
    if isinstance(model, OnnxNetwork):
        model.check(scales, bfloat16, mirror)
        return _of_onnx_file(model, runtime)
    import keras

    import keras_retrieval
    from keras_retrieval.networks.multi_scale import PaddedScales
    from keras_retrieval.networks.precision import set_trunk_precision

    if batch_shapes not in BATCH_SHAPES:
        raise ArgumentError(f"batch_shapes must be one of {', '.join(BATCH_SHAPES)}, got {batch_shapes}")
    backend = keras.backend.backend()
    if backend not in (TENSORFLOW, JAX):
        raise NetworkError(f"descriptors of photos need Keras on TensorFlow or JAX: KERAS_BACKEND is {backend}")
    if backend == JAX and runtime is not None and runtime.name != AUTO:
        raise NetworkError(f"--runtime {runtime.name} needs Keras on TensorFlow: KERAS_BACKEND is jax")
    smallest = smallest_side(model, scales)
    if bfloat16:
        set_trunk_precision(model, "mixed_bfloat16")
    network = keras_retrieval.multi_scale(model, scales, antialias=antialias, mirror=mirror)
    compiled = _compiled(network)

    def checked(images: np.ndarray) -> np.ndarray:
        require_sides(images, smallest, model.name)
        return compiled(images)

    if _pads(model, batch_shapes, backend):
        padded = _compiled_padded(PaddedScales(model, scales, antialias=antialias, mirror=mirror))
        return BucketDescriber(padded, checked, smallest, model.name, backend == JAX, backend)
    if backend == JAX:
        return checked
    if runtime is None:
        return checked
    form = {"scales": list(scales), "antialias": antialias, "mirror": mirror}
    convertible = _convertible(model, network, runtime.model, form, smallest, bfloat16)
    return SwitchingDescriber(checked, convertible, runtime.name)


def _pads(model: Any, batch_shapes: str, backend: str) -> bool:
    """Whether photos are padded to buckets; logs why not if they were to be."""
    from keras_retrieval.networks.padded import misfit

    if batch_shapes == EXACT or (batch_shapes == AUTO and backend != JAX):
        return False
    if reason := misfit(model):
        costs = ", and JAX compiles the network for each size" if backend == JAX else ""
        log.warning(f"batches of equal sizes, not buckets{costs}: {model.name}: {reason}")
    elif batch_shapes == BUCKETS:
        log.info("batches: photos are padded to buckets")
    return not reason


def _compiled(network: Any) -> DescribeFn:
    import keras

    if keras.backend.backend() == JAX:
        return _jitted(network)
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)], autograph=False)
    def describe(images: Any) -> Any:
        return network(images, training=False)

    return lambda images: describe(images).numpy()


def _compiled_padded(network: Any) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    import keras

    if keras.backend.backend() == JAX:
        describe = _jitted(network)
        return lambda photos, sizes: describe({"photos": photos, "sizes": sizes})
    import tensorflow as tf

    signature = [tf.TensorSpec((None, None, None, 3), tf.uint8), tf.TensorSpec((None, 2), tf.int32)]

    @tf.function(input_signature=signature, autograph=False)
    def describe_padded(photos: Any, sizes: Any) -> Any:
        return network({"photos": photos, "sizes": sizes}, training=False)

    return lambda photos, sizes: describe_padded(photos, sizes).numpy()


def _jitted(network: Any) -> Callable[[Any], np.ndarray]:
    """A function on JAX, which compiles the network for each shape and takes the weights that it has when called."""
    import jax

    @jax.jit
    def describe(trainable: Any, others: Any, inputs: Any) -> Any:
        return network.stateless_call(trainable, others, inputs, training=False)[0]

    def called(inputs: Any) -> np.ndarray:
        weights = (
            [on_one_device(one.value) for one in part]
            for part in (network.trainable_variables, network.non_trainable_variables)
        )
        return np.asarray(describe(*weights, inputs))

    return called


def on_one_device(value: Any) -> Any:
    """Returns an array of JAX on one device only, if copies of it are on several, which would all compute with it."""
    return value.addressable_data(0) if len(value.devices()) > 1 else value


def _convertible(
    model: Any, network: Any, place: str | Path, form: dict[str, Any], smallest: int, bfloat16: bool
) -> Convertible:
    """What a runtime needs to convert a network, which is converted in float32 whatever its trunk computes in."""

    @contextmanager
    def exactly() -> Iterator[None]:
        from keras_retrieval.networks.precision import set_trunk_precision

        if bfloat16:
            set_trunk_precision(model, "float32")
        try:
            yield
        finally:
            if bfloat16:
                set_trunk_precision(model, "mixed_bfloat16")

    def convert_to(path: Path) -> None:
        with exactly():
            convert(network, (None, None), path)

    def exact() -> DescribeFn:
        describe = _compiled(network)
        with exactly():
            describe(np.zeros((1, smallest, smallest, 3), np.uint8))  # traced once, for all sizes
        return describe

    def sha256() -> str:
        return model_identity(place).get("sha256") or _hash_of(model)

    size = 4 * model.count_params()
    return Convertible(place, model.name, form, smallest, bfloat16, size, sha256, convert_to, exact)


def _hash_of(model: Any) -> str:
    """SHA-256 of a network that has no file."""
    digest = hashlib.sha256(model.to_json().encode())
    for variable in model.variables:
        digest.update(np.ascontiguousarray(variable.numpy()).data)
    return digest.hexdigest()


def _of_onnx_file(network: OnnxNetwork, runtime: Runtime | None) -> DescribeFn:
    """The function of an .onnx file, which ONNX Runtime runs unless another is named."""
    if runtime is not None:
        require_runtime(runtime.name, network.path)
    name = "auto" if runtime is None else named_runtime(runtime.name)
    if name in ("auto", ONNXRUNTIME):
        return network.describe
    describe = open_network(name, network.path)
    log.info("runtime: %s (as asked for)", name)

    def checked(images: np.ndarray) -> np.ndarray:
        require_sides(images, network.smallest, network.name)
        return describe(images)

    return checked


def describe_photos(
    describe: DescribeFn,
    photos: Sequence[tuple[Shape, Key]],
    read: Callable[[Key], np.ndarray],
    readers: int | None = None,
) -> Iterator[DescribedBatch[Key]]:
    """Computes the descriptors of photos in batches, while threads read the photos of the next batches.

    Args:
        describe: a function from `describer`.
        photos: for each photo its (height, width) in pixels and its key, any hashable value that identifies the photo,
            such as its name. Consecutive photos of equal size are batched, so sort the photos by size.
        read: a function that maps a key to the pixels of the photo, (height, width, 3) uint8, with the given size. A
            photo for which it raises PhotoError, or whose size differs, is left out.
        readers: how many photos are read at a time, such as `Reading.readers`; None for one for each core.

    Yields:
        For each batch a `DescribedBatch`, in the order of the photos.
    """
    add_to_buckets(describe, (shape for shape, _ in photos))
    upcoming = _batches(describe, photos)
    reading: deque[dict[Key, tuple[Shape, Future[np.ndarray]]]] = deque()
    with ThreadPoolExecutor(readers or cores()) as pool:
        while True:
            for batch in islice(upcoming, READ_AHEAD - len(reading)):
                reading.append({key: (shape, pool.submit(read, key)) for shape, key in batch})
            if not reading:
                return
            yield _described(describe, reading.popleft())


def describe_crops(
    describe: DescribeFn,
    photos: Sequence[tuple[Shape, Key]],
    read: Callable[[Key], list[tuple[Crop, np.ndarray]]],
    crops: int,
    readers: int | None = None,
) -> Iterator[DescribedBatch[Key]]:
    """Computes the descriptors of crops of photos. Each photo is decoded once, and crops of one size are batched.

    Args:
        describe: a function from `describer`.
        photos: as for `describe_photos`. The sizes need not be those of the crops; they say how many photos are read at
            a time, and photos of similar sizes have crops of equal sizes.
        read: a function that maps a key to the boxes of the crops of a photo, the whole photo first, and to the pixels
            of each, (height, width, 3) uint8. A photo for which it raises PhotoError is left out.
        crops: the number of crops of a photo.
        readers: as for `describe_photos`.

    Yields:
        For some photos at a time a `DescribedBatch` with `boxes`, in the order of the photos. A crop without a usable
        descriptor has no row; if it is the whole photo, the photo is left out.
    """
    upcoming = _windows(photos, crops)
    reading: deque[dict[Key, Future[list[tuple[Crop, np.ndarray]]]]] = deque()
    with ThreadPoolExecutor(readers or cores()) as pool:
        while True:
            for keys in islice(upcoming, READ_AHEAD - 1 - len(reading)):
                reading.append({key: pool.submit(read, key) for key in keys})
            if not reading:
                return
            yield _described_crops(describe, reading.popleft())


def _windows(photos: Sequence[tuple[Shape, Key]], crops: int) -> Iterator[list[Key]]:
    """Yields the photos that are read at a time: their crops make some full batches of the network."""
    start = 0
    while start < len(photos):
        height, width = photos[start][0]
        count = max(1, WINDOW_BATCHES * BATCH_PIXELS // (crops * height * width))
        yield [key for _, key in photos[start : start + count]]
        start += count


def _described_crops(
    describe: DescribeFn, window: dict[Key, Future[list[tuple[Crop, np.ndarray]]]]
) -> DescribedBatch[Key]:
    left_out: dict[Key, str] = {}
    crops: list[tuple[Key, Crop, np.ndarray]] = []
    for key, future in window.items():
        try:
            crops += [(key, box, pixels) for box, pixels in future.result()]
        except PhotoError as error:
            left_out[key] = error.reason
    by_shape: dict[Shape, list[int]] = {}
    add_to_buckets(describe, (pixels.shape[:2] for _, _, pixels in crops))
    for number, (_, _, pixels) in enumerate(crops):
        by_shape.setdefault(bucket_of(describe, pixels.shape[:2]), []).append(number)
    found: dict[int, np.ndarray] = {}
    started = time.monotonic()
    for (height, width), numbers in by_shape.items():
        most = most_photos(describe, max(1, BATCH_PIXELS // (height * width)))
        for start in range(0, len(numbers), most):
            batch = numbers[start : start + most]
            found |= zip(batch, describe_batch(describe, [crops[number][2] for number in batch]), strict=True)
    seconds = time.monotonic() - started
    keys: list[Key] = []
    rows, boxes, first = [], [], None
    for number, (key, box, _) in enumerate(crops):
        is_whole, first = key != first, key
        usable = bool(np.isfinite(found[number]).all() and found[number].any())
        if is_whole and not usable:
            left_out[key] = NO_DESCRIPTOR
        if usable and key not in left_out:
            keys.append(key)
            rows.append(found[number])
            boxes.append(box)
    stacked = np.stack(rows) if rows else np.zeros((0, 0), np.float32)
    return DescribedBatch(keys, stacked, left_out, seconds, np.array(boxes, np.float32).reshape(-1, 4))


def _batches(describe: DescribeFn, photos: Sequence[tuple[Shape, Key]]) -> Iterator[list[tuple[Shape, Key]]]:
    def sides(photo: tuple[Shape, Key]) -> Shape:
        return bucket_of(describe, photo[0])

    in_buckets = sorted(photos, key=sides) if isinstance(describe, BucketDescriber) else photos
    for (height, width), group in groupby(in_buckets, key=sides):
        most = most_photos(describe, max(1, BATCH_PIXELS // (height * width)))
        while batch := [*islice(group, most)]:
            yield batch


def _described(describe: DescribeFn, batch: dict[Key, tuple[Shape, Future[np.ndarray]]]) -> DescribedBatch[Key]:
    pixels, left_out = _pixels(batch)
    if not pixels:
        return DescribedBatch([], np.zeros((0, 0), "float32"), left_out, 0.0)
    started = time.monotonic()
    rows = describe_batch(describe, list(pixels.values()))
    seconds = time.monotonic() - started
    usable = np.isfinite(rows).all(axis=1) & (rows != 0).any(axis=1)
    left_out |= {
        key: NO_DESCRIPTOR for key, row_is_usable in zip(pixels, usable.tolist(), strict=True) if not row_is_usable
    }
    return DescribedBatch([key for key in pixels if key not in left_out], rows[usable], left_out, seconds)


def _pixels(batch: dict[Key, tuple[Shape, Future[np.ndarray]]]) -> tuple[dict[Key, np.ndarray], dict[Key, str]]:
    """Waits for the photos of a batch; returns a dict from keys to pixels, and one from unreadable keys to reasons."""
    pixels: dict[Key, np.ndarray] = {}
    left_out: dict[Key, str] = {}
    for key, (shape, future) in batch.items():
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

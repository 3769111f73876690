"""The graph that is served: the signatures of `signatures.py` over a network, and its weights once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_retrieval.pipelines.networks.files import smallest_side

from ..contract.signatures import (
    BOXES,
    DESCRIPTORS,
    EMBED_REGIONS,
    IMAGE_BYTES,
    IMAGES,
    IMAGES_UINT8,
    NO_DESCRIPTOR,
    OK,
    PIXELS,
    REGIONS,
    SEARCH,
    SERVING_DEFAULT,
    STATUS,
)
from ..index_contract.contract import NeighbourIndex
from ..photo_graph.reader import at_least, photo_pixels
from .region_graph import region_describer
from .search_graph import search_function, write_defaults

PHOTOS_AT_ONCE = 2
"""While the network describes a photo, the next one is read."""


@dataclass(frozen=True)
class Reader:
    """How the served network reads photos.

    Attributes:
        size: the longest side after resizing, in pixels.
        scales: joined in one descriptor.
        antialias: how scales below 1 are made, see `keras_retrieval.layers.Rescaling`.
        max_pixels: the most that a photo may declare.
        webp: read WebP, too.
        mirror: join mirrored photos in the descriptor, too.
    """

    size: int
    scales: tuple[float, ...]
    antialias: bool
    max_pixels: int
    webp: bool = True
    mirror: bool = False


def write_graph(model: Any, reader: Reader, folder: Path, index: NeighbourIndex | None = None) -> list[str]:
    """Writes a SavedModel that the C++ loader takes: no Keras, no operation of Python's, every weight once.

    Args:
        model: a keras.Model from `keras_retrieval.build`.
        reader: how photos are read.
        folder: to write.
        index: to search in, by the signature `search`; None for none.

    Returns:
        The names of its signatures.

    Raises:
        ValueError: Keras runs on another backend than TensorFlow, or the network takes no photos of any size.
    """
    import keras
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        raise ValueError(f"a SavedModel is written on TensorFlow: KERAS_BACKEND is {keras.backend.backend()}")
    served = tf.Module()
    # The Session loader does not find Keras' own variables; to track both would write them twice.
    served.weights = [variable.value for variable in model.variables]
    signatures = _descriptor_signatures(model, reader) | _region_signatures(model, reader)
    if index is not None:
        signatures[SEARCH] = search_function(_both(signatures[SERVING_DEFAULT]), index, served)
    tf.saved_model.save(served, str(folder), signatures=signatures)
    if index is not None:
        write_defaults(folder)
    return sorted(signatures)


def _both(describe: Callable[[Any], dict[str, Any]]) -> Callable[[Any], tuple[Any, Any]]:
    def described(image_bytes: Any) -> tuple[Any, Any]:
        found = describe(image_bytes)
        return found[DESCRIPTORS], found[STATUS]

    return described


def _descriptor_signatures(model: Any, reader: Reader) -> dict[str, Any]:
    import tensorflow as tf

    import keras_retrieval

    network = keras_retrieval.multi_scale(model, reader.scales, antialias=reader.antialias, mirror=reader.mirror)
    smallest = smallest_side(model, reader.scales)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)], autograph=False)
    def describe(pixels: Any) -> Any:
        return network(at_least(pixels, smallest), training=False)

    def of_bytes(image_bytes: Any) -> dict[str, Any]:
        rows, status = _each_photo(image_bytes, reader, [network.output_shape[1:]], lambda pixels: [describe(pixels)])
        return {DESCRIPTORS: rows, STATUS: status}

    def of_pixels(images: Any) -> dict[str, Any]:
        return {DESCRIPTORS: describe(tf.cast(images, tf.float32))}

    return {
        SERVING_DEFAULT: _signature(of_bytes, tf.TensorSpec((None,), tf.string, IMAGE_BYTES)),
        IMAGES: _signature(of_pixels, tf.TensorSpec((None, None, None, 3), tf.float32, PIXELS)),
        IMAGES_UINT8: _signature(of_pixels, tf.TensorSpec((None, None, None, 3), tf.uint8, PIXELS)),
    }


def _region_signatures(model: Any, reader: Reader) -> dict[str, Any]:
    """EMBED_REGIONS for a network that pools regions."""
    import tensorflow as tf

    regions = region_describer(model)
    if regions is None:
        return {}
    smallest = smallest_side(model)

    def of_bytes(image_bytes: Any) -> dict[str, Any]:
        def describe(pixels: Any) -> list[Any]:
            return [tensor[None] for tensor in regions.describe(at_least(pixels, smallest))]

        vectors, boxes, status = _each_photo(image_bytes, reader, regions.shapes, describe)
        return {REGIONS: vectors, BOXES: boxes, STATUS: status}

    return {EMBED_REGIONS: _signature(of_bytes, tf.TensorSpec((None,), tf.string, IMAGE_BYTES))}


def _each_photo(
    image_bytes: Any, reader: Reader, shapes: Sequence[tuple[int, ...]], describe: Callable[[Any], list[Any]]
) -> tuple[Any, ...]:
    """Reads and describes photos one by one, since each has a size of its own.

    Args:
        image_bytes: (B,) string.
        reader: how they are read.
        shapes: of what `describe` returns, the batch apart.
        describe: pixels (1, H, W, 3) float32 -> tensors (1, ...) float32.

    Returns:
        Those tensors for all photos, (B, ...), zero where there is none, and the status (B,) int32.
    """
    import tensorflow as tf

    def one(data: Any) -> tuple[Any, ...]:
        pixels, status = photo_pixels(data, reader.size, reader.max_pixels, reader.webp)
        found = tf.cond(
            tf.equal(status, OK),
            lambda: [tensor[0] for tensor in describe(tf.cast(pixels, tf.float32)[None])],
            lambda: [tf.zeros(shape) for shape in shapes],
        )
        sound = tf.reduce_all(tf.math.is_finite(found[0])) & tf.reduce_any(tf.not_equal(found[0], 0))
        status = tf.where(tf.equal(status, OK) & ~sound, NO_DESCRIPTOR, status)
        return *(tf.where(sound, tensor, 0.0) for tensor in found), status

    specs = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    return tf.map_fn(
        one,
        image_bytes,
        fn_output_signature=(*specs, tf.TensorSpec((), tf.int32)),
        parallel_iterations=PHOTOS_AT_ONCE,
    )


def _signature(function: Callable[[Any], Any], spec: Any) -> Any:
    import tensorflow as tf

    return tf.function(function, input_signature=[spec], autograph=False)

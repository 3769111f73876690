"""Writes the SavedModel of a version, with the signatures of export/contract/signatures.py."""

from collections.abc import Callable, Sequence
from functools import lru_cache
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
from .errors import SavedModelError
from .options import GraphOptions
from .region_graph import region_describer
from .search_graph import search_function, write_defaults

PHOTOS_AT_ONCE = 2
"""Number of photos processed concurrently, so that one photo is decoded while the network describes another."""


def write_graph(model: Any, options: GraphOptions, folder: Path, index: NeighbourIndex | None = None) -> list[str]:
    """Writes a network as a SavedModel without Keras or Python operations, which TensorFlow's C++ loader can load.

    Args:
        model: keras.Model from `keras_retrieval.build`.
        options: settings with which the graph reads and describes photos.
        folder: folder to write to.
        index: index for the signature `search`; None to omit this signature.

    Returns:
        The names of the signatures, sorted.

    Raises:
        SavedModelError: Keras runs on a backend other than TensorFlow, or the index is empty or stores reduced
            descriptors.
        MissingExtraError: an index is given, and ScaNN is not installed.
        ValueError: the network does not accept photos of any size.
    """
    import keras
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        raise SavedModelError(f"export-saved-model needs KERAS_BACKEND=tensorflow, got {keras.backend.backend()}")
    module = tf.Module()
    # The loader finds TensorFlow's variables, but not Keras' wrappers; tracking both would store each weight twice.
    module.weights = [variable.value for variable in model.variables]
    signatures = _descriptor_signatures(model, options) | _region_signatures(model, options)
    if index is not None:
        signatures[SEARCH] = search_function(_as_pair(signatures[SERVING_DEFAULT]), index, module)
    tf.saved_model.save(module, str(folder), signatures=signatures)
    if index is not None:
        write_defaults(folder)
    return sorted(signatures)


def _as_pair(describe: Callable[[Any], dict[str, Any]]) -> Callable[[Any], tuple[Any, Any]]:
    def pair(image_bytes: Any) -> tuple[Any, Any]:
        found = describe(image_bytes)
        return found[DESCRIPTORS], found[STATUS]

    return pair


def _descriptor_signatures(model: Any, options: GraphOptions) -> dict[str, Any]:
    import tensorflow as tf

    import keras_retrieval

    network = keras_retrieval.multi_scale(model, options.factors, antialias=options.antialias, mirror=options.mirror)
    smallest = smallest_side(model, options.factors)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)], autograph=False)
    def describe(pixels: Any) -> Any:
        return network(at_least(pixels, smallest), training=False)

    def of_bytes(image_bytes: Any) -> dict[str, Any]:
        rows, status = _each_photo(image_bytes, options, [network.output_shape[1:]], lambda pixels: [describe(pixels)])
        return {DESCRIPTORS: rows, STATUS: status}

    def of_pixels(images: Any) -> dict[str, Any]:
        rows = tf.cond(
            tf.equal(tf.size(images), 0),  # a batch without photos, or photos without pixels
            lambda: tf.zeros((tf.shape(images)[0], network.output_shape[1])),
            lambda: describe(tf.cast(images, tf.float32)),
        )
        sound = tf.reduce_all(tf.math.is_finite(rows), 1) & tf.reduce_any(tf.not_equal(rows, 0), 1)
        return {DESCRIPTORS: tf.where(sound[:, None], rows, 0.0), STATUS: tf.where(sound, OK, NO_DESCRIPTOR)}

    return {
        SERVING_DEFAULT: _signature(of_bytes, tf.TensorSpec((None,), tf.string, IMAGE_BYTES)),
        IMAGES: _signature(of_pixels, tf.TensorSpec((None, None, None, 3), tf.float32, PIXELS)),
        IMAGES_UINT8: _signature(of_pixels, tf.TensorSpec((None, None, None, 3), tf.uint8, PIXELS)),
    }


def _region_signatures(model: Any, options: GraphOptions) -> dict[str, Any]:
    """Makes the signature `embed_regions` if the network pools regions; otherwise returns an empty dict."""
    import tensorflow as tf

    regions = region_describer(model)
    if regions is None:
        return {}
    smallest = smallest_side(model)

    def of_bytes(image_bytes: Any) -> dict[str, Any]:
        def describe(pixels: Any) -> list[Any]:
            return [tensor[None] for tensor in regions.describe(at_least(pixels, smallest))]

        vectors, boxes, status = _each_photo(image_bytes, options, regions.shapes, describe)
        return {REGIONS: vectors, BOXES: boxes, STATUS: status}

    return {EMBED_REGIONS: _signature(of_bytes, tf.TensorSpec((None,), tf.string, IMAGE_BYTES))}


@lru_cache(maxsize=4)
def _photo_reader(size: int, max_pixels: int, webp: bool) -> Any:
    """Makes `photo_pixels` a function of the graph; tracing it once serves all signatures, and takes seconds."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
    def read(data: Any) -> Any:
        return photo_pixels(data, size, max_pixels, webp)

    return read


def _each_photo(
    image_bytes: Any, options: GraphOptions, shapes: Sequence[tuple[int, ...]], describe: Callable[[Any], list[Any]]
) -> tuple[Any, ...]:
    """Reads and describes photos one by one, because their sizes differ.

    Args:
        image_bytes: bytes of the photo files, (B,) string.
        options: settings with which the photos are read.
        shapes: shapes of the tensors that `describe` returns, without the batch dimension.
        describe: function from pixels (1, H, W, 3) float32 to tensors (1, ...) float32.

    Returns:
        The tensors of all photos, each (B, ...), zero for photos without a descriptor, and the status (B,) int32.
    """
    import tensorflow as tf

    read = _photo_reader(options.size, options.max_pixels, options.webp)

    def one(data: Any) -> tuple[Any, ...]:
        pixels, status = read(data)
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

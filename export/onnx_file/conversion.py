"""From Keras to an ONNX file: conversion and metadata."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..photo_graph.reader import at_least

INPUT, OUTPUT = "images", "descriptors"
OPSET = 17
EXTRA = 'pip install "keras-retrieval[onnx]"'


def require_extra() -> None:
    """Says at once, not after seconds of work, what is missing.

    Raises:
        ImportError: tf2onnx, onnx or onnxruntime is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise ImportError(f"{error.name} writes ONNX files and is not installed: {EXTRA}") from error


def convert(network: Any, sides: tuple[int | None, int | None], path: Path, smallest: int = 1) -> None:
    """Writes a Keras network as ONNX, batch open.

    Args:
        network: a keras.Model (B, H, W, 3) -> (B, D).
        sides: H and W, None where photos may have any.
        path: the .onnx file. What tf2onnx cannot convert it leaves in, so that ONNX Runtime refuses the file.
        smallest: pixels on a side that the network needs. The graph repeats the edges of smaller photos up to it: of
            an empty feature map ONNX Runtime makes a descriptor of arbitrary numbers, or ends the process.
    """
    import onnx
    import tensorflow as tf
    import tf2onnx

    tf2onnx.logging.set_level(logging.CRITICAL)
    signature = [tf.TensorSpec((None, *sides, 3), tf.float32, name=INPUT)]

    @tf.function(input_signature=signature, autograph=False)
    def describe(images: Any) -> Any:
        # Keras compiles grouped convolutions into functions of their own, which the converter would not look into.
        tf.config.run_functions_eagerly(True)
        try:
            if smallest > 1 and None in sides:
                too_small = tf.reduce_min(tf.shape(images)[1:3]) < smallest
                photos = tf.cond(too_small, lambda: at_least(images, smallest), lambda: images)
                photos = tf.ensure_shape(photos, images.shape)
            else:
                photos = images
            return {OUTPUT: network(photos, training=False)}
        finally:
            tf.config.run_functions_eagerly(False)

    captures = {inner.name: outer for outer, inner in describe.get_concrete_function().graph.captures}
    handlers: dict[str, Any] = {"Erfc": (_erfc, [])}
    model, _ = tf2onnx.convert.from_function(describe, signature, opset=OPSET, custom_op_handlers=handlers)
    _fill_in(model.graph, captures)
    _name_open_sides(model.graph.input[0], "batch", "height", "width")
    _name_open_sides(model.graph.output[0], "batch")
    onnx.save(model, path)


def _fill_in(graph: Any, captures: Mapping[str, Any]) -> None:
    """Turns inputs that are no photos into constants: a layer's own tensors, such as the mean of a Normalization."""
    import onnx

    used = {name for node in graph.node for name in node.input}
    for value in [value for value in graph.input if value.name != INPUT]:
        graph.input.remove(value)
        if value.name in used:
            graph.initializer.append(onnx.numpy_helper.from_array(captures[value.name].numpy(), value.name))


def _name_open_sides(value: Any, *names: str) -> None:
    for side, name in zip(value.type.tensor_type.shape.dim, names, strict=False):
        if not side.dim_value:
            side.dim_param = name


def _erfc(graph: Any, node: Any, name: str, args: list[Any]) -> None:
    """Writes GELU's erfc(x), which ONNX has not, as 1 - erf(x). Called by tf2onnx for such a node."""
    from tf2onnx import utils

    dtype, shape = graph.get_dtype(node.output[0]), graph.get_shape(node.output[0])
    one = graph.make_const(utils.make_name(name), np.ones((), utils.map_onnx_to_numpy_type(dtype)))
    erf = graph.make_node("Erf", node.input, dtypes=[dtype], shapes=[shape])
    graph.remove_node(name)
    graph.make_node("Sub", [one.output[0], erf.output[0]], outputs=node.output, dtypes=[dtype], shapes=[shape])


def stamp(path: Path, version: str, facts: Mapping[str, str]) -> None:
    """Puts metadata into an ONNX file.

    Args:
        path: the file; it is rewritten.
        version: of keras-retrieval.
        facts: what ONNX Runtime gives back as `custom_metadata_map`.
    """
    import onnx

    model = onnx.load(path)
    model.producer_name, model.producer_version = "keras-retrieval", version
    onnx.helper.set_model_props(model, dict(facts))
    onnx.checker.check_model(model)
    onnx.save(model, path)

"""Converts a Keras network to an ONNX file with tf2onnx, and writes metadata into the file."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.errors import missing_extra

INPUT, OUTPUT = "images", "descriptors"
OPSET = 17

Pad = Callable[[Any, int], Any]


def require_extra() -> None:
    """Checks that the packages for ONNX export are installed. Steps call this before slow work starts.

    Raises:
        MissingExtraError: tf2onnx, onnx or onnxruntime is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise missing_extra(error.name or "tf2onnx", "onnx", error) from error


def convert(
    network: Any, sides: tuple[int | None, int | None], path: Path, smallest: int = 1, pad: Pad | None = None
) -> None:
    """Writes a Keras network as an ONNX file that accepts batches of any size.

    Args:
        network: keras.Model that maps photos (B, H, W, 3) float32 to descriptors (B, D).
        sides: height and width of the photos in pixels; None for a variable side.
        path: the .onnx file to write. If the network has operations that tf2onnx cannot convert, the file is written
            nevertheless, and ONNX Runtime fails to load it.
        smallest: shortest side in pixels that the network can describe.
        pad: pads photos (B, H, W, 3) to a smallest side. If it is given, the ONNX graph pads photos that are smaller
            than `smallest`, because ONNX Runtime returns arbitrary numbers for an empty feature map, or ends the
            process.
    """
    import onnx
    import tensorflow as tf
    import tf2onnx

    tf2onnx.logging.set_level(logging.CRITICAL)
    signature = [tf.TensorSpec((None, *sides, 3), tf.float32, name=INPUT)]

    @tf.function(input_signature=signature, autograph=False)
    def describe(images: Any) -> Any:
        # Keras compiles grouped convolutions into separate functions, which tf2onnx cannot convert.
        tf.config.run_functions_eagerly(True)
        try:
            photos = images
            if pad is not None and smallest > 1 and None in sides:
                # Without a condition: of a branch whose result grows, OpenVINO's first results are zeros.
                photos = tf.ensure_shape(pad(images, smallest), images.shape)
            return {OUTPUT: network(photos, training=False)}
        finally:
            tf.config.run_functions_eagerly(False)

    captures = {inner.name: outer for outer, inner in describe.get_concrete_function().graph.captures}
    handlers: dict[str, Any] = {"Erfc": (_erfc, [])}
    model, _ = tf2onnx.convert.from_function(describe, signature, opset=OPSET, custom_op_handlers=handlers)
    _inline_captures(model.graph, captures)
    _name_open_sides(model.graph.input[0], "batch", "height", "width")
    _name_open_sides(model.graph.output[0], "batch")
    onnx.save(model, path)


def _inline_captures(graph: Any, captures: Mapping[str, Any]) -> None:
    """Replaces graph inputs that are tensors captured from layers, such as a Normalization's mean, by constants."""
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
    """Replaces erfc(x), which GELU uses and ONNX lacks; tf2onnx calls this for each such node.

    It is 1 - erf(x), and erfc(-x c) of GELU is 1 + erf(x c), which runtimes recognise as a part of GELU.
    """
    from tf2onnx import utils

    dtype, shape = graph.get_dtype(node.output[0]), graph.get_shape(node.output[0])
    kinds = {"dtypes": [dtype], "shapes": [shape]}
    one = graph.make_const(utils.make_name(name), np.ones((), utils.map_onnx_to_numpy_type(dtype)))
    inputs, sign, product = list(node.input), "Sub", node.inputs[0]
    if product.type == "Mul" and product.inputs[0].type == "Neg":
        positive = graph.make_node("Mul", [product.inputs[0].input[0], product.input[1]], **kinds)
        inputs, sign = [positive.output[0]], "Add"
    erf = graph.make_node("Erf", inputs, **kinds)
    graph.remove_node(name)
    graph.make_node(sign, [one.output[0], erf.output[0]], outputs=node.output, **kinds)


def stamp(path: Path, version: str, facts: Mapping[str, str]) -> None:
    """Writes metadata into an ONNX file.

    Args:
        path: the .onnx file, which is rewritten.
        version: version of keras-retrieval.
        facts: metadata as text by key, which ONNX Runtime returns as `custom_metadata_map`.
    """
    import onnx

    model = onnx.load(path)
    model.producer_name, model.producer_version = "keras-retrieval", version
    onnx.helper.set_model_props(model, dict(facts))
    onnx.checker.check_model(model)
    onnx.save(model, path)

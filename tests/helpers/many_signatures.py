"""A SavedModel with a signature for each case of TensorFlow Serving's requests and errors, and requests for it.

Signatures, of which those of tf.Examples read the features x, a float32 number with the default -1, and x2:

- serving_default: x -> y = x / 2 + 2; one for each data type, named as in TensorFlow: x -> y = x
- pair: a float32, b int32 -> sum, product; constant: no input; scalar, ragged: outputs without or with other batches
- classify_x_to_y, regress_x_to_y, regress_x2_to_y3: methods of tf.Examples; tf2_classify, tf2_regress: the same outputs
  with the method of Predict; classify_examples: each tf.Example in base64 as its class
- bad_*: signatures that Classify or Regress refuse
"""

from pathlib import Path
from typing import Any

DTYPES = (
    "float",
    "double",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
    "string",
    "half",
    "bfloat16",
    "complex64",
)
METHODS = {kind: f"tensorflow/serving/{kind}" for kind in ("predict", "classify", "regress")}


def save_many_signatures(folder: Path) -> Path:
    """Writes the model, without Keras and without variables, in less than a second."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        signatures = {**_of_tensors(v1), **_of_examples(v1)}
        builder = v1.saved_model.builder.SavedModelBuilder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map=signatures)
        builder.save()
    return folder


def _signature(v1: Any, inputs: dict[str, Any], outputs: dict[str, Any], method: str = METHODS["predict"]) -> Any:
    def infos(tensors: dict[str, Any]) -> dict[str, Any]:
        return {alias: v1.saved_model.utils.build_tensor_info(tensor) for alias, tensor in tensors.items()}

    return v1.saved_model.signature_def_utils.build_signature_def(infos(inputs), infos(outputs), method)


def _of_tensors(v1: Any) -> dict[str, Any]:
    signatures = {}
    for name in DTYPES:
        x = v1.placeholder(v1.as_dtype(name), None, name=f"{name}_x")
        signatures[name] = _signature(v1, {"x": x}, {"y": v1.identity(x)})
    x = v1.placeholder(v1.float32, None, name="x")
    signatures["serving_default"] = _signature(v1, {"x": x}, {"y": x / 2 + 2})
    text = v1.placeholder(v1.string, None, name="text")
    signatures["bytes"] = _signature(v1, {"x": text}, {"y_bytes": v1.identity(text)})
    a, b = v1.placeholder(v1.float32, None, name="a"), v1.placeholder(v1.int32, None, name="b")
    both = {"sum": a + v1.cast(b, v1.float32), "product": a * v1.cast(b, v1.float32)}
    signatures["pair"] = _signature(v1, {"a": a, "b": b}, both)
    signatures["constant"] = _signature(v1, {}, {"y": v1.constant([3.0])})
    signatures["scalar"] = _signature(v1, {"x": x}, {"y": v1.reduce_sum(x)})
    signatures["ragged"] = _signature(v1, {"x": x}, {"first": v1.identity(x), "second": x[1:]})
    signatures["other_method"] = _signature(v1, {"x": x}, {"y": x + 1}, "some/method")
    return signatures


def _of_examples(v1: Any) -> dict[str, Any]:
    examples, others = (v1.placeholder(v1.string, [None], name=name) for name in ("examples", "others"))
    feature = v1.io.FixedLenFeature([], v1.float32, -1.0)
    x, x2 = (v1.io.parse_example(tensor, {name: feature})[name] for tensor, name in ((examples, "x"), (others, "x2")))
    y, column = x / 2 + 2, (x / 2 + 2)[:, v1.newaxis]
    encoded = v1.io.encode_base64(examples)[:, v1.newaxis]
    given = {"inputs": examples}
    label = v1.as_string(v1.cast(column, v1.int32))
    classify, regress = METHODS["classify"], METHODS["regress"]
    return {
        "classify_x_to_y": _signature(v1, given, {"scores": column}, classify),
        "classify_labels": _signature(v1, given, {"classes": label}, classify),
        "classify_both": _signature(v1, given, {"classes": label, "scores": column}, classify),
        "classify_examples": _signature(v1, given, {"classes": encoded}, classify),
        "regress_x_to_y": _signature(v1, given, {"outputs": y}, regress),
        "regress_column": _signature(v1, given, {"outputs": column}, regress),
        "regress_x2_to_y3": _signature(v1, {"inputs": others}, {"outputs": x2 / 2 + 3}, regress),
        "tf2_classify": _signature(v1, given, {"scores": column}),
        "tf2_regress": _signature(v1, given, {"outputs": y}),
        "bad_input_name": _signature(v1, {"x": examples}, {"scores": column}, classify),
        "bad_two_inputs": _signature(v1, {"inputs": examples, "more": others}, {"scores": column}, classify),
        "bad_three_outputs": _signature(v1, given, {"scores": column, "classes": label, "y": y}, classify),
        "bad_output_name": _signature(v1, given, {"y": column}, classify),
        "bad_scores_rank": _signature(v1, given, {"scores": y}, classify),
        "bad_scores_type": _signature(v1, given, {"scores": label}, classify),
        "bad_classes_type": _signature(v1, given, {"classes": column}, classify),
        "bad_scores_count": _signature(v1, given, {"scores": v1.tile(column, [2, 1])}, classify),
        "bad_classes_count": _signature(v1, given, {"classes": v1.tile(label, [2, 1])}, classify),
        "bad_sizes": _signature(v1, given, {"classes": label, "scores": v1.tile(column, [1, 2])}, classify),
        "bad_values_rank": _signature(v1, given, {"outputs": v1.tile(column, [1, 2])}, regress),
        "bad_values_count": _signature(v1, given, {"outputs": v1.tile(y, [2])}, regress),
        "bad_values_type": _signature(v1, given, {"outputs": v1.cast(y, v1.float64)}, regress),
        "bad_value_name": _signature(v1, given, {"y": y}, regress),
        "bad_two_values": _signature(v1, given, {"outputs": y, "y": y}, regress),
        "bad_regress_input": _signature(v1, {"x": examples}, {"outputs": y}, regress),
    }

"""The signature `search` as clients see it: what a request may say, and how rows of neighbours become tensors."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..contract import signatures as names
from ..contract.signatures import DEFAULT_K, MAX_K, NO_SCORE, PREDICT
from ..index_contract.contract import Hits
from .errors import invalid

_INPUTS = {names.BOXES: "float", names.IMAGE_BYTES: "string", names.NEIGHBOURS: "int32"}
_SHAPES: dict[str, list[int | None] | None] = {
    names.BOXES: [None, 4],
    names.IMAGE_BYTES: [None],
    names.NEIGHBOURS: None,
}
_OUTPUTS = {names.NAMES: "string", names.SCORES: "float", names.STATUS: "int32"}


def search_signature() -> Any:
    """The SignatureDef. Its tensors are in no graph; who leaves an input out gets its default."""
    import tensorflow as tf
    from tensorflow.core.protobuf import meta_graph_pb2

    signature = meta_graph_pb2.SignatureDef(method_name=PREDICT)
    for alias, dtype in _INPUTS.items():
        signature.inputs[alias].CopyFrom(_tensor(alias, dtype, _SHAPES[alias]))
    for alias, dtype in _OUTPUTS.items():
        signature.outputs[alias].CopyFrom(_tensor(alias, dtype, [None] if alias == names.STATUS else [None, None]))
    signature.defaults[names.NEIGHBOURS].CopyFrom(tf.make_tensor_proto(DEFAULT_K))
    signature.defaults[names.BOXES].CopyFrom(tf.make_tensor_proto(np.zeros((0, 4), np.float32)))
    return signature


def _tensor(alias: str, dtype: str, shape: list[int | None] | None) -> Any:
    import tensorflow as tf
    from tensorflow.core.framework import types_pb2
    from tensorflow.core.protobuf import meta_graph_pb2

    info = meta_graph_pb2.TensorInfo(name=f"{names.SEARCH}/{alias}:0")
    info.dtype = types_pb2.DataType.Value(f"DT_{dtype.upper()}")
    info.tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
    return info


def checked(inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a request asks for.

    Returns:
        The photos' files (B,), and of each the k (B,) and the box (B, 4), zeros where it has none.

    Raises:
        ServingError: INVALID_ARGUMENT, an input of another type or shape, or a k that is out of bounds.
    """
    for position, (alias, dtype) in enumerate(sorted(_INPUTS.items())):
        given = _type_name(inputs[alias].dtype)
        if given != dtype:
            raise invalid(f"Expects arg[{position}] to be {dtype} but {given} is provided")
    files, k, boxes = inputs[names.IMAGE_BYTES], inputs[names.NEIGHBOURS], inputs[names.BOXES]
    if files.ndim != 1:
        raise invalid(f"{names.IMAGE_BYTES} is (B,), not {files.shape}")
    if k.shape not in ((), files.shape) or not ((k >= 1) & (k <= MAX_K)).all():
        raise invalid(f"{names.NEIGHBOURS} is a number for all photos, or one for each, from 1 to {MAX_K}")
    if boxes.shape not in ((0, 4), (len(files), 4)):
        raise invalid(f"{names.BOXES} is ({len(files)}, 4), not {boxes.shape}")
    return files, np.broadcast_to(k, files.shape), boxes if len(boxes) else np.zeros((len(files), 4), np.float32)


def answer(hits: Sequence[Hits | None], k: np.ndarray, status: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs.

    Args:
        hits: of each photo, best first; None where it has no descriptor.
        k: (B,), the most of each.
        status: (B,).

    Returns:
        names (B, K) and scores (B, K) of the longest row's K, and status. What fills a shorter row up is no neighbour.
    """
    lengths = [0 if one is None else min(len(one.names), most) for one, most in zip(hits, k.tolist(), strict=True)]
    shape = len(hits), max(lengths, default=0)
    told, scores = np.full(shape, b"", object), np.full(shape, NO_SCORE, np.float32)
    for row, (one, length) in enumerate(zip(hits, lengths, strict=True)):
        if one is not None:
            told[row, :length] = [name.encode("utf-8", "surrogatepass") for name in one.names[:length]]
            scores[row, :length] = one.scores[:length]
    return {names.NAMES: told, names.SCORES: scores, names.STATUS: status}


def _type_name(dtype: np.dtype) -> str:
    """TensorFlow Serving's name of a type."""
    import tensorflow as tf
    from tensorflow.core.framework import types_pb2

    kind = tf.string if dtype.kind == "O" else tf.as_dtype(dtype)
    return types_pb2.DataType.Name(kind.as_datatype_enum)[len("DT_") :].lower()

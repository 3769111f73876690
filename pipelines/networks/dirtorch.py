"""Rebuilds networks of dirtorch, the published PyTorch code of AP-GeM (Revaud et al. ICCV 2019), with their PCA."""

from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.inert_files.inert_pickle import Opaque
from keras_retrieval.inert_files.weights_file import StoredWeights

from .cirtorch import Tensors, pixel_layer
from .errors import ConversionError

_POWER = 0.25  # of the explained variance, by which the published code divides


def to_keras(checkpoint: Any, trunk_name: str, path: Path) -> Any:
    """Builds the network that is stored in a checkpoint of dirtorch.

    Args:
        checkpoint: what `read_torch` returned: a dict with "state_dict" and perhaps "model_options" and "preprocess";
            or the state dict itself.
        trunk_name: the name of its trunk in `keras_retrieval.build`.
        path: the file, for messages.

    Returns:
        A keras.Model with GeM, and the Dense layer "fc" if the file has one.

    Raises:
        ConversionError: its pooling is not GeM; or a tensor is missing, has a wrong shape, is not finite or belongs to
            no layer.
    """
    import keras

    from keras_retrieval import layers
    from keras_retrieval.networks.build import trunk_for
    from keras_retrieval.networks.errors import WeightsError
    from keras_retrieval.networks.weights import fill_trunk

    options = _part(checkpoint, "model_options")
    kind = options.get("pooling", "gem")
    if kind != "gem":
        raise ConversionError(f"its pooling {str(kind)[:60]!r} is not gem")
    state = _part(checkpoint, "state_dict") or checkpoint
    state = {name.removeprefix("module."): array for name, array in state.items()}
    trunk = trunk_for(trunk_name, "gem")
    try:
        fill_trunk(trunk, StoredWeights(dict(state), [], True), path)
    except WeightsError as error:
        raise ConversionError(str(error).removeprefix(f"{path} ")) from error
    channels = trunk.output_shape[-1]
    head = Tensors({name: array for name, array in state.items() if name.startswith(("adpool.", "fc."))})
    pooling = layers.GeM(name="pooling", dtype="float32")
    pixels = _part(checkpoint, "preprocess")
    front = pixel_layer(pixels) if pixels else layers.PixelNormalization.of("torch", name="normalization")

    images = keras.Input((None, None, 3), name="images")
    x = pooling(trunk(front(images)))
    p = head.take("adpool.p", (1,))
    if not p[0] > 0:
        raise ConversionError(f"its GeM exponent must be above 0, got {p[0]:g}")
    pooling.set_p(p)
    if options.get("norm_features"):
        x = layers.L2Normalization(name="l2_features", dtype="float32")(x)
    if "fc.weight" in head.left and not options.get("without_fc"):
        outputs = len(head.left["fc.weight"])
        layer = keras.layers.Dense(outputs, name="fc", dtype="float32")
        x = layer(x)
        layer.set_weights([head.take("fc.weight", (outputs, channels)).T, head.take("fc.bias", (outputs,))])
        head.finish()
    x = layers.L2Normalization(name="l2", dtype="float32")(x)
    return keras.Model(images, x, name=f"{trunk_name}_gem")


def whitening_in(checkpoint: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Finds a PCA in a checkpoint of dirtorch.

    Args:
        checkpoint: the dict that `read_torch` returned, with objects, whose "pca" maps names to PCAs of scikit-learn.
        name: the name of the PCA, such as "Landmarks_clean".

    Returns:
        The shift m (D,) and the projection P (d, D), in float64. If the PCA says `whiten`, the rows of P are divided by
        the fourth root of the explained variance, as in the published code.

    Raises:
        ConversionError: there is no such PCA (the message lists those that the file has), or its arrays are missing,
            do not fit each other, or are not finite.
    """
    found = _part(checkpoint, "pca")
    if name not in found:
        known = ", ".join(map(repr, found)) or "none"
        raise ConversionError(f"it has no PCA {name!r}: it has {known}")
    saved = found[name]
    facts = saved.state if isinstance(saved, Opaque) else saved
    arrays = []
    for key, dimensions in (("mean_", 1), ("components_", 2), ("explained_variance_", 1)):
        array = facts.get(key) if isinstance(facts, dict) else None
        if not isinstance(array, np.ndarray) or array.ndim != dimensions or not np.isfinite(array).all():
            raise ConversionError(f"its PCA {name!r} has no finite array {key} of {dimensions} dimensions")
        arrays.append(array.astype("float64"))
    mean, components, variance = arrays
    if components.shape != (len(variance), len(mean)) or (variance <= 0).any():
        raise ConversionError(f"the arrays of its PCA {name!r} do not fit each other, or a variance is not above 0")
    return mean, components / variance[:, None] ** _POWER if facts.get("whiten", True) else components


def _part(checkpoint: Any, key: str) -> dict[str, Any]:
    part = checkpoint.get(key) if isinstance(checkpoint, dict) else None
    return part if isinstance(part, dict) else {}

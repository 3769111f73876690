"""Rebuilds networks of cirtorch, the published PyTorch code of Radenovic et al. (TPAMI 2018), from their tensors."""

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from keras_retrieval.errors import ArgumentError

from .errors import ConversionError

# Name of an architecture in cirtorch -> name of the backbone in keras_retrieval with the same layers.
TRUNKS = {
    "alexnet": "alexnet",
    "vgg16": "vgg16",
    "resnet50": "torchresnet50",
    "resnet101": "torchresnet101",
    "resnet152": "torchresnet152",
}
POOLINGS = ("mac", "spoc", "gem", "gemmp", "rmac")


class Tensors:
    """The tensors of a PyTorch state dict, each of which can be taken once.

    Args:
        state: the state dict, from the name of each tensor to its array.

    Raises:
        ConversionError: `state` is not a dict, or is empty.
    """

    def __init__(self, state: Any) -> None:
        if not isinstance(state, dict) or not state:
            raise ConversionError("its state_dict contains no tensors")
        self.left: dict[str, Any] = dict(state)

    def take(self, name: str, *shapes: tuple[int, ...]) -> np.ndarray:
        """Returns a tensor in float32 and removes it from the tensors that can be taken.

        Args:
            name: the name of the tensor.
            *shapes: the shapes that the tensor may have.

        Raises:
            ConversionError: the tensor is missing, has another shape, or is not finite.
        """
        tensor = self.left.pop(name, None)
        wanted = " or ".join(map(str, shapes))
        if not isinstance(tensor, np.ndarray):
            raise ConversionError(f"it has no tensor {name!r} of shape {wanted}")
        if tensor.shape not in shapes:
            raise ConversionError(f"its tensor {name!r} has shape {tensor.shape}, expected {wanted}")
        if tensor.dtype.kind != "f" or not np.isfinite(tensor).all():
            raise ConversionError(f"its tensor {name!r} contains values that are not finite floating-point numbers")
        return tensor.astype("float32")

    def finish(self) -> None:
        """Checks that every tensor was taken, except the batch counters of BatchNorm.

        Raises:
            ConversionError: a tensor was not taken; the message has the names of up to five such tensors.
        """
        left = [name for name in self.left if not name.endswith(".num_batches_tracked")]
        if left:
            raise ConversionError(f"{len(left)} of its tensors belong to no layer: {', '.join(map(repr, left[:5]))}")


def to_keras(checkpoint: Any) -> Any:
    """Builds the network that is stored in a checkpoint of cirtorch.

    Args:
        checkpoint: the dict that `read_torch` returned, with the keys "state_dict" and "meta". The latter is a dict
            with the keys "architecture", "pooling", "mean" and "std" (of pixels), and optionally the flags
            "local_whitening", "regional" and "whitening".

    Returns:
        A keras.Model like those that `keras_retrieval.build` returns. If the published network contains a whitening,
        the model has the layers "fc" and "l2_fc", which are applied to the descriptor of each scale before the
        descriptors are combined. If it contains a local whitening, the model has the layer "local_whitening" before the
        pooling.

    Raises:
        ConversionError: the architecture or pooling is unknown, or a tensor is missing, has a wrong
            shape, is not finite or belongs to no layer.
    """
    meta = checkpoint.get("meta") if isinstance(checkpoint, dict) else None
    if not isinstance(meta, dict) or "state_dict" not in checkpoint:
        raise ConversionError("it has no 'meta' and 'state_dict', as published networks have")
    tensors = Tensors(checkpoint["state_dict"])
    model = _assembled(meta, tensors)
    tensors.finish()
    return model


def whitening_of(saved: Any, scales: str) -> tuple[np.ndarray, np.ndarray]:
    """Finds a learned whitening in an object that `read_torch` returned.

    Args:
        saved: a whitening, which is a dict {"m": (D, 1) or (D,), "P": (d, D)}; or a dict with the keys "ss" and "ms",
            each with a whitening as its value.
        scales: which whitening of the latter dict to return: "ss" for the one learned from descriptors at a single
            scale, "ms" for the one learned at several scales.

    Returns:
        The shift m (D,) and the projection P (d, D), in float64.

    Raises:
        ArgumentError: `scales` is neither "ss" nor "ms".
        ConversionError: the object contains no such whitening, m does not have as many values as P has columns, or a
            value is not finite.
    """
    if scales not in ("ss", "ms"):
        raise ArgumentError(f"--lw-scales must be ss (a single scale) or ms (multi-scale), got {scales}")
    if isinstance(saved, dict) and "P" not in saved:
        if scales not in saved:
            raise ConversionError(f"it has no whitening {scales!r}: it has {_names(saved)}")
        saved = saved[scales]
    if not isinstance(saved, dict) or not all(isinstance(saved.get(key), np.ndarray) for key in ("m", "P")):
        raise ConversionError("its whitening has no arrays m and P")
    mean, projection = saved["m"].astype("float64"), saved["P"].astype("float64")
    if projection.ndim != 2 or mean.size != projection.shape[1] or mean.ndim > 2:
        raise ConversionError(
            f"the shapes of its whitening do not fit each other: m {mean.shape}, P {projection.shape}"
        )
    if not (np.isfinite(mean).all() and np.isfinite(projection).all()):
        raise ConversionError("its whitening contains values that are not finite numbers")
    return mean.ravel(), projection


def whitening_in(checkpoint: Any, dataset: str, scales: str) -> tuple[np.ndarray, np.ndarray]:
    """Finds, in a network's checkpoint, the whitening that was learned on a given dataset.

    Args:
        checkpoint: the dict that `read_torch` returned. Its "meta" may have the key "Lw", a dict from the name of a
            dataset to a whitening in the form that `whitening_of` accepts.
        dataset: the name of the dataset, such as "retrieval-SfM-120k".
        scales: "ss" for the whitening learned at a single scale, "ms" for the one learned at several scales.

    Returns:
        The shift m (D,) and the projection P (d, D), in float64.

    Raises:
        ArgumentError: `scales` is neither "ss" nor "ms".
        ConversionError: the checkpoint has no whitening of that dataset, and the message lists the datasets that it
            has; or the whitening is invalid, see `whitening_of`.
    """
    found = checkpoint["meta"].get("Lw", {})
    if not isinstance(found, dict) or dataset not in found:
        raise ConversionError(f"its meta has no whitening Lw of {dataset!r}: it has {_names(found)}")
    return whitening_of(found[dataset], scales)


def _names(found: Any) -> str:
    return ", ".join(map(repr, found)) if isinstance(found, dict) and found else "none"


def _assembled(meta: dict[str, Any], tensors: Tensors) -> Any:
    import keras

    import keras_retrieval
    from keras_retrieval import layers

    architecture, pooling = _known(meta, "architecture", TRUNKS), _known(meta, "pooling", POOLINGS)
    name = f"{TRUNKS[architecture]}_{pooling}"
    trunk = keras_retrieval.build(name, weights=None, normalization="torch").get_layer(TRUNKS[architecture])
    for layer, weights in trunk_weights(architecture, trunk, tensors).items():
        trunk.get_layer(layer).set_weights(weights)
    channels = trunk.output_shape[-1]

    images = keras.Input((None, None, 3), name="images")
    x = trunk(pixel_layer(meta)(images))
    if meta.get("local_whitening", False):
        x = _linear(x, "local_whitening", tensors, "lwhiten", channels)
    layer = _pooling(pooling, bool(meta.get("regional", False)), channels, tensors)
    x = layers.L2Normalization(name="l2", dtype="float32")(layer(x))
    if meta.get("whitening", False):
        x = _linear(x, "fc", tensors, "whiten", channels)
        x = layers.L2Normalization(name="l2_fc", dtype="float32")(x)
    return keras.Model(images, x, name=name)


def _known(meta: dict[str, Any], key: str, known: Collection[str]) -> str:
    value = meta.get(key)
    if not isinstance(value, str) or value not in known:
        raise ConversionError(f"its {key} {str(value)[:60]!r} is not one of {', '.join(known)}")
    return value


def pixel_layer(meta: dict[str, Any]) -> Any:
    """Makes the pixel normalisation with the "mean" and "std" of a dict, in units of 0..1.

    Raises:
        ConversionError: they are not three finite numbers each, or a std is not above 0.
    """
    from keras_retrieval import layers

    numbers = {}
    for key in ("mean", "std"):
        numbers[key] = np.asarray(meta.get(key, []))
        if numbers[key].shape != (3,) or numbers[key].dtype.kind not in "fi":
            raise ConversionError(f"the {key} in its meta is not three numbers")
    if not (np.isfinite(numbers["mean"]).all() and (numbers["std"] > 0).all()):
        raise ConversionError("the mean or std in its meta is not finite, or a std is not above 0")
    mean, deviation = (255 * numbers[key].astype("float64") for key in ("mean", "std"))
    return layers.PixelNormalization(mean.tolist(), deviation.tolist(), name="normalization")


def _pooling(name: str, regional: bool, channels: int, tensors: Tensors) -> Any:
    from keras_retrieval import layers

    if regional and name == "rmac":
        raise ConversionError("its pooling is R-MAC of R-MAC's regions, which is not supported")
    outer: dict[str, Any] = {"name": "pooling", "dtype": "float32"}
    inner = {"dtype": "float32"} if regional else outer
    prefix = "pool.rpool" if regional else "pool"
    make: dict[str, Callable[[], Any]] = {
        "mac": lambda: layers.MAC(**inner),
        "spoc": lambda: layers.SPoC(**inner),
        "rmac": lambda: layers.RMAC(**inner),
        "gem": lambda: layers.GeM(**inner),
        "gemmp": lambda: layers.GeM(per_channel=True, **inner),
    }
    pooling = make[name]()
    if name.startswith("gem"):
        pooling.build((None, None, None, channels))
        shapes = ((1,), (channels,)) if name == "gemmp" else ((1,),)
        pooling.set_p(_exponent(tensors.take(f"{prefix}.p", *shapes)))
    if not regional:
        return pooling
    whitening = layers.Whitening(dtype="float32")
    whitening.build((None, channels))
    whitening.set_weights(_linear_weights(tensors, "pool.whiten", channels))
    return layers.RegionalPooling(pooling, whitening=whitening, **outer)


def _exponent(p: np.ndarray) -> np.ndarray:
    if (p <= 0).any():
        raise ConversionError(f"its GeM exponent must be above 0, got {p.min():g}")
    return p


def _linear(x: Any, name: str, tensors: Tensors, source: str, channels: int) -> Any:
    from keras_retrieval import layers

    layer = layers.Whitening(name=name, dtype="float32")
    y = layer(x)
    layer.set_weights(_linear_weights(tensors, source, channels))
    return y


def _linear_weights(tensors: Tensors, source: str, channels: int) -> list[np.ndarray]:
    return [tensors.take(f"{source}.weight", (channels, channels)).T, tensors.take(f"{source}.bias", (channels,))]


def trunk_weights(architecture: str, trunk: Any, tensors: Tensors) -> dict[str, list[np.ndarray]]:
    """Converts the tensors of a trunk to weights of Keras layers.

    Args:
        architecture: the name of the architecture in cirtorch, such as "resnet101".
        trunk: the keras.Model of that architecture.
        tensors: the tensors of the network; those of the trunk, whose names are torchvision's after "features.", are
            taken.

    Returns:
        A dict from the name of each layer to its weights in Keras' order. Kernels have the shape (h, w, in, out).

    Raises:
        ConversionError: a tensor is missing, has a wrong shape or is not finite.
    """
    from keras_retrieval.networks.torch_names import numbered

    found = {}
    for layer in trunk.layers:
        if layer.weights:
            place = f"features.{numbered(TRUNKS[architecture], layer.name)}"
            shapes = [tuple(weight.shape) for weight in layer.weights]
            found[layer.name] = _layer_weights(place, shapes, tensors)
    return found


def _layer_weights(place: str, shapes: list[tuple[int, ...]], tensors: Tensors) -> list[np.ndarray]:
    if len(shapes) == 4:
        parts = ("weight", "bias", "running_mean", "running_var")
        return [tensors.take(f"{place}.{part}", shape) for part, shape in zip(parts, shapes, strict=True)]
    height, width, inputs, outputs = shapes[0]
    kernel = tensors.take(f"{place}.weight", (outputs, inputs, height, width)).transpose(2, 3, 1, 0)
    return [kernel, *(tensors.take(f"{place}.bias", shape) for shape in shapes[1:])]

"""Builds a retrieval network, a keras.Model that computes one descriptor per photo, from its name.

A name is `<backbone>_<pooling>`, or that of a published network. For example, `build("vgg16_gem")` makes a model of the
convolutional layers of VGG16, followed by GeM pooling and L2 normalisation.
"""

import inspect
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import keras

from .. import layers
from ..errors import ArgumentError
from ..layers.initial_values import replaced_by_a_file
from .backbones import BACKBONES, Backbone
from .edge_trunk import one_channel
from .errors import DownloadError, NetworkFileError
from .keras_errors import unloadable
from .names import NETWORKS, misfit, published_file, require_published, split_name
from .published_files import named_file
from .regional import rmac
from .vision_transformer import read_out
from .weights import fill_pooling, fill_trunk, read_stored


def _regional_gem(
    p: float = 3.0,
    trainable_p: bool = True,
    p_speed: float = 1.0,
    levels: int = 3,
    whole_map: bool = True,
    **options: Any,
) -> layers.RegionalPooling:
    pooling = layers.GeM(p, trainable_p=trainable_p, p_speed=p_speed, dtype="float32")
    return layers.RegionalPooling(pooling, levels, whole_map, **options)


POOLINGS: dict[str, Callable[..., keras.layers.Layer]] = {
    "mac": layers.MAC,
    "spoc": layers.SPoC,
    "gem": layers.GeM,
    "gemmp": partial(layers.GeM, per_channel=True),
    "rmac": rmac,
    "rgem": _regional_gem,
    "netvlad": layers.NetVLAD,
    "edgemac": layers.MAC,
    "cls": layers.ClassToken,
    "cls+mean": partial(layers.ClassToken, mean=True),
    "salad": layers.SALAD,
    "megaloc": partial(layers.SALAD, features=256, projection=8448),
    "boq": layers.BoQ,
    "mixvpr": layers.MixVPR,
    "cosplace": layers.CosPlace,
    "superglobal": layers.SuperGlobal,
    "spocnorm": layers.NormalizedMean,
}

FrontEnd = Callable[[keras.Model, str], tuple[list[keras.layers.Layer], keras.Model]]
"""Function that makes the layers between the input and the trunk.

Its arguments are a trunk and the name of the pixel normalisation that the weights of this trunk expect. It returns the
layers to put before the trunk, and the trunk to use, which may be a conversion of the given one.
"""


def _of_photos(trunk: keras.Model, normalization: str) -> tuple[list[keras.layers.Layer], keras.Model]:
    return [layers.PixelNormalization.of(normalization, name="normalization")], trunk


def _of_edge_maps(trunk: keras.Model, normalization: str) -> tuple[list[keras.layers.Layer], keras.Model]:
    front = [layers.EdgeStrength(name="normalization", dtype="float32")]
    return [*front, layers.EdgeFilter(name="edge_filter", dtype="float32")], one_channel(trunk, normalization)


def _of_one_size(trunk: keras.Model, normalization: str) -> tuple[list[keras.layers.Layer], keras.Model]:
    front, trunk = _of_photos(trunk, normalization)
    return [*front, layers.FixedSize(320, 320, name="resize", dtype="float32")], trunk


def _before_norm_of(trunk: keras.Model, normalization: str) -> tuple[list[keras.layers.Layer], keras.Model]:
    front, trunk = _of_photos(trunk, normalization)
    return front, keras.Model(trunk.input, trunk.layers[-1].input, name=trunk.name)


FRONT_ENDS: dict[str, FrontEnd] = {
    "edgemac": _of_edge_maps,
    "mixvpr": _of_one_size,
    "spocnorm": _before_norm_of,
}
"""The front ends of networks whose input is not RGB photos of any size, or whose trunk is cut, by the pooling's name.

Networks with any other pooling begin with a `layers.PixelNormalization`.
"""


def list_models() -> list[str]:
    """Returns all names that `build` accepts: `<backbone>_<pooling>`, and those of published networks."""
    pairs = ((name, pooling) for name in BACKBONES for pooling in POOLINGS if not misfit(name, pooling))
    return [*(f"{name}_{pooling}" for name, pooling in pairs), *NETWORKS]


def reads_class_token(pooling: Any) -> bool:
    """Returns whether a pooling, a key of POOLINGS or a layer, needs the class token of a vision transformer."""
    return getattr(_class_of(pooling), "reads_class_token", False)


def _before_norm(pooling: Any) -> bool:
    """Whether a pooling takes the tokens of a vision transformer before the last layer normalisation."""
    return getattr(_class_of(pooling), "before_norm", False)


def _class_of(pooling: Any) -> Any:
    make = POOLINGS[pooling] if isinstance(pooling, str) else pooling
    return getattr(make, "func", make)


def options_of_pooling(pooling: str) -> list[str]:
    """Returns the names of the options that `build` accepts for a pooling, such as ["clusters"].

    Args:
        pooling: the name of the pooling, a key of POOLINGS such as "netvlad".

    Raises:
        KeyError: there is no such pooling.
    """
    parameters = inspect.signature(POOLINGS[pooling]).parameters
    return [key for key in parameters if key not in ("kwargs", "options", "whitening")]


def build(
    name: str,
    *,
    weights: str | Path | None = "auto",
    weights_prefix: str = "",
    normalization: str | None = None,
    whitening: bool = False,
    dim: int | None = None,
    trainable_p: bool = True,
    **pooling_options: Any,
) -> keras.Model:
    """Builds a retrieval network, which computes one descriptor per photo.

    The layers are a pixel normalisation, a backbone without its classifier, a pooling, L2 normalisation, and optionally
    a whitening and another L2 normalisation.

    Args:
        name: `<backbone>_<pooling>`, such as "vgg16_gem", or a published network, such as "megaloc"; `list_models()`
            returns all names.
        weights: weights of the backbone. "auto": the published file of the network or of its backbone in the weights
            folder, see `published_files`, or ImageNet weights for a backbone of which Keras has them; "imagenet":
            those, downloaded by keras.applications; None for random weights; or the path of a file: of torch (.pth,
            .pt, .ckpt), .safetensors, of Keras (.h5, .weights.h5, .keras), or .npz, see `weights.load_trunk`. A name
            of a published file, such as "dinov2vits14", and the name of a file in the weights folder are
            paths, too. If a file of torch contains the weights of the pooling, too, as those of the published
            networks do, they are loaded with it.
        weights_prefix: the beginning of the names of the weights, such as "teacher.", for a file that contains the
            backbone more than once.
        normalization: the pixel normalisation that the weights expect, "torch", "caffe", "none" or "torch-bgr",
            see `layers.PixelNormalization`. None uses the normalisation that the weights file states; if it states
            none, that of the backbone's ImageNet weights.
        whitening: whether a `layers.Whitening`, initially the identity, and an L2 normalisation are appended.
        dim: number of dimensions that the whitening keeps; None keeps all. A number implies `whitening`.
        trainable_p: whether GeM's exponent p is trainable. Other poolings ignore this argument.
        **pooling_options: further arguments of the pooling layer, such as p=3.0, levels=3 or clusters=64; for the
            pooling "rmac" the arguments of `regional.rmac`, such as regions="proposals" and regional_whitening=True.

    Returns:
        A keras.Model from RGB photos (B, H, W, 3) in 0..255, with any H and W, to L2-normalised float32 descriptors
        (B, D). Its layers are named "normalization", the name of the backbone, "pooling", "l2", and optionally
        "whitening" and "l2_whitened". The input of a network with the pooling "edgemac" is edge maps instead of
        photos, stored as RGB with three equal channels, 0 for no edge and 255 for the strongest. Such a network has an
        additional layer "edge_filter" before the backbone.

    Raises:
        ArgumentError: the name is unknown (the message suggests a similar one); the pooling has no such option; an
            argument is out of range; keras.applications has no ImageNet weights of the backbone; or `normalization` is
            None, the weights file does not state the normalisation, and weights with two different normalisations are
            published for the backbone.
        WeightsError: the weights file is damaged or does not match the backbone; the message names the layer.
        WeightsNotFoundError: the weights file does not exist, or `weights` is "auto" and the weights folder does not
            have the published file.
        DownloadError: the ImageNet weights could not be downloaded.

    Example:
        >>> model = keras_retrieval.build("vgg16_gem")
        >>> model(np.zeros((1, 480, 640, 3))).shape
        (1, 512)
    """
    backbone_name, pooling_name = split_name(name)
    if weights == "auto":
        weights = published_file(name) or "imagenet"
    elif weights is not None and weights != "imagenet":
        weights = named_file(weights) or weights
    if name in NETWORKS:
        name, published_options = NETWORKS[name]
        pooling_options = {**published_options, **pooling_options}
    backbone, make_pooling = BACKBONES[backbone_name], POOLINGS[pooling_name]
    if not isinstance(whitening, bool):
        raise ArgumentError(f"whitening must be True or False, got {whitening!r}; set the dimensions with dim")
    accepted = options_of_pooling(pooling_name)
    if pooling_options.keys() - set(accepted):
        unknown = ", ".join(sorted(pooling_options.keys() - set(accepted)))
        raise ArgumentError(
            f"the pooling '{pooling_name}' does not take {unknown}; it takes {', '.join(accepted) or 'no option'}"
        )
    file = None if weights == "imagenet" else weights
    with nullcontext() if file is None else replaced_by_a_file():
        trunk = _trunk(backbone_name, backbone, weights, pooling_name)
    stated = stored = None
    if file is not None:
        stored = read_stored(file)
        stated = fill_trunk(trunk, stored, file, weights_prefix)
    normalization = normalization or stated or _default_normalization(backbone_name, backbone, weights)
    if "trainable_p" in accepted:
        pooling_options["trainable_p"] = trainable_p

    whole = trunk
    front, trunk = FRONT_ENDS.get(pooling_name, _of_photos)(trunk, normalization)
    # The layers after the trunk are float32 under every dtype policy: descriptors must be exact to 1e-5.
    pooling = make_pooling(name="pooling", dtype="float32", **pooling_options)
    model = assemble(name, front, trunk, pooling)
    move_last_norm(whole, pooling)
    if stored is not None:
        fill_pooling(pooling, stored, str(weights))
    if not whitening and dim is None:
        return model
    x = layers.Whitening(dim, name="whitening", dtype="float32")(model.output)
    x = layers.L2Normalization(name="l2_whitened", dtype="float32")(x)
    return keras.Model(model.input, x, name=model.name)


def load(path: str | Path) -> keras.Model:
    """Loads a network from a .keras file, uncompiled.

    `keras.saving.load_model` can load the file as well if `keras_retrieval.layers` has been imported before.

    Args:
        path: path of the file.

    Returns:
        The network, a keras.Model.

    Raises:
        NetworkFileError: the file does not exist, is not a .keras file, or cannot be loaded.
    """
    path = Path(path)
    if path.suffix != ".keras" or not path.is_file():
        raise NetworkFileError(f"no network at {path}: `keras-retrieval build vgg16_gem model.keras` makes one")
    try:
        with replaced_by_a_file():
            return keras.saving.load_model(path, compile=False)
    except Exception as error:  # the parts of Keras have different errors
        reason = unloadable(path, error)
        raise NetworkFileError(f"{path} could not be loaded as a Keras network: {reason}") from error


def for_pooling(trunk: keras.Model, pooling: Any) -> keras.Model:
    """Makes the vision transformer whose feature map a pooling takes.

    Args:
        trunk: a model from `vision_transformer`.
        pooling: a key of POOLINGS, or a layer.

    Returns:
        The trunk before or after its last layer normalisation, with or without the class token, and the same weights.
    """
    return read_out(trunk, class_token=reads_class_token(pooling), normalized=not _before_norm(pooling))


def trunk_for(name: str, pooling: str) -> keras.Model:
    """Makes the trunk with random weights whose feature map a pooling takes.

    Args:
        name: a key of BACKBONES.
        pooling: a key of POOLINGS.
    """
    return _trunk(name, BACKBONES[name], None, pooling)


def assemble(
    name: str, front: Iterable[keras.layers.Layer], trunk: keras.Model, pooling: keras.layers.Layer
) -> keras.Model:
    """Makes the model of a network: the layers before the trunk, the trunk, the pooling, L2 normalisation.

    Args:
        name: name of the model; "+", which TensorFlow's names cannot contain, becomes "-".
        front: the layers before the trunk, the first a `layers.PixelNormalization`.
        trunk: the trunk.
        pooling: the pooling, named "pooling".
    """
    images = x = keras.Input((None, None, 3), name="images")
    for layer in (*front, trunk, pooling, layers.L2Normalization(name="l2", dtype="float32")):
        x = layer(x)
    return keras.Model(images, x, name=name.replace("+", "-"))


def move_last_norm(trunk: keras.Model, pooling: keras.layers.Layer) -> None:
    """Copies the weights of a trunk's last layer normalisation to a built pooling that takes its place."""
    if isinstance(pooling, layers.NormalizedMean):
        pooling.set_weights(trunk.layers[-1].get_weights())


def _trunk(name: str, backbone: Backbone, weights: str | Path | None, pooling: str) -> keras.Model:
    if weights == "imagenet":
        require_published(name)
    try:
        trunk = backbone.make("imagenet" if weights == "imagenet" else None)
    except Exception as error:
        if weights == "imagenet" and "fetch failure" in str(error):
            raise DownloadError(
                f"the ImageNet weights of {name} could not be downloaded ({error}): "
                "build it with weights=None (random) or the path of a file"
            ) from error
        raise
    if backbone.transformer:
        return for_pooling(trunk, pooling)
    last = trunk.get_layer(backbone.last) if backbone.last else trunk.layers[-1]
    if pooling == "netvlad" and isinstance(last, keras.layers.ReLU):
        return keras.Model(trunk.input, last.input, name=name)
    # CosPlace was published on VGG16 before its last ReLU, and on ResNets after it.
    if pooling in ("netvlad", "cosplace") and getattr(last, "activation", None) is keras.activations.relu:
        last.activation = keras.activations.linear
    return keras.Model(trunk.input, last.output, name=name)


def _default_normalization(name: str, backbone: Backbone, weights: str | Path | None) -> str:
    if backbone.ambiguous and weights not in (None, "imagenet"):
        raise ArgumentError(
            f"{weights} does not say which pixels its weights expect, and both kinds exist for {name}: give "
            "normalization='caffe' (weights from Keras) or normalization='torch' (weights from torchvision)"
        )
    return backbone.normalization

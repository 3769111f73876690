"""Retrieval networks by name: `build("vgg16_gem")` is a trunk, a pooling and L2 in one keras.Model."""

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras

from .. import layers
from . import backbones
from .edge_trunk import one_channel
from .regional import rmac
from .weights import load_trunk


@dataclass(frozen=True)
class Backbone:
    """A row of BACKBONES.

    Attributes:
        make: makes the trunk from `weights`, None or "imagenet"; RGB 0..255 normalised in, feature map out.
        normalization: the pixel normalisation that its ImageNet weights need.
        last: the layer that the trunk ends with; the trunk's own last one where it is empty.
        published: keras.applications has ImageNet weights for it.
        ambiguous: weights of other origins circulate too, with another normalisation.
    """

    make: Callable[[str | None], keras.Model]
    normalization: str
    last: str = ""
    published: bool = True
    ambiguous: bool = False


def _applications(name: str, **options: Any) -> Callable[[str | None], keras.Model]:
    def make(weights: str | None) -> keras.Model:
        application = getattr(keras.applications, name)
        return application(include_top=False, weights=weights, input_shape=(None, None, 3), **options)

    return make


def _own(make: Callable[[], keras.Model], **row: Any) -> Backbone:
    return Backbone(lambda _: make(), "torch", published=False, **row)


BACKBONES: dict[str, Backbone] = {
    "alexnet": _own(backbones.alexnet, last="conv5"),
    "vgg16": Backbone(_applications("VGG16"), "caffe", last="block5_conv3", ambiguous=True),
    "vgg19": Backbone(_applications("VGG19"), "caffe", last="block5_conv4", ambiguous=True),
    "resnet50": Backbone(_applications("ResNet50"), "caffe", ambiguous=True),
    "resnet101": Backbone(_applications("ResNet101"), "caffe", ambiguous=True),
    "resnet152": Backbone(_applications("ResNet152"), "caffe", ambiguous=True),
    "torchresnet50": _own(partial(backbones.torch_resnet, (3, 4, 6, 3), "torchresnet50")),
    "torchresnet101": _own(partial(backbones.torch_resnet, (3, 4, 23, 3), "torchresnet101")),
    "torchresnet152": _own(partial(backbones.torch_resnet, (3, 8, 36, 3), "torchresnet152")),
    "densenet121": Backbone(_applications("DenseNet121"), "torch"),
    "densenet169": Backbone(_applications("DenseNet169"), "torch"),
    "densenet201": Backbone(_applications("DenseNet201"), "torch"),
    # The families below normalise pixels in their own first layers.
    "efficientnetv2b0": Backbone(_applications("EfficientNetV2B0"), "none"),
    "efficientnetv2b1": Backbone(_applications("EfficientNetV2B1"), "none"),
    "efficientnetv2b2": Backbone(_applications("EfficientNetV2B2"), "none"),
    "efficientnetv2b3": Backbone(_applications("EfficientNetV2B3"), "none"),
    "efficientnetv2s": Backbone(_applications("EfficientNetV2S"), "none"),
    "efficientnetv2m": Backbone(_applications("EfficientNetV2M"), "none"),
    "efficientnetv2l": Backbone(_applications("EfficientNetV2L"), "none"),
    "mobilenetv3small": Backbone(_applications("MobileNetV3Small"), "none"),
    "mobilenetv3large": Backbone(_applications("MobileNetV3Large"), "none"),
    "convnexttiny": Backbone(_applications("ConvNeXtTiny"), "none"),
    "convnextsmall": Backbone(_applications("ConvNeXtSmall"), "none"),
    "convnextbase": Backbone(_applications("ConvNeXtBase"), "none"),
    "convnextlarge": Backbone(_applications("ConvNeXtLarge"), "none"),
}


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
}


FrontEnd = Callable[[keras.Model, str], tuple[list[keras.layers.Layer], keras.Model]]
"""From a trunk and the pixel normalisation of its weights to the layers before it and the trunk that they are for."""


def _of_photos(trunk: keras.Model, normalization: str) -> tuple[list[keras.layers.Layer], keras.Model]:
    return [layers.PixelNormalization.of(normalization, name="normalization")], trunk


def _of_edge_maps(trunk: keras.Model, normalization: str) -> tuple[list[keras.layers.Layer], keras.Model]:
    front = [layers.EdgeStrength(name="normalization", dtype="float32")]
    return [*front, layers.EdgeFilter(name="edge_filter", dtype="float32")], one_channel(trunk, normalization)


FRONT_ENDS: dict[str, FrontEnd] = {"edgemac": _of_edge_maps}
"""Of the networks of a pooling; the others take photos."""


def list_models() -> list[str]:
    """All names that `build` knows."""
    return [f"{backbone}_{pooling}" for backbone in BACKBONES for pooling in POOLINGS]


def build(
    name: str,
    *,
    weights: str | Path | None = "imagenet",
    normalization: str | None = None,
    whitening: bool = False,
    dim: int | None = None,
    trainable_p: bool = True,
    **pooling_options: Any,
) -> keras.Model:
    """Builds a retrieval network: pixel normalisation, trunk, pooling, L2 and, if asked for, whitening and L2.

    Args:
        name: `<backbone>_<pooling>`, such as "vgg16_gem"; `list_models()` has them all.
        weights: of the trunk: "imagenet" (downloaded by keras.applications), None for random ones, or a file:
            .h5, .npz or .keras. Each layer of the file is checked.
        normalization: the pixel normalisation that the weights need: "torch", "caffe" or "none". None takes what
            the file states, else what the backbone's ImageNet weights need.
        whitening: add a shift and projection (`layers.Whitening`) and L2 behind the pooling's L2. It starts as the
            identity.
        dim: the number of dimensions that the whitening keeps; None keeps all. Asks for a whitening by itself.
        trainable_p: whether GeM's exponent learns.
        **pooling_options: further arguments of the pooling layer, such as p=3.0, levels=3 or clusters=64; for rmac
            those of `regional.rmac`, such as regions="proposals" and regional_whitening=True.

    Returns:
        A keras.Model: RGB 0..255 (B, H, W, 3), any H and W, to L2-normalised float32 (B, D). Its layers are
        "normalization", the backbone, "pooling", "l2" and perhaps "whitening" and "l2_whitened". One of "edgemac"
        takes edge maps as grey photos, black where there is no edge, and has an "edge_filter" before the backbone.

    Raises:
        ValueError: an unknown name (the message has the nearest), weights that do not fit (it has the layer), or
            an option that the pooling does not take.
        ConnectionError: ImageNet weights could not be downloaded.

    Example:
        >>> model = keras_retrieval.build("vgg16_gem")
        >>> model(np.zeros((1, 480, 640, 3))).shape
        (1, 512)
    """
    backbone_name, _, pooling_name = name.rpartition("_")
    backbone = _known("backbone", backbone_name, BACKBONES, name)
    make_pooling = _known("pooling", pooling_name, POOLINGS, name)
    if not isinstance(whitening, bool):
        raise ValueError(f"whitening is True or False, not {whitening!r}; `dim` says how many dimensions it keeps")
    takes = [key for key in inspect.signature(make_pooling).parameters if key not in ("kwargs", "options", "whitening")]
    if pooling_options.keys() - set(takes):
        given = ", ".join(sorted(pooling_options.keys() - set(takes)))
        raise ValueError(
            f"the pooling '{pooling_name}' does not take {given}; it takes {', '.join(takes) or 'no option'}"
        )
    trunk = _trunk(backbone_name, backbone, weights, before_relu=pooling_name == "netvlad")
    stated = load_trunk(trunk, weights) if weights not in (None, "imagenet") else None
    normalization = normalization or stated or _default_normalization(backbone_name, backbone, weights)
    if "trainable_p" in takes:
        pooling_options["trainable_p"] = trainable_p

    front, trunk = FRONT_ENDS.get(pooling_name, _of_photos)(trunk, normalization)
    # What follows the trunk is float32 under every dtype policy: descriptors are compared to 1e-5.
    pooling = make_pooling(name="pooling", dtype="float32", **pooling_options)
    images = x = keras.Input((None, None, 3), name="images")
    for layer in (*front, trunk, pooling, layers.L2Normalization(name="l2", dtype="float32")):
        x = layer(x)
    if whitening or dim is not None:
        x = layers.Whitening(dim, name="whitening", dtype="float32")(x)
        x = layers.L2Normalization(name="l2_whitened", dtype="float32")(x)
    return keras.Model(images, x, name=name)


def load(path: str | Path) -> keras.Model:
    """Loads a network that was saved as .keras.

    `keras.saving.load_model` does the same once `keras_retrieval.layers` is imported.

    Args:
        path: of the file.

    Raises:
        ValueError: there is no such file, or Keras cannot load it.
    """
    path = Path(path)
    if path.suffix != ".keras" or not path.is_file():
        raise ValueError(f"no network at {path}: `keras-retrieval build vgg16_gem model.keras` makes one")
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # each part of Keras raises its own
        raise ValueError(f"{path} could not be loaded as a Keras network: {error}") from error


def _known(kind: str, part: str, table: dict[str, Any], name: str) -> Any:
    if part in table:
        return table[part]
    near = difflib.get_close_matches(part, table, 1, 0.4)
    hint = f" The nearest is '{near[0]}'." if near else ""
    raise ValueError(f"unknown {kind} '{part}' in '{name}'.{hint} Known: {', '.join(table)}.")


def _trunk(name: str, backbone: Backbone, weights: str | Path | None, before_relu: bool) -> keras.Model:
    if weights == "imagenet" and not backbone.published:
        raise ValueError(f"Keras has no ImageNet weights of {name}: give weights=None or the path of a weights file")
    try:
        trunk = backbone.make("imagenet" if weights == "imagenet" else None)
    except Exception as error:
        if weights == "imagenet" and "fetch failure" in str(error):
            raise ConnectionError(
                f"the ImageNet weights of {name} could not be downloaded ({error}): "
                "give weights=None or the path of a weights file"
            ) from error
        raise
    last = trunk.get_layer(backbone.last) if backbone.last else trunk.layers[-1]
    if before_relu and isinstance(last, keras.layers.ReLU):
        return keras.Model(trunk.input, last.input, name=name)
    if before_relu and getattr(last, "activation", None) is keras.activations.relu:
        last.activation = keras.activations.linear
    return keras.Model(trunk.input, last.output, name=name)


def _default_normalization(name: str, backbone: Backbone, weights: str | Path | None) -> str:
    if backbone.ambiguous and weights not in (None, "imagenet"):
        raise ValueError(
            f"{weights} does not say which pixels its weights expect, and both kinds exist for {name}: give "
            "normalization='caffe' (Keras' own weights) or normalization='torch' (torchvision's)"
        )
    return backbone.normalization

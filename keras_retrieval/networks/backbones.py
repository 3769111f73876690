"""The table of trunks that `build` supports.

A trunk is the backbone of a network, from normalised pixels to the feature map. Importing this module does not import
Keras, which only making a trunk needs, so that names of networks are checked in no time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .transformer_shapes import Shape, dinov2, dinov3


@dataclass(frozen=True)
class Backbone:
    """A trunk that `build` supports.

    Attributes:
        make: function that builds the trunk as a keras.Model from normalised pixels (B, H, W, 3) to a feature map. Its
            argument is "imagenet" for ImageNet weights, or None for random weights.
        normalization: the pixel normalisation, "torch", "caffe" or "none", that the trunk's ImageNet weights expect,
            see `layers.PixelNormalization.of`.
        last: the name of the layer whose output is the feature map; "" for the last layer of the model.
        published: whether keras.applications has ImageNet weights of this trunk.
        transformer: whether it is a vision transformer, which has a class token, see `vision_transformer.read_out`.
        ambiguous: whether there are also published weights of this trunk that expect a different pixel normalisation.
    """

    make: Callable[[str | None], Any]
    normalization: str
    last: str = ""
    published: bool = True
    ambiguous: bool = False
    transformer: bool = False


def _applications(name: str, **options: Any) -> Callable[[str | None], Any]:
    def make(weights: str | None) -> Any:
        import keras

        application = getattr(keras.applications, name)
        return application(include_top=False, weights=weights, input_shape=(None, None, 3), **options)

    return make


def _convnext(name: str) -> Backbone:
    def make(weights: str | None) -> Any:
        from .fast_operations import with_fast_operations

        return with_fast_operations(_applications(name)(weights))

    return Backbone(make, "none")


def _own(function: str, *arguments: Any, normalization: str = "torch", last: str = "") -> Backbone:
    def make(weights: str | None) -> Any:
        from . import torchvision_trunks

        return getattr(torchvision_trunks, function)(*arguments)

    return Backbone(make, normalization, last=last, published=False)


def _cvnet(name: str, blocks: tuple[int, ...]) -> Backbone:
    """A ResNet of CVNet with SuperGlobal's rectifiers; its pixels are BGR."""
    return _own("torch_resnet", blocks, name, False, 0.014, normalization="torch-bgr")


def _transformer(name: str, shape: Shape) -> Backbone:
    def make(weights: str | None) -> Any:
        from .vision_transformer import vision_transformer

        return vision_transformer(shape, name)

    return Backbone(make, "torch", published=False, transformer=True)


TRANSFORMERS: dict[str, Shape] = {
    "dinov2vits14": dinov2(384, 12),
    "dinov2vitb14": dinov2(768, 12),
    "dinov2vitl14": dinov2(1024, 24),
    "dinov2vitg14": dinov2(1536, 40, hidden=4096, gated=True),
    "dinov2vits14reg": dinov2(384, 12, 4),
    "dinov2vitb14reg": dinov2(768, 12, 4),
    "dinov2vitl14reg": dinov2(1024, 24, 4),
    "dinov2vitg14reg": dinov2(1536, 40, 4, hidden=4096, gated=True),
    "dinov3vits16": dinov3(384, 12),
    "dinov3vits16plus": dinov3(384, 12, hidden=1536, gated=True),
    "dinov3vitb16": dinov3(768, 12),
    "dinov3vitl16": dinov3(1024, 24),
    "dinov3vitl16plus": dinov3(1024, 24, hidden=4096, gated=True),
    "dinov3vith16plus": dinov3(1280, 32, hidden=5120, gated=True),
}
"""The vision transformers by name."""

BACKBONES: dict[str, Backbone] = {
    "alexnet": _own("alexnet", last="conv5"),
    "vgg16": Backbone(_applications("VGG16"), "caffe", last="block5_conv3", ambiguous=True),
    "vgg19": Backbone(_applications("VGG19"), "caffe", last="block5_conv4", ambiguous=True),
    "resnet50": Backbone(_applications("ResNet50"), "caffe", ambiguous=True),
    "resnet101": Backbone(_applications("ResNet101"), "caffe", ambiguous=True),
    "resnet152": Backbone(_applications("ResNet152"), "caffe", ambiguous=True),
    "torchresnet18": _own("torch_resnet", (2, 2, 2, 2), "torchresnet18", True),
    "torchresnet34": _own("torch_resnet", (3, 4, 6, 3), "torchresnet34", True),
    "torchresnet50layer3": _own("torch_resnet", (3, 4, 6), "torchresnet50layer3"),
    "torchresnet50": _own("torch_resnet", (3, 4, 6, 3), "torchresnet50"),
    "torchresnet101": _own("torch_resnet", (3, 4, 23, 3), "torchresnet101"),
    "torchresnet152": _own("torch_resnet", (3, 8, 36, 3), "torchresnet152"),
    "cvnetresnet50": _cvnet("cvnetresnet50", (3, 4, 6, 3)),
    "cvnetresnet101": _cvnet("cvnetresnet101", (3, 4, 23, 3)),
    "densenet121": Backbone(_applications("DenseNet121"), "torch"),
    "densenet169": Backbone(_applications("DenseNet169"), "torch"),
    "densenet201": Backbone(_applications("DenseNet201"), "torch"),
    # The trunks below normalise pixels in their own first layers.
    "efficientnetv2b0": Backbone(_applications("EfficientNetV2B0"), "none"),
    "efficientnetv2b1": Backbone(_applications("EfficientNetV2B1"), "none"),
    "efficientnetv2b2": Backbone(_applications("EfficientNetV2B2"), "none"),
    "efficientnetv2b3": Backbone(_applications("EfficientNetV2B3"), "none"),
    "efficientnetv2s": Backbone(_applications("EfficientNetV2S"), "none"),
    "efficientnetv2m": Backbone(_applications("EfficientNetV2M"), "none"),
    "efficientnetv2l": Backbone(_applications("EfficientNetV2L"), "none"),
    "mobilenetv3small": Backbone(_applications("MobileNetV3Small"), "none"),
    "mobilenetv3large": Backbone(_applications("MobileNetV3Large"), "none"),
    "convnexttiny": _convnext("ConvNeXtTiny"),
    "convnextsmall": _convnext("ConvNeXtSmall"),
    "convnextbase": _convnext("ConvNeXtBase"),
    "convnextlarge": _convnext("ConvNeXtLarge"),
    **{name: _transformer(name, shape) for name, shape in TRANSFORMERS.items()},
}

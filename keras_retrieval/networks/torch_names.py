"""Names of the trunks' tensors in torch's files: torchvision's, timm's, Hugging Face's, and children by number."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import keras
import numpy as np

from ..layers.token_sequence import TokenSequence
from ..layers.transformer_block import TransformerBlock
from .leaf_layers import leaf_layers

_VGG_BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
_ALEXNET = {"conv1": 0, "conv2": 3, "conv3": 6, "conv4": 8, "conv5": 10}


@dataclass(frozen=True)
class Tensor:
    """A weight of a layer as torch stores it.

    Attributes:
        key: its name in the state dict.
        shapes: the shapes that it may have there.
        axes: the transposition to Keras' layout, after which it is reshaped to `shape`.
        shape: the shape in Keras.
        shift: is added to the values.
    """

    key: str
    shapes: tuple[tuple[int, ...], ...]
    axes: tuple[int, ...]
    shape: tuple[int, ...]
    shift: float = 0.0

    def to_keras(self, stored: np.ndarray) -> np.ndarray:
        """The values in Keras' layout, in float32."""
        values = np.asarray(stored, "float32").reshape(self.shapes[0]).transpose(self.axes).reshape(self.shape)
        return values + np.float32(self.shift) if self.shift else values


Naming = Mapping[str, list[Tensor]]
"""Maps each layer of a trunk to its tensors, in the order of the layer's weights."""


def namings(trunk: keras.Model) -> list[Naming]:
    """All ways in which torch's files name the tensors of a trunk, without what their network puts in front.

    Returns:
        The namings; none for a trunk that torch computes otherwise.
    """
    layers = list(leaf_layers(trunk))
    return [{leaf.name: _tensors(leaf.layer, place(leaf.name)) for leaf in layers} for place in _places(trunk.name)]


def numbered(trunk: str, layer: str) -> str:
    """The place of a layer in a torch.nn.Sequential of the trunk's parts, such as "4.0.conv1".

    Args:
        trunk: "alexnet", "vgg16", "vgg19" or a torchresnet.
        layer: the name of the layer.
    """
    if trunk.startswith("torchresnet"):
        return _resnet_children(layer)
    if layer in _ALEXNET:
        return str(_ALEXNET[layer])
    block, number = (int(part) for part in re.findall(r"\d+", layer))
    before = _VGG_BLOCKS[trunk][: block - 1]
    return str(2 * (sum(before) + number - 1) + len(before))


def _tensors(layer: keras.layers.Layer, place: str) -> list[Tensor]:
    shapes = [tuple(weight.shape) for weight in layer.weights]
    if isinstance(layer, TransformerBlock | TokenSequence):
        return [
            Tensor(place + _TOKENS[weight.name], (shape[::-1] if len(shape) == 2 else shape,), axes, shape)
            for weight, shape in zip(layer.weights, shapes, strict=True)
            for axes in [(1, 0) if len(shape) == 2 else tuple(range(len(shape)))]
        ]
    if len(shapes) == 1 and len(shapes[0]) == 1:  # the scale of a ConvNeXt's block
        return [Tensor(place, (shapes[0], (*shapes[0], 1, 1)), (0,), shapes[0])]
    if isinstance(layer, keras.layers.BatchNormalization):
        parts = ["weight", "bias", "running_mean", "running_var"]
        shifts = [0.0, 0.0, 0.0, 1e-5 - layer.epsilon]  # torch's epsilon is 1e-5
        return [
            Tensor(f"{place}.{part}", (shape,), (0,), shape, shift)
            for part, shape, shift in zip(parts, shapes, shifts, strict=True)
        ]
    found = []
    for part, shape in zip(("weight", "bias"), shapes, strict=False):
        if len(shape) == 4:
            height, width, inputs, outputs = shape
            found.append(Tensor(f"{place}.{part}", ((outputs, inputs, height, width),), (2, 3, 1, 0), shape))
        elif len(shape) == 2:
            stored = shape[::-1]
            found.append(Tensor(f"{place}.{part}", (stored, (*stored, 1, 1)), (1, 0), shape))
        else:
            found.append(Tensor(f"{place}.{part}", (shape,), (0,), shape))
    return found


def _resnet_torchvision(layer: str) -> str:
    """layer1_0_downsample_1 -> layer1.0.downsample.1."""
    return layer.replace("_", ".")


def _resnet_children(layer: str) -> str:
    """layer1_0_downsample_1 -> 4.0.downsample.1: the four stages are children 4 to 7."""
    if layer in ("conv1", "bn1"):
        return {"conv1": "0", "bn1": "1"}[layer]
    stage, block, *part = layer.removeprefix("layer").split("_")
    return ".".join([str(int(stage) + 3), block, *part])


def _resnet_transformers(layer: str) -> str:
    """layer1_0_conv2 -> encoder.stages.0.layers.0.layer.1.convolution, as in Hugging Face's ResNetModel."""
    if layer in ("conv1", "bn1"):
        return f"embedder.embedder.{_convolution_of(layer)}"
    stage, block, *part = layer.removeprefix("layer").split("_")
    place = f"encoder.stages.{int(stage) - 1}.layers.{block}"
    if part[0] == "downsample":
        return f"{place}.shortcut.{('convolution', 'normalization')[int(part[1])]}"
    return f"{place}.layer.{int(part[0][-1]) - 1}.{_convolution_of(part[0])}"


def _convolution_of(part: str) -> str:
    return "convolution" if part.startswith("conv") else "normalization"


def _resnet_cvnet(layer: str) -> str:
    """layer1_0_conv2 -> s1.b1.f.b, as in CVNet and other code that follows pycls."""
    if layer in ("conv1", "bn1"):
        return {"conv1": "stem.conv", "bn1": "stem.bn"}[layer]
    stage, block, *part = layer.removeprefix("layer").split("_")
    place = f"s{stage}.b{int(block) + 1}"
    if part[0] == "downsample":
        return f"{place}.{('proj', 'bn')[int(part[1])]}"
    return f"{place}.f.{'abc'[int(part[0][-1]) - 1]}{'_bn' if part[0].startswith('bn') else ''}"


def _densenet(layer: str, old: bool = False) -> str:
    """conv2_block1_1_bn -> denseblock1.denselayer1.norm2; files of torch before 0.4 have norm.2."""
    if layer in ("conv1_conv", "conv1_bn", "bn"):
        return {"conv1_conv": "conv0", "conv1_bn": "norm0", "bn": "norm5"}[layer]
    if layer.startswith("pool"):
        stage, part = layer.removeprefix("pool").split("_")
        return f"transition{int(stage) - 1}.{'norm' if part == 'bn' else 'conv'}"
    stage, block, number, part = layer.removeprefix("conv").replace("block", "").split("_")
    # In Keras 0_bn, 1_conv, 1_bn, 2_conv; in torch norm1, conv1, norm2, conv2.
    name = f"norm{'.' * old}{int(number) + 1}" if part == "bn" else f"conv{'.' * old}{number}"
    return f"denseblock{int(stage) - 1}.denselayer{block}.{name}"


@dataclass(frozen=True)
class _ConvNeXt:
    """The places of a ConvNeXt's layers; {even} is twice the stage and {odd} one more.

    Attributes:
        stem: of the first convolution and of the norm after it.
        between: of the norm and convolution before a stage.
        block: of a block.
        parts: of its depthwise convolution, norm, two Dense layers and scale.
        last: of the last norm.
    """

    stem: tuple[str, str]
    between: str
    block: str
    parts: tuple[str, ...]
    last: str

    def __call__(self, layer: str) -> str:
        if layer.endswith(("_stem_conv", "_stem_layernorm")):
            return self.stem[layer.endswith("layernorm")]
        between = re.search(r"downsampling_(layernorm|conv)_(\d)$", layer)
        if between:
            stage = int(between[2]) + 1
            return self.between.format(stage=stage, even=2 * stage, part=int(between[1] == "conv"))
        inside = re.search(r"stage_(\d+)_block_(\d+)_(\w+)$", layer)
        if not inside:
            return self.last
        stage = int(inside[1])
        block = self.block.format(stage=stage, odd=2 * stage + 1, block=inside[2])
        return f"{block}.{self.parts[_CONVNEXT_PARTS.index(inside[3])]}"


_CONVNEXT_PARTS = ("depthwise_conv", "layernorm", "pointwise_conv_1", "pointwise_conv_2", "layer_scale")
_CONVNEXT = (
    _ConvNeXt(  # torchvision
        ("features.0.0", "features.0.1"),
        "features.{even}.{part}",
        "features.{odd}.{block}",
        ("block.0", "block.2", "block.3", "block.5", "layer_scale"),
        "classifier.0",
    ),
    _ConvNeXt(  # as published
        ("downsample_layers.0.0", "downsample_layers.0.1"),
        "downsample_layers.{stage}.{part}",
        "stages.{stage}.{block}",
        ("dwconv", "norm", "pwconv1", "pwconv2", "gamma"),
        "norm",
    ),
    _ConvNeXt(  # timm
        ("stem.0", "stem.1"),
        "stages.{stage}.downsample.{part}",
        "stages.{stage}.blocks.{block}",
        ("conv_dw", "norm", "mlp.fc1", "mlp.fc2", "gamma"),
        "head.norm",
    ),
    _ConvNeXt(  # Hugging Face
        ("embeddings.patch_embeddings", "embeddings.layernorm"),
        "encoder.stages.{stage}.downsampling_layer.{part}",
        "encoder.stages.{stage}.layers.{block}",
        ("dwconv", "layernorm", "pwconv1", "pwconv2", "layer_scale_parameter"),
        "layernorm",
    ),
    _ConvNeXt(  # DINOv3 of Hugging Face
        ("stages.0.downsample_layers.0", "stages.0.downsample_layers.1"),
        "stages.{stage}.downsample_layers.{part}",
        "stages.{stage}.layers.{block}",
        ("depthwise_conv", "layer_norm", "pointwise_conv1", "pointwise_conv2", "gamma"),
        "layer_norm",
    ),
)


_TOKENS = {
    "class_token": "cls_token",
    "register_tokens": "register_tokens",
    "positions": "pos_embed",
    "norm1_scale": ".norm1.weight",
    "norm1_offset": ".norm1.bias",
    "qkv_kernel": ".attn.qkv.weight",
    "qkv_bias": ".attn.qkv.bias",
    "projection_kernel": ".attn.proj.weight",
    "projection_bias": ".attn.proj.bias",
    "scale1": ".ls1.gamma",
    "norm2_scale": ".norm2.weight",
    "norm2_offset": ".norm2.bias",
    "up_kernel": ".mlp.fc1.weight",
    "up_bias": ".mlp.fc1.bias",
    "down_kernel": ".mlp.fc2.weight",
    "down_bias": ".mlp.fc2.bias",
    "scale2": ".ls2.gamma",
}
"""Names of the weights of `TransformerBlock` and `TokenSequence` after the block's place, as `dino_names` has them."""


def _dino(layer: str) -> str:
    """patches -> patch_embed.proj, block_3 -> blocks.3; the tokens have names of their own."""
    if layer.startswith("block_"):
        return f"blocks.{layer.removeprefix('block_')}"
    return {"patches": "patch_embed.proj", "tokens": ""}.get(layer, layer)


def _places(trunk: str) -> tuple[Callable[[str], str], ...]:
    """The functions that map a layer's name to its place, one for each way to name the tensors of a trunk."""
    if trunk == "alexnet" or trunk in _VGG_BLOCKS:
        return (partial(numbered, trunk),)
    if trunk.startswith("torchresnet"):
        return (_resnet_torchvision, _resnet_children, _resnet_transformers)
    if trunk.startswith("cvnetresnet"):
        return (_resnet_cvnet,)
    if trunk.startswith("densenet"):
        return (_densenet, partial(_densenet, old=True))
    if trunk.startswith("dino"):
        return (_dino,)
    return _CONVNEXT if trunk.startswith("convnext") else ()

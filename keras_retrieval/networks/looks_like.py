"""Says what network a file of weights looks like, from the names and shapes of its tensors."""

import re
from collections.abc import Callable, Mapping

Shapes = Mapping[str, tuple[int, ...]]

_RESNETS: dict[tuple[tuple[int, ...], int], str] = {
    ((2, 2, 2, 2), 2): "ResNet18",
    ((3, 4, 6, 3), 2): "ResNet34",
    ((3, 4, 6, 3), 3): "ResNet50",
    ((3, 4, 23, 3), 3): "ResNet101",
    ((3, 8, 36, 3), 3): "ResNet152",
}
_VGGS = {8: "VGG11", 10: "VGG13", 13: "VGG16", 16: "VGG19"}
_DENSENETS: dict[tuple[int, ...], str] = {
    (6, 12, 24, 16): "DenseNet121",
    (6, 12, 36, 24): "DenseNet161",
    (6, 12, 32, 32): "DenseNet169",
    (6, 12, 48, 32): "DenseNet201",
}
_CONVNEXTS = {(3, 96): "ConvNeXt-T", (27, 96): "ConvNeXt-S", (27, 128): "ConvNeXt-B", (27, 192): "ConvNeXt-L"}


def looks_like(shapes: Shapes) -> str:
    """Recognises a network.

    Args:
        shapes: maps the names of tensors, as in torch or Keras, to their shapes.

    Returns:
        What it looks like, such as "a DINOv2 of width 384"; "" if it is not recognised.
    """
    names = list(shapes)
    if any(re.search(r"(^|\.)(exp_avg|momentum_buffer|exp_avg_sq)$", name) for name in names) and not any(
        name.endswith(("weight", "kernel", "kernel:0")) for name in names
    ):
        return "the state of an optimizer, without a network"
    kind = next(filter(None, (recognise(shapes) for recognise in _KINDS)), "")
    detector = _detector(names)
    if detector:
        return f"{detector} on {kind}" if kind else detector
    return kind


def _detector(names: list[str]) -> str:
    parts = {part for name in names for part in name.split(".")}
    if {"rpn", "roi_heads"} <= parts or {"proposal_generator", "roi_heads"} <= parts or "rpn_head" in parts:
        return "a detector (Faster R-CNN)"
    if "bbox_embed" in parts or {"transformer", "query_embed"} <= parts:
        return "a detector (DETR)"
    if any(re.search(r"(^|\.)model\.\d+\.(conv|cv1|m)\.", name) for name in names):
        return "a detector (YOLO)"
    return "a detector" if {"bbox_head", "classification_head"} & parts else ""


def _shape(shapes: Shapes, end: str) -> tuple[int, ...]:
    """The shape of the first tensor whose name ends so, with a dot or nothing in front."""
    return next((shape for name, shape in shapes.items() if name == end or name.endswith(f".{end}")), ())


def _count(shapes: Shapes, pattern: str) -> int:
    """One more than the largest number that a pattern finds; 0 without any."""
    found = [int(match[1]) for name in shapes if (match := re.search(pattern, name))]
    return max(found) + 1 if found else 0


def _dino(shapes: Shapes) -> str:
    width = _shape(shapes, "cls_token") or _shape(shapes, "embeddings.cls_token")
    if not width:
        return ""
    scaled = any(re.search(r"(ls1\.gamma|layer_scale1\.lambda1|gamma_1)$", name) for name in shapes)
    if _shape(shapes, "storage_tokens") or any("rope_embed" in name for name in shapes):
        return f"a DINOv3 of width {width[-1]}"
    registers = " with registers" if any(name.endswith("register_tokens") for name in shapes) else ""
    family = "a DINOv2" if scaled else "a vision transformer (ViT)"
    return f"{family} of width {width[-1]}{registers}"


def _transformer(shapes: Shapes) -> str:
    for end in ("visual.class_embedding", "vision_model.embeddings.class_embedding"):
        if _shape(shapes, end):
            return f"a CLIP whose image transformer has width {_shape(shapes, end)[-1]}"
    position = _shape(shapes, "vision_model.embeddings.position_embedding.weight")
    if position:
        return f"a SigLIP whose image transformer has width {position[-1]}"
    if _shape(shapes, "class_token"):
        return f"a vision transformer (torchvision's ViT) of width {_shape(shapes, 'class_token')[-1]}"
    if any(name.endswith("relative_position_bias_table") for name in shapes):
        return "a Swin Transformer"
    return ""


def _convnext(shapes: Shapes) -> str:
    stem = next(
        (
            shape
            for end in (
                "downsample_layers.0.0.weight",
                "stages.0.downsample_layers.0.weight",
                "stem.0.weight",
                "embeddings.patch_embeddings.weight",
            )
            if (shape := _shape(shapes, end))
        ),
        (),
    ) or (_shape(shapes, "features.0.0.weight") if any("layer_scale" in name for name in shapes) else ())
    depth = _count(shapes, r"stages\.2\.(?:blocks\.|layers\.)?(\d+)\.") or _count(shapes, r"features\.5\.(\d+)\.")
    if len(stem) != 4 or stem[2:] != (4, 4):
        return ""
    name = _CONVNEXTS.get((3 if depth <= 9 else 27, stem[0]), "")
    return f"a {name}" if name else f"a ConvNeXt of width {stem[0]}"


def _resnet(shapes: Shapes) -> str:
    for block in (r"layer{}\.(\d+)\.conv1\.weight$", r"(?:^|\.){}\.(\d+)\.conv1\.weight$"):
        start = 1 if block.startswith("layer") else 4
        counts = tuple(_count(shapes, block.format(stage)) for stage in range(start, start + 4))
        if min(counts) > 0:
            break
    else:
        stages = tuple(
            _count(shapes, rf"encoder\.stages\.{stage}\.layers\.(\d+)\.layer\.0\.convolution") for stage in range(4)
        )
        return f"a {_RESNETS.get((stages, 3), 'ResNet')} of Hugging Face" if min(stages) else ""
    parts = _count(shapes, r"\.\d+\.conv([123])\.weight$") - 1
    first = next((shape for name, shape in shapes.items() if re.search(r"\.0\.conv2\.weight$", name)), ())
    name = _RESNETS.get((counts, parts), f"ResNet of {'-'.join(map(str, counts))} blocks")
    if first and parts == 3 and first[0] != first[1]:
        return f"a ResNeXt ({name} with grouped convolutions)"
    wide = f" of width {first[0]} in place of 64" if first and first[0] != 64 else ""
    return f"a {name}{wide}"


def _vgg(shapes: Shapes) -> str:
    convolutions = [s for n, s in shapes.items() if re.search(r"(^|\.)\d+\.weight$", n) and len(s) == 4]
    norms = any(re.search(r"(^|\.)\d+\.running_mean$", name) for name in shapes)
    if convolutions and convolutions[0][2:] == (11, 11):
        return "an AlexNet"
    if any(shape[2:] != (3, 3) for shape in convolutions) or len(convolutions) not in _VGGS:
        return ""
    return f"a {_VGGS[len(convolutions)]}{' with batch normalisation' if norms else ''}"


def _densenet(shapes: Shapes) -> str:
    blocks = tuple(_count(shapes, rf"denseblock{block}\.denselayer(\d+)\.") - 1 for block in range(1, 5))
    return f"a {_DENSENETS.get(blocks, 'DenseNet')}" if min(blocks) > 0 else ""


def _mobile(shapes: Shapes) -> str:
    for part, name in (
        ("conv_stem.weight", "an EfficientNet or MobileNet of timm"),
        ("features.0.0.weight", "an EfficientNet, MobileNet or alike of torchvision"),
        ("Conv2d_1a_3x3.conv.weight", "an Inception"),
    ):
        if _shape(shapes, part):
            return name
    return ""


def _keras(shapes: Shapes) -> str:
    layers = {part for name in shapes for part in name.split("/")[:-1]}
    joined = {name.rpartition("/")[0].replace("/", "_") for name in shapes}
    every = layers | joined

    def last(pattern: str) -> int:
        found = [int(match[1]) for name in every if (match := re.search(pattern, name))]
        return max(found, default=0)

    torchs = tuple(last(rf"^(?:.*_)?layer{stage}_(\d+)_conv1$") + 1 for stage in range(1, 5))
    if "layer1_0_conv1" in every or any(name.endswith("_layer1_0_conv1") for name in every):
        return f"a torch{_RESNETS.get((torchs, 3), 'ResNet').lower()} of this package"
    last_block = last(r"block5_conv(\d)$")
    if last_block:
        return f"a {'VGG19' if last_block == 4 else 'VGG16'} of Keras"
    residual = tuple(last(rf"conv{stage}_block(\d+)_\d_conv$") for stage in range(2, 6))
    if residual[3] and last(r"conv2_block1_([0-9])_bn$") == 3:
        return f"a {_RESNETS.get((residual, 3), 'ResNet')} of Keras"
    if residual[3]:
        return f"a {_DENSENETS.get(residual, 'DenseNet')} of Keras"
    if any("_stage_0_block_0_depthwise_conv" in name for name in every):
        return f"a {next(name for name in every if '_stage_0_' in name).partition('_stage_')[0]} of Keras"
    if any(re.search(r"^block1a_project_conv$", name) for name in every):
        return "an EfficientNet of Keras"
    if any("expanded_conv" in name for name in every):
        return "a MobileNet of Keras"
    return "an AlexNet of this package" if {"conv1", "conv5"} <= every else ""


_KINDS: tuple[Callable[[Shapes], str], ...] = (
    _dino,
    _transformer,
    _convnext,
    _resnet,
    _densenet,
    _vgg,
    _mobile,
    _keras,
)

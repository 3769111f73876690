"""Recognises published networks by the names and shapes of their tensors, and rebuilds them.

The families are DINOv2 and DINOv3 (alone: the class token is the descriptor), SALAD, CliqueMining, MegaLoc, BoQ,
MixVPR, CosPlace, EigenPlaces, SuperGlobal and pytorch-NetVlad. The size of each network is that of its tensors.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.errors import ArgumentError
from keras_retrieval.inert_files.weights_file import StoredWeights

from .errors import ConversionError

Shapes = Mapping[str, tuple[int, ...]]

_RESNETS = {
    ((2, 2, 2, 2), 2): "torchresnet18",
    ((3, 4, 6, 3), 2): "torchresnet34",
    ((3, 4, 6), 3): "torchresnet50layer3",
    ((3, 4, 6, 3), 3): "torchresnet50",
    ((3, 4, 23, 3), 3): "torchresnet101",
    ((3, 8, 36, 3), 3): "torchresnet152",
}
_CONVNEXTS = {(9, 96): "convnexttiny", (27, 96): "convnextsmall", (27, 128): "convnextbase", (27, 192): "convnextlarge"}
_CLASSIFIER = re.compile(r"(^|\.)(head|classifier)\.(fc\.)?weight$")


@dataclass(frozen=True)
class Published:
    """What a file of weights contains.

    Attributes:
        pooling: the name of the pooling, as `keras_retrieval.build` takes it.
        options: the options of the pooling.
    """

    pooling: str
    options: dict[str, Any] = field(default_factory=dict)


def to_keras(stored: StoredWeights, path: Path) -> Any:
    """Builds the published network whose weights a file contains.

    Args:
        stored: the weights of the file.
        path: the file, for messages.

    Returns:
        A keras.Model like those that `keras_retrieval.build` returns; None if the file is not of a family that this
        module recognises.

    Raises:
        ConversionError: the file is of such a family, and a tensor is missing, has a wrong shape or is not finite, or
            belongs to no layer.
    """
    from keras_retrieval.layers.initial_values import replaced_by_a_file
    from keras_retrieval.networks.dino_names import dino_names

    shapes = {name: np.shape(array) for name, array in dino_names(stored.tensors).tensors.items()}
    found = _recognised(shapes)
    if found is None:
        return None
    try:
        with replaced_by_a_file():
            return _assembled(found, shapes, stored, path)
    except ArgumentError as error:
        raise ConversionError(str(error)) from error


def _assembled(found: Published, shapes: Shapes, stored: StoredWeights, path: Path) -> Any:
    from keras_retrieval import layers
    from keras_retrieval.networks.backbones import BACKBONES
    from keras_retrieval.networks.build import FRONT_ENDS, POOLINGS, assemble, move_last_norm
    from keras_retrieval.networks.errors import WeightsError
    from keras_retrieval.networks.weights import fill_pooling, fill_trunk

    trunk = _trunk(found, shapes)
    pooling = POOLINGS[found.pooling](name="pooling", dtype="float32", **found.options)
    pixels = BACKBONES[trunk.name].normalization if trunk.name in BACKBONES else "torch"
    pixels = pixels if pixels in ("torch-bgr", "none") else "torch"
    front = [layers.PixelNormalization.of(pixels, name="normalization")]
    whole = trunk
    if found.pooling in FRONT_ENDS:
        front, trunk = FRONT_ENDS[found.pooling](trunk, pixels)
    try:
        fill_trunk(whole, stored, path)
        model = assemble(f"{trunk.name}_{found.pooling}", front, trunk, pooling)
        move_last_norm(whole, pooling)
        filled = fill_pooling(pooling, stored, path)
    except WeightsError as error:
        raise ConversionError(str(error).removeprefix(f"{path} ")) from error
    if not filled and found.pooling not in ("cls", "spocnorm"):
        raise ConversionError(f"it has no weights of the pooling {found.pooling}")
    return model


def _recognised(shapes: Shapes) -> Published | None:
    """The pooling of a network by the tensors that only it has."""

    def start(end: str) -> str | None:
        name = next((name for name in shapes if name == end or name.endswith(f".{end}")), None)
        return None if name is None else name.removesuffix(end)

    def size(end: str, axis: int = 0) -> int:
        name = next((name for name in shapes if name == end or name.endswith(f".{end}")), "")
        shape = shapes.get(name, ())
        if len(shape) <= axis:
            raise ConversionError(f"it has no tensor {end!r} of a network of its family")
        return int(shape[axis])

    if start("dust_bin") is not None:
        options = {
            "clusters": size("score.3.weight"),
            "features": size("cluster_features.3.weight"),
            "token": size("token_features.2.weight"),
            "hidden": size("score.0.weight"),
        }
        whole = start("agg.dust_bin") is not None
        return Published(
            "megaloc" if whole else "salad", options | ({"projection": size("linear.weight")} if whole else {})
        )
    if start("boqs.0.queries") is not None:
        blocks = len({name for name in shapes if re.search(r"(^|\.)boqs\.\d+\.queries$", name)})
        return Published(
            "boq",
            {
                "width": size("proj_c.weight"),
                "queries": size("boqs.0.queries", 1),
                "blocks": blocks,
                "rows": size("fc.weight"),
            },
        )
    if start("channel_proj.weight") is not None and start("row_proj.weight") is not None:
        mixers = len({name for name in shapes if re.search(r"(^|\.)mix\.\d+\.mix\.0\.weight$", name)})
        if size("row_proj.weight", 1) != 400:
            raise ConversionError("it is a MixVPR of another size of photos than 320 x 320")
        return Published(
            "mixvpr", {"channels": size("channel_proj.weight"), "rows": size("row_proj.weight"), "mixers": mixers}
        )
    if start("stem.conv.weight") is not None and start("head.fc.weight") is not None:
        return Published("superglobal", {"units": size("head.fc.weight")})
    if start("aggregation.1.p") is not None:
        return Published("cosplace", {"units": size("aggregation.3.weight")})
    if start("pool.centroids") is not None and start("pool.conv.weight") is not None:
        return Published("netvlad", {"clusters": size("pool.centroids")})
    if start("patch_embed.proj.weight") is not None:
        return Published("cls")
    return Published("spocnorm") if _convnext(shapes) and not any(map(_CLASSIFIER.search, shapes)) else None


def _trunk(found: Published, shapes: Shapes) -> Any:
    from keras_retrieval.networks.backbones import BACKBONES
    from keras_retrieval.networks.build import for_pooling, trunk_for

    starts = _dino_starts(shapes)
    if starts:
        if len(starts) > 1:
            names = ", ".join(map(repr, starts))
            raise ConversionError(
                f"it has several vision transformers, {names}: choose one with `keras-retrieval build --weights-prefix`"
            )
        return for_pooling(_transformer(shapes, starts[0]), found.pooling)
    name = convolutional(shapes)
    if name not in BACKBONES:
        raise ConversionError(f"its trunk, {name or 'which is not recognised'}, is not one of this package")
    return trunk_for(name, found.pooling)


def _dino_starts(shapes: Shapes) -> list[str]:
    end = "patch_embed.proj.weight"
    return [name.removesuffix(end) for name in shapes if name == end or name.endswith(f".{end}")]


def _transformer(shapes: Shapes, start: str) -> Any:
    """A vision transformer of the size of the tensors, with the name that it has in `build` if it has one."""
    from keras_retrieval.networks.backbones import TRANSFORMERS
    from keras_retrieval.networks.transformer_shapes import Shape
    from keras_retrieval.networks.vision_transformer import vision_transformer

    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        found = shapes.get(start + name, ())
        if len(found) != dimensions:
            raise ConversionError(f"it has no tensor {start + name!r} of {dimensions} dimensions")
        return found

    width, _, patch, _ = shape("patch_embed.proj.weight", 4)
    numbers = [re.match(rf"{re.escape(start)}blocks\.(\d+)\.", name) for name in shapes]
    depth = max((int(number[1]) + 1 for number in numbers if number), default=0)
    up, down = shape("blocks.0.mlp.fc1.weight", 2), shape("blocks.0.mlp.fc2.weight", 2)
    if "blocks.0.ls1.gamma" not in {name.removeprefix(start) for name in shapes}:
        raise ConversionError("it is a vision transformer without layer scale, neither a DINOv2 nor a DINOv3")
    positions = shapes.get(f"{start}pos_embed", (1, 1))
    grid = math.isqrt(positions[1] - 1)
    registers = shapes.get(f"{start}register_tokens", (1, 0))[1]
    if not grid and not registers:
        raise ConversionError(f"it has no tensor {start + 'pos_embed'!r}, the positions of a DINOv2")
    periods = shapes.get(f"{start}rope_embed.periods", ())
    made = Shape(
        width,
        depth,
        down[1],
        patch,
        grid,
        registers,
        gated=up[0] == 2 * down[1],
        interpolation="antialias" if registers and grid else "offset",
        heads=width // (4 * periods[0]) if periods and 4 * periods[0] != 64 else 0,
    )
    if grid**2 != positions[1] - 1 or width % 64:
        raise ConversionError(f"its positions are not a square grid, or its width {width} is not a multiple of 64")
    name = next((name for name, known in TRANSFORMERS.items() if known == made), "dinov2" if grid else "dinov3")
    return vision_transformer(made, name)


def _convnext(shapes: Shapes) -> str:
    """The name of a ConvNeXt under the names of DINOv3's code or of Hugging Face's, or a description; "" for others."""
    for stem, block in (
        (r"(^|\.)downsample_layers\.0\.0\.weight$", r"(?:^|\.)stages\.2\.(\d+)\.dwconv\.weight$"),
        (
            r"(^|\.)stages\.0\.downsample_layers\.0\.weight$",
            r"(?:^|\.)stages\.2\.layers\.(\d+)\.depthwise_conv\.weight$",
        ),
    ):
        width = next((shape[0] for name, shape in shapes.items() if re.search(stem, name) and len(shape) == 4), 0)
        blocks = [int(match[1]) + 1 for name in shapes if (match := re.search(block, name))]
        if width and blocks:
            return _CONVNEXTS.get((max(blocks), width), f"a ConvNeXt of width {width}")
    return ""


def convolutional(shapes: Shapes) -> str:
    """Returns the name of a ResNet, a ConvNeXt, a VGG16 or an AlexNet by the names and shapes of its tensors.

    Returns:
        The name in `keras_retrieval.build`; "" or a description if it is none of them.
    """
    cvnet = tuple(
        max(
            (int(match[1]) for name in shapes if (match := re.search(rf"(?:^|\.)s{stage}\.b(\d+)\.f\.a\.", name))),
            default=0,
        )
        for stage in range(1, 5)
    )
    if all(cvnet):
        return _RESNETS.get((cvnet, 3), "a ResNet of CVNet").replace("torchresnet", "cvnetresnet")
    for place in (r"(?:^|\.)layer{}\.(\d+)\.conv(\d)\.weight$", r"(?:^|\.){}\.(\d+)\.conv(\d)\.weight$"):
        first = 1 if "layer" in place else 4
        blocks: list[int] = []
        parts = 0
        for stage in range(first, first + 4):
            found = [match for name in shapes if (match := re.search(place.format(stage), name))]
            if not found:
                break
            blocks.append(max(int(match[1]) for match in found) + 1)
            parts = max(parts, *(int(match[2]) for match in found))
        if blocks:
            return _RESNETS.get((tuple(blocks), parts), f"a ResNet of {'-'.join(map(str, blocks))} blocks")
    if named := _convnext(shapes):
        return named
    kernels = [shape for name, shape in shapes.items() if re.search(r"\.\d+\.weight$", name) and len(shape) == 4]
    kernels = [shape for shape in kernels if shape[2] > 1]
    if len(kernels) == 13 and kernels[0] == (64, 3, 3, 3):
        return "vgg16"
    return "alexnet" if len(kernels) == 5 and kernels[0] == (64, 3, 11, 11) else ""

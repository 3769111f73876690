"""Checks the names of networks without importing Keras, which takes seconds."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..errors import ArgumentError
from .backbones import BACKBONES
from .published_files import FILES, nearest, require_file

POOLING_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "mac": (),
    "spoc": (),
    "gem": ("p", "per_channel", "trainable_p", "epsilon", "p_speed"),
    "gemmp": ("p", "per_channel", "trainable_p", "epsilon", "p_speed"),
    "rmac": ("levels", "whole_map", "regions", "proposals", "anchors", "regional_whitening", "regional_dim"),
    "rgem": ("p", "trainable_p", "p_speed", "levels", "whole_map"),
    "netvlad": ("clusters",),
    "edgemac": (),
    "cls": ("mean",),
    "cls+mean": ("mean",),
    "salad": ("clusters", "features", "token", "hidden", "projection", "iterations"),
    "megaloc": ("clusters", "features", "token", "hidden", "projection", "iterations"),
    "boq": ("width", "queries", "blocks", "rows"),
    "mixvpr": ("channels", "rows", "mixers"),
    "cosplace": ("units", "p", "trainable_p", "p_speed"),
    "superglobal": ("units", "p", "regional_p"),
    "spocnorm": ("epsilon",),
}
"""The names of the poolings, and of the options that `build` accepts for each. `build.POOLINGS` makes their layers."""


NETWORKS: Mapping[str, tuple[str, Mapping[str, int]]] = {
    "megaloc": ("dinov2vitb14_megaloc", {}),
    "salad": ("dinov2vitb14_salad", {}),
    "cliquemining": ("dinov2vitb14_salad", {}),
    "boq": ("dinov2vitb14_boq", {}),
    "boq-resnet50": ("torchresnet50layer3_boq", {"width": 512}),
    "mixvpr": ("torchresnet50layer3_mixvpr", {}),
    "superglobal": ("cvnetresnet50_superglobal", {}),
    "superglobal-resnet101": ("cvnetresnet101_superglobal", {}),
    **{
        f"{family}{end}": (f"{trunk}_cosplace", {"units": units})
        for family in ("cosplace", "eigenplaces")
        for end, trunk, units in (
            ("", "torchresnet50", 2048),
            ("-resnet18", "torchresnet18", 512),
            ("-resnet101", "torchresnet101", 2048),
            ("-vgg16", "vgg16", 512),
        )
    },
    **{f"dinov3convnext{size}": (f"convnext{size}_spocnorm", {}) for size in ("tiny", "small", "base", "large")},
}
"""Names of published networks, with their trunk and pooling and the options of the pooling."""

CLASS_TOKEN = ("cls", "cls+mean", "salad", "megaloc")
"""The poolings that take the class token, which only vision transformers have."""


def split_name(name: str) -> tuple[str, str]:
    """Splits the name of a network into those of its trunk and its pooling.

    Args:
        name: `<backbone>_<pooling>`, such as "vgg16_gem", or a published network, a key of `NETWORKS`.

    Raises:
        ArgumentError: the trunk or the pooling is unknown, and the message suggests a similar one; or the pooling
            cannot be used with the trunk.
    """
    if "_" not in name and name not in NETWORKS:
        if name in BACKBONES:
            raise ArgumentError(f"'{name}' is a trunk: a network's name is BACKBONE_POOLING, such as {name}_gem")
        near = next(iter(difflib.get_close_matches(name, NETWORKS, 1)), "") or nearest(name)
        hint = f" The nearest is '{near}'." if near else ""
        raise ArgumentError(
            f"unknown network '{name}'.{hint} A name is BACKBONE_POOLING, such as vgg16_gem, or a published network: "
            f"{', '.join(NETWORKS)}."
        )
    pair = NETWORKS[name][0] if name in NETWORKS else name
    backbone, _, pooling = pair.rpartition("_")
    backbone, pooling = _known("backbone", backbone, BACKBONES, name), _known("pooling", pooling, POOLING_OPTIONS, name)
    if reason := misfit(backbone, pooling):
        raise ArgumentError(f"the pooling '{pooling}' does not go with '{backbone}': it {reason}")
    return backbone, pooling


def misfit(backbone: str, pooling: str) -> str:
    """Returns why a pooling cannot be used with a trunk, both by name; "" if it can."""
    if pooling in CLASS_TOKEN and not BACKBONES[backbone].transformer:
        return "needs a class token, which only vision transformers have"
    if pooling == "spocnorm" and not backbone.startswith("convnext"):
        return "needs a last layer normalisation behind the mean, which only the convnext trunks have"
    if pooling == "edgemac" and BACKBONES[backbone].transformer:
        return "takes edge maps, for which the trunk must be convolutional"
    return ""


def published_file(name: str) -> Path | None:
    """Finds the published file from which a network is made that is given by its name alone.

    Args:
        name: `<backbone>_<pooling>`, such as "dinov2vits14_cls", or a published network, such as "megaloc".

    Returns:
        The file of the network, or of its trunk, in the weights folder; None for a trunk of which Keras has ImageNet
        weights.

    Raises:
        ArgumentError: the name is unknown, or neither Keras nor the table of published files has its weights.
        WeightsNotFoundError: the weights folder has no such file; the message says how to get it.
    """
    backbone, _ = split_name(name)
    if name in NETWORKS and name in FILES:
        return require_file([name], name)
    if BACKBONES[backbone].published:
        return None
    same = [network for network, (pair, _) in NETWORKS.items() if pair == name and network in FILES]
    if same:
        return require_file(same, name)
    if backbone in FILES:
        return require_file([backbone], name)
    require_published(backbone)
    return None


def is_published_network(name: str) -> bool:
    """Returns whether a name is that of a network whose published file contains its pooling, too."""
    return name in NETWORKS or (name in FILES and name not in BACKBONES)


def check_weights(name: str) -> None:
    """Checks that a network can be made by its name alone: from a published file, or with Keras' ImageNet weights.

    Args:
        name: as for `published_file`, or a published file that `convert` reads, such as "gl18-tl-resnet101-gem-w".

    Raises:
        ArgumentError, WeightsNotFoundError: as for `published_file`.
    """
    if name in FILES and FILES[name].publisher.convert:
        require_file([name], name)
    else:
        published_file(name)


def require_published(backbone: str) -> None:
    """Raises ArgumentError if Keras has no ImageNet weights of a trunk, a key of `BACKBONES`."""
    if not BACKBONES[backbone].published:
        raise ArgumentError(
            f"Keras has no ImageNet weights of {backbone}: build it with weights=None (random) or the path of a file"
        )


def _known(kind: str, part: str, table: Iterable[str], name: str) -> str:
    known = list(table)
    if part in known:
        return part
    near = difflib.get_close_matches(part, known, 1, 0.4)
    hint = f" The nearest is '{near[0]}'." if near else ""
    raise ArgumentError(f"unknown {kind} '{part}' in '{name}'.{hint} Known: {', '.join(known)}.")

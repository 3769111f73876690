"""Checks the names of networks without importing Keras, which takes seconds."""

import difflib
from collections.abc import Iterable, Mapping

from ..errors import ArgumentError
from .backbones import BACKBONES

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
}
"""The names of the poolings, and of the options that `build` accepts for each. `build.POOLINGS` makes their layers."""


NETWORKS: Mapping[str, tuple[str, Mapping[str, int]]] = {
    "megaloc": ("dinov2vitb14_megaloc", {}),
    "salad": ("dinov2vitb14_salad", {}),
    "cliquemining": ("dinov2vitb14_salad", {}),
    "boq": ("dinov2vitb14_boq", {}),
    "mixvpr": ("torchresnet50layer3_mixvpr", {}),
    "superglobal": ("cvnetresnet50_superglobal", {}),
    "cosplace": ("torchresnet50_cosplace", {"units": 2048}),
    "eigenplaces": ("torchresnet50_cosplace", {"units": 2048}),
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
        near = difflib.get_close_matches(name, NETWORKS, 1)
        hint = f" The nearest is '{near[0]}'." if near else ""
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
    if pooling == "edgemac" and BACKBONES[backbone].transformer:
        return "takes edge maps, for which the trunk must be convolutional"
    return ""


def check_imagenet(name: str) -> None:
    """Checks that a network can be built by its name alone, with the ImageNet weights of its trunk.

    Args:
        name: `<backbone>_<pooling>`, such as "vgg16_gem".

    Raises:
        ArgumentError: the trunk or the pooling is unknown, or Keras has no ImageNet weights of the trunk.
    """
    require_published(split_name(name)[0])


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

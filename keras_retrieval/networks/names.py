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
}
"""The names of the poolings, and of the options that `build` accepts for each. `build.POOLINGS` makes their layers."""


def split_name(name: str) -> tuple[str, str]:
    """Splits the name of a network into those of its trunk and its pooling.

    Args:
        name: `<backbone>_<pooling>`, such as "vgg16_gem".

    Raises:
        ArgumentError: the trunk or the pooling is unknown; the message suggests a similar one.
    """
    backbone, _, pooling = name.rpartition("_")
    return _known("backbone", backbone, BACKBONES, name), _known("pooling", pooling, POOLING_OPTIONS, name)


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

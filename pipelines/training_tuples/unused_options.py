"""Refuses options of `tuples` that have no effect on the source, so that nobody takes them for applied."""

from collections.abc import Collection

from ..files.remote import named
from .data import TuplesError
from .options import TuplesOptions

_NEEDED = {
    ("rule", "cameras", "shared", "scale_change", "descriptors"): ("3D models", "leave it out"),
    ("singletons",): ("a folder that reconstruct made", "leave it out"),
    ("positions",): ("a folder of photos as SOURCE", "leave it out"),
    ("heading", "radius", "apart", "cells"): ("positions", "add --positions exif, or give a table"),
    ("neighbours", "loose", "alike", "unlike", "anchors"): ("a folder of descriptors and --manifold", "leave it out"),
    ("objects",): ("photos in folders", "leave it out"),
    ("positives",): ("a source of which positives are chosen", "leave it out"),
}
MODELS, RECONSTRUCTION, _, POSITIONS, MANIFOLDS, OBJECTS, POSITIVES = map(frozenset, _NEEDED)
"""The options that have an effect on sources of one kind; those of `POSITIONS` also without --positions."""


def refuse_unused(options: TuplesOptions, kind: str, *used: Collection[str]) -> None:
    """Checks that no option is given that has no effect on the source.

    Args:
        options: the options of `tuples`.
        kind: what the source contains, for the message.
        *used: the options that have an effect on it, of those that only some sources use.

    Raises:
        TuplesError: an option that is not one of `used` differs from its default.
    """
    for names, (needed, fix) in _NEEDED.items():
        for name in names:
            if not any(name in some for some in used) and options.is_given(name):
                label = name.replace("_", "-")
                raise TuplesError(f"--{label} needs {needed}, and {named(options.source)} contains {kind}: {fix}")

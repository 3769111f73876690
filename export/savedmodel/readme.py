"""Makes the README.txt of an exported version, which describes the version to people who find its folder."""

from collections.abc import Mapping
from typing import Any

from ..contract import signatures
from .check import COSINE, COSINE_AT_SIZE

WEBP = "The graph reads WebP, so TensorFlow 2.19 and earlier cannot load it: export with --no-webp for them."


def readme(name: str, facts: Mapping[str, Any]) -> str:
    """Makes the text of README.txt: the version's metadata, its signatures and its status codes.

    Args:
        name: name of the model.
        facts: entries of the version's manifest, each of which becomes one line.
    """
    lines = [f"{key.replace('_', ' '):16}{value}" for key, value in facts.items()]
    codes = [f"  {code}  {reason}" for code, reason in {signatures.OK: "described", **signatures.REASONS}.items()]
    return "\n".join(
        [
            f"{name}: a visual search network for TensorFlow Serving",
            "",
            *lines,
            "",
            "Photos are turned by their EXIF orientation, shrunk to `size` (longest side, Lanczos) and never enlarged.",
            "Before this folder was published, descriptors that it computes from files were compared with Keras':",
            f"cosine similarity at least {COSINE}, and at least {COSINE_AT_SIZE} for photos that are not shrunk.",
            "",
            (signatures.__doc__ or "").strip(),
            "",
            *([WEBP, ""] if facts.get("webp") else []),
            f"Codes of {signatures.STATUS}; the row of a photo without a descriptor is zero:",
            *codes,
            "",
        ]
    )

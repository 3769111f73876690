"""The manifest of a version of a served network: its kind and format version, and a check that it matches an index."""

from collections.abc import Mapping
from typing import Any

KIND, VERSION = "served network", 1


def mismatch(version: Mapping[str, Any], index: Mapping[str, Any]) -> str:
    """Lists the reasons why the descriptors of a version of a network cannot be searched for in an index.

    Args:
        version: manifest of the version, the JSON object in its manifest.json.
        index: metadata of the index, `NeighbourIndex.facts`.

    Returns:
        The reasons, separated by commas; the empty string if the index can be searched with these descriptors.
    """
    reasons = [
        f"its {key} is {version.get(key, False)}, the index's {index.get(key, False)}"
        for key in ("size", "scales", "antialias", "mirror")
        if version.get(key, False) != index.get(key, False)
    ]
    if index.get("edges"):
        reasons.append("the index is of edge maps, which a version does not compute from photos: search in the shell")
    if any(version["model"].get(key) != index["model"].get(key) for key in ("sha256", "name")):
        reasons.insert(0, "it is another network")
    if not index["exif"]:
        reasons.append("the index's photos were not turned by their EXIF orientation")
    return ", ".join(reasons)

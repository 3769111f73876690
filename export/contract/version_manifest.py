"""The manifest of an exported version, and its comparison with the facts of an index."""

from collections.abc import Mapping
from typing import Any

KIND, VERSION = "served network", 1


def mismatch(served: Mapping[str, Any], indexed: Mapping[str, Any]) -> str:
    """The differences between an exported network and the one that an index was made with; "" if there are none.

    Args:
        served: the manifest of the version.
        indexed: the facts of the index.
    """
    found = [
        f"its {key} is {served.get(key, False)}, the index's {indexed.get(key, False)}"
        for key in ("size", "scales", "antialias", "mirror")
        if served.get(key, False) != indexed.get(key, False)
    ]
    if indexed.get("edges"):
        found.append("the index is of edge maps, which a version does not compute from photos")
    if any(served["model"].get(key) != indexed["model"].get(key) for key in ("sha256", "name")):
        found.insert(0, "it is another network")
    if not indexed["exif"]:
        found.append("the index's photos were not turned by their EXIF orientation")
    return ", ".join(found)

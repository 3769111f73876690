"""version_manifest."""

from collections.abc import Mapping
from typing import Any

KIND, VERSION = "served network", 1


def differs(served: Mapping[str, Any], indexed: Mapping[str, Any]) -> str:
    """What tells the network of a version from the one that an index was made with; "" if nothing does.

    Args:
        served: the version's manifest.
        indexed: `facts` of the index.
    """
    told = [
        f"its {key} is {served.get(key, False)}, the index's {indexed.get(key, False)}"
        for key in ("size", "scales", "antialias", "mirror")
        if served.get(key, False) != indexed.get(key, False)
    ]
    if indexed.get("edges"):
        told.append("the index is one of edge maps, which a version does not make of photos: search in the shell")
    if any(served["model"].get(key) != indexed["model"].get(key) for key in ("sha256", "name")):
        told.insert(0, "it is another network")
    if not indexed["exif"]:
        told.append("the index's photos were not turned as EXIF says")
    return ", ".join(told)

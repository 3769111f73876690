"""Describes photos with the network and the settings with which the photos of an index were described."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_retrieval.pipelines.descriptors.extraction import extract_descriptors
from keras_retrieval.pipelines.descriptors.options import ExtractOptions


def describe_alike(
    facts: Mapping[str, Any],
    local: Mapping[str, Any] | None,
    photos: Path,
    output: Path,
    model: str | None,
    **options: Any,
) -> Path:
    """Writes descriptors of photos that can be added to an index, or compared with it; a killed run is continued.

    Args:
        facts: the settings of the descriptors of the index, `NeighbourIndex.facts`.
        local: the facts of the index's local features; None for no local features.
        photos: folder of the photos, or its address as a path.
        output: folder of descriptors to write; one of other photos or settings is replaced.
        model: path or name of the network of the index; None for the path that the index states.
        **options: further options of `extract`, such as `engine`.

    Raises:
        PhotoFolderError: no photo can be read.
        RemoteError: the storage of an address does not answer, or refuses.
        ArgumentError: an option is out of range.
        ValueError: the network cannot be loaded.
    """
    options |= {
        "size": facts["size"],
        "scales": ",".join(f"{scale:.17g}" for scale in facts["scales"]),
        "antialias": facts["antialias"],
        "mirror": facts.get("mirror", False),
        "edges": facts.get("edges", ""),
        "precision": "bfloat16" if facts["bfloat16"] else "float32",
        "exif": facts["exif"],
        "max_pixels": facts["max_pixels"],
        "crops": ",".join(map(str, facts.get("crops", []))),
    }
    if local is not None:
        options |= {
            "local": local["extractor"].get("path", "xfeat"),
            "local_features": local["features"],
            "local_size": local["size"],
            "local_storage": local["storage"],
        }
    network = model or facts["model"].get("path") or facts["model"]["name"]
    return extract_descriptors(ExtractOptions(network, photos, output, replace=True, **options))

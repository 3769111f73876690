"""Computes descriptors of query photos with the network and the settings that were used for other photos."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.errors import ArgumentError

from ..command.kinds import PathError
from ..networks.files import load_model, model_identity, smallest_side
from ..photos.edges import SKETCH
from ..photos.intake import list_photos
from ..photos.query_box import Box
from ..photos.reader import PhotoError, read_photo
from ..photos.reading import Reading
from ..photos.sketches import is_sketch
from ..runtimes.options import RUNTIME
from ..runtimes.switching import expect
from .describer import Runtime, describe_photos, describer

SKETCH_SIZE = 256  # longest side in pixels to which a query is shrunk before the detection of sketches


def list_queries(queries: Sequence[Path]) -> list[Path]:
    """Lists the query photos: the given files, and all photos in the given folders and their sub-folders.

    Args:
        queries: paths of photo files and of folders.

    Raises:
        PathError: a path does not exist.
    """
    paths: list[Path] = []
    for query in queries:
        if not query.exists():
            raise PathError(f"there is no query photo at {query}")
        paths += [query / name for name in list_photos(query)] if query.is_dir() else [query]
    return paths


def describe_queries(
    facts: Mapping[str, Any],
    paths: Sequence[Path],
    model: str | None,
    box: Box | None,
    sketch: bool | None,
    runtime: str = RUNTIME,
    *,
    option: str = "--model",
    described: str = "index",
    again: str = "index again",
) -> tuple[dict[Path, np.ndarray], dict[Path, str]]:
    """Computes descriptors of query photos with the network and the settings of an index or of other descriptors.

    Args:
        facts: metadata of the index, `NeighbourIndex.facts`, or the manifest of a folder of descriptors.
        paths: paths of the query photos.
        model: path or name of the network; None for the path or name in `facts`.
        box: part of each photo to describe, as left, top, right, bottom in pixels of the upright photo; None for the
            whole photo.
        sketch: for an index of edge maps, whether the queries are line drawings, which are used without edge detection;
            None to detect this for each query. Must not be True for an index of photos.
        runtime: the value of the option `--runtime`.
        option: the option that names the network, for error messages.
        described: what was made with the network, for error messages.
        again: how to make that anew, for error messages.

    Returns:
        Two dicts. The first maps the path of each described query to its descriptor (D,), in the order of `paths`. The
        second maps the path of each query without a descriptor to the reason.

    Raises:
        ArgumentError: the network is missing, is not the network of the index, or `sketch` is True for an index of
            photos.
    """
    name = _network_name(facts, model, option, described, again)
    network, scales = load_model(name), tuple(facts["scales"])
    smallest = smallest_side(network, scales)
    reading = Reading(Path(), facts["size"], facts["exif"], facts["max_pixels"], smallest, facts.get("edges", ""))
    readings, shapes, left_out = {}, [], {}
    for path in dict.fromkeys(paths):
        try:
            readings[path] = _reading_of(reading, path, sketch)
            shapes.append((readings[path].shape(str(path), box), path))
        except PhotoError as error:
            left_out[path] = error.reason
    shapes.sort()
    one = Runtime(runtime, name)
    describe = describer(network, scales, facts["bfloat16"], facts["antialias"], facts.get("mirror", False), one)
    expect(describe, [shape for shape, _ in shapes])
    rows: dict[Path, np.ndarray] = {}
    for batch in describe_photos(describe, shapes, lambda path: readings[path].read(str(path), box)):
        rows |= dict(zip(batch.keys, batch.rows, strict=True))
        left_out |= batch.left_out
    return {path: rows[path] for path in paths if path in rows}, left_out


def _network_name(facts: Mapping[str, Any], model: str | None, option: str, described: str, again: str) -> str:
    """Returns the path or name of the network of an index, after checking that it is the same network."""
    expected = facts["model"]
    name = model or expected.get("path") or expected["name"]
    identity = model_identity(name)
    if name == expected.get("path") and "sha256" not in identity:
        raise ArgumentError(f"the {described}'s network is no longer at {name}: pass its path with {option}")
    if any(identity.get(key) != expected.get(key) for key in ("sha256", "name")):
        raise ArgumentError(
            f"{name} is not the network that the {described} was made with: pass that with {option}, or {again}"
        )
    return name


def _reading_of(reading: Reading, path: Path, sketch: bool | None) -> Reading:
    """Returns the settings for reading a query: those of the photos of the index, or those for a sketch."""
    if not reading.edges:
        if sketch:
            raise ArgumentError(
                "--sketch needs an index of edge maps, this one is of photos: extract with --edges sobel, index again"
            )
        return reading
    drawn = is_sketch(read_photo(path, size=SKETCH_SIZE, exif=reading.exif)) if sketch is None else sketch
    return replace(reading, edges=SKETCH) if drawn else reading

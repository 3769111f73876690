"""What `evaluate` scores: a collection's photos ranked for its queries, by whatever ranks them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.ranking.methods import Ranker, Step
from keras_retrieval.ranking.rows import count_rows

from ..descriptors.describer import parse_scales
from ..files.progress import progress
from ..networks.files import model_identity
from ..photos.reader import Crop
from .collection import Options, describe_collection
from .ground_truth import GroundTruth

DEPTHS = {"ns": 100, "recall": 1000}
"""How deep a ranking is kept for the protocols that look at its head; the others see all of it, within `PLACES`."""

PLACES = 2**27  # kept over all queries: 70 queries may have rankings of 1,900,000 photos; deeper is never found


@dataclass(frozen=True)
class Ranking:
    """Photos ranked for the queries of a collection.

    Attributes:
        ranks: (depth, queries) rows of the ground truth's database, best first; rows past it are distractors.
        boxes: per query the part of its photo that was searched with, in its pixels, or None.
        query: the file of a query's photo.
        photo: the file of a row.
        left_out: photos of the database that could not be read, with reasons; they are never found.
        by: in words, what ranked them.
        facts: what results.json says of it, JSON-able.
        exif: photos were turned as their EXIF says.
    """

    ranks: np.ndarray
    boxes: Sequence[Crop | None]
    query: Callable[[int], Path]
    photo: Callable[[int], Path]
    left_out: dict[str, str]
    by: list[str]
    facts: dict[str, Any]
    exif: bool = True


def depth_of(truth: GroundTruth) -> int:
    """How many photos of a ranking are kept."""
    return DEPTHS.get(truth.protocol, max(1000, PLACES // len(truth.queries)))


def by_descriptors(
    truth: GroundTruth,
    photos: Path,
    distractors: Path | None,
    output: Path,
    options: Options,
    steps: Sequence[Step],
    *,
    replace: bool,
) -> Ranking:
    """Ranks by a network's descriptors and methods at query time; for the errors see `describe_collection`."""
    collection = describe_collection(truth, photos, distractors, output, options, replace=replace)
    ranker = Ranker(collection.database, steps, progress)
    started = time.monotonic()
    indexes, _ = ranker.rank(collection.queries, depth_of(truth))
    milliseconds = round(1000 * (time.monotonic() - started) / len(truth.queries), 3)
    identity, scales = model_identity(options.model), parse_scales(options.scales)
    facts = {
        "model": identity,
        "size": options.size,
        "scales": list(scales),
        "precision": options.precision,
        "exif": options.exif,
        "mirror": options.mirror,
        "edges": options.edges,
        "rerank": [str(step) for step in steps],
        "distractors": count_rows(collection.distractors),
        "milliseconds_per_query": milliseconds,
        "bytes_per_photo": collection.rows.itemsize * collection.rows.shape[1],
    }
    by = [
        f"{Path(identity.get('path') or identity['name']).name} at {options.size} px, scales "
        f"{', '.join(f'{scale:g}' for scale in scales)}",
        f"search: {', '.join(facts['rerank']) or 'exact, nothing more'}",
    ]
    if options.edges:
        by.append(f"edge maps: {options.edges}")
    if facts["distractors"]:
        by.append(f"with {facts['distractors']:,} distractors")
    return Ranking(
        collection.ranks(indexes), collection.boxes, lambda query: photos / truth.queries[query], collection.photo,
        collection.left_out, by, facts, options.exif,
    )  # fmt: skip

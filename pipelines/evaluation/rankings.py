"""Ranks the photos of a collection for each query by descriptors, for the step `evaluate`."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.ranking.grouped import nearest_groups
from keras_retrieval.ranking.methods import Ranker, Step
from keras_retrieval.ranking.rows import first_rows

from ..descriptors.options import ExtractOptions
from ..files.progress import progress
from ..networks.files import model_identity
from ..photos.reader import Crop
from .collection import describe_collection
from .ground_truth import GroundTruth
from .verified import Verification, verify_rankings

DEPTHS = {"ns": 100, "recall": 1000}
"""Dict from a protocol that uses only the first photos of a ranking to their number; other protocols use all photos."""

PLACES = 2**27  # maximum total length of all rankings; with 70 queries, each may have 1,900,000 photos


@dataclass(frozen=True)
class Ranking:
    """The rankings of the photos of a collection, one for each query.

    Attributes:
        ranks: (depth, Q) indexes of the photos in the ranking of each of Q queries, best first. An index refers to the
            ground truth's database; indexes beyond the database are distractors.
        boxes: for each query, the part of its photo that was searched for: left, top, right, bottom in pixels of the
            photo; None for the whole photo.
        query: function from the index of a query to the path of its photo.
        photo: function from an index in `ranks` to the path of the photo.
        left_out: dict from the name of each database photo that could not be read to the reason; such photos are in no
            ranking.
        method: short lines of text that describe how the photos were ranked, for the page and the terminal.
        facts: metadata of the method and its duration in a dict that is serialisable as JSON, for results.json.
        exif: whether photos were turned by their EXIF orientation.
        plain: the rankings by the descriptors alone, without query-time methods and verification, (depth, Q); None if
            `ranks` are these.
    """

    ranks: np.ndarray
    boxes: Sequence[Crop | None]
    query: Callable[[int], Path]
    photo: Callable[[int], Path]
    left_out: dict[str, str]
    method: list[str]
    facts: dict[str, Any]
    exif: bool = True
    plain: np.ndarray | None = None


def depth_of(truth: GroundTruth) -> int:
    """Returns the maximum number of photos in each ranking of a collection.

    The number is 100 with the protocol "ns" and 1,000 with "recall". With other protocols it is 2^27 divided by the
    number of queries, but at least 1,000.
    """
    return DEPTHS.get(truth.protocol, max(1000, PLACES // len(truth.queries)))


def rank_by_descriptors(
    truth: GroundTruth,
    options: ExtractOptions,
    distractors: Path | None,
    steps: Sequence[Step],
    verification: Verification | None = None,
) -> Ranking:
    """Ranks the database photos for each query by a network's descriptors.

    Args:
        truth: the ground truth, restricted to the photos in `options.photos`.
        options: the options of extraction: network, photos, and the folder to which descriptors are written.
        distractors: a folder of photos, or of descriptors that `extract` wrote, to add to the database; None for no
            distractors.
        steps: the methods at query time, such as query expansion, in the order in which they are applied; empty for
            exact search without reranking.
        verification: how the first photos of each ranking are verified by local features; None for no verification.

    Returns:
        The rankings of all queries.

    Raises:
        CollectionError: a query or all photos of the database cannot be read, or the distractors were described with
            another network or other options.
        FolderError: `options.output` contains descriptors of other photos or options, and `options.replace` is False.
    """
    collection = describe_collection(truth, options, distractors)
    counts, depth = collection.counts, depth_of(truth)
    plain = None
    started = time.monotonic()
    if counts is None:
        ranker = Ranker(collection.database, steps, progress)
        started = time.monotonic()
        indexes, scores = ranker.rank(collection.queries, depth)
    else:
        starts = first_rows(counts)
        indexes, scores = nearest_groups(collection.queries, collection.database, starts, min(depth, len(counts)))
    milliseconds = round(1000 * (time.monotonic() - started) / len(truth.queries), 3)
    if steps:
        plain, _ = Ranker(collection.database, (), progress).rank(collection.queries, depth)
    elif verification is not None:
        plain = indexes.copy()
    verified = None
    if verification is not None:
        verified = verify_rankings(collection, options, verification, indexes, scores)
    identity = model_identity(options.model)
    rerank = [str(step) for step in steps]
    facts = {
        "model": identity,
        "size": options.size,
        "scales": list(options.factors),
        "precision": collection.precision,
        "exif": options.exif,
        "mirror": options.mirror,
        "edges": options.edges,
        "rerank": rerank,
        "crops": list(options.levels),
        "distractors": len(collection.names),
        "milliseconds_per_query": milliseconds,
        "bytes_per_photo": round(collection.rows.nbytes / len(collection.numbers)),
    }
    method = [
        f"{Path(identity.get('path') or identity['name']).name} at {options.size} px, scales "
        f"{', '.join(f'{scale:g}' for scale in options.factors)}",
        f"search: {', '.join(rerank) or 'exact, without reranking'}",
    ]
    if verified is not None:
        facts |= verified
        spent = verified["milliseconds_of_verification"]
        method.append(
            f"the first {verified['verify']:,} verified by local features: {spent:,.0f} ms per query, "
            f"{verified['local']['bytes_per_photo']:,} bytes per photo"
        )
    if options.levels:
        method.append(f"the best of the crops {options.crops} of each photo")
    if options.edges:
        method.append(f"edge maps: {options.edges}")
    if facts["distractors"]:
        method.append(f"with {facts['distractors']:,} distractors")
    return Ranking(
        collection.ranks(indexes),
        collection.boxes,
        lambda query: options.photos / truth.queries[query],
        collection.photo,
        collection.left_out,
        method,
        facts,
        options.exif,
        None if plain is None else collection.ranks(plain),
    )

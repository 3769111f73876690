"""Renders the results of a search as an HTML page that shows each query photo with its neighbours."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from keras_retrieval.pipelines.local_features.verified_ranking import FEWEST_INLIERS
from keras_retrieval.pipelines.pages.rankings import Case, Hit, Mark, Picture, page
from keras_retrieval.pipelines.photos.query_box import Box

from ..index_contract.calibration import probability_text
from ..index_contract.contract import NeighbourIndex
from .ranking import SearchResult, name_in
from .scoring import mean_as_text, shows_same_object

SHOWN = 24  # maximum number of queries on a page, because browsers cannot open a page with thousands
SIDE = 220  # length in pixels of the longer side of a thumbnail
LEGEND = "✓ green: of the query's object · ✗ red: of another object"


def search_page(
    index: NeighbourIndex,
    results: Sequence[SearchResult],
    k: int,
    precisions: np.ndarray | None,
    photos: Path,
    objects: Mapping[str, str] | None = None,
) -> str:
    """Renders the results of a search as an HTML page, for up to 24 queries spread evenly over the results.

    Args:
        index: index that was searched.
        results: neighbours of each of the Q queries.
        k: maximum number of neighbours to show per query.
        precisions: average precision of each query, 0 to 1, (Q,), NaN for queries without positives; None if no mAP was
            computed. If given, the page marks each neighbour as a positive or not.
        photos: folder of the indexed photos.
        objects: maps the name of each photo to its object; needed if `precisions` are given.

    Returns:
        The page as one self-contained HTML document without scripts.
    """
    options = {key: index.facts[key] for key in ("exif", "max_pixels")}
    shown = np.unique(np.linspace(0, len(results) - 1, min(SHOWN, len(results))).astype(int))
    cases = []
    for number in shown:
        result = results[number]
        right = None if precisions is None else shows_same_object(objects or {}, result.names, result)
        hits = [
            Hit(
                Picture(photos / name, name=name, box=_part(result, rank), **options),
                _mark(None if right is None else bool(right[rank])),
                _note(result, rank),
            )
            for rank, name in enumerate(result.names[:k])
        ]
        note = "query" if precisions is None or np.isnan(precisions[number]) else f"AP {100 * precisions[number]:.0f}"
        if not hits and result.probabilities is not None:
            note = f"{note} · no match"
        name = name_in(photos, result.query)
        cases.append(Case(Picture(photos / name, name=name, **options), note, hits))
    legend = "" if precisions is None else LEGEND
    return page("search", "Similar photos", _facts(index, results, precisions), cases=cases, legend=legend, side=SIDE)


def _note(result: SearchResult, rank: int) -> str:
    """The score of a neighbour, and the number of its points that match the query's if there are enough of them."""
    match = None if result.matches is None else result.matches[rank]
    points = f" · {match.inliers} points" if match is not None and match.inliers >= FEWEST_INLIERS else ""
    probability = "" if result.probabilities is None else f" · {probability_text(result.probabilities[rank])}"
    return f"{result.scores[rank]:.3f}{probability}{points}"


def _part(result: SearchResult, rank: int) -> Box | None:
    """The box of the matching points of a verified neighbour, else that of its best crop; None for the whole photo."""
    match = None if result.matches is None else result.matches[rank]
    if match is not None and match.inliers >= FEWEST_INLIERS:
        return match.box
    if result.boxes is None or result.sizes is None:
        return None
    left, top, right, bottom = result.boxes[rank].tolist()
    return None if (left, top, right, bottom) == (0, 0, *result.sizes[rank].tolist()) else (left, top, right, bottom)


def _mark(right: bool | None) -> Mark:
    return "" if right is None else "right" if right else "wrong"


def _facts(index: NeighbourIndex, results: Sequence[SearchResult], precisions: np.ndarray | None) -> list[str]:
    """Lists the lines below the page's title: numbers of photos and dimensions, network, kind of search and mAP."""
    facts = index.facts
    network = Path(facts["model"].get("path") or facts["model"]["name"]).name
    lines = [
        f"{len(index):,} photos, {facts['dimensions']} dimensions each"
        if not facts.get("crops")
        else f"{len(index):,} photos, {index.row_count:,} crops, {facts['dimensions']} dimensions each",
        f"{network} at {facts['size']} px",
        f"search: {facts['configuration']['kind']}",
    ]
    if facts.get("crops"):
        lines.append("frames: the best crop of a photo")
    if any(result.matches is not None for result in results):
        lines.append("points: those that agree with the query on one view, and the frame around them")
    if any(result.probabilities is not None for result in results):
        lines.append("percent: the probability that a photo shows the object of the query")
    if facts.get("edges"):
        lines.append(f"edge maps: {facts['edges']}")
    if precisions is not None:
        lines.append(mean_as_text(precisions))
    if len(results) > SHOWN:
        lines.append(f"{SHOWN} of {len(results)} queries shown")
    return lines

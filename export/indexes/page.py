"""The page of a search: each query with the photos found for it."""

from pathlib import Path

import numpy as np
from keras_retrieval.pipelines.pages.rankings import Case, Hit, Mark, Picture, page

from ..index_contract.contract import NeighbourIndex
from .found import Found, mean_average_precision, name_in, of_same_object

SHOWN = 24  # queries on a page; a page of thousands would not open
SIDE = 220  # pixels of a thumbnail's longer side
LEGEND = "✓ green: from the query's folder · ✗ red: from another folder"


def search_page(index: NeighbourIndex, found: list[Found], k: int, figures: np.ndarray | None, photos: Path) -> str:
    """Writes the page.

    Args:
        index: that was searched.
        found: the rankings.
        k: neighbours of each query to show.
        figures: AP of each query, (queries,); NaN where it is not defined, None where nothing was scored.
        photos: folder of the index's photos.

    Returns:
        HTML in one file, without scripts and without anything to load.
    """
    options = {key: index.facts[key] for key in ("exif", "max_pixels")}
    shown = np.unique(np.linspace(0, len(found) - 1, min(SHOWN, len(found))).astype(int))
    cases = []
    for number in shown:
        query = found[number]
        right = None if figures is None else of_same_object(query.names, query)
        hits = [
            Hit(
                Picture(photos / name, name=name, **options),
                _mark(None if right is None else bool(right[rank])),
                f"{query.scores[rank]:.3f}",
            )
            for rank, name in enumerate(query.names[:k])
        ]
        note = "query" if figures is None or np.isnan(figures[number]) else f"AP {100 * figures[number]:.0f}"
        name = name_in(photos, query.query)
        cases.append(Case(Picture(photos / name, name=name, **options), note, hits))
    legend = "" if figures is None else LEGEND
    return page("search", "Similar photos", _facts(index, found, figures), cases=cases, legend=legend, side=SIDE)


def _mark(right: bool | None) -> Mark:
    return "" if right is None else "right" if right else "wrong"


def _facts(index: NeighbourIndex, found: list[Found], figures: np.ndarray | None) -> list[str]:
    facts = index.facts
    network = Path(facts["model"].get("path") or facts["model"]["name"]).name
    lines = [
        f"{len(index):,} photos, {facts['dimensions']} dimensions each",
        f"{network} at {facts['size']} px",
        f"search: {facts['configuration']['kind']}",
    ]
    if facts.get("edges"):
        lines.append(f"edge maps: {facts['edges']}")
    if figures is not None:
        lines.append(mean_average_precision(figures))
    if len(found) > SHOWN:
        lines.append(f"{SHOWN} of {len(found)} queries shown")
    return lines

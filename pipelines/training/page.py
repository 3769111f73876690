"""The page of a training run: curves, the comparison with the network it began with, and what it learned from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..pages.charts import chart
from ..pages.rankings import Case, Mark, Picture, page
from .callbacks import SCORE
from .samples import Sample

LEGEND = "a query with its positive (green) and the hardest negatives (red) that the network found then"

_CHARTS = {
    "loss of a step": {"training": "loss", "validation": "val_loss"},
    "mean distance to the negatives": {"training": "negative_distance", "validation": "val_negative_distance"},
    "GeM's p": {"p": "p"},
    "learning rate": {"rate": "learning_rate"},
    "share of the epoch spent mining": {"share": "mining_share"},
}


def training_page(
    title: str,
    facts: Sequence[str],
    history: Sequence[Mapping[str, Any]],
    scores: Mapping[str, Mapping[str, float | None]],
    samples: Mapping[str, Sequence[Sample]],
    photos: Path,
) -> str:
    """Writes the page.

    Args:
        title: of the page.
        facts: short lines under the title.
        history: the figures of each epoch.
        scores: network -> figure -> value on the collection that was scored; may be empty.
        samples: when -> the sample tuples as they were then, of the same queries.
        photos: their folder.

    Returns:
        HTML in one file, without scripts and without anything to load.
    """
    cases = [
        _case(sample, when, photos)
        for tuples in zip(*samples.values(), strict=False)
        for when, sample in zip(samples, tuples, strict=True)
    ]
    return page(title, facts, scores, "".join(_charts(history)), cases, LEGEND)


def _charts(history: Sequence[Mapping[str, Any]]) -> list[str]:
    scored = {
        name.removeprefix(SCORE): {"score": name} for epoch in history for name in epoch if name.startswith(SCORE)
    }
    return [
        chart(title, {label: _over_epochs(history, name) for label, name in names.items()})
        for title, names in (_CHARTS | scored).items()
    ]


def _over_epochs(history: Sequence[Mapping[str, Any]], name: str) -> list[float | None]:
    return [epoch.get(name) for epoch in history]


def _case(sample: Sample, when: str, photos: Path) -> Case:
    marks: list[tuple[str, Mark]] = [(sample.positive, "right"), *((name, "wrong") for name in sample.negatives)]
    return Case(Picture(photos / sample.query), when, [(Picture(photos / name), mark) for name, mark in marks])

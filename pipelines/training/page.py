"""The page of a training run: curves, the comparison with the network it began with, and what it learned from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..pages.charts import Chart, over_epochs
from ..pages.rankings import Case, Hit, Picture, page
from .callbacks import SCORE
from .samples import Sample

LEGEND = "A query with its positive (✓ green) and the hardest negatives (✗ red) for the network at that time."

_CHARTS = {
    "loss of a step": {"training": "loss", "validation": "val_loss"},
    "mean distance to the negatives": {"training": "negative_distance", "validation": "val_negative_distance"},
    "GeM's p": {"p": "p"},
    "learning rate": {"rate": "learning_rate"},
    "share of the epoch spent mining": {"share": "mining_share"},
}
_CLASSIFICATION_CHARTS = {
    "loss of a step": {"training": "loss", "validation": "val_loss"},
    "accuracy": {"training": "accuracy", "validation": "val_accuracy"},
    "learning rate": {"rate": "learning_rate"},
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
    return page(
        "training",
        title,
        facts,
        table=scores,
        charts=_charts(history, _CHARTS | _scored(history)),
        cases=cases,
        legend=LEGEND,
    )


def classification_page(title: str, facts: Sequence[str], history: Sequence[Mapping[str, Any]]) -> str:
    """Writes the page of a training on landmarks.

    Args:
        title: of the page.
        facts: short lines under the title.
        history: the figures of each epoch.
    """
    return page("classification", title, facts, charts=_charts(history, _CLASSIFICATION_CHARTS))


def proposals_page(
    title: str,
    facts: Sequence[str],
    history: Sequence[Mapping[str, Any]],
    recall: Mapping[str, Mapping[str, float | None]],
) -> str:
    """Writes the page of a training of region proposals.

    Args:
        title: of the page.
        facts: short lines under the title.
        history: the figures of each epoch.
        recall: regions -> overlap -> share of the boxes found; may be empty.
    """
    return page("region proposals", title, facts, table=recall, charts=_charts(history, {"loss": {"training": "loss"}}))


def _scored(history: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """The charts of the scores on a collection, one for each figure."""
    return {name.removeprefix(SCORE): {"score": name} for epoch in history for name in epoch if name.startswith(SCORE)}


def _charts(history: Sequence[Mapping[str, Any]], charts: Mapping[str, Mapping[str, str]]) -> list[Chart | None]:
    return [
        over_epochs(title, {label: [epoch.get(name) for epoch in history] for label, name in lines.items()})
        for title, lines in charts.items()
    ]


def _case(sample: Sample, when: str, photos: Path) -> Case:
    hits = [Hit(Picture(photos / sample.positive), "right")]
    hits += [Hit(Picture(photos / name), "wrong") for name in sample.negatives]
    return Case(Picture(photos / sample.query), when, hits)

"""The HTML pages of training runs: curves, a comparison with the network before training, and sample tuples."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..pages.charts import Chart, over_epochs
from ..pages.rankings import Case, Hit, Picture, page
from .callbacks import SCORE
from .samples import Sample

LEGEND = "A query with its positive (✓ green) and the hardest negatives (✗ red) for the network at that time."

_CHARTS = {
    "Loss of a step": {"training": "loss", "validation": "val_loss"},
    "Mean distance to the negatives": {"training": "negative_distance", "validation": "val_negative_distance"},
    "GeM's p": {"p": "p"},
    "Learning rate": {"rate": "learning_rate"},
    "Share of the epoch spent mining": {"share": "mining_share"},
}
_CLASSIFICATION_CHARTS = {
    "Loss of a step": {"training": "loss", "validation": "val_loss"},
    "Accuracy": {"training": "accuracy", "validation": "val_accuracy"},
    "Learning rate": {"rate": "learning_rate"},
}


def training_page(
    title: str,
    facts: Sequence[str],
    history: Sequence[Mapping[str, Any]],
    scores: Mapping[str, Mapping[str, float | None]],
    samples: Mapping[str, Sequence[Sample]],
    photos: Path,
) -> str:
    """Returns the HTML page of a training run on tuples.

    Args:
        title: the title of the page.
        facts: short lines of text to show under the title.
        history: the metrics of each epoch.
        scores: scores on the collection, network -> metric -> value; may be empty.
        samples: dict from a time, such as "before training", to the tuples of the same queries at that time.
        photos: folder of the photos.

    Returns:
        A self-contained HTML document without scripts.
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
    """Returns the HTML page of a training run on landmarks.

    Args:
        title: the title of the page.
        facts: short lines of text to show under the title.
        history: the metrics of each epoch.
    """
    return page("classification", title, facts, charts=_charts(history, _CLASSIFICATION_CHARTS))


def proposals_page(
    title: str,
    facts: Sequence[str],
    history: Sequence[Mapping[str, Any]],
    recall: Mapping[str, Mapping[str, float | None]],
) -> str:
    """Returns the HTML page of a training run of region proposals.

    Args:
        title: the title of the page.
        facts: short lines of text to show under the title.
        history: the metrics of each epoch.
        recall: recall of boxes, kind of regions -> overlap -> share of the boxes found; may be empty.
    """
    return page("region proposals", title, facts, table=recall, charts=_charts(history, {"Loss": {"training": "loss"}}))


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

"""The HTML pages of training runs: curves, scores before and after training, and sample tuples."""

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
        history: for each epoch a dict from metric to value.
        scores: dict from the name of each network to a dict from metric to value on the collection; may be empty.
        samples: dict from a label, such as "before training", to sample tuples. All lists have the same queries in the
            same order; the negatives are those that were mined at the time that the label states.
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
    """Returns the HTML page of a run of `classify`.

    Args:
        title: the title of the page.
        facts: short lines of text to show under the title.
        history: for each epoch a dict from metric to value.

    Returns:
        A self-contained HTML document without scripts.
    """
    return page("classification", title, facts, charts=_charts(history, _CLASSIFICATION_CHARTS))


def proposals_page(
    title: str,
    facts: Sequence[str],
    history: Sequence[Mapping[str, Any]],
    recall: Mapping[str, Mapping[str, float | None]],
) -> str:
    """Returns the HTML page of a run of `train-proposals`.

    Args:
        title: the title of the page.
        facts: short lines of text to show under the title.
        history: for each epoch a dict from metric to value.
        recall: dict from a kind of regions, such as "grid, 3 levels", to a dict from a threshold on the intersection
            over union to the share of the objects' boxes that regions of this kind overlap by at least this threshold;
            may be empty.

    Returns:
        A self-contained HTML document without scripts.
    """
    return page("region proposals", title, facts, table=recall, charts=_charts(history, {"Loss": {"training": "loss"}}))


def _scored(history: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Returns the charts of the scores on a collection, one chart for each metric."""
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

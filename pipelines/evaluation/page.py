"""The HTML page of an evaluation: scores, a curve, and each query's ranking as photos."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_retrieval import metrics

from ..pages.charts import Chart, Curve, curves
from ..pages.rankings import Case, Hit, Mark, Picture, page
from .ground_truth import GroundTruth
from .rankings import Ranking
from .scores import lines

SHOWN = 100  # maximum number of queries on a page
HITS = 10  # number of photos of each ranking on a page
_RECALL_TICKS = (1, 5, 10, 15, 20)


def evaluation_page(truth: GroundTruth, ranking: Ranking, results: Mapping[str, Any], facts: Sequence[str]) -> str:
    """Returns the HTML page of an evaluation.

    Args:
        truth: the ground truth.
        ranking: the rankings of all queries.
        results: the content of results.json; the means and `per_query` are used.
        facts: short lines of text to show under the title.

    Returns:
        A self-contained HTML document.
    """
    settings = truth.settings()
    setting = "medium" if "medium" in settings else "all"
    shown = _shown(results["per_query"], setting)
    positives, junk = settings[setting]
    cases = [_case(truth, ranking, query, positives[query], junk[query], results) for query in shown]
    facts = list(facts)
    if len(settings) > 1:
        facts.append(f"marks of the setting {setting}")
    facts.append(f"{len(shown):,} of {len(truth.queries):,} queries shown, the worst first")
    return page(
        "evaluation",
        f"{truth.name}: rankings",
        facts,
        table=lines(results),
        charts=[_chart(truth, ranking.ranks)],
        cases=cases,
    )


def _shown(per_query: Sequence[dict[str, Any]], setting: str) -> list[int]:
    """Returns the indexes of queries from the worst to the best score, sampled evenly if there are many."""
    worst_first = sorted(range(len(per_query)), key=lambda query: _merit(per_query[query][setting]))
    chosen = np.linspace(0, len(worst_first) - 1, min(SHOWN, len(worst_first))).astype(int)
    return [worst_first[place] for place in np.unique(chosen)]


def _merit(figures: dict[str, Any]) -> float:
    if "first hit" in figures:
        return -float(figures["first hit"] or np.inf)
    return float(next(iter(figures.values())) or 0)


def _case(
    truth: GroundTruth,
    ranking: Ranking,
    query: int,
    positives: np.ndarray,
    junk: np.ndarray,
    results: Mapping[str, Any],
) -> Case:
    def mark(row: int) -> Mark:
        if row in positives:
            return "right"
        return "junk" if row in junk else "wrong"

    searched = Picture(ranking.query(query), ranking.boxes[query], ranking.exif)
    figures = {key: value for key, value in results["per_query"][query].items() if key != "query"}
    note = " · ".join(_note(setting, values) for setting, values in figures.items())
    rows = ranking.ranks[:HITS, query]
    return Case(searched, note, [Hit(Picture(ranking.photo(row), None, ranking.exif), mark(row)) for row in rows])


def _note(setting: str, figures: dict[str, Any]) -> str:
    name, value = next(iter(figures.items()))
    if name == "first hit":
        return f"first hit {value or 'none'}"
    text = "-" if value is None else f"{value}" if name == "N-S" else f"{100 * value:.0f}"
    return f"{name} {text}" if setting == "all" else f"{name} {setting} {text}"


def _chart(truth: GroundTruth, ranks: np.ndarray) -> Chart:
    """Returns a chart of recall@N for the protocol "recall", else of precision over recall."""
    if truth.protocol == "recall":
        ns = np.arange(1, _RECALL_TICKS[-1] + 1)
        hits = metrics.first_hits(ranks, truth.positives, truth.panoramas)
        recall = np.array(list(metrics.recall_at(hits, ns.tolist()).values()))
        return curves("Recall@N", {"all": (ns, recall)}, "N", "recall@N", _RECALL_TICKS)
    levels = np.linspace(0, 1, 101)
    drawn: dict[str, Curve] = {}
    for setting, (positives, junk) in truth.settings().items():
        positions = metrics.positive_positions(ranks, positives, junk)
        counts = [len(np.unique(one)) for one in positives]
        drawn[setting] = levels, metrics.precision_recall(positions, counts, levels)
    return curves("Interpolated precision, mean over queries", drawn, "recall", "precision", (0, 0.2, 0.4, 0.6, 0.8, 1))

"""Scores rankings by the protocol of a collection, for each query and averaged over the queries."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_retrieval import metrics

from .ground_truth import GroundTruth

_Figures = dict[str, float | int | None]
_Scored = tuple[dict[str, _Figures], dict[str, list[_Figures]]]


def score(ground_truth: GroundTruth, ranks: np.ndarray) -> dict[str, Any]:
    """Computes all metrics of a collection's protocol for given rankings.

    Args:
        ground_truth: the ground truth of the collection.
        ranks: (depth, Q) indexes into `ground_truth.database`, best first; indexes beyond the database are distractors.
            If rankings are cut, photos that are not in a ranking count as not found.

    Returns:
        A dict, serialisable as JSON, with the keys "dataset", "protocol", "partial" (a text, or None if no photo is
        missing), "photos" and "queries" (their numbers), "mean" (a dict from a setting to a dict from a metric to its
        mean over the queries) and "per_query" (for each query a dict with its name as "query" and, for each setting, a
        dict from a metric to its value). Settings are "easy", "medium" and "hard" with the protocol "revisited", else
        "all". AP, mAP, P@k, mP@k and recall@N are between 0 and 1, N-S is between 0 and 4, and "first hit" is a rank
        from 1. A metric that is undefined, because there is no positive or no hit, is None.

    Raises:
        ValueError: the shape or the values of `ranks` do not match the ground truth.
    """
    mean, per_query = _SCORERS[ground_truth.protocol](ground_truth, ranks)
    rows = [
        {"query": name} | {setting: figures[query] for setting, figures in per_query.items()}
        for query, name in enumerate(ground_truth.queries)
    ]
    return {
        "dataset": ground_truth.name,
        "protocol": ground_truth.protocol,
        "partial": ground_truth.partial,
        "photos": len(ground_truth.database),
        "queries": len(ground_truth.queries),
        "mean": mean,
        "per_query": rows,
    }


def lines(results: Mapping[str, Any]) -> dict[str, _Figures]:
    """Returns the mean metrics of each line of the table of results, by the name of the line.

    Args:
        results: the content of results.json; `mean` and, after --rerank or --verify, `mean_by_descriptors`
            are used. The ranking by descriptors alone is in the line after the one with it.
    """
    found: dict[str, _Figures] = {}
    for setting, figures in results["mean"].items():
        found[setting] = figures
        if "mean_by_descriptors" in results:
            found[f"{setting}, descriptors alone"] = results["mean_by_descriptors"][setting]
    return found


def _score_precision(ground_truth: GroundTruth, ranks: np.ndarray) -> _Scored:
    if ground_truth.protocol == "revisited":
        scores = metrics.revisited(ranks, *ground_truth.labels())
    else:
        scores = {"all": metrics.retrieval(ranks, *ground_truth.settings()["all"])}
    mean, per_query = {}, {}
    for setting, one in scores.items():
        mean[setting] = {"mAP": _number(one.mean_ap)} | {
            f"mP@{k}": _number(value) for k, value in one.mean_precision.items()
        }
        per_query[setting] = [
            {"AP": _number(ap)} | {f"P@{k}": _number(value) for k, value in zip(one.ks, precision, strict=True)}
            for ap, precision in zip(one.ap, one.precision, strict=True)
        ]
    return mean, per_query


def _score_recall(ground_truth: GroundTruth, ranks: np.ndarray) -> _Scored:
    hits = metrics.first_hits(ranks, ground_truth.positives, ground_truth.panoramas)
    mean = {f"recall@{n}": _number(value) for n, value in metrics.recall_at(hits).items()}
    first: list[_Figures] = [{"first hit": None if np.isinf(hit) else int(hit) + 1} for hit in hits]
    return {"all": dict(mean)}, {"all": first}


def _score_ns(ground_truth: GroundTruth, ranks: np.ndarray) -> _Scored:
    scores = metrics.ns_scores(ranks, ground_truth.positives)
    return {"all": {"N-S": float(scores.mean())}}, {"all": [{"N-S": int(one)} for one in scores]}


_SCORERS = {"revisited": _score_precision, "map": _score_precision, "recall": _score_recall, "ns": _score_ns}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)

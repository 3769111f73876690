"""Scores against a direct count for each setting."""

import json

import numpy as np
import pytest

from keras_retrieval import metrics
from pipelines.evaluation.datasets import load_ground_truth
from pipelines.evaluation.scores import score
from tests.helpers.ground_truths import own_truth, perfect_ranks, ranks_of


@pytest.mark.parametrize("seed", range(3))
def test_settings_are_what_the_scores_count(shared, seed):
    data = shared / "data"
    truth = load_ground_truth("roxford5k", data / "eval" / "oxford_mini", data / "gnd" / "gnd_roxford5k.pkl")
    ranks = ranks_of(truth, seed)
    figures = score(truth, ranks)
    for setting, (positives, junk) in truth.settings().items():
        expected = metrics.retrieval(ranks, positives, junk)
        assert figures["mean"][setting]["mAP"] == pytest.approx(expected.mean_ap)
        undefined = [row["query"] for row in figures["per_query"] if row[setting]["AP"] is None]
        assert undefined == [q for q, one in zip(truth.queries, positives, strict=True) if not len(one)]
    for setting in ("easy", "medium", "hard"):
        assert score(truth, perfect_ranks(truth, setting))["mean"][setting]["mAP"] == pytest.approx(1.0)


def test_figures_are_json(shared):
    data = shared / "data"
    truth = load_ground_truth("roxford5k", data / "eval" / "oxford_mini", data / "gnd" / "gnd_roxford5k.pkl")
    figures = score(truth, ranks_of(truth))
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert figures["partial"] == truth.partial
    assert set(figures["mean"]["easy"]) == {"mAP", "mP@1", "mP@5", "mP@10"}


def test_distractors_push_answers_down(shots):
    truth = own_truth(shots, {"photo": "a", "positives": ["shots/0.jpg"]}, database=["shots/"])
    assert score(truth, np.array([[99], [0]]))["mean"]["all"]["mAP"] == pytest.approx(0.25)

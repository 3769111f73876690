"""Scores on the photos that are set aside for validation."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.training import validation_scores
from pipelines.training.validation_scores import comparison_of, comparison_text, validation_score
from tests.helpers.tuples_of_clusters import tuples_of


@pytest.fixture
def score(monkeypatch):
    """Scores tuples with given descriptors, in a folder with the photos in another order."""

    def scored(tuples, rows, missing=()):
        kept = [row for row in reversed(range(len(rows))) if row not in missing]
        names = [tuples.images[row] for row in kept]
        shards = [np.float32(rows[kept])]
        monkeypatch.setattr(validation_scores, "read_descriptors", lambda folder: (shards, names, {}))
        return validation_score(Path("unused"), tuples)

    return scored


def rows_on_a_circle(angles):
    return np.stack([np.cos(np.radians(angles)), np.sin(np.radians(angles))], axis=1)


def test_queries_are_set_aside_and_all_photos_are_searched(score):
    tuples = tuples_of([2, 2, 2], validation=np.array([0, 0, 1, 1, 1, 1], bool))
    found = score(tuples, rows_on_a_circle([0, 90, 10, 20, 40, 60]))
    # Photo 2 (10 degrees): 0, 3; photo 3: 2; photo 4: 5 or 3, by index 3 first; photo 5: 4.
    assert (found.queries, found.photos, found.objects) == (4, 6, 2)
    assert 0.5 < found.mean_ap < 1
    perfect = score(tuples, rows_on_a_circle([0, 5, 40, 41, 80, 81]))
    assert perfect.mean_ap == 1


def test_photos_that_may_show_the_same_object_do_not_count(score):
    rows = rows_on_a_circle([0, 3, 1, 2, 60, 61])
    aside = np.ones(6, bool)
    apart = tuples_of([2, 2, 2], validation=aside)
    linked = tuples_of([2, 2, 2], validation=aside, same_object=np.array([[0, 1]]))
    assert score(linked, rows).mean_ap == 1
    assert score(apart, rows).mean_ap < 1
    assert score(linked, rows).objects == 2


def test_with_listed_negatives_the_positives_are_those_of_the_pairs(score):
    negatives = np.full((6, 1), -1)
    negatives[0] = 4
    tuples = tuples_of([4, 2], validation=np.ones(6, bool), negatives=negatives)
    found = score(tuples, rows_on_a_circle([0, 30, 10, 20, 60, 61]))
    assert found.queries == 2, "only photos 0 and 4 have a positive"
    assert found.mean_ap == 1, "photos 2 and 3 are of the cluster of photo 0, and not known to be wrong"


def test_a_query_without_a_described_positive_is_left_out(score):
    tuples = tuples_of([2, 2, 2], validation=np.ones(6, bool))
    assert score(tuples, rows_on_a_circle([0, 1, 40, 41, 80, 81]), missing=[1]).queries == 4
    alone = tuples_of([2, 2, 2], validation=np.array([1, 1, 0, 0, 0, 0], bool))
    assert score(alone, rows_on_a_circle([0, 1, 40, 41, 80, 81]), missing=[1]) is None


def test_draws_keep_the_photos_that_are_set_aside(score, monkeypatch):
    monkeypatch.setattr(validation_scores, "MOST_PHOTOS", 5)
    monkeypatch.setattr(validation_scores, "MOST_QUERIES", 3)
    tuples = tuples_of([2] * 6, validation=np.arange(12) < 4)
    found = score(tuples, rows_on_a_circle(np.arange(12) * 7.0))
    assert (found.queries, found.photos) == (3, 5)


def test_the_comparison_in_results_and_in_words(score):
    tuples = tuples_of([2, 2, 2], validation=np.ones(6, bool))
    found = score(tuples, rows_on_a_circle([0, 1, 40, 41, 80, 81]))
    assert comparison_of(None, found) is None
    both = comparison_of(found, found)
    assert both["measure"] == "mAP"
    assert comparison_text(both) == (
        "mAP 100.0 before and 100.0 after training, over 6 photos of 3 objects that were not trained on"
    )

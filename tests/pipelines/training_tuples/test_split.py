"""The split by object."""

import numpy as np
import pytest

from pipelines.training_tuples.data import TuplesError
from pipelines.training_tuples.split import split
from tests.helpers.tuples_of_clusters import tuples_of


def test_objects_are_never_split():
    links = np.array([[0, 1], [1, 2], [5, 6]])
    tuples = tuples_of([10] * 12, same_object=links)
    for seed in range(20):
        aside = split(tuples, 0.3, 5, seed).validation
        assert 10 <= aside.sum() <= 36
        for number in range(12):
            assert len(set(aside[tuples.cluster == number])) == 1
        for one, other in links:
            assert aside[tuples.cluster == one][0] == aside[tuples.cluster == other][0]
    assert split(tuples, 0, 5, 0).validation.sum() == 0


def test_something_is_left_to_train_on():
    assert not split(tuples_of([4]), 0.5, 0, 0).validation.any()
    linked = tuples_of([4, 4], same_object=np.array([[0, 1]]))
    assert not split(linked, 0.5, 0, 0).validation.any()
    with pytest.raises(TuplesError, match="no photo is left for training"):
        split(tuples_of([4], validation=np.ones(4, bool)), 0, 0, 0)


def test_training_keeps_enough_clusters_for_its_negatives():
    tuples = tuples_of([10] * 7)
    assert len(np.unique(tuples.cluster[~split(tuples, 0.9, 5, 0).validation])) == 6
    with pytest.raises(TuplesError, match=r"only 5 of the 6 training clusters, and --negatives is 6"):
        split(tuples_of([10] * 6), 0.1, 6, 0)
    with pytest.raises(TuplesError, match="only 4 of the 7 training clusters"):
        split(tuples_of([10] * 7, same_object=np.array([[0, 1], [0, 2]])), 0, 5, 0)

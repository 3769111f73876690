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
        assert 20 <= aside.sum() <= 36
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
    tuples = tuples_of([10] * 8)
    assert len(np.unique(tuples.cluster[~split(tuples, 0.9, 5, 0).validation])) == 6
    with pytest.raises(TuplesError, match=r"only 5 of the 6 training clusters, and --negatives is 6"):
        split(tuples_of([10] * 6), 0.1, 6, 0)
    with pytest.raises(TuplesError, match="only 4 of the 7 training clusters"):
        split(tuples_of([10] * 7, same_object=np.array([[0, 1], [0, 2]])), 0, 5, 0)


def usable(tuples, aside):
    """Whether a query that is set aside has a negative that is set aside, as validation needs."""
    links = {tuple(sorted(link)) for link in tuples.same_object.tolist()}

    def negative(query, other):
        clusters = tuple(sorted((int(tuples.cluster[query]), int(tuples.cluster[other]))))
        return clusters[0] != clusters[1] and clusters not in links

    listed = tuples.negatives
    return any(
        aside[other] and negative(query, other)
        for query in np.unique(tuples.qidxs)
        if aside[query]
        for other in (np.arange(len(aside)) if listed is None else listed[query][listed[query] >= 0])
    )


def test_a_split_can_be_used_or_none_is_made():
    """Each validation query needs a negative among the photos that are set aside, which one object does not offer."""
    for clusters in range(1, 14):
        for seed in range(10):
            rng = np.random.default_rng([clusters, seed])
            links = rng.integers(0, clusters, (seed % 3, 2))
            tuples = tuples_of(rng.integers(2, 20, clusters).tolist(), same_object=links[links[:, 0] != links[:, 1]])
            negatives = int(rng.integers(0, 6))
            try:
                aside = split(tuples, 0.1, negatives, seed).validation
            except TuplesError:
                continue  # too few clusters to train on
            assert usable(tuples, aside) or not aside.any(), (clusters, seed)
    assert split(tuples_of([10] * 8), 0.1, 5, 0).validation.sum() == 20, "6 of 8 clusters are enough to train on"
    assert not split(tuples_of([10] * 7), 0.1, 5, 0).validation.any(), "6 are needed, and one alone cannot be used"


def test_objects_without_pairs_are_not_chosen_alone():
    singles = tuples_of([3] * 4 + [1] * 4)
    pairs = singles.qidxs < 12
    tuples = tuples_of([3] * 4 + [1] * 4, qidxs=singles.qidxs[pairs], pidxs=singles.pidxs[pairs])
    for seed in range(20):
        assert usable(tuples, split(tuples, 0.1, 1, seed).validation)


def test_the_share_is_of_photos_of_objects_with_pairs():
    tuples = tuples_of([4] * 20 + [1] * 400, qidxs=np.arange(20) * 4, pidxs=np.arange(20) * 4 + 1)
    for seed in range(5):
        aside = split(tuples, 0.2, 5, seed).validation
        assert aside[:80].sum() == 16
        assert not aside[80:].any()


def test_a_pair_is_left_to_train_on():
    tuples = tuples_of([4, 4] + [1] * 6, qidxs=np.array([0, 4]), pidxs=np.array([1, 5]))
    for share in (0.1, 0.6, 0.9):
        for seed in range(20):
            aside = split(tuples, share, 0, seed).validation
            assert usable(tuples, aside) or not aside.any()
            assert not aside[tuples.qidxs].all()
    assert not split(tuples_of([4, 4]), 0.5, 0, 0).validation.any()


def test_listed_negatives_are_among_the_photos_set_aside():
    negatives = np.full((24, 2), -1)
    negatives[np.arange(24), 0] = (np.arange(24) + 4) % 24  # of the next cluster
    tuples = tuples_of([4] * 6, negatives=negatives)
    for seed in range(20):
        aside = split(tuples, 0.2, 1, seed).validation
        assert usable(tuples, aside) or not aside.any()

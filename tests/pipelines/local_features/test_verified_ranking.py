import numpy as np

from pipelines.local_features.verified_ranking import FEWEST_INLIERS, verified_order


def test_verified_photos_come_first_by_inliers_and_the_others_keep_their_order():
    few = FEWEST_INLIERS - 1
    order = verified_order(np.array([0.9, 0.8, 0.7, 0.6, 0.5]), [few, 50, None, FEWEST_INLIERS, 80])
    assert order.tolist() == [4, 1, 3, 0, 2]


def test_equal_inliers_are_ordered_by_score():
    assert verified_order(np.array([0.3, 0.9, 0.6]), [40, 40, 40]).tolist() == [1, 2, 0]


def test_without_verified_photos_nothing_changes():
    assert verified_order(np.array([0.9, 0.2, 0.1]), [3, None, 5]).tolist() == [0, 1, 2]
    assert verified_order(np.zeros(0), []).tolist() == []

"""Checks of tuples name the photo or pair that is wrong."""

import numpy as np
import pytest

from pipelines.training_tuples.checks import check
from pipelines.training_tuples.data import TuplesError
from tests.helpers.tuples_of_clusters import tuples_of


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cluster": np.zeros(3, int)}, "6 photos have 3 clusters"),
        ({"pidxs": np.array([1, 3])}, "3 queries have 2 positives"),
        ({"qidxs": np.array([0, 6, 4])}, r"pair 1: its query 6 is not an index in 0\.\.5"),
        ({"pidxs": np.array([1, 3, -1])}, "pair 2: its positive -1"),
        ({"pidxs": np.array([1, 2, 5])}, r"pair 1: 2\.jpg is its own positive"),
        ({"pidxs": np.array([1, 5, 5])}, r"pair 1: 2\.jpg and 5\.jpg are in different clusters, 1 and 2"),
        ({"images": [*"abcdea"]}, "photo 5: a occurs twice, also at photo 0, in clusters 0 and 2"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    check(tuples_of([2, 2, 2]), None)
    with pytest.raises(TuplesError, match=message):
        check(tuples_of([2, 2, 2], **changes), None)


def test_a_folder_that_does_not_exist_is_named_and_not_its_first_photo(tmp_path):
    (tmp_path / "file").touch()
    for name, reason in {"gone": "does not exist", "file": "is not a folder"}.items():
        with pytest.raises(TuplesError, match=f"{name}, the folder of the photos, {reason}$"):
            check(tuples_of([2, 2, 2]), tmp_path / name)


def test_a_pair_between_linked_clusters_is_right():
    check(tuples_of([2, 2, 2], pidxs=np.array([1, 5, 5]), same_object=np.array([[1, 2]])), None)

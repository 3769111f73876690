"""Checks of tuples name the photo or pair that is wrong."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.training_tuples.checks import check
from pipelines.training_tuples.data import TuplesError
from tests.helpers.faulty_storage import FaultyFileSystem, faulty_storage
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


def test_photos_at_an_address_are_found_by_one_listing(monkeypatch, caplog):
    pytest.importorskip("fsspec")
    tuples = tuples_of([2, 2])
    with faulty_storage(monkeypatch) as faults:
        for name in tuples.images[:3]:
            FaultyFileSystem().pipe_file(f"/bucket/photos/{name}", b"photo")
        faults.requests.clear()
        place = Path("faulty://bucket/photos")
        assert check(tuples, place, skip_missing=True).tolist() == [False, False, False, True]
        assert [request for request, _ in faults.requests] == ["find"]
        assert f"1 of 4 photos do not exist: photo 3: faulty://bucket/photos/{tuples.images[3]};" in caplog.text
        for other, said in (
            ("nothing", "the folder of the photos, does not exist"),
            ("", "nor does any other of the 4"),
        ):
            with pytest.raises(TuplesError, match=said):
                check(tuples, Path(f"faulty://bucket/{other}"))

"""Reading tuples.npz: a round trip, and errors that name the file."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from pipelines.training_tuples.data import Tuples, TuplesError
from pipelines.training_tuples.file import read_tuples, write_tuples

TUPLES = Tuples(
    images=["a/0.jpg", "a/1.jpg", "b/ü.jpg", "b/3.jpg", "c/4.jpg"],
    cluster=np.array([0, 0, 7, 7, 9]),
    qidxs=np.array([0, 2, 3]),
    pidxs=np.array([1, 3, 4]),
    same_object=np.array([[7, 9]]),
    validation=np.array([False, False, True, True, True]),
    negatives=np.array([[2, 4], [3, -1], [0, -1], [1, 0], [-1, -1]]),
    details={"shared": np.array([0.5, 0.25, 1], np.float32)},
)


@pytest.fixture
def path(tmp_path):
    write_tuples(tmp_path / "tuples.npz", TUPLES, {"source": "a test"})
    return tmp_path / "tuples.npz"


def change(path, **changes):
    """Rewrites a file of tuples with other fields; None takes one away."""
    with np.load(path) as file:
        fields = dict(file) | changes
    np.savez(path, **{name: array for name, array in fields.items() if array is not None})


def test_what_was_written_comes_back(path):
    found = read_tuples(path)
    assert found.images == TUPLES.images
    for name in ("cluster", "qidxs", "pidxs", "same_object", "validation", "negatives"):
        np.testing.assert_array_equal(getattr(found, name), getattr(TUPLES, name))
    assert found.details.keys() == {"shared"}
    np.testing.assert_array_equal(found.details["shared"], TUPLES.details["shared"])


def test_tuples_without_links_or_split_come_back(tmp_path):
    plain = replace(
        TUPLES, pidxs=np.array([1, 3, 2]), same_object=np.zeros((0, 2), int), validation=None, negatives=None
    )
    write_tuples(tmp_path / "tuples.npz", plain, {})
    found = read_tuples(tmp_path / "tuples.npz")
    assert found.same_object.shape == (0, 2)
    assert found.negatives is None
    assert not found.validation.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": np.array(2)}, "has version 2 of its layout, and this code reads up to 1"),
        ({"version": np.array("one")}, "has version one"),
        ({"version": None}, "has no field version"),
        ({"cluster": None}, "has no field cluster"),
        ({"same_object": None}, "has no field same_object"),
        ({"cluster": np.zeros(5)}, r"cluster must be integers \(N,\), not float64 \(5,\)"),
        ({"cluster": np.array(3)}, r"cluster must be integers \(N,\), not int64 \(\)"),
        ({"images": np.arange(5)}, r"images must be text \(N,\)"),
        ({"same_object": np.arange(4)}, r"same_object must be integers \(M, 2\), not int64 \(4,\)"),
        ({"validation": np.zeros(5, int)}, r"validation must be booleans \(N,\)"),
        ({"validation": np.zeros(4, bool)}, "validation has 4 entries for 5 photos"),
        ({"pidxs": np.array([1, 3, 5])}, r"pair 2: its positive 5 is not an index in 0\.\.4"),
        ({"pidxs": np.array([1, 3])}, "3 queries have 2 positives"),
        ({"cluster": np.arange(4)}, "5 photos have 4 clusters"),
        ({"pidxs": np.array([1, 3, 0])}, r"pair 2: b/3\.jpg and a/0\.jpg are in different clusters, 0 and 7"),
        ({"negatives": np.zeros(5, int)}, r"negatives must be integers \(N, n\), not int64 \(5,\)"),
        ({"negatives": np.zeros((4, 1), int)}, "5 photos have 4 lists of negatives"),
        ({"negatives": np.full((5, 1), 2)}, "photo 2: its negative 2 is not the index of another photo"),
        ({"negatives": np.full((5, 1), 5)}, "photo 0: its negative 5"),
        ({"images": np.array(list("abcda"))}, "photo 4: a occurs twice, also at photo 0"),
    ],
)
def test_what_does_not_fit_is_named(path, changes, message):
    change(path, **changes)
    with pytest.raises(TuplesError, match=message) as error:
        read_tuples(path)
    assert str(path) in str(error.value)


def test_no_file_of_tuples_is_refused(path, tmp_path):
    with pytest.raises(TuplesError, match=r"none\.npz is not a file: `keras-retrieval tuples"):
        read_tuples(tmp_path / "none.npz")
    with pytest.raises(TuplesError, match="is not a file"):
        read_tuples(tmp_path)
    whole = path.read_bytes()
    for number, content in enumerate((b"", b"text", whole[: len(whole) // 2], pickle.dumps({"images": [1]}))):
        wrong = tmp_path / f"{number}.npz"
        wrong.write_bytes(content)
        with pytest.raises(TuplesError, match=rf"{number}\.npz is damaged or is not an \.npz file of tuples"):
            read_tuples(wrong)
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(TuplesError, match=r"array\.npy is damaged or is not an \.npz"):
        read_tuples(tmp_path / "array.npy")


def test_a_pickle_inside_is_never_loaded(path):
    class Harm:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was loaded",))

    change(path, images=np.array([Harm()], dtype=object))
    with pytest.raises(TuplesError, match="is damaged"):
        read_tuples(path)

"""Photos of tuples that do not exist: listed, and an error or left out with their tuples."""

import numpy as np
import pytest

from pipelines import tuples
from pipelines.training_tuples.checks import check
from pipelines.training_tuples.data import Tuples, TuplesError, without
from pipelines.training_tuples.file import read_tuples
from tests.helpers.odd_collection import photo


@pytest.fixture
def photos(tmp_path):
    for number in range(12):
        path = tmp_path / "photos" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(photo(number))
    return tmp_path / "photos"


def made(count=12):
    """Tuples of photos in clusters of three, in which each photo's positive is the next one of its cluster."""
    rows = np.arange(count)
    return Tuples(
        [f"{row}.jpg" for row in rows],
        rows // 3,
        rows,
        rows // 3 * 3 + (rows + 1) % 3,
        negatives=np.stack([(rows + 3) % count, np.full(count, -1)], axis=1),
        details={
            "shared": rows / 100,
            "camera_neighbours": np.stack([(rows + 1) % count, np.full(count, -1)], axis=1),
            "own": rows * 2,
        },
        where=[f"list.csv, line {row + 2}" for row in rows],
    )


def test_missing_photos_are_listed(photos):
    for number in (3, 7):
        (photos / f"{number}.jpg").unlink()
    with pytest.raises(TuplesError, match=r"2 of 12 photos do not exist: list\.csv, line 5: .*3\.jpg; .*line 9: .*7"):
        check(made(), photos)
    missing = check(made(), photos, skip_missing=True)
    assert np.flatnonzero(missing).tolist() == [3, 7]
    assert not check(made()).any()


def test_a_folder_without_any_of_the_photos_is_an_error(photos, tmp_path):
    (tmp_path / "empty").mkdir()
    for skip in (False, True):
        with pytest.raises(TuplesError, match=r"line 2: .*0\.jpg does not exist, nor does any other of the 12 photos"):
            check(made(), tmp_path / "empty", skip_missing=skip)
        with pytest.raises(TuplesError, match="nowhere, the folder of the photos, does not exist"):
            check(made(), tmp_path / "nowhere", skip_missing=skip)
        with pytest.raises(TuplesError, match=r"0\.jpg, the folder of the photos, is not a folder"):
            check(made(), photos / "0.jpg", skip_missing=skip)


def test_tuples_without_some_photos_say_the_same_of_the_others():
    whole, removed = made(), np.isin(np.arange(12), [3, 7])
    left = without(whole, removed)
    check(left)
    pairs = {(whole.images[q], whole.images[p]) for q, p in zip(whole.qidxs, whole.pidxs, strict=True)}
    gone = {"3.jpg", "7.jpg"}
    assert {(left.images[q], left.images[p]) for q, p in zip(left.qidxs, left.pidxs, strict=True)} == {
        pair for pair in pairs if not gone & set(pair)
    }
    old = {name: row for row, name in enumerate(whole.images)}
    for row, name in enumerate(left.images):
        assert left.cluster[row] == whole.cluster[old[name]]
        assert left.where[row] == whole.where[old[name]]
        assert left.details["own"][row] == 2 * old[name]
        for indexes, before in (
            (left.negatives[row], whole.negatives[old[name]]),
            (left.details["camera_neighbours"][row], whole.details["camera_neighbours"][old[name]]),
        ):
            expected = [whole.images[index] for index in before if index >= 0 and whole.images[index] not in gone]
            assert [left.images[index] for index in indexes if index >= 0] == expected
    kept = [row for row in range(12) if not removed[whole.qidxs[row]] and not removed[whole.pidxs[row]]]
    np.testing.assert_array_equal(left.details["shared"], whole.details["shared"][kept])
    with pytest.raises(TuplesError, match="no pair is left"):
        without(whole, np.arange(12) % 3 > 0)


def test_the_step_leaves_their_tuples_out(photos, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("pipelines.training_tuples.tuples.read_source", lambda *_: made())
    (photos / "4.jpg").unlink()
    (tmp_path / "models").mkdir()
    with pytest.raises(TuplesError, match="--missing skip"):
        tuples(tmp_path / "models", tmp_path / "t.npz", photos=photos, negatives=1)
    assert not (tmp_path / "t.npz").exists()
    tuples(tmp_path / "models", tmp_path / "t.npz", photos=photos, negatives=1, missing="skip")
    assert "1 of 12 photos do not exist" in caplog.text
    found = read_tuples(tmp_path / "t.npz")
    assert set(found.images) == {f"{n}.jpg" for n in range(12) if n != 4}

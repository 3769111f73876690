"""The reasons why photos of a landmark are left out."""

from pipelines.cleaning.landmark import _reasons


def test_each_photo_that_is_left_out_has_its_reason():
    groups = [["a", "b", "c"], ["d", "e"], ["f"]]
    assert _reasons(groups, {"a": 1, "b": 1}, 6, 3) == {
        "c": "its matches do not align with those of another photo",
        "d": "its group has 2 photos, and the landmark's largest has 3",
        "e": "its group has 2 photos, and the landmark's largest has 3",
        "f": "no pair with another photo was verified",
    }
    dropped = _reasons(groups, {"a": 1, "b": 1, "c": 1}, 6, 4)
    assert set(dropped) == set("abcdef")
    assert set(dropped.values()) == {"no group of its landmark has 4 photos: the largest of 6 has 3"}
    assert _reasons([], {}, 0, 3) == {}

"""Joins of names in tables with photos."""

import pytest

from pipelines.files.name_join import JoinError, PhotoNames, join_rows

PHOTOS = ["church/01.jpg", "tower/01.jpg", "church/caf\u00e9.jpg", "v1.2.jpg", "deep/er/x.JPG", "deep/er/x.png"]


@pytest.mark.parametrize(
    ("name", "photo"),
    [
        ("church/01.jpg", "church/01.jpg"),
        (" church/01.jpg ", "church/01.jpg"),
        ("./church/01.jpg", "church/01.jpg"),
        ("church\\01.jpg", "church/01.jpg"),
        ("/home/me/photos/church/01.jpg", "church/01.jpg"),
        ("church/01", "church/01.jpg"),
        ("photos/tower/01", "tower/01.jpg"),
        ("cafe\u0301.jpg", "church/caf\u00e9.jpg"),
        ("v1.2", "v1.2.jpg"),
        ("er/x.JPG", "deep/er/x.JPG"),
        ("x.JPG", "deep/er/x.JPG"),
        ("x.jpg", None),
        ("V1.2.jpg", None),
        ("other/v1.2.jpg", "v1.2.jpg"),
        ("other/caf\u00e9.jpg", None),
        ("rch/01.jpg", None),
        ("1.jpg", None),
        ("", None),
        (" ", None),
    ],
)
def test_a_name_finds_its_photo(name, photo):
    row = PhotoNames(PHOTOS).find(name)
    assert (None if row is None else PHOTOS[row]) == photo


@pytest.mark.parametrize(
    ("name", "message"),
    [("01.jpg", "'01.jpg' may be church/01.jpg or tower/01.jpg: write the whole name"), ("x", "deep/er/x.JPG or deep")],
)
def test_a_name_of_several_photos_is_refused(name, message):
    with pytest.raises(JoinError, match=message):
        PhotoNames(PHOTOS).find(name)


def test_an_exact_name_wins_over_its_other_normal_form():
    photos = PhotoNames(["caf\u00e9.jpg", "cafe\u0301.jpg", "a.jpg", "b/a.jpg"])
    assert [photos.find(name) for name in photos.names] == [0, 1, 2, 3]


def test_counts_of_a_join():
    rows = ["tower/01.jpg", "v1.2", "none", "z", "y", "x/y/z"]
    join = join_rows("t.csv", rows, PhotoNames(PHOTOS), str)
    assert join.photos == [1, 3, -1, -1, -1, -1]
    assert not join.complete
    assert join.report == (
        "t.csv: 2 of 6 photos have a row; photos without a row: 4, such as church/01.jpg, church/caf\u00e9.jpg, "
        "deep/er/x.JPG, ..; rows without a photo: 4, such as none, z, y, .."
    )
    assert join_rows("t.csv", PHOTOS, PhotoNames(PHOTOS), str).complete

"""Names in either Unicode form find the files of a folder."""

import unicodedata

import pytest

from pipelines.files.stored_path import stored_path
from pipelines.photos.formats import photo_state
from pipelines.photos.reader import read_photo
from pipelines.photos.reading import Reading
from pipelines.training_tuples.checks import check
from tests.helpers.odd_collection import photo
from tests.helpers.tuples_of_clusters import tuples_of

FORMS = (("NFC", "NFD"), ("NFD", "NFC"))


@pytest.fixture(params=FORMS, ids="-".join)
def named(request, tmp_path):
    """The path of a photo, and its name in the other form."""
    stored, other = request.param
    path = tmp_path / unicodedata.normalize(stored, "Bär/Köln é.jpg")
    path.parent.mkdir()
    path.write_bytes(photo(1))
    return path, unicodedata.normalize(other, "Bär/Köln é.jpg")


def test_a_name_in_the_other_form_is_found(tmp_path, named):
    path, other = named
    assert not (tmp_path / other).exists()
    assert stored_path(tmp_path / other) == path
    assert photo_state(tmp_path / other) == photo_state(path) != (0, 0)
    assert read_photo(tmp_path / other).shape == (120, 160, 3)


def test_a_cut_photo_is_accepted_by_either_name(tmp_path, named):
    path, other = named
    path.write_bytes(photo(1)[:-900])
    assert Reading(tmp_path, 100, accept_truncated=True).read(other).shape == (75, 100, 3)


def test_tuples_find_photos_by_either_name(tmp_path, named):
    _, other = named
    names = [f"{number}.jpg" for number in range(5)]
    for name in names:
        (tmp_path / name).write_bytes(photo(2))
    assert not check(tuples_of([2, 2, 2], images=[*names, other]), tmp_path).any()


def test_what_does_not_exist_or_is_ambiguous_stays_as_it_is(tmp_path):
    for name in ("plain.jpg", "Köln.jpg", "nothing/Köln.jpg"):
        assert stored_path(tmp_path / name) == tmp_path / name
    for form in ("NFC", "NFD"):
        (tmp_path / unicodedata.normalize(form, "\u00c4\u00d6.jpg")).write_bytes(photo(1))
    mixed = tmp_path / "\u00c4O\u0308.jpg"
    assert stored_path(mixed) == mixed

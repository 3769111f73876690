"""Folders in which a reconstruction is refused."""

import pytest

from pipelines.sfm.reconstruct import reconstruct
from tests.helpers.small import draw

pytest.importorskip("pycolmap")


@pytest.fixture
def photos(tmp_path):
    draw(tmp_path / "photos" / "0.png", 20, 30)
    return tmp_path / "photos"


def test_a_folder_of_something_else_is_not_used(tmp_path, photos):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="contains something else"):
        reconstruct(photos, tmp_path / "work")


def test_work_among_the_photos_is_refused(photos):
    with pytest.raises(ValueError, match="would be taken for photos"):
        reconstruct(photos, photos / "work")
    assert not (photos / "work").exists()

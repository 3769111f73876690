"""COLMAP's names of photos, and its database."""

import pytest

from pipelines.sfm.colmap import Database, colmap_name, photo_name

pytest.importorskip("pycolmap")


def test_names_with_spaces_survive_a_list_of_pairs():
    for name in ("a.jpg", "ein Haus/50% #1.jpg", "tab\tå.png"):
        assert photo_name(colmap_name(name)) == name
        assert not any(letter.isspace() or letter == "#" for letter in colmap_name(name))
    assert colmap_name("plain/å.jpg") == "plain/å.jpg"


def test_a_database_left_without_tables_is_gone_on_with(tmp_path):
    (tmp_path / "database.db").touch()
    database = Database(tmp_path / "database.db")
    assert database.features() == {}
    assert database.inliers() == {}

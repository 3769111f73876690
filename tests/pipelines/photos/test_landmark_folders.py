"""Folders of landmarks, as collected and as cleaned."""

import json
from pathlib import Path

import pytest

from pipelines.files.durable import FolderError
from pipelines.photos.landmark_folders import by_landmark, cleaned_photos


def test_photos_are_of_the_landmark_whose_folder_they_lie_in():
    assert by_landmark(["b/2.jpg", "a/x/1.jpg", "b/1.jpg", "0.jpg"], Path("photos")) == {
        ".": ["0.jpg"],
        "a/x": ["a/x/1.jpg"],
        "b": ["b/2.jpg", "b/1.jpg"],
    }
    with pytest.raises(ValueError, match="photos has no sub-folders with photos"):
        by_landmark(["1.jpg"], Path("photos"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"version": 9, "photos": "x"}', "has layout 9, and this keras-retrieval reads up to 1"),
    ],
)
def test_a_cleaning_that_cannot_be_read_is_named(content, message, tmp_path):
    (tmp_path / "cleaning.json").write_text(content)
    with pytest.raises(FolderError, match=message):
        cleaned_photos(tmp_path)


@pytest.mark.parametrize(
    ("kept", "message"), [('"a/1.jpg"\n"a/2', "is cut off in line 2"), ('"a/1.jpg"\n', "has 1 photo")]
)
def test_a_list_of_photos_that_was_cut_is_named(kept, message, tmp_path):
    report = {"version": 1, "photos": "photos", "landmarks": [{"kept": 2}, {"kept": 0}]}
    (tmp_path / "cleaning.json").write_text(json.dumps(report))
    (tmp_path / "kept.txt").write_text(kept)
    with pytest.raises(FolderError, match=rf"kept\.txt {message}"):
        cleaned_photos(tmp_path)

"""Folders of landmarks, as collected and as cleaned."""

import json
from pathlib import Path

import pytest

from keras_retrieval.errors import ArgumentError
from pipelines.files.durable import FolderError
from pipelines.photos.landmark_folders import cleaned_photos, landmark_photos


def test_the_landmarks_of_a_cleaning_stay_its_landmarks(tmp_path):
    """The kept photos alone would not show that the folders of one name are one landmark, or that "2019" is one."""
    landmarks = [{"name": "2019", "kept": 2}, {"name": "b", "kept": 0}, {"name": "c", "kept": 1}]
    (tmp_path / "cleaning.json").write_text(json.dumps({"version": 1, "photos": "photos", "landmarks": landmarks}))
    (tmp_path / "kept.txt").write_text('"x/2019/1.jpg"\n"y/2019/1.jpg"\n"c/1.jpg"\n')
    folder, objects = landmark_photos(tmp_path)
    assert folder == Path("photos")
    assert objects.photos == {"2019": ["x/2019/1.jpg", "y/2019/1.jpg"], "c": ["c/1.jpg"]}
    assert "2 landmarks with the photos that `clean` kept" in objects.account
    with pytest.raises(ArgumentError, match="was made by `clean`, which found the objects: leave --objects names out"):
        landmark_photos(tmp_path, rule="names")


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

"""boxes.json: a round trip, drawn photos as a source, and errors that name the photo."""

import json

import numpy as np
import pytest

from pipelines.photos.object_boxes import BoxesError, read_boxes, write_boxes
from pipelines.samples.sample_photos import sample_photos


def test_what_was_written_comes_back(tmp_path):
    boxes = {"a/ü.jpg": np.array([[1.5, 2, 30, 40], [0, 0, 1, 1]]), "b.jpg": np.zeros((0, 4))}
    found = read_boxes(write_boxes(tmp_path / "boxes.json", boxes))
    assert found.keys() == boxes.keys()
    for name, expected in boxes.items():
        np.testing.assert_array_equal(found[name], expected)


def test_drawn_photos_have_their_boxes(tmp_path):
    folder = sample_photos(tmp_path / "drawn", buildings=1, views=2, size=64, workers=1)
    scene = json.loads((folder / "scene.json").read_text())
    expected = {photo["name"]: [photo["box"]] for photo in scene["buildings"][0]["photos"]}
    for source in (folder, folder / "scene.json"):
        assert {name: boxes.tolist() for name, boxes in read_boxes(source).items()} == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as boxes"),
        ("[]", "contains no boxes; expected"),
        ('{"photos": {}}', "has layout None, and this keras-retrieval reads 1"),
        ('{"version": 2, "photos": {}}', "has layout 2, and this keras-retrieval reads 1"),
        (r'{"version": 1, "photos": {"\ud800.jpg": [[0, 0, 9, 9]]}}', "the name .*ud800.* is not valid text"),
        ('{"version": "1", "photos": {}}', "has layout '1', and this keras-retrieval reads 1"),
        ('{"version": 1, "photos": {"a.jpg": 5}}', r"the boxes of a\.jpg must be lists of left, top"),
        ('{"version": 1, "photos": {"a.jpg": [1, 2, 3, 4]}}', r"the boxes of a\.jpg must be lists"),
        ('{"version": 1, "photos": {"a.jpg": [[1, 2, 3]]}}', r"the boxes of a\.jpg must be lists"),
        ('{"version": 1, "photos": {"a.jpg": [["x", 2, 3, 4]]}}', r"the boxes of a\.jpg must be lists"),
        ('{"version": 1, "photos": {"a.jpg": [[5, 0, 5, 9]]}}', r"a box of a\.jpg is empty or not finite: \[5\.0"),
        ('{"version": 1, "photos": {"a.jpg": [[NaN, 0, 5, 9]]}}', r"a box of a\.jpg is empty or not finite"),
        (f'{{"version": 1, "photos": {{"a.jpg": [[0, 0, 9, {10**400}]]}}}}', r"the boxes of a\.jpg must be lists"),
        (
            '{"buildings": [{"photos": [{"name": "a.jpg"}]}]}',
            "not a file of `keras-retrieval sample-photos`: it lacks 'box'",
        ),
    ],
)
def test_what_does_not_fit_is_named_with_the_file(tmp_path, content, message):
    path = tmp_path / "boxes.json"
    path.write_text(content)
    with pytest.raises(BoxesError, match=message) as caught:
        read_boxes(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    for source in (tmp_path, tmp_path / "boxes.json"):
        with pytest.raises(BoxesError, match=r"(boxes|scene)\.json does not exist"):
            read_boxes(source)


def test_an_empty_box_is_not_written(tmp_path):
    with pytest.raises(BoxesError, match=r"a box of a\.jpg is empty"):
        write_boxes(tmp_path / "boxes.json", {"a.jpg": [[3, 3, 2, 9]]})
    assert not (tmp_path / "boxes.json").exists()

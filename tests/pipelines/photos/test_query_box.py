"""The option `--box`."""

import pytest

from keras_retrieval.errors import ArgumentError
from pipelines.photos.query_box import parse_box


def test_a_box_is_four_numbers():
    assert parse_box("1,2.5, 30,-4") == (1.0, 2.5, 30.0, -4.0)
    assert parse_box(None) is None


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,2,3,4", "1;2;3;4"])
def test_what_is_not_a_box_is_named(text):
    with pytest.raises(ArgumentError, match="--box must be left,top,right,bottom in pixels of the query photo, got "):
        parse_box(text)

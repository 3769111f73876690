"""The options of `clean`."""

import pytest

from pipelines.cleaning.clean import clean


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_inliers": 9}, "--min-inliers must be at least 15, got 9"),
        ({"min_photos": 1}, "--min-photos must be at least 2, got 1"),
        ({"neighbours": -1}, "--neighbours must be at least 0, got -1"),
        ({"seed": -1}, "--seed must be at least 0, got -1"),
        ({"seed": 2**31}, "--seed must be at most 2147483647, got 2147483648"),
    ],
)
def test_options_out_of_range_are_named(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        clean(tmp_path, tmp_path / "out", **options)

"""The options of `reconstruct`."""

from pathlib import Path

import pytest

from pipelines.sfm.reconstruct import reconstruct

pytest.importorskip("pycolmap")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs": "all"}, "--pairs must be one of retrieval, vocabulary-tree, exhaustive, got all"),
        ({"mapper": "magic"}, "--mapper must be one of incremental, hierarchical, global, got magic"),
        ({"neighbours": 0}, "--neighbours must be at least 1, got 0"),
        ({"descriptor_size": 0}, "--descriptor-size must be at least 1, got 0"),
        ({"min_inliers": 10}, "--min-inliers must be at least 15, got 10"),
        ({"vocabulary": Path("nowhere.bin")}, "--vocabulary nowhere.bin does not exist"),
    ],
)
def test_options_out_of_range_are_named(options, message, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        reconstruct(tmp_path, tmp_path / "work", **options)
    assert not (tmp_path / "work").exists()

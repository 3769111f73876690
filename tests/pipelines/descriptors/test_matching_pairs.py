"""Matching pairs: all pairs within sub-folders, and files that are not tuples."""

import numpy as np
import pytest

from pipelines.descriptors.matching_pairs import PairsError, read_pairs
from pipelines.photos.object_folders import ObjectFoldersError
from tests.helpers.small_network import draw_photo, draw_scenes, write_pairs


def test_sub_folders_are_paired_within(tmp_path):
    scenes = draw_scenes(tmp_path / "scenes")
    with pytest.raises(ObjectFoldersError, match=r"1 photo outside of folders, such as alone\.png"):
        read_pairs(scenes)
    pairs = read_pairs(scenes, rule="folders")
    assert "alone.png" not in pairs.images
    assert len(pairs.qidxs) == 8 * 4 * 3
    for q, p in zip(pairs.qidxs, pairs.pidxs, strict=True):
        query, positive = pairs.images[q], pairs.images[p]
        assert query != positive
        assert query.split("/")[0] == positive.split("/")[0]


@pytest.mark.parametrize(("changes", "message"), [
    ({"images": np.array([[1, 2]])}, "images must be a list of names"),
    ({"qidxs": np.array([0.5])}, "qidxs must be a list of integers"),
    ({"pidxs": np.array([0, 1, 2])}, "pidxs must be a list of integers as long"),
    ({"pidxs": np.array([7])}, "pidxs refers to a photo beyond the 2 named"),
    ({"pidxs": np.array([-1])}, "pidxs refers to a photo beyond"),
    ({"images": np.array(["a", {}], object)}, r"not an \.npz file with images"),
])  # fmt: skip
def test_damaged_tuples_are_named(tmp_path, changes, message):
    path = write_pairs(tmp_path / "tuples.npz", ["a.jpg", "b.jpg"], [(0, 1)], **changes)
    with pytest.raises(PairsError, match=message):
        read_pairs(path)


def test_files_that_are_no_tuples_are_named(tmp_path):
    with pytest.raises(PairsError, match=r"tuples\.npz does not exist"):
        read_pairs(tmp_path / "tuples.npz")
    for content in (b"", b"not a zip", b"PK\x03\x04broken"):
        (tmp_path / "broken.npz").write_bytes(content)
        with pytest.raises(PairsError, match=r"not an \.npz file with images, cluster, qidxs, pidxs"):
            read_pairs(tmp_path / "broken.npz")
    np.savez(tmp_path / "other.npz", images=np.array(["a"]))
    with pytest.raises(PairsError, match="cluster is not a file"):
        read_pairs(tmp_path / "other.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(PairsError, match=r"not an \.npz file with images, cluster, qidxs, pidxs"):
        read_pairs(tmp_path / "array.npy")
    draw_photo(tmp_path / "flat" / "a.png", 0, 0)
    with pytest.raises(ObjectFoldersError, match="has no sub-folders with photos"):
        read_pairs(tmp_path / "flat")
    assert read_pairs(tmp_path / "flat", needed=False).images == ["a.png"]

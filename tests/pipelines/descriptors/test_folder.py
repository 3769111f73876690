"""Folders of descriptors: shards in order, and errors for damaged or inconsistent folders."""

import json

import numpy as np
import pytest

from pipelines.descriptors.folder import KIND, VERSION, read_descriptors
from pipelines.files.durable import FolderError, partial_of, seal, write_array, write_file, write_names
from pipelines.files.shards import read_left_out


def descriptors(folder, arrays, names):
    partial = partial_of(folder)
    partial.mkdir()
    for number, array in enumerate(arrays):
        write_array(partial / f"descriptors-{number:05}.npy", array)
    write_names(partial / "names.txt", names)
    write_file(partial / "left_out.json", json.dumps({"x.jpg": "empty file"}))
    return seal(partial, folder, kind=KIND, version=VERSION)


def test_descriptors_are_mapped_in_order(tmp_path):
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    folder = descriptors(tmp_path / "out", [rows[:3], rows[3:]], list("abcde"))
    shards, names, _ = read_descriptors(folder)
    np.testing.assert_array_equal(np.concatenate(shards), rows)
    assert all(isinstance(shard, np.memmap) for shard in shards)
    assert names == list("abcde")
    assert read_left_out(folder) == {"x.jpg": "empty file"}


@pytest.mark.parametrize(
    ("arrays", "names", "message"),
    [
        ([], [], "not rows of one length"),
        ([np.zeros(3, "f4")], list("abc"), "not rows of one length"),
        ([np.zeros((1, 3), "f4"), np.zeros((1, 4), "f4")], list("ab"), "not rows of one length"),
        ([np.zeros((2, 3), "f4")], list("abc"), "contains 2 rows and 3 names"),
    ],
)
def test_descriptors_that_do_not_fit_together_are_told(tmp_path, arrays, names, message):
    folder = descriptors(tmp_path / "out", arrays, names)
    with pytest.raises(FolderError, match=message):
        read_descriptors(folder)


def test_damaged_shards_are_told(tmp_path):
    rows = np.ones((50, 4), "float32")
    folder = descriptors(tmp_path / "out", [rows], [str(row) for row in range(50)])
    path = folder / "descriptors-00000.npy"
    whole = path.read_bytes()
    contents = [whole[:cut] for cut in (0, 1, 5, 6, 9, 10, 40, 127, 128, 129, len(whole) - 1)]
    contents += [b"PK\x03\x04" + whole, whole.replace(b"'<f4'", b"'|O' "), whole.replace(b"(50, 4)", b"(90, 4)")]
    contents += [whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :] for at in range(128) for bit in (1, 8, 128)]
    refused = 0
    for content in contents:
        path.write_bytes(content)
        try:
            (shard,), _, _ = read_descriptors(folder)
        except FolderError:
            refused += 1
        else:
            assert len(shard) == 50
    assert refused > 200

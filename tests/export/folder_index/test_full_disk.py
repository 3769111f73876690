"""A full disk at any moment leaves an index whole; `python -m tests.helpers.full_disk` tries more sizes."""

import errno
import os

import numpy as np
import pytest
from keras_retrieval.pipelines.files.space import DiskSpaceError

from export.folder_index.builder import _write_hashes
from export.index_contract.index_settings import IndexSettings
from tests.helpers import full_disk


def test_a_full_disk_leaves_the_old_index_and_nothing_else(tmp_path, monkeypatch):
    if not full_disk.may_mount(tmp_path / "disk"):
        pytest.skip("this process may not mount a file system of a given size")
    outcomes, faults = full_disk.main(tmp_path, 2, {"exact": {}})
    assert faults == []
    assert sum(outcomes.values()) == 8
    assert {outcome for outcome in outcomes if outcome.endswith("refused")} == {
        f"exact {action}: refused" for action in full_disk.ACTIONS
    }


@pytest.mark.parametrize("error", [RuntimeError("Failed to write proto to ah_codebook.pb"), None])
def test_errors_of_scann_are_named_and_files_that_were_cut_off_are_noticed(tmp_path, monkeypatch, error):
    def cut_off(folder, *_):
        """Writes the files of ScaNN as it does on a full disk."""
        np.save(folder / "hashes.npy", np.zeros(1_000))
        os.truncate(folder / "hashes.npy", 4_096)
        if error is not None:
            raise error

    monkeypatch.setattr("export.folder_index.builder.write_hashes", cut_off)
    with pytest.raises(OSError, match=r"ScaNN could not write its files: .*(ah_codebook|mmap length)"):
        _write_hashes(tmp_path, tmp_path / "rows.npy", 8, IndexSettings())

    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(DiskSpaceError, match=r"needs more than the .* free on its disk"):
        _write_hashes(tmp_path, tmp_path / "rows.npy", 8, IndexSettings())

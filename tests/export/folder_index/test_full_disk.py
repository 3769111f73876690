"""A full disk at any moment leaves an index whole; `python -m tests.helpers.full_disk` tries more sizes."""

import pytest

from tests.helpers import full_disk


def test_a_full_disk_leaves_the_old_index_and_nothing_else(tmp_path, monkeypatch):
    if not full_disk.may_mount(tmp_path / "disk"):
        pytest.skip("this process may not mount a file system of a given size")
    outcomes, faults = full_disk.main(tmp_path, 2, {"exact": {}})
    assert faults == []
    assert sum(outcomes.values()) == 6
    assert {outcome for outcome in outcomes if outcome.endswith("refused")} == {
        f"exact {action}: refused" for action in full_disk.ACTIONS
    }

"""The checkpoint of a run: it stores the complete state, and a run is resumed only with the same options."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipelines.files.space import DiskSpaceError
from pipelines.training.checkpoint import (
    NAME,
    Checkpoint,
    CheckpointError,
    open_run,
    read_checkpoint,
    restore,
    write_checkpoint,
)


def checkpoint(**changes):
    rng = np.random.default_rng(0)
    fields = {
        "options": {"lr": 1e-6, "chunk": None, "loss": "contrastive"},
        "history": [{"epoch": 1, "loss": 0.1 + 0.2, "val_loss": None}],
        "step": 3,
        "samples": [["a.jpg", "b.jpg", ["c.jpg"]]],
        "best_epoch": 1,
        "weights": [rng.normal(size=shape).astype("float32") for shape in ((3, 4), (4,), ())],
        "optimizer": [np.array(7, "int64"), rng.normal(size=(3, 4)).astype("float32")],
        "metrics": [np.float32(2.5)],
        "stream": {"tuples": rng.integers(0, 9, (4, 7)), "epoch": np.array(2)},
        "best": [rng.normal(size=(3, 4)).astype("float32") for _ in range(12)],
    }
    return Checkpoint(**(fields | changes))


def test_what_is_read_is_what_was_written(tmp_path):
    written = checkpoint()
    write_checkpoint(tmp_path, written)
    read = read_checkpoint(tmp_path)
    assert (read.options, read.history, read.samples) == (written.options, written.history, written.samples)
    assert (read.best_epoch, read.epochs, read.step) == (1, 1, 3)
    assert read.stream.keys() == written.stream.keys()
    for name, array in written.stream.items():
        np.testing.assert_array_equal(read.stream[name], array)
    for key in ("weights", "optimizer", "metrics", "best"):
        for one, other in zip(getattr(read, key), getattr(written, key), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


def test_nothing_is_pickled(tmp_path):
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        write_checkpoint(tmp_path, checkpoint(weights=[np.array([{}], object)]))
    assert not (tmp_path / NAME).exists()


class Variable:
    def __init__(self, shape):
        self.shape, self.value = shape, None

    def assign(self, value):
        self.value = value


def test_restored_variables_have_the_values_of_the_checkpoint():
    kept = checkpoint()
    variables, optimizer = ([Variable(array.shape) for array in arrays] for arrays in (kept.weights, kept.optimizer))
    restore(kept, variables, optimizer)
    for variable, array in zip(variables + optimizer, kept.weights + kept.optimizer, strict=True):
        np.testing.assert_array_equal(variable.value, array)
    with pytest.raises(CheckpointError, match="weights do not fit this network"):
        restore(kept, [Variable((3, 5)), *variables[1:]], optimizer)
    with pytest.raises(CheckpointError, match="optimizer variables do not fit"):
        restore(kept, variables, optimizer[:1])


def test_a_new_run_and_one_that_goes_on(tmp_path):
    run, options = tmp_path / "deep" / "run", checkpoint().options
    assert open_run(run, options, resume=False).epochs == 0
    assert open_run(run, options, resume=True).epochs == 0
    (run / ".checkpoint.123.writing.npz").write_bytes(b"torn")
    write_checkpoint(run, checkpoint())
    assert open_run(run, options, resume=True).epochs == 1
    assert [path.name for path in run.iterdir()] == [NAME]
    with pytest.raises(CheckpointError, match="contains a run with 1 finished epochs: give --resume to continue it"):
        open_run(run, options, resume=False)


@pytest.mark.parametrize(("changes", "message"), [
    ({"lr": 2e-6}, "--lr 1e-06, not 2e-06"),
    ({"loss": "triplet"}, "--loss contrastive, not triplet"),
    ({"weight_decay": 1e-6}, "--weight-decay None, not 1e-06"),
    ({"chunk": 4}, "--chunk None, not 4"),
])  # fmt: skip
def test_other_options_than_at_the_start_are_named(tmp_path, changes, message):
    write_checkpoint(tmp_path, checkpoint())
    with pytest.raises(CheckpointError, match=message):
        open_run(tmp_path, checkpoint().options | changes, resume=True)


@pytest.mark.parametrize("damage", [
    lambda content: b"",
    lambda content: content[: len(content) // 2],
    lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
])  # fmt: skip
def test_a_damaged_file_is_named(tmp_path, damage):
    path = write_checkpoint(tmp_path, checkpoint())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=rf"{NAME} is damaged"):
        read_checkpoint(tmp_path)


def test_a_newer_layout_is_refused(tmp_path):
    np.savez(tmp_path / NAME, about=np.array('{"version": 99}'))
    with pytest.raises(CheckpointError, match="layout 99"):
        read_checkpoint(tmp_path)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    def full(file, *arguments, **arrays):
        Path(file).write_bytes(b"a part")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = write_checkpoint(tmp_path, Checkpoint({}, [{}]))
    before = path.read_bytes()
    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(DiskSpaceError, match=r"checkpoint\.npz needs"):
        write_checkpoint(tmp_path, Checkpoint({}, [{}, {}]))
    assert [file.name for file in tmp_path.iterdir()] == [NAME]
    assert path.read_bytes() == before


WRITER = """
import sys, numpy as np
from pathlib import Path
from pipelines.training.checkpoint import Checkpoint, write_checkpoint
number = 0
while True:
    weights = [np.full((300, 1000), number, "float32") for _ in range(4)]
    write_checkpoint(Path(sys.argv[1]), Checkpoint({}, [{}] * number, weights=weights))
    number += 1
"""


def test_a_kill_while_it_is_written_leaves_a_whole_one(tmp_path):
    rng = np.random.default_rng(3)
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)])
        deadline = time.monotonic() + 30
        while not (tmp_path / NAME).exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        process.wait()
        found = read_checkpoint(tmp_path)
        assert all((array == found.epochs).all() for array in found.weights)
        assert len(found.weights) == 4

"""A training run killed again and again: `python -m tests.helpers.interrupted_training FOLDER KILLS [SEED]`.

Trains once without a break and once with KILLS SIGKILLs at random moments, and prints how far the weights and the
figures of the two are apart. TensorFlow is imported once; each attempt is a process forked before it does any work.
"""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np


def make_collection(folder, scenes=9, views=4):
    """Draws photos of scenes, a network and tuples.npz, of which the last third of the scenes is for validation."""
    from pipelines.training_tuples.data import Tuples
    from pipelines.training_tuples.file import write_tuples
    from tests.helpers import small
    from tests.helpers.small_network import draw_photo

    names = [f"{scene}/{view}.png" for scene in range(scenes) for view in range(views)]
    for number, name in enumerate(names):
        height, width = ((40, 56), (50, 35))[number % 2]
        draw_photo(folder / "photos" / name, number // views, number % views, height, width)
    cluster = np.repeat(np.arange(scenes), views)
    qidxs, pidxs = np.nonzero((cluster[:, None] == cluster) & ~np.eye(len(names), dtype=bool))
    tuples = Tuples(names, cluster, qidxs, pidxs, validation=cluster >= 2 * scenes // 3)
    write_tuples(folder / "tuples.npz", tuples, {})
    small.saved_network(folder)
    return folder


def options(folder, **changes):
    """Options of `train` for a collection; a learning rate that moves the weights far in a few steps."""
    return {
        "tuples": folder / "tuples.npz", "photos": folder / "photos", "model": str(folder / "small.keras"),
        "output": folder / "run", "epochs": 4, "size": 56, "test_size": 56, "scales": "1", "lr": 1e-3,
        "checkpoint_steps": 3, "negatives": 3,
    } | changes  # fmt: skip


def attempt(work, seconds=None, after=None):
    """Does a piece of work in a forked process; returns whether it came to its end.

    It is killed after so many seconds, counted from its beginning, or from when the file `after` is first written.
    """
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    if seconds is not None:
        deadline, before = time.monotonic() + seconds, _written(after)
        while time.monotonic() < deadline or (after and _written(after) == before):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return _ended(status)
            if after and _written(after) == before:
                deadline = time.monotonic() + seconds
            time.sleep(0.005)
        os.kill(child, signal.SIGKILL)
    return _ended(os.waitpid(child, 0)[1])


def _written(path):
    return path.stat().st_mtime_ns if path and path.exists() else 0


def _ended(status):
    if os.WIFSIGNALED(status):
        return False
    if os.WEXITSTATUS(status):
        raise SystemExit("it failed, see above")
    return True


def main(folder, kills, seed, **changes):
    import keras
    import tensorflow  # noqa: F401

    from pipelines.training import report
    from pipelines.training.checkpoint import NAME, read_checkpoint
    from pipelines.training.train import train

    report.training_page = lambda *_: ""  # each process would import Matplotlib for charts that nobody looks at
    folder, changes = Path(folder), {"epochs": 5 + 2 * kills} | changes
    attempt(lambda: make_collection(folder))
    whole, broken = options(folder, output=folder / "whole", **changes), options(folder, resume=True, **changes)
    started = time.monotonic()
    attempt(lambda: train(**whole))
    seconds = time.monotonic() - started
    rng = np.random.default_rng(seed)
    survived = []
    while len(survived) < kills:
        # Every third while it begins, the others while it trains.
        trains = len(survived) % 3 != 2
        moment, after = (0.5, broken["output"] / NAME) if trains else (seconds / 3, None)
        if attempt(lambda: train(**broken), rng.uniform(0, moment), after):
            raise SystemExit(f"the run came to its end after {len(survived)} kills: make it longer")
        found = read_checkpoint(broken["output"])
        survived.append((found.epochs, found.step) if found else None)
    attempt(lambda: train(**broken))
    one, other = (read_checkpoint(arguments["output"]) for arguments in (whole, broken))
    pairs = zip(one.weights + one.best, other.weights + other.best, strict=True)
    apart = max(np.abs(a - b).max(initial=0) for a, b in pairs)
    first = keras.saving.load_model(folder / "small.keras", compile=False).get_weights()
    moved = max(np.abs(a - b).max(initial=0) for a, b in zip(first, one.weights, strict=True))
    rows = list(zip(one.history, other.history, strict=True))
    figures = max(abs(a[key] - b[key]) for a, b in rows for key in ("loss", "val_loss", "negative_distance"))
    print(f"{kills} kills; found (epochs, steps) {survived}")
    print(f"weights moved by {moved:.3g} and are {apart:.3g} apart; figures {figures:.3g}; best {one.best_epoch}")
    if not (apart <= 1e-6 < moved and figures <= 1e-5 and one.best_epoch == other.best_epoch):
        raise SystemExit("the runs differ")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)

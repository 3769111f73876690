"""Trains on one device, on two, and in two processes: `python -m tests.helpers.distributed_training FOLDER`.

TensorFlow is imported once; each run is a process forked before TensorFlow has made its devices.
"""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np

from tests.helpers.interrupted_training import attempt, make_collection, options


def forked(work, log=None):
    """Starts a piece of work in a forked process, with its output in a file; returns the id of the process."""
    child = os.fork()
    if not child:
        status = 1
        file = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        try:
            work()
            status = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
        finally:
            os._exit(status)
    return child


def make_in_child(folder):
    """Makes the photos, tuples and network in a process of its own, so that this one does not use TensorFlow."""
    attempt(lambda: make_collection(folder))


def counted_reads(note):
    """Counts the photos that this process reads, from files and from the cache, and writes the numbers to a file."""
    from pipelines.photos.cache import PhotoCache
    from pipelines.photos.reading import Reading

    counts = {"PhotoCache": 0, "Reading": 0}
    for kind in (PhotoCache, Reading):

        def read(self, name, kind=kind, plain=kind.read):
            counts[kind.__name__] += 1
            note.write_text(json.dumps(counts))
            return plain(self, name)

        kind.read = read


def worker(number, addresses, folder, **changes):
    """Trains as one of several workers."""
    from pipelines.training.train import train

    cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
    os.environ["TF_CONFIG"] = json.dumps(cluster)
    counted_reads(changes["output"].parent / f"{changes['output'].name}-{number}.json")
    train(**options(folder, workers=True, **changes))


def start_workers(folder, count=2, **changes):
    """Starts processes that train together; returns their ids and the files with their output."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    logs = [changes["output"].parent / f"{changes['output'].name}-{number}.log" for number in range(count)]
    ids = [forked(lambda n=n: worker(n, addresses, folder, **changes), logs[n]) for n in range(count)]
    return ids, logs


def ended(ids, logs):
    """Waits for processes, all of which must end without an error."""
    for one, log in zip(ids, logs, strict=True):
        status = os.waitstatus_to_exitcode(os.waitpid(one, 0)[1])
        if status:
            raise SystemExit(f"{log.name} ended with {status}: {log.read_text()[-3000:]}")


def apart(one, other):
    """Returns the largest difference of the weights and of the losses of two runs."""
    from pipelines.training.checkpoint import read_checkpoint

    one, other = read_checkpoint(one), read_checkpoint(other)
    pairs = zip(one.weights + one.optimizer, other.weights + other.optimizer, strict=True)
    weights = max(np.abs(a - b).max(initial=0) for a, b in pairs)
    rows = zip(one.history, other.history, strict=True)
    return weights, max(abs(a[key] - b[key]) for a, b in rows for key in ("loss", "val_loss"))


def killed(folder, moment, **changes):
    """Kills the second of two workers after so many checkpoints; returns the seconds until the first has ended."""
    from pipelines.training.checkpoint import NAME

    ids, logs = start_workers(folder, **changes)
    path, seen, last = changes["output"] / NAME, 0, 0
    while seen < moment:
        now = path.stat().st_mtime_ns if path.exists() else 0
        seen, last = seen + (now != last), now
        if os.waitpid(ids[0], os.WNOHANG)[0]:
            raise SystemExit(f"worker 0 ended by itself: {logs[0].read_text()[-3000:]}")
        time.sleep(0.002)
    os.kill(ids[1], signal.SIGKILL)
    began = time.monotonic()
    os.waitpid(ids[1], 0)
    status = os.waitstatus_to_exitcode(os.waitpid(ids[0], 0)[1])
    return time.monotonic() - began, status, logs[0].read_text().splitlines()[-1]


PLAIN = {"precision": "float32", "whiten": "none", "batch": 4, "queries": 24, "epochs": 4, "optimizer": "sgd"}


def on_one_machine(folder, output, **changes):
    """Trains in a forked process, on the devices that the options name."""
    from pipelines.training.train import train

    def work():
        counted_reads(folder / f"{output.name}-0.json")
        train(**options(folder, output=output, **changes))

    log = folder / f"{output.name}.log"
    ended([forked(work, log)], [log])


def reads(output, number=0):
    """Returns the number of photos that a process of a run has read, from files and from the cache."""
    return json.loads((output.parent / f"{output.name}-{number}.json").read_text())


def compared(folder, number, changes):
    """Trains on one device, on two and in two processes; returns the differences and the shares of photos read."""
    one, two, both = (folder / f"{number}-{kind}" for kind in ("one", "devices", "workers"))
    on_one_machine(folder, one, **PLAIN | changes)
    on_one_machine(folder, two, devices=2, **PLAIN | changes)
    ended(*start_workers(folder, output=both, **PLAIN | changes))
    alone, shares = reads(one), [reads(both, worker) for worker in range(2)]
    most = {kind: max(share[kind] for share in shares) / alone[kind] for kind in alone}
    return apart(one, two), apart(one, both), most


def main(folder):
    """The smallest run that shows it: two processes equal one, a killed one ends the other, and both resume."""
    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    from pipelines.training import report

    report.training_page = lambda *_: ""  # each process would import Matplotlib for charts that nobody looks at
    folder = Path(folder)
    make_in_child(folder)
    one, both = folder / "one", folder / "both"
    on_one_machine(folder, one, **PLAIN)
    print("status and last line of the other", *killed(folder, 2, output=both, checkpoint_steps=1, **PLAIN)[1:])
    ended(*start_workers(folder, output=both, resume=True, checkpoint_steps=1, **PLAIN))
    weights, losses = apart(one, both)
    print(f"apart: weights {weights:.2g}, losses {losses:.2g}")
    if weights > 1e-6 or losses > 1e-5:
        raise SystemExit("too far apart")


if __name__ == "__main__":
    main(sys.argv[1])

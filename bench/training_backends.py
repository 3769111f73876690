"""Training on JAX against TensorFlow: losses of each step, seconds of the processor, and a resumed run.

    python -m bench.training_backends

Two epochs of --steps steps on photos in a folder for each object, from the same weights in float32. Losses: largest
difference from TensorFlow's of the mean loss after each step, and of the validation's. Seconds of the processor are
of the whole run, with imports, tracing and compiling, and bear other work on the machine. At last a run on JAX is
stopped within its second epoch and resumed. One process a run, in a temporary folder.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench.photos import photos
from bench.record import recorded

RUNS: dict[str, dict[str, Any]] = {
    "tuples, padded": {},
    "tuples, exact sizes, refreshed, in chunks": {"padded": False, "refresh": 2, "chunk": 6},
    "classes, batch-hard": {"batch_classes": "4x2", "loss": "batch-hard"},
    "tuples, padded, two devices": {"devices": 2},
}
SET_ASIDE = 3  # objects whose photos are for validation
CASTLE = ("castle_p30", "entry_p10", "fountain_p11")  # show one place


def prepare(folder: Path, network: str) -> None:
    """Writes tuples, each photo with the next one of its folder, and the network."""
    from bench.photos import network as built
    from pipelines.networks.files import save_model
    from pipelines.training_tuples.data import Tuples
    from pipelines.training_tuples.file import write_tuples

    source, _ = photos("photos", 120)
    names = sorted(path.relative_to(source).as_posix() for path in source.rglob("*.*") if path.parent != source)
    objects = sorted({name.split("/")[0] for name in names})
    cluster = np.array([objects.index(name.split("/")[0]) for name in names])
    queries = np.flatnonzero(cluster[:-1] == cluster[1:])
    positives = queries + 1
    place = [objects.index(name) for name in CASTLE if name in objects]
    links = np.array([(one, other) for one in place for other in place if one < other], np.int64).reshape(-1, 2)
    aside = [number for number in range(len(objects)) if number not in place][:SET_ASIDE]
    tuples = Tuples(names, cluster, queries, positives, same_object=links, validation=np.isin(cluster, aside))
    write_tuples(folder / "tuples.npz", tuples, {"photos": str(source)})
    save_model(built(network), folder / "network.keras")


def train(folder: Path, output: Path, changes: dict[str, Any], stop: int) -> None:
    """Trains in this process, and writes the loss of each step; stops after so many steps of all epochs, if above 0."""
    from pipelines.training import callbacks, report
    from pipelines.training import run as running
    from pipelines.training.train import train as step

    report.training_page = lambda *_: ""  # type: ignore[attr-defined]
    losses: list[float] = []

    def noted(*args: Any) -> Any:
        def end(logs: dict[str, Any]) -> None:
            losses.append(float(logs["loss"]))
            if len(losses) == stop:
                raise KeyboardInterrupt

        callback = callbacks.step_progress(*args)
        progress = callback.on_train_batch_end

        def both(batch: int, logs: Any = None) -> None:
            progress(batch, logs)
            end(logs)

        callback.on_train_batch_end = both
        return callback

    running.step_progress = noted  # type: ignore[assignment, attr-defined]
    source, _ = photos("photos", 120)
    options: dict[str, Any] = {
        "tuples": folder / "tuples.npz", "photos": source, "model": str(folder / "network.keras"), "output": output,
        "cache": folder / "cache", "epochs": 2, "batch": 2, "negatives": 3, "pool": 60, "lr": 1e-5, "whiten": "none",
        "precision": "float32",
    }  # fmt: skip
    step(**options | changes)
    (output / "losses.json").write_text(json.dumps(losses))


def run(folder: Path, output: Path, backend: str, changes: dict[str, Any], stop: int = 0) -> float:
    """Trains in a process of its own; returns the seconds of the processor."""
    before = os.times()
    given = [str(folder), "--output", str(output), "--changes", json.dumps(changes), "--stop", str(stop)]
    ended = subprocess.run(
        [sys.executable, "-m", "bench.training_backends", "--run", *given],
        env=os.environ | {"KERAS_BACKEND": backend},
        check=False,
        capture_output=True,
        text=True,
    )
    if ended.returncode and not stop:
        raise SystemExit(f"{output.name} ended with {ended.returncode}: {ended.stderr[-3000:]}")
    now = os.times()
    return now.children_user + now.children_system - before.children_user - before.children_system


def apart(one: Path, other: Path) -> tuple[float, float]:
    """Returns the largest difference of the losses of two runs, and of their weights."""
    from pipelines.training.checkpoint import read_checkpoint

    first, second = read_checkpoint(one), read_checkpoint(other)
    assert first is not None
    assert second is not None
    losses = [abs(a["val_loss"] - b["val_loss"]) for a, b in zip(first.history, second.history, strict=True)]
    losses += [abs(a["loss"] - b["loss"]) for a, b in zip(first.history, second.history, strict=True)]
    notes = [path / "losses.json" for path in (one, other)]
    steps = [json.loads(note.read_text()) for note in notes]
    if len(steps[0]) == len(steps[1]):
        losses += [abs(a - b) for a, b in zip(*steps, strict=True)]
    weights = zip(first.weights + first.optimizer, second.weights + second.optimizer, strict=True)
    return max(losses), max(float(np.abs(a - b).max(initial=0)) for a, b in weights)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--network", default="alexnet_gem", help="name of the network")
    parser.add_argument("--size", type=int, default=160, help="longest side of the photos, in pixels")
    parser.add_argument("--steps", type=int, default=12, help="steps of an epoch")
    parser.add_argument("--run", type=Path, help="used for the processes: trains once, in this folder")
    parser.add_argument("--output", type=Path, help="used for the processes: folder of the run")
    parser.add_argument("--changes", help="used for the processes: options of the run")
    parser.add_argument("--stop", type=int, default=0, help="used for the processes: steps after which the run stops")
    options = parser.parse_args()
    if options.run:
        train(options.run, options.output, json.loads(options.changes), options.stop)
        return
    size = {"size": options.size, "test_size": options.size, "scales": "1"}
    with tempfile.TemporaryDirectory() as name, recorded("training-backends") as add:
        folder = Path(name)
        prepare(folder, options.network)
        for number, (kind, changes) in enumerate(RUNS.items()):
            steps = {"steps": options.steps} if "batch_classes" in changes else {"queries": 2 * options.steps}
            one, other = folder / f"{number}-tensorflow", folder / f"{number}-jax"
            used = run(folder, one, "tensorflow", size | steps | changes)
            on_jax = run(folder, other, "jax", size | steps | changes)
            add(
                {
                    "run": kind,
                    "losses": f"{apart(one, other)[0]:.1g}",
                    "TensorFlow, CPU s": f"{used:.0f}",
                    "JAX, CPU s": f"{on_jax:.0f}",
                    "weights after resuming": None,
                }
            )
        changes = size | {"queries": 2 * options.steps, "checkpoint_steps": 2}
        broken = folder / "broken"
        run(folder, broken, "jax", changes, stop=options.steps + options.steps // 2)
        run(folder, broken, "jax", changes | {"resume": True})
        add(
            {
                "run": "tuples, padded, resumed on JAX",
                "losses": None,
                "TensorFlow, CPU s": None,
                "JAX, CPU s": None,
                "weights after resuming": f"{apart(folder / '0-jax', broken)[1]:.1g}",
            }
        )


if __name__ == "__main__":
    main()

"""Training on one device, on two (parts of the CPU) and in two processes: losses, photos read, killed workers.

    python -m bench.several_devices

Small networks and photos: the table shows that the results are the same, not speed. For each kind of run it lists the
largest difference of the losses of 24 steps and of their validation to those on one device, and the share of the photos
that the process which reads most reads, from their files and from the cache. Then one of two processes is killed at
several moments, and the run is resumed.
"""

import tempfile
from pathlib import Path

from bench.record import recorded
from pipelines.training.train_options import ON_CLASSES, ON_LABELS
from tests.helpers.distributed_training import PLAIN, apart, compared, ended, killed, make_in_child, start_workers

RUNS = {
    "tuples, contrastive, padded, Lw": {"whiten": "lw"},
    "tuples, contrastive, exact sizes, refreshed, in chunks": {"padded": False, "refresh": 2, "chunk": 5},
    **{f"tuples, {loss}": {"loss": loss} for loss in ("triplet", "ranking")},
    **{f"classes, {loss}": {"batch_classes": "4x2", "loss": loss} for loss in (*ON_LABELS, *ON_CLASSES)},
}
MOMENTS = (1, 4, 7)  # checkpoints after which a worker is killed


def main() -> None:
    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    from pipelines.training import report

    report.training_page = lambda *_: ""  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as name, recorded("several-devices") as add:
        folder = Path(name)
        make_in_child(folder)
        for number, (kind, changes) in enumerate(RUNS.items()):
            devices, workers, most = compared(folder, number, changes)
            add(
                {
                    "run": kind,
                    "losses, two devices": f"{devices[1]:.1g}",
                    "losses, two processes": f"{workers[1]:.1g}",
                    "photos read by one process": f"{max(most.values()):.1%}",
                    "end of the others": None,
                    "weights after resuming": None,
                }
            )
        changes = PLAIN | {"epochs": 6, "checkpoint_steps": 2}
        whole, broken = folder / "whole", folder / "broken"
        ended(*start_workers(folder, output=whole, **changes))
        found = [killed(folder, moment, output=broken, resume=True, **changes) for moment in MOMENTS]
        if not all(status for _, status, _ in found):
            raise SystemExit("a process did not notice that another was killed")
        ended(*start_workers(folder, output=broken, resume=True, **changes))
        add(
            {
                "run": f"one of two processes killed {len(found)} times",
                "losses, two devices": None,
                "losses, two processes": None,
                "photos read by one process": None,
                "end of the others": f"{max(seconds for seconds, _, _ in found):.1f} s",
                "weights after resuming": f"{apart(whole, broken)[0]:.1g}",
            }
        )


if __name__ == "__main__":
    main()

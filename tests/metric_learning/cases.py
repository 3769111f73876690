"""Writes what our losses compute: `python -m tests.metric_learning.cases FOLDER`."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval import losses
from tests.helpers.backends import gradient
from tests.metric_learning.batches import batches, of_classes, sequences

PAIRS: tuple[dict[str, Any], ...] = (
    {},
    {"epsilon": None},
    {"alpha": 2.0, "beta": 40.0, "base": 0.5},
    {"epsilon": 0.3, "base": 1.0},
)
TEMPERATURES = (0.05, 0.3, 1.0)
CLASSES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("CosFaceLoss", {"margin": 0.35, "scale": 64.0}),
    ("CosFaceLoss", {"margin": 0.4, "scale": 30.0}),
    ("ArcFaceLoss", {"margin": 0.5, "scale": 64.0}),
    ("ArcFaceLoss", {"margin": 2.0, "scale": 16.0}),
    ("ArcFaceLoss", {"margin": 0.3, "scale": 32.0, "sub_centres": 3}),
)


def value_and_gradient(loss: Any, labels: np.ndarray, x: np.ndarray) -> dict[str, np.ndarray]:
    """The loss of a batch, and its gradient with respect to the descriptors."""
    labels, x = labels.astype("int32"), x.astype("float32")
    return {"value": np.float32(loss(labels, x)), "gradient": gradient(lambda x: loss(labels, x), x)}


def on_pairs() -> Iterator[tuple[str, dict[str, Any]]]:
    """Cases of the multi-similarity loss."""
    for number, options in enumerate(PAIRS):
        for name, x, labels in batches():
            found = value_and_gradient(losses.MultiSimilarityLoss(**options), labels, x)
            yield f"pairs-{number}-{name}", {"options": options, "descriptors": x, "labels": labels, **found}


def softmax_over_pairs() -> Iterator[tuple[str, dict[str, Any]]]:
    """Cases of the InfoNCE loss."""
    for number, temperature in enumerate(TEMPERATURES):
        for name, x, labels in batches():
            found = value_and_gradient(losses.InfoNCELoss(temperature), labels, x)
            options = {"temperature": temperature}
            yield f"softmax-{number}-{name}", {"options": options, "descriptors": x, "labels": labels, **found}


def on_classes() -> Iterator[tuple[str, dict[str, Any]]]:
    """Cases of the losses on classes, with their centres and the gradients of these."""
    for number, (kind, options) in enumerate(CLASSES):
        for name, x, labels, classes in of_classes():
            loss = getattr(losses, kind)(classes, x.shape[1], **options)
            centres = loss.layer.centres
            centres.assign(np.random.default_rng(number).normal(size=centres.shape))
            of_centres = gradient(lambda x, loss=loss, y=labels: loss(y, x), x.astype("float32"), centres)
            yield f"classes-{number}-{name}", {
                "kind": kind, "options": options, "descriptors": x, "labels": labels, "centres": np.array(centres),
                "centres_gradient": np.asarray(of_centres), **value_and_gradient(loss, labels, x),
            }  # fmt: skip


def with_memory() -> Iterator[tuple[str, dict[str, Any]]]:
    """Sequences of batches through a memory that they fill more than once."""
    for name, size, steps in sequences():
        # Two memories, as the value and the gradient each put the batch into theirs.
        memories = [losses.CrossBatchMemory(size, steps[0][0].shape[1]) for _ in range(2)]
        found: dict[str, Any] = {"size": size, "steps": len(steps)}
        for step, (x, labels) in enumerate(steps):
            x, labels = x.astype("float32"), labels.astype("int32")
            found[f"descriptors{step}"], found[f"labels{step}"] = x, labels
            found[f"value{step}"] = np.float32(memories[0](labels, x))
            found[f"gradient{step}"] = gradient(lambda x, y=labels, memory=memories[1]: memory(y, x), x)
        yield f"memory-{name}", found


def main() -> None:
    """Writes all cases into the folder that the command line names."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    for cases in (on_pairs, softmax_over_pairs, on_classes, with_memory):
        for name, case in cases():
            case = case | ({"options": json.dumps(case["options"])} if "options" in case else {})
            np.savez(folder / f"{name}.npz", **case)


if __name__ == "__main__":
    main()

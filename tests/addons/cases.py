"""Writes what our losses and an exported network compute: `python -m tests.addons.cases FOLDER`."""

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval import losses
from keras_retrieval.steps import function_name, module_name
from tests.helpers.backends import gradient
from tests.helpers.small_network import save_network

HARD, SEMI_HARD = losses.BatchHardTripletLoss, losses.SemiHardTripletLoss
ON_LABELS: tuple[tuple[Any, dict[str, Any]], ...] = (
    (HARD, {}),
    (HARD, {"margin": 0.2, "distance_metric": "squared-L2"}),
    (HARD, {"soft": True}),
    (HARD, {"soft": True, "distance_metric": "squared-L2"}),
    (SEMI_HARD, {}),
    (SEMI_HARD, {"margin": 0.2}),
    (SEMI_HARD, {"margin": 0.2, "distance_metric": "squared-L2"}),
)


def batches() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, descriptors (K, D) and labels (K,): some labels have one photo only."""
    for seed, (photos, dimensions) in enumerate([(7, 8), (12, 16), (35, 64), (35, 512), (64, 128)]):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(photos, dimensions))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        yield f"{photos}x{dimensions}", x, rng.integers(0, photos // 2, photos)
    yield "one-label", x, np.zeros(len(x))
    yield "no-pair", x, np.arange(len(x))
    yield "not-unit", x[:20] * rng.uniform(0.1, 3, (20, 1)), rng.integers(0, 6, 20)
    # Halves are exact in float32: equal descriptors, equal distances and hinges at their bend are met alike.
    yield "ties", rng.integers(-1, 2, (24, 4)) / 2, rng.integers(0, 6, 24)


def tuples() -> Iterator[tuple[str, np.ndarray]]:
    """Name and descriptors (B, M, D) of tuples: pairs that match, and tuples with negatives."""
    for seed, shape in enumerate([(6, 2, 16), (5, 7, 32), (3, 3, 8)]):
        x = np.random.default_rng(seed).normal(size=shape)
        yield f"tuples{seed}", x / np.linalg.norm(x, axis=-1, keepdims=True) * 0.6


def save(path: Path, loss: Any, options: dict[str, Any], x: np.ndarray, labels: np.ndarray) -> None:
    """Saves a batch, and our loss' value on it and gradient."""
    x = x.astype("float32")
    labels = labels.astype("int32")
    written = {
        "loss": type(loss).__name__,
        "options": json.dumps(options),
        "descriptors": x,
        "labels": labels,
        "value": np.float32(loss(labels, x)),
        "gradient": gradient(lambda x: loss(labels, x), x),
    }
    np.savez(path, **written)


def save_losses(folder: Path) -> None:
    """One file for each loss and batch."""
    for k, (make, options) in enumerate(ON_LABELS):
        for name, x, labels in batches():
            save(folder / f"{make.__name__}-{k}-{name}.npz", make(**options), options, x, labels)
    for margin in (0.4, 0.75):
        for name, x in tuples():
            options = {"margin": margin}
            labels = np.arange(x.shape[1]) < 2
            save(folder / f"ContrastiveLoss-{margin}-{name}.npz", losses.ContrastiveLoss(margin), options, x, labels)


def save_exported(folder: Path) -> None:
    """A small network as SavedModel, with photos and their descriptors."""
    import keras

    step = "export-saved-model"
    network = save_network(folder / "small.keras")
    getattr(import_module(module_name(step)), function_name(step))(network, folder / "saved_model", webp=False)
    photos = np.random.default_rng(0).integers(0, 256, (3, 40, 56, 3), "uint8")
    descriptors = keras.saving.load_model(network)(photos.astype("float32"))
    np.savez(folder / "saved_model.npz", photos=photos, descriptors=np.asarray(descriptors))


def main() -> None:
    """Writes all cases into the folder that the command line names."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    save_losses(folder)
    save_exported(folder)


if __name__ == "__main__":
    main()

"""Batches of descriptors and labels on which losses are compared."""

from collections.abc import Iterator

import numpy as np


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of length 1, in float32."""
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype("float32")


def clustered(rng: np.random.Generator, labels: np.ndarray, dimensions: int, spread: float = 1.0) -> np.ndarray:
    """Descriptors that are nearer to those of their label than to others: the miner keeps only some pairs."""
    centres = rng.normal(size=(labels.max() + 1, dimensions))
    return unit(centres[labels] + spread * rng.normal(size=(len(labels), dimensions)))


def batches() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, descriptors (K, D) and labels (K,)."""
    for seed, (classes, each, dimensions) in enumerate([(3, 2, 8), (4, 4, 16), (60, 4, 64), (5, 7, 512)]):
        rng = np.random.default_rng(seed)
        labels = np.repeat(np.arange(classes), each)
        yield f"{classes}x{each}x{dimensions}", clustered(rng, labels, dimensions), labels
    x = unit(rng.normal(size=(20, 16)))
    yield "some-alone", x, rng.integers(0, 12, 20)
    yield "one-label", x, np.zeros(20, int)
    yield "no-positives", x, np.arange(20)
    yield "one-photo", x[:1], np.zeros(1, int)
    yield "not-unit", x * rng.uniform(0.1, 3, (20, 1)).astype("float32"), rng.integers(0, 6, 20)
    yield "duplicates", x[[0, 0, 1, 1, 2, 2, 0, 3]], np.array([0, 0, 1, 1, 2, 2, 3, 3])


def of_classes() -> Iterator[tuple[str, np.ndarray, np.ndarray, int]]:
    """Name, descriptors (K, D), classes (K,), and the number of classes."""
    for seed, (photos, classes, dimensions) in enumerate([(6, 4, 8), (32, 50, 64), (1, 2, 16), (24, 500, 128)]):
        rng = np.random.default_rng(seed)
        yield f"{photos}x{classes}x{dimensions}", unit(rng.normal(size=(photos, dimensions))), rng.integers(
            0, classes, photos
        ), classes  # fmt: skip


def sequences() -> Iterator[tuple[str, int, list[tuple[np.ndarray, np.ndarray]]]]:
    """Name, size of the memory, and batches of descriptors and labels."""
    rng = np.random.default_rng(0)
    for name, size, photos, steps in [("exact", 24, 8, 6), ("uneven", 20, 8, 6), ("one-batch", 8, 8, 3)]:
        found = []
        for _ in range(steps):
            labels = np.repeat(rng.integers(0, 6, photos // 2), 2)
            found.append((clustered(np.random.default_rng(1), np.r_[labels, 5], 16)[:photos], labels))
        yield name, size, [(unit(x + 0.5 * rng.normal(size=x.shape)), labels) for x, labels in found]

"""Classification of landmarks: photos of a folder for each, cut to squares, and a classifier on a network's trunk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..photos.augmentation import jitter, square
from ..photos.cache import PhotoSource
from .network import layers_of_trunk

READ_AHEAD = 2  # batches that are being read while one is learned from


@dataclass(frozen=True)
class LandmarkBatches:
    """Photos with the numbers of their landmarks, in batches of squares.

    Attributes:
        photos: where they are read.
        names: (n,) of the photos.
        labels: (n,) int32, the number of each one's landmark.
        side: of the squares in pixels.
        batch: photos in a batch; training takes no more than whole batches of them.
        least: the least share of a photo's shorter side that a random square has; None for the square in the middle.
        flip: mirror half of the squares.
        jitter: strength of random brightness, contrast, saturation; 0 for none.
        seed: of all that is drawn.
    """

    photos: PhotoSource
    names: Sequence[str]
    labels: np.ndarray
    side: int
    batch: int
    least: float | None
    flip: bool
    jitter: float
    seed: int

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        whole = len(self.names) // self.batch
        return max(1, whole) if self.least is not None else -(-len(self.names) // self.batch)

    def state(self) -> dict[str, np.ndarray]:
        """Nothing: what an epoch draws follows from the seed and its number."""
        return {}

    def dataset(self, epoch: int, start: int = 0) -> Any:
        """The batches of an epoch from the step `start` on.

        Returns:
            A tf.data.Dataset of (B, side, side, 3) uint8 and (B,) int32.
        """
        import tensorflow as tf

        order = self._order(epoch)

        def read(step: Any) -> Any:
            return tf.numpy_function(lambda one: self._read(order, epoch, int(one)), [step], [tf.uint8, tf.int32])

        def shaped(pixels: Any, labels: Any) -> Any:
            return tf.ensure_shape(pixels, (None, self.side, self.side, 3)), tf.ensure_shape(labels, (None,))

        return tf.data.Dataset.range(start, self.steps).map(read, READ_AHEAD, True).map(shaped).prefetch(1)

    def _order(self, epoch: int) -> np.ndarray:
        rows = np.arange(len(self.names))
        return rows if self.least is None else np.random.default_rng([self.seed, epoch]).permutation(rows)

    def _read(self, order: np.ndarray, epoch: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        rows = order[step * self.batch : (step + 1) * self.batch]
        rng = np.random.default_rng([self.seed, epoch, step, 1])
        return np.stack([self._square(self.names[row], rng) for row in rows.tolist()]), self.labels[rows]

    def _square(self, name: str, rng: np.random.Generator) -> np.ndarray:
        pixels = self.photos.read(name)
        if self.least is None:
            return square(pixels, self.side)
        pixels = square(pixels, self.side, self.least, rng)
        if self.flip and rng.random() < 0.5:
            pixels = pixels[:, ::-1]
        return jitter(pixels, self.jitter, rng) if self.jitter else pixels


def numbered(landmarks: Mapping[str, Sequence[str]]) -> tuple[list[str], np.ndarray]:
    """All photos and the number of each one's landmark, in the order of the landmarks.

    Returns:
        Names (n) and labels (n,) int32.
    """
    names = [name for some in landmarks.values() for name in some]
    return names, np.repeat(np.arange(len(landmarks), dtype=np.int32), [len(some) for some in landmarks.values()])


def set_aside(batches: LandmarkBatches, share: float) -> tuple[LandmarkBatches, LandmarkBatches | None]:
    """Parts batches into those to train on and those for validation: a share of each landmark's photos, one left.

    Returns:
        Those to train on, and those for validation in squares from the middle; None where there are none.
    """
    rng = np.random.default_rng([batches.seed, 2])
    aside = np.zeros(len(batches.names), bool)
    for label in np.unique(batches.labels):
        rows = rng.permutation(np.flatnonzero(batches.labels == label))
        aside[rows[: min(round(share * len(rows)), len(rows) - 1)]] = True
    parts = [
        replace(
            batches, names=[batches.names[row] for row in np.flatnonzero(part).tolist()], labels=batches.labels[part]
        )
        for part in (~aside, aside)
    ]
    training = replace(parts[0], batch=min(batches.batch, len(parts[0].names)))
    return training, replace(parts[1], least=None) if aside.any() else None


def freeze_layers(network: Any, count: int) -> None:
    """Keeps the first layers of a network's trunk as they are, and all BatchNormalization, statistics and factors.

    Args:
        network: from `keras_retrieval.build`.
        count: layers with weights, from the photo on.

    Raises:
        ValueError: the trunk has fewer.
    """
    import keras

    layers = layers_of_trunk(network)
    if count > len(layers):
        raise ValueError(f"--freeze {count}: the trunk of {network.name} has {len(layers)} layers that learn")
    for number, layer in enumerate(layers):
        if number < count or isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def classifier_on(network: Any, classes: int) -> Any:
    """A classifier on the trunk of a retrieval network, whose weights it shares.

    The trunk's map is averaged over its cells and one dense layer gives a logit for each landmark, so that photos of
    any size are classified.

    Args:
        network: from `keras_retrieval.build`.
        classes: how many landmarks.

    Returns:
        A keras.Model: RGB 0..255 (B, H, W, 3) -> (B, classes) logits.

    Raises:
        ValueError: the network has no trunk of its own.
    """
    import keras

    trunk = next((layer for layer in network.layers if isinstance(layer, keras.Model)), None)
    if trunk is None:
        raise ValueError(f"{network.name} has no trunk to train: give a network that `keras-retrieval build` made")
    images = keras.Input((None, None, 3), name="images")
    features = trunk(network.get_layer("normalization")(images))
    pooled = keras.layers.GlobalAveragePooling2D(name="average", dtype="float32")(features)
    logits = keras.layers.Dense(classes, name="landmarks", dtype="float32")(pooled)
    return keras.Model(images, logits, name=f"{trunk.name}_classifier")

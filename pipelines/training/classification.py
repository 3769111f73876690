"""Classification of landmarks: batches of square crops of photos, and a classifier on a network's trunk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_retrieval.errors import ArgumentError

from ..photos.augmentation import jitter, square
from ..photos.cache import PhotoSource
from .network import layers_of_trunk, too_many_frozen

READ_AHEAD = 2  # number of batches that are read during a training step


@dataclass(frozen=True)
class LandmarkBatches:
    """Batches of square crops of photos, each photo labelled with the number of its landmark.

    Attributes:
        photos: reader of the photos' pixels, such as a `PhotoCache`.
        names: (n,) names of the photos.
        labels: (n,) int32 numbers of the photos' landmarks.
        side: the side of the crops in pixels.
        batch: number of photos in a batch. With random crops, the last photos of an epoch are left out if they do not
            fill a batch.
        least: minimum side of a random crop before it is resized, as a share of the photo's shorter side. None is for
            validation: central crops in a fixed order, without random changes.
        flip: whether half of the crops, chosen at random, are mirrored.
        jitter: strength of random changes of brightness, contrast and saturation; 0 for no changes.
        seed: random seed.
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
        """Number of batches in an epoch."""
        whole = len(self.names) // self.batch
        return max(1, whole) if self.least is not None else -(-len(self.names) // self.batch)

    def state(self) -> dict[str, np.ndarray]:
        """Returns an empty dict, because the crops of an epoch depend only on the seed and the number of the epoch.

        A checkpoint therefore needs no further state to resume within an epoch.
        """
        return {}

    def dataset(self, epoch: int, start: int = 0) -> Any:
        """Returns the batches of an epoch as a dataset for `fit`.

        Args:
            epoch: the number of the epoch, from 0.
            start: number of the first batch to return, above 0 for a run that is resumed within an epoch.

        Returns:
            A tf.data.Dataset of crops (B, side, side, 3) uint8 and labels (B,) int32.
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
    """Numbers landmarks from 0, in the order of the dict, and lists their photos with these numbers.

    Args:
        landmarks: dict from the name of each landmark to the names of its photos.

    Returns:
        The names of all n photos, and an (n,) int32 array with the number of each photo's landmark.
    """
    names = [name for photos in landmarks.values() for name in photos]
    return names, np.repeat(np.arange(len(landmarks), dtype=np.int32), [len(photos) for photos in landmarks.values()])


def set_aside(batches: LandmarkBatches, share: float) -> tuple[LandmarkBatches, LandmarkBatches | None]:
    """Sets a share of each landmark's photos aside for validation; at least one photo of each is used for training.

    Args:
        batches: batches of all photos.
        share: share of each landmark's photos to set aside, from 0 to 1; the number of photos is rounded.

    Returns:
        The training batches; and the validation batches, which have central crops, or None if no photo is set aside.
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
    """Freezes the first layers of a network's trunk, and all its BatchNormalization layers.

    Args:
        network: a network from `keras_retrieval.build`; its layers are changed in place.
        count: number of layers to freeze, from the first; layers without weights are not counted.

    Raises:
        ArgumentError: the trunk has fewer than `count` layers with weights.
    """
    import keras

    layers = layers_of_trunk(network)
    if count > len(layers):
        raise too_many_frozen(count, network, layers)
    for number, layer in enumerate(layers):
        if number < count or isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def classifier_on(network: Any, classes: int) -> Any:
    """Builds a classifier on the trunk of a retrieval network, so that training the classifier trains this trunk.

    The trunk's feature map is averaged over its cells, and a dense layer computes a logit for each landmark. Photos may
    have any size.

    Args:
        network: a network from `keras_retrieval.build`.
        classes: number of landmarks.

    Returns:
        A keras.Model from photos (B, H, W, 3), RGB in 0..255, to logits (B, classes).

    Raises:
        ArgumentError: no layer of the network is a keras.Model, the trunk.
    """
    import keras

    trunk = next((layer for layer in network.layers if isinstance(layer, keras.Model)), None)
    if trunk is None:
        raise ArgumentError(f"{network.name} has no trunk to train: give a network that `keras-retrieval build` made")
    images = keras.Input((None, None, 3), name="images")
    features = trunk(network.get_layer("normalization")(images))
    pooled = keras.layers.GlobalAveragePooling2D(name="average", dtype="float32")(features)
    logits = keras.layers.Dense(classes, name="landmarks", dtype="float32")(pooled)
    return keras.Model(images, logits, name=f"{trunk.name}_classifier")

"""Batches of photos with the boxes of their objects, on which region proposals are trained."""

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from keras_retrieval.errors import ArgumentError

from ..files.machine import cores
from ..photos.cache import PhotoSource
from ..photos.object_boxes import BoxesError
from ..photos.reader import PhotoError
from ..photos.reading import Reading

READ_AHEAD = 3  # number of batches that are being read

Example = tuple[np.ndarray, np.ndarray]


def hold_out(names: Sequence[str], share: float, seed: int) -> tuple[list[str], list[str]]:
    """Splits photos at random into training photos and held-out photos.

    The photos of a sub-folder (of the first level) stay together. If there are fewer than two sub-folders, the photos
    are split one by one.

    Args:
        names: names of the photos, with / between folders.
        share: share of the sub-folders, or of the photos, to hold out, from 0 to 1; the number is rounded up.
        seed: random seed.

    Returns:
        The names of the training photos and the names of the held-out photos.

    Raises:
        ArgumentError: no training photo is left.
    """
    folders = [PurePosixPath(name).parts[0] if "/" in name else "" for name in names]
    units = folders if len(set(folders)) > 1 else list(names)
    different = np.random.default_rng(seed).permutation(sorted(set(units)))
    held_out = set(different[: math.ceil(share * len(different))].tolist())
    training = [name for name, unit in zip(names, units, strict=True) if unit not in held_out]
    if not training:
        raise ArgumentError(f"--held-out {share} leaves no photo to train on: {len(names)} photos have boxes")
    return training, [name for name, unit in zip(names, units, strict=True) if unit in held_out]


def boxes_as_shares(boxes: Mapping[str, np.ndarray], reading: Reading) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Converts boxes in pixels to shares of the sides of their photos, so that they hold at any size of the photos.

    Args:
        boxes: dict from the name of each photo to its (R, 4) boxes: left, top, right, bottom in pixels.
        reading: the reader of the photos at full size, because the boxes are in pixels of the full size.

    Returns:
        A dict from the name of each photo that can be read to its (R, 4) boxes in 0..1, and a dict from the name of
        each other photo to the reason.

    Raises:
        BoxesError: a box extends beyond its photo by more than one pixel.
        ArgumentError: no photo with a box can be read.
    """
    shares, left_out = {}, {}
    for name, rows in boxes.items():
        try:
            height, width = reading.shape(name)
        except PhotoError as error:
            left_out[name] = error.reason
            continue
        sides = np.array([width, height, width, height])
        if ((rows < -1) | (rows > sides + 1)).any():
            raise BoxesError(f"a box of {name} reaches out of the photo, which is {width} x {height}: {rows.tolist()}")
        shares[name] = np.clip(rows / sides, 0, 1)
    if not any(map(len, shares.values())):
        name, reason = next(iter(left_out.items()), ("none", "there is no box"))
        raise ArgumentError(
            f"none of the {len(boxes)} photos with boxes can be read from {reading.folder}: {name}: {reason}"
        )
    return shares, left_out


@dataclass
class ProposalPhotos:
    """Batches of photos padded to squares, with the training targets of the anchor boxes of their feature maps.

    Attributes:
        names: names of the training photos.
        shares: dict from the name of each photo to the (R, 4) boxes of its objects: left, top, right, bottom as shares
            (0..1) of the photo's sides.
        photos: reader of the photos' pixels.
        side: the side of the squares, in pixels.
        anchors: (M, 4) anchor boxes of the feature map of a square: left, top, right, bottom in cells of the map.
        cells: (side + 1,) array; element n is the number of cells in the feature map along a side of n pixels.
        batch: number of photos in a step.
        flip: whether half of the photos, chosen at random, are mirrored.
        seed: random seed.
        left_out: dict from the name of each photo that could not be read to the reason.
        epoch: number of the epoch, from 0, that the next iteration over `dataset` yields. The order of the photos
            depends on it and on the seed.
    """

    names: Sequence[str]
    shares: Mapping[str, np.ndarray]
    photos: PhotoSource
    side: int
    anchors: np.ndarray
    cells: np.ndarray
    batch: int
    flip: bool = True
    seed: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    epoch: int = 0

    @property
    def steps(self) -> int:
        """Number of steps in an epoch; the last one may have fewer photos."""
        return -(-len(self.names) // self.batch)

    def dataset(self) -> Any:
        """Returns the photos of `epoch` in random order, as a dataset for `fit` with one element per step.

        A photo that cannot be read is replaced by the next one in the order that can be read.

        Returns:
            A tf.data.Dataset of (inputs, targets) for `ProposalModel` and `ProposalLoss`. `inputs` is a dict of
            "photos" (B, side, side, 3) uint8 and "sizes" (B, 2) int32, the height and width of each photo before
            padding; `targets` is (B, M, 5) float32, see `anchor_targets`.
        """
        import tensorflow as tf

        inputs = {
            "photos": tf.TensorSpec((None, self.side, self.side, 3), tf.uint8),
            "sizes": tf.TensorSpec((None, 2), tf.int32),
        }
        signature = inputs, tf.TensorSpec((None, len(self.anchors), 5), tf.float32)
        data = tf.data.Dataset.from_generator(self._batches, output_signature=signature)
        return data.apply(tf.data.experimental.assert_cardinality(self.steps)).prefetch(1)

    def _batches(self) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.names))
        steps = iter([range(first, min(first + self.batch, len(order))) for first in range(0, len(order), self.batch)])
        pending: deque[list[Future[Example]]] = deque()
        with ThreadPoolExecutor(cores()) as pool:
            while True:
                for places in islice(steps, READ_AHEAD - len(pending)):
                    pending.append([pool.submit(self._example, order, place, self.epoch) for place in places])
                if not pending:
                    return
                yield self._joined([future.result() for future in pending.popleft()])

    def _joined(self, examples: list[Example]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        photos = np.zeros((len(examples), self.side, self.side, 3), np.uint8)
        for place, (pixels, _) in enumerate(examples):
            photos[place, : pixels.shape[0], : pixels.shape[1]] = pixels
        sizes = np.array([pixels.shape[:2] for pixels, _ in examples], np.int32)
        return {"photos": photos, "sizes": sizes}, np.stack([target for _, target in examples])

    def _example(self, order: np.ndarray, place: int, epoch: int) -> Example:
        for row in np.roll(order, -place).tolist():
            name = self.names[row]
            try:
                pixels = self.photos.read(name)
            except PhotoError as error:
                self.left_out[name] = error.reason
                continue
            return self._prepared(pixels, self.shares[name], np.random.default_rng([self.seed, epoch, place]))
        name, reason = next(iter(self.left_out.items()))
        raise ArgumentError(f"none of the {len(self.names)} photos can be read; one is {name}: {reason}")

    def _prepared(self, pixels: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> Example:
        from keras_retrieval.networks.anchor_targets import anchor_targets

        if self.flip and rng.random() < 0.5:
            pixels, shares = pixels[:, ::-1], np.abs(shares[:, [2, 1, 0, 3]] - [1, 0, 1, 0])
        height, width = (int(self.cells[side]) for side in pixels.shape[:2])
        boxes = shares * [width, height, width, height]
        return pixels, anchor_targets(self.anchors, boxes, (height, width), rng)

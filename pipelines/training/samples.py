"""Sample tuples for the page: a few queries with their hard negatives before and after training."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..descriptors.describer import DescribeFn
from ..photos.cache import PhotoSource
from ..photos.reader import PhotoError
from ..training_tuples.data import Tuples
from .epoch_draw import EpochDraw
from .mining_options import MiningOptions

COUNT = 8  # queries, each of a different cluster if possible
POOL = 2000  # photos, at most, among which their negatives are chosen
HEIGHT = 120  # of a picture for TensorBoard, in pixels


class Sample(NamedTuple):
    """A tuple, given by the names of its photos."""

    query: str
    positive: str
    negatives: list[str]


def sample_draw(tuples: Tuples, pairs: np.ndarray, photos: PhotoSource, options: MiningOptions) -> EpochDraw:
    """Returns an EpochDraw over a fixed choice of at most COUNT training pairs, to compare the samples of epochs.

    Args:
        tuples: all tuples.
        pairs: (P, 2) row numbers of the photos in the training pairs.
        photos: reader of the photos' pixels.
        options: the options of mining for training, of which seed, negatives and pool (at most POOL) are used.
    """
    pairs = np.random.default_rng(options.seed).permutation(pairs)
    _, first = np.unique(tuples.cluster[pairs[:, 0]], return_index=True)
    others = np.setdiff1d(np.arange(len(pairs)), first)
    chosen = pairs[np.concatenate([np.sort(first), others])[:COUNT]]
    few = replace(tuples, qidxs=chosen[:, 0], pidxs=chosen[:, 1])
    plain = MiningOptions(negatives=options.negatives, pool=min(options.pool, POOL), batch=1, seed=options.seed)
    return EpochDraw(few, photos, plain)


def mine_samples(draw: EpochDraw, describe: DescribeFn) -> list[Sample]:
    """Mines the sample tuples with the network in its current state; returns them ordered by query."""
    draw.mine(describe, 0)
    return sorted(named_tuples(draw, draw.count))


def named_tuples(draw: EpochDraw, count: int) -> list[Sample]:
    """Returns the first `count` tuples of the epoch that was mined last, as names of photos."""
    named = [[draw.names[row] for row in rows] for rows in draw.mined()[:count].tolist()]
    return [Sample(query, positive, negatives) for query, positive, *negatives in named]


def strip(sample: Sample, photos: PhotoSource) -> np.ndarray:
    """Returns an image (HEIGHT, w, 3) uint8 of a tuple's photos side by side, without unreadable photos."""
    from PIL import Image

    parts: list[np.ndarray] = []
    for name in (sample.query, sample.positive, *sample.negatives):
        try:
            photo = Image.fromarray(photos.read(name))
        except PhotoError:
            continue
        width = max(1, round(HEIGHT * photo.width / photo.height))
        parts.append(np.asarray(photo.resize((width, HEIGHT), Image.Resampling.BILINEAR)))
    return np.concatenate(parts, axis=1) if parts else np.zeros((HEIGHT, 1, 3), np.uint8)


def strips(samples: Sequence[Sample], photos: PhotoSource) -> list[np.ndarray]:
    """Returns the image of each sample, see `strip`."""
    return [strip(sample, photos) for sample in samples]

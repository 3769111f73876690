"""Sample tuples for the page of a run: a few queries with their hard negatives before and after training."""

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
from .workers import ALONE, Workers

COUNT = 8  # maximum number of sample tuples; their queries are of different clusters if possible
POOL = 2000  # maximum number of photos among which the negatives of sample tuples are chosen
HEIGHT = 120  # height of an image for TensorBoard, in pixels


class Sample(NamedTuple):
    """A training tuple with the names of its photos: the query, the positive, and the negatives, nearest first."""

    query: str
    positive: str
    negatives: list[str]


def sample_draw(
    tuples: Tuples, pairs: np.ndarray, photos: PhotoSource, options: MiningOptions, workers: Workers = ALONE
) -> EpochDraw:
    """Chooses at most 8 training pairs whose hard negatives are mined before and after training, to compare them.

    Args:
        tuples: all tuples.
        pairs: (P, 2) row numbers of the query and the positive of each training pair.
        photos: reader of the photos' pixels.
        options: the options of mining for training. Only the seed, the number of negatives and the size of the pool are
            used; the pool has at most 2,000 photos.
        workers: the processes that mine them together.

    Returns:
        An `EpochDraw` whose only pairs are the chosen ones.
    """
    pairs = np.random.default_rng(options.seed).permutation(pairs)
    _, first = np.unique(tuples.cluster[pairs[:, 0]], return_index=True)
    others = np.setdiff1d(np.arange(len(pairs)), first)
    chosen = pairs[np.concatenate([np.sort(first), others])[:COUNT]]
    few = replace(tuples, qidxs=chosen[:, 0], pidxs=chosen[:, 1])
    plain = MiningOptions(negatives=options.negatives, pool=min(options.pool, POOL), batch=1, seed=options.seed)
    return EpochDraw(few, photos, plain, workers=workers)


def mine_samples(draw: EpochDraw | None, describe: DescribeFn) -> list[Sample]:
    """Mines the hard negatives of the sample tuples with the network in its current state.

    Args:
        draw: the draw from `sample_draw`; None for no samples.
        describe: function from photos to descriptors, which `describer` makes from the network in training.

    Returns:
        The tuples, sorted by the name of the query.
    """
    if draw is None:
        return []
    draw.mine(describe, 0)
    return sorted(named_tuples(draw, draw.count))


def named_tuples(draw: EpochDraw, count: int) -> list[Sample]:
    """Returns the first `count` tuples of the epoch that `draw` mined last, with the names of their photos.

    Raises:
        TrainingError: no epoch has been mined.
    """
    named = [[draw.names[row] for row in rows] for rows in draw.mined()[:count].tolist()]
    return [Sample(query, positive, negatives) for query, positive, *negatives in named]


def strip(names: Sequence[str], photos: PhotoSource) -> np.ndarray:
    """Makes an image of the photos of a tuple side by side, for TensorBoard.

    Args:
        names: names of the photos.
        photos: reader of the photos' pixels; photos that it cannot read are left out.

    Returns:
        A (120, w, 3) uint8 image. Its width w is that of all readable photos together, or 1 if there is none.
    """
    from PIL import Image

    parts: list[np.ndarray] = []
    for name in names:
        try:
            photo = Image.fromarray(photos.read(name))
        except PhotoError:
            continue
        width = max(1, round(HEIGHT * photo.width / photo.height))
        parts.append(np.asarray(photo.resize((width, HEIGHT), Image.Resampling.BILINEAR)))
    return np.concatenate(parts, axis=1) if parts else np.zeros((HEIGHT, 1, 3), np.uint8)


def strips(tuples: Sequence[Sequence[str]], photos: PhotoSource) -> list[np.ndarray]:
    """Returns the image that `strip` makes of each tuple of names."""
    return [strip(names, photos) for names in tuples]

"""A few tuples to look at: the same queries with the negatives that the network finds hard, early and late."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..descriptors.describer import DescribeFn
from ..photos.cache import PhotoSource
from ..photos.reader import PhotoError
from ..training_tuples.data import Tuples
from .stream import TupleStream

COUNT = 8  # of queries, each of another cluster as far as there are so many
POOL = 2000  # photos, at most, among which their negatives are looked for
HEIGHT = 120  # of a picture for TensorBoard, in pixels


class Sample(NamedTuple):
    """A tuple as names of photos."""

    query: str
    positive: str
    negatives: list[str]


def sample_stream(
    tuples: Tuples, pairs: np.ndarray, photos: PhotoSource, *, side: int, negatives: int, pool: int, seed: int
) -> TupleStream:
    """A stream of a few pairs to train on, the same whenever it is mined.

    Args:
        tuples: all.
        pairs: (P, 2) those of them to train on, queries and positives.
        photos: that have them.
        side: of the largest photo.
        negatives: of each query.
        pool: as of the training; no more than POOL are looked at.
        seed: which queries.
    """
    pairs = np.random.default_rng(seed).permutation(pairs)
    clusters = tuples.cluster[pairs[:, 0]]
    _, first = np.unique(clusters, return_index=True)
    others = np.setdiff1d(np.arange(len(pairs)), first)
    chosen = pairs[np.concatenate([np.sort(first), others])[:COUNT]]
    few = replace(tuples, qidxs=chosen[:, 0], pidxs=chosen[:, 1])
    return TupleStream(few, photos, side=side, negatives=negatives, pool=min(pool, POOL), batch=1, seed=seed)


def mine_samples(stream: TupleStream, describe: DescribeFn) -> list[Sample]:
    """The sample tuples with the negatives that are hard now, ordered by their queries."""
    stream.mine(describe, 0)
    assert stream.tuples is not None
    named = [[stream.names[row] for row in rows] for rows in stream.tuples.tolist()]
    return [Sample(query, positive, negatives) for query, positive, *negatives in sorted(named)]


def strip(sample: Sample, photos: PhotoSource) -> np.ndarray:
    """A tuple's photos side by side, (HEIGHT, w, 3) uint8; a photo that cannot be read is left out."""
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
    """`strip` of each sample."""
    return [strip(sample, photos) for sample in samples]

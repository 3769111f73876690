"""learn_whitening."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_retrieval.ranking.rows import blocks, gather
from keras_retrieval.whitening.covariance import Moments, PairMoments, Projection, fit_lw, fit_pca
from keras_retrieval.whitening.gram_pca import DIM, WIDE, learn_pca_from_gram

from .folder import read_descriptors

_ROWS = 4096


@dataclass(frozen=True)
class Pairs:
    """Matching pairs among photos.

    Attributes:
        images: (n,) names of photos, with / between their parts.
        qidxs: (pairs,) the photo of each pair's query.
        pidxs: (pairs,) that of its positive.
    """

    images: list[str]
    qidxs: np.ndarray
    pidxs: np.ndarray


def learn(descriptors: Path, pairs: Pairs, method: str, shrinkage: float = 0.0, dim: int | None = None) -> Projection:
    """Learns a whitening from a folder of descriptors, shard by shard.

    Args:
        descriptors: made by `extract`, with the photos of the pairs and perhaps others, which do not count.
        pairs: the photos, and for "lw" the pairs among them; those of photos without a descriptor are left out.
        method: "lw" or "pca".
        shrinkage: of lw, see `keras_retrieval.whitening.fit_lw`.
        dim: dimensions that will be kept, which counts for descriptors of more than WIDE: see `learn_pca_from_gram`.

    Raises:
        ValueError: none of the photos has a descriptor, too few rows or pairs are left, or the descriptors are too
            wide for lw or for `dim`.
    """
    shards, names, _ = read_descriptors(descriptors)
    place = {name: row for row, name in enumerate(names)}
    rows = np.array([place.get(image, -1) for image in pairs.images], "int64")
    wanted = np.zeros(len(names), bool)
    wanted[rows[rows >= 0]] = True
    if not wanted.any():
        example = pairs.images[0] if pairs.images else "none is named"
        raise ValueError(f"{descriptors} has none of the {len(rows):,} photos to learn from (such as {example})")
    if shards[0].shape[1] > WIDE:
        return _learn_wide(shards, np.flatnonzero(wanted), method, dim)
    moments = Moments(shards[0].shape[1])
    for first, piece in blocks(shards, _ROWS):
        moments.add(piece[wanted[first : first + len(piece)]])
    print(f"learned from {moments.count:,} of {len(rows):,} photos", end="")
    if method == "pca":
        print()
        return fit_pca(moments)
    within = _pair_moments(shards, rows[pairs.qidxs], rows[pairs.pidxs])
    print(f" and {within.count:,} of {len(pairs.qidxs):,} pairs")
    return fit_lw(moments, within, shrinkage)


def _learn_wide(shards: list[np.ndarray], rows: np.ndarray, method: str, dim: int | None) -> Projection:
    require_narrow(method, shards[0].shape[1])
    projection = learn_pca_from_gram(shards, rows, dim or DIM)
    shown = len(projection.P)
    print(f"learned from {len(rows):,} photos, which show {shown:,} directions")
    if dim is not None and dim > shown:
        raise ValueError(f"--dim {dim}: {len(rows):,} photos show {shown:,} directions: ask for no more, or add photos")
    return projection


def require_narrow(method: str, dimensions: int) -> None:
    """Refuses a method that needs D x D numbers where these are too many.

    Raises:
        ValueError: it is lw, of more than WIDE dimensions.
    """
    if method == "lw" and dimensions > WIDE:
        raise ValueError(f"lw of {dimensions:,} dimensions does not fit in memory: take pca")


def _pair_moments(shards: list[np.ndarray], q: np.ndarray, p: np.ndarray) -> PairMoments:
    known = (q >= 0) & (p >= 0)
    q, p = q[known], p[known]
    moments = PairMoments(shards[0].shape[1])
    for start in range(0, len(q), _ROWS):
        part = slice(start, start + _ROWS)
        moments.add(gather(shards, q[part], np.float64), gather(shards, p[part], np.float64))
    return moments

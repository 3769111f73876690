"""Learns a whitening from a folder of descriptors, which are read block by block."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from keras_retrieval.errors import ArgumentError, RetrievalError
from keras_retrieval.ranking.rows import blocks, gather
from keras_retrieval.whitening.covariance import (
    Moments,
    PairMoments,
    Projection,
    fit_lw,
    fit_pca,
)
from keras_retrieval.whitening.gram_pca import DIM, WIDE, learn_pca_from_gram

from .folder import read_descriptors
from .matching_pairs import MatchingPairs
from .shrinkage import choose_shrinkage

log = logging.getLogger("keras_retrieval")

_ROWS = 4096


class WhiteningError(RetrievalError, ValueError):
    """A whitening cannot be learned, because no photo has a descriptor or the descriptors have too many dimensions."""


def learn_whitening(
    descriptors: Path,
    pairs: MatchingPairs,
    method: str,
    shrinkage: float | None = None,
    dim: int | None = None,
    shift: float | None = None,
) -> Projection:
    """Learns a whitening from a folder of descriptors and logs the numbers of photos and pairs.

    Args:
        descriptors: a folder that `keras-retrieval extract` wrote. Only the descriptors of the photos in `pairs` are
            used.
        pairs: the photos to learn from and, for "lw", the matching pairs among them. Photos without a descriptor and
            their pairs are left out.
        method: "lw" learns from matching pairs (Radenovic et al. TPAMI 2018), "pca" from all photos.
        shrinkage: the regularisation of "lw", at least 0, see `keras_retrieval.whitening.fit_lw`. None chooses it by
            the number of photos in the pairs and by held-out objects, see `choose_shrinkage`. "pca" ignores it.
        dim: the number of dimensions that the caller will keep; None for a default. Only used for descriptors of more
            than 8,192 dimensions (WIDE), of which only the leading principal components are computed, see
            `keras_retrieval.whitening.gram_pca`.
        shift: the share of the mean that is subtracted, only for "lw". The mean is that of one collection; another one
            has its own, so that less than the whole may carry over better. None chooses it with the shrinkage; with a
            given shrinkage it is 1.

    Returns:
        The mean and the projection matrix of the whitening, see `keras_retrieval.whitening.Projection`.

    Raises:
        FolderError: `descriptors` is not a folder of descriptors or is damaged.
        WhiteningError: none of the photos has a descriptor; or the method is "lw", and the descriptors have more than
            WIDE dimensions or those of each pair are equal.
        ArgumentError: `dim` exceeds the number of dimensions that the descriptors of the photos span.
        ValueError: too few photos or pairs have a descriptor.
    """
    shards, names, _ = read_descriptors(descriptors)
    row_of = {name: row for row, name in enumerate(names)}
    rows = np.array([row_of.get(image, -1) for image in pairs.images], "int64")
    wanted = np.zeros(len(names), bool)
    wanted[rows[rows >= 0]] = True
    if not wanted.any():
        example = f" (such as {pairs.images[0]})" if pairs.images else ""
        raise WhiteningError(
            f"{descriptors} has no descriptor of any of the {len(rows):,} photos to learn from{example}"
        )
    if shards[0].shape[1] > WIDE:
        return _learn_wide(shards, np.flatnonzero(wanted), method, dim)
    moments = Moments(shards[0].shape[1])
    for first, piece in blocks(shards, _ROWS):
        moments.add(piece[wanted[first : first + len(piece)]])
    photos = f"{method}: learned from {moments.count:,} of {len(rows):,} photos"
    if method == "pca":
        log.info(photos)
        return fit_pca(moments)
    q, p = rows[pairs.qidxs], rows[pairs.pidxs]
    known = (q >= 0) & (p >= 0)
    q, p = q[known], p[known]
    within = _pair_moments(shards, q, p)
    if within.count and not within.within.any():
        raise WhiteningError(
            f"the two photos of each of {within.count:,} pairs have equal descriptors, as copies of one photo have, so "
            "that lw has nothing to learn from: add other photos of the same objects, or use pca"
        )
    if shrinkage is None:
        taken = choose_shrinkage(shards, q, p, shift)
        chosen, part, why = taken.value, taken.shift, f" ({taken.why})"
    else:
        chosen, part, why = shrinkage, 1.0 if shift is None else shift, ""
    how = f"shrinkage {chosen:g}" if part == 1 else f"shrinkage {chosen:g}, shift {part:g}"
    log.info(f"{photos} and {within.count:,} of {len(pairs.qidxs):,} pairs, {how}{why}")
    found = fit_lw(moments, within, chosen)
    return replace(found, m=part * found.m)


def _learn_wide(shards: list[np.ndarray], rows: np.ndarray, method: str, dim: int | None) -> Projection:
    require_narrow(method, shards[0].shape[1])
    projection = learn_pca_from_gram(shards, rows, dim or DIM)
    rank = len(projection.P)
    log.info(f"{method}: learned from {len(rows):,} photos, whose descriptors span {rank:,} dimensions")
    if dim is not None and dim > rank:
        raise ArgumentError(
            f"--dim must be at most {rank:,}, the dimensions that the descriptors of {len(rows):,} photos span, "
            f"got {dim}: add photos, or keep fewer"
        )
    return projection


def require_narrow(method: str, dimensions: int) -> None:
    """Checks that a whitening method can process descriptors with a given number of dimensions D.

    The method "lw" keeps D x D matrices in memory, so that its number of dimensions is limited.

    Args:
        method: "lw" or "pca".
        dimensions: the number of dimensions D.

    Raises:
        WhiteningError: the method is "lw" and `dimensions` exceeds WIDE.
    """
    if method == "lw" and dimensions > WIDE:
        raise WhiteningError(f"lw of {dimensions:,} dimensions does not fit in memory: use pca")


def _pair_moments(shards: list[np.ndarray], q: np.ndarray, p: np.ndarray) -> PairMoments:
    moments = PairMoments(shards[0].shape[1])
    for start in range(0, len(q), _ROWS):
        part = slice(start, start + _ROWS)
        moments.add(gather(shards, q[part], np.float64), gather(shards, p[part], np.float64))
    return moments

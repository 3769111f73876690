"""Finds pairs of thumbnails that may show the same photo, by the low frequencies of whole thumbnails and of crops.

A thumbnail is a grey photo stretched to a square. Its descriptor contains the coefficients of its discrete cosine
transform below a frequency, without the mean, multiplied by their frequency and L2-normalised. It hardly changes when a
photo is re-compressed, resized or brightened. So that cropped photos are found, the descriptor of each whole thumbnail
is compared with the descriptors of several crops, the probes, of every other thumbnail, and so that turned and mirrored
photos are found, also with those of turned thumbnails. All similarities are computed, in blocks.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from keras_retrieval.ranking.rows import Advance, l2_normalize

FREQUENCIES = 8
LEAST_COSINE = 0.85  # crops of up to 10 % of each side have at least 0.88 with the nearest probe (bench.duplicates)
NEAREST = 32  # candidates per photo, the most similar ones
_CROPS = (0.04, 0.09)  # shares of the width and of the height that probes leave out
_TURNED_CROP = 0.04
_QUERIES, _CHUNK = 512, 16384

Box = tuple[float, float, float, float]

TURNS: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda pixels: pixels,
    lambda pixels: pixels[..., ::-1],
    lambda pixels: pixels[..., ::-1, :],
    lambda pixels: pixels[..., ::-1, ::-1],
    lambda pixels: pixels.swapaxes(-1, -2),
    lambda pixels: pixels.swapaxes(-1, -2)[..., ::-1],
    lambda pixels: pixels.swapaxes(-1, -2)[..., ::-1, :],
    lambda pixels: pixels.swapaxes(-1, -2)[..., ::-1, ::-1],
)
"""The eight ways to turn and mirror the last two axes of an array; the first one leaves it as it is."""

SIDEWAYS = 4
"""The index in `TURNS` from which width and height are exchanged."""


@dataclass(frozen=True)
class Probe:
    """A part of a turned thumbnail.

    Attributes:
        turn: index in `TURNS`.
        box: (left, top, right, bottom) as fractions of the turned thumbnail.
    """

    turn: int
    box: Box


def _probes() -> list[Probe]:
    found = [Probe(0, (0, 0, 1, 1))]
    for crop in _CROPS:
        starts = (0, crop / 2, crop)
        found += [Probe(0, (left, top, 1 - crop + left, 1 - crop + top)) for left in starts for top in starts]
    inner = (_TURNED_CROP / 2, _TURNED_CROP / 2, 1 - _TURNED_CROP / 2, 1 - _TURNED_CROP / 2)
    return found + [Probe(turn, box) for turn in range(1, len(TURNS)) for box in ((0, 0, 1, 1), inner)]


PROBES = _probes()
"""The parts of every thumbnail that are compared with whole thumbnails; the first is the whole thumbnail."""


@dataclass(frozen=True)
class Candidates:
    """Pairs of thumbnails that may show the same photo; each pair occurs once.

    Attributes:
        one: (K,) row numbers of the thumbnails whose probe is similar to the other thumbnail.
        other: (K,) row numbers of the other thumbnails.
        probe: (K,) index in `PROBES` of the probe.
        complete: whether no pair was dropped because a thumbnail is similar to more than `NEAREST` others.
    """

    one: np.ndarray
    other: np.ndarray
    probe: np.ndarray
    complete: bool


def describe(thumbnails: np.ndarray, probe: Probe) -> np.ndarray:
    """Computes the descriptors of one probe of thumbnails.

    Args:
        thumbnails: (n, N, N) grey pixels.
        probe: the part of each thumbnail to describe.

    Returns:
        The descriptors, (n, D) float32, L2-normalised; 0 for a thumbnail of one colour.
    """
    left, top, right, bottom = probe.box
    size = thumbnails.shape[1]
    pixels = np.ascontiguousarray(TURNS[probe.turn](thumbnails), np.float32)
    pixels -= pixels.mean(axis=(1, 2), keepdims=True)
    waves = _waves(top, bottom, size) @ pixels @ _waves(left, right, size).T
    frequency = np.hypot(*np.mgrid[:FREQUENCIES, :FREQUENCIES])
    low = (frequency > 0) & (frequency < FREQUENCIES)
    return l2_normalize((waves[:, low] * frequency[low]).astype(np.float32))


def _waves(start: float, end: float, size: int) -> np.ndarray:
    """The cosines (FREQUENCIES, size) over the part start..end of an axis, each pixel weighted by its share in it."""
    edges = np.arange(size + 1) / size
    share = np.clip((np.minimum(edges[1:], end) - np.maximum(edges[:-1], start)) * size, 0, 1)
    places = ((edges[1:] + edges[:-1]) / 2 - start) / (end - start)
    return (np.cos(np.pi * np.outer(np.arange(FREQUENCIES), places)) * share).astype(np.float32)


def similar_pairs(
    read: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, size: int, advance: Advance | None = None
) -> Candidates:
    """Finds the pairs of thumbnails of which a probe of one is similar to the other.

    For each thumbnail, at most `NEAREST` pairs are returned, those with the largest cosine similarity. Memory does not
    depend on the number of pairs of thumbnails; the time does, 2 * 55 * len(PROBES) operations for each.

    Args:
        read: function that returns the thumbnails (n, size, size) of n row numbers.
        rows: (n,) row numbers of the thumbnails to compare with each other.
        size: the side of a thumbnail in pixels.
        advance: function that is called with the number of thumbnails compared since its last call; None for no calls.

    Returns:
        The pairs, sorted by their row numbers.
    """
    whole = np.concatenate(
        [describe(read(rows[first : first + _QUERIES]), PROBES[0]) for first in range(0, len(rows), _QUERIES)]
        or [np.zeros((0, 1), np.float32)]
    )
    found, complete = [], True
    for first in range(0, len(rows), _QUERIES):
        pixels = read(rows[first : first + _QUERIES])
        own = np.stack([describe(pixels, probe) for probe in PROBES])
        *pairs, dropped = _nearest(own, whole, first)
        found.append(pairs)
        complete &= not dropped
        if advance:
            advance(len(pixels))
    one, other, probe, cosine = (np.concatenate(parts) for parts in zip(*found, strict=True)) if found else [whole] * 4
    low, high = np.minimum(one, other), np.maximum(one, other)
    order = np.lexsort((-cosine.ravel(), high.ravel(), low.ravel()))
    one, other, probe, low, high = (part.ravel()[order].astype(np.int64) for part in (one, other, probe, low, high))
    fresh = np.append(True, (np.diff(low) != 0) | (np.diff(high) != 0))[: len(one)]
    return Candidates(rows[one[fresh]], rows[other[fresh]], probe[fresh], complete)


def _nearest(
    own: np.ndarray, whole: np.ndarray, first: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, bool]:
    """Returns the pairs of some thumbnails and all others, and whether pairs beyond the `NEAREST` were dropped.

    The pairs are four arrays: the positions of both thumbnails, the probe, and the cosine similarity.

    Args:
        own: (P, n, D) descriptors of the probes of n thumbnails.
        whole: (N, D) descriptors of all thumbnails.
        first: position of the first of the n thumbnails among all.
    """
    ones, others, cosines = [], [], []
    for start in range(0, len(whole), _CHUNK):
        piece = whole[start : start + _CHUNK]
        most = own[0] @ piece.T
        scratch = np.empty_like(most)
        for rows in own[1:]:
            np.maximum(most, np.matmul(rows, piece.T, out=scratch), out=most)
        one, other = np.nonzero(most >= LEAST_COSINE)
        different = one + first != other + start
        one, other = one[different], other[different]
        ones.append(one)
        others.append(other + start)
        cosines.append(most[one, other])
    one, other, cosine = np.concatenate(ones), np.concatenate(others), np.concatenate(cosines)
    order = np.lexsort((-cosine, one))
    one, other, cosine = one[order], other[order], cosine[order]
    rank = np.arange(len(one)) - np.searchsorted(one, one)
    dropped = bool((rank >= NEAREST).any())
    one, other, cosine = (part[rank < NEAREST] for part in (one, other, cosine))
    probe = np.zeros(len(one), np.int64)
    for start in range(0, len(one), _CHUNK):
        part = slice(start, start + _CHUNK)
        probe[part] = np.einsum("pkd,kd->pk", own[:, one[part]], whole[other[part]]).argmax(axis=0)
    return one + first, other, probe, cosine, dropped

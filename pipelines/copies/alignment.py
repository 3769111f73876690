"""Verifies on pixels whether two thumbnails show the same photo, or crops of the same photo.

One thumbnail is aligned with the other by shifting and scaling each axis (Lucas and Kanade IJCAI 1981, with unknown
contrast and brightness), first on small thumbnails, then on whole ones. The similarity is measured on the gradients
where both thumbnails overlap, after slow changes of brightness are removed: it is the mean of their normalised
correlation and of the smallest correlation in one of 16 blocks. Photos of the same object from slightly different
places, or at other times, differ in some block even where their outlines agree.
"""

import numpy as np

LEAST_SIMILARITY = 0.85
"""The smallest similarity of two copies of one photo, as measured by bench.duplicates."""

_COARSE = 3  # pixels of a thumbnail in a pixel of the small one
_LEAST_COARSE = 0.8  # correlation of the grey values of small thumbnails after alignment
_LEAST_OVERLAP = 0.6  # share of the second thumbnail that the first one covers
_STEPS, _FINE_STEPS = 6, 3
_MOST_STEP = 0.05
_BLOCKS = 4
_DETAILED = 0.5  # energy of a block with details, as a fraction of the mean over the blocks
_SLOW = 9  # pixels over which grey values are averaged to find slow changes of brightness
_BATCH = 32

LEAST_DETAIL = 1.0
"""The root mean square, in grey levels, of the gradients of a thumbnail that can be compared."""


def similarities(one: np.ndarray, other: np.ndarray, boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Aligns pairs of thumbnails and measures how similar they are.

    Args:
        one: (K, N, N) grey pixels; N is a multiple of 3.
        other: (K, N, N) grey pixels.
        boxes: (K, 4) for each pair the part of `one` that is approximately `other`, (left, top, right, bottom) as
            fractions.
        sizes: (K, 2) the smaller width and the smaller height of the two photos in pixels, from which thumbnails were
            made. Details that so few pixels do not show reliably are not compared.

    Returns:
        (K,) similarities, at most 1; 0 for pairs that are already unlike on small thumbnails. Pairs with at least
        `LEAST_SIMILARITY` show the same photo.
    """
    found = [
        _similarities(*(array[first : first + _BATCH] for array in (one, other, boxes, sizes)))
        for first in range(0, len(one), _BATCH)
    ]
    return np.concatenate([np.zeros(0), *found])


def detail(thumbnails: np.ndarray) -> np.ndarray:
    """Returns the root mean square of the gradients of thumbnails (n, N, N) without slow changes, (n,) grey levels."""
    gradients = _gradients(_without_slow_changes(thumbnails.astype(np.float32)))
    return np.sqrt((gradients**2).mean(axis=(1, 2, 3)))


def _similarities(one: np.ndarray, other: np.ndarray, boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    one, other = one.astype(np.float32), other.astype(np.float32)
    left, top, right, bottom = boxes.T
    places = np.stack([left, right - left, top, bottom - top], axis=1)
    small, small_other = _reduced(one), _reduced(other)
    places = _aligned(small, small_other, places, _STEPS)
    drawn, inside = _drawn(small, places)
    likely = np.flatnonzero(
        (_correlation(drawn, small_other, inside) >= _LEAST_COARSE) & (inside.mean(axis=(1, 2)) >= _LEAST_OVERLAP)
    )
    found = np.zeros(len(one))
    if len(likely):
        places = _aligned(one[likely], other[likely], places[likely], _FINE_STEPS)
        drawn, inside = _drawn(one[likely], places)
        found[likely] = _similarity(*_blurred(drawn, other[likely], sizes[likely]), inside)
    return found


def _reduced(pixels: np.ndarray) -> np.ndarray:
    count, size = len(pixels), pixels.shape[1] // _COARSE
    return pixels.reshape(count, size, _COARSE, size, _COARSE).mean(axis=(2, 4))


def _aligned(one: np.ndarray, other: np.ndarray, places: np.ndarray, steps: int) -> np.ndarray:
    """Refines (K, 4) places in `one` (left, width, top, height, as fractions) so that the pixels there are `other`."""
    size = one.shape[1]
    along = ((np.arange(size) + 0.5) / size).astype(np.float32)
    for _ in range(steps):
        across, slope_across, inside_across = _linear(places[:, 0], places[:, 1], size)
        down, slope_down, inside_down = _linear(places[:, 2], places[:, 3], size)
        rows, across = down @ one, across.transpose(0, 2, 1)
        drawn = rows @ across
        dx, dy = rows @ slope_across.transpose(0, 2, 1), (slope_down @ one) @ across
        inside = (inside_down[:, :, None] & inside_across[:, None, :]).astype(np.float32)
        unknowns = [dx, dx * along, dy, dy * along[:, None], drawn, np.ones_like(drawn)]
        rates = (np.stack(unknowns, axis=1) * inside[:, None]).reshape(len(one), len(unknowns), -1)
        normal = (rates @ rates.transpose(0, 2, 1)).astype(np.float64)
        diagonal = np.arange(len(unknowns))
        normal[:, diagonal, diagonal] = normal[:, diagonal, diagonal] * (1 + 1e-4) + 1e-3
        solved = np.linalg.solve(normal, (rates @ other.reshape(len(one), -1, 1)).astype(np.float64))[..., 0]
        contrast = np.maximum(solved[:, 4:5], 0.2)
        places = places + np.clip(solved[:, :4] / contrast, -_MOST_STEP, _MOST_STEP)
        places[:, 1::2] = places[:, 1::2].clip(0.5, 2)
        places[:, ::2] = places[:, ::2].clip(-0.5, 0.5)
    return places


def _positions(start: np.ndarray, extent: np.ndarray, size: int) -> np.ndarray:
    """Positions (K, size), in pixels, of the pixels of the second thumbnail along an axis of the first one."""
    return (start[:, None] + extent[:, None] * (np.arange(size) + 0.5) / size) * size - 0.5


def _linear(start: np.ndarray, extent: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices (K, size, size) of linear interpolation along an axis, their derivatives, and which positions exist.

    The derivatives are by the position as a fraction.
    """
    positions = _positions(start, extent, size)
    distance = positions[:, :, None] - np.arange(size)
    weights = np.maximum(0, 1 - np.abs(distance)).astype(np.float32)
    slopes = (np.where(np.abs(distance) < 1, -np.sign(distance), 0) * size).astype(np.float32)
    return weights, slopes, _exists(positions, size)


def _exists(positions: np.ndarray, size: int) -> np.ndarray:
    return (positions >= -0.25) & (positions <= size - 0.75)


def _cubic(positions: np.ndarray, size: int) -> np.ndarray:
    """Matrices (K, size, size) of interpolation by Catmull-Rom splines, sharper than linear interpolation."""
    distance = np.abs(positions[:, :, None] - np.arange(size))
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0))
    total = weights.sum(axis=2, keepdims=True)
    return (weights / np.where(np.abs(total) > 0.1, total, 1)).astype(np.float32)


def _drawn(one: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pixels of `one` at the places of the pixels of the second thumbnail, and which of these exist."""
    size = one.shape[1]
    across, down = (_positions(places[:, axis], places[:, axis + 1], size) for axis in (0, 2))
    inside = _exists(down, size)[:, :, None] & _exists(across, size)[:, None, :]
    return _cubic(down, size) @ one @ _cubic(across, size).transpose(0, 2, 1), inside


def _correlation(one: np.ndarray, other: np.ndarray, inside: np.ndarray) -> np.ndarray:
    count = np.maximum(inside.sum(axis=(1, 2)), 1)
    centred = [
        (pixels - ((pixels * inside).sum(axis=(1, 2)) / count)[:, None, None]) * inside for pixels in (one, other)
    ]
    product, first, second = (
        (left * right).sum(axis=(1, 2)) for left, right in (centred, (centred[0],) * 2, (centred[1],) * 2)
    )
    return product / np.sqrt(first * second + 1e-6)


def _blurred(one: np.ndarray, other: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Removes details smaller than two pixels of the smaller photo, by Gaussian filters along both axes."""
    size = one.shape[1]
    if (sizes >= 2 * size).all():
        return one, other
    width, height = (_gaussian(2 * size / np.maximum(sizes[:, axis], 1), size) for axis in (0, 1))
    return height @ one @ width.transpose(0, 2, 1), height @ other @ width.transpose(0, 2, 1)


def _gaussian(pixels: np.ndarray, size: int) -> np.ndarray:
    """Matrices (K, size, size) that average along an axis over a number of pixels (K,); no change for 1 or less."""
    sigma = 0.5 * np.sqrt(np.maximum(pixels**2 - 1, 1e-4))[:, None, None]
    weights = np.exp(-0.5 * ((np.arange(size)[:, None] - np.arange(size)) / sigma) ** 2)
    return (weights / weights.sum(axis=2, keepdims=True)).astype(np.float32)


def _similarity(one: np.ndarray, other: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Returns the mean of the correlation of all gradients and the smallest one in a block with details, (K,)."""
    known = inside[:, 1:-1, 1:-1] & inside[:, 2:, 1:-1] & inside[:, :-2, 1:-1]
    known &= inside[:, 1:-1, 2:] & inside[:, 1:-1, :-2]
    first, second = (
        _gradients(_without_slow_changes(np.where(inside, pixels, other))) * known[:, None] for pixels in (one, other)
    )
    product, energy, other_energy = (
        (left * right).sum(axis=1) for left, right in ((first, second), (first, first), (second, second))
    )
    total = product.sum(axis=(1, 2)) / np.sqrt(energy.sum(axis=(1, 2)) * other_energy.sum(axis=(1, 2)) + 1e-6)
    product, energy, other_energy = (_by_block(values) for values in (product, energy, other_energy))
    largest = np.maximum(energy, other_energy)
    detailed = largest >= _DETAILED * largest.mean(axis=1, keepdims=True)
    blocks = np.where(detailed, product / np.sqrt(energy * other_energy + 1e-6), 1)
    return (total + blocks.min(axis=1)) / 2


def _by_block(values: np.ndarray) -> np.ndarray:
    edges = np.linspace(0, values.shape[1], _BLOCKS, endpoint=False).astype(int)
    return np.add.reduceat(np.add.reduceat(values, edges, axis=1), edges, axis=2).reshape(len(values), -1)


def _gradients(pixels: np.ndarray) -> np.ndarray:
    """Returns the horizontal and vertical gradients, (K, 2, N - 2, N - 2), in grey levels per two pixels."""
    across = pixels[:, 1:-1, 2:] - pixels[:, 1:-1, :-2]
    return np.stack([across, pixels[:, 2:, 1:-1] - pixels[:, :-2, 1:-1]], axis=1)


def _without_slow_changes(pixels: np.ndarray) -> np.ndarray:
    """Subtracts from each pixel (K, N, N) the mean of the pixels around it."""
    size, reach = pixels.shape[1], _SLOW // 2
    places = np.clip(np.arange(size)[:, None] + np.arange(-reach, reach + 1), 0, size - 1)
    mean = np.zeros((size, size), np.float32)
    np.add.at(mean, (np.arange(size)[:, None], places), 1 / _SLOW)
    return pixels - mean @ pixels @ mean.T

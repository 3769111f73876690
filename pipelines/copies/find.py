"""Finds the copies among photos: files with the same bytes, then photos with the same pixels.

Photos are compared in rounds. Each photo is compared with the most similar ones; in the next round, of each group only
the photo to keep is compared again, so that groups of any size are found completely.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_retrieval.errors import RetrievalError

from ..files.components import connected
from ..files.durable import State
from ..files.progress import progress
from ..photos.remote_photos import photo_states
from .alignment import LEAST_DETAIL, LEAST_SIMILARITY, detail, similarities
from .byte_copies import byte_copies
from .groups import Copies, Group, Photo
from .low_frequencies import PROBES, SIDEWAYS, TURNS, Candidates, similar_pairs
from .thumbnails import SIDE, Thumbnails, read_thumbnails

_ROUNDS = 8
_PAIRS = 512  # pairs whose thumbnails are in memory
_BLOCK = 4096
_SAME_COLOUR = 3  # grey levels


class DuplicatesError(RetrievalError, ValueError):
    """Copies cannot be searched, or a file of copies cannot be read."""


Link = tuple[int, int, float]


def find_copies(
    folder: Path,
    names: Sequence[str],
    *,
    near: bool = True,
    accept_truncated: bool = False,
    pairs: np.ndarray | None = None,
    states: Mapping[str, State] | None = None,
) -> Copies:
    """Finds the copies among photos.

    Two photos are copies if their files have the same bytes, or if one is the other after re-compression, resizing,
    cropping by up to about 10 % of each side, a change of brightness or contrast, turning by right angles or mirroring,
    or a combination of these. Copies of copies are in one group.

    Args:
        folder: the folder of the photos, or an address such as s3://BUCKET/FOLDER as a path.
        names: their names relative to `folder`.
        near: whether pixels are compared; otherwise only bytes are.
        accept_truncated: whether a JPEG that lacks its last bytes is read, with grey in place of what is missing.
        pairs: (K, 2) positions in `names` of further pairs of photos to compare, such as those with similar descriptors
            of a network; None for no further pairs.
        states: maps the names to the states of the photos' files; None to ask for them.

    Raises:
        RemoteError: the storage of an address does not answer, or refuses.
    """
    state = photo_states(folder, names).by_name(names) if states is None else states
    exact = byte_copies(folder, {name: size for name, (size, _) in state.items()})
    links: list[tuple[str, str, float]] = [(some[0], name, 1.0) for some in exact for name in some[1:]]
    left_out: dict[str, str] = {}
    sizes: dict[str, tuple[int, int]] = {}
    featureless = 0
    if near:
        repeated = {name: some[0] for some in exact for name in some[1:]}
        thumbnails = read_thumbnails(
            folder,
            {name: state[name] for name in names if name not in repeated},
            accept_truncated=accept_truncated,
        )
        left_out = dict(thumbnails.left_out)
        sizes = {name: (int(w), int(h)) for name, (w, h) in zip(thumbnails.names, thumbnails.sizes, strict=True)}
        sizes |= {name: sizes[first] for name, first in repeated.items() if first in sizes}
        own = {name: row for row, name in enumerate(thumbnails.names)}
        further = [] if pairs is None else pairs.tolist()
        rows = [[own.get(repeated.get(names[place], names[place]), -1) for place in pair] for pair in further]
        found, featureless = _near_copies(thumbnails, np.array(rows, np.int64).reshape(-1, 2))
        links += [(thumbnails.names[one], thumbnails.names[other], score) for one, other, score in found]
    return Copies(_groups(state, exact, links, sizes), len(names), left_out, featureless)


def _groups(
    state: Mapping[str, State],
    exact: list[list[str]],
    links: list[tuple[str, str, float]],
    sizes: dict[str, tuple[int, int]],
) -> list[Group]:
    nodes = {name for one, other, _ in links for name in (one, other)}
    groups = []
    parts = connected(sorted(nodes), [(one, other) for one, other, _ in links])
    number = {name: row for row, part in enumerate(parts) for name in part}
    least = [1.0] * len(parts)
    for one, _, similarity in links:
        least[number[one]] = min(least[number[one]], similarity)
    bytes_of: list[list[tuple[str, ...]]] = [[] for _ in parts]
    for some in exact:
        bytes_of[number[some[0]]].append(tuple(some))
    for row, part in enumerate(parts):
        photos = [Photo(name, *sizes.get(name, (0, 0)), *_size_and_time(*state[name])) for name in part]
        photos.sort(key=lambda photo: photo.order)
        groups.append(Group(tuple(photos), tuple(bytes_of[row]), round(least[row], 4)))
    return groups


def _size_and_time(size: int | None, changed: int | str) -> tuple[int, int]:
    """The size of a file in bytes and its modification time in ns; 0 for what the storage of an address does not say.

    The etags of a storage say nothing about which file is older.
    """
    return size or 0, changed if isinstance(changed, int) else 0


def _near_copies(thumbnails: Thumbnails, further: np.ndarray) -> tuple[list[Link], int]:
    """Returns the pairs of rows that are copies, with their similarities, and the number of featureless photos."""
    plain = _featureless(thumbnails)
    links = _same_colours(thumbnails, np.flatnonzero(plain))
    further = further[(further >= 0).all(axis=1) & (further[:, 0] != further[:, 1])]
    further = further[~plain[further].any(axis=1)]
    links += _verified_further(thumbnails, further)
    rows = np.flatnonzero(~plain)
    pixels = thumbnails.sizes.prod(axis=1)
    for number in range(_ROUNDS):
        label = f"comparison {number + 1}" if number else "comparison"
        with progress(label, len(rows)) as advance:
            candidates = similar_pairs(thumbnails.read, rows, SIDE, advance)
        found = _verified(thumbnails, candidates)
        links += found
        if candidates.complete or not found:
            break
        parts = connected(rows.tolist(), [(one, other) for one, other, _ in found])
        rows = np.sort([max(part, key=lambda row: (pixels[row], -row)) for part in parts]).astype(np.int64)
    return links, int(plain.sum())


def _featureless(thumbnails: Thumbnails) -> np.ndarray:
    blocks = [
        detail(thumbnails.read(np.arange(first, min(first + _BLOCK, len(thumbnails.names))))) < LEAST_DETAIL
        for first in range(0, len(thumbnails.names), _BLOCK)
    ]
    return np.concatenate([np.zeros(0, bool), *blocks])


def _same_colours(thumbnails: Thumbnails, rows: np.ndarray) -> list[Link]:
    """Links photos without details to the first such photo that has the same colours nearly everywhere."""
    links: list[Link] = []
    parts = [thumbnails.colours[rows]]
    for first in range(0, len(rows), _BLOCK):
        pixels = thumbnails.read(rows[first : first + _BLOCK]).astype(np.float32)
        parts.append(pixels.reshape(len(pixels), 8, SIDE // 8, 8, SIDE // 8).mean(axis=(2, 4)).reshape(len(pixels), -1))
    colours = np.concatenate([parts[0], np.concatenate([np.zeros((0, 64)), *parts[1:]])], axis=1)
    left = np.arange(len(rows))
    while len(left):
        same = np.abs(colours[left] - colours[left[0]]).max(axis=1) <= _SAME_COLOUR
        links += [(int(rows[left[0]]), int(row), 1.0) for row in rows[left[same]][1:]]
        left = left[~same]
    return links


def _verified(thumbnails: Thumbnails, candidates: Candidates) -> list[Link]:
    """Returns the candidates that are copies."""
    links: list[Link] = []
    boxes = np.array([probe.box for probe in PROBES])
    turns = np.array([probe.turn for probe in PROBES])[candidates.probe]
    with progress("verification", len(turns), "pairs") as advance:
        for turn, function in enumerate(TURNS):
            places = np.flatnonzero(turns == turn)
            for first in range(0, len(places), _PAIRS):
                some = places[first : first + _PAIRS]
                one, other = candidates.one[some], candidates.other[some]
                found = similarities(
                    function(thumbnails.read(one)),
                    thumbnails.read(other),
                    boxes[candidates.probe[some]],
                    _smaller(thumbnails, one, other, turn >= SIDEWAYS),
                )
                links += _links(one, other, found)
                advance(len(some))
    return links


def _smaller(thumbnails: Thumbnails, one: np.ndarray, other: np.ndarray, sideways: bool = False) -> np.ndarray:
    """Returns the smaller width and height (K, 2) of pairs of photos, of which the first may be turned sideways."""
    first = thumbnails.sizes[one]
    return np.minimum(first[:, ::-1] if sideways else first, thumbnails.sizes[other])


def _links(one: np.ndarray, other: np.ndarray, found: np.ndarray) -> list[Link]:
    return [
        (int(one[pair]), int(other[pair]), float(min(found[pair], 1.0)))
        for pair in np.flatnonzero(found >= LEAST_SIMILARITY)
    ]


_STARTS = [
    (left * (1 - side), top * (1 - side), left * (1 - side) + side, top * (1 - side) + side)
    for side in (1.0, 0.85, 0.7)
    for left in (0.0, 0.5, 1.0)
    for top in (0.0, 0.5, 1.0)
    if side < 1 or (left, top) == (0.5, 0.5)
]
"""The crops from which pairs of photos with similar descriptors of a network are aligned."""


def _verified_further(thumbnails: Thumbnails, pairs: np.ndarray) -> list[Link]:
    """Returns the pairs of rows (K, 2) that are copies, for pairs whose crops are not known."""
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    links: list[Link] = []
    with progress("verification", len(pairs), "pairs") as advance:
        for first in range(0, len(pairs), _PAIRS):
            some = pairs[first : first + _PAIRS]
            pixels = [thumbnails.read(some[:, side]) for side in (0, 1)]
            sizes, best = _smaller(thumbnails, some[:, 0], some[:, 1]), np.zeros(len(some))
            for box in _STARTS:
                for one, other in ((0, 1), (1, 0)):
                    left = np.flatnonzero(best < LEAST_SIMILARITY)
                    boxes = np.tile(box, (len(left), 1))
                    found = similarities(pixels[one][left], pixels[other][left], boxes, sizes[left])
                    best[left] = np.maximum(best[left], found)
            links += _links(some[:, 0], some[:, 1], best)
            advance(len(some))
    return links

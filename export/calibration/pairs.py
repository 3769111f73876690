"""The pairs from which a calibration is learned: what rankings of the index return for queries of known objects."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from keras_retrieval.pipelines.files.components import connected
from keras_retrieval.pipelines.files.progress import progress
from keras_retrieval.pipelines.local_features.matchers import Matcher
from keras_retrieval.pipelines.local_features.verification import Match, Verifier
from keras_retrieval.pipelines.training_tuples.data import Tuples, validation_mask

from keras_retrieval.ranking.likely_matches import nearness, scale_neighbour

from ..index_contract.answers import Scales
from ..index_contract.calibration import pair_features
from ..index_contract.contract import Hits, NeighbourIndex
from ..index_contract.errors import CalibrationError
from ..indexes.verified_search import FeatureSource


@dataclass(frozen=True)
class Labels:
    """The objects of photos of an index.

    Attributes:
        names: names of the n photos in the index.
        cluster: number of the cluster of each photo, (n,).
        place: number of the group of linked clusters of each photo, (n,): photos of one place in several clusters may
            or may not show the same object.
        validation: whether each photo is set aside for validation, (n,) bool; None if it is not known.
    """

    names: list[str]
    cluster: np.ndarray
    place: np.ndarray
    validation: np.ndarray | None = None

    def known(self) -> dict[str, int]:
        """Maps each name to its row."""
        return {name: row for row, name in enumerate(self.names)}


@dataclass(frozen=True)
class Pairs:
    """P pairs of a query and a candidate that a ranking returned for it.

    Attributes:
        features: see `calibration.pair_features`, (P, 4).
        same: whether they show the same object, (P,) bool.
        query: number of the query, (P,).
        place: number of the place of the query, (P,): pairs of one place are not independent of each other.
        candidate: row of the candidate in the labels, (P,); -1 for a photo of no known object.
        without: whether the ranking is that of an index without any photo of the query's place, (P,) bool.
    """

    features: np.ndarray
    same: np.ndarray
    query: np.ndarray
    place: np.ndarray
    candidate: np.ndarray
    without: np.ndarray

    def pick(self, kept: np.ndarray) -> "Pairs":
        """Returns the pairs of a mask (P,)."""
        return Pairs(*(getattr(self, part.name)[kept] for part in fields(self)))


def label(tuples: Tuples, index: NeighbourIndex) -> Labels:
    """Finds the photos of tuples in an index.

    Raises:
        CalibrationError: none of them is in the index.
    """
    stored = {unicodedata.normalize("NFC", name): name for name in index.names}
    rows = [row for row, name in enumerate(tuples.images) if unicodedata.normalize("NFC", name) in stored]
    if not rows:
        raise CalibrationError(
            f"none of the {len(tuples.images):,} photos of the tuples, such as {tuples.images[0]}, is in the index, "
            f"which has {next(iter(index.names), 'no photo')}: make the tuples of the photos that are indexed"
        )
    cluster = np.asarray(tuples.cluster)
    links = zip(*np.asarray(tuples.same_object).reshape(-1, 2).T.tolist(), strict=True)
    number: dict[int, int] = {}
    for place, members in enumerate(connected(np.unique(cluster).tolist(), links)):
        number |= dict.fromkeys(members, place)
    names = [stored[unicodedata.normalize("NFC", tuples.images[row])] for row in rows]
    places = np.array([number[one] for one in cluster[rows].tolist()], np.int64)
    return Labels(names, cluster[rows], places, validation_mask(tuples)[rows])


def choose_queries(labels: Labels, most: int, seed: int, *, validation_only: bool = False) -> np.ndarray:
    """Chooses queries at random among photos with another photo of their cluster, as many of each place as possible.

    Args:
        labels: the objects of the photos.
        most: maximum number of queries.
        seed: random seed.
        validation_only: whether only photos that are set aside for validation are queries.

    Returns:
        Rows of `labels`, (Q,) ascending.
    """
    _, inverse, sizes = np.unique(labels.cluster, return_inverse=True, return_counts=True)
    usable = sizes[inverse] > 1
    if validation_only and labels.validation is not None:
        usable &= labels.validation
    rows = np.flatnonzero(usable)
    order = np.random.default_rng(seed).permutation(rows)
    turn: dict[int, int] = {}
    turns = np.empty(len(order), np.int64)
    for number, row in enumerate(order.tolist()):
        place = int(labels.place[row])
        turns[number] = turn[place] = turn.get(place, -1) + 1
    return np.sort(order[np.argsort(turns, kind="stable")][:most])


def collect(
    index: NeighbourIndex,
    labels: Labels,
    queries: np.ndarray,
    candidates: int,
    local: FeatureSource | None,
    matcher: Matcher | None = None,
    *,
    unlabelled: bool,
) -> Pairs:
    """Ranks the photos of an index for queries, and compares the first ones with each query.

    Each query is ranked twice: among all other photos, and among those of other places, as if the index had no photo
    of its object. Candidates of linked clusters are left out.

    Args:
        index: the index.
        labels: objects of photos of the index.
        queries: rows of `labels`, (Q,).
        candidates: number of photos at the beginning of each ranking.
        local: local features of the photos; None to compare descriptors only.
        matcher: how they are matched; None for mutual nearest neighbours.
        unlabelled: whether photos of the index that are not in `labels` count as photos of other objects; otherwise
            they are left out.
    """
    known, scales, verifier = labels.known(), Scales(index), None if local is None else Verifier(matcher=matcher)
    members = np.bincount(labels.place)
    features, facts = [np.zeros((0, 4))], [np.zeros((0, 5), np.int64)]
    with progress("calibrate", len(queries)) as advance:
        for number, row in enumerate(queries.tolist()):
            name, place = labels.names[row], int(labels.place[row])
            vector = index.vectors([name])
            depth = candidates + int(members[place]) + scale_neighbour(len(index)) + 1
            (hits,) = index.search(vector, min(depth, len(index)))
            hits = hits.pick([at for at, other in enumerate(hits.names) if other != name])
            foreign = hits.pick([at for at, other in enumerate(hits.names) if _place(labels, known, other) != place])
            compared: dict[str, Match] = {}
            query = None if local is None else local.read(name)
            for without, ranking in enumerate((hits, foreign)):
                if not ranking.names:
                    continue
                near, first = _nearness(ranking, candidates, scales, len(index))
                some = [at for at, other in enumerate(first.names) if _counts(labels, known, row, other, unlabelled)]
                first, near = first.pick(some), near[some]
                if verifier is not None and local is not None and query is not None:
                    missing = [other for other in first.names if other not in compared]
                    compared |= verifier.verify_all(query, missing, local.read) if missing else {}
                features.append(pair_features(first.scores, near, [compared.get(other) for other in first.names]))
                rows = np.array([known.get(other, -1) for other in first.names], np.int64)
                shared = (rows >= 0) & (labels.cluster[rows] == labels.cluster[row])
                ones = np.ones(len(rows), np.int64)
                facts.append(np.stack([shared, ones * number, ones * place, ones * without, rows], axis=1))
            advance(1)
    same, query, place, without, candidate = np.concatenate(facts).T
    return Pairs(np.concatenate(features), same.astype(bool), query, place, candidate, without.astype(bool))


def _place(labels: Labels, known: Mapping[str, int], name: str) -> int:
    row = known.get(name)
    return -1 if row is None else int(labels.place[row])


def _counts(labels: Labels, known: Mapping[str, int], query: int, name: str, unlabelled: bool) -> bool:
    """Whether a photo is a candidate: it is not in another cluster of the place of the query."""
    row = known.get(name)
    if row is None:
        return unlabelled
    return bool(labels.cluster[row] == labels.cluster[query] or labels.place[row] != labels.place[query])


def _nearness(ranking: Hits, candidates: int, scales: Scales, size: int) -> tuple[np.ndarray, Hits]:
    """The nearness of the first photos of a ranking to the query, whose scale is that within this ranking."""
    k = scale_neighbour(size)
    scale = 1 - ranking.scores[[min(k, len(ranking.scores)) - 1]].astype(np.float64)
    first = ranking.pick(range(min(candidates, len(ranking.names))))
    return nearness(first.scores.astype(np.float64), scale, scales.of_photos(first)), first

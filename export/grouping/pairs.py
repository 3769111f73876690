"""Finds the pairs of photos of an index that are likely to show the same object."""

import numpy as np
from keras_retrieval.pipelines.files.progress import progress
from keras_retrieval.pipelines.local_features.verification import Match, Verifier

from ..index_contract.answers import Answers
from ..index_contract.calibration import VERIFIED
from ..index_contract.contract import NeighbourIndex
from ..indexes.verified_search import FeatureSource
from .linking import Pair

_BATCH = 1000
_HOPELESS = 1e-3  # probability by descriptors from which local features are compared


def likely_pairs(
    index: NeighbourIndex, answers: Answers, least: float, neighbours: int, local: FeatureSource | None
) -> list[Pair]:
    """Compares each photo of an index with its nearest neighbours.

    Args:
        index: the index.
        answers: its calibration.
        least: the smallest probability of a pair.
        neighbours: number of neighbours of each photo.
        local: local features of the photos; None to compare descriptors only.

    Returns:
        The pairs that are probable enough, each once.
    """
    names = list(index.names)
    compare = local is not None and VERIFIED in answers.calibration.curves
    verifier = Verifier() if compare else None
    found: dict[tuple[str, str], Pair] = {}
    with progress("compare", len(names)) as advance:
        for start in range(0, len(names), _BATCH):
            some = names[start : start + _BATCH]
            rows = index.vectors(some)
            for name, row, hits in zip(some, rows, index.search(rows, neighbours + 1), strict=True):
                new = [at for at, other in enumerate(hits.names) if other != name and _key(name, other) not in found]
                hits = hits.pick(new)
                evidence = answers.evidence(row, hits, name)
                probabilities = answers.judge(evidence)
                matches: list[Match | None] = [None] * len(hits.names)
                if verifier is not None and local is not None:
                    matches = _matches(verifier, local, name, hits.names, probabilities)
                    probabilities = answers.judge(evidence, matches)
                for other, probability, match in zip(hits.names, probabilities.tolist(), matches, strict=True):
                    count = None if match is None else match.inliers
                    found[_key(name, other)] = Pair(*_key(name, other), probability, count)
                advance(1)
    return [pair for pair in found.values() if pair.probability >= least]


def _key(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one < other else (other, one)


def _matches(
    verifier: Verifier, local: FeatureSource, name: str, others: list[str], probabilities: np.ndarray
) -> list[Match | None]:
    """The match with each photo; None for those without features."""
    query = local.read(name)
    chosen = [other for other, one in zip(others, probabilities.tolist(), strict=True) if one >= _HOPELESS]
    matches = {} if query is None else verifier.verify_all(query, chosen, local.read)
    return [matches.get(other) for other in others]

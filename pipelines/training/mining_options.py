"""The options of mining: how many tuples an epoch has, and how their positives and negatives are chosen."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from keras_retrieval.errors import ArgumentError
from keras_retrieval.mining.hard_negatives import mine_negatives

POSITIVES = ("drawn", "nearest", "farthest")

ChooseNegatives = Callable[..., tuple[np.ndarray, np.ndarray]]
"""The function `keras_retrieval.mining.mine_negatives`, or another one with the same arguments and results."""


@dataclass(frozen=True, kw_only=True)
class MiningOptions:
    """The options by which an `EpochDraw` draws the tuples of an epoch and mines their hard negatives.

    Attributes:
        queries: number of pairs (query, positive) that are drawn for a training epoch, rounded down to a whole number
            of steps. Validation uses all pairs.
        pool: number of photos that are drawn for an epoch and from which negatives are chosen. The number is doubled
            until the photos belong to enough clusters. The pool is not used if tuples.npz lists the negatives of each
            photo.
        negatives: number of negatives of each query.
        positive: how the positive of a query is chosen: "drawn" at random, or by descriptor the "nearest" of all
            positives of the query (NetVLAD, Arandjelovic et al. CVPR 2016) or the "farthest" (the hardest triplets of
            Gordo et al. ECCV 2016). With "nearest" and "farthest", a query occurs at most once in an epoch.
        sample: number of photos drawn from the pool as the candidates of each query; 0 for the whole pool.
        remember: whether the previous negatives of a query are candidates as well.
        refresh: number of steps after which negatives are chosen again within an epoch; 0 chooses them only at the
            beginning of an epoch.
        batch: number of tuples in a step.
        seed: random seed.
        approximate_above: number of photos in the pool above which ScaNN (extra `index`) searches it approximately.
        choose_negatives: the function that chooses the negatives among the candidates.

    Raises:
        ArgumentError: an option is out of range.
    """

    queries: int = 2000
    pool: int = 20_000
    negatives: int = 5
    positive: str = POSITIVES[0]
    sample: int = 0
    remember: bool = False
    refresh: int = 0
    batch: int = 5
    seed: int = 0
    approximate_above: int = 500_000
    choose_negatives: ChooseNegatives = mine_negatives

    def __post_init__(self) -> None:
        for name, least in {"queries": 1, "pool": 1, "negatives": 1, "batch": 1, "sample": 0, "refresh": 0}.items():
            value = getattr(self, name)
            if value < least:
                raise ArgumentError(f"{name} must be at least {least}, got {value}")
        if self.positive not in POSITIVES:
            raise ArgumentError(f"positive must be one of {', '.join(POSITIVES)}, got {self.positive}")

"""Draws the training tuples of an epoch: random pairs, and hard negatives mined in a random pool of photos.

A tuple (query, positive, negatives) passes through these stages, each in one module:

1. `EpochDraw.drawn` draws the pairs and the pool; the draw depends only on the seed and the number of the epoch.
2. `PhotoDescriptors.describe_missing` computes descriptors that are missing, with the network in its current state.
3. `HardPositives.choose` chooses the positive.
4. `HardNegatives.choose` chooses the negatives by `mine_negatives`. The tuple is now a row of `EpochDraw.tuples`.
5. `TupleReader.elements` reads the pixels of the photos, some steps ahead of training.
6. `TupleStream.dataset` passes the tuple to `fit`, where `TupleModel` performs a training step.

With the option `refresh`, negatives are chosen again between steps, for tuples whose photos have not been read yet.
"""

import time
from dataclasses import dataclass

import numpy as np

from keras_retrieval.mining.hard_negatives import MiningError, require_clusters

from ..descriptors.describer import DescribeFn
from ..photos.cache import PhotoSource
from ..training_tuples.data import Tuples, TuplesError, objects
from .errors import TrainingError
from .hard_negatives import HardNegatives
from .hard_positives import HardPositives
from .mining_options import MiningOptions
from .photo_descriptors import PhotoDescriptors
from .tuple_reader import STEPS_ALREADY_READ
from .workers import ALONE, Workers


@dataclass(frozen=True)
class Mined:
    """The result of mining for an epoch.

    Attributes:
        epoch: the number of the epoch, from 0.
        described: number of photos whose descriptors the network computed.
        seconds: duration of mining in seconds.
        distance: mean Euclidean distance between the descriptors of queries and of their negatives; it should increase
            while the network learns.
        replaced: number of drawn pairs that were replaced because one of their photos cannot be read.
        left_out: dict from the name of each photo that cannot be read to the reason.
    """

    epoch: int
    described: int
    seconds: float
    distance: float
    replaced: int
    left_out: dict[str, str]


class EpochDraw:
    """Draws the tuples (query, positive, N negatives) of each epoch and mines their negatives.

    For each epoch, `options.queries` random pairs (query, positive) are drawn, and a pool of `options.pool` random
    photos, from which the negatives are chosen. The draw depends only on the seed and the number of the epoch, so that
    a resumed run draws the same pairs and pool. For validation, all pairs are used in order, with the same pool in
    every epoch. The photos' descriptors are stored in memory or, if they are large, in a temporary file, see
    `PhotoDescriptors`.

    Args:
        tuples: the tuples from `read_tuples`.
        photos: reader of the photos' pixels: a `PhotoCache`, or a `Reading`, which decodes the photos each time.
        options: the options of mining.
        validation: whether to use the validation pairs instead of the training pairs.
        workers: the processes that train together, see `PhotoDescriptors`. All of them make the same draw and must call
            the same methods.

    Attributes:
        count: number of tuples in an epoch.
        batch: number of tuples in a step.
        width: number of photos in a tuple, 2 + N.
        steps: number of steps in an epoch.
        pairs: (P, 2) row numbers of the query and the positive of each pair from which epochs are drawn. A row number
            is an index into `tuples.images`.
        tuples: (count, 2 + N) int32 row numbers of the photos in the tuples of the epoch that was mined last; None
            before the first call of `mine`.
        distances: (count, N) float32 Euclidean distances between the descriptors of the queries and of their negatives
            at the time when the negatives were chosen.
        epoch: number, from 0, of the epoch that was mined last; None before the first call of `mine`.
        trained: whether the epoch that was mined last has been trained on.

    Raises:
        TuplesError: there is no pair.
        MiningError: a query cannot have N negatives, because there are too few other clusters, or because too few
            negatives are listed for every query.
    """

    def __init__(
        self,
        tuples: Tuples,
        photos: PhotoSource,
        options: MiningOptions,
        *,
        validation: bool = False,
        workers: Workers = ALONE,
    ) -> None:
        self.photos, self.options, self.validation = photos, options, validation
        self.names, self.cluster, self.objects = tuples.images, tuples.cluster, objects(tuples)
        self.same_object = tuples.same_object
        set_aside = np.zeros(len(tuples.images), bool) if tuples.validation is None else tuples.validation
        pairs = np.column_stack([tuples.qidxs, tuples.pidxs])
        pairs = pairs[set_aside[tuples.qidxs] == validation]
        if not len(pairs):
            raise TuplesError(f"no pair is {'set aside for validation' if validation else 'left to train on'}")
        self.rows = np.flatnonzero(set_aside == validation)
        self.descriptors = PhotoDescriptors(photos, self.names, workers)
        self.hard_negatives = HardNegatives(tuples, self.rows, self.descriptors, options)
        pairs = pairs[self.hard_negatives.possible(pairs[:, 0])]
        self.hard_positives = HardPositives(pairs, options.positive, self.descriptors)
        self.pairs = self.hard_positives.pairs
        self.count, self.batch = _whole_steps(len(self.pairs), options.queries, options.batch, validation)
        self.steps = -(-self.count // self.batch)
        self.width = 2 + options.negatives
        self.tuples: np.ndarray | None = None
        self.distances = np.zeros((0, options.negatives), np.float32)
        self.epoch: int | None = None
        self.trained = False

    def drawn(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws the pairs and the pool of an epoch, which depend only on the seed and the number of the epoch.

        Args:
            epoch: the number of the epoch, from 0.

        Returns:
            (P, 2) row numbers of all pairs in random order, of which the first `count` with readable photos are used;
            and (n,) row numbers of the photos in the pool, which is empty if tuples.npz lists negatives.
        """
        rng = np.random.default_rng([self.options.seed, 0 if self.validation else epoch])
        pairs = self.pairs if self.validation else rng.permutation(self.pairs)
        rows = rng.permutation(self.rows)
        if self.hard_negatives.listed:
            return pairs, rows[:0]
        size, clusters = self.options.pool, self.cluster[pairs[:, 0]]
        while size < len(rows):
            try:
                require_clusters(clusters, self.cluster[rows[:size]], self.same_object, self.options.negatives)
                break
            except MiningError:
                size *= 2
        return pairs, rows[:size]

    def mine(self, describe: DescribeFn, epoch: int) -> Mined:
        """Draws the pairs and the pool of an epoch, computes the descriptors of the photos, and chooses negatives.

        The tuples are then in the attribute `tuples`. Each photo is described once. With `options.refresh`, photos
        keep their descriptors from the previous epoch, and only photos without a descriptor are described.

        Args:
            describe: function from photos to descriptors, which `describer` makes from the network in training.
            epoch: the number of the epoch, from 0.

        Returns:
            The result of mining: number of described photos, duration, mean distance and unreadable photos.

        Raises:
            TuplesError: no pair has two readable photos.
            MiningError: the readable photos are of too few clusters.
            TrainingError: most descriptors are zero or not finite, which means that the network has diverged.
        """
        started = time.monotonic()
        pairs, pool = self.drawn(epoch)
        needed = np.union1d(pool, self._needed(pairs[: self.count]))
        self.descriptors.keep(needed if self.options.refresh else needed[:0])
        self.descriptors.describe_missing(describe, needed)
        try:
            pairs, replaced = self._usable(describe, pairs)
            negatives, self.distances = self.hard_negatives.choose(pairs[:, 0], self._rng(epoch, 0), pool=pool)
        except ValueError as error:
            # The network, not the photos, is the reason that there are too few pairs and clusters.
            if self.descriptors.useless > len(self.descriptors):
                raise _diverged(self.descriptors.useless) from error
            raise
        self.tuples = np.column_stack([pairs, negatives]).astype(np.int32)
        self.epoch, self.trained = epoch, False
        return Mined(
            epoch,
            self.descriptors.described,
            time.monotonic() - started,
            float(self.distances.mean()),
            replaced,
            dict(self.descriptors.left_out),
        )

    def refresh(self, describe: DescribeFn, step: int) -> bool:
        """Chooses negatives again within an epoch if `options.refresh` steps have passed since they were last chosen.

        First, the descriptors of the photos with the oldest descriptors are computed again, for so many photos that
        each photo is described once per epoch. Then negatives, and positives unless they are drawn at random, are
        chosen again for the tuples that will be read before the next refresh. The photos of the next three steps have
        already been read, so that these steps keep their old negatives.

        Args:
            describe: function from photos to descriptors, which `describer` makes from the network in training.
            step: number of the step, from 0, of the epoch that was trained last.

        Returns:
            Whether negatives were to be chosen again after this step.

        Raises:
            TrainingError: no photo has a usable descriptor, which means that the network has diverged.
        """
        if not self.options.refresh or (step + 1) % self.options.refresh or self.tuples is None:
            return False
        first = (step + 1 + STEPS_ALREADY_READ) * self.batch
        part = slice(first, first + self.options.refresh * self.batch)
        pairs = self.tuples[part, :2]
        if len(pairs):
            count = -(-len(self.descriptors) * self.options.refresh // self.steps)
            if not self.descriptors.describe(describe, self.descriptors.oldest(count)) and self.descriptors.useless:
                raise _diverged(self.descriptors.useless)
            negatives, distances = self.hard_negatives.choose(pairs[:, 0], self._rng(self.epoch or 0, step + 1))
            # Threads that read tuples see either the old or the new array, never a mixture.
            tuples, self.distances = self.tuples.copy(), self.distances.copy()
            tuples[part, :2] = self.hard_positives.choose(pairs)
            tuples[part, 2:], self.distances[part] = negatives, distances
            self.tuples = tuples
        return True

    def update(self, rows: np.ndarray, descriptors: np.ndarray) -> None:
        """Replaces stored descriptors by newer ones that a training step has computed.

        Descriptors of padded or augmented photos differ slightly from those of the original photos. They are used until
        the photos are described again.

        Args:
            rows: (B, M) row numbers of the photos of the step, which are "rows" in its inputs. Photos without a stored
                descriptor are ignored.
            descriptors: (B, M, D) descriptors of these photos.

        Raises:
            TrainingError: a descriptor is not finite, which means that the network has diverged.
        """
        finite = np.isfinite(descriptors).all(axis=-1)
        if not finite.all():
            raise _diverged(int((~finite).sum()))
        rows = rows.ravel()
        known = self.descriptors.has(rows)
        self.descriptors.put(rows[known], descriptors.reshape(len(rows), -1)[known])

    @property
    def left_out(self) -> dict[str, str]:
        """Dict from the name of each photo that could not be read or described during the last mining to the reason."""
        return self.descriptors.left_out

    def mined(self) -> np.ndarray:
        """Returns the (count, 2 + N) row numbers of the photos in the tuples of the epoch that was mined last.

        Raises:
            TrainingError: no epoch has been mined.
        """
        if self.tuples is None:
            raise TrainingError(
                "no negatives are mined yet: call mine(describe, epoch), or give fit the mining_callback (under a "
                "distribution strategy both)"
            )
        return self.tuples

    def state(self) -> dict[str, np.ndarray]:
        """Returns the arrays that a checkpoint must contain, so that `restore` can continue within the epoch.

        These are the tuples and distances and the state of `HardNegatives`; with `options.refresh` also the
        descriptors.

        Raises:
            TrainingError: no epoch has been mined.
        """
        state = {"epoch": np.array(self.epoch), "tuples": self.mined(), "distances": self.distances}
        described = self.descriptors.state() if self.options.refresh else {}
        return state | self.hard_negatives.state() | {f"descriptors_{name}": array for name, array in described.items()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Restores the arrays that `state` returned: the tuples, and with `options.refresh` also the descriptors."""
        self.epoch, self.tuples, self.distances = int(state["epoch"]), state["tuples"], state["distances"]
        self.hard_negatives.restore(state)
        self.trained = False
        prefix = "descriptors_"
        described = {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
        if described:
            self.descriptors.restore(described)

    def _rng(self, epoch: int, step: int) -> np.random.Generator:
        """Returns the random generator for samples of the pool after `step` finished steps of an epoch."""
        return np.random.default_rng([self.options.seed, 0 if self.validation else epoch, step])

    def _needed(self, pairs: np.ndarray) -> np.ndarray:
        """Returns the photos, besides the pool, whose descriptors are needed for tuples of these pairs (n, 2)."""
        queries = pairs[:, 0]
        positives, negatives = self.hard_positives.needed(queries), self.hard_negatives.needed(queries)
        return np.union1d(np.union1d(queries, negatives), positives)

    def _usable(self, describe: DescribeFn, pairs: np.ndarray) -> tuple[np.ndarray, int]:
        """Returns the first `count` pairs whose photos can be read and described, with their chosen positives.

        A pair with a photo that cannot be read is replaced by the next pair, whose photos are described first. If there
        are fewer than `count` such pairs, pairs are repeated.

        Returns:
            (count, 2) pairs, and the number of pairs that were replaced.
        """
        chosen, seen = self._with_positives(pairs[: self.count]), self.count
        while len(chosen) < self.count and seen < len(pairs):
            part = pairs[seen : seen + self.count - len(chosen)]
            seen += len(part)
            self.descriptors.describe_missing(describe, self._needed(part))
            chosen = np.concatenate([chosen, self._with_positives(part)])
        if not len(chosen):
            name, reason = next(iter(self.descriptors.left_out.items()))
            raise TuplesError(f"none of the {len(pairs)} pairs can be read; the first reason: {name}: {reason}")
        return chosen[np.arange(self.count) % len(chosen)], seen - len(chosen)

    def _with_positives(self, pairs: np.ndarray) -> np.ndarray:
        """Chooses positives and returns the pairs with a described query, enough negatives and a readable positive."""
        usable = self.descriptors.has(pairs[:, 0])
        if self.hard_negatives.listed:
            usable &= self.hard_negatives.enough_listed(pairs[:, 0], described=True)
        pairs = self.hard_positives.choose(pairs[usable])
        return pairs[self.descriptors.readable(pairs[:, 1])]


def _diverged(photos: int) -> TrainingError:
    return TrainingError(
        f"the network's descriptors of {photos:,} photos are zero or not finite: it has diverged: lower --lr (or, "
        "before any training, its file is damaged)"
    )


def _whole_steps(pairs: int, queries: int, batch: int, validation: bool) -> tuple[int, int]:
    """Returns the number of tuples in an epoch and in a step."""
    if validation:
        return pairs, min(batch, pairs)
    count = min(queries, pairs)
    batch = min(batch, count)
    return count - count % batch, batch

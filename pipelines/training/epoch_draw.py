"""Draws an epoch: random pairs, a random pool of photos, their descriptors, and the hard negatives mined among them.

The stages of a tuple (query, positive, negatives), each in one module:

1. drawn: `EpochDraw.drawn`, the pairs and the pool, from the seed and the epoch alone
2. described: `PhotoDescriptors.describe_missing`, the photos that are needed, by the network as it is
3. its positive: `HardPositives.choose`
4. its negatives: `HardNegatives.choose`, with `mine_negatives`; the tuple is now a row of `EpochDraw.tuples`
5. read: `TupleReader.elements`, the pixels of its photos, some steps ahead
6. stepped: `TupleStream.dataset` hands it to `fit`, where `TupleModel` takes a step

With `refresh` the tuples that are not read yet return to 2 between steps.
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


@dataclass(frozen=True)
class Mined:
    """The result of mining for an epoch.

    Attributes:
        epoch: the number of the epoch, from 0.
        described: number of photos that the network described.
        seconds: the time that it took.
        distance: mean distance from the queries to their negatives; it should increase while the network learns.
        replaced: pairs that were drawn and replaced by others, since a photo of theirs cannot be read.
        left_out: name -> reason, of photos that cannot be read.
    """

    epoch: int
    described: int
    seconds: float
    distance: float
    replaced: int
    left_out: dict[str, str]


class EpochDraw:
    """Draws the tuples (q, p, n1 .. nN) of each epoch and mines their negatives.

    An epoch is `options.queries` random pairs and a pool of `options.pool` random photos, drawn from the seed and the
    epoch alone, so that a resumed run draws the same. Their descriptors are held in memory (see PhotoDescriptors). For
    validation all pairs are taken in order, with the same pool in every epoch.

    Args:
        tuples: the tuples from `read_tuples`.
        photos: a PhotoCache, or a Reading without a cache, that has the photos of the tuples.
        options: the options of mining.
        validation: take the pairs that are set aside in place of those to train on.

    Attributes:
        count: tuples in an epoch.
        batch: tuples in a step.
        steps: steps in an epoch.
        pairs: (P, 2) the pairs that epochs draw from, rows of photos.
        tuples: (count, 2 + N) int32, the tuples of the epoch as rows of photos; None before `mine`.
        distances: (count, N) from the queries to their negatives at the time these were chosen.
        epoch: the epoch that was mined last; None before `mine`.
        trained: whether the epoch that was mined last has been trained on.

    Raises:
        TuplesError: there is no pair.
        MiningError: a query has too few clusters for N negatives.
    """

    def __init__(
        self, tuples: Tuples, photos: PhotoSource, options: MiningOptions, *, validation: bool = False
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
        self.descriptors = PhotoDescriptors(photos, self.names)
        self.hard_negatives = HardNegatives(tuples, self.rows, self.descriptors, options)
        pairs = pairs[self.hard_negatives.possible(pairs[:, 0])]
        self.hard_positives = HardPositives(pairs, options.positive, self.descriptors)
        self.pairs = self.hard_positives.pairs
        self.count, self.batch = _whole_steps(len(self.pairs), options.queries, options.batch, validation)
        self.steps = -(-self.count // self.batch)
        self.tuples: np.ndarray | None = None
        self.distances = np.zeros((0, options.negatives), np.float32)
        self.epoch: int | None = None
        self.trained = False

    def drawn(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The random choices at the beginning of an epoch, from the seed and the epoch alone.

        Returns:
            All pairs (P, 2) in random order, of which the first are used, and the pool (n,), which is empty where
            negatives are listed; both as rows of photos.
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
        """Draws an epoch, describes its queries and its pool, each photo once, and chooses the negatives.

        With `options.refresh` only photos without a descriptor from the epoch before are described.

        Args:
            describe: the function from `describer` of the network that is trained.
            epoch: the number of the epoch, from 0.

        Raises:
            TuplesError: there is no pair whose photos can be read.
            MiningError: the photos that can be read have too few clusters.
            TrainingError: most descriptors are zero or not finite, since the network has diverged.
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
            # Pairs and clusters are too few because of the network, not of the photos.
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
        """Chooses negatives again within an epoch, every `options.refresh` steps, for tuples that are not read yet.

        The photos with the oldest descriptors are described again, as many as make all of them in an epoch; positives
        (unless drawn) and negatives are chosen again for the tuples that are read before the next refresh. The
        STEPS_ALREADY_READ steps that follow keep their old negatives.

        Args:
            describe: as for `mine`.
            step: the step of the epoch, from 0, that has just been trained.

        Returns:
            Whether a refresh was due.

        Raises:
            TrainingError: no photo has a usable descriptor any more, since the network has diverged.
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
            # The threads that read tuples see the old or the new array, never a mixture.
            tuples, self.distances = self.tuples.copy(), self.distances.copy()
            tuples[part, :2] = self.hard_positives.choose(pairs)
            tuples[part, 2:], self.distances[part] = negatives, distances
            self.tuples = tuples
        return True

    def update(self, rows: np.ndarray, descriptors: np.ndarray) -> None:
        """Replaces descriptors by those that a training step has computed anyway.

        Args:
            rows: (B, M), the "rows" of the step's inputs.
            descriptors: (B, M, D) of these photos. Those of padded or augmented photos differ slightly from those of
                the photos themselves, and are used until the photo is described again.

        Raises:
            TrainingError: a descriptor is not finite, since the network has diverged.
        """
        finite = np.isfinite(descriptors).all(axis=-1)
        if not finite.all():
            raise _diverged(int((~finite).sum()))
        rows = rows.ravel()
        known = self.descriptors.has(rows)
        self.descriptors.put(rows[known], descriptors.reshape(len(rows), -1)[known])

    @property
    def left_out(self) -> dict[str, str]:
        """Name -> reason, of the photos that could not be read when the last epoch was mined."""
        return self.descriptors.left_out

    def mined(self) -> np.ndarray:
        """The `tuples` of the epoch.

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
        """The arrays from which `restore` continues within the epoch, with descriptors if negatives are refreshed.

        Raises:
            TrainingError: no epoch has been mined.
        """
        state = {"epoch": np.array(self.epoch), "tuples": self.mined(), "distances": self.distances}
        described = self.descriptors.state() if self.options.refresh else {}
        return state | self.hard_negatives.state() | {f"descriptors_{name}": array for name, array in described.items()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Restores a `state`: the same tuples, and the same descriptors if negatives are refreshed."""
        self.epoch, self.tuples, self.distances = int(state["epoch"]), state["tuples"], state["distances"]
        self.hard_negatives.restore(state)
        self.trained = False
        prefix = "descriptors_"
        described = {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
        if described:
            self.descriptors.restore(described)

    def _rng(self, epoch: int, step: int) -> np.random.Generator:
        """The generator for the samples of the pool at the beginning of an epoch, step 0, or after so many steps."""
        return np.random.default_rng([self.options.seed, 0 if self.validation else epoch, step])

    def _needed(self, pairs: np.ndarray) -> np.ndarray:
        """The photos outside the pool whose descriptors the tuples of these pairs (n, 2) need."""
        queries = pairs[:, 0]
        positives, negatives = self.hard_positives.needed(queries), self.hard_negatives.needed(queries)
        return np.union1d(np.union1d(queries, negatives), positives)

    def _usable(self, describe: DescribeFn, pairs: np.ndarray) -> tuple[np.ndarray, int]:
        """The first pairs whose photos have been described, with their chosen positives.

        Pairs with photos that cannot be read are replaced by the next ones, which are described first; if all pairs
        are too few they are repeated.

        Returns:
            (count, 2), and how many pairs were replaced.
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
        """The pairs (n, 2) that have a described query, enough negatives and a readable positive, which is chosen."""
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
    """The number of tuples in an epoch and in a step."""
    if validation:
        return pairs, min(batch, pairs)
    count = min(queries, pairs)
    batch = min(batch, count)
    return count - count % batch, batch

"""tuples.npz to tuples for `fit`: pairs drawn anew each epoch, with negatives that the network itself finds hard.

stream = TupleStream(read_tuples(path), photos, side=362)
model.fit(stream.dataset(), epochs=30, callbacks=[mining_callback(stream, describer(network))])
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_retrieval.mining.hard_negatives import MiningError, mine_negatives

from ..descriptors.describer import DescribeFn
from ..photos.augmentation import Augmentation
from ..photos.cache import PhotoSource
from ..training_tuples.data import Tuples, TuplesError, objects
from .errors import TrainingError
from .hard_negatives import HardNegatives, Pick
from .hard_positives import HardPositives
from .photo_descriptors import PhotoDescriptors
from .tuple_reader import READ_AHEAD, Element, TupleReader

PREFETCH = 1  # steps that wait as tensors
STALE = READ_AHEAD + PREFETCH  # steps that a refresh comes too late for: they are read already


@dataclass(frozen=True)
class Mined:
    """What mining for an epoch came to.

    Attributes:
        epoch: from 0.
        described: how many photos went through the network.
        seconds: in all.
        distance: the mean distance from the queries to their negatives; it should rise while the network learns.
        replaced: pairs that were drawn and gave way to others, since one of their photos cannot be read.
        left_out: name -> reason, of photos that cannot be read.
    """

    epoch: int
    described: int
    seconds: float
    distance: float
    replaced: int
    left_out: dict[str, str]


class TupleStream:
    """Tuples (q, p, n1 .. nN) of an epoch, with negatives mined for it, as a tf.data.Dataset.

    An epoch is `queries` random pairs and a pool of `pool` random photos, drawn from the seed and the epoch alone, so
    that a run that goes on draws the same; what is to be described for it is held in memory (see PhotoDescriptors),
    photos never are, but for those of three steps. For validation all pairs are taken in order, with the same pool in
    every epoch.

    Args:
        tuples: from `read_tuples`.
        photos: a PhotoCache, or a Reading without a cache, that has the photos of the tuples.
        side: of the padded squares in pixels, at least that of the longest photo.
        negatives: N.
        queries: pairs in an epoch; training takes no more than whole steps of them.
        pool: photos to choose negatives from; more where the draw would have too few clusters. Where tuples.npz lists
            the negatives of each photo, it is these.
        positive: "drawn" with its query, or by descriptor the "nearest" of all that the query has (NetVLAD) or the
            "farthest" (the hardest triplets of DIR); an epoch then draws queries, not pairs.
        sample, remember: photos of the pool that are drawn for each query, 0 for all, and whether what was hard when
            the query was seen last is looked at besides; see HardNegatives.
        batch: tuples in a step.
        padded: photos padded to squares, else at their exact sizes.
        seed: of all that is drawn.
        validation: the pairs set aside instead of those to train on.
        augment: what is done to the photos of the tuples, each time anew; None for nothing.
        refresh: steps of training from one refresh of negatives to the next, see `on_step`; 0 for none: negatives
            are those of the epoch's beginning.
        approximate_above: the size of a pool from which ScaNN searches it (the extra "index").
        pick: chooses negatives.

    Attributes:
        tuples: (queries, 2 + N) int32 rows of the photos of the epoch's tuples; None before `mine`.
        distances: (queries, N) from the queries to their negatives, when these were chosen.
        epoch: that was mined last; None before `mine`.
        fresh: it was mined and not yet trained on.
        steps: in an epoch.

    Raises:
        TuplesError: there is no pair.
        MiningError: there are too few clusters for N negatives.
        ValueError: an option is out of range.
    """

    def __init__(
        self,
        tuples: Tuples,
        photos: PhotoSource,
        *,
        side: int,
        negatives: int = 5,
        queries: int = 2000,
        pool: int = 20_000,
        batch: int = 5,
        padded: bool = True,
        seed: int = 0,
        validation: bool = False,
        augment: Augmentation | None = None,
        refresh: int = 0,
        approximate_above: int = 500_000,
        pick: Pick = mine_negatives,
        positive: str = "drawn",
        sample: int = 0,
        remember: bool = False,
    ) -> None:
        if min(side, negatives, queries, pool, batch) < 1 or min(refresh, sample) < 0:
            raise ValueError(
                "side, negatives, queries, pool, batch are at least 1, refresh and sample at least 0, not "
                f"{side}, {negatives}, {queries}, {pool}, {batch}, {refresh}, {sample}"
            )
        aside = np.zeros(len(tuples.images), bool) if tuples.validation is None else tuples.validation
        pairs = np.column_stack([tuples.qidxs, tuples.pidxs])
        pairs = pairs[aside[tuples.qidxs] == validation]
        if not len(pairs):
            raise TuplesError(f"no pair is {'set aside for validation' if validation else 'left to train on'}")
        self.rows = np.flatnonzero(aside == validation)
        self.names, self.cluster, self.refresh = tuples.images, tuples.cluster, refresh
        self.negatives, self.pool, self.seed, self.validation = negatives, pool, seed, validation
        self._descriptors = PhotoDescriptors(photos, self.names)
        self._hard_negatives = HardNegatives(
            tuples, self.rows, self._descriptors, count=negatives, sample=sample, remember=remember,
            approximate_above=approximate_above, pick=pick,
        )  # fmt: skip
        self._hard_negatives.require(pairs[:, 0], self.rows)
        self._hard_positives = HardPositives(
            pairs[self._hard_negatives.enough(pairs[:, 0])], positive, self._descriptors
        )
        self.pairs = self._hard_positives.pairs
        self.count, self.batch = _whole_steps(len(self.pairs), queries, batch, validation)
        self.steps = -(-self.count // self.batch)
        self.tuples: np.ndarray | None = None
        self.distances = np.zeros((0, negatives), np.float32)
        self.epoch: int | None = None
        self.fresh = False
        self._reader = TupleReader(photos, self.names, objects(tuples), side if padded else None, augment, seed)

    def draw(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """What an epoch begins with, from the seed and the epoch alone.

        Returns:
            pairs (P, 2), all there are, in the order in which they are wanted, and the pool (n,), empty where
            negatives are listed: rows of photos.
        """
        rng = np.random.default_rng([self.seed, 0 if self.validation else epoch])
        pairs = self.pairs if self.validation else rng.permutation(self.pairs)
        rows = rng.permutation(self.rows)
        if self._hard_negatives.listed:
            return pairs, rows[:0]
        size = self.pool
        while size < len(rows):
            try:
                self._hard_negatives.require(pairs[:, 0], rows[:size])
                break
            except MiningError:
                size *= 2
        return pairs, rows[:size]

    def mine(self, describe: DescribeFn, epoch: int) -> Mined:
        """Draws an epoch, describes its queries and its pool once each, and chooses the negatives.

        With `refresh` only those are described that have no descriptor from the epoch before.

        Args:
            describe: from `describer` of the network that is trained.
            epoch: from 0.

        Raises:
            ValueError: there is no pair whose photos can be read.
            MiningError: the photos that can be read have too few clusters.
            TrainingError: most descriptors are zero or not finite, since the network has diverged.
        """
        started = time.monotonic()
        pairs, pool = self.draw(epoch)
        union = np.union1d(self._needed(pairs[: self.count]), pool)
        self._descriptors.keep(union if self.refresh else self.rows[:0])
        described = self._describe_new(describe, union)
        try:
            chosen, more, replaced = self._choose_pairs(describe, pairs)
            self._hard_negatives.set_pool(pool, chosen[:, 0])
            draw = self._draw_of(epoch, 0)
            negatives, self.distances = self._hard_negatives.choose(chosen[:, 0], draw, approximate=True)
        except ValueError as error:
            # Pairs and clusters are too few because of the network, not of the photos.
            if self._descriptors.useless > len(self._descriptors):
                raise _diverged(self._descriptors.useless) from error
            raise
        self.tuples = np.column_stack([chosen, negatives]).astype(np.int32)
        self.epoch, self.fresh = epoch, True
        seconds, distance = time.monotonic() - started, float(self.distances.mean())
        return Mined(epoch, described + more, seconds, distance, replaced, dict(self._descriptors.left_out))

    def on_step(self, describe: DescribeFn, step: int) -> bool:
        """Refreshes negatives while an epoch goes on, every `refresh` steps, for the tuples that are still to come.

        The photos that were described longest ago are described anew, as many as make all of them in an epoch, and
        positives (by descriptor, not those drawn) and negatives are chosen again for the tuples that are read before
        the next refresh. The STALE next steps are read already, and keep theirs.

        Args:
            describe: as for `mine`.
            step: of the epoch, from 0, that has just been trained.

        Returns:
            Whether it was time.

        Raises:
            TrainingError: no photo has a usable descriptor any more, since the network has diverged.
        """
        if not self.refresh or (step + 1) % self.refresh or self.tuples is None:
            return False
        first = (step + 1 + STALE) * self.batch
        part = slice(first, first + self.refresh * self.batch)
        queries = self.tuples[part, 0]
        if len(queries):
            # Once round in an epoch: each refresh takes its share.
            count = -(-len(self._descriptors) * self.refresh // self.steps)
            if not self._descriptors.describe(describe, self._descriptors.oldest(count)) and self._descriptors.useless:
                raise _diverged(self._descriptors.useless)
            negatives, distances = self._hard_negatives.choose(queries, self._draw_of(self.epoch or 0, step + 1))
            # The threads that read tuples see the old or the new array, never a part of both.
            tuples, self.distances = self.tuples.copy(), self.distances.copy()
            tuples[part, :2] = self._hard_positives.choose(tuples[part, :2])
            tuples[part, 2:], self.distances[part] = negatives, distances
            self.tuples = tuples
        return True

    def update(self, rows: np.ndarray, descriptors: np.ndarray) -> None:
        """Takes descriptors that a training step has computed anyway.

        Args:
            rows: (B, M), the "rows" of the step's inputs.
            descriptors: (B, M, D) of these photos. Those of padded or augmented photos are near those of the photos
                as they are, and count until the photo is described again.

        Raises:
            TrainingError: a descriptor is not finite, since the network has diverged.
        """
        if not np.isfinite(descriptors).all():
            raise _diverged(int((~np.isfinite(descriptors).all(axis=-1)).sum()))
        rows = rows.ravel()
        known = self._descriptors.has(rows)
        self._descriptors.put(rows[known], descriptors.reshape(len(rows), -1)[known])

    def dataset(self, start: int = 0) -> Any:
        """The tuples of the epoch that was mined last, each time it is gone through.

        Letters: B tuples in a step (the last step of validation may have fewer), M = 2 + N, S the side.

        Args:
            start: the first step, for a run that goes on within an epoch.

        Returns:
            A tf.data.Dataset of (inputs, objects): objects (B, M) int32, the same for photos that may show the same
            object; inputs a dict of "rows" (B, M) int32, the photos' rows, and of `padded` or of `exact`, see
            tuple_batches. Photos are read by threads, READ_AHEAD steps ahead. Going through it before `mine` is an
            error. A photo that cannot be read now has its tuple replaced by another of the epoch.
        """
        import tensorflow as tf

        tuples = None if self.count % self.batch else self.batch
        signature = self._reader.signature(tuples, 2 + self.negatives)
        data = tf.data.Dataset.from_generator(lambda: self._elements(start), output_signature=signature)
        return data.apply(tf.data.experimental.assert_cardinality(self.steps - start)).prefetch(PREFETCH)

    @property
    def left_out(self) -> dict[str, str]:
        """Name -> reason, of the photos that could not be read when the last epoch was mined, or in any step so far."""
        return self._descriptors.left_out | self._reader.left_out

    def state(self) -> dict[str, np.ndarray]:
        """What `restore` needs to go on within the epoch, or to the next one if negatives are refreshed by steps.

        Raises:
            ValueError: nothing has been mined.
        """
        facts = {"epoch": np.array(self.epoch), "tuples": self._mined(), "distances": self.distances}
        described = self._descriptors.state() if self.refresh else {}
        return (
            facts | self._hard_negatives.state() | {f"descriptors_{name}": array for name, array in described.items()}
        )

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Goes back to a `state`: the same tuples, and the same descriptors where they are refreshed by steps."""
        self.epoch, self.tuples, self.distances = int(state["epoch"]), state["tuples"], state["distances"]
        self._hard_negatives.restore(state)
        self.fresh = True
        prefix = "descriptors_"
        described = {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
        if described:
            self._descriptors.restore(described)

    def _draw_of(self, epoch: int, moment: int) -> np.random.Generator:
        """What is drawn at the epoch's beginning, 0, or after so many of its steps."""
        return np.random.default_rng([self.seed, 0 if self.validation else epoch, moment])

    def _needed(self, pairs: np.ndarray) -> np.ndarray:
        """The photos whose descriptors the tuples of these pairs (n, 2) are made with, beside the pool."""
        queries = pairs[:, 0]
        return np.union1d(np.union1d(queries, self._hard_negatives.asked(queries)), self._hard_positives.asked(queries))

    def _describe_new(self, describe: DescribeFn, rows: np.ndarray) -> int:
        """Describes those rows that have no descriptor and have not failed."""
        rows = np.unique(rows[~self._descriptors.has(rows)])
        failed = [self.names[row] in self._descriptors.left_out for row in rows]
        return self._descriptors.describe(describe, rows[~np.array(failed, bool)])

    def _choose_pairs(self, describe: DescribeFn, pairs: np.ndarray) -> tuple[np.ndarray, int, int]:
        """The first pairs whose photos can be read, repeated if there are too few.

        Returns:
            (count, 2), how many further photos have been described, how many pairs have been passed over.
        """
        chosen, described, seen = pairs[:0], 0, 0
        while len(chosen) < self.count and seen < len(pairs):
            some = pairs[seen : seen + self.count - len(chosen)]
            seen += len(some)
            described += self._describe_new(describe, self._needed(some))
            some = some[self._descriptors.has(some[:, 0]) & self._hard_negatives.enough(some[:, 0], described=True)]
            some = self._hard_positives.choose(some)
            readable = [row for _, row in self._descriptors.shapes(np.unique(some[:, 1]))]
            chosen = np.concatenate([chosen, some[np.isin(some[:, 1], readable)]])
        if not len(chosen):
            name, reason = next(iter(self._descriptors.left_out.items()))
            raise ValueError(f"none of the {len(pairs)} pairs can be read; the first reason: {name}: {reason}")
        return chosen[np.arange(self.count) % len(chosen)], described, seen - len(chosen)

    def _mined(self) -> np.ndarray:
        if self.tuples is None:
            raise ValueError(
                "no negatives are mined yet: call mine(describe, epoch), or give fit the stream's callback (under a "
                "distribution strategy both)"
            )
        return self.tuples

    def _elements(self, start: int) -> Iterator[Element]:
        self._mined()
        return self._reader.elements(self._mined, self.batch, range(start, self.steps), self.epoch or 0)


def _diverged(photos: int) -> TrainingError:
    return TrainingError(
        f"the network's descriptors of {photos:,} photos are zero or not finite: it has diverged: lower --lr (or, "
        "before any training, its file is damaged)"
    )


def _whole_steps(pairs: int, queries: int, batch: int, validation: bool) -> tuple[int, int]:
    """How many tuples there are in an epoch and in a step."""
    if validation:
        return pairs, min(batch, pairs)
    count = min(queries, pairs)
    batch = min(batch, count)
    return count - count % batch, batch

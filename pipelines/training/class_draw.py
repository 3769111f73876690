"""Draws batches of P classes with K photos each (P x K batches), for losses on labels and on classes.

A class is a cluster of the training tuples: the photos of a 3D model, of an object, or of a cell of positions. Classes
that may show the same object, which are linked in tuples.npz, are never in one batch.
"""

import logging
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from keras_retrieval.errors import ArgumentError

from ..photos.cache import PhotoSource
from ..training_tuples.data import Tuples, TuplesError, validation_mask
from .errors import TrainingError

log = logging.getLogger("keras_retrieval")
_TRIES = 20  # number of orders of the classes in which unlinked ones are sought


@dataclass(frozen=True, kw_only=True)
class ClassOptions:
    """How batches of classes are drawn.

    Attributes:
        classes: number P of classes in a batch.
        each: number K of photos of each class in a batch.
        steps: number of steps in an epoch; None for as many as make the photos of an epoch as many as the classes have.
        repeat: whether classes with fewer than K photos are drawn as well, with their photos repeated.
        excluded: whether the labels of a photo include those of linked classes, see `ClassDraw.objects`.
        seed: random seed.
    """

    classes: int
    each: int
    steps: int | None = None
    repeat: bool = False
    excluded: bool = False
    seed: int = 0


def classes_and_photos(text: str) -> tuple[int, int]:
    """Reads the numbers of a batch, such as (60, 4) of "60x4".

    Raises:
        ArgumentError: the text has another form, or a number is below 1.
    """
    found = re.fullmatch(r"([0-9]{1,6})[xX]([0-9]{1,6})", text.strip())
    if not found or not int(found[1]) * int(found[2]):
        raise ArgumentError(f"--batch-classes must be CLASSESxPHOTOS, such as 60x4, got {text!r}")
    return int(found[1]), int(found[2])


class ClassDraw:
    """Draws the batches of each epoch, which depend only on the seed and the number of the epoch.

    A class counts if at least K of its photos can be read, where copies of one photo count as one. Others are left out,
    as in GSV-Cities; or with `options.repeat` their photos are repeated, which random augmentation makes different.
    Each class is drawn once before one is drawn again, as far as links allow, and so is each photo of a class. If the
    tuples divide the classes into groups, as `tuples --cells` does, the classes of a batch are of one group, and the
    groups take turns in proportion to their photos.

    Args:
        tuples: the tuples; photos set aside for validation are not drawn.
        photos: reader of the photos' pixels; those in its `left_out` are not drawn.
        options: how batches are drawn.

    Attributes:
        classes: number C of classes that count.
        dropped: number of other classes.
        objects: (N,) int32 number of each photo's class, 0 .. C - 1, -1 for photos of no class that counts. With
            `options.excluded`, (N, 1 + L): that number and those of the classes linked to it, padded with -1.
        batch: number P of rows of a step.
        width: number K of photos in a row.
        steps: number of steps in an epoch.
        count: number of rows in an epoch.
        tuples: (count, K) int32 row numbers of the photos of the epoch that was drawn last; None before.
        epoch: number, from 0, of that epoch; None before the first.
        trained: whether that epoch has been trained on.

    Raises:
        TuplesError: too few classes count, or too few of them are not linked to each other; or the tuples list the
            negatives of each photo.
    """

    def __init__(self, tuples: Tuples, photos: PhotoSource, options: ClassOptions) -> None:
        if tuples.negatives is not None:
            raise TuplesError(
                "--batch-classes makes all photos of other classes negatives, and these tuples list the negatives of "
                "each photo: train on tuples"
            )
        self.photos, self.names, self.options = photos, tuples.images, options
        self.left_out: dict[str, str] = {}
        self.batch, self.width = options.classes, options.each
        unreadable = getattr(photos, "left_out", {})
        usable = ~validation_mask(tuples) & np.array([name not in unreadable for name in tuples.images], bool)
        rows = np.flatnonzero(usable)
        members = _members(rows, tuples.cluster, tuples.details.get("copies"))
        least = 1 if options.repeat else options.each
        kept = [number for number, units in members.items() if len(units) >= least]
        self.classes, self.dropped = len(kept), len(members) - len(kept)
        self._units = [members[number] for number in kept]
        self._linked = _links_of(kept, tuples.same_object)
        self.objects = self._labels(len(tuples.images))
        self._groups = self._groups_of(tuples, kept)
        total = sum(max(sum(map(len, self._units[number])), options.each) for number in self._counted)
        self.steps = options.steps or max(1, -(-total // (self.batch * self.width)))
        self.count = self.steps * self.batch
        self.tuples: np.ndarray | None = None
        self.epoch: int | None = None
        self.trained = False

    @property
    def account(self) -> str:
        """A sentence on the classes that are drawn."""
        photos = sum(len(unit) for units in self._units for unit in units)
        account = (
            f"batches of {self.batch} classes x {self.width} photos, of {photos:,} photos in {self.classes:,} classes"
        )
        repeated = sum(len(units) < self.width for units in self._units)
        if repeated:
            account += f"; the photos of {repeated:,} classes with fewer than {self.width} are repeated"
        if self.dropped:
            account += f"; {self.dropped:,} classes with fewer than {self.width} photos are left out"
        outside = self.classes - len(self._counted)
        if outside:
            account += f"; {outside:,} classes are in groups with fewer than {self.batch} classes, and left out"
        return account

    @property
    def _counted(self) -> list[int]:
        return [number for group in self._groups for number in group]

    def draw(self, epoch: int) -> None:
        """Draws the batches of an epoch, which are then in the attribute `tuples`."""
        rng = np.random.default_rng([self.options.seed, epoch])
        sizes = [sum(len(self._units[number]) for number in group) for group in self._groups]
        turns = rng.permutation(_turns(sizes, self.steps, rng.random()))
        classes = [_Cycle(group, rng) for group in self._groups]
        photos: dict[int, _Cycle] = {}
        drawn = []
        for turn in turns.tolist():
            for number in self._unlinked(classes[turn], self._groups[turn]):
                cycle = photos.setdefault(number, _Cycle(range(len(self._units[number])), rng))
                places = cycle.take_different(self.width)
                units = [self._units[number][places[place % len(places)]] for place in range(self.width)]
                drawn.append([unit[rng.integers(len(unit))] for unit in units])
        self.tuples, self.epoch, self.trained = np.array(drawn, np.int32), epoch, False

    def mined(self) -> np.ndarray:
        """Returns the (count, K) row numbers of the photos of the epoch that was drawn last.

        Raises:
            TrainingError: no epoch has been drawn.
        """
        if self.tuples is None:
            raise TrainingError("no batches are drawn yet: call draw(epoch), or give fit the drawing_callback")
        return self.tuples

    def state(self) -> dict[str, np.ndarray]:
        """Returns the arrays that a checkpoint must contain: the number of the epoch, from which it is drawn again."""
        return {"epoch": np.array(self.epoch)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Draws the epoch again whose `state` is given."""
        self.draw(int(state["epoch"]))

    def _labels(self, photos: int) -> np.ndarray:
        labels = np.full(photos, -1, np.int32)
        for number, units in enumerate(self._units):
            for unit in units:
                labels[unit] = number
        longest = max(map(len, self._linked), default=0) if self.options.excluded else 0
        if not longest:
            return labels
        table = np.full((photos, 1 + longest), -1, np.int32)
        table[:, 0] = labels
        for row, number in enumerate(labels.tolist()):
            linked = sorted(self._linked[number]) if number >= 0 else []
            table[row, 1 : 1 + len(linked)] = linked
        return table

    def _groups_of(self, tuples: Tuples, kept: Sequence[int]) -> list[list[int]]:
        """Returns the classes of each group from which a batch can be drawn.

        Raises:
            TuplesError: there is no such group.
        """
        group = tuples.details.get("group")
        groups: dict[int, list[int]] = {}
        for number, units in enumerate(self._units):
            groups.setdefault(0 if group is None else int(group[units[0][0]]), []).append(number)
        usable, most = [], 0
        for _, numbers in sorted(groups.items()):
            found = self._most_unlinked(numbers)
            most = max(most, found)
            if found >= self.batch:
                usable.append(numbers)
        if not usable:
            raise TuplesError(self._too_few(most, len(groups)))
        return usable

    def _too_few(self, most: int, groups: int) -> str:
        wanted = f"--batch-classes {self.batch}x{self.width}"
        least = "a photo" if self.options.repeat else f"at least {self.width} photos"
        facts = [f"{self.classes:,} classes have {least} that can be read, copies counted as one"]
        if self.dropped:
            facts.append(f"{self.dropped:,} have fewer")
        if any(self._linked):
            facts.append("linked classes are never in one batch")
        if groups > 1:
            facts.append(f"they are in {groups:,} groups, and a batch is of one group")
        fix = (
            f"give --batch-classes {most}x{self.width}"
            if most > 1
            else "give fewer photos a class, or make `tuples --cells` of positions"
        )
        if self.dropped:
            fix += ", or --small-classes repeat, which draws those with fewer photos as well"
        return (
            f"{wanted} needs {self.batch} classes, and at most {most:,} can be in one batch ({'; '.join(facts)}): {fix}"
        )

    def _most_unlinked(self, numbers: Sequence[int]) -> int:
        """Returns how many classes are found that are not linked to each other, at most P."""
        if not any(self._linked[number] for number in numbers):
            return len(numbers)
        rng, best = np.random.default_rng(0), 0
        for _ in range(_TRIES):
            best = max(best, len(self._choose(_Cycle(numbers, rng).once())))
            if best >= self.batch:
                break
        return best

    def _choose(self, order: Iterable[int]) -> list[int]:
        """Returns the first P classes of an order that are not linked to an earlier one."""
        chosen: list[int] = []
        taken: set[int] = set()
        for number in order:
            if number not in taken:
                chosen.append(number)
                taken |= self._linked[number] | {number}
                if len(chosen) == self.batch:
                    break
        return chosen

    def _unlinked(self, cycle: "_Cycle", numbers: Sequence[int]) -> list[int]:
        """Takes P classes that are not linked to each other from the cycle of a group."""
        for _ in range(100 * _TRIES):
            chosen = self._choose(cycle.upcoming(len(numbers)))
            if len(chosen) == self.batch:
                cycle.remove(chosen)
                return chosen
            cycle.clear()
        raise TuplesError(
            f"--batch-classes {self.batch}x{self.width}: so many unlinked classes are found too rarely: give fewer"
        )


class _Cycle:
    """A queue of items, which random orders of all items fill again."""

    def __init__(self, items: Sequence[int], rng: np.random.Generator) -> None:
        self.items, self.rng = list(items), rng
        self.queue: deque[int] = deque()

    def once(self) -> list[int]:
        """Returns all items in a random order."""
        return self.rng.permutation(self.items).tolist()

    def upcoming(self, count: int) -> Iterator[int]:
        """Yields the items of the queue in order, without repetitions; it is filled if it has fewer than `count`."""
        if len(self.queue) < count:
            self.queue.extend(self.once())
        seen: set[int] = set()
        for item in self.queue:
            if item not in seen:
                seen.add(item)
                yield item

    def remove(self, taken: Sequence[int]) -> None:
        """Removes the first occurrence of each of some items."""
        for item in taken:
            self.queue.remove(item)

    def clear(self) -> None:
        """Empties the queue."""
        self.queue.clear()

    def take_different(self, count: int) -> list[int]:
        """Takes `count` different items."""
        chosen = list(islice(self.upcoming(count), count))
        self.remove(chosen)
        return chosen


def drawing_callback(draw: ClassDraw) -> Any:
    """Returns a callback for `fit` that draws the batches at the beginning of every epoch.

    An epoch that has been drawn but not yet trained on, as in a resumed run, is not drawn again.
    """
    from keras.callbacks import LambdaCallback

    def begin(epoch: int, logs: Any = None) -> None:
        if draw.epoch != epoch or draw.trained:
            draw.draw(epoch)

    def end(epoch: int, logs: Any = None) -> None:
        draw.trained = True

    return LambdaCallback(on_epoch_begin=begin, on_epoch_end=end)


Members = dict[int, list[np.ndarray]]


def _members(rows: np.ndarray, cluster: np.ndarray, copies: np.ndarray | None) -> Members:
    """Returns the photos of each cluster as units: a photo, or the copies of one photo."""
    members: Members = {}
    order = rows[np.argsort(cluster[rows], kind="stable")]
    for own in np.split(order, np.flatnonzero(np.diff(cluster[order])) + 1):
        if len(own):
            group = np.full(len(own), -1) if copies is None else copies[own]
            units = [own[place : place + 1] for place in np.flatnonzero(group < 0)]
            units += [own[group == number] for number in np.unique(group[group >= 0])]
            members[int(cluster[own[0]])] = units
    return members


def _links_of(clusters: Sequence[int], links: np.ndarray) -> list[set[int]]:
    """Returns, for each of the given clusters, the places in the list of those it is linked to."""
    place = {number: row for row, number in enumerate(clusters)}
    linked: list[set[int]] = [set() for _ in clusters]
    for one, other in links.tolist():
        if one in place and other in place and one != other:
            linked[place[one]].add(place[other])
            linked[place[other]].add(place[one])
    return linked


def _turns(sizes: Sequence[int], steps: int, offset: float) -> np.ndarray:
    """Returns the group of each step, (steps,), in proportion to the sizes, rounded by a random offset in 0..1."""
    ends = np.cumsum(sizes) * (steps / sum(sizes))
    ends[-1] = steps
    counts = np.diff(np.floor(ends + offset).astype(int), prepend=0)
    return np.repeat(np.arange(len(sizes)), counts)

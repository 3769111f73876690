"""Mining while Keras trains: negatives are chosen when an epoch begins, and refreshed between its steps."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..descriptors.describer import DescribeFn

if TYPE_CHECKING:
    from .stream import TupleStream

Computed = Callable[[], tuple[np.ndarray, np.ndarray]]
"""Gives the photos' rows (B, M) and descriptors (B, M, D) of the step that has just been trained."""


def mining_callback(
    stream: "TupleStream", describe: DescribeFn, computed: Computed | None = None, start: int = 0
) -> Any:
    """A callback for `fit` that mines at the beginning of every epoch.

    An epoch that was mined by hand, and not trained on yet, is left as it is: a distribution strategy makes `fit` look
    at a step before the first epoch begins. Two figures are added to an epoch's logs: "negative_distance", the mean
    distance from the queries to their negatives, and "mining_share", the part of the epoch's time, with whatever other
    callbacks did in it, that mining took.

    Args:
        stream: whose dataset `fit` goes through.
        describe: from `describer` of the network that is trained.
        computed: descriptors that each step computes anyway, for a stream with `refresh`:
            `ChunkedTupleModel(..., keep_descriptors=True).last_step`.
        start: the first step of the first epoch, as it was given to `dataset`.

    Returns:
        A keras.callbacks.Callback.
    """
    from keras.callbacks import LambdaCallback

    mining = _Mining(stream, describe, computed, start)
    # Without a hook on steps Keras need not wait for each of them.
    return LambdaCallback(
        on_epoch_begin=mining.epoch_begin,
        on_epoch_end=mining.epoch_end,
        on_train_batch_end=mining.step_end if stream.refresh else None,
    )


class _Mining:
    """What the callback does at each of Keras's moments."""

    def __init__(self, stream: "TupleStream", describe: DescribeFn, computed: Computed | None, start: int) -> None:
        self.stream, self.describe, self.computed, self.start = stream, describe, computed, start
        self.began = self.seconds = 0.0

    def epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.began, self.seconds = time.monotonic(), 0.0
        if not (self.stream.fresh and self.stream.epoch == epoch):
            self.seconds += self.stream.mine(self.describe, epoch).seconds

    def step_end(self, step: int, logs: Any = None) -> None:
        started = time.monotonic()
        if self.computed:
            self.stream.update(*self.computed())
        self.stream.on_step(self.describe, self.start + step)
        self.seconds += time.monotonic() - started

    def epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.stream.fresh, self.start = False, 0
        if logs is not None:
            logs["negative_distance"] = float(self.stream.distances.mean())
            logs["mining_share"] = self.seconds / max(time.monotonic() - self.began, 1e-9)

"""Mining during `fit`: negatives are chosen when an epoch begins, and refreshed between its steps."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..descriptors.describer import DescribeFn
from .epoch_draw import EpochDraw

LastStep = Callable[[], tuple[np.ndarray, np.ndarray]]
"""Function that returns the photos' row numbers (B, M) and descriptors (B, M, D) of the last training step."""


def mining_callback(draw: EpochDraw, describe: DescribeFn, last_step: LastStep | None = None, start: int = 0) -> Any:
    """Returns a callback for `fit` that mines at the beginning of every epoch.

    An epoch that was mined but not trained on is not mined again: under a distribution strategy, `fit` takes an element
    of the dataset before the first epoch begins. Two metrics are added to an epoch's logs: "negative_distance", the
    mean distance from the queries to their negatives, and "mining_share", the share of the epoch's time, including
    other callbacks, that mining took.

    Args:
        draw: the draw of the training tuples.
        describe: the function that `describer` returns for the network in training.
        last_step: function that returns the row numbers and descriptors of the last step, used if negatives are
            refreshed: `ChunkedTupleModel(..., keep_descriptors=True).last_step`.
        start: the first step of the first epoch, as passed to `TupleStream.dataset`.

    Returns:
        A keras.callbacks.Callback.
    """
    from keras.callbacks import LambdaCallback

    mining = _Mining(draw, describe, last_step, start)
    # Without a callback after each step, Keras does not wait for the step to finish.
    return LambdaCallback(
        on_epoch_begin=mining.epoch_begin,
        on_epoch_end=mining.epoch_end,
        on_train_batch_end=mining.step_end if draw.options.refresh else None,
    )


class _Mining:
    """The methods of the callback, with the times that they share."""

    def __init__(self, draw: EpochDraw, describe: DescribeFn, last_step: LastStep | None, start: int) -> None:
        self.draw, self.describe, self.last_step, self.start = draw, describe, last_step, start
        self.began = self.seconds = 0.0

    def epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.began, self.seconds = time.monotonic(), 0.0
        if self.draw.epoch != epoch or self.draw.trained:
            self.seconds += self.draw.mine(self.describe, epoch).seconds

    def step_end(self, step: int, logs: Any = None) -> None:
        started = time.monotonic()
        if self.last_step:
            self.draw.update(*self.last_step())
        self.draw.refresh(self.describe, self.start + step)
        self.seconds += time.monotonic() - started

    def epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.draw.trained, self.start = True, 0
        if logs is not None:
            logs["negative_distance"] = float(self.draw.distances.mean())
            logs["mining_share"] = self.seconds / max(time.monotonic() - self.began, 1e-9)

"""A Keras callback that mines hard negatives during `fit`, at the beginning of each epoch and between its steps."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..descriptors.describer import DescribeFn
from .epoch_draw import EpochDraw

LastStep = Callable[[], tuple[np.ndarray, np.ndarray]]
"""A function that returns the row numbers (B, M) and descriptors (B, M, D) of the photos of the last training step."""


def mining_callback(draw: EpochDraw, describe: DescribeFn, last_step: LastStep | None = None, start: int = 0) -> Any:
    """Returns a callback for `fit` that mines hard negatives at the beginning of every epoch.

    If `draw.options.refresh` is above 0, the callback also chooses negatives again between the steps of an epoch. An
    epoch that has been mined but not yet trained on is not mined again. This is the case in a resumed run, and under a
    distribution strategy, where `draw.mine` must be called before `fit`, because `fit` takes an element of the dataset
    before the first epoch begins.

    The callback adds two metrics to the logs of an epoch: "negative_distance", the mean Euclidean distance between the
    descriptors of queries and of their negatives, and "mining_share", the share (0..1) of the epoch's duration that was
    spent mining.

    Args:
        draw: the `EpochDraw` that draws and mines the training tuples.
        describe: function from photos to descriptors, which `describer` makes from the network in training.
        last_step: the method `last_step` of a `ChunkedTupleModel` with `keep_descriptors=True`. If negatives are
            refreshed, its descriptors replace older ones after each step. None keeps the older ones.
        start: number of the step, from 0, with which the first epoch begins; `TupleStream.dataset` must get the same
            number.

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
    """The methods of the callback, which also measure the time spent mining."""

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

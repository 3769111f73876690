"""The choice of the best epoch, and the content of the history of a run."""

import csv

import numpy as np
import pytest

from pipelines.training.callbacks import SCORE, best_epoch, step_progress, write_history
from pipelines.training.checkpoint import Checkpoint
from pipelines.training.samples import HEIGHT, strip


def epochs(**figures):
    count = len(next(iter(figures.values())))
    return [{"epoch": row + 1} | {name: values[row] for name, values in figures.items()} for row in range(count)]


@pytest.mark.parametrize(("history", "best", "expected"), [
    (epochs(val_loss=[0.4, 0.2, 0.3]), "val_loss", 2),
    (epochs(val_loss=[0.2, 0.2, 0.3]), "val_loss", 1),
    (epochs(val_loss=[0.4, 0.2, 0.3]), "last", 3),
    (epochs(**{SCORE + "mAP medium": [0.1, 0.3, 0.2]}), "score", 2),
    (epochs(**{SCORE + "mAP medium": [None, None, 0.2]}), "score", 3),
    (epochs(loss=[0.3, 0.1, 0.2]), "score", 3),
    (epochs(val_loss=[0.1]), "val_loss", 1),
    ([{"epoch": 1, SCORE + "N-S": 3.1}, {"epoch": 2}, {"epoch": 3, SCORE + "N-S": 2.9}, {"epoch": 4}], "score", 1),
    ([{"epoch": 1, "val_loss": None}, {"epoch": 2, "val_loss": 0.5}], "val_loss", 2),
])  # fmt: skip
def test_the_best_epoch(history, best, expected):
    assert best_epoch(history, best) == expected


def test_history_has_a_column_for_every_figure_of_any_epoch(tmp_path):
    history = [{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 0.25, SCORE + "mAP, all": 0.5, "val_loss": None}]
    path = write_history(tmp_path, Checkpoint({}, history))
    rows = list(csv.DictReader(path.open()))
    assert list(rows[0]) == ["epoch", "loss", SCORE + "mAP, all", "val_loss"]
    assert [float(row["loss"]) for row in rows] == [0.1 + 0.2, 0.25]
    assert [row[SCORE + "mAP, all"] for row in rows] == ["", "0.5"]


class Photos:
    def read(self, name):
        from pipelines.photos.reader import PhotoError

        if name == "broken":
            raise PhotoError(name, "broken")
        return np.full((60, 30 * len(name), 3), len(name), np.uint8)


def test_a_strip_has_the_photos_side_by_side_without_those_that_cannot_be_read():
    picture = strip(["a", "bb", "ccc", "broken"], Photos())
    assert picture.shape == (HEIGHT, 2 * 30 * 6, 3)
    np.testing.assert_array_equal(picture[0, [0, 60, 180]], [[1] * 3, [2] * 3, [3] * 3])
    assert strip(["broken"], Photos()).shape == (HEIGHT, 1, 3)


def test_finished_steps_are_noted_for_a_process_that_watches(monkeypatch):
    noted = []
    monkeypatch.setattr("pipelines.training.callbacks.note_progress", lambda *facts: noted.append(facts))
    callback = step_progress(steps=4, epochs=3, start=2)  # resumed within the second epoch
    for epoch, batches in ((1, 2), (2, 4)):
        callback.on_epoch_begin(epoch)
        for batch in range(batches):
            callback.on_train_batch_end(batch)
        callback.on_epoch_end(epoch)
    assert [done for _, done, _, _ in noted] == [7, 8, 9, 10, 11, 12]
    assert noted[-1] == ("training", 12, 12, "steps")

"""Batches through the network: one trace for all sizes, few photos in memory, and the scales."""

import threading
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines.descriptors.describer import BATCH_PIXELS, READ_AHEAD, describe_photos, describer
from pipelines.photos import remote_photos
from pipelines.photos.reader import PhotoError
from pipelines.photos.reading import Reading
from tests.helpers.small import network


@pytest.mark.parametrize("scales", [(1.0,), (1.0, 0.7071, 0.5)])
def test_a_network_is_traced_once_for_every_size_and_batch(scales, monkeypatch):
    functions = []
    real = tf.function

    def function(python=None, **options):
        if python is None:
            return lambda python: function(python, **options)
        made = real(python, **options)
        functions.extend([made] if python.__name__ == "describe" else [])
        return made

    monkeypatch.setattr(tf, "function", function)
    describe = describer(network(), scales)
    for height, width, batch in ((20, 30, 1), (31, 20, 3), (64, 64, 2), (21, 90, 1), (20, 30, 5)):
        assert describe(np.full((batch, height, width, 3), 99, np.uint8)).shape == (batch, 16)
    assert len(functions) == 1
    assert functions[0].experimental_get_tracing_count() == 1


def mean_colour(images):
    return images.reshape(len(images), -1, 3).mean(axis=1).astype("float32") + 1


def test_batches_hold_photos_of_one_shape_and_come_in_order():
    photos = [((8, 8), number) for number in range(5)] + [((8, 9), number) for number in range(5, 7)]

    def read(number):
        return np.full((*photos[number][0], 3), number, np.uint8)

    found = list(describe_photos(mean_colour, photos, read))
    assert [batch.keys for batch in found] == [[0, 1, 2, 3, 4], [5, 6]]
    for batch in found:
        np.testing.assert_array_equal(batch.rows, [[key + 1] * 3 for key in batch.keys])
        assert batch.left_out == {}
        assert batch.seconds >= 0


def test_eight_photos_at_an_address_are_read_at_a_time_on_few_cores(monkeypatch):
    monkeypatch.setattr(remote_photos, "cores", lambda: 2)
    assert Reading(Path("photos"), 8).readers == 2
    readers = Reading(Path("s3://bucket/photos"), 8).readers
    together = threading.Barrier(8, timeout=10)  # broken if fewer read at a time

    def read(_):
        together.wait()
        return np.zeros((8, 8, 3), np.uint8)

    (batch,) = describe_photos(mean_colour, [((8, 8), number) for number in range(8)], read, readers)
    assert batch.keys == list(range(8))


def test_a_batch_holds_no_more_pixels_than_stated_and_at_least_one_photo():
    side = 1024
    most = BATCH_PIXELS // side**2
    photos = [((side, side), number) for number in range(2 * most + 1)] + [((2 * side, 4 * side), -1)]
    sizes = []

    def describe(images):
        sizes.append(images.shape[:3])
        return np.ones((len(images), 1), "float32")

    shapes = {number: shape for shape, number in photos}
    list(describe_photos(describe, photos, lambda number: np.zeros((*shapes[number], 3), np.uint8)))
    assert sizes == [(most, side, side)] * 2 + [(1, side, side), (1, 2 * side, 4 * side)]


def test_reading_ahead_is_bounded():
    """As many photos in memory as three batches hold, however many follow."""
    side = 1024
    per_batch = BATCH_PIXELS // side**2
    lock, read, described, most = threading.Lock(), 0, 0, 0

    def reader(_):
        nonlocal read, most
        with lock:
            read += 1
            most = max(most, read - described)
        return pixels

    def describe(images):
        nonlocal described
        with lock:
            described += len(images)
        return np.ones((len(images), 1), "float32")

    pixels = np.zeros((side, side, 3), np.uint8)
    photos = [((side, side), number) for number in range(60)]
    for batch in describe_photos(describe, photos, reader):
        assert batch.keys
    assert read == described == 60
    assert per_batch < most <= READ_AHEAD * per_batch


def test_photos_that_cannot_be_read_are_passed_over():
    def read(number):
        if number % 2:
            raise PhotoError(str(number), "odd")
        return np.full((4, 4, 3), number, np.uint8)

    (batch,) = describe_photos(mean_colour, [((4, 4), number) for number in range(6)], read)
    assert batch.keys == [0, 2, 4]
    assert batch.left_out == {1: "odd", 3: "odd", 5: "odd"}
    (batch,) = describe_photos(mean_colour, [((4, 4), 1)], read)
    assert (batch.keys, len(batch.rows), batch.left_out) == ([], 0, {1: "odd"})


def test_an_error_that_is_no_photos_fault_ends_the_work():
    def read(number):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(describe_photos(mean_colour, [((4, 4), 0)], read))


@pytest.mark.parametrize("value", [0, np.nan, np.inf])
def test_useless_rows_are_left_out_of_their_batch(value):
    def describe(images):
        rows = np.ones((len(images), 3), "float32")
        rows[1] = value
        return rows

    photos = [((4, 4), name) for name in "abc"]
    (batch,) = describe_photos(describe, photos, lambda _: np.zeros((4, 4, 3), np.uint8))
    assert batch.keys == ["a", "c"]
    assert batch.rows.shape == (2, 3)
    assert set(batch.left_out) == {"b"}
    assert "zero or not finite" in batch.left_out["b"]


def test_another_backend_is_named(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ValueError, match="KERAS_BACKEND is torch"):
        describer(network())

"""The stream of tuples: the pixels that it reads, against plain loops over the same photos."""

import tracemalloc

import numpy as np
import pytest

from pipelines.photos.augmentation import Augmentation
from pipelines.photos.cache import build_cache
from pipelines.photos.reader import read_photo
from pipelines.photos.reading import Reading
from pipelines.training.epoch_draw import EpochDraw
from pipelines.training.mining_options import MiningOptions
from pipelines.training_tuples.data import Tuples, objects
from tests.helpers.small_epochs import (
    SIDE,
    describing,
    make_draw,
    make_tuples,
    steps_of,
    stream_of,
)
from tests.helpers.small_network import draw_photo


def photos_of_padded(inputs):
    flat = inputs["photos"].reshape(-1, SIDE, SIDE, 3)
    for square, (height, width) in zip(flat, inputs["sizes"].reshape(-1, 2), strict=True):
        yield square[:height, :width]
        assert not square[height:].any()
        assert not square[:, width:].any()


def photos_of_exact(inputs):
    runs, start = [], 0
    for count, height, width in inputs["groups"].tolist():
        end = start + count * height * width
        runs += list(inputs["pixels"][start:end].reshape(count, height, width, 3))
        start = end
    assert start == len(inputs["pixels"])
    return [runs[place] for place in inputs["places"]]


def test_padded_and_exact_hold_the_readers_pixels(folder, tmp_path):
    tuples = make_tuples()
    cache = build_cache(tmp_path / "cache", tuples.images, Reading(folder, SIDE))
    draw = make_draw(folder, tuples)
    other_draw = EpochDraw(tuples, cache, draw.options)
    for one in (draw, other_draw):
        one.mine(describing(), 0)
    padded, exact = stream_of(draw), stream_of(other_draw, padded=False)
    steps = list(zip(steps_of(padded), steps_of(exact), strict=True))
    assert len(steps) == draw.steps == 8
    for number, ((one, one_objects), (other, other_objects)) in enumerate(steps):
        rows = draw.tuples[number * 5 : number * 5 + 5]
        np.testing.assert_array_equal(one["rows"], rows)
        np.testing.assert_array_equal(other["rows"], rows)
        assert one["photos"].shape == (5, 5, SIDE, SIDE, 3)
        shapes = other["groups"][:, 1:].tolist()
        assert shapes == sorted(shapes)
        assert len(shapes) == len({tuple(shape) for shape in shapes})
        np.testing.assert_array_equal(one_objects, objects(tuples)[rows])
        np.testing.assert_array_equal(other_objects, one_objects)
        for row, square, pixels in zip(rows.ravel(), photos_of_padded(one), photos_of_exact(other), strict=True):
            expected = read_photo(folder / tuples.images[row], size=SIDE)
            np.testing.assert_array_equal(square, expected)
            np.testing.assert_array_equal(pixels, expected)


def test_a_photo_larger_than_the_square_is_named(folder):
    import tensorflow as tf

    draw = make_draw(folder)
    draw.mine(describing(), 0)
    with pytest.raises(tf.errors.OpError, match="does not fit in 50 x 50: give a larger side"):
        steps_of(stream_of(draw, side=50))


def test_nothing_mined_is_a_clear_error(folder):
    import tensorflow as tf

    with pytest.raises(tf.errors.OpError, match="no negatives are mined yet"):
        steps_of(stream_of(make_draw(folder)))


def test_each_pass_takes_the_epoch_mined_last(folder):
    draw = make_draw(folder)
    stream = stream_of(draw)
    dataset = stream.dataset()
    for epoch in (0, 1):
        draw.mine(describing(), epoch)
        rows = np.concatenate([inputs["rows"].numpy() for inputs, _ in dataset])
        np.testing.assert_array_equal(rows, draw.tuples)
    with_start = np.concatenate([inputs["rows"] for inputs, _ in steps_of(stream, start=6)])
    np.testing.assert_array_equal(with_start, draw.tuples[30:])


def test_it_never_holds_all_photos(tmp_path):
    for number in range(60):
        draw_photo(tmp_path / f"{number}.png", number % 10, number, 200, 210)
    cluster = np.arange(60) % 10
    tuples = Tuples([f"{n}.png" for n in range(60)], cluster, np.arange(50), np.arange(10, 60))
    draw = EpochDraw(tuples, Reading(tmp_path, 210), MiningOptions(negatives=2, queries=50, batch=1))
    draw.mine(describing(), 0)
    tracemalloc.start()
    for _ in stream_of(draw, side=210).dataset():
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * 200 * 210 * 3 / 2


@pytest.mark.parametrize("cached", [False, True])
def test_failing_photos_give_way_and_are_reported(odd, tmp_path_factory, cached):
    tuples, photos = make_tuples(), Reading(odd, SIDE)
    if cached:
        photos = build_cache(tmp_path_factory.mktemp("cache") / "cache", tuples.images, photos)
    draw = EpochDraw(tuples, photos, MiningOptions(negatives=3, queries=60, batch=5))
    stream = stream_of(draw)
    bad = [tuples.images.index("3/0.png"), tuples.images.index("4/1.png")]
    mined = draw.mine(describing(), 0)
    assert mined.left_out.keys() == {"3/0.png", "4/1.png"}
    assert mined.left_out["3/0.png"] == "empty file"
    assert mined.replaced > 0
    assert draw.tuples.shape == (60, 5)
    assert not np.isin(draw.tuples[:, [0, 2, 3, 4]], bad).any()
    assert len({tuple(pair) for pair in draw.tuples[:, :2].tolist()}) == 60
    read = np.concatenate([inputs["rows"] for inputs, _ in steps_of(stream)])
    assert read.shape == (60, 5)
    assert not np.isin(read, bad).any()
    assert {tuple(row) for row in read.tolist()} <= {tuple(row) for row in draw.tuples.tolist()}
    kept = ~np.isin(draw.tuples, bad).any(axis=1)
    np.testing.assert_array_equal(read[kept], draw.tuples[kept])
    assert stream.left_out.keys() == draw.left_out.keys() == {"3/0.png", "4/1.png"}


def test_what_is_read_is_never_changed_afterwards(folder):
    draw = make_draw(folder, refresh=1, queries=80)
    draw.mine(describing(0), 0)
    read, before = [], draw.tuples
    for step, (inputs, _) in enumerate(stream_of(draw).dataset()):
        read.append(inputs["rows"].numpy())
        draw.refresh(describing(step + 1), step)
    np.testing.assert_array_equal(np.concatenate(read), draw.tuples)
    assert (draw.tuples != before).any()


def test_augmentation_is_drawn_from_seed_epoch_and_tuple(folder):
    draws = [make_draw(folder) for _ in range(3)]
    for draw in draws:
        draw.mine(describing(), 4)
    changes = (None, Augmentation(0.3), Augmentation(0.3))
    plain, one, other = (stream_of(draw, augment=change) for draw, change in zip(draws, changes, strict=True))
    for (inputs, _), (ones, _), (others, _) in zip(
        steps_of(plain, start=5), steps_of(one, start=5), steps_of(other)[5:], strict=True
    ):
        np.testing.assert_array_equal(ones["photos"], others["photos"])
        for before, after in zip(photos_of_padded(inputs), photos_of_padded(ones), strict=True):
            assert (before != after).mean() > 0.5
    other.draw.mine(describing(), 4)
    other.draw.epoch = 5
    assert (steps_of(other)[0][0]["photos"] != steps_of(one)[0][0]["photos"]).any()

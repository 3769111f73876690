"""Batches of P classes with K photos each."""

import numpy as np
import pytest

from pipelines.training.class_draw import ClassDraw, ClassOptions, classes_and_photos
from pipelines.training_tuples.data import Tuples, TuplesError


class Photos:
    """A reader of photos, some of which could not be read when its cache was built."""

    def __init__(self, left_out=()):
        self.left_out = dict.fromkeys(left_out, "damaged")


def tuples(sizes, links=(), **details):
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    names = [f"{number}.jpg" for number in range(len(cluster))]
    return Tuples(
        names, cluster, np.array([0]), np.array([1]), np.array(links, np.int64).reshape(-1, 2),
        details={name: np.array(values) for name, values in details.items()},
    )  # fmt: skip


def drawn(draw, epoch=0):
    """(steps, P, K) row numbers of the photos of an epoch."""
    draw.draw(epoch)
    return draw.mined().reshape(draw.steps, draw.batch, draw.width)


def test_each_row_has_different_photos_of_one_class_and_each_step_different_classes():
    made = tuples([5, 7, 4, 9, 6, 5])
    draw = ClassDraw(made, Photos(), ClassOptions(classes=4, each=3))
    rows = drawn(draw)
    assert (draw.classes, draw.dropped, draw.steps, draw.count) == (6, 0, 3, 12)
    classes = made.cluster[rows]
    assert (classes == classes[..., :1]).all()
    assert all(len(set(row)) == 3 for step in rows.tolist() for row in step)
    assert all(len(set(step)) == 4 for step in classes[..., 0].tolist())
    # 12 rows of 6 classes: each twice, since none is drawn again before the others.
    np.testing.assert_array_equal(np.bincount(classes[..., 0].ravel()), 2)


def test_photos_of_a_class_take_turns():
    draw = ClassDraw(tuples([6, 6]), Photos(), ClassOptions(classes=2, each=3, steps=4))
    np.testing.assert_array_equal(np.bincount(drawn(draw).ravel()), 2)


def test_photos_of_small_classes_are_repeated():
    made = tuples([1, 2, 5, 1], copies=[-1, 0, 0, -1, -1, -1, -1, -1, -1])  # the second has two copies of one photo
    options = ClassOptions(classes=4, each=3, repeat=True)
    draw = ClassDraw(made, Photos(), options)
    rows = drawn(draw)
    assert (draw.classes, draw.dropped, draw.steps) == (4, 0, 2)  # 3 + 3 + 5 + 3 photos
    for step in rows.tolist():
        by_class = {made.cluster[row[0]]: row for row in step}
        assert sorted(by_class) == [0, 1, 2, 3]
        assert (by_class[0], by_class[3]) == ([0] * 3, [8] * 3)
        assert set(by_class[1]) <= {1, 2}
        assert len(set(by_class[2])) == 3
    assert "9 photos in 4 classes; the photos of 3 classes with fewer than 3 are repeated" in draw.account
    pairs = ClassDraw(tuples([3, 2]), Photos(), ClassOptions(classes=2, each=4, repeat=True, steps=5))
    for first, second in drawn(pairs).tolist():
        for row in (first, second):
            counts = np.bincount(row)[np.bincount(row) > 0]
            assert sorted(counts.tolist()) in ([1, 1, 2], [2, 2])
    with pytest.raises(TuplesError, match=r"at most 2 can be in one batch \(2 classes have a photo"):
        ClassDraw(tuples([1, 2]), Photos(), ClassOptions(classes=3, each=2, repeat=True))


def test_an_epoch_depends_on_its_number_and_the_seed_only():
    make = lambda seed: ClassDraw(tuples([5] * 8), Photos(), ClassOptions(classes=4, each=3, seed=seed))  # noqa: E731
    draw, other = make(0), make(0)
    first = drawn(draw, 3)
    other.restore(draw.state())
    np.testing.assert_array_equal(other.tuples.reshape(first.shape), first)
    assert other.epoch == 3
    assert (drawn(draw, 4) != first).any()
    assert (drawn(make(1), 3) != first).any()


def test_linked_classes_are_in_no_batch_together_and_named_among_the_labels():
    links = [(0, 1), (1, 2), (4, 5)]
    made = tuples([4] * 8, links)
    draw = ClassDraw(made, Photos(), ClassOptions(classes=4, each=2, steps=50, excluded=True))
    for step in made.cluster[drawn(draw)][..., 0].tolist():
        assert not any({one, other} <= set(step) for one, other in links)
    assert draw.objects.shape == (32, 3)
    np.testing.assert_array_equal(draw.objects[::4], [
        [0, 1, -1], [1, 0, 2], [2, 1, -1], [3, -1, -1], [4, 5, -1], [5, 4, -1], [6, -1, -1], [7, -1, -1],
    ])  # fmt: skip
    assert ClassDraw(made, Photos(), ClassOptions(classes=4, each=2)).objects.shape == (32,)


def test_small_classes_copies_and_photos_that_cannot_be_read_do_not_count():
    # Class 0 has 4 photos of which 3 are copies, class 1 has one that cannot be read, class 3 two photos.
    made = tuples([4, 4, 4, 2, 5, 5], copies=[0, 0, 0, -1] + [-1] * 20)
    draw = ClassDraw(made, Photos(["4.jpg"]), ClassOptions(classes=3, each=3, steps=30))
    assert (draw.classes, draw.dropped) == (4, 2)
    rows = drawn(draw)
    assert set(made.cluster[rows].ravel().tolist()) == {1, 2, 4, 5}
    assert 4 not in rows
    np.testing.assert_array_equal(np.unique(draw.objects), np.arange(-1, 4))
    assert "2 classes with fewer than 3 photos are left out" in draw.account
    both = ClassDraw(made, Photos(), ClassOptions(classes=2, each=2, steps=40))
    of_copies = [row for step in drawn(both).tolist() for row in step if row[0] < 4]
    assert of_copies
    assert all(sum(photo < 3 for photo in row) == 1 for row in of_copies)


def test_validation_photos_are_not_drawn():
    made = tuples([4] * 6)
    made = Tuples(made.images, made.cluster, made.qidxs, made.pidxs, validation=made.cluster >= 4)
    draw = ClassDraw(made, Photos(), ClassOptions(classes=4, each=2, steps=20))
    assert set(made.cluster[drawn(draw)].ravel().tolist()) == {0, 1, 2, 3}


def test_a_batch_is_of_one_group_and_groups_take_turns():
    group = np.repeat([0, 0, 0, 1, 1, 1, 1, 1, 1, 2], 4)
    made = tuples([4] * 10, group=group)
    draw = ClassDraw(made, Photos(), ClassOptions(classes=3, each=2, steps=30))
    found = group[drawn(draw)].reshape(30, -1)
    assert (found == found[:, :1]).all()
    # Group 2 has one class only; the others have 12 and 24 photos.
    np.testing.assert_array_equal(np.bincount(found[:, 0]), [10, 20])
    assert "1 classes are in groups with fewer than 3 classes" in draw.account
    few = ClassDraw(made, Photos(), ClassOptions(classes=3, each=2, steps=1))
    seen = [set(group[drawn(few, epoch)].ravel().tolist()) for epoch in range(20)]
    assert {0} in seen
    assert {1} in seen


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 7, "each": 3}, "needs 7 classes, and at most 6 can be in one batch .6 classes have at least 3 .*: "
                                    "give --batch-classes 6x3"),
        ({"classes": 4, "each": 5}, "at most 0 can be in one batch .0 classes .* 6 have fewer.: give fewer photos"),
    ],
)  # fmt: skip
def test_too_few_classes_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        ClassDraw(tuples([4] * 6), Photos(), ClassOptions(**options))


def test_tuples_that_list_negatives_are_told():
    made = tuples([4] * 6)
    listed = Tuples(made.images, made.cluster, made.qidxs, made.pidxs, negatives=np.full((24, 1), 23))
    with pytest.raises(ValueError, match="these tuples list the negatives of each photo"):
        ClassDraw(listed, Photos(), ClassOptions(classes=2, each=2))


def test_too_few_unlinked_classes_are_told():
    links = [(0, 1), (1, 2), (2, 3), (0, 3), (0, 2), (1, 3)]
    with pytest.raises(ValueError, match=r"at most 3 can be in one batch .*linked classes are never in one batch"):
        ClassDraw(tuples([4] * 6, links), Photos(), ClassOptions(classes=5, each=2))


@pytest.mark.parametrize("text", ["", "4", "4x", "x4", "0x4", "4x0", "4x4x4", "-1x2", "4 x 4", "a"])
def test_other_forms_of_a_batch_are_told(text):
    with pytest.raises(ValueError, match="must be CLASSESxPHOTOS, such as 60x4"):
        classes_and_photos(text)


def test_a_batch_is_read():
    assert classes_and_photos("60x4") == (60, 4)

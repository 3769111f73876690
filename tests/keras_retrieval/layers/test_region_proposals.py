"""Boxes, anchors, suppression and proposals against naive numpy; pooling of boxes against slices and the grid."""

from functools import partial

import keras
import numpy as np
import pytest
from keras import ops

from keras_retrieval import layers
from keras_retrieval.layers import box_cells as box_cells
from keras_retrieval.layers.anchors import box_iou, clip_boxes, decode, encode, make_anchors
from keras_retrieval.layers.box_cells import BoxCells
from keras_retrieval.layers.non_max_suppression import LOWEST, suppress, top_boxes
from tests.helpers.backends import call, gradient, run

pytestmark = pytest.mark.backend
numpy = ops.convert_to_numpy


def random_boxes(rng, count, height=20, width=30):
    """Boxes (count, 4), many of which overlap."""
    start = rng.uniform(0, [width - 2, height - 2], (count, 2))
    return np.concatenate([start, np.minimum(start + rng.uniform(1, 15, (count, 2)), [width, height])], 1).astype("f4")


def naive_iou(a, b):
    shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def naive_suppression(boxes, overlap):
    stay = []
    for place, box in enumerate(boxes):
        if all(naive_iou(boxes[other], box) <= overlap for other in stay):
            stay.append(place)
    return stay


# Boxes


def test_overlap_equals_a_loop():
    rng = np.random.default_rng(0)
    one, other = random_boxes(rng, 30), random_boxes(rng, 20)
    expected = [[naive_iou(a.astype("f8"), b.astype("f8")) for b in other] for a in one]
    np.testing.assert_allclose(numpy(box_iou(one, other)), expected, atol=1e-5)
    assert numpy(box_iou(one[:1] * 0, other)).tolist() == [[0] * 20]


def test_anchors_stand_about_every_cell_in_every_scale_and_ratio():
    found = numpy(make_anchors(3, 4, (2, 8), (0.5, 1, 2))).reshape(3, 4, 2, 3, 4)
    for i in range(3):
        for j in range(4):
            for s, scale in enumerate((2, 8)):
                for r, ratio in enumerate((0.5, 1, 2)):
                    left, top, right, bottom = found[i, j, s, r]
                    np.testing.assert_allclose([(left + right) / 2, (top + bottom) / 2], [j + 0.5, i + 0.5], atol=1e-5)
                    np.testing.assert_allclose((bottom - top) / (right - left), ratio, rtol=1e-5)
                    np.testing.assert_allclose((bottom - top) * (right - left), scale**2, rtol=1e-5)


def test_differences_lead_from_an_anchor_to_its_box_and_back():
    rng = np.random.default_rng(1)
    anchors, boxes = random_boxes(rng, 50), random_boxes(rng, 50)
    deltas = numpy(encode(boxes, anchors))
    side = anchors[:, 2:] - anchors[:, :2]
    shift = (boxes[:, :2] + boxes[:, 2:] - anchors[:, :2] - anchors[:, 2:]) / 2 / side
    growth = np.log((boxes[:, 2:] - boxes[:, :2]) / side)
    np.testing.assert_allclose(deltas, np.concatenate([shift, growth], 1), atol=1e-4)
    np.testing.assert_allclose(numpy(decode(deltas, anchors)), boxes, atol=1e-3)
    assert np.isfinite(numpy(decode(np.full((1, 4), 1e4, "f4"), anchors[:1]))).all()


def test_boxes_are_cut_at_the_borders_and_keep_a_cell():
    boxes = np.array([[-3, -2, 5, 4], [2, 3, 99, 99], [5.2, 5.2, 5.3, 9], [40, 50, 60, 70], [-9, -9, -5, -5]], "f4")
    expected = [[0, 0, 5, 4], [2, 3, 12, 10], [5.2, 5.2, 6.2, 9], [11, 9, 12, 10], [0, 0, 1, 1]]
    np.testing.assert_allclose(numpy(clip_boxes(boxes, 10, 12)), expected, atol=1e-5)
    sizes = np.array([10, 4], "int32"), np.array([12, 6], "int32")
    both = numpy(clip_boxes(np.stack([boxes, boxes]), *sizes))
    np.testing.assert_allclose(both[0], expected, atol=1e-5)
    assert both[1].max(axis=0).tolist() == [5, 3, 6, 4]


# Suppression


@pytest.mark.parametrize("overlap", [0.3, 0.5, 0.7])
def test_suppression_is_the_greedy_one(overlap):
    rng = np.random.default_rng(2)
    boxes = np.stack([random_boxes(rng, 120) for _ in range(3)])
    stay = numpy(run(partial(suppress, overlap=overlap), boxes, np.zeros((3, 120), "f4")))
    for photo in range(3):
        assert np.flatnonzero(stay[photo]).tolist() == naive_suppression(boxes[photo].astype("f8"), overlap)


def test_a_chain_of_boxes_that_suppress_each_other_is_followed_to_its_end():
    left = np.arange(60, dtype="f4")
    boxes = np.stack([left, 0 * left, left + 3, 0 * left + 3], 1)  # each overlaps the next by a half
    stay = numpy(suppress(boxes[None], np.zeros((1, 60), "f4"), 0.4))[0]
    assert np.flatnonzero(stay).tolist() == list(range(0, 60, 2))


def test_what_is_no_candidate_neither_stays_nor_suppresses():
    boxes = np.array([[[0, 0, 4, 4]] * 3], "f4")
    assert numpy(suppress(boxes, np.array([[LOWEST, 1, 0]], "f4"), 0.5)).tolist() == [[False, True, False]]
    assert not numpy(suppress(boxes, np.full((1, 3), LOWEST, "f4"), 0.5)).any()


def test_the_best_boxes_are_filled_up_where_there_are_fewer():
    boxes = np.arange(8, dtype="f4").reshape(1, 2, 4)
    found, scores = (numpy(part) for part in top_boxes(boxes, np.array([[0.5, 2.0]], "f4"), 3))
    assert found.tolist() == [[[4, 5, 6, 7], [0, 1, 2, 3], [0, 0, 0, 0]]]
    assert scores[0, :2].tolist() == [2, 0.5]
    assert scores[0, 2] == np.float32(LOWEST)


# Proposals


def proposals(count=8, seed=0, **options):
    """A layer whose heads have larger weights than the initial ones."""
    keras.utils.set_random_seed(seed)
    layer = layers.RegionProposals(count, scales=(2, 4, 8), filters=5, candidates=60, **options)
    layer.build((None, None, None, 3))
    layer.set_weights([20 * weight for weight in layer.get_weights()])
    return layer


def naive_proposals(layer, x):
    logits, deltas = (numpy(part)[0].astype("f8") for part in run(layer.score, x))
    anchors = numpy(layer.anchors(*x.shape[1:3])).astype("f8")
    boxes = numpy(clip_boxes(decode(deltas.astype("f4"), anchors.astype("f4")), *x.shape[1:3]))
    best = np.argsort(-logits, kind="stable")[: layer.candidates]
    stay = naive_suppression(boxes[best].astype("f8"), layer.overlap)[: layer.count]
    return boxes[best][stay]


@pytest.mark.parametrize("size", [(9, 13), (1, 1), (2, 5), (20, 7)])
def test_proposals_equal_a_loop(size):
    layer = proposals()
    x = np.random.default_rng(3).normal(size=(2, *size, 3)).astype("f4")
    boxes, exist = (numpy(part) for part in call(layer, x))
    assert boxes.shape == (2, 8, 4)
    for photo in range(2):
        expected = naive_proposals(layer, x[photo : photo + 1])
        assert exist[photo].sum() == len(expected) > 0
        np.testing.assert_allclose(boxes[photo, : len(expected)], expected, atol=1e-4)
        assert not boxes[photo, len(expected) :].any()
        assert (boxes[photo, : len(expected), 2:] <= np.array(size[::-1]) + 1e-5).all()


def test_proposals_of_a_padded_map_are_those_of_the_unpadded():
    layer = proposals()
    x = np.random.default_rng(4).normal(size=(1, 6, 7, 3)).astype("f4")
    padded = np.full((2, 9, 13, 3), np.nan, "f4")
    padded[:, :6, :7] = x
    mask = np.zeros((2, 9, 13), bool)
    mask[:, :6, :7] = True
    boxes, exist = call(layer, padded, mask)
    alone, alone_exist = call(layer, x)
    for photo in range(2):
        np.testing.assert_array_equal(numpy(exist)[photo], numpy(alone_exist)[0])
        np.testing.assert_allclose(numpy(boxes)[photo], numpy(alone)[0], atol=1e-4)


def test_proposals_stay_float32_and_frozen_through_a_round_trip():
    layer = proposals(dtype="mixed_bfloat16", overlap=0.6)
    boxes, _ = layer(np.ones((1, 5, 6, 3), "f4"))
    assert keras.backend.standardize_dtype(boxes.dtype) == "float32"
    assert {weight.dtype for weight in layer.weights} == {"float32"}
    assert [weight.path for weight in layer.weights if weight.trainable] == []
    again = layers.RegionProposals.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    again.trainable = True
    again.build((None, None, None, 3))
    assert len(again.trainable_weights) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "1 <= count <= candidates"),
        ({"count": 50, "candidates": 49}, "got count=50, candidates=49,"),
        ({"filters": 0}, "filters >= 1.*filters=0"),
        ({"scales": ()}, r"scales and ratios above 0.*scales=\[\]"),
        ({"ratios": (1, -1)}, "above 0"),
        ({"overlap": 0}, "overlap above 0 and at most 1.*overlap=0"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        layers.RegionProposals(**options)


# Pooling in boxes


def whole_boxes(rng, count, height, width):
    start = rng.integers(0, [width, height], (count, 2))
    return np.concatenate([start, start + rng.integers(1, [width, height] - start + 1)], 1).astype("f4")


@pytest.mark.parametrize("size", [(9, 13), (1, 5), (33, 2), (16, 16)])
def test_boxes_are_pooled_as_slices_are(size):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(2, *size, 3)).astype("f4")
    boxes = np.stack([whole_boxes(rng, 12, *size) for _ in range(2)])

    def pooled(boxes, x):
        cells = BoxCells(boxes, ops.ones((2, 12), "bool"), size)
        return cells.max(x), cells.mean(x)

    highest, mean = map(numpy, run(pooled, ops.convert_to_tensor(boxes), x))
    for photo in range(2):
        for number, (left, top, right, bottom) in enumerate(boxes[photo].astype(int)):
            part = x[photo, top:bottom, left:right]
            np.testing.assert_array_equal(highest[photo, number, 0], part.max(axis=(0, 1)))
            np.testing.assert_allclose(mean[photo, number, 0], part.mean(axis=(0, 1)), atol=1e-5)


def test_a_map_of_unknown_height_is_pooled_as_one_of_known(monkeypatch):
    rng = np.random.default_rng(6)
    x, tensor = rng.normal(size=(1, 9, 4, 2)).astype("f4"), ops.convert_to_tensor(whole_boxes(rng, 20, 9, 4)[None])

    def pooled(height):
        cells = (height, 4)
        return numpy(run(lambda boxes, x: BoxCells(boxes, ops.ones((1, 20), "bool"), cells).max(x), tensor, x))

    expected = pooled(9)
    monkeypatch.setattr(box_cells, "_doublings", lambda height: box_cells._DOUBLINGS)
    np.testing.assert_array_equal(pooled(9), expected)


def test_a_cell_is_in_a_box_if_a_quarter_of_it_is():
    x = np.arange(8, dtype="f4").reshape(1, 1, 8, 1)
    boxes = np.array([[[1.7, 0, 3.3, 1], [1.8, 0, 3.2, 1], [2.6, 0, 2.9, 1], [7.9, 0, 8, 1], [2.5, 0, 4.5, 1]]], "f4")
    cells = BoxCells(ops.convert_to_tensor(boxes), ops.ones((1, 5), "bool"), (1, 8))
    assert numpy(cells.max(x))[0, :, 0, 0].tolist() == [3, 2, 2, 7, 4]
    assert numpy(cells.mean(x))[0, :, 0, 0].tolist() == [2, 2, 2, 7, 3]


class Given(layers.RegionProposals):
    """A stand-in for RegionProposals that proposes given boxes."""

    def __init__(self, boxes, exist):
        super().__init__(boxes.shape[1], candidates=boxes.shape[1])
        self.given = ops.convert_to_tensor(boxes), ops.convert_to_tensor(exist)

    def call(self, x, mask=None):
        return self.given


@pytest.mark.parametrize("pooling", [layers.MAC, layers.SPoC, layers.GeM])
@pytest.mark.parametrize("masked", [False, True])
def test_proposals_that_are_the_grid_give_the_grid(pooling, masked):
    x = np.random.default_rng(7).gamma(0.5, 2.0, (2, 9, 13, 8)).astype("f4")
    mask = np.zeros((2, 9, 13), bool)
    mask[0, :9, :6], mask[1, :5, :13] = True, True
    mask = mask if masked else None
    grid = layers.RegionalPooling(pooling(), whole_map=False)
    grid.build(x.shape)
    vectors, boxes, exist = (numpy(part) for part in run(grid.regions, x, mask))
    sides = np.array([[[6, 9, 6, 9]], [[13, 5, 13, 5]]] if masked else [[[13, 9, 13, 9]]] * 2, "f4")
    proposed = layers.RegionalPooling(pooling(), whole_map=False, proposals=Given(boxes * sides, exist))
    proposed.build(x.shape)
    found = run(proposed.regions, x, mask)
    np.testing.assert_allclose(numpy(found.vectors), vectors, atol=1e-5)
    np.testing.assert_allclose(numpy(found.boxes), boxes, atol=1e-6)
    np.testing.assert_allclose(numpy(call(proposed, x, mask)), numpy(call(grid, x, mask)), rtol=1e-5, atol=1e-5)
    assert boxes.max() <= 1


def test_gradients_flow_to_the_highest_cells_and_the_whitening():
    x = np.random.default_rng(8).gamma(0.5, 2.0, (1, 9, 13, 3)).astype("f4")
    layer = layers.RMAC(whole_map=False, whitening=layers.Whitening(2), proposals=proposals())
    layer.build(x.shape)
    layer.whitening.set_weights([np.random.default_rng(9).normal(size=(3, 2)), np.array([0.1, -0.2])])

    def loss(x):
        return ops.sum(layer(x) * np.array([1.0, 2.0], "f4"))

    found = gradient(loss, x)
    boxes, exist = (numpy(part)[0] for part in call(layer.proposals, x))
    ends = np.concatenate([np.ceil(boxes[exist, :2] - 0.75), np.floor(boxes[exist, 2:] + 0.75)], axis=1).astype(int)
    highest = {
        (*np.argwhere(x[0, :, :, channel] == x[0, top:bottom, left:right, channel].max())[0], channel)
        for left, top, right, bottom in ends
        for channel in range(3)
    }
    assert set(map(tuple, np.argwhere(found[0]))) == highest
    moved = x.copy()
    place = (0, *next(iter(highest)))
    moved[place] += 1e-2
    np.testing.assert_allclose(
        (numpy(run(loss, moved)) - numpy(run(loss, x))) / 1e-2, found[place], rtol=0.05, atol=1e-3
    )
    assert np.abs(gradient(loss, x, layer.whitening.kernel)).max() > 0


def test_proposals_have_their_shapes_before_the_size_of_photos_is_known():
    boxes, exist = proposals()(keras.Input((None, None, 3)))
    assert (boxes.shape, exist.shape) == ((None, 8, 4), (None, 8))
    assert (boxes.dtype, exist.dtype) == ("float32", "bool")

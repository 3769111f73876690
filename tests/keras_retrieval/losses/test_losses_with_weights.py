"""Losses with a memory or class centres, and labels that are padding or excluded, against naive loops in float64."""

import keras
import numpy as np
import pytest

from keras_retrieval import losses
from keras_retrieval.networks.tuple_model import TupleModel
from tests.helpers.backends import gradient, run, slow_on_jax
from tests.helpers.small_network import save_network

pytestmark = pytest.mark.backend


def unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype("float32")


def descriptors(count, dimensions=8, seed=0):
    return unit(np.random.default_rng(seed).normal(size=(count, dimensions)))


def cost(similarities, positive, negative, own=None, epsilon=0.1):
    """The multi-similarity loss of one photo, for masks of its positives and negatives."""
    pulled, pushed = similarities[positive], similarities[negative]
    least, most = pulled.min(initial=np.inf), pushed.max(initial=-np.inf)
    kept = positive & (similarities - epsilon < most)
    kept = kept if own is None else kept & ~own
    pushed = pushed[pushed + epsilon > least]
    return np.log1p(np.exp(-similarities[kept]).sum()) + np.log1p(np.exp(50 * pushed).sum()) / 50


@pytest.mark.parametrize("size", [6, 10, 100])
def test_a_memory_compares_with_the_photos_of_the_last_batches(size):
    loss = losses.CrossBatchMemory(size, 8)
    queue = []
    for step in range(5):
        x, labels = descriptors(6, seed=step), np.random.default_rng(step).integers(0, 4, 6)
        queue = (queue + list(zip(x, labels, strict=True)))[-size:]
        others, known = np.array([row for row, _ in queue], "float64"), np.array([label for _, label in queue])
        expected = []
        for place in range(6):
            own = np.arange(len(queue)) == len(queue) - 6 + place
            same = known == labels[place]
            expected.append(cost(others @ x[place], same, ~same, own))
        assert float(loss(labels, x)) == pytest.approx(np.mean(expected), rel=1e-5)


def test_a_memory_that_holds_one_batch_moves_only_the_photos_of_the_batch():
    x, labels = descriptors(6), np.array([0, 0, 1, 1, 2, 2])
    whole = gradient(lambda x: losses.MultiSimilarityLoss(epsilon=None)(labels, x), x)
    memory = losses.CrossBatchMemory(6, 8, losses.MultiSimilarityLoss(epsilon=None))
    # Every pair is compared twice in a batch, and its gradient reaches both photos; here it reaches the first.
    half = gradient(lambda x: memory(labels, x), x)
    x64, step = x.astype("float64"), 1e-6
    slope = np.zeros_like(x64)
    for place in np.ndindex(x.shape):
        ends = []
        for sign in (1, -1):
            moved = x64.copy()
            moved[place] += sign * step
            rows = moved / np.linalg.norm(moved, axis=1, keepdims=True)
            costs = [
                cost(x64 @ row, (labels == label) & (np.arange(6) != i), labels != label, epsilon=9)
                for i, (row, label) in enumerate(zip(rows, labels, strict=True))
            ]
            ends.append(np.mean(costs))
        slope[place] = (ends[0] - ends[1]) / (2 * step)
    np.testing.assert_allclose(half, slope, atol=1e-5)
    assert np.abs(half - whole).max() > 1e-3


def test_a_batch_larger_than_the_memory_is_told():
    with pytest.raises(ValueError, match="the memory has 3 places, and the batch 4 photos"):
        losses.CrossBatchMemory(3, 8)(np.zeros(4), descriptors(4))


def test_padding_changes_nothing():
    x, labels = descriptors(6), np.array([0, 0, 1, 1, 2, 2])
    padded_x = np.concatenate([x, np.zeros((3, 8), "float32")])
    padded = np.concatenate([labels, [-1, -1, -1]])
    centres = np.random.default_rng(1).normal(size=(3, 1, 8))
    for make in (
        losses.MultiSimilarityLoss,
        lambda: losses.CrossBatchMemory(20, 8),
        lambda: losses.CosFaceLoss(3, 8),
        lambda: losses.ArcFaceLoss(3, 8),
    ):
        loss, other, third = make(), make(), make()
        for one in (loss, other, third):
            if hasattr(one, "layer") and hasattr(one.layer, "centres"):
                one.layer.centres.assign(centres)
        compute = (lambda one, *arrays: one(*arrays)) if isinstance(loss, losses.CrossBatchMemory) else run
        assert float(compute(loss, padded, padded_x)) == pytest.approx(float(compute(other, labels, x)), rel=1e-6)
        slope = gradient(lambda x, loss=third: loss(padded, x), padded_x)
        assert np.isfinite(slope).all()
        assert not slope[6:].any()


def test_photos_of_excluded_labels_are_no_negatives():
    x, labels = descriptors(8), np.array([0, 0, 1, 1, 2, 2, 3, 3])
    links = {0: {1, 3}, 1: {0}, 2: set(), 3: {0}}
    table = np.full((8, 3), -1)
    table[:, 0] = labels
    for row, label in enumerate(labels.tolist()):
        table[row, 1 : 1 + len(links[label])] = sorted(links[label])
    similarities = x.astype("float64") @ x.T.astype("float64")
    expected = [
        cost(
            similarities[i],
            (labels == labels[i]) & (np.arange(8) != i),
            np.array([other != labels[i] and other not in links[labels[i]] for other in labels]),
        )
        for i in range(8)
    ]
    assert float(run(losses.MultiSimilarityLoss(), table, x)) == pytest.approx(np.mean(expected), rel=1e-5)
    of_tuples = run(losses.MultiSimilarityLoss(), table.reshape(4, 2, 3), x.reshape(4, 2, 8))
    assert float(of_tuples) == pytest.approx(np.mean(expected), rel=1e-5)


def naive_on_classes(x, labels, centres, scale, with_margin, excluded=None):
    costs = []
    for place, (row, label) in enumerate(zip(x.astype("float64"), labels, strict=True)):
        cosines = np.array([max(row @ c / np.linalg.norm(c) for c in some) for some in centres])
        logits = cosines.copy()
        logits[label] = with_margin(cosines[label])
        out = [] if excluded is None else [one for one in excluded[place] if one >= 0 and one != label]
        kept = np.delete(scale * logits, out)
        costs.append(np.log(np.exp(kept - kept.max()).sum()) + kept.max() - scale * logits[label])
    return np.mean(costs)


def arc(margin):
    def with_margin(cosine):
        angle = np.arccos(cosine)
        return np.cos(angle + margin) if angle + margin <= np.pi else cosine - margin * np.sin(margin)

    return with_margin


ON_CLASSES = {
    "cosface": (losses.CosFaceLoss, {"margin": 0.4, "scale": 30.0}, lambda cosine: cosine - 0.4),
    "cosface with sub-centres": (
        losses.CosFaceLoss,
        {"margin": 0.2, "scale": 10.0, "sub_centres": 2},
        lambda cosine: cosine - 0.2,
    ),
    "arcface": (losses.ArcFaceLoss, {"margin": 0.5, "scale": 64.0}, arc(0.5)),
    "wide arcface": (losses.ArcFaceLoss, {"margin": 2.0, "scale": 8.0}, arc(2.0)),
    "arcface with sub-centres": (losses.ArcFaceLoss, {"margin": 0.3, "scale": 16.0, "sub_centres": 3}, arc(0.3)),
}


@pytest.mark.parametrize("name", ON_CLASSES)
@pytest.mark.parametrize("photos", [7, pytest.param(1, marks=slow_on_jax)])
@pytest.mark.parametrize("with_excluded", [False, True])
def test_losses_on_classes_equal_a_naive_loop(name, photos, with_excluded):
    make, options, with_margin = ON_CLASSES[name]
    loss = make(5, 8, **options)
    rng = np.random.default_rng(photos)
    centres = rng.normal(size=loss.layer.centres.shape)
    loss.layer.centres.assign(centres)
    x, labels = descriptors(photos), rng.integers(0, 5, photos)
    excluded = rng.integers(-1, 5, (photos, 2)) if with_excluded else None
    expected = naive_on_classes(x, labels, centres, options["scale"], with_margin, excluded)
    given = labels if excluded is None else np.column_stack([labels, excluded])
    assert float(run(loss, given, x)) == pytest.approx(expected, rel=1e-5)


def test_a_photo_on_its_centre_has_a_finite_gradient():
    loss = losses.ArcFaceLoss(2, 3)
    loss.layer.centres.assign(np.eye(3)[:2, None])
    x = np.eye(3, dtype="float32")[:2]
    assert np.isfinite(gradient(lambda x: loss(np.arange(2), x), x)).all()


def test_speed_shortens_the_centres_only():
    centres = losses.CosFaceLoss(50, 64, speed=1000.0).layer.centres
    assert np.linalg.norm(np.asarray(keras.ops.convert_to_numpy(centres)), axis=-1).mean() == pytest.approx(
        1e-3, rel=0.1
    )


@pytest.mark.parametrize(
    "loss",
    [
        losses.CrossBatchMemory(9, 4, losses.MultiSimilarityLoss(beta=40.0)),
        losses.CosFaceLoss(3, 4, margin=0.1, speed=10.0),
        losses.ArcFaceLoss(3, 4, sub_centres=2),
    ],
)
def test_config_round_trip(loss):
    made = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(made) is type(loss)
    assert made.get_config() == loss.get_config()
    assert [tuple(weight.shape) for weight in made.layer.weights] == [
        tuple(weight.shape) for weight in loss.layer.weights
    ]


@pytest.mark.parametrize("kind", ["memory", "classes"])
def test_a_tuple_model_trains_the_weights_of_its_loss(tmp_path, kind):
    network = keras.saving.load_model(save_network(tmp_path / "small.keras"))
    loss = losses.CrossBatchMemory(20, 6) if kind == "memory" else losses.CosFaceLoss(3, 6, speed=10.0)
    model = TupleModel(network, l2=0)
    # Without compilation a step takes JAX a minute.
    model.compile(keras.optimizers.Adam(1e-2), loss, jit_compile=kind == "memory" or keras.backend.backend() == "jax")
    before = [np.array(keras.ops.convert_to_numpy(weight)) for weight in model.extra_weights]
    rng = np.random.default_rng(0)
    photos = np.repeat(rng.integers(0, 256, (3, 1, 24, 24, 3)), 2, axis=1) + rng.integers(-20, 20, (3, 2, 24, 24, 3))
    inputs = {"photos": photos.astype("float32"), "sizes": np.full((3, 2, 2), 24)}
    classes = np.array([[0, 0], [1, 1], [2, 2]])
    history = model.fit(inputs, classes, batch_size=3, epochs=8, verbose=0).history["loss"]
    after = [np.array(keras.ops.convert_to_numpy(weight)) for weight in model.extra_weights]
    assert all(np.abs(one - other).max() > 0 for one, other in zip(before, after, strict=True))
    assert history[-1] < history[0]
    if kind == "memory":
        assert after[2] == 8 * 6 % 20
        assert (after[1] >= 0).all()
    held_out = float(model.evaluate(inputs, classes + 7, batch_size=3, verbose=0))
    rows = np.asarray(keras.ops.convert_to_numpy(run(model, inputs)))
    assert held_out == pytest.approx(float(losses.MultiSimilarityLoss()(classes, rows)), rel=1e-4)
    assert not {weight.path for weight in network.weights} & {weight.path for weight in model.extra_weights}

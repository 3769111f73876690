"""Losses against naive loops in float64, their finite differences, and values of the published code.

A new loss is a row of ROWS: its class, its options, and a naive loop over (tuples, labels, those options).
"""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from keras_retrieval import losses
from tests.helpers.backends import gradient, run, slow_on_jax, value_and_gradient

pytestmark = pytest.mark.backend


def naive_contrastive(tuples, labels, margin):
    total = 0.0
    for q, p, *negatives in tuples:
        total += ((q - p + 1e-6) ** 2).sum() / 2
        for n in negatives:
            total += max(margin - np.sqrt(((q - n + 1e-6) ** 2).sum()), 0) ** 2 / 2
    return total


def naive_triplet(tuples, labels, margin):
    return naive_ranking(tuples, labels, 1, margin)


def naive_ranking(tuples, labels, positives, margin):
    total = 0.0
    for q, *others in tuples:
        squares = [((q - x) ** 2).sum() for x in others]
        for negative in squares[positives:]:
            total += max(min(squares[:positives]) + margin - negative, 0)
    return total


def anchors(tuples, labels, distance_metric):
    """For each photo: distances to the others of its label, by index, and the sorted distances to other labels."""
    x, labels = tuples.reshape(-1, tuples.shape[-1]), labels.ravel()
    for a in range(len(x)):
        distance = ((x - x[a]) ** 2).sum(1)
        distance = np.sqrt(distance) if distance_metric == "L2" else distance
        positives = [distance[i] for i in range(len(x)) if labels[i] == labels[a] and i != a]
        yield positives, sorted(distance[labels != labels[a]])


def naive_batch_hard(tuples, labels, margin, soft, distance_metric):
    costs = []
    for positives, negatives in anchors(tuples, labels, distance_metric):
        gap = max(positives, default=0) - negatives[0]
        costs.append(np.log(1 + np.exp(gap)) if soft else max(gap + margin, 0))
    return np.mean(costs)


def naive_semi_hard(tuples, labels, margin, distance_metric):
    costs = []
    for positives, negatives in anchors(tuples, labels, distance_metric):
        for positive in positives:
            beyond = [n for n in negatives if n > positive]
            costs.append(max(positive - (beyond[0] if beyond else negatives[-1]) + margin, 0))
    return np.mean(costs)


def naive_average_precision(tuples, labels, bins):
    x, labels = tuples.reshape(-1, tuples.shape[-1]), labels.ravel()
    total, width = 0.0, 2 / (bins - 1)
    for q in range(len(x)):
        seen = hits = precision = 0.0
        for m in range(bins):
            share = [max(1 - abs(x[q] @ other - (1 - m * width)) / width, 0) for other in x]
            new = sum(s for s, label in zip(share, labels, strict=True) if label == labels[q])
            seen, hits = seen + sum(share), hits + new
            precision += hits / seen * new if seen else 0
        total += precision / (labels == labels[q]).sum()
    return 1 - total / len(x)


def naive_multi_similarity(tuples, labels, alpha, beta, base, epsilon):
    x, labels = tuples.reshape(-1, tuples.shape[-1]), labels.ravel()
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    costs = []
    for i in range(len(x)):
        positives = [x[i] @ x[j] for j in range(len(x)) if j != i and labels[j] == labels[i]]
        negatives = [x[i] @ x[j] for j in range(len(x)) if labels[j] != labels[i]]
        if epsilon is not None:
            least, most = min(positives, default=np.inf), max(negatives, default=-np.inf)
            positives, negatives = (
                [s for s in positives if s - epsilon < most],
                [s for s in negatives if s + epsilon > least],
            )
        pulls = np.log1p(sum(np.exp(-alpha * (s - base)) for s in positives)) / alpha
        costs.append(pulls + np.log1p(sum(np.exp(beta * (s - base)) for s in negatives)) / beta)
    return np.mean(costs)


def naive_info_nce(tuples, labels, temperature):
    x, labels = tuples.reshape(-1, tuples.shape[-1]), labels.ravel()
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    costs = []
    for i in range(len(x)):
        negatives = sum(np.exp(x[i] @ x[j] / temperature) for j in range(len(x)) if labels[j] != labels[i])
        positives = [np.exp(x[i] @ x[j] / temperature) for j in range(len(x)) if j != i and labels[j] == labels[i]]
        costs.append(np.mean([-np.log(one / (one + negatives)) for one in positives]) if positives else 0.0)
    return np.mean(costs)


ROWS = {
    "contrastive": (losses.ContrastiveLoss, {"margin": 0.75}, naive_contrastive),
    "triplet": (losses.TripletLoss, {"margin": 0.1}, naive_triplet),
    "ranking": (losses.WeaklySupervisedRankingLoss, {"positives": 2, "margin": 0.2}, naive_ranking),
    "batch hard": (
        losses.BatchHardTripletLoss,
        {"margin": 0.3, "soft": False, "distance_metric": "L2"},
        naive_batch_hard,
    ),
    "soft batch hard": (
        losses.BatchHardTripletLoss,
        {"margin": 1.0, "soft": True, "distance_metric": "squared-L2"},
        naive_batch_hard,
    ),
    "semi-hard": (losses.SemiHardTripletLoss, {"margin": 0.2, "distance_metric": "L2"}, naive_semi_hard),
    "squared semi-hard": (
        losses.SemiHardTripletLoss,
        {"margin": 0.1, "distance_metric": "squared-L2"},
        naive_semi_hard,
    ),
    "average precision": (losses.AveragePrecisionLoss, {"bins": 12}, naive_average_precision),
    "multi-similarity": (
        losses.MultiSimilarityLoss,
        {"alpha": 1.0, "beta": 50.0, "base": 0.0, "epsilon": 0.1},
        naive_multi_similarity,
    ),
    "multi-similarity of all pairs": (
        losses.MultiSimilarityLoss,
        {"alpha": 2.0, "beta": 10.0, "base": 0.5, "epsilon": None},
        naive_multi_similarity,
    ),
    "info-nce": (losses.InfoNCELoss, {"temperature": 0.1}, naive_info_nce),
}
ON_LABELS = [
    "batch hard",
    "soft batch hard",
    "semi-hard",
    "squared semi-hard",
    "average precision",
    "multi-similarity",
    "multi-similarity of all pairs",
    "info-nce",
]
MARGINS = (
    losses.ContrastiveLoss,
    losses.TripletLoss,
    losses.WeaklySupervisedRankingLoss,
    losses.BatchHardTripletLoss,
    losses.SemiHardTripletLoss,
)
rows = pytest.mark.parametrize("name", ROWS)
rows_on_labels = pytest.mark.parametrize("name", ON_LABELS)


def loss_of(name):
    make, options, _ = ROWS[name]
    return make(**options)


@functools.cache
def learned(name):
    """The value and gradient of a loss for (tuples, labels), which JAX compiles once for a shape."""
    loss = loss_of(name)
    return value_and_gradient(lambda x, labels: loss(labels, x))


def naive_of(name, tuples, labels):
    _, options, naive = ROWS[name]
    return naive(np.asarray(tuples, "float64"), labels, **options)


def batch(seed=0, shape=(3, 5, 8)):
    """Tuples and labels, some labels with one photo; norms below 1, because the highest bin ends at similarity 1."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    x = x / np.linalg.norm(x, axis=-1, keepdims=True) * 0.6
    labels = rng.permutation(np.arange(shape[0] * shape[1]) * 2 // 5).reshape(shape[:2])
    return x.astype("float32"), labels.astype("int32")


def differences(function, x, step=1e-6):
    """Central differences of a function of one array, in float64."""
    x = x.astype("float64")
    slopes = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[place] += sign * step
            ends.append(function(moved))
        slopes[place] = (ends[0] - ends[1]) / (2 * step)
    return slopes


@rows
@pytest.mark.parametrize(("seed", "shape"), [(0, (3, 5, 8)), (1, (3, 5, 8)), (2, (1, 7, 16))])
def test_equals_a_naive_loop(name, seed, shape):
    x, labels = batch(seed, shape)
    value, _ = learned(name)(x, labels)
    np.testing.assert_allclose(value, naive_of(name, x, labels), rtol=1e-5, atol=1e-6)


@rows
def test_gradient_is_the_slope_of_the_naive_loop(name):
    x, labels = batch()
    slopes = differences(lambda x: naive_of(name, x, labels), x)
    assert np.abs(slopes).max() > 1e-3
    _, dx = learned(name)(x, labels)
    np.testing.assert_allclose(dx, slopes, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["contrastive", "triplet"])
@pytest.mark.parametrize("k", range(3))
def test_values_and_gradients_equal_the_published_code(shared, name, k):
    golden = np.load(shared / "goldens" / "reference_layers.npz")
    x = golden[f"loss{k}_vectors"]
    contrastive = name == "contrastive"
    loss = losses.ContrastiveLoss(float(golden[f"loss{k}_margin"])) if contrastive else losses.TripletLoss(0.1)
    value = golden[f"loss{k}_contrastive_sum" if contrastive else f"loss{k}_triplet_m0.1_sum"]
    np.testing.assert_allclose(float(run(loss, np.zeros(len(x)), x)), value, rtol=1e-5, atol=1e-5)
    dx = gradient(lambda x: loss(np.zeros(len(x)), x), x)
    np.testing.assert_allclose(dx, golden[f"loss{k}_{name}_grad"], rtol=0, atol=1e-5)


def coinciding():
    x, labels = batch()
    return np.broadcast_to(x[:1, :1], x.shape).copy(), labels


def nearly_coinciding():
    x, labels = coinciding()
    return (x + np.random.default_rng(1).normal(size=x.shape) * 1e-7).astype("float32"), labels


def of_one_label():
    x, labels = batch()
    return x, np.zeros_like(labels)


def of_labels_of_their_own():
    x, labels = batch()
    return x, np.arange(labels.size).reshape(labels.shape)


def far_apart():
    x, labels = batch()
    return x * 1e3, labels


@rows
@pytest.mark.parametrize("case", [coinciding, nearly_coinciding, of_one_label, of_labels_of_their_own, far_apart])
def test_values_and_gradients_are_finite(name, case):
    x, labels = case()
    value, dx = learned(name)(x, labels)
    assert np.isfinite(value)
    assert np.isfinite(dx).all()


@pytest.mark.parametrize("loss", [losses.BatchHardTripletLoss(), losses.SemiHardTripletLoss()])
def test_distances_of_near_descriptors_have_all_their_digits(loss):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=64) + 0.02 * rng.normal(size=(12, 64))  # as of a network before training
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("float32")
    labels = np.repeat(np.arange(3), 4)
    turned = rows @ np.linalg.qr(rng.normal(size=(64, 64)))[0]
    exact = np.linalg.norm(rows.astype("float64")[:, None] - rows.astype("float64")[None], axis=-1)
    same = labels[:, None] == labels
    if isinstance(loss, losses.BatchHardTripletLoss):
        farthest = np.where(same, exact, 0).max(axis=1)
        expected = np.mean(farthest - np.where(same, np.inf, exact).min(axis=1) + 1)
        assert abs(float(run(loss, labels, rows)) - expected) < 2e-7
    assert abs(float(run(loss, labels, rows)) - float(run(loss, labels, turned.astype("float32")))) < 5e-7


def test_without_a_pair_semi_hard_costs_nothing():
    x, labels = of_labels_of_their_own()
    assert float(run(losses.SemiHardTripletLoss(), labels, x)) == 0


def test_without_another_label_the_farthest_photo_stands_for_the_negative():
    x, labels = of_one_label()
    assert float(run(losses.BatchHardTripletLoss(margin=0.3), labels, x)) == pytest.approx(0.3)


@rows_on_labels
def test_tuples_are_compared_as_the_photos_that_they_hold(name):
    x, labels = batch()
    flat = float(run(loss_of(name), labels.ravel(), x.reshape(-1, x.shape[-1])))
    assert float(run(loss_of(name), labels, x)) == flat


@rows_on_labels
def test_labels_that_are_too_few_are_told(name):
    x, labels = batch()
    with pytest.raises(ValueError, match="one label per photo of y_pred"):
        loss_of(name)(labels[:, 0], x)


def test_the_ranking_takes_the_nearest_of_its_positives():
    x, labels = batch()
    repeated = np.concatenate([x[:, :2], x[:, 1:2], x[:, 2:]], axis=1)
    one = float(run(losses.TripletLoss(0.1), labels, x))
    assert float(run(losses.WeaklySupervisedRankingLoss(2), labels, repeated)) == pytest.approx(one)
    repeated[:, 2] = repeated[:, 0]
    assert float(run(losses.WeaklySupervisedRankingLoss(2), labels, repeated)) < one


def test_average_precision_of_similarities_amid_their_bins_is_exact():
    rng = np.random.default_rng(0)
    photos, labels = rng.choice([-1.0, 1.0], (30, 20)) / np.sqrt(20), rng.integers(0, 5, 30)
    similarity, scores = np.round(photos @ photos.T, 1), []
    for q in range(30):
        matches, score = labels == labels[q], 0.0
        for level in np.unique(similarity[q]):
            seen = similarity[q] >= level
            score += matches[seen].mean() * matches[similarity[q] == level].sum()
        scores.append(score / matches.sum())
    assert float(run(losses.AveragePrecisionLoss(bins=21), labels, photos)) == pytest.approx(
        1 - np.mean(scores), abs=1e-5
    )


def test_average_precision_of_objects_apart_is_perfect():
    labels = np.repeat(np.arange(4), 3)
    assert float(run(losses.AveragePrecisionLoss(), labels, np.eye(4, dtype="float32")[labels])) == pytest.approx(
        0, abs=1e-6
    )


@rows
def test_config_round_trip(name):
    make, options, _ = ROWS[name]
    loss = keras.losses.deserialize(keras.losses.serialize(loss_of(name)))
    assert type(loss) is make
    assert {**loss.get_config(), **options} == loss.get_config()


@rows
def test_bfloat16_descriptors_are_compared_in_float32(name):
    x, labels = batch()
    x = ops.cast(x, "bfloat16")
    exact = naive_of(name, ops.convert_to_numpy(ops.cast(x, "float32")), labels)
    assert float(run(loss_of(name), labels, x)) == pytest.approx(exact, rel=1e-5)


@rows_on_labels
def test_large_labels_do_not_merge_in_half_precision(name):
    x, labels = batch()
    keras.config.set_floatx("bfloat16")
    try:
        value = float(run(loss_of(name), labels + 1_000_000, x))
    finally:
        keras.config.set_floatx("float32")
    assert value == pytest.approx(naive_of(name, x, labels), rel=1e-5)


LEARNED_ON_JAX = ("contrastive", "multi-similarity")
OF_A_CLASS_BEFORE = ("soft batch hard", "squared semi-hard", "multi-similarity of all pairs")


def marks(name):
    return [pytest.mark.long] * (name in OF_A_CLASS_BEFORE) + [slow_on_jax] * (name not in LEARNED_ON_JAX)


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in ROWS])
def test_a_model_learns_by_it(name):
    keras.utils.set_random_seed(0)
    x, labels = batch()
    # Each object has a pattern that is added to the noise, so that the model can learn it.
    x = np.concatenate([x, np.eye(labels.max() + 1, dtype="float32")[labels]], axis=-1)
    photos = keras.Input(x.shape[1:])
    model = keras.Model(photos, keras.layers.UnitNormalization(axis=-1)(keras.layers.Dense(8)(photos)))
    model.compile(keras.optimizers.Adam(0.01), loss=loss_of(name), jit_compile=True)
    history = model.fit(x, labels, batch_size=3, epochs=12, shuffle=False, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    assert history[-1] < history[0]


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        *((make, {"margin": 0}, "^margin must be above 0, got 0") for make in MARGINS),
        (losses.WeaklySupervisedRankingLoss, {"positives": 0}, "^positives must be at least 1, got 0"),
        (
            losses.BatchHardTripletLoss,
            {"distance_metric": "angular"},
            "^distance_metric must be one of L2, squared-L2, got 'angular'",
        ),
        (losses.AveragePrecisionLoss, {"bins": 1}, "^bins must be at least 2, got 1"),
        (losses.MultiSimilarityLoss, {"alpha": 0}, "^alpha must be above 0, got 0"),
        (losses.MultiSimilarityLoss, {"beta": -1}, "^beta must be above 0, got -1"),
        (losses.MultiSimilarityLoss, {"epsilon": -0.1}, "^epsilon must be at least 0, or None, got -0.1"),
        (losses.CrossBatchMemory, {"size": 0, "dimensions": 8}, "^size must be at least 1, got 0"),
        (losses.CosFaceLoss, {"classes": 0, "dimensions": 8}, "^classes must be at least 1, got 0"),
        (losses.CosFaceLoss, {"classes": 2, "dimensions": 8, "margin": -1}, "^margin must be at least 0, got -1"),
        (losses.ArcFaceLoss, {"classes": 2, "dimensions": 8, "scale": 0}, "^scale must be above 0, got 0"),
        (losses.ArcFaceLoss, {"classes": 2, "dimensions": 8, "speed": 0}, "^speed must be above 0, got 0"),
    ],
)
def test_options_without_sense_are_told(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_a_ranking_without_negatives_is_told():
    x, labels = batch()
    with pytest.raises(ValueError, match="4 positives and at least 1 negative"):
        losses.WeaklySupervisedRankingLoss(positives=4)(labels, x)

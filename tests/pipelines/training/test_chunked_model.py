"""ChunkedTupleModel: the same descriptors and gradients as photo by photo, whatever the sizes and the chunks."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_retrieval.losses import ContrastiveLoss
from keras_retrieval.networks.padded import PaddedNetwork
from pipelines.training.chunked_model import ChunkedTupleModel
from tests.helpers.small_tuples import SIDE, batch, network_with_proposals, network_with_statistics, photos


def marked_long(*values):
    """What takes long, beside others that run the same code."""
    return pytest.param(*values, marks=pytest.mark.long)


ways = pytest.mark.parametrize(("form", "chunk"), [("exact", 4), ("padded", 4), marked_long("exact", None)])
two_ways = pytest.mark.parametrize(("form", "chunk"), [("exact", 4), marked_long("padded", None)])


def compiled(model, learning_rate=1.0):
    model.compile(keras.optimizers.SGD(learning_rate), loss=ContrastiveLoss(1.5), jit_compile=False)
    return model


def dynamic(batches):
    """Batches as a dataset that says no more of their shapes than the stream can."""
    inputs, objects = batches[0]
    unknown = {"photos": 2, "sizes": 2, "rows": 2}  # axes that change from step to step
    spec = {
        key: tf.TensorSpec([None] * unknown.get(key, 1) + [*value.shape[unknown.get(key, 1) :]], value.dtype)
        for key, value in inputs.items()
    }
    return tf.data.Dataset.from_generator(
        lambda: batches, output_signature=(spec, tf.TensorSpec((None, None), objects.dtype))
    )


def photo_by_photo(net, pixels, objects, l2):
    """Loss and gradients as the published code takes them."""
    with tf.GradientTape() as tape:
        rows = [net(photo[None].astype("float32"), training=False) for photo in pixels]
        loss = ContrastiveLoss(1.5)(objects, tf.reshape(tf.concat(rows, 0), (*objects.shape, -1)))
        weights = [weight for weight in net.trainable_weights if not weight.path.endswith("/p")]
        total = loss + l2 / 2 * sum(tf.reduce_sum(tf.square(weight.value)) for weight in weights)
    return float(loss), tape.gradient(total, [weight.value for weight in net.trainable_weights])


def moved(net, fit):
    """How far `fit` moves each trainable weight."""
    before = [weight.numpy() for weight in net.trainable_weights]
    fit()
    return [old - weight.numpy() for old, weight in zip(before, net.trainable_weights, strict=True)]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert np.linalg.norm(one - other) <= 1e-5 * np.linalg.norm(other) + 1e-6


@ways
def test_descriptors_are_those_of_single_photos_in_the_order_of_the_tuples(form, chunk):
    net, pixels = network_with_statistics(), photos()
    inputs, _ = batch(form, pixels)
    expected = np.concatenate([net(photo[None]).numpy() for photo in pixels]).reshape(3, 5, -1)
    np.testing.assert_allclose(ChunkedTupleModel(net, chunk=chunk)(inputs).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("form", "chunk", "known"),
    [
        *(("exact", None, True), ("exact", 4, False), ("padded", 4, False)),
        *(marked_long("padded", 1, True), marked_long("padded", 15, False)),
    ],
)
def test_gradients_are_those_of_photo_by_photo(form, chunk, known):
    net, pixels = network_with_statistics(whitening=True), photos()
    inputs, objects = batch(form, pixels)
    _, expected = photo_by_photo(net, pixels, objects, 0.01)
    model = compiled(ChunkedTupleModel(net, 0.01, chunk))
    data = tf.data.Dataset.from_tensors((inputs, objects)) if known else dynamic([(inputs, objects)])
    assert_same(moved(net, lambda: model.fit(data, verbose=0)), [gradient.numpy() for gradient in expected])


@pytest.mark.parametrize(("form", "chunk"), [("padded", None), marked_long("exact", 4)])
def test_whitened_proposals_learn_end_to_end(form, chunk):
    net, pixels = network_with_proposals(), photos()
    inputs, objects = batch(form, pixels)
    _, expected = photo_by_photo(net, pixels, objects, 0.01)
    proposals = net.get_layer("pooling").proposals.get_weights()
    model = compiled(ChunkedTupleModel(net, 0.01, chunk))
    assert_same(moved(net, lambda: model.train_on_batch(inputs, objects)), [gradient.numpy() for gradient in expected])
    assert len(expected) == 8  # two convolutions, BatchNormalization, the whitening
    for old, new in zip(proposals, net.get_layer("pooling").proposals.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("frozen", ["first", "second"])
def test_chunks_leave_frozen_layers_and_statistics(frozen):
    net = network_with_statistics()
    net.get_layer("trunk").get_layer(frozen).trainable = False
    before = {weight.path: weight.numpy() for weight in net.weights}
    compiled(ChunkedTupleModel(net, chunk=4), 1e-2).train_on_batch(*batch("exact", photos()))
    for weight in net.weights:
        still = any(word in weight.path for word in ("moving", "seed", frozen))
        assert np.array_equal(weight.numpy(), before[weight.path]) == still, weight.path


def test_a_step_that_fits_in_a_chunk_is_spared_the_second_pass(monkeypatch):
    class BegunError(Exception):
        """Ends a step where its pass begins."""

    def begins(name):
        def one(*arguments):
            raise BegunError(name)

        return one

    monkeypatch.setattr(ChunkedTupleModel, "_at_once", begins("once"))
    monkeypatch.setattr(ChunkedTupleModel, "_in_chunks", begins("chunks"))
    for chunk, name in ((15, "once"), (14, "chunks")):
        model = compiled(ChunkedTupleModel(network_with_statistics(), chunk=chunk))
        with pytest.raises(BegunError, match=name):
            model.train_on_batch(*batch("exact", photos()))


@ways
def test_one_graph_serves_every_mix_of_sizes(form, chunk, monkeypatch):
    traces = []
    step = ChunkedTupleModel._step
    monkeypatch.setattr(ChunkedTupleModel, "_step", lambda *a: traces.append(a) or step(*a))
    rng = np.random.default_rng(3)
    batches = []
    for seed in range(8):
        tuples = int(rng.integers(1, 4))
        sizes = [(int(h), int(w)) for h, w in rng.integers(16, SIDE + 1, (rng.integers(1, 5), 2))]
        batches.append(batch(form, photos(tuples, sizes=sizes, seed=seed), tuples))
    compiled(ChunkedTupleModel(network_with_statistics(), chunk=chunk), 1e-4).fit(dynamic(batches), verbose=0)
    assert len(traces) == 1


@two_ways
def test_losses_of_training_and_validation_are_means_over_tuples(form, chunk):
    net, pixels = network_with_statistics(), photos(3)
    two, one = batch(form, pixels[:10], 2), batch(form, pixels[10:], 1)
    values = [photo_by_photo(net, part, data[1], 0)[0] for part, data in ((pixels[:10], two), (pixels[10:], one))]
    model = compiled(ChunkedTupleModel(net, 0.0, chunk), 0.0)
    history = model.fit(dynamic([two, one]), validation_data=dynamic([one]), verbose=0).history
    np.testing.assert_allclose(history["loss"], [(2 * values[0] + values[1]) / 3], rtol=1e-5)
    np.testing.assert_allclose(history["val_loss"], [values[1]], rtol=1e-5)


@two_ways
def test_descriptors_of_the_last_step_are_kept(form, chunk):
    net = network_with_statistics()
    model = compiled(ChunkedTupleModel(net, chunk=chunk, keep_descriptors=True))
    first, last = batch(form, photos(3, seed=1)), batch(form, photos(2, seed=2), 2)
    last[0]["rows"] += 100
    model.fit(dynamic([first]), verbose=0)
    before = model(last[0]).numpy()
    model.fit(dynamic([last]), verbose=0)
    rows, descriptors = model.last_step()
    np.testing.assert_array_equal(rows, last[0]["rows"])
    np.testing.assert_allclose(descriptors, before, atol=1e-6)
    assert np.abs(model(last[0]).numpy() - before).max() > 1e-3
    with pytest.raises(ValueError, match="keep_descriptors=True"):
        ChunkedTupleModel(net).last_step()


@pytest.mark.kernels
def test_bfloat16_in_chunks_stays_near():
    from keras_retrieval.networks.precision import set_trunk_precision

    found = []
    for policy in ("float32", "mixed_bfloat16"):
        net = network_with_statistics()
        set_trunk_precision(net, policy)
        model = compiled(ChunkedTupleModel(net, chunk=4))
        steps = moved(net, lambda model=model: model.train_on_batch(*batch("exact", photos())))
        found.append(np.concatenate([step.ravel() for step in steps]))
    assert 0 < np.linalg.norm(found[1] - found[0]) < 0.05 * np.linalg.norm(found[0])


UNKNOWN = {"photos": tf.TensorSpec((None, None, None, 3), tf.uint8), "sizes": tf.TensorSpec((None, 2), tf.int32)}


def without_rows(inputs):
    return {key: value for key, value in inputs.items() if key != "rows"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda net, inputs: ChunkedTupleModel(net, chunk=0), "chunk must be at least 1, got 0"),
        (
            lambda net, inputs: tf.function(PaddedNetwork(net), autograph=False).get_concrete_function(UNKNOWN),
            "known when the graph is made",
        ),
        (
            lambda net, inputs: ChunkedTupleModel(net)(without_rows(inputs)),
            r"need 'places' \(B, M\), and can also use 'rows'",
        ),
    ],
)
def test_wrong_arguments_are_named(wrong, message):
    inputs, _ = batch("exact", photos())
    with pytest.raises(ValueError, match=message):
        wrong(network_with_statistics(), inputs)


REPLICAS = """
import numpy as np, tensorflow as tf
import keras
from keras_retrieval.losses import BatchHardTripletLoss, ContrastiveLoss, CosFaceLoss
from keras_retrieval.networks.tuple_model import TupleModel
from pipelines.training.chunked_model import ChunkedTupleModel
from pipelines.training.devices import ONE_DEVICE, open_devices
from pipelines.training.replicas import ReplicatedModel
from tests.helpers.small_tuples import batch, network_with_statistics, photos

devices = open_devices(2, False)
assert devices.strategy.num_replicas_in_sync == 2 == open_devices(2, False).count
pixels = photos(4)


def tensors(form, part):
    inputs, objects = batch(form, pixels[5 * part.start : 5 * part.stop], part.stop - part.start)
    inputs["rows"] += 5 * part.start
    objects = objects + 5 * part.start
    objects = objects % 3 if loss is CosFaceLoss else objects
    return {name: tf.constant(array) for name, array in inputs.items()}, tf.constant(objects)


def train(devices, make, form, parts):
    with devices.scope():
        net = network_with_statistics()
        model = make(net, 0.01)
        model.compile(keras.optimizers.SGD(0.1), loss=loss(3, 8, speed=1.0) if loss is CosFaceLoss else loss(1.5))
    found = ReplicatedModel(model, devices) if devices.count > 1 and form != "fit" else model
    elements = [tensors("padded" if form == "fit" else form, part) for part in parts]
    data = tf.data.Dataset.from_generator(
        lambda: iter(elements), output_signature=tf.nest.map_structure(
            lambda one: tf.TensorSpec((None, *one.shape[1:]) if form == "exact" else one.shape, one.dtype), elements[0])
    ).apply(tf.data.experimental.assert_cardinality(len(elements)))
    means = []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: means.append(logs["loss"]))
    found.fit(data, epochs=2, verbose=0, callbacks=[note])
    if devices.count > 1 and form != "fit":
        rows, descriptors = found.last_step()
        assert rows.tolist() == np.arange(20).reshape(4, 5).tolist() and descriptors.shape == (4, 5, 8)
    return [np.array(weight) for weight in model.trainable_weights] + [np.array(means)]


whole, halves = [slice(0, 4)], [slice(0, 2), slice(2, 4)]
for loss, make, form in (
    (ContrastiveLoss, TupleModel, "fit"),
    (BatchHardTripletLoss, ChunkedTupleModel, "padded"),
    (CosFaceLoss, lambda net, l2: ChunkedTupleModel(net, l2, chunk=4), "exact"),
):
    one = train(ONE_DEVICE, make, form, whole)
    two = train(devices, make, form, whole if form == "fit" else halves)
    first = network_with_statistics().trainable_weights
    assert max(np.abs(np.array(old) - new).max() for old, new in zip(first, one)) > 1e-3
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5, err_msg=f"{loss.__name__} {form}")
with devices.scope():
    for wrong in (
        lambda: ChunkedTupleModel(net, keep_descriptors=True),
        lambda: devices.strategy.run(model.train_step, args=(tensors("exact", slice(0, 2)),)),
    ):
        net = network_with_statistics()
        model = ChunkedTupleModel(net)
        model.compile("sgd", loss=ContrastiveLoss(1.5))
        try:
            wrong()
        except ValueError as error:
            assert "one device" in str(error), error
        else:
            raise AssertionError("not refused")
for wrong, text in (
    (lambda: devices.part(5), "5 tuples"), (lambda: open_devices(3, False), "--devices 3 must be the first")
):
    try:
        wrong()
    except ValueError as error:
        assert text in str(error), error
    else:
        raise AssertionError(text)
print("equal")
"""


def test_two_replicas_train_as_one_device():
    root = Path(__file__).resolve().parents[3]
    run = subprocess.run([sys.executable, "-c", REPLICAS], cwd=root, capture_output=True, text=True, timeout=300)
    assert run.stdout.endswith("equal\n"), run.stderr[-2000:]

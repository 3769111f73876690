"""Compares the files that cases.py wrote with tensorflow-addons, in an environment of its own.

The variable ADDONS_CASES names the folder. A SavedModel under saved_model/ in it, with photos (B, H, W, 3) uint8 and
descriptors (B, D) in saved_model.npz, is loaded and compared too.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.oracle import compare
from tests.helpers.oracle import largest as largest

tfa = pytest.importorskip("tensorflow_addons", reason="runs in an environment of its own: make test-addons")
import tensorflow as tf  # noqa: E402

CASES = Path(os.environ.get("ADDONS_CASES", "no cases"))
LOSSES = {"BatchHardTripletLoss": tfa.losses.TripletHardLoss, "SemiHardTripletLoss": tfa.losses.TripletSemiHardLoss}
ON_LABELS = sorted(path.name for name in LOSSES for path in CASES.glob(f"{name}-*.npz"))
CONTRASTIVE = sorted(path.name for path in CASES.glob("ContrastiveLoss-*.npz"))
TOLERANCE = 1e-6


def value_and_gradient(loss, x):
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = loss(x)
    return value.numpy(), tape.gradient(value, x).numpy()


def test_there_are_cases():
    assert ON_LABELS
    assert CONTRASTIVE


@pytest.mark.parametrize("name", ON_LABELS)
def test_losses_on_labels(name, largest):
    case = np.load(CASES / name)
    loss = LOSSES[str(case["loss"])](**json.loads(str(case["options"])))
    value, gradient = value_and_gradient(lambda x: loss(case["labels"], x), case["descriptors"])
    if name.startswith("SemiHard") and "no-pair" in name:
        # The mean over no pairs: theirs divides by zero, ours must cost nothing and move nothing.
        assert np.isnan(value)
        value, gradient = 0.0, np.zeros_like(gradient)
    compare(largest, f"{case['loss']} value", case["value"], value, TOLERANCE)
    compare(largest, f"{case['loss']} gradient", case["gradient"], gradient, TOLERANCE)


@pytest.mark.parametrize("name", CONTRASTIVE)
def test_contrastive_is_half_the_sum_over_the_pairs_of_the_query(name, largest):
    """Theirs takes distances of pairs and which of them match, and does not halve the squares as ours does."""
    case = np.load(CASES / name)
    theirs = tfa.losses.ContrastiveLoss(**json.loads(str(case["options"])), reduction=tf.keras.losses.Reduction.SUM)
    matches = np.broadcast_to(case["labels"][1:], (len(case["descriptors"]), len(case["labels"]) - 1))

    def half_the_sum(x):
        distances = tf.norm(x[:, :1] - x[:, 1:] + 1e-6, axis=-1)
        return 0.5 * theirs(matches.ravel(), tf.reshape(distances, [-1]))

    value, gradient = value_and_gradient(half_the_sum, case["descriptors"])
    compare(largest, "ContrastiveLoss value", case["value"], value, TOLERANCE)
    compare(largest, "ContrastiveLoss gradient", case["gradient"], gradient, TOLERANCE)


@pytest.mark.skipif(not (CASES / "saved_model.npz").is_file(), reason="no exported network among the cases")
def test_an_exported_network_describes_photos_as_it_did(largest):
    case = np.load(CASES / "saved_model.npz")
    (graph,) = (CASES / "saved_model").rglob("saved_model.pb")
    signatures = tf.saved_model.load(str(graph.parent)).signatures
    asked = [name for name in ("images", "images_uint8") if name in signatures]
    assert asked
    for name in asked:
        ((argument, spec),) = signatures[name].structured_input_signature[1].items()
        photos = tf.cast(case["photos"], spec.dtype)
        descriptors = signatures[name](**{argument: photos})["descriptors"].numpy()
        largest[f"SavedModel, {name}"] = float(np.abs(descriptors - case["descriptors"]).max())
        np.testing.assert_allclose(descriptors, case["descriptors"], rtol=0, atol=1e-5)

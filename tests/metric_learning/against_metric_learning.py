"""Compares the files that cases.py wrote with pytorch-metric-learning, in an environment of its own.

The variable METRIC_LEARNING_CASES names the folder.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.oracle import compare
from tests.helpers.oracle import largest as largest

torch = pytest.importorskip("torch", reason="runs in an environment of its own: make test-metric-learning")
theirs = pytest.importorskip("pytorch_metric_learning.losses", reason="make test-metric-learning")
reducers = pytest.importorskip("pytorch_metric_learning.reducers", reason="make test-metric-learning")
miners = pytest.importorskip("pytorch_metric_learning.miners", reason="make test-metric-learning")

CASES = Path(os.environ.get("METRIC_LEARNING_CASES", "no cases"))
VALUE, GRADIENT = 1e-6, 1e-5


def named(kind):
    return sorted(path.name for path in CASES.glob(f"{kind}-*.npz"))


def tensors(case, step=""):
    x = torch.tensor(case[f"descriptors{step}"], requires_grad=True)
    return x, torch.tensor(case[f"labels{step}"].astype("int64"))


def multi_similarity(options):
    """Their loss, and their miner or None."""
    options = {"alpha": 1.0, "beta": 50.0, "base": 0.0, "epsilon": 0.1} | options
    epsilon = options.pop("epsilon")
    return theirs.MultiSimilarityLoss(**options), None if epsilon is None else miners.MultiSimilarityMiner(epsilon)


def test_there_are_cases():
    assert named("pairs")
    assert named("softmax")
    assert named("classes")
    assert named("memory")


@pytest.mark.parametrize("name", named("pairs"))
def test_multi_similarity(name, largest):
    case = np.load(CASES / name)
    x, labels = tensors(case)
    loss, miner = multi_similarity(json.loads(str(case["options"])))
    value = loss(x, labels, miner(x, labels) if miner else None)
    value.backward()
    compare(largest, "MultiSimilarityLoss value", case["value"], value.detach().numpy(), VALUE)
    compare(largest, "MultiSimilarityLoss gradient", case["gradient"], x.grad.detach().numpy(), GRADIENT)


def mean_over_photos(found, photos):
    """The mean over the photos of the means over the matching pairs that each begins; theirs is that of all pairs."""
    pairs = found["loss"]
    total = torch.zeros(photos)
    if len(np.shape(pairs["losses"])) == 0:  # their answer to a batch without matching pairs or without others
        return total.sum()
    first = pairs["indices"][0]
    total = total.index_add(0, first, pairs["losses"])
    return (total / torch.bincount(first, minlength=photos).clamp(min=1)).mean()


@pytest.mark.parametrize("name", named("softmax"))
def test_info_nce(name, largest):
    case = np.load(CASES / name)
    x, labels = tensors(case)
    loss = theirs.NTXentLoss(**json.loads(str(case["options"])), reducer=reducers.DoNothingReducer())
    value = mean_over_photos(loss(x, labels), len(x))
    if value.requires_grad:
        value.backward()
    theirs_gradient = np.zeros(x.shape, "float32") if x.grad is None else x.grad.numpy()
    compare(largest, "NTXentLoss value", case["value"], value.detach().numpy(), VALUE)
    compare(largest, "NTXentLoss gradient", case["gradient"], theirs_gradient, GRADIENT)
    _, count = np.unique(case["labels"], return_counts=True)
    if len(count) > 1 and count[0] > 1 and (count == count[0]).all():  # then both means are the same
        plain = theirs.NTXentLoss(**json.loads(str(case["options"])))(x, labels)
        compare(largest, "NTXentLoss value", case["value"], plain.detach().numpy(), VALUE)


@pytest.mark.parametrize("name", named("classes"))
def test_losses_on_classes(name, largest):
    case = np.load(CASES / name)
    x, labels = tensors(case)
    options = json.loads(str(case["options"]))
    classes, sub_centres, dimensions = case["centres"].shape
    kind = str(case["kind"])
    if kind == "ArcFaceLoss":
        options["margin"] = float(np.degrees(options["margin"]))
    if options.pop("sub_centres", 1) > 1:
        kind = "SubCenterArcFaceLoss"
        options["sub_centers"] = sub_centres
    loss = getattr(theirs, kind)(num_classes=classes, embedding_size=dimensions, **options)
    loss.W.data = torch.tensor(case["centres"].reshape(-1, dimensions).T)
    value = loss(x, labels)
    value.backward()
    compare(largest, f"{kind} value", case["value"], value.detach().numpy(), VALUE)
    compare(largest, f"{kind} gradient", case["gradient"], x.grad.detach().numpy(), GRADIENT)
    ours = case["centres_gradient"].reshape(-1, dimensions).T
    compare(largest, f"{kind} gradient of centres", ours, loss.W.grad.detach().numpy(), GRADIENT)


@pytest.mark.parametrize("name", named("memory"))
def test_memory(name, largest):
    case = np.load(CASES / name)
    inner, miner = multi_similarity({})
    loss = theirs.CrossBatchMemory(inner, case["descriptors0"].shape[1], memory_size=int(case["size"]), miner=miner)
    for step in range(int(case["steps"])):
        x, labels = tensors(case, step)
        # Theirs keeps descriptors as they come, ours divides them by their lengths: these have length 1.
        value = loss(x, labels)
        value.backward()
        compare(largest, "CrossBatchMemory value", case[f"value{step}"], value.detach().numpy(), VALUE)
        compare(largest, "CrossBatchMemory gradient", case[f"gradient{step}"], x.grad.detach().numpy(), GRADIENT)

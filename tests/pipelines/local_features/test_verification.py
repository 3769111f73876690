"""Verification: the points that two photos share are found, with their boxes, and chance matches are few."""

import numpy as np
import pytest

from pipelines.local_features.features import LocalFeatures
from pipelines.local_features.verification import HOMOGRAPHY, Match, Verifier
from tests.helpers.small_local_features import moved, scattered

pytest.importorskip("pycolmap", reason='pip install "keras-retrieval[sfm]"')


@pytest.fixture(scope="module")
def verifier():
    return Verifier()


def test_shared_points_are_inliers_with_their_boxes(verifier):
    query = scattered(80)
    match = verifier.verify(query, moved(query, 40))
    assert match.inliers == 40
    np.testing.assert_allclose(match.points, match.query_points * 0.8 + np.float32([30, 20]), atol=1e-3)
    assert match.query_box == (*query.keypoints[:40].min(axis=0).tolist(), *query.keypoints[:40].max(axis=0).tolist())
    assert match.box == (*match.points.min(axis=0).tolist(), *match.points.max(axis=0).tolist())


def test_points_that_agree_on_no_view_are_few(verifier):
    query = scattered(80)
    other = moved(query, 40)
    shuffled = LocalFeatures(other.keypoints[::-1].copy(), other.descriptors, 400, 300)
    assert verifier.verify(query, shuffled).inliers < 10


def test_the_same_pair_gives_the_same_inliers(verifier):
    query = scattered(80)
    results = [Verifier().verify(query, moved(query, 30)).points for _ in range(2)]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_photos_with_few_features_have_no_match(verifier, count):
    query = scattered(80)
    few = query.inside((-1, -1, -1, -1)) if not count else moved(query, 40)
    few = LocalFeatures(few.keypoints[:count], few.descriptors[:count], 400, 300)
    for one, other in ((query, few), (few, query)):
        match = verifier.verify(one, other)
        assert match.inliers == 0
        assert match.box is None


def test_one_photo_that_fails_costs_itself(verifier, caplog):
    query = scattered(80)
    photos = {"a": moved(query, 30), "b": None, "c": moved(query, 20, seed=4)}

    def read(name):
        if name == "d":
            raise OSError("the disk failed")
        return photos[name]

    with caplog.at_level("WARNING", logger="keras_retrieval"):
        found = verifier.verify_all(query, ["a", "b", "d", "c"], read)
    assert {name: match.inliers for name, match in found.items()} == {"a": 30, "c": 20}
    assert "d is not verified: the disk failed" in caplog.text
    with caplog.at_level("WARNING", logger="keras_retrieval"):
        assert verifier.verify_all(query, ["d", "a", "d2"], lambda name: photos[name]).keys() == {"a"}
    assert "d is not verified: 'd' (and 1 more)" in caplog.text


def test_a_match_without_points_has_no_boxes():
    assert (Match().inliers, Match().box, Match().query_box, HOMOGRAPHY) == (0, None, None, "homography")

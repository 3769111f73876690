"""Ground truth that does not fit the photos."""

import numpy as np
import pytest

from pipelines.evaluation.errors import GroundTruthError
from pipelines.evaluation.ground_truth import GroundTruth, PhotoList, restrict


def test_none_of_the_photos_is_at_hand(shots):
    truth = GroundTruth("far", "map", ["x"], ["x"], [np.array([0])])
    with pytest.raises(GroundTruthError, match=r"contains none of the 1 photos of far \(such as x\)"):
        restrict(truth, PhotoList(shots))


def test_a_box_outside_of_the_photo_is_refused():
    truth = GroundTruth("one", "map", ["x"], ["x"], [np.array([0])], boxes=[(50.0, 50.0, 90.0, 90.0)])
    with pytest.raises(GroundTruthError, match="is outside of x"):
        truth.box(0, (40, 40))

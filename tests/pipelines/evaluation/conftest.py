"""The photos of a custom dataset, shared by the tests of several modules."""

import pytest

from tests.helpers.ground_truths import make


@pytest.fixture
def shots(tmp_path):
    return make(tmp_path / "photos", *(f"shots/{n}.jpg" for n in range(6)), "query/a.png", "other/0.jpg")

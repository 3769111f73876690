"""The options of `tuples`."""

import pytest

from pipelines.training_tuples.tuples import tuples as make_tuples
from tests.helpers.small_models import write_model

pycolmap = pytest.importorskip("pycolmap")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "0", [f"{number:02}.jpg" for number in range(14)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "m4"}, "--rule must be one of m1, m2, m3, verified, got m4"),
        ({"positives": 0}, "--positives must be at least 1, got 0"),
        ({"validation": 1}, "--validation must be below 1, got 1"),
        ({"scale_change": 0.5}, "--scale-change must be at least 1, got 0.5"),
        ({"radius": 30}, "--radius must be at most --apart, 25, got 30"),
        ({"rule": "m1"}, "--rule m1 needs descriptors"),
    ],
)
def test_options_out_of_range_are_named(model, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        make_tuples(model, tmp_path / "tuples.npz", **options)

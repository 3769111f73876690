"""Settings: ranges, limits by the size of a collection, the choice by size, and the round trip through a manifest."""

import json

import pytest

from export.index_contract.index_settings import IndexSettings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recall": 1.1}, "--recall must be at most 1, got 1.1"),
        ({"k": 0}, "--k must be at least 1, got 0"),
        ({"leaves": 26}, r"--leaves must be at most 25 \(a quarter of the rows\), got 26"),
        ({"leaves": -1}, "--leaves must be at least 0"),
        ({"leaves_to_search": -2}, "--leaves-to-search must be at least 1"),
        ({"leaves_to_search": 0}, "--leaves-to-search must be at least 1"),
        ({"reorder": -1}, "--reorder must be at least 1"),
        ({"rows": "float16"}, "--rows must be one of float32, bfloat16, int8, got float16"),
        ({"lookup": "lut8"}, "--lookup must be one of lut16, lut256"),
        ({"threshold": 1.5}, "--threshold must be at most 1"),
        ({"block": 9}, "--block must be at most 8, the descriptors' dimensions, got 9"),
        ({"sample": 3}, "--sample must be at least 16"),
        ({"iterations": 0}, "--iterations must be at least 1"),
        ({"soar": -1.0}, "--soar must be at least 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        IndexSettings(**settings).check_collection(100, 8)


def test_the_size_chooses():
    def chosen(count, **settings):
        return IndexSettings(**settings).tree_leaves(count)

    assert chosen(19_999) is None
    assert chosen(20_000) == 141
    assert chosen(20_000, leaves=0) == 0
    assert chosen(100_000) == 316
    assert chosen(1_000_000) == 1000
    assert chosen(1_000_000, exact=True) is None
    assert chosen(1_000, leaves=20) == 20
    assert chosen(40, leaves=20) == 10
    assert chosen(15, leaves=2) is None


def test_the_tree_and_the_codes_are_trained_on_samples():
    settings = IndexSettings()
    assert [settings.training_rows(leaves) for leaves in (0, 50, 447, 1000)] == [5_000, 20_000, 114_432, 250_000]
    assert IndexSettings(lookup="lut256").training_rows(0) == 20_000
    assert [IndexSettings(sample=300).training_rows(leaves) for leaves in (0, 141)] == [300, 300]


def test_settings_come_back_from_a_manifest():
    settings = IndexSettings(recall=0.9, leaves=3, threshold=0.0, soar=0.0)
    assert IndexSettings(**json.loads(json.dumps(settings.facts()))) == settings

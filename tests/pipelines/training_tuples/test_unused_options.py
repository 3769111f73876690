"""Options of `tuples` that the source has no use for are refused, and not silently ignored."""

import pickle

import pytest

from keras_retrieval.errors import ArgumentError
from pipelines.training_tuples.data import TuplesError
from pipelines.training_tuples.options import TuplesOptions
from pipelines.training_tuples.sources import read_source
from pipelines.training_tuples.tuples import tuples
from tests.helpers.small import draw
from tests.helpers.small_index import descriptors, unit

GIVEN = {
    "rule": {"rule": "m2"}, "cameras": {"cameras": 5}, "shared": {"shared": 0.5}, "scale_change": {"scale_change": 2.0},
    "positions": {"positions": "exif"}, "heading": {"heading": 30.0}, "radius": {"radius": 5.0},
    "apart": {"apart": 40.0}, "cells": {"cells": 10.0}, "neighbours": {"neighbours": 5}, "loose": {"loose": 40},
    "alike": {"alike": 5}, "unlike": {"unlike": 5}, "anchors": {"anchors": "all"}, "objects": {"objects": "folders"},
    "positives": {"positives": 2}, "singletons": {"singletons": True},
}  # fmt: skip
PLACES = {"heading", "radius", "apart", "cells", "positives"}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    for one in "ab":
        for number in range(3):
            draw(folder / "photos" / one / f"{number}.png", 8, 8, seed=number)
    (folder / "pairs.csv").write_text("query,positive\na.jpg,b.jpg\n")
    (folder / "places.csv").write_text("photo,east,north,heading\na.jpg,0,0,0\nb.jpg,5,0,0\nc.jpg,900,0,0\n")
    content = {"cids": ["aabbcc", "ddeeff"], "qidxs": [0], "pidxs": [1], "cluster": [0, 0]}
    (folder / "published.pkl").write_bytes(pickle.dumps(content, protocol=2))
    descriptors(folder / "described", unit([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), ["a.jpg", "b.jpg", "c.jpg"])
    return folder


@pytest.mark.parametrize(
    ("source", "used"),
    [
        ("photos", {"objects", "positives", "positions"}), ("pairs.csv", {"positions"}), ("published.pkl", set()),
        ("places.csv", PLACES | {"positions"}),
    ],
)  # fmt: skip
def test_each_option_has_an_effect_or_is_refused(sources, source, used):
    """--positions turns a folder of photos into another source, and a table refuses it in words of its own."""
    for name, given in GIVEN.items():
        options = TuplesOptions(sources / source, sources / "tuples.npz", **given)
        if name in used:
            if name != "positions":
                assert read_source(options, {}).images
            continue
        label = name.replace("_", "-")
        with pytest.raises(TuplesError, match=rf"--{label} needs .*, and .*{source} contains .*: (leave|add)"):
            read_source(options, {})


def test_options_that_need_another_are_refused(sources, tmp_path):
    with pytest.raises(TuplesError, match=r"--apart needs positions, and .*described contains descriptors"):
        tuples(sources / "described", tmp_path / "tuples.npz", manifold=True, apart=40.0)
    for given, message in (
        ({"descriptors": sources / "described"}, "--descriptors is for --rule m1: leave it out with --rule m3"),
        ({"rule": "m2", "shared": 0.5}, "--shared is for --rule m3: leave it out with --rule m2"),
        ({"rule": "verified", "cameras": 5}, "--cameras is for --rule m1, m2, m3: leave it out with --rule verified"),
        ({"cell_groups": "3x1"}, "--cell-groups needs --cells, the side of the cells in metres"),
    ):
        with pytest.raises(ArgumentError, match=message):
            TuplesOptions(sources / "photos", tmp_path / "tuples.npz", **given)

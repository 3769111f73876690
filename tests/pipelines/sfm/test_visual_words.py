"""Visual words of the same photos are the same in every run, in whatever order COLMAP numbered them."""

import numpy as np
import pycolmap
import pytest

from pipelines.sfm.candidate_pairs import vocabulary_pairs
from pipelines.sfm.colmap import colmap_name

NAMES = [f"{number:02}.jpg" for number in range(12)]


def made_database(path, order):
    """Writes features of photos that see three objects, four photos each, numbered in the given order."""
    seen = np.random.default_rng(0).integers(0, 256, (3, 150, 128), dtype=np.uint8)
    with pycolmap.Database.open(path) as opened:
        camera = opened.write_camera(
            pycolmap.Camera.create_from_model_id(0, pycolmap.CameraModelId.SIMPLE_RADIAL, 500, 640, 480)
        )
        for name in order:
            number = NAMES.index(name)
            rng = np.random.default_rng(number)
            rows = np.clip(seen[number % 3] + rng.normal(0, 20, (150, 128)), 0, 255).astype(np.uint8)
            image = opened.write_image(pycolmap.Image(name=colmap_name(name), camera_id=camera))
            opened.write_keypoints(image, rng.uniform(0, 480, (150, 6)).astype(np.float32))
            opened.write_descriptors(image, pycolmap.FeatureDescriptors(pycolmap.FeatureExtractorType.SIFT, rows))
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The pairs and the vocabulary of two runs."""
    found = []
    for order in (NAMES, NAMES[::-1]):
        folder = tmp_path_factory.mktemp("run")
        pairs = vocabulary_pairs(made_database(folder / "database.db", order), NAMES, 3, None)
        found.append((pairs, next(folder.glob("vocabulary*")).read_bytes()))
    return found


def test_photos_of_one_object_are_paired(runs):
    own = [NAMES.index(one) % 3 == NAMES.index(other) % 3 for one, other in runs[0][0]]
    assert sum(own) == 18


def test_two_runs_choose_the_same_pairs(runs):
    assert runs[0][0] == runs[1][0]


def test_two_runs_learn_the_same_words(runs):
    """But for rounding: without AVX-512, OpenBLAS rounds by where an array lies in memory, and a few rows change words.

    There, 94 % of the numbers are equal at least; with another seed, 59 % at most.
    """
    one, other = (np.frombuffer(vocabulary[: len(vocabulary) // 4 * 4], np.float32) for _, vocabulary in runs)
    assert one.shape == other.shape
    assert np.mean(np.isclose(one, other, rtol=1e-3, atol=1e-3, equal_nan=True)) > 0.8

"""Datasets by name, and photos that do not fit them."""

import pytest

from pipelines.evaluation.datasets import DATASETS, load_ground_truth
from pipelines.evaluation.errors import GroundTruthError
from tests.helpers.ground_truths import make


@pytest.mark.parametrize(("dataset", "message"), [
    ("holidays", "no query of holidays"),
    ("ukbench", "no four photos of one object"),
])  # fmt: skip
def test_other_photos_are_refused(tmp_path, dataset, message):
    with pytest.raises(GroundTruthError, match=message):
        load_ground_truth(dataset, make(tmp_path, "a.jpg"))


def test_unknown_datasets_answer_with_the_nearest(shots):
    with pytest.raises(GroundTruthError, match=r"Did you mean 'roxford5k'\? It must be one of roxford5k"):
        load_ground_truth("roxfrd5k", shots)
    with pytest.raises(GroundTruthError, match=r"gone\.json does not exist"):
        load_ground_truth("gone.json", shots)


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_missing_folder_is_a_clear_error(tmp_path, dataset):
    with pytest.raises(ValueError, match="nowhere"):
        load_ground_truth(dataset, tmp_path / "nowhere")

"""Learning a whitening from shards."""

import numpy as np
import pytest

from keras_retrieval.whitening.covariance import learn_lw, learn_pca
from pipelines.descriptors.folder import KIND, VERSION
from pipelines.descriptors.learn_whitening import learn_whitening
from pipelines.descriptors.matching_pairs import MatchingPairs
from pipelines.files.durable import partial_of, seal, write_array, write_names


def write_rows(folder, rows, names, shard):
    partial = partial_of(folder)
    partial.mkdir()
    for number, start in enumerate(range(0, len(rows), shard)):
        write_array(partial / f"descriptors-{number:05}.npy", rows[start : start + shard])
    write_names(partial / "names.txt", names)
    return seal(partial, folder, kind=KIND, version=VERSION)


@pytest.mark.parametrize("method", ["lw", "pca"])
def test_shards_give_what_one_array_gives(tmp_path, method):
    rows = np.random.default_rng(0).normal(size=(60, 5)).astype("float32")
    names = [f"{row}.jpg" for row in range(60)]
    wanted = [row for row in range(60) if row % 7]
    qidxs, pidxs = np.random.default_rng(1).integers(0, len(wanted), (2, 40))
    folder = write_rows(tmp_path / "rows", rows, names, 7)
    found = learn_whitening(folder, MatchingPairs([names[row] for row in wanted], qidxs, pidxs), method)
    expected = learn_lw(rows[wanted], qidxs, pidxs) if method == "lw" else learn_pca(rows[wanted])
    np.testing.assert_allclose(found.m, expected.m, atol=1e-12)
    np.testing.assert_allclose(found.P, expected.P, atol=1e-9)

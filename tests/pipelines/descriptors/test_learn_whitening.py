"""Learning a whitening from shards."""

import numpy as np
import pytest

from keras_retrieval.whitening.covariance import learn_lw, learn_pca
from pipelines.descriptors.folder import KIND, VERSION
from pipelines.descriptors.learn_whitening import WhiteningError, learn_whitening
from pipelines.descriptors.matching_pairs import MatchingPairs
from pipelines.descriptors.shrinkage import choose_shrinkage
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


def test_pairs_of_copies_have_nothing_to_learn_lw_from(tmp_path):
    rows = np.random.default_rng(0).normal(size=(4, 5)).astype("float32").repeat(2, axis=0)
    folder = write_rows(tmp_path / "rows", rows, [f"{row}.jpg" for row in range(8)], 8)
    pairs = MatchingPairs([f"{row}.jpg" for row in range(8)], np.arange(0, 8, 2), np.arange(1, 8, 2))
    with pytest.raises(WhiteningError, match="each of 4 pairs have equal descriptors, as copies of one photo have"):
        learn_whitening(folder, pairs, "lw")


def test_shrinkage_is_that_of_the_photos_in_pairs_that_have_a_descriptor(tmp_path, caplog):
    caplog.set_level("INFO")
    rows = np.random.default_rng(0).normal(size=(24, 5)).astype("float32")
    names = [f"{row}.jpg" for row in range(24)]
    folder = write_rows(tmp_path / "rows", rows, names, 24)
    qidxs = np.arange(0, 20, 2)
    of_18 = choose_shrinkage(rows, qidxs[:-1], qidxs[:-1] + 1)
    for pairs, shrinkage, why in [
        (MatchingPairs(names, qidxs, qidxs + 1), 0.0, "shrinkage 0 (20 photos in pairs, at least 4 for each of 5"),
        (
            MatchingPairs([*names[:19], "gone.jpg"], qidxs, qidxs + 1),
            of_18.value,
            f"shrinkage {of_18.value:g} (18 photos in pairs, fewer than 4 for each of 5 dimensions; of 1, 3, 10, 30, ",
        ),
    ]:
        found = learn_whitening(folder, pairs, "lw")
        there = [name in names for name in pairs.images]
        known = [all(there[row] for row in pair) for pair in zip(pairs.qidxs, pairs.pidxs, strict=True)]
        expected = learn_lw(rows[: sum(there)], qidxs[known], qidxs[known] + 1, shrinkage)
        np.testing.assert_allclose(found.P, expected.P, atol=1e-9)
        assert why in caplog.text
        assert found.shrinkage == shrinkage


def test_a_share_of_the_mean_is_subtracted(tmp_path):
    rows = np.random.default_rng(0).normal(1, 1, size=(24, 5)).astype("float32")
    folder = write_rows(tmp_path / "rows", rows, [f"{row}.jpg" for row in range(24)], 24)
    pairs = MatchingPairs([f"{row}.jpg" for row in range(24)], np.arange(0, 24, 2), np.arange(1, 24, 2))
    whole, share = (learn_whitening(folder, pairs, "lw", 1.0, shift=shift) for shift in (1.0, 0.75))
    np.testing.assert_allclose(share.m, 0.75 * whole.m)
    np.testing.assert_array_equal(share.P, whole.P)

"""The fewest principal directions that contain a share of the squared length of rows."""

import numpy as np
import pytest

from export.folder_index.dimension_reduction import leading_axes


def rows_with(lengths):
    """Rows with these root mean squares along orthogonal directions, which are returned, too, in columns."""
    rng = np.random.default_rng(0)
    directions, _ = np.linalg.qr(rng.normal(size=(len(lengths), len(lengths))))
    signs = np.sign(rng.normal(size=(500, len(lengths))))
    return (signs * lengths @ directions.T).astype(np.float32), directions


@pytest.mark.parametrize(("strong", "count"), [(3, 16), (16, 16), (17, 32), (40, 48), (50, None), (64, None)])
def test_the_fewest_directions_are_chosen_in_steps(strong, count):
    rows, directions = rows_with(np.where(np.arange(64) < strong, 1.0, 0.01))
    axes = leading_axes(rows, 0.98)
    if count is None:
        assert axes is None
        return
    assert axes.shape == (64, count)
    np.testing.assert_allclose(axes.T @ axes, np.eye(count), atol=1e-5)
    kept = np.linalg.norm(axes.T @ directions[:, :strong], axis=0)
    np.testing.assert_allclose(kept, 1, atol=1e-3)


def test_there_are_at_least_as_many_as_a_block_of_codes_has():
    rows, _ = rows_with(np.where(np.arange(64) < 3, 1.0, 0.01))
    assert leading_axes(rows, 0.9, least=20).shape == (64, 20)
    assert leading_axes(rows, 0.9, least=64) is None


def test_rows_of_zeros_have_directions():
    assert leading_axes(np.zeros((50, 64), np.float32), 0.9).shape == (64, 16)
    assert leading_axes(np.zeros((50, 16), np.float32), 0.9) is None

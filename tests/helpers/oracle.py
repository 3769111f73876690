"""Comparison of our losses with those of other packages, also in environments that have nothing of ours but numpy."""

from collections import defaultdict

import numpy as np
import pytest


@pytest.fixture(scope="module")
def largest():
    """Collects the largest difference of each loss and what of it, printed at the end."""
    differences: dict[str, float] = defaultdict(float)
    yield differences
    for what, difference in sorted(differences.items()):
        print(f"\nlargest difference, {what}: {difference:.1e}", end="")
    print()


def compare(largest, what, ours, theirs, tolerance):
    """Differences are of 1, or of what is compared where that is above 1."""
    difference = np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1)
    largest[what] = max(largest[what], float(difference.max()))
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)

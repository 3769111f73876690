"""Connected components of a graph."""

import numpy as np

from pipelines.files.components import connected


def test_connected_parts_equal_a_flood():
    rng = np.random.default_rng(0)
    edges = [tuple(edge) for edge in rng.integers(0, 60, (45, 2)).tolist()]
    parts = connected(range(60), edges)
    reach = np.eye(60, dtype=bool)
    for one, other in edges:
        reach[one, other] = reach[other, one] = True
    for _ in range(60):
        reach = reach @ reach
    assert sorted(node for part in parts for node in part) == list(range(60))
    assert all(set(part) == set(np.flatnonzero(reach[part[0]])) for part in parts)
    assert [len(part) for part in parts] == sorted(map(len, parts), reverse=True)

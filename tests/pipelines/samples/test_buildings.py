"""Designs of buildings: names, and buildings that differ."""

import numpy as np

from pipelines.samples.buildings import DESIGNS, building_names, make_building


def test_buildings_differ():
    names = building_names(19)
    assert len(set(names)) == 19
    assert names[8] == "town-hall-2"
    assert len(DESIGNS) >= 8
    outlines = set()
    for number in (0, 1, 8):
        corners = np.concatenate([face.corners for face in make_building(number, 0).faces])
        outlines.add(tuple(np.round(np.ptp(corners, axis=0), 2)))
    assert len(outlines) == 3

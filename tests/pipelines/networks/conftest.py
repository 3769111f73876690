"""The image on which converted networks are compared with published ones."""

import numpy as np
import pytest


@pytest.fixture(scope="package")
def image():
    return np.random.default_rng(1).integers(0, 256, (75, 107, 3)).astype("uint8")

"""Fixtures of the tests of epochs and streams: the photos of nine scenes, whole and damaged."""

import pytest

from tests.helpers.small_epochs import damage, draw_scenes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return draw_scenes(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def odd(folder, tmp_path):
    """The same photos, of which 3/0.png is empty and 4/1.png is cut off."""
    return damage(folder, tmp_path)

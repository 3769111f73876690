"""The page of a small collection, for the tests of its interface."""

import pytest

from export.search_page.routes import SearchPage
from tests.helpers.page_source import SmallSource


@pytest.fixture
def source(tmp_path):
    return SmallSource(tmp_path)


@pytest.fixture
def page(source):
    page = SearchPage(source)
    yield page
    page.close()

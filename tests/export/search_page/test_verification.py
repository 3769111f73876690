"""Verified searches of the page: hits are ordered by their matches, and the page gets the points to draw."""

import json

import numpy as np
import pytest
from keras_retrieval.pipelines.local_features.verification import Match
from keras_retrieval.pipelines.photos.reader import PhotoError

from export.http.messages import Request
from export.search_page.routes import SearchPage
from tests.helpers.page_source import ROWS


class Verifier:
    """The last of the first three hits has 70 points in common with each query; one photo has no features."""

    depth = 3

    def __init__(self):
        self.described = []

    def describe(self, query, box=None):
        if box == (0, 0, 20, 30):
            raise PhotoError("<bytes>", "it has changed meanwhile")
        self.described.append(box)
        return f"features {len(self.described)}"

    def verify_any(self, queries, hits):
        self.queries = queries
        places = [2, 0, 1, *range(3, len(hits.names))]
        points = np.arange(140, dtype=np.float32).reshape(70, 2)
        matches = [(len(queries) - 1, Match("homography", points, points + 5, 90)), (0, Match()), None]
        return hits.pick(places), [*matches, *[None] * (len(places) - 3)]


@pytest.fixture
def verifier():
    return Verifier()


@pytest.fixture
def verified(source, verifier):
    page = SearchPage(source, verifier=verifier)
    yield page
    page.close()


def search(page, **document):
    answer = page.answer(Request("POST", "/search.json", body=json.dumps(document).encode()))
    assert answer.status == 200
    return json.loads(answer.body)["hits"]


def test_verified_hits_come_first_with_their_points(verified, verifier):
    hits = search(verified, queries=[{"photo": "top.jpg"}, {"photo": "a/b/x.jpg", "box": [1, 2, 30, 40]}], k=2)
    query = ROWS["top.jpg"] + ROWS["a/b/x.jpg"]
    plain = sorted(
        (name for name in ROWS if name not in ("top.jpg", "a/b/x.jpg")), key=lambda name: -ROWS[name] @ query
    )
    assert [hit["name"] for hit in hits] == [plain[2], plain[0]]
    assert verifier.described == [None, (1, 2, 30, 40)]
    match = hits[0]["match"]
    assert (match["inliers"], match["query"]) == (70, 1)
    assert match["points"][:2] == [[0, 1, 5, 6], [4, 5, 9, 10]]
    assert len(match["points"]) == 35
    assert match["box"] == [5, 6, 143, 144]
    assert hits[1]["match"] == {"inliers": 0, "matches": 0, "query": 0, "points": [], "query_box": None, "box": None}


def test_numbers_of_queries_are_those_of_the_search_also_after_one_that_is_unreadable(verified, verifier):
    broken = {"file": "bm8gcGhvdG8="}
    hits = search(verified, queries=[broken, {"photo": "top.jpg"}])
    assert hits[0]["match"]["query"] == 1


def test_a_search_by_examples_only_is_not_verified(verified, verifier):
    hits = search(verified, like=["top.jpg"])
    assert all("match" not in hit for hit in hits)
    assert verifier.described == []


def test_at_most_four_queries_are_compared(verified, verifier):
    search(verified, queries=[{"photo": "top.jpg", "box": [0, 0, 20 + side, 30]} for side in range(7)])
    assert verifier.described == [(0, 0, 20 + side, 30) for side in range(1, 5)]

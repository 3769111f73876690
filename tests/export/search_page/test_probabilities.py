"""Searches of the page in a calibrated index: probabilities, no match, and what cannot be promised."""

import json

import numpy as np
import pytest
from keras_retrieval.pipelines.local_features.verification import Match

from export.http.messages import Request
from export.index_contract.answers import Answers
from export.index_contract.calibration import Calibration, Curve
from export.search_page.probabilities import Judge
from export.search_page.routes import SearchPage
from tests.helpers.page_source import ROWS

STEEP = Curve(-10.0, (20.0, 0.0))


class Verifier:
    """Each hit has 30 points in common with the last query."""

    depth = 2

    def describe(self, query, box=None):
        return "features"

    def verify_any(self, queries, hits):
        points = np.zeros((30, 2), np.float32)
        match = len(queries) - 1, Match("homography", points, points, 40)
        return hits, [match if place < self.depth else None for place in range(len(hits.names))]


def search(page, status=200, **document):
    answer = page.answer(Request("POST", "/search.json", body=json.dumps(document).encode()))
    assert answer.status == status
    return json.loads(answer.body)


def page_of(source, curves, least=0.0, verifier=None):
    calibration = Calibration(curves, 0.95, {}, {"queries": 18})
    return SearchPage(source, verifier=verifier, judging=lambda: Judge(Answers(source.searched, calibration), least))


def probability(one, other):
    return 1 / (1 + np.exp(10 - 20 * float(ROWS[one] @ ROWS[other])))


def test_hits_have_the_probability_of_the_most_probable_query(source):
    page = page_of(source, {"global": STEEP})
    found = search(page, queries=[{"photo": "top.jpg"}, {"photo": "a/b/x.jpg"}], like=["b/y.jpg"])
    assert found["min_probability"] == 0
    for hit in found["hits"]:
        best = max(probability(name, hit["name"]) for name in ("top.jpg", "a/b/x.jpg", "b/y.jpg"))
        assert hit["probability"] == pytest.approx(min(best, 0.95), abs=2e-4)
    page.close()


def test_what_is_not_probable_is_left_out_unless_a_search_says_so(source):
    page = page_of(source, {"global": Curve(-9.0, (0.0, 0.0))}, 0.5)
    found = search(page, queries=[{"photo": "top.jpg"}])
    assert found["hits"] == []
    assert found["min_probability"] == 0.5
    assert found["compared"] == 6
    assert len(search(page, queries=[{"photo": "top.jpg"}], min_probability=0)["hits"]) == 5
    page.close()


def test_matched_points_count_for_the_query_that_they_match(source):
    curves = {"global": Curve(-9.0, (0.0, 0.0)), "verified": Curve(-9.0, (0.0, 0.0, 5.0, 0.0))}
    page = page_of(source, curves, 0.9, Verifier())
    hits = search(page, queries=[{"photo": "top.jpg"}, {"photo": "a/b/x.jpg"}])["hits"]
    assert len(hits) == 2, "the verified ones"
    assert {hit["probability"] for hit in hits} == {0.95}
    page.close()


def test_wrong_probabilities_are_named(source, page):
    for value in (1, -0.1, "0.9", True, [0.5]):
        assert "min_probability must be" in search(page, 400, like=["top.jpg"], min_probability=value)["error"]
    assert "keras-retrieval calibrate" in search(page, 400, like=["top.jpg"], min_probability=0.5)["error"]
    assert "min_probability" not in search(page, like=["top.jpg"], min_probability=0)
    calibrated = page_of(source, {"global": STEEP})
    error = search(calibrated, 400, like=["top.jpg"], min_probability=0.99)["error"]
    assert error.startswith("min_probability 0.99: the calibration of the index was learned from 18 queries")
    calibrated.close()

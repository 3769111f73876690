"""`serve --verify`: the signature `search` answers in the order of verification, with inliers and boxes."""

import base64

import numpy as np
import pytest
from keras_retrieval.pipelines.local_features.verification import Match
from keras_retrieval.pipelines.photos.reader import PhotoError

from export.client.query import query
from export.client.retrieval_client import RetrievalClient
from export.index_contract.answers import Answers
from export.index_contract.calibration import Calibration, Curve
from export.indexes.open_index import open_index
from export.search_page.probabilities import Judge
from export.server.limits import ComputeSlots, Deadline
from export.server.photo_search import PhotoSearch
from export.server.search_signature import output_tensors
from tests.helpers.serving_models import serving

pytest.importorskip("grpc")

POINTS = np.array([[10, 20], [30, 25], [20, 60]], np.float32)
MATCH = Match("homography", POINTS, POINTS + np.array([5, 1], np.float32), 4)
VERIFIED = Curve(-6.0, (0.0, 0.0, 10 / np.log(4), 0.0))  # 0.98 with 3 inliers
HERE, THERE = [10, 20, 30, 60], [15, 21, 35, 61]


class Verifier:
    """The fourth neighbour agrees with the query; the first has no point in common; the others have no features."""

    depth = 4

    def describe(self, file, box=None):
        if file == self.unreadable:
            raise PhotoError("<bytes>", "not decoded")
        self.boxes.append(box)
        return "features"

    def verify_any(self, queries, hits):
        places = [3, 0, 1, 2, *range(4, len(hits.names))]
        return hits.pick(places), [(0, MATCH), (0, Match()), *[None] * (len(places) - 2)]


@pytest.fixture(scope="module")
def verified(search_service):
    """A client of a server that verifies, its verifier, and what judges hits, in a list."""
    index, verifier = open_index(search_service.index), Verifier()
    judge = Judge(Answers(index, Calibration({"global": Curve(-3.0, (0.0, 0.0)), "verified": VERIFIED}, 0.99, {})))
    options = {"index": index, "photos": search_service.photos, "verifier": verifier, "judging": lambda: judges[0]}
    judges = [judge]
    with serving({"small": search_service.model}, **options) as one:
        yield one, verifier, judges
    index.close()


@pytest.fixture
def client(verified):
    client, verifier, _ = verified
    verifier.boxes, verifier.unreadable = [], b""
    return client


def files(service, *rows):
    return [(service.photos / service.names[row]).read_bytes() for row in rows]


def ranking(service, row):
    return [service.names[other] for other in np.argsort(-service.rows @ service.rows[row])]


def test_neighbours_beyond_k_are_verified_and_come_first(verified, client, search_service):
    photos = files(search_service, 0, 7)
    answer = client.predict(
        {
            "image_bytes": np.array([*photos, b"no photo"], object),
            "k": np.int32(3),
            "boxes": np.float32([[0] * 4, [1, 2, 60, 50], [0] * 4]),
        },
        model="small",
        signature="search",
    )
    plain = ranking(search_service, 0)
    assert [name.decode() for name in answer["names"][0]] == [plain[3], plain[0], plain[1]]
    assert answer["inliers"].tolist() == [[3, 0, -1], [3, 0, -1], [-1] * 3]
    zeros = [[0] * 4] * 2
    assert answer["match_boxes"].tolist() == [[THERE, *zeros], [THERE, *zeros], [[0] * 4, *zeros]]
    assert answer["query_boxes"][0].tolist() == [HERE, *zeros]
    assert verified[1].boxes == [None, (1, 2, 60, 50)]


def test_rest_answers_the_same(client, search_service):
    (photo,) = files(search_service, 4)
    body = {"signature_name": "search", "instances": [{"b64": base64.b64encode(photo).decode()}]}
    status, answer = client.rest("POST", "/v1/models/small:predict", body)
    plain = ranking(search_service, 4)
    (found,) = answer["predictions"]
    assert (status, found["names"][:3]) == (200, [plain[3], plain[0], plain[1]])
    assert (found["inliers"][:3], found["match_boxes"][0], found["query_boxes"][0]) == ([3, 0, -1], THERE, HERE)


def test_a_photo_without_local_features_keeps_its_ranking(verified, client, search_service):
    photos = files(search_service, 2, 5)
    verified[1].unreadable = photos[0]
    with RetrievalClient(f"127.0.0.1:{client.port}", model="small") as asking:
        first, second = asking.search(photos, k=3)
    assert first.names == ranking(search_service, 2)[:3]
    assert (first.inliers.tolist(), second.inliers.tolist()) == ([-1] * 3, [3, 0, -1])
    np.testing.assert_array_equal(second.match_boxes[0], THERE)
    np.testing.assert_array_equal(second.query_boxes[0], HERE)


def test_query_prints_inliers_and_their_box(client, search_service, capsys):
    photo = search_service.photos / search_service.names[1]
    (hits,) = query([photo], server=f"127.0.0.1:{client.port}", model="small", k=3)
    lines = capsys.readouterr().out.splitlines()[1:]
    assert lines[0].endswith(f"  3 inliers  15,21,35,61  {hits.names[0]}")
    assert lines[1].endswith(f"  0 inliers  {hits.names[1]}")
    assert lines[2].endswith(f"  not verified  {hits.names[2]}")


def test_probabilities_are_those_of_the_matches(client, search_service):
    (photo,) = files(search_service, 6)
    answer = client.predict(
        {"image_bytes": np.array([photo, b"no photo"], object), "k": np.int32(3)}, model="small", signature="search"
    )
    logits = np.array([4, -6, -3])
    np.testing.assert_allclose(answer["probabilities"], [1 / (1 + np.exp(-logits)), [0] * 3], atol=1e-6)


def test_improbable_neighbours_are_left_out_with_their_matches(verified, search_service):
    index = open_index(search_service.index)
    calibration = Calibration({"global": Curve(-3.0, (0.0, 0.0)), "verified": VERIFIED}, 0.99, {})
    search = PhotoSearch(index, ComputeSlots(1), verified[1], lambda: Judge(Answers(index, calibration), 0.02))
    (hits,) = index.search(search_service.rows[:1], 3)
    kept, matches, probabilities = search.likely(search_service.rows[0], hits, [MATCH, Match(), None], Deadline(9))
    assert kept.names == [hits.names[0], hits.names[2]]
    assert matches == [MATCH, None]
    assert len(probabilities) == 2
    outputs = output_tensors([kept.pick([])], np.array([3]), np.zeros(1, np.int32), [[]], [np.zeros(0)])
    assert outputs["probabilities"].shape == outputs["names"].shape == (1, 0)
    index.close()


def test_query_says_no_match(client, search_service, capsys):
    photo, options = search_service.photos / search_service.names[1], {"server": f"127.0.0.1:{client.port}"}
    (hits,) = query([photo], model="small", k=3, min_probability=0.5, **options)
    assert hits.inliers.tolist() == [3]
    assert "  98 %  3 inliers" in capsys.readouterr().out
    (hits,) = query([photo], model="small", k=3, min_probability=0.99, **options)
    assert hits.names == []
    assert capsys.readouterr().out.splitlines()[1:] == ["  no match"]


def test_an_index_that_is_calibrated_later_gives_probabilities_from_then_on(verified, client, search_service):
    judges, judge = verified[2], verified[2][0]
    inputs = {"image_bytes": np.array(files(search_service, 0), object), "k": np.int32(2)}
    judges[0] = None
    before = client.predict(inputs, model="small", signature="search")
    assert "probabilities" not in before
    judges[0] = judge
    after = client.predict(inputs, model="small", signature="search")
    assert after["probabilities"].shape == (1, 2)
    assert after["names"].tolist() == before["names"].tolist()

"""The search page of `serve --index`: its photos are those of the index, described by the served network."""

import base64
import contextlib
import gzip
import http.client
import io
import json
import shutil
from types import SimpleNamespace
from urllib.parse import quote

import numpy as np
import pytest
from keras_retrieval.pipelines.photos.reader import PhotoError
from PIL import Image

from export.client.query import query as search_on_server
from export.client.retrieval_client import RetrievalClient
from export.http.tokens import Token
from export.index_contract.errors import MilvusError
from export.indexes.open_index import open_index
from export.search_page.errors import NotReadyError
from export.server import served_photos
from export.server.limits import ComputeSlots
from export.server.photo_search import PhotoSearch
from export.server.served_photos import ServedPhotos
from tests.helpers.search_service import STREET
from tests.helpers.serving_models import save_toy, serving


def ask(client, path, method="GET", body=None, **headers):
    """Status, headers and body of a path that is sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", client.rest_port, timeout=20)
    with contextlib.closing(connection):
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        data = answer.read()
        return answer.status, answer.headers, gzip.decompress(data) if headers.get("Accept-Encoding") else data


def search(client, **document):
    status, _, body = ask(client, "/search.json", "POST", document)
    return status, json.loads(body)


def expected(client, photo, **inputs):
    answer = client.predict({"image_bytes": np.array([photo], object), **inputs}, model="small", signature="search")
    return [name.decode() for name in answer["names"][0]], answer["scores"][0]


def test_it_shows_the_photos_of_the_index(search_server, search_service):
    client = search_server.client
    about = json.loads(ask(client, "/about.json")[2])
    assert (about["photos"], about["network"], about["size"]) == (10, "small.keras", 64)
    assert "problem" not in about
    status = json.loads(ask(client, "/status.json")[2])
    assert (status["state"], status["photos"], status["searchable"], status["training"]) == ("ready", 10, 10, None)
    photos = json.loads(ask(client, "/photos.json")[2])["photos"]
    assert sorted(photo["name"] for photo in photos) == sorted(search_service.names)
    status, headers, body = ask(client, f"/photos/{quote(STREET)}")
    assert (status, headers["Content-Type"]) == (200, "image/png")
    assert body == (search_server.photos / STREET).read_bytes()
    status, headers, body = ask(client, f"/thumbnails/{quote(STREET, safe='')}?side=512")
    assert (status, headers["Content-Type"], Image.open(io.BytesIO(body)).size) == (200, "image/jpeg", (90, 70))


def test_searches_equal_those_of_the_signature(search_server):
    client, photo = search_server.client, (search_server.photos / STREET).read_bytes()
    file = {"file": base64.b64encode(photo).decode()}
    for query, inputs in (
        (file, {}),
        ({**file, "box": [18, 14, 72, 63]}, {"boxes": np.array([[18, 14, 72, 63]], np.float32)}),
    ):
        status, found = search(client, queries=[query])
        names, scores = expected(client, photo, **inputs)
        assert status == 200
        assert [hit["name"] for hit in found["hits"]] == names
        np.testing.assert_allclose([hit["score"] for hit in found["hits"]], scores, atol=1e-5)
        assert found["queries"] == [{"width": 90, "height": 70}]
    status, found = search(client, queries=[{"photo": STREET}])
    assert [hit["name"] for hit in found["hits"]] == [name for name in expected(client, photo)[0] if name != STREET]
    status, found = search(
        client, queries=[{"file": base64.b64encode(b"a text").decode()}, {**file, "box": [0, 0, 1e4, 9]}]
    )
    assert status == 200
    assert [query["reason"] for query in found["queries"]] == [
        "not a picture in a supported format (JPEG, PNG, GIF, BMP; WebP unless exported with --no-webp)",
        "its box is empty or extends beyond the photo",
    ]


def test_other_paths_are_rest(search_server):
    client = search_server.client
    status, _, body = ask(client, "/v1/models/none")
    assert (status, b"Could not find any versions of model none" in body) == (404, True)
    assert ask(client, "/none")[0] == 404
    assert ask(client, "/monitoring/prometheus/metrics")[0] == 200
    assert ask(client, "/", "POST")[0] == 405


def test_the_page_is_compressed_and_sent_once(search_server):
    status, headers, body = ask(search_server.client, "/", **{"Accept-Encoding": "gzip"})
    assert (status, headers["Content-Encoding"], b"<html" in body) == (200, "gzip", True)
    assert body == ask(search_server.client, "/")[2]
    status, again, body = ask(search_server.client, "/", **{"If-None-Match": headers["ETag"]})
    assert (status, body, again["ETag"], again["Content-Type"]) == (304, b"", headers["ETag"], None)


def test_without_an_index_there_is_no_page(tmp_path):
    save_toy(tmp_path / "toy" / "1")
    with serving({"toy": tmp_path / "toy"}) as client:
        for path in ("/", "/static/main.js", "/about.json", "/photos/000.png"):
            assert ask(client, path)[0] == 404


def test_below_a_base_path(search_service, tmp_path):
    index = open_index(search_service.index)
    models = {"small": search_service.model}
    with serving(models, index=index, photos=search_service.photos, base_path="/some/photos") as client:
        status, headers, _ = ask(client, "/some/photos?photo=a")
        assert (status, headers["Location"]) == (307, "/some/photos/?photo=a")
        assert b"<html" in ask(client, "/some/photos/")[2]
        assert json.loads(ask(client, "/some/photos/about.json")[2])["photos"] == 10
        assert ask(client, f"/some/photos/thumbnails/{quote(STREET)}")[0] == 200
        assert ask(client, "/some/photos/v1/models/small")[0] == 200
        for path in ("/", "/about.json", "/v1/models/small", "/some/photosabout.json"):
            assert ask(client, path)[0] == 404
    index.close()


def test_a_token_guards_the_page_rest_and_grpc(search_service, tmp_path):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    index = open_index(search_service.index)
    token = Token("a-secret-of-many-characters")
    bearer = {"Authorization": f"Bearer {token.secret}"}
    photo = search_service.photos / STREET
    with serving({"small": search_service.model}, index=index, photos=search_service.photos, token=token) as client:
        for path in ("/about.json", f"/photos/{quote(STREET)}", "/v1/models/small", "/monitoring/prometheus/metrics"):
            assert [ask(client, path)[0], ask(client, path, **bearer)[0]] == [401, 200], path
        status, headers, body = ask(client, "/", Accept="text/html")
        assert (status, b'name="token"' in body, headers["Content-Type"]) == (401, True, "text/html; charset=utf-8")
        assert "form-action 'self'" in headers["Content-Security-Policy"]
        assert ask(client, "/static/style.css")[0] == ask(client, "/healthz")[0] == 200
        assert ask(client, "/static/main.js")[0] == 401
        assert ask(client, "/", Host="evil.example", **bearer)[0] == 421
        address = f"localhost:{client.port}"
        for wrong in (None, "another secret"):
            with (
                RetrievalClient(address, model="small", token=wrong, retries=0) as without,
                pytest.raises(ValueError, match=r"UNAUTHENTICATED\): The token is missing or wrong"),
            ):
                without.describe([photo])
        (tmp_path / "token").write_text(f"{token.secret}\n")
        (hits,) = search_on_server([photo], server=address, model="small", k=1, token=tmp_path / "token")
        assert hits.names == [STREET]
        health = health_pb2_grpc.HealthStub(client.channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
    index.close()


@pytest.fixture
def photos(search_service, search_server, tmp_path, monkeypatch):
    """The source of a page whose index the test may change, and the index."""
    monkeypatch.setattr(served_photos, "CHECK_SECONDS", 0)
    monkeypatch.setattr(served_photos, "PAUSE", 0)
    index = open_index(shutil.copytree(search_service.index, tmp_path / "index"))
    search, core = PhotoSearch(index, ComputeSlots(1)), search_server.client.server.core
    yield SimpleNamespace(source=ServedPhotos(search, core, search_server.photos, 20.0), index=index, search=search)
    index.close()


def test_the_catalogue_follows_the_index(photos, search_service):
    first = photos.source.catalogue()
    assert photos.source.catalogue() is first
    photos.index.delete(search_service.names[:1])
    second = photos.source.catalogue()
    assert second.version != first.version
    assert sorted(second.names) == sorted(search_service.names[1:])
    assert second.searchable.all()
    assert photos.source.left_out() == {}


def test_an_index_that_cannot_be_read_leaves_the_last_photos(photos, search_service, monkeypatch):
    class Gone:
        facts = photos.index.facts

        @property
        def version(self):
            raise MilvusError("the server is gone")

    kept = photos.source.catalogue()
    monkeypatch.setattr(photos.search, "index", Gone())
    assert photos.source.catalogue() is kept
    fresh = ServedPhotos(photos.search, photos.source._core, photos.source.folder, 20.0)
    with pytest.raises(NotReadyError, match="The index cannot be read: the server is gone"):
        fresh.catalogue()


def test_a_photo_is_described_by_the_served_network(photos, search_service):
    for name, row in zip(search_service.names[:2], search_service.rows, strict=False):
        found = photos.source.describe((search_service.photos / name).read_bytes(), None)
        np.testing.assert_allclose(found, row, atol=1e-4)
    with pytest.raises(PhotoError) as caught:
        photos.source.describe(b"", None)
    assert (
        caught.value.reason
        == "not a picture in a supported format (JPEG, PNG, GIF, BMP; WebP unless exported with --no-webp)"
    )


def test_without_the_network_of_the_index_the_page_says_so(photos, search_service, tmp_path):
    save_toy(tmp_path / "toy" / "1")
    with serving({"toy": tmp_path / "toy"}) as client:
        source = ServedPhotos(photos.search, client.server.core, search_service.photos, 20.0)
        status = source.status()
        assert status.state == "failed"
        assert status.message.startswith("No model is the network that the index was made with. toy: ")
        with pytest.raises(NotReadyError, match="No model is the network that the index was made with"):
            source.describe(b"", None)

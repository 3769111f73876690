"""`serve --index`: from a photo to its neighbours in one request, over gRPC and REST."""

import base64
import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from export.contract.signatures import BAD_BOX, DAMAGED, TOO_MANY_PIXELS, UNKNOWN_FORMAT
from export.contract.version_manifest import KIND, VERSION, mismatch
from export.indexes.open_index import open_index
from export.indexes.search import search
from export.server import loading
from export.server.errors import Code, ServingError
from pipelines.files.durable import MANIFEST, fingerprint, read_manifest
from tests.helpers.deadlines import wait_until
from tests.helpers.odd_photos import png
from tests.helpers.search_service import STREET
from tests.helpers.serving_models import save_toy as save_other_model
from tests.helpers.serving_models import serving

grpc = pytest.importorskip("grpc")

AVAILABLE, END = 30, 50


@pytest.fixture
def client(search_server):
    return search_server.client


@pytest.fixture
def index(search_server):
    return search_server.index


def ask(client, photos, **inputs):
    types = {"k": np.int32, "boxes": np.float32, "where": object}
    arrays = {alias: np.array(value, types[alias]) for alias, value in inputs.items()}
    return client.predict({"image_bytes": np.array(photos, object), **arrays}, model="small", signature="search")


def files(service, *rows):
    return [(service.photos / service.names[row]).read_bytes() for row in rows]


def ranking(service, row, k=10):
    """Names and scores from a loop over the descriptors."""
    scores = [float(service.rows[row] @ other) for other in service.rows]
    order = sorted(range(len(scores)), key=lambda other: -scores[other])[:k]
    return [service.names[other] for other in order], [scores[other] for other in order]


def as_text(names):
    return [[name.decode() for name in row] for row in names]


def test_photos_find_what_a_loop_over_the_descriptors_finds(client, search_service):
    answer = ask(client, files(search_service, 0, 9, 4), k=4)
    assert answer["status"].tolist() == [0, 0, 0]
    for row, (names, scores) in enumerate(zip(as_text(answer["names"]), answer["scores"], strict=True)):
        expected, expected_scores = ranking(search_service, (0, 9, 4)[row], 4)
        assert names == expected
        np.testing.assert_allclose(scores, expected_scores, atol=2e-4)  # resized by another code, see test_saved_model


def test_a_photo_finds_itself_with_the_cosine_of_an_exported_network(client, search_service):
    answer = ask(client, files(search_service, *range(10)), k=1)
    assert as_text(answer["names"]) == [[name] for name in search_service.names]
    assert answer["scores"].min() >= 0.9999


def test_rows_are_as_long_as_their_photo_has_neighbours(client, search_service):
    (good,) = files(search_service, 2)
    answer = ask(client, [good, good[:90], good, b"no photo"], k=[3, 3, 1, 3])
    names, scores = ranking(search_service, 2, 3)
    assert as_text(answer["names"]) == [names, ["", "", ""], [names[0], "", ""], ["", "", ""]]
    assert answer["status"].tolist() == [0, DAMAGED, 0, UNKNOWN_FORMAT]
    np.testing.assert_allclose(answer["scores"][0], scores, atol=2e-4)
    assert (answer["scores"][[1, 3]] == -np.inf).all()
    assert (answer["scores"][2, 1:] == -np.inf).all()


def test_no_neighbour_is_invented(client, search_service):
    (good,) = files(search_service, 2)
    assert ask(client, [good], k=10_000)["names"].shape == (1, 10)  # all that there are
    assert ask(client, [good])["names"].shape == (1, 10)
    nothing = ask(client, [b"no photo"])
    assert (nothing["names"].shape, nothing["scores"].shape) == ((1, 0), (1, 0))
    empty = ask(client, [], boxes=np.zeros((0, 4)))
    assert (empty["names"].shape, empty["status"].shape) == ((0, 0), (0,))


def test_a_box_is_searched_for_as_the_step_search_does(client, search_service):
    path, box = search_service.photos / STREET, (20, 11, 77, 60)
    (expected,) = search(search_service.index, [path], k=9, box="20,11,77,60")
    answer = ask(client, [path.read_bytes()] * 2, k=10, boxes=[box, (0, 0, 0, 0)])
    of_box = dict(zip(as_text(answer["names"])[0], answer["scores"][0], strict=True))
    del of_box[STREET]  # which the step leaves out
    assert list(of_box) == expected.names
    np.testing.assert_allclose(list(of_box.values()), expected.scores, atol=1e-5)
    assert as_text(answer["names"])[1] == ranking(search_service, search_service.names.index(STREET))[0]


def test_the_whole_photo_as_a_box_is_the_whole_photo(client, search_service):
    photo = (search_service.photos / STREET).read_bytes()
    answer = ask(client, [photo], boxes=[(0, 0, 90, 70)])
    street = search_service.names.index(STREET)
    np.testing.assert_allclose(answer["scores"][0], ranking(search_service, street)[1], atol=1e-5)


BAD_BOXES = [
    (10, 10, 10, 30),
    (0, 0, 1000, 30),
    (-5, 0, 10, 10),
    (np.nan, 0, 10, 10),
    (0, 0, np.inf, 10),
    (30, 10, 9, 9),
]


def test_bad_boxes_and_photos_have_a_status_of_their_own(client, search_service):
    good = (search_service.photos / STREET).read_bytes()
    answer = ask(client, [good] * len(BAD_BOXES), boxes=BAD_BOXES)
    assert answer["status"].tolist() == [BAD_BOX] * len(BAD_BOXES)
    assert answer["names"].shape == (len(BAD_BOXES), 0)
    bombs = [good[:90], b"text", png(30_000, 30_000, 8, 2), good]
    answer = ask(client, bombs, boxes=[(1, 1, 30, 30)] * 4)
    assert answer["status"].tolist() == [DAMAGED, UNKNOWN_FORMAT, TOO_MANY_PIXELS, 0]


PHOTO = np.array([b"x"], object)
REFUSED = [
    ({"k": np.int32(3)}, "Missing but required: {image_bytes}"),
    ({"image_bytes": PHOTO, "size": np.int32(1)}, "Sent extra: {size}"),
    ({"image_bytes": PHOTO, "k": np.int64(3)}, "Expects arg[2] to be int32 but int64 is provided"),
    ({"image_bytes": np.array([1], np.float32)}, "Expects arg[1] to be string but float is provided"),
    ({"image_bytes": PHOTO, "boxes": np.zeros((1, 4))}, "Expects arg[0] to be float but double is provided"),
    ({"image_bytes": PHOTO, "boxes": np.zeros((2, 4), np.float32)}, "boxes must have the shape (1, 4), got (2, 4)"),
    ({"image_bytes": PHOTO, "boxes": np.zeros(4, np.float32)}, "boxes must have the shape (1, 4), got (4,)"),
    ({"image_bytes": PHOTO[0]}, "image_bytes must have the shape (B,), got ()"),
    ({"image_bytes": PHOTO, "k": np.int32(0)}, "k must be one number, or one for each photo, from 1 to 10000"),
    ({"image_bytes": PHOTO, "k": np.int32(10_001)}, "from 1 to 10000"),
    ({"image_bytes": PHOTO, "k": np.array([1, 2], np.int32)}, "one for each"),
    ({"image_bytes": PHOTO, "where": np.array([b"", b""], object)}, "where must be one text, or one for each photo"),
    ({"image_bytes": PHOTO, "where": np.int32(1)}, "Expects arg[3] to be string but int32 is provided"),
    ({"image_bytes": PHOTO, "where": np.array(b"city", object)}, "where: city is not a condition"),
    ({"image_bytes": PHOTO, "where": np.array(b"\xff=1", object)}, "where: 'utf-8' codec can't decode"),
    ({"image_bytes": PHOTO, "where": np.array(b"city=Rome", object)}, "where: the index has no column 'city'"),
]


@pytest.mark.parametrize(("inputs", "message"), REFUSED)
def test_what_is_no_search_is_refused(client, inputs, message):
    with pytest.raises(grpc.RpcError) as caught:
        client.predict(inputs, model="small", signature="search")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert message in caught.value.details()


def test_neighbours_are_filtered(client, search_service):
    """By one filter for all photos, or by one for each; over REST as well."""
    photos, (first, *_) = files(search_service, 0, 4), search_service.names
    expected = [[name for name in ranking(search_service, row)[0] if name != first] for row in (0, 4)]
    without = f"photo != {json.dumps(first, ensure_ascii=False)}"
    assert as_text(ask(client, photos, where=without, k=9)["names"]) == expected
    answer = ask(client, photos, where=["", f"\n{without}\nphoto not in a, b"], k=10)
    assert as_text(answer["names"]) == [ranking(search_service, 0)[0], [*expected[1], ""]]
    coded = {"b64": base64.b64encode(photos[0]).decode()}
    for document in (
        {"inputs": {"image_bytes": [coded], "where": without, "k": 9}},
        {"inputs": {"image_bytes": [coded], "where": [without], "k": 9}},
        {"instances": [{"image_bytes": coded, "where": without, "k": 9}]},
    ):
        status, found = client.rest("POST", "/v1/models/small:predict", {"signature_name": "search", **document})
        assert status == 200, found
        names = found["outputs"]["names"] if "outputs" in found else [found["predictions"][0]["names"]]
        assert names == expected[:1]
    document["instances"][0]["where"] = "year >= 3"
    status, found = client.rest("POST", "/v1/models/small:predict", {"signature_name": "search", **document})
    assert (status, found["error"]) == (400, "where: the index has no column 'year'; its columns: none")


def test_outputs_may_be_chosen(client, search_service):
    inputs = {"image_bytes": np.array(files(search_service, 0), object)}
    answer = client.predict(inputs, model="small", signature="search", outputs=("names",))
    assert list(answer) == ["names"]
    with pytest.raises(grpc.RpcError, match="output tensor alias not found in signature: q"):
        client.predict(inputs, model="small", signature="search", outputs=("q",))


def test_rest(client, search_service):
    (photo,) = files(search_service, 3)
    names, scores = ranking(search_service, 3, 2)
    coded = {"b64": base64.b64encode(photo).decode()}

    def post(**document):
        return client.rest("POST", "/v1/models/small:predict", {"signature_name": "search", **document})

    status, answer = post(inputs={"image_bytes": [coded], "k": 2})
    assert status == 200
    assert answer["outputs"]["names"] == [names]
    np.testing.assert_allclose(answer["outputs"]["scores"], [scores], atol=2e-4)
    status, answer = post(instances=[{"image_bytes": coded, "k": 2}, {"image_bytes": coded, "k": 1}])
    assert [row["names"] for row in answer["predictions"]] == [names, [names[0], ""]]
    assert [row["status"] for row in answer["predictions"]] == [0, 0]
    status, answer = post(
        instances=[{"image_bytes": coded, "boxes": [1, 1, 30, 30]}, {"image_bytes": coded, "boxes": [0, 0, 0, 0]}]
    )
    assert answer["predictions"][1]["names"][:2] == names
    for document in ({"instances": [coded]}, {"inputs": [coded]}, {"inputs": {"image_bytes": [coded]}}):
        status, answer = post(**document)
        assert status == 200
        (found,) = answer["predictions"] if "predictions" in answer else answer["outputs"]["names"]
        assert len(found["names"] if isinstance(found, dict) else found) == 10
    status, answer = post(instances=[{"image_bytes": coded, "k": 2}, {"image_bytes": coded}])
    assert status == 400
    assert "keys must be equal to: image_bytes,k" in answer["error"]
    assert post(inputs={"k": 2}) == (400, {"error": "Missing named input: image_bytes in 'inputs' object."})


def test_the_signature_is_in_the_metadata(client):
    document = client.rest("GET", "/v1/models/small/metadata")[1]
    signatures = document["metadata"]["signature_def"]["signature_def"]
    assert {"serving_default", "images", "images_uint8", "search"} <= set(signatures)
    found = signatures["search"]
    assert {alias: tensor["dtype"] for alias, tensor in found["inputs"].items()} == {
        "image_bytes": "DT_STRING",
        "k": "DT_INT32",
        "boxes": "DT_FLOAT",
        "where": "DT_STRING",
    }
    assert {alias: tensor["dtype"] for alias, tensor in found["outputs"].items()} == {
        "names": "DT_STRING",
        "scores": "DT_FLOAT",
        "status": "DT_INT32",
    }
    assert found["method_name"] == "tensorflow/serving/predict"
    assert set(found["defaults"]) == {"k", "boxes", "where"}


def test_searches_and_descriptions_are_batched_together_and_not_mixed(client, search_service):
    photos = files(search_service, *range(10))

    def request(number):
        row = number % 10
        if number % 3:
            answer = ask(client, [photos[row]], k=1 + row)
            return row, as_text(answer["names"])[0]
        rows = client.predict({"image_bytes": np.array([photos[row]], object)}, model="small")["descriptors"]
        return row, [search_service.names[int(np.argmax(search_service.rows @ rows[0]))]]

    with ThreadPoolExecutor(8) as pool:
        for row, names in pool.map(request, range(60)):
            assert names == ranking(search_service, row, len(names))[0]


def test_searches_are_counted_and_end_at_their_deadline(client, search_service):
    def counts():
        text = client.server.core.metrics.page()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}

    before, photos = counts(), np.array(files(search_service, 0), object)
    ask(client, files(search_service, 0))
    with pytest.raises(grpc.RpcError) as caught:
        client.predict({"image_bytes": np.repeat(photos, 900)}, seconds=0.01, model="small", signature="search")
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    after = counts()
    counted = ':tensorflow:serving:request_count{model_name="small",status="OK"}'
    assert after[counted] == before.get(counted, 0) + 1
    ran = ':tensorflow:serving:runtime_latency_count{model_name="small",API="Predict",runtime="TF1"}'
    assert after[ran] > before.get(ran, 0)


def test_an_index_that_does_not_answer_is_unavailable(client, index, search_service, monkeypatch):
    def away(*_, **__):
        raise ConnectionError("no route to it")

    monkeypatch.setattr(type(index), "search", away)
    with pytest.raises(grpc.RpcError) as caught:
        ask(client, files(search_service, 0))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "The index does not answer: no route to it" in caught.value.details()


def test_what_another_process_adds_is_found_at_once(client, search_service):
    other, photo, own = open_index(search_service.index), files(search_service, 0), search_service.names[0]
    other.add(["added later.png"], search_service.rows[:1])
    try:
        assert set(as_text(ask(client, photo, k=2)["names"])[0]) == {own, "added later.png"}
    finally:
        other.delete(["added later.png"])
        other.close()
    assert as_text(ask(client, photo, k=1)["names"]) == [[own]]
    assert ask(client, photo, k=100)["names"].shape == (1, 10)


def test_other_models_are_served_as_ever(client):
    assert client.predict({"x": np.ones((1, 2), np.float32)})["y"].tolist() == [[2, 2]]
    with pytest.raises(grpc.RpcError) as caught:
        client.predict({"x": np.ones((1, 2), np.float32)}, signature="search")
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert caught.value.details() == 'Serving signature key "search" not found.'


class Facts:
    """An index whose facts say that it was made in another way."""

    def __init__(self, index, **facts):
        self._index, self.facts = index, {**index.facts, **facts}

    def __getattr__(self, name):
        return getattr(self._index, name)


OTHERS = [
    ({"size": 40}, "its size is 64, the index's 40"),
    ({"scales": [1.0]}, r"its scales is \[1.0, 0.7071\], the index's \[1.0\]"),
    ({"antialias": False}, "its antialias is True, the index's False"),
    ({"mirror": True}, "its mirror is False, the index's True"),
    ({"edges": "sobel"}, "the index is of edge maps, .*"),
    ({"model": {"path": "x.keras", "sha256": "0"}}, "it is another network"),
    ({"model": {"name": "vgg16_gem"}}, "it is another network"),
    ({"exif": False}, "the index's photos were not turned by their EXIF orientation"),
]


@pytest.mark.parametrize(("facts", "reason"), OTHERS)
def test_an_index_made_in_another_way_is_told_from_ours(search_service, index, facts, reason):
    manifest = read_manifest(search_service.model / "1", kind=KIND, version=VERSION)
    assert mismatch(manifest, index.facts) == ""
    assert re.fullmatch(reason, mismatch(manifest, {**index.facts, **facts}))


@pytest.fixture
def cold(monkeypatch):
    """Servers that skip the warm-up."""
    monkeypatch.setattr(loading, "warm_up", lambda *_: None)


def test_a_server_does_not_start_with_the_index_of_another_network(search_service, index, tmp_path, cold):
    save_other_model(tmp_path / "toy" / "1")
    other = Facts(index, model={"path": "x.keras", "sha256": "0"}, size=40)
    message = (
        "No model is the network that the index was made with."
        " toy: it was not written by .*; small: it is another network, its size is 64, the index's 40"
    )
    models = {"toy": tmp_path / "toy", "small": search_service.model}
    with pytest.raises(ServingError, match=message) as caught, serving(models, index=other):
        pass
    assert caught.value.code == Code.FAILED_PRECONDITION


def write_other_version(version, place):
    """Writes a copy of a version whose manifest names another network; renames it when it is complete."""
    partial = place.with_name("writing")
    shutil.copytree(version, partial)
    manifest = json.loads((partial / MANIFEST).read_text())
    del manifest["checksum"]
    manifest["model"]["sha256"] = "0"
    (partial / MANIFEST).write_text(json.dumps(manifest | {"checksum": fingerprint(manifest)}))
    partial.rename(place)


def test_a_version_of_another_network_serves_all_but_searches(search_service, index, tmp_path, cold):
    base, photo = tmp_path / "small", files(search_service, 5)
    shutil.copytree(search_service.model, base)
    with serving({"small": base}, index=index) as client:
        assert as_text(ask(client, photo, k=1)["names"]) == [[search_service.names[5]]]
        write_other_version(base / "1", base / "2")
        wait_until(lambda: client.states("small") == {2: AVAILABLE, 1: END}, "version 2 has replaced version 1")
        with pytest.raises(grpc.RpcError) as caught:
            ask(client, photo)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert caught.value.details() == "Version 2 does not fit the index: it is another network"
        rows = client.predict({"image_bytes": np.array(photo, object)}, model="small")["descriptors"]
        assert rows.shape == (1, 16)
        assert "it is another network" in client.rest("GET", "/about.json")[1]["problem"]
        shutil.rmtree(base / "2")
        wait_until(lambda: client.states("small")[1] == AVAILABLE, "version 1 is loaded again")
        assert as_text(ask(client, photo, k=1)["names"]) == [[search_service.names[5]]]

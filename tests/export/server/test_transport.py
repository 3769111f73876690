"""What comes before a request of the REST API or gRPC is understood: encodings, limits, CORS, and random bytes."""

import contextlib
import gzip
import http.client
import json
import logging
import random

import grpc
import numpy as np
import pytest

from export.server.grpc_interceptors import malformed_interceptor
from tests.helpers.mutations import mutated
from tests.helpers.serving_models import predict_request, save_toy, serving

BODY = json.dumps({"instances": [[1, 2]]}).encode()
PREDICT, ANSWER = "/v1/models/toy:predict", {"predictions": [[2.0, 4.0]]}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    base = tmp_path_factory.mktemp("serving")
    save_toy(base / "toy" / "1")
    with serving({"toy": base / "toy"}, cors=True, max_rest_bytes=100_000) as client:
        yield client


def ask(client, method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", client.rest_port, timeout=20)
    with contextlib.closing(connection):
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers


ENCODINGS = [("gzip", True), ("x-gzip", True), ("deflate, gzip", True), ("identity", False), ("br", False), ("", False)]


@pytest.mark.parametrize(("encoding", "zipped"), ENCODINGS)
def test_encodings_that_contain_gzip_are_unzipped_and_others_ignored(client, encoding, zipped):
    status, text, _ = ask(client, "POST", PREDICT, gzip.compress(BODY) if zipped else BODY, Content_Encoding=encoding)
    assert (status, json.loads(text)) == (200, ANSWER)


def test_responses_are_compressed_where_the_client_accepts_it(client):
    status, text, headers = ask(client, "GET", "/v1/models/toy/metadata", Accept_Encoding="gzip")
    assert (status, headers["Content-Encoding"]) == (200, "gzip")
    assert json.loads(gzip.decompress(text))["model_spec"]["name"] == "toy"


def test_bodies_above_the_limit_of_rest_are_refused(client):
    assert ask(client, "POST", PREDICT, b"a" * 100_001)[0] == 413
    assert ask(client, "POST", PREDICT, gzip.compress(b" " * 100_001), Content_Encoding="gzip")[0] == 413
    padded = BODY + b" " * (100_000 - len(BODY))
    assert ask(client, "POST", PREDICT, padded)[0] == 200


def test_options_and_cors(client):
    for method, path, body in (("OPTIONS", PREDICT, None), ("POST", PREDICT, BODY), ("GET", "/v1/models/none", None)):
        status, _, headers = ask(client, method, path, body)
        assert (status, headers["Access-Control-Allow-Origin"]) == (404 if "none" in path else 200, "*")
    assert "POST" in headers["Access-Control-Allow-Methods"]
    assert "Content-Type" in headers["Access-Control-Allow-Headers"]


LONG = [
    ("GET", f"/v1/models/toy/versions/{'9' * 5000}", 400, "Failed to convert version: 99"),
    ("GET", f"/v1/models/toy/versions/{'9' * 19}", 400, "Failed to convert version: 99"),
    ("GET", f"/v1/models/toy/versions/{'0' * 5000}1", 200, "AVAILABLE"),
    ("GET", f"/v1/{'a' * 30_000}", 400, "Malformed request: GET /v1/aaa"),
    ("GET", f"/v1/models/{'m' * 30_000}", 404, "Could not find any versions of model mmm"),
    ("POST", f"/v1/models/{'m' * 30_000}:predict", 404, "Servable not found for request: Latest(mmm"),
    ("POST", f"/v1/models/toy/labels/{'l' * 30_000}:predict", 400, "Unrecognized servable version label: lll"),
    ("PUT", PREDICT, 400, f"Malformed request: PUT {PREDICT}"),
]


@pytest.mark.parametrize(("method", "path", "status", "text"), LONG)
def test_long_numbers_and_paths(client, method, path, status, text):
    found, answer, _ = ask(client, method, path, BODY if method == "POST" else None)
    assert (found, text in answer.decode()) == (status, True)
    assert len(answer) < 500


ODD = (b"[", b"]", b"{", b"}", b'"', b",", b"1e999", b"-0", b"NaN", b"null", b"true", b"\\ud800", b"\xff",
       b'{"b64":"a"}', b"9" * 5000, b"[" * 2000, b'"inputs":', b'"signature_name":', b"1.8e308", b"")  # fmt: skip
BODIES = [
    BODY,
    b'{"signature_name": "pair", "inputs": {"a": [1, 2.5], "b": [3, 4]}}',
    b'{"signature_name": "text", "instances": [{"b64": "YQA="}, "b"]}',
    b'{"context": {"a": 1}, "examples": [{"x": 0.5}, {"x": [1, 2]}]}',
]


@pytest.mark.parametrize("method", ["predict", "classify", "regress"])
def test_mutated_bodies_get_a_status(client, caplog, method):
    chance = random.Random(method)
    connection = http.client.HTTPConnection("127.0.0.1", client.rest_port, timeout=20)
    with contextlib.closing(connection), caplog.at_level(logging.WARNING):
        for number in range(150):
            connection.request("POST", f"/v1/models/toy:{method}", mutated(chance, BODIES[number % len(BODIES)], ODD))
            answer = connection.getresponse()
            json.loads(answer.read())
            assert answer.status in (200, 400, 404, 412, 501)
    assert caplog.text == ""


def test_mutated_messages_get_a_status(client, caplog):
    chance, codes = random.Random(0), set()
    message = predict_request({"x": np.float32([[1, 2]])}).SerializeToString()
    with caplog.at_level(logging.WARNING):
        for number in range(300):
            method = ("Predict", "Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata")[number % 6]
            call = client.channel.unary_unary(f"/tensorflow.serving.PredictionService/{method}")
            try:
                place = chance.randrange(len(message))
                changed = message[:place] + chance.randbytes(1) + message[place + 1 :]
                call(changed if number % 3 else mutated(chance, message, ODD), timeout=20)
            except grpc.RpcError as error:
                codes.add(error.code())
    assert grpc.StatusCode.INVALID_ARGUMENT in codes
    assert not codes & {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
    assert "Traceback" not in caplog.text
    assert client.predict({"x": np.float32([[1, 2]])})["y"].tolist() == [[2, 4]]


def test_a_message_that_cannot_be_parsed_is_answered_by_the_method(client, caplog):
    """gRPC's own answer logs a stack, and keeps the memory of the call."""
    method = client.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    for _ in range(3):
        with pytest.raises(grpc.RpcError) as refused:
            method(b"\xff\xff", timeout=20)
        answer = (refused.value.code(), refused.value.details())
        assert answer == (grpc.StatusCode.INTERNAL, "Exception deserializing request!")
    assert caplog.text == ""
    parse = type(predict_request({"x": np.float32([[1, 2]])})).FromString
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: None, request_deserializer=parse)
    handler = malformed_interceptor().intercept_service(lambda _: handler, None)
    assert handler.request_deserializer(b"\xff\xff") is not None, "for None, gRPC answers"

"""The answers to over 400 requests, code and text, over gRPC and REST, are those of TensorFlow Serving."""

import http.client
import json

import pytest

pytest.importorskip("grpc_health", reason='pip install "keras-retrieval[serving]"')

from tests.export.server.tensorflow_serving import grpc_cases, json_cases, rest_cases
from tests.helpers.many_signatures import save_many_signatures
from tests.helpers.serving_models import serving

ONE = "input { example_list { examples {} } }"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    base = tmp_path_factory.mktemp("serving")
    save_many_signatures(base / "1")
    with serving({"many": base}) as client:
        client.http = http.client.HTTPConnection("127.0.0.1", client.rest_port, timeout=600)
        yield client
        client.http.close()


def rest(client, method, path, body=None):
    """(status, text) of a REST request."""
    try:
        client.http.request(method, path, body.encode() if isinstance(body, str) else body)
        response = client.http.getresponse()
        return response.status, response.read().decode()
    except BaseException:
        client.http.close()  # so that the next test opens another connection
        raise


def check(client, path, body, status, key, text):
    """The whole text of the response counts, apart from that of an error that is not given."""
    found = rest(client, "POST", path, body)
    if status == 200:
        assert found == (200, f'{{\n    "{key}": {text}\n}}')
    else:
        assert found[0] == status
        if text is not None:
            assert json.loads(found[1]) == {"error": text}


@pytest.mark.parametrize(("body", "message"), json_cases.PARSED)
def test_texts_that_are_not_json(client, body, message):
    check(client, rest_cases.PREDICT, body, 400, "", f"JSON Parse error: {message}")


@pytest.mark.parametrize(("body", "predictions"), json_cases.READ)
def test_texts_that_rapidjson_reads(client, body, predictions):
    check(client, rest_cases.PREDICT, body, 200, "predictions", f"[{predictions}\n    ]")


@pytest.mark.parametrize(
    ("signature", "output"), [("bytes", '{\n        "b64": "/8Op"\n    }'), ("string", '"\ufffd\xe9"')]
)
def test_bytes_that_are_not_utf_8(client, signature, output):
    body = b'{"signature_name": "%s", "inputs": "\xff\xc3\xa9"}' % signature.encode()
    check(client, rest_cases.PREDICT, body, 200, "outputs", output)
    check(client, rest_cases.PREDICT, b'{"instances": ["\xff"]}', 400, "", None)


@pytest.mark.parametrize(("signature", "value", "status", "text"), json_cases.VALUES)
def test_values_of_every_type(client, signature, value, status, text):
    body = f'{{"signature_name": "{signature}", "inputs": {{"x": {value}}}}}'
    check(client, rest_cases.PREDICT, body, status, "outputs", text)


@pytest.mark.parametrize(("signature", "document", "status", "text"), rest_cases.PREDICTED)
def test_predict(client, signature, document, status, text):
    key = "predictions" if document.startswith('"instances"') else "outputs"
    body = f'{{"signature_name": "{signature}"{", " if document else ""}{document}}}'
    check(client, rest_cases.PREDICT, body, status, key, text)


@pytest.mark.parametrize(("path", "body", "status", "text"), rest_cases.EXAMPLES)
def test_examples(client, path, body, status, text):
    check(client, path, body, status, "results", text)


@pytest.mark.parametrize(("document", "features"), rest_cases.FEATURES)
def test_features(client, document, features):
    import base64

    from google.protobuf import text_format
    from tensorflow.core.example import example_pb2

    body = f'{{"signature_name": "classify_examples", "examples": [{document}]}}'
    status, text = rest(client, "POST", rest_cases.CLASSIFY, body)
    assert status == 200
    ((label, _),) = json.loads(text)["results"][0]
    found = example_pb2.Example.FromString(base64.urlsafe_b64decode(label + "=" * (-len(label) % 4)))
    expected = example_pb2.Example()
    text_format.Parse(features, expected.features)
    assert found.features == expected.features


@pytest.mark.parametrize(("method", "path", "status", "message"), rest_cases.PATHS)
def test_paths(client, method, path, status, message):
    body = b'{"instances": [1], "examples": [{}]}' if method == "POST" else None
    found = rest(client, method, path, body)
    assert (found[0], json.loads(found[1])) == (status, {"error": message})


def called(client, method, text, message):
    """(code, details) of a call; the request is given as text."""
    import grpc
    from google.protobuf import text_format

    with pytest.raises(grpc.RpcError) as caught:
        method(text_format.Parse(text, message), timeout=600)
    return caught.value.code().name, caught.value.details()


@pytest.mark.parametrize(("request_text", "code", "text"), grpc_cases.PREDICT)
def test_grpc_predict(client, request_text, code, text):
    from tensorflow_serving.apis import predict_pb2

    assert called(client, client.prediction.Predict, request_text, predict_pb2.PredictRequest()) == (code, text)


@pytest.mark.parametrize(("request_text", "code", "text"), grpc_cases.OF_EXAMPLES)
def test_grpc_classify_and_regress(client, request_text, code, text):
    from tensorflow_serving.apis import classification_pb2, regression_pb2

    calls = (
        (client.prediction.Classify, classification_pb2.ClassificationRequest()),
        (client.prediction.Regress, regression_pb2.RegressionRequest()),
    )
    for method, message in calls:
        assert called(client, method, request_text, message) == (code, text)


def check_refused(found, text):
    """A text that ends in a colon is followed by the signature."""
    assert found[0] == "INVALID_ARGUMENT"
    if text.endswith(": "):
        assert found[1].startswith(text)
        assert "method_name" in found[1]
    else:
        assert found[1] == text


@pytest.mark.parametrize(("signature", "examples", "text"), grpc_cases.CLASSIFY)
def test_grpc_classify(client, signature, examples, text):
    from tensorflow_serving.apis import classification_pb2

    request = grpc_cases.MANY % f'signature_name: "{signature}"' + (ONE if examples == "one" else examples)
    message = classification_pb2.ClassificationRequest()
    check_refused(called(client, client.prediction.Classify, request, message), text)


@pytest.mark.parametrize(("signature", "examples", "text"), grpc_cases.REGRESS)
def test_grpc_regress(client, signature, examples, text):
    from tensorflow_serving.apis import regression_pb2

    request = grpc_cases.MANY % f'signature_name: "{signature}"' + (ONE if examples == "one" else examples)
    message = regression_pb2.RegressionRequest()
    check_refused(called(client, client.prediction.Regress, request, message), text)


@pytest.mark.parametrize(("request_text", "code", "text"), grpc_cases.MULTI_INFERENCE)
def test_grpc_multi_inference(client, request_text, code, text):
    from tensorflow_serving.apis import inference_pb2

    request = request_text + ("" if text == "Input is empty." else ONE)
    found = called(client, client.prediction.MultiInference, request, inference_pb2.MultiInferenceRequest())
    if text.endswith(": "):
        check_refused(found, text)
    else:
        assert found == (code, text)


@pytest.mark.parametrize(("request_text", "code", "text"), grpc_cases.METADATA)
def test_grpc_metadata(client, request_text, code, text):
    from tensorflow_serving.apis import get_model_metadata_pb2

    message = get_model_metadata_pb2.GetModelMetadataRequest()
    assert called(client, client.prediction.GetModelMetadata, request_text, message) == (code, text)


@pytest.mark.parametrize(("request_text", "code", "text"), grpc_cases.STATUS)
def test_grpc_status(client, request_text, code, text):
    from tensorflow_serving.apis import get_model_status_pb2

    message = get_model_status_pb2.GetModelStatusRequest()
    assert called(client, client.model.GetModelStatus, request_text, message) == (code, text)


@pytest.mark.parametrize(("request_text", "code", "text"), grpc_cases.RELOAD)
def test_grpc_reload(client, request_text, code, text):
    from tensorflow_serving.apis import model_management_pb2

    message = model_management_pb2.ReloadConfigRequest()
    assert called(client, client.model.HandleReloadConfigRequest, request_text, message) == (code, text)
    assert client.server.core.models.names() == ["many"]

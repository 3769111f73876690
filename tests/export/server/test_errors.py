"""TensorFlow Serving's errors, code and text, over gRPC and REST."""

import numpy as np
import pytest

pytest.importorskip("grpc_health", reason='pip install "keras-retrieval[serving]"')

from tests.helpers.serving_models import predict_request, save_examples_model, save_toy, serving

X = {"x": np.ones((1, 2), np.float32)}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    base = tmp_path_factory.mktemp("serving")
    save_toy(base / "toy" / "1")
    save_examples_model(base / "examples" / "1")
    with serving({"toy": base / "toy", "examples": base / "examples"}) as client:
        yield client


BROKEN = 'dtype: DT_FLOAT tensor_shape { dim { size: 3 } } tensor_content: "abcd"'
NEGATIVE = "dtype: DT_FLOAT tensor_shape { dim { size: -1 } }"
PREDICT = [
    (X, {"model": None}, "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    (X, {"model": ""}, "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    (X, {"model": "m"}, "NOT_FOUND", "Servable not found for request: Latest(m)"),
    (X, {"model": "m", "version": 9}, "NOT_FOUND", "Servable not found for request: Specific(m, 9)"),
    (X, {"version": 9}, "NOT_FOUND", "Servable not found for request: Specific(toy, 9)"),
    (X, {"label": "L"}, "INVALID_ARGUMENT", "Unrecognized servable version label: L"),
    (X, {"signature": "s"}, "FAILED_PRECONDITION", 'Serving signature key "s" not found.'),
    (
        {},
        {},
        "INVALID_ARGUMENT",
        "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
    ),
    (
        {**X, "z": 1.0},
        {},
        "INVALID_ARGUMENT",
        "input size does not match signature: 2!=1 len({x,z}) != len({x}). Sent extra: {z}. Missing but required: {}.",
    ),
    (
        {"z": 1.0},
        {},
        "INVALID_ARGUMENT",
        "input tensor alias not found in signature: z. Inputs expected to be in the set {x}.",
    ),
    (
        {"x": np.ones((1, 2), np.int64)},
        {},
        "INVALID_ARGUMENT",
        "Expects arg[0] to be float but int64 is provided",
    ),
    (
        {"a": np.ones(1, np.float32), "b": np.ones(1, np.float32)},
        {"signature": "pair"},
        "INVALID_ARGUMENT",
        "Expects arg[1] to be int64 but float is provided",
    ),
    ({"x": BROKEN}, {}, "INVALID_ARGUMENT", "tensor parsing error: x"),
    ({"x": "float_val: 1"}, {}, "INVALID_ARGUMENT", "tensor parsing error: x"),
    ({"x": NEGATIVE}, {}, "INVALID_ARGUMENT", "tensor parsing error: x"),
    (
        X,
        {"outputs": ("q",)},
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: q Outputs expected to be in the set {y}.",
    ),
    (X, {"outputs": ("y", "y")}, "INVALID_ARGUMENT", "duplicate output tensor alias: y"),
]


def tensor(text):
    from google.protobuf import text_format
    from tensorflow.core.framework import tensor_pb2

    return text_format.Parse(text, tensor_pb2.TensorProto())


def check(call, request, code, message):
    import grpc

    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=20)
    assert (caught.value.code().name, caught.value.details()) == (code, message)


@pytest.mark.parametrize(("inputs", "spec", "code", "message"), PREDICT)
def test_predict(client, inputs, spec, code, message):
    tensors = {alias: tensor(value) if isinstance(value, str) else value for alias, value in inputs.items()}
    check(client.prediction.Predict, predict_request(tensors, **spec), code, message)


def examples_request(message, model="examples", signature="", version=None, x=(0.25,)):
    import tensorflow as tf

    message.model_spec.name, message.model_spec.signature_name = model, signature
    if version is not None:
        message.model_spec.version.value = version
    for value in x:
        feature = tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        message.input.example_list.examples.append(tf.train.Example(features=tf.train.Features(feature={"x": feature})))
    return message


CLASSIFY_AND_REGRESS = [
    ({"model": ""}, "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    ({"model": "m"}, "NOT_FOUND", "Servable not found for request: Latest(m)"),
    ({"version": 9}, "NOT_FOUND", "Servable not found for request: Specific(examples, 9)"),
    ({"signature": "s"}, "INVALID_ARGUMENT", "No signature was found with the name: s"),
]


@pytest.mark.parametrize(("asked", "code", "message"), CLASSIFY_AND_REGRESS)
def test_classify_and_regress(client, asked, code, message):
    from tensorflow_serving.apis import classification_pb2, regression_pb2

    classification = examples_request(classification_pb2.ClassificationRequest(), **asked)
    check(client.prediction.Classify, classification, code, message)
    regression = examples_request(regression_pb2.RegressionRequest(), **asked)
    check(client.prediction.Regress, regression, code, message)


CLASSIFY = [
    (
        {"signature": "regress"},
        "Expected classification signature method_name to be tensorflow/serving/classify."
        " Was: tensorflow/serving/regress",
    ),
    (
        {"model": "toy"},
        "Expected classification signature method_name to be tensorflow/serving/classify."
        " Was: tensorflow/serving/predict",
    ),
    ({"x": ()}, "Input is empty."),
]


@pytest.mark.parametrize(("asked", "message"), CLASSIFY)
def test_classify(client, asked, message):
    from tensorflow_serving.apis import classification_pb2

    request = examples_request(classification_pb2.ClassificationRequest(), **asked)
    check(client.prediction.Classify, request, "INVALID_ARGUMENT", message)


def test_regress_of_another_count(client):
    from tensorflow_serving.apis import regression_pb2

    request = examples_request(regression_pb2.RegressionRequest(), signature="wrong", x=(0.5,))
    message = "Input batch size did not match output batch size: 1 vs. 2"
    check(client.prediction.Regress, request, "INVALID_ARGUMENT", message)


MULTI_INFERENCE = [
    ([], "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    ([("m", "", "classify")], "NOT_FOUND", "Servable not found for request: Latest(m)"),
    ([("examples", "s", "classify")], "INVALID_ARGUMENT", "Requested signature not found in model graph: s"),
    (
        [("examples", "", "classify"), ("examples", "serving_default", "classify")],
        "INVALID_ARGUMENT",
        "Duplicate evaluation of signature: serving_default",
    ),
    (
        [("examples", "", "classify"), ("toy", "", "classify")],
        "INVALID_ARGUMENT",
        "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
    ),
    (
        [("examples", "", "predict")],
        "UNIMPLEMENTED",
        "Unsupported signature method_name: tensorflow/serving/predict",
    ),
]


@pytest.mark.parametrize(("tasks", "code", "message"), MULTI_INFERENCE)
def test_multi_inference(client, tasks, code, message):
    from tensorflow_serving.apis import inference_pb2

    request = inference_pb2.MultiInferenceRequest()
    for model, signature, method in tasks:
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = model, signature
    check(client.prediction.MultiInference, request, code, message)


STATUS = [
    ("m", None, "NOT_FOUND", "Could not find any versions of model m"),
    ("toy", 9, "NOT_FOUND", "Could not find version 9 of model toy"),
    ("m", 9, "NOT_FOUND", "Could not find version 9 of model m"),
]


@pytest.mark.parametrize(("model", "version", "code", "message"), STATUS)
def test_status(client, model, version, code, message):
    from tensorflow_serving.apis import get_model_status_pb2

    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = model
    if version is not None:
        request.model_spec.version.value = version
    check(client.model.GetModelStatus, request, code, message)


METADATA = [
    (
        "toy",
        [],
        "INVALID_ARGUMENT",
        "GetModelMetadataRequest must specify at least one metadata_field",
    ),
    ("toy", ["f"], "INVALID_ARGUMENT", "Metadata field f is not supported"),
    ("", ["signature_def"], "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    ("m", ["signature_def"], "NOT_FOUND", "Servable not found for request: Latest(m)"),
]


@pytest.mark.parametrize(("model", "fields", "code", "message"), METADATA)
def test_metadata(client, model, fields, code, message):
    from tensorflow_serving.apis import get_model_metadata_pb2

    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = model
    check(client.prediction.GetModelMetadata, request, code, message)


GOOD = {"instances": [[1.0, 2.0]]}
REST = [
    ("POST", "/v1/models/m:predict", GOOD, 404, "Servable not found for request: Latest(m)"),
    ("POST", "/v1/models/m/versions/9:predict", GOOD, 404, "Servable not found for request: Specific(m, 9)"),
    ("POST", "/v1/models/toy/versions/9:predict", GOOD, 404, "Servable not found for request: Specific(toy, 9)"),
    ("POST", "/v1/models/toy/labels/L:predict", GOOD, 400, "Unrecognized servable version label: L"),
    (
        "POST",
        "/v1/models/toy:predict",
        {**GOOD, "signature_name": "s"},
        400,
        'Serving signature key "s" not found.',
    ),
    (
        "POST",
        "/v1/models/examples:classify",
        {"signature_name": "s", "examples": [{"x": 0.5}]},
        400,
        "No signature was found with the name: s",
    ),
    (
        "POST",
        "/v1/models/examples:regress",
        {"signature_name": "s", "examples": [{"x": 0.5}]},
        400,
        "No signature was found with the name: s",
    ),
    ("POST", "/v1/models/toy:predict", b"", 400, "JSON Parse error: The document is empty"),
    ("POST", "/v1/models/toy:classify", b"", 400, "JSON Parse error: The document is empty"),
    ("POST", "/v1/models/toy:regress", b"", 400, "JSON Parse error: The document is empty"),
    ("POST", "/v1/models/toy:predict", b"[1", 400, "JSON Parse error: Invalid value. at offset: 2"),
    ("POST", "/v1/models/toy:predict", {}, 400, "Missing 'inputs' or 'instances' key"),
    ("GET", "/v1/models/m", None, 404, "Could not find any versions of model m"),
    ("GET", "/v1/models/toy/versions/9", None, 404, "Could not find version 9 of model toy"),
    ("GET", "/v1/models/m/metadata", None, 404, "Servable not found for request: Latest(m)"),
    ("GET", "/v1/models/toy/labels/L/metadata", None, 400, "Unrecognized servable version label: L"),
    ("GET", "/v1/models", None, 400, "Missing model name in request."),
    ("POST", "/v1/models/toy", GOOD, 400, "Malformed request: POST /v1/models/toy"),
    ("GET", "/v1/models/toy:predict", None, 400, "Malformed request: GET /v1/models/toy:predict"),
    ("PUT", "/v1/models/toy:predict", GOOD, 400, "Malformed request: PUT /v1/models/toy:predict"),
    ("POST", "/v1/models/toy:embed", GOOD, 400, "Malformed request: POST /v1/models/toy:embed"),
    ("GET", "/v1/nothing", None, 400, "Malformed request: GET /v1/nothing"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "message"), REST)
def test_rest(client, method, path, body, status, message):
    assert client.rest(method, path, body) == (status, {"error": message})


def test_rest_tells_of_both_keys(client):
    status, answer = client.rest("POST", "/v1/models/toy:predict", {"instances": [[1, 2]], "inputs": [[1, 2]]})
    assert status == 400
    assert "expecting only one of 'inputs' or 'instances' keys to exist" in answer["error"]


def test_long_messages_are_cut(client):
    name = "m" * 3000
    message = f"Servable not found for request: Latest({name})"[:1024] + "...TRUNCATED"
    check(client.prediction.Predict, predict_request(X, name), "NOT_FOUND", message)

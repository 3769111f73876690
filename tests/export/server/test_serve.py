"""The answers of a served model over gRPC and REST: predictions, classes, values, metadata, status, health, metrics."""

import math

import numpy as np
import pytest

from export.server.tensor_proto import from_proto, to_proto
from tests.export.server.test_errors import examples_request
from tests.helpers.serving_models import predict_request, save_examples_model, save_toy, serving


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    base = tmp_path_factory.mktemp("serving")
    save_toy(base / "toy" / "1")
    save_examples_model(base / "examples" / "1")
    with serving({"toy": base / "toy", "examples": base / "examples"}) as client:
        yield client


def test_predict_answers_typed_fields_and_who_answered(client):
    response = client.prediction.Predict(predict_request({"x": np.float32([[1, 2], [3, 4]])}), timeout=20)
    y = response.outputs["y"]
    assert list(y.float_val) == [2, 4, 6, 8]
    assert not y.tensor_content
    assert [dimension.size for dimension in y.tensor_shape.dim] == [2, 2]
    spec = response.model_spec
    assert (spec.name, spec.signature_name, spec.version.value) == ("toy", "serving_default", 1)


def test_predict_of_two_inputs_and_of_chosen_outputs(client):
    inputs = {"a": np.float32([1, 2]), "b": np.int64([3, 4])}
    both = client.predict(inputs, signature="pair")
    assert {alias: list(value) for alias, value in both.items()} == {"sum": [4, 6], "product": [3, 8]}
    assert list(client.predict(inputs, signature="pair", outputs=("product",))) == ["product"]


def test_predict_of_strings_keeps_every_byte(client):
    found = client.predict({"t": np.array([b"a\0", b"\xff"], object)}, signature="text")
    assert found["doubled_bytes"].tolist() == [b"a\0a\0", b"\xff\xff"]
    assert found["length"].tolist() == [2, 1]


def test_predict_does_not_check_static_shapes(client):
    """The signature says (B, 2); the graph scales any."""
    np.testing.assert_array_equal(client.predict({"x": np.ones((1, 5), np.float32)})["y"], np.full((1, 5), 2))


def test_classify(client):
    from tensorflow_serving.apis import classification_pb2

    request = examples_request(classification_pb2.ClassificationRequest(), x=(0.25, 1.0))
    response = client.prediction.Classify(request, timeout=20)
    rows = [[(c.label, c.score) for c in row.classes] for row in response.result.classifications]
    assert rows == [[("yes", 0.25), ("no", 0.75)], [("yes", 1.0), ("no", 0.0)]]
    assert response.model_spec.version.value == 1
    request.model_spec.signature_name = "scores"
    (first, _) = client.prediction.Classify(request, timeout=20).result.classifications
    assert [(c.label, c.score) for c in first.classes] == [("", 0.25), ("", 0.75)]


def test_regress(client):
    from tensorflow_serving.apis import regression_pb2

    request = examples_request(regression_pb2.RegressionRequest(), signature="regress", x=(0.25, 1.0))
    response = client.prediction.Regress(request, timeout=20)
    assert [regression.value for regression in response.result.regressions] == [0.5, 2.0]
    assert response.model_spec.signature_name == "regress"


def test_multi_inference(client):
    from tensorflow_serving.apis import inference_pb2

    request = inference_pb2.MultiInferenceRequest()
    request.input.CopyFrom(_examples(0.25))
    for signature, method in (("serving_default", "classify"), ("regress", "regress")):
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = "examples", signature
    classes, values = client.prediction.MultiInference(request, timeout=20).results
    assert [c.score for c in classes.classification_result.classifications[0].classes] == [0.25, 0.75]
    assert [r.value for r in values.regression_result.regressions] == [0.5]
    assert values.model_spec.signature_name == "regress"


def _examples(*x):
    from tensorflow_serving.apis import classification_pb2

    return examples_request(classification_pb2.ClassificationRequest(), x=x).input


def test_context_is_part_of_every_example(client):
    from tensorflow_serving.apis import regression_pb2

    (with_x,) = _examples(0.25).example_list.examples
    request = regression_pb2.RegressionRequest()
    request.model_spec.name, request.model_spec.signature_name = "examples", "regress"
    request.input.example_list_with_context.context.CopyFrom(with_x)
    request.input.example_list_with_context.examples.add()
    request.input.example_list_with_context.examples.add()
    result = client.prediction.Regress(request, timeout=20).result
    assert [regression.value for regression in result.regressions] == [0.5, 0.5]


def test_metadata(client):
    from tensorflow_serving.apis import get_model_metadata_pb2

    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "toy"
    response = client.prediction.GetModelMetadata(request, timeout=20)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert set(signatures.signature_def) == {"serving_default", "pair", "text", "spin", "__saved_model_init_op"}
    assert (response.model_spec.name, response.model_spec.version.value) == ("toy", 1)
    status, document = client.rest("GET", "/v1/models/toy/metadata")
    assert status == 200
    assert document["model_spec"] == {"name": "toy", "signature_name": "", "version": "1"}
    inputs = document["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]
    assert inputs["x"]["dtype"] == "DT_FLOAT"


def test_status(client):
    assert client.states("toy") == {1: 30}
    available = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("/v1/models/toy", "/v1/models/toy/versions/1", "/V1/Models/toy"):
        assert client.rest("GET", path) == (200, {"model_version_status": [available]})


PREDICTIONS = [
    ({"instances": [[1, 2], [3, 4]]}, {"predictions": [[2, 4], [6, 8]]}),
    ({"instances": [{"x": [1, 2]}]}, {"predictions": [[2, 4]]}),
    ({"inputs": [[1, 2]]}, {"outputs": [[2, 4]]}),
    ({"inputs": {"x": [[1.5, 2]]}}, {"outputs": [[3, 4]]}),
    (
        {"signature_name": "pair", "instances": [{"a": 1, "b": 2}, {"a": 3, "b": 4}]},
        {"predictions": [{"product": 2, "sum": 3}, {"product": 12, "sum": 7}]},
    ),
    (
        {"signature_name": "pair", "inputs": {"a": [1, 3], "b": [2, 4]}},
        {"outputs": {"product": [2, 12], "sum": [3, 7]}},
    ),
    (
        {"signature_name": "text", "instances": [{"b64": "/w=="}, "é"]},
        {
            "predictions": [
                {"doubled_bytes": {"b64": "//8="}, "length": 1},
                {"doubled_bytes": {"b64": "w6nDqQ=="}, "length": 2},
            ]
        },
    ),
    (
        {"signature_name": "text", "inputs": {"t": [{"b64": "/w"}]}},
        {"outputs": {"doubled_bytes": [{"b64": "//8="}], "length": [1]}},
    ),
    ({"instances": [[0.1, 1e-20]]}, {"predictions": [[0.2, 2e-20]]}),
]


@pytest.mark.parametrize(("document", "answer"), PREDICTIONS)
def test_rest_predict(client, document, answer):
    assert client.rest("POST", "/v1/models/toy:predict", document) == (200, answer)
    assert client.rest("POST", "/v1/models/toy/versions/1:predict", document) == (200, answer)


def test_rest_passes_what_is_not_finite(client):
    body = b'{"instances": [[NaN, Infinity], [-Infinity, 0]]}'
    status, answer = client.rest("POST", "/v1/models/toy:predict", body)
    assert status == 200
    (nan, infinite), (minus, zero) = answer["predictions"]
    assert math.isnan(nan)
    assert (infinite, minus, zero) == (math.inf, -math.inf, 0)


def test_rest_classify_and_regress(client):
    document = {"examples": [{"x": 0.25}, {"x": 0.1}]}
    answer = {"results": [[["yes", 0.25], ["no", 0.75]], [["yes", 0.1], ["no", 0.9]]]}
    assert client.rest("POST", "/v1/models/examples:classify", document) == (200, answer)
    document = {"signature_name": "regress", "context": {"x": 0.5}, "examples": [{}, {}]}
    assert client.rest("POST", "/v1/models/examples:regress", document) == (200, {"results": [1.0, 1.0]})


REFUSED = [
    ({"instances": []}, "No values in 'instances' array"),
    ({"instances": 3}, "Excepting 'instances' to be an list/array"),
    ({"instances": ["a"]}, "element: 0 of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: \"a\" Type: String"),
    ({"instances": [[1, 2], [True, 2]]}, "element: 1 of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: true"),
    ({"instances": [[1, 2], [1]]}, "element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: 2"),
    ({"instances": [[[1], [2]], [[1, 2]]]}, "Expecting shape [2,1] but got: [1,2]"),
    ({"instances": [[1, [2]]]}, "Encountered list at unexpected level: 1"),
    ({"instances": [[[1], 2]]}, "found at incorrect level: 2"),
    ({"instances": [{"z": [1, 2]}]}, "does not have named input: z"),
    ({"instances": [{"x": [1, 2]}, [1, 2]]}, "Expecting object but got list at item 1"),
    ({"instances": [[1, 2], {"x": [1, 2]}]}, "Expecting value/list but got object at item 1"),
    ({"instances": [[16777217, 1]]}, "Cannot convert JSON value: 16777217 to float without loss of precision."),
    ({"instances": [[1e39, 1]]}, "to float without loss of precision."),
    ({"instances": [[{"b64": "AA=="}, 1]]}, "is not of expected type: float"),
    ({"inputs": {"z": 1}}, "Missing named input: x in 'inputs' object."),
    ({"signature_name": 100, "instances": [[1, 2]]}, "'signature_name' key must be a string value."),
    ({"signature_name": "text", "instances": [{"b64": "?"}]}, "Unable to base64 decode"),
    ({"signature_name": "pair", "instances": [1]}, "instances is a plain list, but expecting list of objects"),
    ({"signature_name": "pair", "instances": [{"a": 1}]}, "must only have keys: a,b"),
    ({"signature_name": "pair", "instances": [{"a": 1, "b": 0.5}]}, "is not of expected type: int64"),
    ({"signature_name": "pair", "instances": [{"a": 1, "b": 2**63}]}, "is not of expected type: int64"),
    (b"[" * 100_000, "JSON Parse error"),
    (b"\xff\xfe\xfa", "JSON Parse error"),
    ([], "Is not object"),
]


@pytest.mark.parametrize(("document", "message"), REFUSED)
def test_rest_refuses(client, document, message):
    status, answer = client.rest("POST", "/v1/models/toy:predict", document)
    assert status == 400
    assert message in answer["error"]


def test_health(client):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    health = health_pb2_grpc.HealthStub(client.channel)
    for service in ("", "tensorflow.serving.PredictionService"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=20)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_metrics_count_requests(client):
    before = _metrics(client)
    client.predict({"x": np.ones((1, 2), np.float32)})
    client.rest("POST", "/v1/models/toy:predict", {})
    client.rest("POST", "/v1/models/invented:predict", {"instances": [1]})
    after = _metrics(client)
    grown = {name for name in after if after[name] > before.get(name, 0)}
    count = ":tensorflow:serving:request_count"
    assert f'{count}{{model_name="toy",status="OK"}}' in grown
    assert f'{count}{{model_name="toy",status="INVALID_ARGUMENT"}}' in grown
    assert f'{count}{{model_name="",status="NOT_FOUND"}}' in grown
    assert ':tensorflow:serving:request_latency_count{model_name="toy",API="Predict",entrypoint="GRPC"}' in grown
    assert not any("invented" in name for name in after)


def _metrics(client):
    import urllib.request

    url = f"http://127.0.0.1:{client.rest_port}/monitoring/prometheus/metrics"
    with urllib.request.urlopen(url, timeout=20) as page:
        lines = page.read().decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


DTYPES = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")


@pytest.mark.parametrize("dtype", [*DTYPES, "float16", "bfloat16", "complex64", "complex128", "string"])
def test_tensors_of_every_type_come_back(dtype):
    import tensorflow as tf

    values = np.array([[0, 1, 2], [3, 4, 100]])
    array = values.astype(str).astype(object) if dtype == "string" else values.astype(tf.as_dtype(dtype).as_numpy_dtype)
    if dtype == "string":
        array = np.array([[text.encode() for text in row] for row in array], object)
    proto = to_proto(array)
    assert not proto.tensor_content
    for read in (tf.make_ndarray(proto), from_proto(proto, "x"), from_proto(tf.make_tensor_proto(array), "x")):
        np.testing.assert_array_equal(read, array)
        assert read.dtype == array.dtype


def test_empty_tensors_and_scalars_come_back():
    for array in (np.zeros((0, 3), np.float32), np.float32(3), np.array(b"a\0", object), np.zeros((2, 0), np.int64)):
        read = from_proto(to_proto(np.asarray(array)), "x")
        np.testing.assert_array_equal(read, array)
        assert read.shape == np.shape(array)


def test_a_second_server_on_the_port_is_refused(client, tmp_path):
    save_toy(tmp_path / "toy" / "1")
    for taken in ({"port": client.port}, {"rest_port": client.rest_port}):
        with pytest.raises(OSError, match="cannot listen at"), serving({"toy": tmp_path / "toy"}, **taken):
            pass

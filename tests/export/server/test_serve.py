"""The answers of a served model over gRPC and REST: predictions, classes, values, metadata, status, health, metrics."""

import contextlib
import importlib
import math
from types import SimpleNamespace

import numpy as np
import pytest

from export.server.tensor_proto import from_proto, to_proto
from tests.helpers.serving_models import examples_request, predict_request, save_examples_model, save_toy, serving


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


def test_a_server_goes_on_when_nobody_reads_its_output(monkeypatch, tmp_path):
    stopped, dropped, waited = [], [], []

    class Fake:
        port = rest_port = 1
        core = SimpleNamespace(models=SimpleNamespace(names=lambda: ["m"]))

        def __init__(self, *_):
            pass

        def stop(self, grace):
            stopped.append(grace)

    def unread(*_, **__):
        raise BrokenPipeError

    step = importlib.import_module("export.server.serve")
    stop = SimpleNamespace(is_set=lambda: False, wait=lambda: waited.append(True))
    monkeypatch.setattr(step, "Server", Fake)
    monkeypatch.setattr(step, "served_models", lambda *_: None)
    monkeypatch.setattr(step, "_quiet", lambda: None)
    monkeypatch.setattr(step.gc, "freeze", lambda: None)
    monkeypatch.setattr(step, "print", unread, raising=False)
    monkeypatch.setattr(step, "drop_output", lambda: dropped.append(True))
    monkeypatch.setattr(step, "stop_signals", lambda: contextlib.nullcontext(stop))
    step.serve(tmp_path, grace_seconds=3)
    assert (stopped, waited, dropped) == ([3], [True], [True, True])

"""What TensorFlow Serving's own tests of a running server check: answers, metadata, status, health and metrics."""

import json
import re
import urllib.error
import urllib.request

import pytest

pytest.importorskip("grpc_health", reason='pip install "keras-retrieval[serving]"')

from export.server.batching_parameters import BatchingParameters
from export.server.config import model_config
from export.server.errors import Code, ServingError, as_serving_error
from export.server.json_reader import parse
from export.server.limits import Deadline
from export.server.loading import LoadSettings, load
from export.server.metrics import Metrics
from tests.helpers.many_signatures import save_many_signatures
from tests.helpers.serving_models import serving, write_warm_up


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving")
    version = save_many_signatures(folder / "123")
    record = _parse("PredictionLog", f"predict_log {{ request {{ {PREDICT} }} }}").SerializeToString()
    write_warm_up(version, [record] * 2)
    return folder


@pytest.fixture(scope="module")
def client(base):
    with serving({"default": base}) as client:
        config = model_config({"default": base})
        config.model_config_list.config[0].version_labels["stable"] = 123
        client.server.reconfigure(config)
        yield client


PREDICT = """
model_spec { name: "default" }
inputs { key: "x" value { dtype: DT_FLOAT tensor_shape { dim { size: 1 } } float_val: 2 } }
"""
EXAMPLE = 'features { feature { key: "x" value { float_list { value: 2 } } } }'
INPUT = f"input {{ example_list {{ examples {{ {EXAMPLE} }} }} }}"


def _parse(name, text):
    from google.protobuf import text_format
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        inference_pb2,
        model_management_pb2,
        predict_pb2,
        prediction_log_pb2,
        regression_pb2,
    )

    files = (classification_pb2, get_model_metadata_pb2, get_model_status_pb2, inference_pb2, model_management_pb2)
    files = (*files, predict_pb2, prediction_log_pb2, regression_pb2)
    return text_format.Parse(text, next(getattr(file, name) for file in files if hasattr(file, name))())


def spec(signature):
    return f'model_spec {{ name: "default" signature_name: "{signature}" }}'


def answered_by(answer, signature):
    found = answer.model_spec
    assert (found.name, found.signature_name, found.version.value) == ("default", signature, 123)


@pytest.mark.parametrize("choice", ["", 'output_filter: "y"'])
def test_predict(client, choice):
    answer = client.prediction.Predict(_parse("PredictRequest", PREDICT + choice), timeout=600)
    assert list(answer.outputs["y"].float_val) == [3.0]
    answered_by(answer, "serving_default")


@pytest.mark.parametrize("label", ["version { value: 123 }", 'version_label: "stable"'])
def test_predict_by_version_and_label(client, label):
    request = _parse("PredictRequest", PREDICT.replace('"default"', f'"default" {label}'))
    answered_by(client.prediction.Predict(request, timeout=600), "serving_default")


def test_predict_of_a_signature_of_another_method(client):
    """Method names are not checked unless `check_method_names` says so."""
    text = PREDICT.replace('"default"', '"default" signature_name: "other_method"')
    answer = client.prediction.Predict(_parse("PredictRequest", text), timeout=600)
    assert list(answer.outputs["y"].float_val) == [3.0]
    text = f"{spec('constant')}"
    answer = client.prediction.Predict(_parse("PredictRequest", text), timeout=600)
    assert list(answer.outputs["y"].float_val) == [3.0]


@pytest.mark.parametrize("signature", ["classify_x_to_y", "tf2_classify"])
def test_classify(client, signature):
    answer = client.prediction.Classify(_parse("ClassificationRequest", spec(signature) + INPUT), timeout=600)
    assert [(c.label, c.score) for c in answer.result.classifications[0].classes] == [("", 3.0)]
    answered_by(answer, signature)


@pytest.mark.parametrize("signature", ["regress_x_to_y", "tf2_regress"])
def test_regress(client, signature):
    answer = client.prediction.Regress(_parse("RegressionRequest", spec(signature) + INPUT), timeout=600)
    assert [regression.value for regression in answer.result.regressions] == [3.0]
    answered_by(answer, signature)


@pytest.mark.parametrize("classified", ["classify_x_to_y", "tf2_classify"])
def test_multi_inference_of_several_inputs(client, classified):
    """Each input tensor of the tasks is fed with the examples."""
    tasks = [("regress_x_to_y", "regress"), (classified, "classify"), ("regress_x2_to_y3", "regress")]
    text = "".join(f'tasks {{ {spec(s)} method_name: "tensorflow/serving/{method}" }} ' for s, method in tasks)
    answer = client.prediction.MultiInference(_parse("MultiInferenceRequest", text + INPUT), timeout=600)
    first, classes, other = answer.results
    assert first.regression_result.regressions[0].value == 3.0
    assert classes.classification_result.classifications[0].classes[0].score == 3.0
    assert other.regression_result.regressions[0].value == 2.5
    for result, (signature, _) in zip(answer.results, tasks, strict=True):
        answered_by(result, signature)


def test_method_names_are_checked_if_asked(base):
    import grpc

    requests = [
        ("Classify", "ClassificationRequest", spec("tf2_classify") + INPUT, "INVALID_ARGUMENT"),
        ("Regress", "RegressionRequest", spec("tf2_regress") + INPUT, "INVALID_ARGUMENT"),
        ("Predict", "PredictRequest", spec("other_method"), "INTERNAL"),
    ]
    messages = [
        "Expected classification signature method_name to be tensorflow/serving/classify."
        " Was: tensorflow/serving/predict",
        "Expected regression signature method_name to be tensorflow/serving/regress. Was: tensorflow/serving/predict",
        "Expected prediction signature method_name to be one of {tensorflow/serving/predict,"
        " tensorflow/serving/classify, tensorflow/serving/regress}. Was: some/method",
    ]
    with serving({"default": base}, check_method_names=True) as client:
        for (method, message, text, code), expected in zip(requests, messages, strict=True):
            with pytest.raises(grpc.RpcError) as caught:
                getattr(client.prediction, method)(_parse(message, text), timeout=600)
            assert (caught.value.code().name, caught.value.details()) == (code, expected)
        answer = client.prediction.Classify(
            _parse("ClassificationRequest", spec("classify_x_to_y") + INPUT), timeout=600
        )
        answered_by(answer, "classify_x_to_y")


STATUS = """{
 "model_version_status": [
  {
   "version": "123",
   "state": "AVAILABLE",
   "status": {
    "error_code": "OK",
    "error_message": ""
   }
  }
 ]
}
"""


@pytest.mark.parametrize("path", ["", "/versions/123", "/labels/stable", "/labels/unknown"])
def test_status(client, path):
    """A label has no effect, even if it is not known."""
    with urllib.request.urlopen(f"http://127.0.0.1:{client.rest_port}/v1/models/default{path}") as answer:
        assert (answer.headers["Content-Type"], answer.read().decode()) == ("application/json", STATUS)
    for choice in ("", 'version_label: "unknown"', "version { value: 123 }"):
        request = _parse("GetModelStatusRequest", f'model_spec {{ name: "default" {choice} }}')
        (status,) = client.model.GetModelStatus(request, timeout=600).model_version_status
        assert (status.version, status.state, status.status.error_code) == (123, 30, 0)


def test_metadata(client):
    request = _parse("GetModelMetadataRequest", 'model_spec { name: "default" } metadata_field: "signature_def"')
    answer = client.prediction.GetModelMetadata(request, timeout=600)
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("default", 123)
    with urllib.request.urlopen(f"http://127.0.0.1:{client.rest_port}/v1/models/default/metadata") as response:
        text = response.read().decode()
    assert text.startswith('{\n"model_spec":{\n "name": "default",\n')
    assert '}\n,\n"metadata": {"signature_def": {\n "signature_def": {\n' in text
    signature = json.loads(text)["metadata"]["signature_def"]["signature_def"]["serving_default"]
    shape = {"dim": [], "unknown_rank": True}
    assert signature == {
        "inputs": {"x": {"dtype": "DT_FLOAT", "tensor_shape": shape, "name": "x:0"}},
        "outputs": {"y": {"dtype": "DT_FLOAT", "tensor_shape": shape, "name": signature["outputs"]["y"]["name"]}},
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }


@pytest.mark.parametrize("service", ["", "PredictionService", "ModelService"])
def test_health(client, service):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    answer = health_pb2_grpc.HealthStub(client.channel).Check(
        health_pb2.HealthCheckRequest(service=service), timeout=600
    )
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_health_of_an_unknown_service(client):
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    request = health_pb2.HealthCheckRequest(service="tensorflow.serving.PredictionService")
    with pytest.raises(grpc.RpcError) as caught:
        health_pb2_grpc.HealthStub(client.channel).Check(request, timeout=600)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def metrics(client):
    url = f"http://127.0.0.1:{client.rest_port}/monitoring/prometheus/metrics"
    with urllib.request.urlopen(url, timeout=600) as page:
        lines = page.read().decode().splitlines()
    assert {line for line in lines if line.startswith("# TYPE")} >= {
        f"# TYPE :tensorflow:serving:{name}"
        for name in (
            "request_count counter",
            "request_latency histogram",
            "runtime_latency histogram",
            "request_example_counts histogram",
            "request_example_count_total counter",
            "request_log_count counter",
            "model_warmup_latency histogram",
            "model_warmup_records_read counter",
            "batching_session:queuing_latency histogram",
            "batching_session:wrapped_run_count counter",
        )
    }
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name.removeprefix(":tensorflow:serving:"): float(value) for name, value in pairs}


def grown(client, call):
    """The counters and the counts of histograms that a call increases, and by how much."""
    before = metrics(client)
    call()
    after = metrics(client)
    changes = {name: value - before.get(name, 0) for name, value in after.items() if "_count" in name}
    return {name: change for name, change in changes.items() if change and not re.search("_(bucket|sum){", name)}


def failing(call):
    import grpc

    with pytest.raises(grpc.RpcError):
        call()


def test_metrics_of_grpc(client):
    stub = client.prediction
    assert grown(client, lambda: stub.Predict(_parse("PredictRequest", PREDICT), timeout=600)) == {
        'request_count{model_name="default",status="OK"}': 1,
        'request_latency_count{model_name="default",API="Predict",entrypoint="GRPC"}': 1,
        'runtime_latency_count{model_name="default",API="Predict",runtime="TF1"}': 1,
    }
    refused = _parse("PredictRequest", spec("s"))
    assert grown(client, lambda: failing(lambda: stub.Predict(refused, timeout=600))) == {
        'request_count{model_name="default",status="FAILED_PRECONDITION"}': 1
    }
    two = _parse("RegressionRequest", spec("regress_x_to_y") + INPUT)
    two.input.example_list.examples.add()
    assert grown(client, lambda: stub.Regress(two, timeout=600)) == {
        'request_count{model_name="default",status="OK"}': 1,
        'request_latency_count{model_name="default",API="Regress",entrypoint="GRPC"}': 1,
        'runtime_latency_count{model_name="default",API="Regress",runtime="TF1"}': 1,
        'request_example_counts_count{model="default"}': 1,
        'request_example_count_total{model="default"}': 2,
    }
    task = f'tasks {{ {spec("regress_x_to_y")} method_name: "tensorflow/serving/regress" }}'
    several = _parse("MultiInferenceRequest", task + INPUT)
    assert grown(client, lambda: stub.MultiInference(several, timeout=600)) == {
        'request_example_counts_count{model="default"}': 1,
        'request_example_count_total{model="default"}': 1,
    }
    metadata = _parse("GetModelMetadataRequest", 'model_spec { name: "default" } metadata_field: "signature_def"')
    assert grown(client, lambda: stub.GetModelMetadata(metadata, timeout=600)) == {}


def test_metrics_of_rest(client):
    body = {"instances": [2.0]}
    assert grown(client, lambda: client.rest("POST", "/v1/models/default:predict", body)) == {
        'request_count{model_name="default",status="OK"}': 1,
        'request_latency_count{model_name="default",API="predict",entrypoint="REST"}': 1,
        'runtime_latency_count{model_name="default",API="Predict",runtime="TF1"}': 1,
    }
    assert grown(client, lambda: client.rest("POST", "/v1/models/invented:predict", body)) == {
        'request_count{model_name="",status="NOT_FOUND"}': 1
    }
    assert grown(client, lambda: client.rest("GET", "/v1/models/default")) == {
        'request_count{model_name="default",status="OK"}': 1,
        'request_latency_count{model_name="default",API="",entrypoint="REST"}': 1,
    }


def test_a_query_makes_another_path_of_that_of_the_metrics(client):
    path = "/monitoring/prometheus/metrics"
    with pytest.raises(urllib.error.HTTPError, match="400") as caught:
        urllib.request.urlopen(f"http://127.0.0.1:{client.rest_port}{path}?a=b", timeout=600)
    assert caught.value.read().decode() == f"Unexpected path: {path}?a=b. Should be {path}"


def test_metrics_of_warm_up(client, base):
    found = metrics(client)
    assert found[f'model_warmup_records_read{{model_path="{base / "123"}"}}'] == 2
    assert found[f'model_warmup_latency_count{{model_path="{base / "123"}",status="OK"}}'] == 1
    assert found[f':tensorflow:cc:saved_model:load_attempt_count{{model_path="{base / "123"}",status="success"}}'] == 1
    assert found[f':tensorflow:cc:saved_model:load_latency{{model_path="{base / "123"}"}}'] > 0


def test_reload_answers_the_growth_of_metrics(client, base):
    request = _parse("ReloadConfigRequest", "")
    names = ["/tensorflow/serving/request_count", "/tensorflow/serving/model_warmup_records_read", "/unknown"]
    request.metric_names.extend(names)
    request.config.CopyFrom(model_config({"default": base, "other": base}))
    answer = client.model.HandleReloadConfigRequest(request, timeout=600)
    assert answer.status.error_code == 0
    assert [(metric.name, metric.int64_value_increase) for metric in answer.metric] == [
        ("/tensorflow/serving/model_warmup_records_read", 2),
        ("/tensorflow/serving/request_count", 0),
        ("/unknown", 0),
    ]


def test_reading_ends_at_the_deadline():
    """A text that Python's parser does not read takes longer; nobody reads it after the deadline of its request."""
    expired = Deadline(0.0)
    with pytest.raises(ServingError) as caught:
        parse(b'{"instances": [' + b"Inf, " * 50_000, expired.check)
    assert caught.value.code == Code.DEADLINE_EXCEEDED


def test_long_messages_are_cut_over_grpc():
    error = ServingError(Code.INVALID_ARGUMENT, "m" * 3000)
    assert error.details == b"m" * 1024 + b"...TRUNCATED"
    assert error.message == "m" * 3000
    assert ServingError(Code.INVALID_ARGUMENT, "m" * 1024).details == b"m" * 1024
    # The limit is one of bytes, as in TensorFlow Serving, also within a character.
    assert ServingError(Code.INVALID_ARGUMENT, "é" * 600).details == ("é" * 512).encode() + b"...TRUNCATED"
    assert ServingError(Code.INVALID_ARGUMENT, "m" + "é" * 600).details[1020:] == b"\xa9\xc3\xa9\xc3...TRUNCATED"


def test_inputs_in_messages_of_tensorflow_are_cut():
    import tensorflow as tf

    message = f"Could not parse example input, value: '{'v' * 1000}'\n\t [[{{{{node ParseExample}}}}]]"
    found = as_serving_error(tf.errors.InvalidArgumentError(None, None, message))
    assert found.code == Code.INVALID_ARGUMENT
    assert found.message.endswith("vvv'\n\t [[{{node ParseExample}}]]")
    assert len(found.message) < 300


def test_failed_loads_are_counted(tmp_path):
    (tmp_path / "1").mkdir()
    metrics = Metrics()
    with pytest.raises(OSError, match="SavedModel"):
        load(tmp_path / "1", "m", 1, LoadSettings().read, LoadSettings(metrics=metrics))
    line = f':tensorflow:cc:saved_model:load_attempt_count{{model_path="{tmp_path / "1"}",status="fail"}} 1'
    assert line in metrics.page().splitlines()


def test_batches_are_counted(base):
    batching = BatchingParameters(max_batch_size=4, allowed_batch_sizes=(4,), num_batch_threads=1)
    with serving({"default": base}, batching=batching) as client:
        assert client.prediction.Predict(_parse("PredictRequest", PREDICT), timeout=600).outputs["y"].float_val == [3.0]
        found = {name: value for name, value in metrics(client).items() if "batching_session" in name}
    assert found["batching_session:wrapped_run_count{}"] == 1
    assert found["batching_session:input_batch_size_sum{}"] == 1
    assert found["batching_session:processed_batch_size_sum{}"] == 4
    assert found['batching_session:padding_size_sum{execution_batch_size="4"}'] == 3
    queued = 'batching_session:queuing_latency_count{thread_pool_name="batch"}'
    assert found[queued] == 1

"""Small SavedModels with several signatures, requests for them, and servers, for the tests of serving.

The model "toy": serving_default x (B, 2) -> y = factor x; pair a, b -> sum, product; text t -> length, doubled_bytes;
spin n (B,) -> s, whose time is proportional to n. The factor identifies the version.
"""

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from export.server.config import model_config
from export.server.server import Server, ServerSettings


def save_toy(folder: Path, factor: float = 2.0, megabytes: int = 0) -> Path:
    """Writes the toy as a SavedModel, with an unused weight of `megabytes` megabytes."""
    import tensorflow as tf

    class Toy(tf.Module):
        def __init__(self):
            super().__init__()
            self.factor = tf.Variable(factor, name="factor")
            self.ballast = tf.Variable(tf.zeros([megabytes, 2**18]), name="ballast")

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
        def scale(self, x):
            return {"y": self.factor * x}

        @tf.function(
            input_signature=[tf.TensorSpec([None], tf.float32, name="a"), tf.TensorSpec([None], tf.int64, name="b")]
        )
        def pair(self, a, b):
            return {"sum": a + tf.cast(b, tf.float32), "product": a * tf.cast(b, tf.float32)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="t")])
        def text(self, t):
            return {"length": tf.strings.length(t), "doubled_bytes": tf.strings.join([t, t])}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="n")])
        def spin(self, n):
            slots, start = tf.reduce_max(n), tf.ones([128, 128])
            _, end = tf.while_loop(
                lambda i, _: i < slots, lambda i, m: (i + 1, tf.nn.softmax(m @ m)), [tf.constant(0), start]
            )
            return {"s": tf.reduce_sum(end) * tf.ones_like(n, tf.float32)}

    toy = Toy()
    signatures = {"serving_default": toy.scale, "pair": toy.pair, "text": toy.text, "spin": toy.spin}
    tf.saved_model.save(toy, str(folder), signatures=signatures)
    return folder


def save_examples_model(folder: Path) -> Path:
    """Writes a model that takes tf.Examples with a feature x: signatures classify (default), scores, regress, wrong."""
    v1 = __import__("tensorflow").compat.v1
    utils = v1.saved_model.signature_def_utils
    with v1.Graph().as_default(), v1.Session() as session:
        examples = v1.placeholder(v1.string, [None], name="examples")
        x = v1.io.parse_example(examples, {"x": v1.io.FixedLenFeature([], v1.float32)})["x"]
        scores = v1.stack([x, 1 - x], 1)
        classes = v1.tile(v1.constant([["yes", "no"]]), [v1.shape(x)[0], 1])
        classify = utils.classification_signature_def(examples, classes, scores)
        regress = utils.regression_signature_def(examples, 2 * x)
        wrong = utils.regression_signature_def(examples, v1.tile(2 * x, [2]))
        builder = v1.saved_model.builder.SavedModelBuilder(str(folder))
        signatures = {"serving_default": classify, "regress": regress, "wrong": wrong}
        signatures["scores"] = utils.classification_signature_def(examples, None, scores)
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map=signatures)
        builder.save()
    return folder


def write_version(template: Path, base: Path, number: int, factor: float) -> Path:
    """Writes a version of the toy as exporters do: under another name, which is changed to its number at the end."""
    partial = base / f"writing-{number}"
    shutil.copytree(template, partial)
    _set_factor(partial, factor)
    return partial.rename(base / str(number))


def _set_factor(version: Path, factor: float) -> None:
    import tensorflow as tf

    prefix = str(version / "variables" / "variables")
    reader = tf.train.load_checkpoint(prefix)
    values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    (name,) = (name for name in values if name.startswith("factor/"))
    values[name] = np.float32(factor)
    for old in version.glob("variables/*"):
        old.unlink()
    tensors = [tf.constant(value) for value in values.values()]
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=list(values), shape_and_slices=[""] * len(values), tensors=tensors)


def write_warm_up(version: Path, records: list[bytes]) -> None:
    import tensorflow as tf

    (version / "assets.extra").mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(version / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        for record in records:
            writer.write(record)


def settings(**options: Any) -> ServerSettings:
    """Settings with free ports and frequent scans for versions."""
    return ServerSettings(**{"port": 0, "rest_port": 0, "poll_seconds": 0.05, **options})


@contextmanager
def serving(models: dict[str, Path], **options: Any) -> Iterator["Client"]:
    """A client of a running server that serves `models`, name -> base folder."""
    with Server(model_config(models), settings(**options)) as server:
        client = Client(server.port, server.rest_port)
        client.server = server
        yield client
        client.channel.close()


class Client:
    """Sends requests with the official stubs and with urllib, as any client does."""

    server: Server

    def __init__(self, port: int, rest_port: int, channel: Any = None) -> None:
        import grpc
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        self.port, self.rest_port = port, rest_port
        self.channel = channel or grpc.insecure_channel(f"127.0.0.1:{port}")
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.model = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def predict(self, inputs: dict[str, Any], *, seconds: float | None = 20, **spec: Any) -> dict[str, np.ndarray]:
        import tensorflow as tf

        response = self.prediction.Predict(predict_request(inputs, **spec), timeout=seconds)
        return {alias: tf.make_ndarray(tensor) for alias, tensor in response.outputs.items()}

    def rest(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """(status, document) of a REST request; a body other than bytes is sent as JSON."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.rest_port}{path}", data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def states(self, model: str) -> dict[int, int]:
        """Version -> state."""
        from tensorflow_serving.apis import get_model_status_pb2

        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        answer = self.model.GetModelStatus(request, timeout=20)
        return {status.version: status.state for status in answer.model_version_status}


def predict_request(
    inputs: dict[str, Any],
    model: str | None = "toy",
    version: int | None = None,
    label: str | None = None,
    signature: str = "",
    outputs: tuple[str, ...] = (),
) -> Any:
    """Makes a PredictRequest from arrays or TensorProtos."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest(output_filter=outputs)
    if model is not None:
        request.model_spec.name = model
    if signature:
        request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    for alias, value in inputs.items():
        proto = value if hasattr(value, "tensor_shape") else tf.make_tensor_proto(value)
        request.inputs[alias].CopyFrom(proto)
    return request


def examples_request(
    message: Any,
    model: str = "examples",
    signature: str = "",
    version: int | None = None,
    x: tuple[float, ...] = (0.25,),
) -> Any:
    """Fills a classify or regress request with one example for each value of the feature x."""
    import tensorflow as tf

    message.model_spec.name, message.model_spec.signature_name = model, signature
    if version is not None:
        message.model_spec.version.value = version
    for value in x:
        feature = tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        message.input.example_list.examples.append(tf.train.Example(features=tf.train.Features(feature={"x": feature})))
    return message


def tensor(text: str) -> Any:
    """Reads a TensorProto from its text format."""
    from google.protobuf import text_format
    from tensorflow.core.framework import tensor_pb2

    return text_format.Parse(text, tensor_pb2.TensorProto())

"""TensorFlow Serving's REST API: answers an HTTP request with a status and JSON."""

import json
import re
from typing import Any
from urllib.parse import unquote

from ..http.messages import Request, Response, shortened
from .classify_regress import classify, regress
from .core import ServingCore
from .errors import ServingError, invalid
from .json_requests import (
    classes_text,
    fill_input,
    parse_request,
    predict_inputs,
    predict_text,
    signature_name,
    values_text,
)
from .json_writer import error_text
from .limits import Deadline
from .metrics import METRICS_PATH
from .predict import METADATA_FIELD, check_input_names, metadata, predict_signature
from .servable import DEFAULT_SIGNATURE, Run, Servable
from .tensor_proto import from_proto

# As TensorFlow Serving answers paths outside of its API.
NOT_FOUND = Response(404, "<h1>Not Found</h1>", "text/html")
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, Content-Encoding, Authorization",
}
VERSION = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
# Paths are read regardless of case, but the method and "metadata" count only in lower case.
RUN = re.compile(rf"(?i)/v1/models/(?P<model>[^/:]+){VERSION}:(?P<method>classify|regress|predict)")
READ = re.compile(rf"(?i)/v1/models(?:/(?P<model>[^/:]+))?{VERSION}(?:/(?P<resource>metadata))?")


class Rest:
    """Answers requests of the REST API.

    Args:
        core: request handling, shared with gRPC.
        seconds: time limit of a request in seconds, because a REST request contains no deadline.
        metrics_path: path of the metrics page; "" for no such page.
        cors: whether responses allow pages of other servers to read them.
    """

    def __init__(self, core: ServingCore, seconds: float, metrics_path: str = METRICS_PATH, cors: bool = False) -> None:
        self._core, self._seconds, self._metrics_path = core, seconds, metrics_path
        self._headers = CORS if cors else {}

    def answer(self, request: Request) -> Response:
        """Answers a request; errors become responses with a status and a JSON message.

        Args:
            request: the request, whose path is such as "/v1/models/NAME:predict". As in TensorFlow Serving, a query
                counts as a part of the path, and no path has one.
        """
        path = request.target
        if self._metrics_path and request.path == self._metrics_path:
            return self._metrics(path)
        if not path.lower().startswith("/v1/"):
            return NOT_FOUND
        if request.method == "OPTIONS":
            return Response(200, "", headers=self._headers)
        pattern = {"POST": RUN, "GET": READ}.get(request.method)
        found = pattern.fullmatch(path) if pattern else None
        method = found["method"] if found and request.method == "POST" else ""
        model = unquote(found["model"] or "") if found else ""
        try:
            with self._core.counted(method, "REST", model):
                return Response(200, self._answer(request, found, method, model), headers=self._headers)
        except ServingError as error:
            return Response(error.http_status, error_text(error.message), headers=self._headers)

    def _metrics(self, path: str) -> Response:
        if path == self._metrics_path:
            return Response(200, self._core.metrics.page(), "text/plain")
        return Response(400, f"Unexpected path: {shortened(path)}. Should be {self._metrics_path}", "text/plain")

    def _answer(self, request: Request, found: re.Match[str] | None, method: str, model: str) -> bytes | str:
        if found is None:
            raise _malformed(request)
        spec = _spec(found, model)
        if request.method == "POST":
            if method not in ANSWERS:
                raise _malformed(request)
            deadline = Deadline(self._seconds)
            return ANSWERS[method](self._core, spec, request.body, deadline)
        if not model:
            raise invalid("Missing model name in request.")
        if found["resource"] == "metadata":
            return _metadata_text(self._core.answer("GetModelMetadata", spec, lambda servable, _: metadata(servable)))
        return _json(self._core.models.status(spec))


def _malformed(request: Request) -> ServingError:
    return invalid(f"Malformed request: {shortened(request.method)} {shortened(request.target)}")


def _spec(found: re.Match[str], model: str) -> Any:
    from tensorflow_serving.apis import model_pb2

    spec = model_pb2.ModelSpec(name=model)
    if found["version"]:
        digits = found["version"].lstrip("0") or "0"  # int() takes no more than 4,300
        if len(digits) > 19 or int(digits) >= 2**63:
            raise invalid(f"Failed to convert version: {shortened(found['version'])} to numeric.")
        spec.version.value = int(digits)
    if found["label"]:
        spec.version_label = unquote(found["label"])
    return spec


def _predict(core: ServingCore, spec: Any, body: bytes, deadline: Deadline) -> bytes:
    document = parse_request(body, deadline.check)

    def work(servable: Servable, run: Run) -> bytes:
        signature = _signature(servable, signature_name(document), core.check_method_names)
        inputs = _inputs(signature, document)
        outputs = servable.compute(signature, inputs, sorted(signature.outputs), run, deadline)
        return predict_text(outputs, by_row="instances" in document)

    return core.answer("Predict", spec, work)


def _signature(servable: Servable, name: str, check_method: bool) -> Any:
    key = shortened(name or DEFAULT_SIGNATURE)
    signature = servable.signature(name, invalid(f'Serving signature name: "{key}" not found in signature def'))
    if not signature.inputs:
        raise invalid(f"Failed to get input map for signature: {shortened(name) or 'DEFAULT'}")
    return signature if not check_method else predict_signature(servable, name, check_method)


def _inputs(signature: Any, document: dict[str, Any]) -> dict[str, Any]:
    import tensorflow as tf

    dtypes = {alias: tf.as_dtype(signature.inputs[alias].dtype).name for alias in sorted(signature.inputs)}
    names = {alias: TENSORFLOW_NAMES.get(name, name) for alias, name in dtypes.items()}
    inputs = predict_inputs(document, names, optional=signature.defaults)
    check_input_names(signature, inputs)
    return inputs | {alias: from_proto(signature.defaults[alias], alias) for alias in names.keys() - inputs.keys()}


def _classify(core: ServingCore, spec: Any, body: bytes, deadline: Deadline) -> bytes:
    from tensorflow_serving.apis import classification_pb2

    request = classification_pb2.ClassificationRequest(model_spec=spec)
    _fill_request(request, body, deadline)
    return core.answer(
        "Classify",
        spec,
        lambda servable, run: classes_text(classify(servable, request, run, deadline, core.check_method_names).result),
    )


def _regress(core: ServingCore, spec: Any, body: bytes, deadline: Deadline) -> bytes:
    from tensorflow_serving.apis import regression_pb2

    request = regression_pb2.RegressionRequest(model_spec=spec)
    _fill_request(request, body, deadline)
    return core.answer(
        "Regress",
        spec,
        lambda servable, run: values_text(regress(servable, request, run, deadline, core.check_method_names).result),
    )


def _fill_request(request: Any, body: bytes, deadline: Deadline) -> None:
    document = parse_request(body, deadline.check)
    request.model_spec.signature_name = signature_name(document)
    fill_input(document, request.input)


ANSWERS = {"predict": _predict, "classify": _classify, "regress": _regress}
TENSORFLOW_NAMES = {"float32": "float", "float64": "double", "float16": "half"}


def _json(message: Any) -> str:
    """Formats a message as JSON as C++'s Protocol Buffers do."""
    from google.protobuf import json_format

    document = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _metadata_text(response: Any) -> str:
    from tensorflow_serving.apis import get_model_metadata_pb2

    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata[METADATA_FIELD].Unpack(signatures)
    return (
        f'{{\n"model_spec":{_json(response.model_spec)},\n"metadata": {{"{METADATA_FIELD}": {_json(signatures)}}}\n}}\n'
    )

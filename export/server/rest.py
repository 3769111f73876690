"""TensorFlow Serving's REST API: answers an HTTP request with a status and JSON."""

import json
import re
from typing import Any
from urllib.parse import unquote

from ..http.messages import Request, Response, error_response, shortened
from .classify_regress import classify, regress
from .core import ServingCore
from .errors import ServingError, invalid
from .json_requests import classes_text, fill_input, predict_inputs, predict_text, signature_name, values_text
from .json_tensors import parse
from .limits import Deadline
from .metrics import METRICS_PATH
from .predict import METADATA_FIELD, metadata, predict_signature
from .servable import Run, Servable
from .tensor_proto import from_proto

# As TensorFlow Serving answers paths outside of its API.
NOT_FOUND = Response(404, "<h1>Not Found</h1>", "text/html")
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, Content-Encoding, Authorization",
}
VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
RUN = re.compile(
    rf"/v1/models/(?P<model>[^/:]+){VERSION}:(?P<method>classify|regress|predict)", re.IGNORECASE | re.ASCII
)
READ = re.compile(rf"/v1/models(?:/(?P<model>[^/:]+))?{VERSION}(?:/(?P<metadata>metadata))?", re.IGNORECASE | re.ASCII)


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
            request: the request, whose path is such as "/v1/models/NAME:predict".
        """
        path = request.path
        if self._metrics_path and path == self._metrics_path:
            return Response(200, self._core.metrics.page(), "text/plain")
        if not path.lower().startswith("/v1/"):
            return NOT_FOUND
        if request.method == "OPTIONS":
            return Response(200, "", headers=self._headers)
        try:
            return Response(200, self._answer(request.method, path, request.body), headers=self._headers)
        except ServingError as error:
            return error_response(error.http_status, error.message, self._headers)

    def _answer(self, method: str, path: str, body: bytes) -> str:
        found = {"POST": RUN, "GET": READ}[method].fullmatch(path) if method in ("POST", "GET") else None
        if found is None:
            raise invalid(f"Malformed request: {method} {shortened(path)}")
        spec = _spec(found)
        if method == "POST":
            return self._run(found["method"].lower(), spec, body)
        return self._metadata(spec) if found["metadata"] else _status_text(self._core.models.status(spec))

    def _run(self, method: str, spec: Any, body: bytes) -> str:
        deadline = Deadline(self._seconds)
        work = {"predict": _predict, "classify": _classify, "regress": _regress}[method]
        api = method.capitalize()
        return self._core.answer(api, "REST", spec, lambda servable, run: work(servable, run, spec, body, deadline))

    def _metadata(self, spec: Any) -> str:
        response = self._core.answer("GetModelMetadata", "REST", spec, lambda servable, _: metadata(servable))
        return _metadata_text(response)


def _spec(found: re.Match[str]) -> Any:
    from tensorflow_serving.apis import model_pb2

    if not found["model"]:
        raise invalid("Missing model name in request.")
    spec = model_pb2.ModelSpec(name=unquote(found["model"]))
    if found["version"]:
        digits = found["version"].lstrip("0") or "0"  # int() takes no more than 4,300
        if len(digits) > 19 or int(digits) >= 2**63:
            raise invalid(f"Failed to convert version: {shortened(found['version'])} to numeric.")
        spec.version.value = int(digits)
    if found["label"]:
        spec.version_label = unquote(found["label"])
    return spec


def _predict(servable: Servable, run: Run, spec: Any, body: bytes, deadline: Deadline) -> str:
    from tensorflow.core.framework import types_pb2

    document = parse(body)
    name = signature_name(document)
    signature = predict_signature(servable, name)
    if not signature.inputs:
        raise invalid(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    dtypes = {
        alias: types_pb2.DataType.Name(signature.inputs[alias].dtype)[len("DT_") :].lower()
        for alias in sorted(signature.inputs)
    }
    inputs = predict_inputs(document, dtypes, optional=signature.defaults)
    inputs |= {alias: from_proto(signature.defaults[alias], alias) for alias in dtypes.keys() - inputs.keys()}
    outputs = servable.compute(signature, inputs, sorted(signature.outputs), run, deadline)
    return predict_text(outputs, by_row="instances" in document)


def _classify(servable: Servable, run: Run, spec: Any, body: bytes, deadline: Deadline) -> str:
    from tensorflow_serving.apis import classification_pb2

    request = classification_pb2.ClassificationRequest(model_spec=spec)
    _fill_request(request, body)
    return classes_text(classify(servable, request, run, deadline).result)


def _regress(servable: Servable, run: Run, spec: Any, body: bytes, deadline: Deadline) -> str:
    from tensorflow_serving.apis import regression_pb2

    request = regression_pb2.RegressionRequest(model_spec=spec)
    _fill_request(request, body)
    return values_text(regress(servable, request, run, deadline).result)


def _fill_request(request: Any, body: bytes) -> None:
    document = parse(body)
    request.model_spec.signature_name = signature_name(document)
    fill_input(document, request.input)


def _status_text(response: Any) -> str:
    return json.dumps(_as_dict(response), indent=1)


def _metadata_text(response: Any) -> str:
    from tensorflow_serving.apis import get_model_metadata_pb2

    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata[METADATA_FIELD].Unpack(signatures)
    answer = {"model_spec": _as_dict(response.model_spec), "metadata": {METADATA_FIELD: _as_dict(signatures)}}
    return json.dumps(answer, indent=1)


def _as_dict(message: Any) -> dict[str, Any]:
    from google.protobuf import json_format

    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )

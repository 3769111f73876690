"""The gRPC server: TensorFlow Serving's PredictionService and ModelService, and gRPC's health service."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..http.errors import ListenError
from ..http.tokens import Token
from .classify_regress import classify, multi_inference, regress
from .config import SSLConfig
from .core import ServingCore
from .errors import Code, ServingError, invalid
from .grpc_interceptors import malformed_interceptor, token_interceptor
from .limits import Deadline
from .predict import check_metadata_fields, metadata, predict

HEALTH_NAMES = ("", "PredictionService", "ModelService")  # without their package, as in TensorFlow Serving
SPARE_THREADS = 8  # threads in addition to one per request, which refuse requests and report health under full load


class PredictionService:
    """TensorFlow Serving's PredictionService: Predict, Classify, Regress, MultiInference and GetModelMetadata.

    The names of the methods are those of the gRPC service.

    Args:
        core: request handling.
    """

    def __init__(self, core: ServingCore) -> None:
        self._core = core

    def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._counted("Predict", predict, request, context)

    def Classify(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._counted("Classify", classify, request, context)

    def Regress(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._counted("Regress", regress, request, context)

    def MultiInference(self, request: Any, context: Any) -> Any:  # noqa: N802
        from tensorflow_serving.apis import model_pb2

        spec = request.tasks[0].model_spec if request.tasks else model_pb2.ModelSpec()
        work = self._work("MultiInference", multi_inference, request, spec, context)
        return _respond(context, work)

    def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        def answer() -> Any:
            _check_spec(request)
            check_metadata_fields(request.metadata_field)
            return self._core.answer("GetModelMetadata", request.model_spec, lambda servable, _: metadata(servable))

        return _respond(context, answer)

    def _counted(self, api: str, method: Callable[..., Any], request: Any, context: Any) -> Any:
        work = self._work(api, method, request, request.model_spec, context)

        def answer() -> Any:
            with self._core.counted(api, "GRPC", request.model_spec.name):
                _check_spec(request)
                return work()

        return _respond(context, answer)

    def _work(self, api: str, method: Callable[..., Any], request: Any, spec: Any, context: Any) -> Callable[[], Any]:
        deadline, check = Deadline(context.time_remaining(), context.is_active), self._core.check_method_names
        return lambda: self._core.answer(
            api, spec, lambda servable, run: method(servable, request, run, deadline, check)
        )


class ModelService:
    """TensorFlow Serving's ModelService: GetModelStatus and HandleReloadConfigRequest.

    The names of the methods are those of the gRPC service.

    Args:
        core: request handling.
    """

    def __init__(self, core: ServingCore) -> None:
        self._core = core

    def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        def answer() -> Any:
            _check_spec(request)
            return self._core.models.status(request.model_spec)

        return _respond(context, answer)

    def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:  # noqa: N802
        from tensorflow_serving.apis import model_management_pb2

        def answer() -> Any:
            metrics, names = self._core.metrics, sorted(set(request.metric_names))
            before = [metrics.first_count(name) for name in names]
            self._core.models.configure(request.config)
            response = model_management_pb2.ReloadConfigResponse()
            response.status.error_code = Code.OK
            for name, count in zip(names, before, strict=True):
                response.metric.add(name=name, int64_value_increase=metrics.first_count(name) - count)
            return response

        return _respond(context, answer)


class GrpcServer:
    """A running gRPC server with TensorFlow Serving's services and gRPC's health service.

    Args:
        core: request handling, shared with REST.
        addresses: addresses to listen on, HOST:PORT or unix:PATH; port 0 selects any free port.
        max_message_bytes: maximum size of a request in bytes; larger requests are rejected.
        ssl: TLS configuration; None for plaintext.
        threads: number of threads that answer requests; None for one per concurrent request and SPARE_THREADS.
        arguments: further channel arguments of gRPC, by name.
        token: secret that requests must contain, except those of the health service; None for none.
        ready: function that returns whether the server should get requests; None to ask for the models only.

    Attributes:
        port: port on which the server listens; 0 if it listens only on a Unix socket.

    Raises:
        ListenError: the server cannot listen on an address.
    """

    def __init__(
        self,
        core: ServingCore,
        addresses: Sequence[str],
        max_message_bytes: int,
        ssl: SSLConfig | None,
        *,
        threads: int | None = None,
        arguments: Sequence[tuple[str, int | str]] = (),
        token: Token | None = None,
        ready: Callable[[], bool] | None = None,
    ) -> None:
        import grpc
        from grpc_health.v1 import health, health_pb2_grpc
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        options: dict[str, int | str] = {
            "grpc.max_receive_message_length": max_message_bytes,
            "grpc.max_send_message_length": -1,
            "grpc.so_reuseport": 0,  # otherwise two servers could share a port
            **dict(arguments),
        }
        self._core, self._ready = core, ready or core.models.ready
        pool = ThreadPoolExecutor(threads or core.in_flight.limit + SPARE_THREADS)
        interceptors = [*([] if token is None else [token_interceptor(token)]), malformed_interceptor()]
        self._server = grpc.server(pool, interceptors=interceptors, options=list(options.items()))
        self._health = health.HealthServicer()
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(core), self._server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(core), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.update_health()
        ports = [_bind(self._server, address, ssl) for address in addresses]
        self.port = 0 if addresses[0].startswith("unix:") else ports[0]
        self._server.start()

    def update_health(self) -> None:
        """Sets the status of the health service: SERVING if the server should get requests, else NOT_SERVING."""
        from grpc_health.v1 import health_pb2

        status = health_pb2.HealthCheckResponse.SERVING if self._ready() else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in HEALTH_NAMES:
            self._health.set(service, status)

    def stop(self, grace: float) -> Any:
        """Refuses new requests, and lets running requests finish within a time limit. Returns immediately.

        Args:
            grace: time limit in seconds; requests that are still running afterwards are cancelled.

        Returns:
            A threading.Event that is set when the server has stopped.
        """
        self._health.enter_graceful_shutdown()
        return self._server.stop(grace)


def _check_spec(request: Any) -> None:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")


def _respond(context: Any, answer: Callable[[], Any]) -> Any:
    """Returns the result of `answer`; if it raises a ServingError, ends the call with the status of the error."""
    import grpc

    try:
        return answer()
    except ServingError as error:
        codes = {code.value[0]: code for code in grpc.StatusCode}
        return context.abort(codes[error.code], error.details)


def _bind(server: Any, address: str, ssl: SSLConfig | None) -> int:
    import grpc

    try:
        if ssl is None:
            return server.add_insecure_port(address)
        pair = (ssl.server_key.encode(), ssl.server_cert.encode())
        authorities = ssl.custom_ca.encode() or None
        credentials = grpc.ssl_server_credentials([pair], authorities, ssl.client_verify)
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise ListenError(f"gRPC cannot listen at {address}: {error}") from None

"""What happens before a gRPC request reaches its method: its token, and messages that cannot be parsed."""

from collections.abc import Callable
from typing import Any

from ..http.tokens import Token

_HEALTH = "/grpc.health.v1.Health/"


def token_interceptor(token: Token) -> Any:
    """Makes a grpc.ServerInterceptor that refuses calls without a token with the status UNAUTHENTICATED.

    Calls of the health service are answered without it, because probes cannot send one.

    Args:
        token: the token, which clients send as the metadata entry authorization: "Bearer TOKEN".
    """
    import grpc

    def refuse(_: Any, context: Any) -> Any:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "The token is missing or wrong: send it as authorization")

    refusal = grpc.unary_unary_rpc_method_handler(refuse)

    class TokenInterceptor(grpc.ServerInterceptor):
        def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
            metadata = {name: value for name, value in details.invocation_metadata if isinstance(value, str)}
            if details.method.startswith(_HEALTH) or token.is_in(metadata):
                return continuation(details)
            return refusal

    return TokenInterceptor()


def malformed_interceptor() -> Any:
    """Makes a grpc.ServerInterceptor that answers messages that cannot be parsed with the status INTERNAL.

    gRPC's own answer is the same, but logs a stack, and the memory of the call (16 kB) is never released.
    """
    import grpc
    from google.protobuf.message import DecodeError

    malformed = object()

    def lenient(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        def parsed(message: bytes) -> Any:
            try:
                return parse(message)
            except DecodeError:
                return malformed

        return parsed

    def checked(method: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def answer(request: Any, context: Any) -> Any:
            if request is malformed:
                return context.abort(grpc.StatusCode.INTERNAL, "Exception deserializing request!")
            return method(request, context)

        return answer

    class MalformedInterceptor(grpc.ServerInterceptor):
        def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
            handler = continuation(details)
            if handler is None or handler.unary_unary is None or handler.request_deserializer is None:
                return handler
            return grpc.unary_unary_rpc_method_handler(
                checked(handler.unary_unary),
                request_deserializer=lenient(handler.request_deserializer),
                response_serializer=handler.response_serializer,
            )

    return MalformedInterceptor()

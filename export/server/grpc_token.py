"""The token of a server over gRPC."""

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

    class Interceptor(grpc.ServerInterceptor):
        def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
            metadata = {name: value for name, value in details.invocation_metadata if isinstance(value, str)}
            if details.method.startswith(_HEALTH) or token.is_in(metadata):
                return continuation(details)
            return refusal

    return Interceptor()

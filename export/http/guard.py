"""Decides which requests are answered: by the name of the server that they name, and by their token."""

from collections.abc import Callable
from urllib.parse import parse_qs

from .asgi import Admit
from .bodies import BodyLimits
from .host_names import HostNames
from .messages import Answer, Request, Response, error_response, shortened
from .tokens import Token

HEALTH, READINESS = "/healthz", "/readyz"
SIGN_IN = "/sign-in"
SIGN_IN_LIMITS = BodyLimits(2**14)
MISDIRECTED = 421


class Guard:
    """Refuses requests for unknown names of the server, and those without its token.

    A browser that asks for a page without the token gets a form for it, and a cookie once the token was sent. HEALTH
    (/healthz: the process answers) and READINESS (/readyz: it should get requests) are answered without either, for
    probes, which know neither name nor token.

    Args:
        names: the names of the server that are answered.
        token: the token; None to answer requests without one.
        base: base path of the server, "" for the root; see `base_path.checked_base_path`.
        secure: whether the server is reached over TLS.
        form: function that makes the form for the token, with status 401, given whether a wrong token was sent; None
            for a server without a page.
        open_paths: paths below the base path that are answered without a token, such as the style of the form.
        unready: function that returns why the server should get no requests, "" if it should. Everybody can read it.
    """

    def __init__(
        self,
        names: HostNames,
        token: Token | None,
        *,
        base: str = "",
        secure: bool = False,
        form: Callable[[bool], Response] | None = None,
        open_paths: tuple[str, ...] = (),
        unready: Callable[[], str] = lambda: "",
    ) -> None:
        self._names, self._token, self._base, self._secure = names, token, base, secure
        self._form, self._open, self._unready = form, open_paths, unready

    @property
    def admit(self) -> Admit:
        """Function that refuses requests before their body is read; see `HttpServer`."""
        return self._refusal

    def answering(self, answer: Answer) -> Answer:
        """Adds the health checks and the form for the token to a function that answers requests.

        Args:
            answer: function that answers requests below the base path, without it.
        """

        def guarded(request: Request) -> Response:
            if request.path == HEALTH and request.method in ("GET", "HEAD"):
                return Response(200, "ok\n", "text/plain")
            if request.path == READINESS and request.method in ("GET", "HEAD"):
                reason = self._unready()
                return Response(503 if reason else 200, f"{reason or 'ok'}\n", "text/plain")
            if self._token is not None and self._form is not None and request.path == SIGN_IN:
                return self._signed_in(request, self._token, self._form)
            return answer(request)

        return guarded

    def limits(self, otherwise: Callable[[Request], BodyLimits]) -> Callable[[Request], BodyLimits]:
        """Adds the limits of the form's body to a function that returns those of other requests."""
        path = self._base + SIGN_IN
        return lambda request: SIGN_IN_LIMITS if request.path == path else otherwise(request)

    def _refusal(self, request: Request) -> Response | None:
        path = request.path.removeprefix(self._base)
        if path in (HEALTH, READINESS):
            return None
        host = request.headers.get("host", "")
        if not self._names.answered(host):
            return error_response(
                MISDIRECTED,
                f"The server does not answer for the name {shortened(host, 200)}. If it is one of its names, start it "
                "with --allow-host and this name",
            )
        if self._token is None or path in (SIGN_IN, *self._open) or self._token.is_in(request.headers):
            return None
        if request.method == "OPTIONS":  # browsers send it without a token, to ask what is allowed
            return None
        if self._form is not None and request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            return self._form(False) if path == "/" else Response(303, "", "text/plain", self._to_page)
        return error_response(
            401, "The token is missing or wrong: send it as the header Authorization: Bearer TOKEN",
            {"WWW-Authenticate": "Bearer"},
        )  # fmt: skip

    @property
    def _to_page(self) -> dict[str, str]:
        return {"Location": f"{self._base}/", "Cache-Control": "no-store"}

    def _signed_in(self, request: Request, token: Token, form: Callable[[bool], Response]) -> Response:
        if request.method != "POST":
            return Response(303, "", "text/plain", self._to_page)
        try:
            fields = parse_qs(request.body.decode("latin-1"), max_num_fields=10)
        except ValueError:
            fields = {}
        if not token.equals(fields.get("token", [""])[-1].strip()):
            return form(True)
        cookie = token.cookie(f"{self._base}/", self._secure)
        return Response(303, "", "text/plain", {**self._to_page, "Set-Cookie": cookie})

"""The form in which a browser's user enters the token of a server."""

from keras_retrieval.pipelines.pages.render import render

from ..http.messages import Response
from .routes import GUARD

STYLE = "/static/style.css"


def sign_in(wrong: bool) -> Response:
    """Makes the form.

    Args:
        wrong: whether the user has sent a wrong token.

    Returns:
        A response with status 401.
    """
    html = render("sign_in.html.j2", kind="search", title="Sign in", wrong=wrong)
    policy = GUARD["Content-Security-Policy"].replace("form-action 'none'", "form-action 'self'")
    headers = {**GUARD, "Content-Security-Policy": policy, "Cache-Control": "no-store"}
    return Response(401, html, "text/html; charset=utf-8", headers)

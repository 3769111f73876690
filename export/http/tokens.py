"""The token of a server: a secret that its clients send with each request."""

import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import TokenError

LEAST, MOST = 16, 4096  # characters of a token
COOKIE_SECONDS = 30 * 24 * 3600
_MAKE = "python -c 'import secrets; print(secrets.token_urlsafe(32))' makes one"


class Token:
    """A secret that clients send in the header Authorization, or browsers in a cookie.

    Comparisons take the same time whatever is compared.

    Args:
        secret: the secret.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self.cookie_name = f"keras-retrieval-{self._derived('name')[:8]}"
        self._cookie_value = self._derived("cookie")

    @property
    def secret(self) -> str:
        """The secret, which clients send as "Bearer SECRET" in the header Authorization."""
        return self._secret.decode()

    def equals(self, text: str) -> bool:
        """Returns whether a text is the secret."""
        return hmac.compare_digest(text.encode(errors="replace"), self._secret)

    def is_in(self, headers: Mapping[str, str]) -> bool:
        """Returns whether the headers of a request contain the token, as "Bearer TOKEN" or as the cookie.

        Args:
            headers: values of the headers, by name in lower case.
        """
        scheme, _, secret = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.equals(secret.strip()):
            return True
        cookie = self._cookie(headers.get("cookie", ""))
        return hmac.compare_digest(cookie.encode(errors="replace"), self._cookie_value.encode())

    def cookie(self, path: str, secure: bool) -> str:
        """Makes the value of the header Set-Cookie for a browser whose user knows the secret.

        The cookie contains a value that is derived from the secret, not the secret itself.

        Args:
            path: path below which the browser sends the cookie.
            secure: whether the browser must send it over TLS only.
        """
        attributes = f"Path={path}; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Strict{'; Secure' if secure else ''}"
        return f"{self.cookie_name}={self._cookie_value}; {attributes}"

    def _cookie(self, header: str) -> str:
        """The value of this token's cookie; http.cookies takes quadratic time for some headers."""
        found = (part.strip().partition("=") for part in header.split(";"))
        return next((value for name, _, value in found if name == self.cookie_name), "")

    def _derived(self, purpose: str) -> str:
        return hmac.new(self._secret, f"keras-retrieval {purpose}".encode(), hashlib.sha256).hexdigest()


def token_file(label: str, value: Any) -> None:
    """Checks that an option names a file with a token; see `read_token`.

    Args:
        label: the name of the option.
        value: the path.

    Raises:
        TokenError: the file cannot be read or does not contain a token.
    """
    try:
        read_token(Path(value))
    except TokenError as error:
        raise TokenError(f"{label} {error}") from None


def read_token(path: Path) -> Token:
    """Reads a token from the first line of a file; white space around it is ignored.

    Raises:
        TokenError: the file cannot be read, or its first line is not a token of 16 to 4,096 printable ASCII characters
            without blanks.
    """
    try:
        with path.open("rb") as file:
            line = file.readline(MOST + 100)
    except OSError as error:
        raise TokenError(f"{path} cannot be read: {error.strerror or error}") from None
    text = line.decode("latin-1").strip()
    if not LEAST <= len(text) <= MOST or not all("!" <= mark <= "~" for mark in text):
        raise TokenError(
            f"{path}: the first line must be a token of {LEAST} or more characters without blanks: {_MAKE}"
        )
    return Token(text)

"""What the errors of fsspec's packages say: whether they pass, and what to do; addresses without their secrets."""

import re
from urllib.parse import unquote, urlsplit

_PASSING_STATUS = (408, 409, 425, 429)  # of 4xx; 5xx all pass
_FINAL_NAMES = ("Credential", "ParamValidation", "ProfileNotFound", "NoRegion", "InvalidURL", "UnsupportedProtocol")
_USER = re.compile(r"(?<=://)[^/\s?#'\"]*@")
_QUERY = re.compile(r"(://[^\s?'\"<>]*)\?[^\s'\"<>)]*")
_SECRET = re.compile(
    r"\b((?:[\w-]*(?:token|secret|signature|credential|passw(?:or)?d|api[-_]?key|access[-_]?key)[\w-]*|sig)"
    r"(?:%3D|[=:]))[^\s&'\"<>)]+",
    re.IGNORECASE,
)

_ACCESS = {
    "s3": "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS to a key file, or run gcloud auth application-default login",
    "hf": "set HF_TOKEN",
    "http": "the server asks for a login, which FSSPEC_HTTP can hold",
    "https": "the server asks for a login, which FSSPEC_HTTPS can hold",
}
_PUBLIC = "FSSPEC_S3='{\"anon\": true}'"


def shown(text: str) -> str:
    """Returns an address, or a text with addresses, for a message or a manifest: without passwords and tokens.

    User names and passwords before the host, queries such as those of presigned addresses, and values of entries that
    are named as secrets are removed.
    """
    text = _QUERY.sub(r"\1?...", _USER.sub("", text))
    return _SECRET.sub(r"\1...", text)


def has_user(address: str) -> bool:
    """Returns whether a web address has a user name before its host."""
    return "@" in urlsplit(address).netloc


def error_text(error: BaseException, address: str = "") -> str:
    """Returns the kind and the text of an error on one line, without secrets, even if it quotes a part of `address`."""
    text = " ".join(str(error).split())
    user, at, _ = urlsplit(address).netloc.rpartition("@")
    for secret in {user, unquote(user), *user.partition(":")[2:], unquote(user.partition(":")[2])} - {""}:
        text = text.replace(secret + at, "").replace(secret, "...")
    return f"{type(error).__name__}: {shown(text)[:200]}"


def access(scheme: str) -> str:
    """Returns how to give the credentials for addresses of a kind."""
    return _ACCESS.get(scheme, "configure its package of fsspec")


def status_of(error: BaseException) -> int | None:
    """The HTTP status of an error of fsspec's packages; None if it has none."""
    response = getattr(error, "response", None)
    found = getattr(response, "status_code", None) or getattr(response, "status", None)
    if isinstance(response, dict):
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    for value in (found, getattr(error, "status", None) or getattr(error, "code", None)):
        try:
            if value is not None and 100 <= int(value) < 600:
                return int(value)
        except (TypeError, ValueError):
            continue
    cause = error.__cause__
    return None if cause is None else status_of(cause)


def is_missing(error: Exception) -> bool:
    """Whether an error says that there is no such file; fsspec says so of a web server that does not answer, too."""
    status = status_of(error)
    if status is not None:
        return status in (404, 410)
    cause = error.__cause__
    unanswered = isinstance(cause, ConnectionError | TimeoutError) or type(cause).__module__.startswith("aiohttp")
    return isinstance(error, FileNotFoundError) and not unanswered


def is_final(error: Exception) -> bool:
    """Whether an error stays the same however often the request is repeated."""
    status = status_of(error)
    if status is not None and 300 <= status < 500:
        return status not in _PASSING_STATUS
    if isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError | NotImplementedError | ImportError):
        return True
    return isinstance(error, TypeError | AttributeError) or any(part in type(error).__name__ for part in _FINAL_NAMES)


def advice(address: str, error: BaseException) -> str:
    """Returns what to do about an error that stays, for the end of its message; "" if that is not known."""
    scheme = address.partition("://")[0]
    how = access(scheme)
    said, status = _chain(error), status_of(error)
    if any(part in said for part in ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint")):
        return "the bucket is in another region: set AWS_DEFAULT_REGION to it, and AWS_ENDPOINT_URL if it is not AWS's"
    if "RequestTimeTooSkewed" in said:
        return "the clock of this machine is wrong: set it"
    if "Expired" in said:
        return f"the credentials have expired: {how}"
    if any(part in said for part in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken")):
        return f"the credentials are wrong: {how}"
    if "Credential" in said or status == 401 or "Anonymous caller" in said:
        public = f"; {_PUBLIC} reads a public bucket" if scheme == "s3" else ""
        return f"no credentials that are accepted: {how}{public}"
    if status == 403 or isinstance(error, PermissionError):
        return f"the account has no right to this: grant it, or use another account ({how})"
    if "NoRegion" in said:
        return "set AWS_DEFAULT_REGION"
    return ""


def _chain(error: BaseException) -> str:
    """The kinds and texts of an error and of those that caused it."""
    parts, found, seen = [], error, set[int]()
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        response = getattr(found, "response", None)
        code = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
        parts.append(f"{type(found).__name__} {code} {found}")
        found = found.__cause__ or found.__context__  # type: ignore[assignment]
    return " ".join(parts)

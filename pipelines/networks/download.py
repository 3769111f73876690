"""Downloads a file: streamed, continued after an interruption, checked, and renamed when it is complete."""

import contextlib
import hashlib
import http.client
import json
import logging
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from keras_retrieval.errors import RetrievalError
from keras_retrieval.networks.errors import DownloadError

from ..files.locks import lock
from ..files.progress import progress
from ..files.space import is_full_disk, naming_full_disk, require_space

log = logging.getLogger("keras_retrieval")

TIMEOUT = 30.0
"""Seconds without a byte after which a connection is given up."""
TRIES = 4
"""How often a download that stops is continued at once."""
_CHUNK = 1 << 20
_MEGABYTE = 10**6


@dataclass(frozen=True)
class _Answer:
    """The beginning of a server's answer.

    Attributes:
        body: the connection, to be read.
        start: the offset of its first byte in the file.
        total: the size of the file in bytes; None if the server does not say it.
        tag: what identifies this version of the file at the server, for If-Range; "" if the server has none.
    """

    body: Any
    start: int
    total: int | None
    tag: str


class _StoppedError(RetrievalError):
    """The connection ended before the file did; the download can be continued."""


def download(url: str, path: Path, *, sha256: str = "", label: str = "download") -> None:
    """Downloads a file. The path has the whole file or is not changed.

    The bytes are written to `.NAME.partial` beside it. What an interrupted download has left there is continued, if the
    server says that the file is still the same.

    Args:
        url: an http or https address. A redirection from https to http is refused.
        path: the file to write, whose folder is created.
        sha256: the first digits of its SHA-256, in hexadecimal; "" if they are not known.
        label: the name of the operation, for the display of the progress.

    Raises:
        DownloadError: there is no connection; the server refuses, sends a web page or stops; or the file has another
            SHA-256, which is then deleted.
        DiskSpaceError: the file does not fit on the disk.
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with _alone(partial) as file:
        with naming_full_disk(path):
            try:
                _fill(file, url, partial, label)
            except OSError as error:
                if is_full_disk(error):
                    file.truncate(0)
                raise
        found = _sha256(file)
        if not found.startswith(sha256):
            partial.unlink()
            _note(partial).unlink(missing_ok=True)
            raise DownloadError(
                f"{url} is not the published file: its SHA-256 begins with {found[: len(sha256)]}, not {sha256}; it is "
                "deleted"
            )
        os.fsync(file.fileno())
        partial.replace(path)
    _note(partial).unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(partial: Path) -> Iterator[IO[bytes]]:
    """Opens the partial file for one process at a time."""
    with partial.open("a+b") as file:
        try:
            lock(file.fileno(), wait=False)
        except BlockingIOError as error:
            raise DownloadError(f"another process downloads {partial}: wait for it") from error
        try:
            yield file
        finally:
            if partial.is_file() and not os.fstat(file.fileno()).st_size:
                partial.unlink()
                _note(partial).unlink(missing_ok=True)


def _fill(file: IO[bytes], url: str, partial: Path, label: str) -> None:
    """Appends to the partial file what it lacks."""
    for attempt in range(TRIES):
        before = file.seek(0, os.SEEK_END)
        try:
            answer = _ask(url, partial, before)
            with contextlib.closing(answer.body):
                _receive(file, answer, partial, url, label)
        except _StoppedError as stopped:
            done = file.seek(0, os.SEEK_END)
            _keep(file, partial)
            if done > before and attempt + 1 < TRIES:
                continue
            raise DownloadError(
                f"{url} stopped after {done / _MEGABYTE:,.1f} MB ({stopped}): run the command again, which continues it"
            ) from stopped
        return


def _keep(file: IO[bytes], partial: Path) -> None:
    """Empties a partial file that cannot be continued, because the server does not identify its version."""
    if not _note(partial).is_file():
        file.truncate(0)


def _ask(url: str, partial: Path, done: int) -> _Answer:
    request = urllib.request.Request(url, headers={"User-Agent": "keras-retrieval", "Accept-Encoding": "identity"})
    tag = _tag_of(partial, url) if done else ""
    if tag:
        request.add_header("Range", f"bytes={done}-")
        request.add_header("If-Range", tag)
    try:
        body = _OPENER.open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with contextlib.closing(error):
            if error.code == 416 and tag:  # the file is shorter than what is here: begin again
                _note(partial).unlink(missing_ok=True)
                return _ask(url, partial, done)
            raise DownloadError(f"{url}: the server answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise DownloadError(f"{url} cannot be reached: {_words(error.reason)}") from error
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"{url} cannot be reached: {_words(error)}") from error
    return _understood(body, url, done)


def _understood(body: Any, url: str, done: int) -> _Answer:
    headers = body.headers
    if headers.get_content_type() == "text/html":
        body.close()
        raise DownloadError(f"{url}: the server sends a web page instead of the file")
    length = headers.get("Content-Length")
    start = 0
    if body.status == 206:
        span = headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
        start = int(span) if span.isdigit() else -1
        if start != done:
            body.close()
            raise DownloadError(f"{url}: the server sends another part of the file than was asked for")
    total = start + int(length) if length is not None and length.isdigit() else None
    tag = headers.get("ETag") or headers.get("Last-Modified") or ""
    return _Answer(body, start, total, "" if tag.startswith("W/") else tag)


def _receive(file: IO[bytes], answer: _Answer, partial: Path, url: str, label: str) -> None:
    if answer.start == 0:
        file.truncate(0)
    if answer.tag:
        _note(partial).write_text(json.dumps({"url": url, "tag": answer.tag}), encoding="utf-8")
    else:
        _note(partial).unlink(missing_ok=True)
    total, done = answer.total, answer.start
    if total is not None:
        require_space(partial.parent, total - done)
    with progress(label, None if total is None else round(total / _MEGABYTE), "MB") as advance:
        shown = 0
        while True:
            try:
                chunk = answer.body.read(_CHUNK)
            except http.client.IncompleteRead as error:
                file.write(error.partial)
                raise _StoppedError("the connection ended") from error
            except (OSError, http.client.HTTPException) as error:
                raise _StoppedError(_words(error)) from error
            if not chunk:
                break
            file.write(chunk)
            done += len(chunk)
            advance(done // _MEGABYTE - shown)
            shown = done // _MEGABYTE
    file.flush()
    if total is not None and done < total:
        raise _StoppedError("the connection ended")
    if not done:
        raise DownloadError(f"{url}: the server sends an empty file")


def _note(partial: Path) -> Path:
    """The file beside a partial file that states from where and from which version it is."""
    return partial.with_name(f"{partial.name}.json")


def _tag_of(partial: Path, url: str) -> str:
    try:
        note = json.loads(_note(partial).read_text(encoding="utf-8"))
        return str(note["tag"]) if note["url"] == url else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _sha256(file: IO[bytes]) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def _words(error: Any) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT:.0f} seconds"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]


class _Redirections(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if req.full_url.startswith("https:") and urllib.parse.urlsplit(newurl).scheme != "https":
            raise DownloadError(f"{req.full_url} is redirected to {newurl}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_Redirections)

"""Files at addresses such as s3://BUCKET/FOLDER, which fsspec reads and writes (extra `cloud`).

An option of type `Path` can name an address: pathlib writes s3://BUCKET as s3:/BUCKET, from which `address_of` recovers
it. Every request is repeated while the storage does not answer or answers with an error that passes. A file that is not
there is a MissingFileError at once; everything else that lasts is a `RemoteError`, so that an outage is never mistaken
for a missing file.
"""

import html
import logging
import os
import random
import re
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from json import JSONDecodeError
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

from keras_retrieval.errors import ArgumentError, RetrievalError, missing_extra

from .address_list import LIST, address_list
from .remote_errors import access, advice, error_text, is_final, is_missing, shown, status_of
from .s3_listing import s3_session
from .space import is_full_disk, naming_full_disk

log = logging.getLogger("keras_retrieval")

Answer = TypeVar("Answer")

FileState = tuple[int | None, str]
"""Size in bytes, None if the storage does not say, and etag, checksum or time of a file: changes if the file does."""

EXTRA = "cloud"
SCHEMES = ("s3", "gs", "hf", "http", "https", "file", "memory")  # of which the extra has the packages
PATIENCE = 300.0  # seconds for which a request is repeated
_DOUBT = 5.0  # the same for a ValueError, which may be of the address or of an answer that was cut off
READERS = 32  # requests at a time
_NOT_WRITTEN_TO = ("http", "https", "hf", "file")
_WITHOUT_USER = ("s3", "s3a", "gs", "gcs")  # addresses of which begin with the bucket
_REMOVED = 1000  # files that are removed by a request
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 15.0  # seconds between two requests
_WARN_EVERY = 30.0  # seconds between two lines about an outage
_WAITED = 5.0  # seconds after which an outage is logged
_ADDRESS = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):/{1,2}([^/].*)", re.DOTALL)
_ALIASES = {"s3a": "s3", "gcs": "gs"}
_LOCAL_ADDRESS = re.compile(r"(file|local):/+(.*)", re.DOTALL | re.IGNORECASE)
_TAGS = (  # entries of listings, the first of which says whether a file has changed
    "ETag", "etag", "Content-MD5", "Digest", "Last-Modified", "md5Hash", "checksum", "blob_id", "generation",
    "LastModified", "last_modified", "mtime", "updated", "modified", "created",
)  # fmt: skip
_AS_THEY_ARE = "%/:@!$&'()*+,;=~[]"  # characters of a web address, beside letters and digits
_warned = 0.0


class RemoteError(RetrievalError, RuntimeError):
    """A storage does not answer, or refuses a request.

    The step can be run again, and continues; what it was reading or writing is not taken for missing.
    """


class MissingFileError(RetrievalError, FileNotFoundError):
    """A storage answers that there is no file or folder at an address."""


def address_of(path: Path | str) -> str | None:
    """Returns the address that a path names, or None for a path of this machine.

    Args:
        path: the value of an option, such as s3://BUCKET/FOLDER, as text or as pathlib writes it (s3:/BUCKET/FOLDER).

    Returns:
        The address without a slash at its end; the scheme in small letters, s3 for s3a and gs for gcs.
    """
    text = os.fspath(path)
    if local := _LOCAL_ADDRESS.fullmatch(text):
        return f"file:///{local[2]}".rstrip("/")
    found = _ADDRESS.fullmatch(text)
    if not found:
        return None
    scheme = found[1].lower()
    return f"{_ALIASES.get(scheme, scheme)}://{found[2].rstrip('/')}"


def place_text(path: Path) -> str:
    """Returns a folder for a manifest or a message: its address without passwords, or its absolute path."""
    address = address_of(path)
    return str(path.resolve()) if address is None else shown(address)


def named(path: Path) -> str:
    """Returns a file or folder for a message: its address without passwords, or the path as it was given."""
    address = address_of(path)
    return str(path) if address is None else shown(address)


@dataclass(frozen=True)
class RemoteFolder:
    """A folder at an address. Holds no connection, so that it can be pickled.

    Attributes:
        address: the address without a slash at its end, from `address_of`. If it ends in .txt, it is that of a text
            file with the address of a file in each line, see the module `address_list`.
    """

    address: str

    def files(self, *, required: bool = True) -> dict[str, FileState]:
        """Lists all files below the folder, by one listing where the storage has no folders, such as S3.

        Web servers and lists say no sizes: there the header of each file is asked for.

        Args:
            required: whether an address at which there is nothing is an error.

        Returns:
            Maps the name of each file, relative to the folder, to its state.

        Raises:
            MissingFileError: there is nothing at the address, or a file.
            RemoteError: the storage does not answer, or refuses the listing.
            ArgumentError: a list of addresses cannot be read.
        """
        if self._is_list:
            return _asked_one_by_one(self, list(self._listed(anew=True)))
        system, root = _opened(self.address)
        retried(self.address, system.invalidate_cache)
        try:
            entries = self._flat(system, root, required) if _lists_flat(system) else self._walked(system, root)
        except MissingFileError:
            if required:
                raise
            return {}
        found, name_of, tag = {}, self._names(root), ""
        for path, entry in entries.items():
            name = name_of(path)
            if name and name[-1] != "/" and entry.get("type") != "directory":
                tag = tag if entry.get(tag) else _tag(entry)
                found[name] = _state(entry, tag)
        if not found and entries.get(root, {}).get("type") == "file":
            raise MissingFileError(f"{shown(self.address)} is a file, not a folder")
        unknown = [name for name, state in found.items() if state == (None, "")]
        return found | _asked_one_by_one(self, unknown)

    def state(self, name: str) -> FileState:
        """Returns the state of one file.

        Raises:
            MissingFileError: there is no such file.
            RemoteError: the storage does not answer, or refuses.
        """
        system, path = self._at(name)
        entry = retried(f"{self.address}/{name}", lambda: system.info(path))
        return _state(entry, _tag(entry))

    def has(self, name: str) -> bool:
        """Returns whether there is a file of this name; raises RemoteError as `read` does."""
        try:
            self.read(name, 1)  # the answer to a request for a header says nothing of what is wrong
        except MissingFileError:
            return False
        return True

    def read(self, name: str, most: int | None = None) -> bytes:
        """Reads a file.

        Args:
            name: its name, relative to the folder.
            most: number of bytes to ask for from its beginning; None for all. A server that cannot read a part returns
                the whole file.

        Raises:
            MissingFileError: there is no such file.
            RemoteError: the storage does not answer, or refuses.
        """
        system, path = self._at(name)
        part = {} if most is None else {"start": 0, "end": most}

        def content() -> bytes:
            try:
                return system.cat_file(path, **part)
            except Exception as error:
                if most is not None and status_of(error) == 416:  # a part of an empty file
                    return b""
                raise

        return retried(f"{self.address}/{name}", content)

    def fetch(self, name: str, path: Path) -> None:
        """Copies a file to this machine.

        Args:
            name: its name, relative to the folder.
            path: the file to write; what a failed request left of it is written anew.

        Raises:
            MissingFileError: there is no such file.
            RemoteError: the storage does not answer, or refuses.
            DiskSpaceError: the disk is full.
        """
        system, source = self._at(name)
        with naming_full_disk(path):
            retried(f"{self.address}/{name}", lambda: system.get_file(source, str(path)))

    def write(self, name: str, content: bytes) -> None:
        """Writes a file; a reader sees nothing, the earlier file or the whole new one.

        Args:
            name: its name, relative to the folder.
            content: its content.

        Raises:
            RemoteError: the storage does not answer, or refuses; there is no such bucket, for example.
        """
        system, root = _opened(self.address)
        self._written(name, lambda: system.pipe_file(self._path(root, name), content))

    def put(self, name: str, path: Path, wanted: Callable[[], Any] = lambda: None) -> None:
        """Writes a file from one of this machine, as `write` does.

        Args:
            name: its name, relative to the folder.
            path: the file to read.
            wanted: is called before a request is repeated, which may be minutes after the first one, and raises a
                RetrievalError if the file is not to be written any more.

        Raises:
            RemoteError: the storage does not answer, or refuses.
        """
        system, root = _opened(self.address)
        asked = False

        def write() -> None:
            nonlocal asked
            if asked:
                wanted()
            asked = True
            system.put_file(str(path), self._path(root, name))

        self._written(name, write)

    def remove(self, names: Iterable[str]) -> None:
        """Removes files; those that are not there are passed over.

        Raises:
            RemoteError: the storage does not answer, or refuses.
        """
        system, root = _opened(self.address)
        every = [self._path(root, name) for name in names]
        for start in range(0, len(every), _REMOVED):
            some = every[start : start + _REMOVED]
            try:
                retried(self.address, lambda some=some: system.rm(some))  # type: ignore[misc]
            except MissingFileError:
                for path in some:
                    with suppress(MissingFileError):
                        retried(self.address, lambda path=path: system.rm_file(path))  # type: ignore[misc]

    def _written(self, name: str, write: Callable[[], Any]) -> None:
        try:
            retried(f"{self.address}/{name}", write)
        except MissingFileError as error:
            said = error_text(error.__cause__ or error, self.address)
            raise RemoteError(
                f"{shown(self.address)}/{name} cannot be written ({said}): create the bucket first, or name another "
                "place"
            ) from error

    def _names(self, root: str) -> Callable[[str], str]:
        """The function from the path of a listed file to its name, "" for what is not below the folder."""
        above, length, on_web = f"{root}/", len(root) + 1, self._on_web

        def name_of(path: str) -> str:
            name = path[length:] if path.startswith(above) else ""
            if not on_web:
                return name
            return "" if "?" in name or "#" in name else unquote(html.unescape(name))

        return name_of

    def _at(self, name: str) -> tuple[Any, str]:
        """The file system of a file, and its path in it."""
        if self._is_list:
            address = self._listed().get(name)
            if address is None:
                raise MissingFileError(f"{shown(self.address)} does not list {name}")
            system, _ = _opened("/".join(address.split("/")[:3]))
            return system, system._strip_protocol(address)
        system, root = _opened(self.address)
        return system, self._path(root, name)

    @property
    def _is_list(self) -> bool:
        return self.address.endswith(LIST)

    def _listed(self, *, anew: bool = False) -> dict[str, str]:
        """The addresses of the files of a list by their names."""
        key = self.address, os.getpid()
        if anew or key not in _lists:
            system, path = _opened(self.address)
            _lists[key] = address_list(self.address, retried(self.address, lambda: system.cat_file(path)))
        return _lists[key]

    def _path(self, root: str, name: str) -> str:
        return f"{root}/{quote(name) if self._on_web else name}"

    @property
    def _on_web(self) -> bool:
        return self.address.startswith(("http://", "https://"))

    def _flat(self, system: Any, root: str, required: bool) -> dict[str, dict[str, Any]]:
        entries: dict[str, dict[str, Any]] = retried(self.address, lambda: system.find(root, detail=True))
        if required and not entries and not retried(self.address, lambda: system.exists(root)):
            raise MissingFileError(f"{shown(self.address)} does not exist")
        return entries

    def _walked(self, system: Any, root: str) -> dict[str, dict[str, Any]]:
        """Walks over the folders; fsspec's own walk would pass over those that it cannot list."""
        entries: dict[str, dict[str, Any]] = {}
        pending, seen = [root], {root}
        while pending:
            folder = pending.pop()
            listed = f"{folder}/" if self._on_web else folder
            for entry in retried(listed, lambda listed=listed: system.ls(listed, detail=True)):  # type: ignore[misc]
                path = entry["name"].rstrip("/")
                if entry["type"] != "directory":
                    entries[entry["name"]] = entry
                elif path not in seen and path.startswith(f"{root}/") and not (self._on_web and "?" in path):
                    seen.add(path)
                    pending.append(path)
        return entries


_lists: dict[tuple[str, int], dict[str, str]] = {}


def _asked_one_by_one(folder: RemoteFolder, names: list[str]) -> dict[str, FileState]:
    """The states of files that a listing only names; files that are not there are left out."""
    from concurrent.futures import ThreadPoolExecutor

    def state(name: str) -> FileState:
        try:
            return folder.state(name)
        except MissingFileError:  # a link to nothing: reading it will say so
            return None, "missing"

    with ThreadPoolExecutor(READERS) as pool:
        return dict(zip(names, pool.map(state, names), strict=True))


def remote_folder(path: Path) -> RemoteFolder | None:
    """Returns the folder at the address that a path names; None for a path of this machine."""
    address = address_of(path)
    return None if address is None else RemoteFolder(address)


def is_folder(path: Path) -> bool:
    """Whether a path names a folder of this machine that exists, or an address, which is not asked."""
    return address_of(path) is not None or path.is_dir()


def check_address(label: str, path: Path | str) -> None:
    """Checks that the packages that an address needs are installed, and its form; asks the storage nothing.

    Raises:
        ArgumentError: the address is a scheme only; fsspec knows no storage of this kind, or has no package for it that
            the extra installs; it has a user, which the storage does not take; or it is a web address with a query or
            an impossible port.
        MissingExtraError: fsspec, or its package for this storage, is not installed.
    """
    address, text = address_of(path), os.fspath(path)
    if address is None:
        scheme, colon, rest = text.rstrip("/").partition(":")
        if colon and not rest and scheme.lower() in SCHEMES:
            raise ArgumentError(f"{label} {scheme}:// names no place there: give an address such as {scheme}://BUCKET")
        return
    (scheme, _, rest), place = address.partition("://"), shown(address)
    if scheme in _WITHOUT_USER and "@" in rest.partition("/")[0]:
        raise ArgumentError(f"{label} {place}: {scheme}:// addresses have no user and no password: {access(scheme)}")
    try:
        import fsspec

        fsspec.get_filesystem_class(scheme)
    except ValueError as error:
        raise ArgumentError(f"{label} {place}: there is no storage of the kind {scheme}://") from error
    except Exception as error:  # a package that fsspec imports raises what it likes
        name = "fsspec" if getattr(error, "name", "") == "fsspec" else f"The package for {scheme}:// addresses"
        if isinstance(error, ImportError) and (name == "fsspec" or scheme in SCHEMES):
            raise missing_extra(name, EXTRA) from error
        raise ArgumentError(
            f"{label} {place}: fsspec cannot open {scheme}:// ({error_text(error, address)})"
        ) from error
    if scheme in ("http", "https"):
        if "?" in rest or "#" in rest:
            raise ArgumentError(
                f"{label} {place} must be the address of a folder: write ? as %3F and # as %23 in its name"
            )
        try:
            _ = urlsplit(address).port
        except ValueError as error:
            raise ArgumentError(f"{label} {place} is not an address: {error}") from error


def check_writable_address(label: str, path: Path | str) -> None:
    """Checks that folders are written to addresses of this kind, and what `check_address` checks.

    Raises:
        ArgumentError: they are not, such as on web servers; or as for `check_address`.
        MissingExtraError: as for `check_address`.
    """
    address = address_of(path)
    if address is None:
        check_address(label, path)
        return
    scheme = address.partition("://")[0]
    if scheme in _NOT_WRITTEN_TO:
        raise ArgumentError(
            f"{label} {shown(address)}: folders are not written to {scheme}:// addresses: name a folder of this "
            "machine, or an address such as s3://BUCKET/FOLDER or gs://BUCKET/FOLDER"
        )
    if address.endswith(LIST):
        raise ArgumentError(f"{label} {shown(address)} is the address of a list of files: name a folder")
    check_address(label, path)


def _opened(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path of the address in it."""
    return _opened_in_process(address, os.getpid())


@cache
def _opened_in_process(address: str, _process: int) -> tuple[Any, str]:
    import fsspec

    scheme = address.partition("://")[0]
    # A listing is never answered from memory. s3fs would ask for the size of a file before it reads it.
    options: dict[str, Any] = {"use_listings_cache": False}
    if scheme == "s3":
        options["max_concurrency"] = 1
        with suppress(ImportError):  # the error of fsspec says more
            options |= {"session": session} if (session := s3_session(_process)) else {}
    if scheme == "gs" and not (own := logging.getLogger("gcsfs")).level:
        own.setLevel(logging.ERROR)  # it warns at every request of an account that may not ask for the bucket's type
    place = quote(address, safe=_AS_THEY_ARE) if scheme in ("http", "https") else address
    try:
        system, root = retried(address, lambda: fsspec.core.url_to_fs(place, **options))
    except RemoteError as error:
        if isinstance(error.__cause__, ImportError) and scheme in SCHEMES:
            raise missing_extra(f"The package for {scheme}:// addresses", EXTRA) from error
        raise
    return system, root.rstrip("/")


def _lists_flat(system: Any) -> bool:
    """Whether a file system lists everything below a folder by itself, not by a walk over its folders."""
    from fsspec.asyn import AsyncFileSystem
    from fsspec.spec import AbstractFileSystem

    if isinstance(system, AsyncFileSystem):
        return type(system)._find is not AsyncFileSystem._find
    return type(system).find is not AbstractFileSystem.find


def _tag(entry: dict[str, Any]) -> str:
    """The entry of a listing that says whether the file has changed; "" if there is none."""
    return next((key for key in _TAGS if entry.get(key)), "")


def _state(entry: dict[str, Any], tag: str) -> FileState:
    size = entry.get("size")
    return (None if size is None else int(size)), str(entry[tag]) if tag else ""


def retried(what: str, ask: Callable[[], Answer]) -> Answer:
    """Repeats a request until the storage answers.

    Args:
        what: the address that is asked for, for messages.
        ask: the request.

    Raises:
        MissingFileError: the storage answers that there is no such file.
        RemoteError: the storage refuses the request, or has not answered for `PATIENCE` seconds.
    """
    started, wait, place = time.monotonic(), _FIRST_WAIT, shown(what)
    while True:
        try:
            return ask()
        except RetrievalError:
            raise
        except Exception as error:
            if is_full_disk(error):
                raise
            if is_missing(error):
                raise MissingFileError(f"{place} does not exist") from error
            if is_final(error):
                hint = advice(what, error)
                raise RemoteError(f"{place}: {error_text(error, what)}{hint and f': {hint}'}") from error
            waited = time.monotonic() - started
            if isinstance(error, ValueError) and not isinstance(error, JSONDecodeError) and waited + wait > _DOUBT:
                raise RemoteError(f"{place}: {error_text(error, what)}") from error
            if waited + wait > PATIENCE:
                raise RemoteError(
                    f"{place}: no answer in {waited:.0f} s ({error_text(error, what)}): run the command again when the "
                    "storage answers"
                ) from error
            _warn(place, waited, error_text(error, what))
        time.sleep(wait * random.uniform(0.5, 1))
        wait = min(2 * wait, _LONGEST_WAIT)


def _warn(place: str, waited: float, said: str) -> None:
    global _warned
    now = time.monotonic()
    if waited > _WAITED and now - _warned > _WARN_EVERY:
        _warned = now
        log.warning(f"{place}: no answer for {waited:.0f} s ({said}); trying for up to {PATIENCE:.0f} s")

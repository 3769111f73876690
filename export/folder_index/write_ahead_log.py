"""The changes of an index since it was built: a log, each record chained to the one before, and a head that is synced.

A record is the length of its body (8 bytes), SHA-256 of the digest before it and the body, and the body: a line of
JSON, then the rows as float32. Appending syncs the record, then replaces the head, {records, bytes, digest}; only then
is the change acknowledged. So a reader finds: the head's chain, or it was cut or altered (an error); behind it at most
one whole record, which is taken as well, of a writer that was killed or is at work; or half a record, which is not. Two
whole records mean that the head is an old one.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from keras_retrieval.pipelines.files.durable import FolderError, fingerprint, write_file

FileStamp: TypeAlias = tuple[int, int, int]

LOG, HEAD = "log", "head.json"
_LENGTH, _DIGEST = 8, 32


@dataclass(frozen=True)
class Change:
    """What one write did.

    Attributes:
        names: of the photos, each once.
        rows: (n, S) float32 of photos that were added or replaced; None for photos that were deleted.
        columns: column -> a value of each photo.
    """

    names: list[str]
    rows: np.ndarray | None
    columns: dict[str, list[str]]


@dataclass(frozen=True)
class LogPosition:
    """A place between two records: how many stand before it, their bytes, and the digest of the last."""

    records: int
    bytes: int
    digest: str


class WriteAheadLog:
    """The log in a folder.

    Args:
        folder: with log and head.json, or where `write` puts them.
        identity: any text; a log of another is not taken for this one.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder = folder
        self.start = LogPosition(0, 0, hashlib.sha256(identity.encode()).hexdigest())

    def write(self, changes: Iterable[Change] = ()) -> None:
        """Begins a new log that holds these changes."""
        position, records = self.start, []
        for change in changes:
            record, position = _record(change, position)
            records.append(record)
        write_file(self._folder / LOG, b"".join(records))
        self._write_head(position)

    def append(self, change: Change, after: LogPosition) -> LogPosition:
        """Writes a change to the disk; on return it is there for good. One writer at a time.

        Args:
            change: what was done.
            after: where `read` ended; anything behind it is half a record, and goes.

        Returns:
            The position behind it.

        Raises:
            OSError: it is not in the log.
        """
        record, position = _record(change, after)
        with (self._folder / LOG).open("r+b") as file:
            try:
                file.truncate(after.bytes)
                file.seek(after.bytes)
                file.write(record)
                file.flush()
                os.fsync(file.fileno())
                self._write_head(position)
            except OSError:
                file.truncate(after.bytes)
                raise
        return position

    def read(self, since: LogPosition) -> list[tuple[Change, LogPosition]]:
        """The changes after a position, each with the position behind it.

        Raises:
            FolderError: acknowledged changes were cut off or altered, or a file is missing or damaged.
        """
        head = self._head()
        while True:
            found = list(self._scan(since))
            places = [since, *(place for _, place in found)]
            newer = self._head()
            if newer == head:
                break
            head = newer  # a writer was at work between the two files
        # Where the reader has taken the record behind the head before, the head is one behind `since`.
        behind = len(places) if head.records == since.records - 1 else len(places) - 1 - self._place(head, places)
        if behind > 1:
            raise FolderError(f"{self._folder / HEAD} is older than {LOG}: restore it, or index again")
        return found

    def stamp(self) -> FileStamp:
        """What changes whenever the log does. Of the log, which grows: two heads may be of one snapshot."""
        return file_stamp(self._folder / LOG)

    def _place(self, head: LogPosition, places: list[LogPosition]) -> int:
        if head not in places:
            raise FolderError(
                f"{self._folder / LOG} was altered or lacks acknowledged changes: restore it, or index again"
            )
        return places.index(head)

    def _scan(self, since: LogPosition) -> Iterator[tuple[Change, LogPosition]]:
        """Whole records after a position, each with the position behind it, up to the first that does not chain."""
        try:
            with (self._folder / LOG).open("rb") as file:
                file.seek(since.bytes)
                text = file.read()
        except OSError as error:
            raise FolderError(f"{self._folder / LOG} cannot be read ({error}): restore it, or index again") from error
        start, position = 0, since
        while len(text) - start >= _LENGTH + _DIGEST:
            body_at = start + _LENGTH + _DIGEST
            end = body_at + int.from_bytes(text[start : start + _LENGTH], "little")
            body, digest = text[body_at:end], text[start + _LENGTH : body_at]
            if end > len(text) or digest != _digest(position, body):
                return
            position = LogPosition(position.records + 1, position.bytes + end - start, digest.hex())
            yield _change(body), position
            start = end

    def _head(self) -> LogPosition:
        path = self._folder / HEAD
        try:
            head = json.loads(path.read_text(encoding="utf-8"))
            checksum = head.pop("checksum")
            if checksum == fingerprint(head):
                return LogPosition(**head)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise FolderError(f"{path} is missing or damaged ({error}): restore it, or index again") from error
        raise FolderError(f"{path} has changed since it was written: restore it, or index again")

    def _write_head(self, position: LogPosition) -> None:
        head = asdict(position)
        write_file(self._folder / HEAD, json.dumps(head | {"checksum": fingerprint(head)}))


def file_stamp(path: Path) -> FileStamp:
    """What changes when a file is replaced or grows; zeros where there is none."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0, 0
    return status.st_ino, status.st_mtime_ns, status.st_size


def _record(change: Change, after: LogPosition) -> tuple[bytes, LogPosition]:
    width = None if change.rows is None else change.rows.shape[1]
    line = json.dumps({"names": change.names, "width": width, "columns": change.columns})
    rows = b"" if change.rows is None else np.ascontiguousarray(change.rows, "<f4").tobytes()
    body = line.encode() + b"\n" + rows
    digest = _digest(after, body)
    record = len(body).to_bytes(_LENGTH, "little") + digest + body
    return record, LogPosition(after.records + 1, after.bytes + len(record), digest.hex())


def _change(body: bytes) -> Change:
    line, _, rows = body.partition(b"\n")
    said = json.loads(line)
    shape = (len(said["names"]), said["width"])
    found = None if said["width"] is None else np.frombuffer(rows, "<f4").reshape(shape)
    return Change(said["names"], found, said["columns"])


def _digest(after: LogPosition, body: bytes) -> bytes:
    return hashlib.sha256(bytes.fromhex(after.digest) + body).digest()

"""The write-ahead log of a segment: hash-chained records, and a head that states how many are acknowledged.

A record consists of the length of its body (8 bytes), a digest (the SHA-256 of the previous record's digest and the
body), and the body: a line of JSON followed by the rows as float32. Appending syncs the record to the disk, then
replaces the head {records, bytes, digest}; only then is the change acknowledged. A reader finds one of these states:

- only the records that the head states; truncated or altered records are an error;
- one more complete record, of a writer that was killed or is still writing; it is applied as well;
- one more incomplete record, which is ignored;
- two or more further complete records: the head is outdated, which is an error.
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
"""Inode, modification time and size of a file, to notice that it changed."""

LOG, HEAD = "log", "head.json"
_LENGTH, _DIGEST = 8, 32
_REPAIR = "restore it, or index again"


@dataclass(frozen=True)
class Change:
    """One write, which adds (or replaces) photos or deletes them.

    Attributes:
        names: distinct names of the photos.
        rows: stored descriptors of added photos, (n, S) float32; None for a deletion.
        columns: column -> a value for each photo.
    """

    names: list[str]
    rows: np.ndarray | None
    columns: dict[str, list[str]]


@dataclass(frozen=True)
class LogPosition:
    """A position between two records of the log.

    Attributes:
        records: number of records before the position.
        bytes: size of these records.
        digest: digest of the last of these records, in hexadecimal.
    """

    records: int
    bytes: int
    digest: str


class WriteAheadLog:
    """Reads and appends to the log in a folder.

    Args:
        folder: folder of the files log and head.json, which `create` writes.
        identity: unique string of the segment from which the hash chain starts, so that the log of another segment is
            rejected.

    Attributes:
        start: the position before the first record.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder = folder
        self.start = LogPosition(0, 0, hashlib.sha256(identity.encode()).hexdigest())

    def create(self, changes: Iterable[Change] = ()) -> None:
        """Writes a new log with these changes."""
        position, records = self.start, []
        for change in changes:
            record, position = _record(change, position)
            records.append(record)
        write_file(self._folder / LOG, b"".join(records))
        self._write_head(position)

    def append(self, change: Change, after: LogPosition) -> LogPosition:
        """Appends a change durably. Only one writer at a time may call this.

        Args:
            change: the change to append.
            after: position after the last record that `read` returned; an incomplete record there is overwritten.

        Returns:
            The position after the change.

        Raises:
            OSError: the disk failed; the change is not in the log.
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
        """Reads the changes after a position, each with the position after it.

        Raises:
            FolderError: acknowledged changes were truncated or altered, or a file is missing or damaged.
        """
        head = self._head()
        while True:
            found = list(self._scan(since))
            positions = [since, *(position for _, position in found)]
            newer = self._head()
            if newer == head:
                break
            head = newer  # a writer appended a record after the first of the two files was read
        # A reader that applied the record beyond the head is one record ahead of it.
        reader_ahead = head.records == since.records - 1
        beyond = len(positions) if reader_ahead else len(positions) - 1 - self._index_of(head, positions)
        if beyond > 1:
            raise FolderError(f"{self._folder / HEAD} is older than {LOG}: {_REPAIR}")
        return found

    def stamp(self) -> FileStamp:
        """Returns a stamp that changes with every append.

        The stamp is that of the log, which grows, since two heads may have the same time and size.
        """
        return file_stamp(self._folder / LOG)

    def _index_of(self, head: LogPosition, positions: list[LogPosition]) -> int:
        if head not in positions:
            raise FolderError(f"{self._folder / LOG} was altered or lacks acknowledged changes: {_REPAIR}")
        return positions.index(head)

    def _scan(self, since: LogPosition) -> Iterator[tuple[Change, LogPosition]]:
        """Yields complete records after a position, up to the first whose hash does not match."""
        try:
            with (self._folder / LOG).open("rb") as file:
                file.seek(since.bytes)
                content = file.read()
        except OSError as error:
            raise FolderError(f"{self._folder / LOG} cannot be read ({error}): {_REPAIR}") from error
        start, position = 0, since
        while len(content) - start >= _LENGTH + _DIGEST:
            body_start = start + _LENGTH + _DIGEST
            end = body_start + int.from_bytes(content[start : start + _LENGTH], "little")
            body, digest = content[body_start:end], content[start + _LENGTH : body_start]
            if end > len(content) or digest != _digest(position, body):
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
            raise FolderError(f"{path} is missing or damaged ({error}): {_REPAIR}") from error
        raise FolderError(f"{path} has changed since it was written: {_REPAIR}")

    def _write_head(self, position: LogPosition) -> None:
        head = asdict(position)
        write_file(self._folder / HEAD, json.dumps(head | {"checksum": fingerprint(head)}))


def file_stamp(path: Path) -> FileStamp:
    """Returns a stamp that changes when a file is replaced or grows; zeros if the file does not exist."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0, 0
    return status.st_ino, status.st_mtime_ns, status.st_size


def _record(change: Change, after: LogPosition) -> tuple[bytes, LogPosition]:
    """Returns the bytes of a record and the position after it."""
    width = None if change.rows is None else change.rows.shape[1]
    line = json.dumps({"names": change.names, "width": width, "columns": change.columns})
    rows = b"" if change.rows is None else np.ascontiguousarray(change.rows, "<f4").tobytes()
    body = line.encode() + b"\n" + rows
    digest = _digest(after, body)
    record = len(body).to_bytes(_LENGTH, "little") + digest + body
    return record, LogPosition(after.records + 1, after.bytes + len(record), digest.hex())


def _change(body: bytes) -> Change:
    line, _, content = body.partition(b"\n")
    fields = json.loads(line)
    shape = (len(fields["names"]), fields["width"])
    rows = None if fields["width"] is None else np.frombuffer(content, "<f4").reshape(shape)
    return Change(fields["names"], rows, fields["columns"])


def _digest(after: LogPosition, body: bytes) -> bytes:
    return hashlib.sha256(bytes.fromhex(after.digest) + body).digest()

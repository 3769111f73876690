"""The write-ahead log of a segment: a file of hash-chained records, and a head file with the number of valid records.

Each record is one change. It consists of the length of its body (8 bytes), a digest (the SHA-256 of the previous
record's digest and the body), and the body: a line of JSON followed by the stored descriptors as float32, and in an
index with crops by their boxes. A record without a width deletes photos; the width 0 changes columns. A record with
types adds columns of these types, which are empty for all photos before it is applied.

To append a change, a writer writes the new head {records, bytes, digest} under a temporary name and the record to the
disk (fsync), and then renames the head, which needs no space. The change is acknowledged to the caller only after that.
A writer that finds a record beyond the head, of a writer that was killed, first brings the head up to date. A reader
finds one of these states:

- The log contains only the records that the head states. If these are truncated or altered, reading raises an error.
- One more complete record follows, of a writer that was killed or is still writing. The record is applied as well.
- One more incomplete record follows, which is ignored.
- Two or more complete records follow. The head is outdated, and reading raises an error.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from keras_retrieval.pipelines.files.durable import FolderError, atomic_path, fingerprint, sync, write_file
from keras_retrieval.pipelines.files.space import naming_full_disk

from ..index_contract.photo_crops import PhotoCrops

FileStamp: TypeAlias = tuple[int, int, int]
"""Inode, modification time in nanoseconds and size in bytes of a file; they differ if the file has changed."""

LOG, HEAD = "log", "head.json"
_LENGTH, _DIGEST = 8, 32
_HEAD_BYTES = 4096  # on the disk
_COLUMN_CHANGES = 20  # photos of which columns are changed that count as one row
_REPAIR = "restore it, or index again"


@dataclass(frozen=True)
class Change:
    """One change of an index: it adds (or replaces) n photos, deletes n photos, or changes columns of n photos.

    Attributes:
        names: distinct names of the photos.
        rows: stored descriptors of the added photos, (n, S) float32, or (R, S) with crops; None for other changes.
        columns: one value per photo, by column name; empty for a deletion.
        crops: the crops of the added photos; None for a deletion, and in an index without crops.
        types: types of columns that the change adds to the index, by column name.
    """

    names: list[str]
    rows: np.ndarray | None
    columns: dict[str, list[str]]
    crops: PhotoCrops | None = None
    types: Mapping[str, str] = field(default_factory=dict)

    @property
    def on_columns(self) -> bool:
        """Whether the change is of columns only."""
        return self.rows is None and bool(self.columns or self.types)

    @property
    def cost(self) -> int:
        """The number of rows that the change adds, or counts as: 1 for 20 photos of which columns are changed."""
        if self.on_columns:
            return -(-len(self.names) // _COLUMN_CHANGES)
        return len(self.names) if self.rows is None else len(self.rows)


@dataclass(frozen=True)
class LogPosition:
    """A position in the log, between two records.

    Attributes:
        records: number of records before the position.
        bytes: size of these records in bytes.
        digest: SHA-256 of the last of these records, in hexadecimal.
    """

    records: int
    bytes: int
    digest: str


class WriteAheadLog:
    """Reads the write-ahead log in a folder, and appends changes to it.

    Args:
        folder: folder of the files log and head.json, which `create` writes.
        identity: unique string of the segment, with which the hash chain starts, so that the log of another segment is
            rejected.

    Attributes:
        start: the position before the first record.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder = folder
        self.start = LogPosition(0, 0, hashlib.sha256(identity.encode()).hexdigest())

    def create(self, changes: Iterable[Change] = ()) -> None:
        """Writes a new log that contains the given changes, in order."""
        position, records = self.start, []
        for change in changes:
            record, position = _record(change, position)
            records.append(record)
        write_file(self._folder / LOG, b"".join(records))
        write_file(self._folder / HEAD, _head_text(position))

    def append(self, change: Change, after: LogPosition) -> LogPosition:
        """Appends a change and waits until it is on disk. Only one writer at a time may call this method.

        Args:
            change: the change to append.
            after: position after the last record that `read` returned; an incomplete record after this position is
                overwritten.

        Returns:
            The position after the change.

        Raises:
            DiskSpaceError: the disk is full; the change is not in the log.
            OSError: the disk failed; the change is not in the log.
        """
        record, position = _record(change, after)
        path = self._folder / LOG
        with naming_full_disk(path, len(record) + _HEAD_BYTES), path.open("r+b", buffering=0) as file:
            if self._head().records < after.records:  # otherwise two records would follow if this writer is killed, too
                sync(file.fileno())
                write_file(self._folder / HEAD, _head_text(after))
            try:
                with atomic_path(self._folder / HEAD) as head:
                    head.write_text(_head_text(position), encoding="utf-8")
                    file.truncate(after.bytes)
                    file.seek(after.bytes)
                    _write_all(file, record)
                    sync(file.fileno())
            except BaseException:
                if self._head() != position:  # otherwise the change is in the log already
                    file.truncate(after.bytes)
                raise
        return position

    def read(self, since: LogPosition) -> list[tuple[Change, LogPosition]]:
        """Reads the changes after a position.

        Args:
            since: position from `start`, `append` or an earlier `read`.

        Returns:
            Each change with the position after it, in order.

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
        # A reader that has applied the record beyond the head is one record ahead of the head.
        reader_ahead = head.records == since.records - 1
        beyond = len(positions) if reader_ahead else len(positions) - 1 - self._index_of(head, positions)
        if beyond > 1:
            raise FolderError(f"{self._folder / HEAD} is older than {LOG}: {_REPAIR}")
        return found

    def stamp(self) -> FileStamp:
        """Returns a stamp that changes with every append.

        The stamp is that of the log file, which grows, because two versions of the head file may have the same time and
        size.
        """
        return file_stamp(self._folder / LOG)

    def _index_of(self, head: LogPosition, positions: list[LogPosition]) -> int:
        if head not in positions:
            raise FolderError(f"{self._folder / LOG} was altered or lacks acknowledged changes: {_REPAIR}")
        return positions.index(head)

    def _scan(self, since: LogPosition) -> Iterator[tuple[Change, LogPosition]]:
        """Yields complete records after a position, up to the first record whose digest does not match."""
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


def _head_text(position: LogPosition) -> str:
    head = asdict(position)
    return json.dumps(head | {"checksum": fingerprint(head)})


def _write_all(file: IO[bytes], content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def file_stamp(path: Path) -> FileStamp:
    """Returns a stamp that changes when a file is replaced or grows; (0, 0, 0) if the file does not exist."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0, 0
    return status.st_ino, status.st_mtime_ns, status.st_size


def _record(change: Change, after: LogPosition) -> tuple[bytes, LogPosition]:
    """Returns the bytes of the record of a change, and the position after the record."""
    width = None if change.rows is None else change.rows.shape[1]
    width = 0 if change.on_columns else width
    fields = {"names": change.names, "width": width, "columns": change.columns}
    rows = b"" if change.rows is None else np.ascontiguousarray(change.rows, "<f4").tobytes()
    if change.crops is not None:
        fields["counts"] = change.crops.counts.tolist()
        rows += np.ascontiguousarray(change.crops.boxes, "<f4").tobytes()
    fields |= {"types": dict(change.types)} if change.types else {}
    body = json.dumps(fields).encode() + b"\n" + rows
    digest = _digest(after, body)
    record = len(body).to_bytes(_LENGTH, "little") + digest + body
    return record, LogPosition(after.records + 1, after.bytes + len(record), digest.hex())


def _change(body: bytes) -> Change:
    line, _, content = body.partition(b"\n")
    fields = json.loads(line)
    width, counts = fields["width"], fields.get("counts")
    change = Change(fields["names"], None, fields["columns"], types=fields.get("types", {}))
    if not width:
        return change
    values = np.frombuffer(content, "<f4")
    if counts is None:
        return replace(change, rows=values.reshape(len(fields["names"]), width))
    counts = np.array(counts, np.int64)
    count = int(counts.sum())
    rows, boxes = values[: count * width].reshape(count, width), values[count * width :].reshape(count, 4)
    return replace(change, rows=rows, crops=PhotoCrops(counts, boxes))


def _digest(after: LogPosition, body: bytes) -> bytes:
    return hashlib.sha256(bytes.fromhex(after.digest) + body).digest()

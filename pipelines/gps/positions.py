"""The command `keras-retrieval positions PHOTOS positions.csv`, which lists where and when photos were taken."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from keras_retrieval.errors import printable

from ..command.options import takes
from ..files.durable import FolderError, write_file
from ..files.remote import named
from ..photos.positions import PositionError
from .options import PositionOptions
from .records import DECIMALS, Record, read_records

COLUMNS = (
    "photo", "latitude", "longitude", "altitude", "heading", "heading_reference", "time", "time_reference", "date",
    "year", "accuracy", "dop",
)  # fmt: skip
TIME_COLUMNS = ("photo", "time", "time_reference", "date", "year")
_QUOTED = set(',;"|\t\r\n')


@takes(PositionOptions)
def positions(options: PositionOptions) -> Path:
    """Lists the positions, headings and times that cameras recorded in the EXIF or XMP metadata of photos.

    OUTPUT has a row for each photo with a position, sorted by name, with the columns photo, latitude and longitude in
    degrees (WGS84, south and west negative), altitude in metres, heading in degrees clockwise from north with
    heading_reference true or magnetic, time with time_reference UTC or local, date and year, accuracy in metres, and
    dop. What the metadata lacks is empty. The table is a source of `tuples`, a file for --positions of `pairs`, and a
    table for --columns of `index`. Photos without a position are counted by reason.

    Returns:
        The path `output`.

    Raises:
        ArgumentError: a file to write does not end in .csv, or both have one name.
        FolderError: a file to write exists, and `replace` is not set.
        PhotoFolderError: the folder of photos does not exist or contains no photo.
        PositionError: no photo has a position; OUTPUT is not written.
        RemoteError: the storage of photos at an address does not answer, or refuses.
    """
    output, times = options.output, options.times
    for path in filter(None, (output, times)):
        _check_free(path, options.replace)
    intake = options.take(options.photos)
    print(intake.account, flush=True)
    records = read_records(options.photos, intake.photos, options.hemispheres or "")
    located = {name: record for name, record in records.items() if not record.reason}
    reasons = {name: record.reason for name, record in records.items() if record.reason}
    if times is not None:
        timed = {name: record for name, record in records.items() if record.time is not None}
        _write(times, TIME_COLUMNS, timed)
        print(f"{times}: {_times(timed.values()) or '0 photos with a time'}")
    if not located:
        where = named(options.photos)
        raise PositionError(f"{where}: none of {len(records):,} photos has a position: {_counted(reasons)}")
    _write(output, COLUMNS, located)
    print(f"{output}: {_account(located)}")
    if reasons:
        print(f"{len(reasons):,} photos without a position: {_counted(reasons)}")
    return output


def _check_free(path: Path, replace: bool) -> None:
    if path.is_dir():
        raise FolderError(f"{path} is a folder: name a file")
    if path.exists() and not replace:
        raise FolderError(f"{path} exists already: name another file, or give --replace")


def _account(located: Mapping[str, Record]) -> str:
    parts = [f"{len(located):,} photos with a position"]
    if headings := sum(record.heading is not None for record in located.values()):
        magnetic = sum(record.heading_reference == "magnetic" for record in located.values())
        parts.append(f"{headings:,} with a heading" + (f" ({magnetic:,} magnetic)" if magnetic else ""))
    return ", ".join([*parts, *filter(None, [_times(located.values())])])


def _times(records: Iterable[Record]) -> str:
    utc = [record.utc for record in records if record.time is not None]
    if not utc:
        return ""
    kinds = [f"{count:,} {kind}" for kind, count in (("UTC", sum(utc)), ("local", len(utc) - sum(utc))) if count]
    return f"{len(utc):,} with a time ({', '.join(kinds)})"


def _counted(reasons: Mapping[str, str]) -> str:
    """The number of photos and the first photo for each reason, most frequent first."""
    photos: dict[str, list[str]] = defaultdict(list)
    for name, reason in reasons.items():
        photos[reason].append(name)
    most_frequent = sorted(photos.items(), key=lambda item: (-len(item[1]), item[0]))
    return "; ".join(f"{len(names):,} x {reason}, such as {printable(names[0])}" for reason, names in most_frequent)


def _write(path: Path, columns: Sequence[str], records: Mapping[str, Record]) -> None:
    rows = [columns, *([_cells(name, record)[column] for column in columns] for name, record in records.items())]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, "".join(",".join(map(_quoted, row)) + "\n" for row in rows))


def _cells(name: str, record: Record) -> dict[str, str]:
    return {
        "photo": name,
        "latitude": _decimal(record.latitude, DECIMALS),
        "longitude": _decimal(record.longitude, DECIMALS),
        "altitude": _decimal(record.altitude, 2),
        "heading": _decimal(record.heading, 2),
        "heading_reference": record.heading_reference,
        "time": _iso(record.time, record.utc),
        "time_reference": "" if record.time is None else "UTC" if record.utc else "local",
        "date": record.date,
        "year": record.date[:4],
        "accuracy": _decimal(record.accuracy, 2),
        "dop": _decimal(record.dop, 2),
    }


def _decimal(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:.{decimals}f}"


def _iso(time: datetime | None, utc: bool) -> str:
    return "" if time is None else f"{time.isoformat(timespec='seconds')}{'Z' if utc else ''}"


def _quoted(cell: str) -> str:
    """A cell in quotes if it contains a delimiter, a quotation mark, a line break, or blanks at an end."""
    return '"' + cell.replace('"', '""') + '"' if _QUOTED & set(cell) or cell != cell.strip() else cell

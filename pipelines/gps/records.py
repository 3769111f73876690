"""The position, heading and time in a photo's metadata, or the reason why the photo has no position."""

import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ..files.progress import progress
from ..photos.formats import PhotoError, Source, open_photo
from ..photos.remote_photos import header_in
from .coordinates import CoordinateError, coordinate, plain_text, scalar
from .exif import Value
from .metadata import Metadata, read_metadata

NO_METADATA = "no EXIF and no XMP data"
NO_GPS = "no GPS position in its EXIF or XMP data"
INCOMPLETE = "a latitude without a longitude, or a longitude without a latitude"
DAMAGED = "its EXIF data is damaged"
NULL_ISLAND = "the position is 0, 0, which stands for a missing one"
DATUM = "the position refers to another datum than WGS84"
UNREADABLE = "the photo cannot be read"
DECIMALS = 7
"""Decimals of degrees to which positions are rounded, 1 cm."""

_METADATA_FIRST = ("JPEG",)  # formats whose metadata are before the pixels
_AT_ONCE = 16
_BATCH = 1024
# Datums that differ from WGS84 by 100 m and more; the difference of others is below the accuracy of GPS.
_OTHER_DATUM = re.compile(r"tokyo|nad[\s-]*(?:19)?27|ed[\s-]*(?:19)?50|gcj|pulkovo|bd-?09|osgb", re.IGNORECASE)
_TIME = re.compile(
    r"(\d{4})[:/.-](\d{1,2})[:/.-](\d{1,2})[T\s]+(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.\d*)?)?\s*([Zz]|[+-]\d\d:?\d\d)?"
)
_DATE = re.compile(r"(\d{4})[:/.-](\d{1,2})[:/.-](\d{1,2})")
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)")
_LARGEST_OFFSET = timedelta(hours=14)
_STALE = timedelta(hours=15)  # difference of a camera's clock to a GPS time of the same moment: 14 h and inaccuracy


@dataclass(frozen=True, kw_only=True)
class Record:
    """What the metadata of a photo contains.

    Attributes:
        latitude: degrees, WGS84; None if the photo has no position.
        longitude: degrees, WGS84; None if the photo has no position.
        altitude: metres above sea level.
        heading: the direction that the camera faced, in degrees clockwise from north, 0 <= heading < 360.
        heading_reference: "true" or "magnetic", the north that the heading refers to; "" if it is not stated.
        time: when the photo was taken, in UTC if `utc`, and otherwise on the camera's clock in an unknown time zone.
        utc: whether `time` is in UTC.
        date: the day on the camera's clock, or in UTC if only GPS gave a time, such as "2017-07-18"; "" without a time.
        accuracy: the error of the position in metres, as the camera estimated it.
        dop: the dilution of precision, a factor without a unit.
        reason: why the photo has no position, one of the constants of this module and of `coordinates`; "" if it has
            one.
    """

    latitude: float | None = None
    longitude: float | None = None
    altitude: float | None = None
    heading: float | None = None
    heading_reference: str = ""
    time: datetime | None = None
    utc: bool = False
    date: str = ""
    accuracy: float | None = None
    dop: float | None = None
    reason: str = ""


def read_records(folder: Path, names: Sequence[str], hemispheres: str = "") -> dict[str, Record]:
    """Reads the metadata of photos. A photo whose metadata is damaged has a record with the reason.

    Args:
        folder: the folder of the photos, or an address such as s3://BUCKET/FOLDER as a path.
        names: the names of the photos below `folder`.
        hemispheres: the hemispheres of positions that state none, such as "NE"; "" for no position in this case.

    Returns:
        A dict from the name of each photo to its record, in the order of `names`.

    Raises:
        RemoteError: the storage of an address does not answer, or refuses.
    """
    found: dict[str, Record] = {}
    with warnings.catch_warnings(), progress("metadata", len(names)) as advance:
        warnings.simplefilter("ignore")  # Pillow's about damaged EXIF data, which becomes a reason
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for start in range(0, len(names), _BATCH):
                batch = names[start : start + _BATCH]
                records = pool.map(lambda name: read_record(folder, name, hemispheres), batch)
                found.update(zip(batch, records, strict=True))
                advance(len(batch))
    return found


def read_record(folder: Path, name: str, hemispheres: str = "") -> Record:
    """Reads the metadata of a photo; arguments and result are as for `read_records`."""

    def metadata(source: Source) -> Metadata:
        with open_photo(source, sys.maxsize) as image:
            return read_metadata(image)

    try:
        return record_of(header_in(folder, name, metadata, _METADATA_FIRST), hemispheres)
    except PhotoError:
        return Record(reason=UNREADABLE)


def record_of(metadata: Metadata, hemispheres: str = "") -> Record:
    """Interprets the metadata of a photo.

    The position is read from the EXIF data, and from the XMP data if the EXIF data has no position that can be used.

    Args:
        metadata: the metadata.
        hemispheres: as for `read_records`.
    """
    record = _time(metadata)
    if not metadata.present:
        return replace(record, reason=NO_METADATA)
    reasons = []
    for entries in (metadata.exif, metadata.xmp):
        try:
            return _located(record, entries, hemispheres, {**metadata.xmp, **metadata.exif})
        except CoordinateError as error:
            reasons.append(str(error))
    first = next((reason for reason in reasons if reason != NO_GPS), NO_GPS)
    return replace(record, reason=DAMAGED if metadata.damaged and first in (NO_GPS, INCOMPLETE) else first)


def _located(record: Record, entries: Mapping[str, Value], hemispheres: str, everything: Mapping[str, Value]) -> Record:
    """Adds the position in `entries`, and altitude, heading and accuracy in `everything`, to a record.

    Raises:
        CoordinateError: the entries have no position that can be used.
    """
    values = [entries.get(name) for name in ("GPSLatitude", "GPSLongitude")]
    present = [value for value in values if value is not None and (isinstance(value, tuple) or plain_text(value))]
    if len(present) < 2:
        raise CoordinateError(INCOMPLETE if present else NO_GPS)
    latitude, longitude = (
        round(coordinate(value, entries.get(f"{name}Ref"), sides, _side(hemispheres, sides)), DECIMALS)
        for value, name, sides in zip(present, ("GPSLatitude", "GPSLongitude"), ("NS", "EW"), strict=True)
    )
    if latitude == longitude == 0:
        raise CoordinateError(NULL_ISLAND)
    if _OTHER_DATUM.search(plain_text(entries.get("GPSMapDatum"))):
        raise CoordinateError(DATUM)
    heading, reference = _heading(everything)
    return replace(
        record,
        latitude=latitude + 0.0,
        longitude=longitude + 0.0,
        altitude=_altitude(everything),
        heading=heading,
        heading_reference=reference,
        accuracy=_positive(everything.get("GPSHPositioningError")),
        dop=_positive(everything.get("GPSDOP")),
    )


def _side(hemispheres: str, sides: str) -> str:
    return next((letter for letter in hemispheres if letter in sides), "")


def _positive(value: Value | None) -> float | None:
    found = scalar(value)
    return found if found is not None and found > 0 else None


def _heading(entries: Mapping[str, Value]) -> tuple[float | None, str]:
    heading = scalar(entries.get("GPSImgDirection"))
    if heading is None or not 0 <= heading <= 360:
        return None, ""
    letter = plain_text(entries.get("GPSImgDirectionRef"))[:1].upper()
    return round(heading, 2) % 360, {"T": "true", "M": "magnetic"}.get(letter, "")


def _altitude(entries: Mapping[str, Value]) -> float | None:
    altitude, below = scalar(entries.get("GPSAltitude")), entries.get("GPSAltitudeRef")
    if altitude is None:
        return None
    # EXIF: 0 and 2 are above sea level and the ellipsoid, 1 and 3 below; a byte, or text in XMP.
    code = below[:1] if isinstance(below, bytes) else b""
    code = plain_text(below)[:1].encode() if isinstance(below, str) else code
    code = bytes([int(below[0])]) if isinstance(below, tuple) and below and 0 <= below[0] < 256 else code
    return -altitude if code in (b"\1", b"\3", b"1", b"3") and altitude > 0 else altitude


def _time(metadata: Metadata) -> Record:
    """A record with only the time, in UTC if the offset of the camera's clock or the time of GPS is known."""
    gps = _gps_time(metadata)
    local, offset = _camera_time(metadata)
    if local is not None and offset is not None:
        return Record(time=local - offset, utc=True, date=f"{local:%Y-%m-%d}")
    if local is not None and (gps is None or abs(local - gps) > _STALE):
        return Record(time=local, date=f"{local:%Y-%m-%d}")
    if gps is None:
        return Record()
    return Record(time=gps, utc=True, date=f"{local or gps:%Y-%m-%d}")


def _camera_time(metadata: Metadata) -> tuple[datetime | None, timedelta | None]:
    """The time on the camera's clock, and its offset from UTC, each None if it is not known."""
    for entries in (metadata.exif, metadata.xmp):
        for name in ("Original", "Digitized"):
            match = _TIME.fullmatch(plain_text(entries.get(f"DateTime{name}")))
            local = _moment(match.groups()[:6]) if match else None
            if match and local:
                stated = plain_text(entries.get(f"OffsetTime{name}")) or match[7] or ""
                offset = _offset(stated)
                return local, offset if offset is None or _in_calendar(local, offset) else None
    return None, None


def _in_calendar(local: datetime, offset: timedelta) -> bool:
    try:
        local - offset
    except OverflowError:
        return False
    return True


def _gps_time(metadata: Metadata) -> datetime | None:
    """The time of the position in UTC."""
    date = _DATE.fullmatch(plain_text(metadata.exif.get("GPSDateStamp")))
    time = metadata.exif.get("GPSTimeStamp")
    if date and time is not None:
        if isinstance(time, tuple):
            parts = [str(int(part)) if 0 <= part < 100 else "unknown" for part in time]
        else:
            parts = re.split(r"[:\s,]+", plain_text(time).partition(".")[0])
        if len(parts) == 3 and (found := _moment((*date.groups(), *parts))):
            return found
    match = _TIME.fullmatch(plain_text(metadata.xmp.get("GPSTimeStamp")))
    found = _moment(match.groups()[:6]) if match else None
    offset = _offset(match[7] or "Z") if match else None
    return found - offset if found and offset is not None and _in_calendar(found, offset) else None


def _moment(parts: Sequence[str | None]) -> datetime | None:
    """A time without a time zone from year, month, day, hour, minute and second; None if there is no such time."""
    try:
        year, month, day, hour, minute, second = (int(part or 0) for part in parts)
        found = datetime(year, month, day, hour, minute, second, tzinfo=UTC).replace(tzinfo=None)
    except ValueError:
        return None
    return found if found.year >= 1800 else None


def _offset(text: str) -> timedelta | None:
    if text in ("Z", "z"):
        return timedelta()
    match = _OFFSET.fullmatch(text)
    if not match or int(match[3]) > 59:
        return None
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return None if offset > _LARGEST_OFFSET else -offset if match[1] == "-" else offset

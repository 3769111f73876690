"""Times of photos: ISO 8601 texts of columns and filters, as seconds on the clock of the place."""

import re
from datetime import MAXYEAR, UTC, datetime

_FORM = re.compile(
    r"(?P<year>\d{4})(?:[-:](?P<month>\d\d)(?:[-:](?P<day>\d\d)"
    r"(?:[T ](?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,]\d+)?)?"
    r"(?P<zone>Z|[+-]\d\d:?\d\d)?)?)?)?",
    re.ASCII,
)
_AFTER = datetime(MAXYEAR, 12, 31, tzinfo=UTC).timestamp() + 86_400  # the first second that `datetime` cannot express


def time_span(text: str) -> tuple[float, float] | None:
    """Reads a time, as the step `positions` writes it or as EXIF data contain it.

    Args:
        text: a year, month, day, minute or second, such as "2017-07", "2017-07-18", "2017-07-18T10:30:00Z" or
            "2017:07:18 10:30:00". An offset from UTC is ignored: the time is that on the clock of the place.

    Returns:
        First second of the time and first second after it, as seconds since 1970 on the same clock; None if the text is
        not a time.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day, hour, minute, second = (
        None if match[part] is None else int(match[part])
        for part in ("year", "month", "day", "hour", "minute", "second")
    )
    try:
        start = datetime(year or 0, month or 1, day or 1, hour or 0, minute or 0, min(second or 0, 59), tzinfo=UTC)
    except ValueError:
        return None
    first = start.timestamp()
    if day is None:
        years = 1 if month is None else start.month // 12
        if start.year + years > MAXYEAR:
            return first, _AFTER
        return first, start.replace(
            year=start.year + years, month=1 if month is None else start.month % 12 + 1
        ).timestamp()
    return first, first + (86_400 if hour is None else 60 if second is None else 1)


def day_of(seconds: float) -> datetime:
    """Converts seconds since 1970 to a date with time, on the same clock."""
    return datetime.fromtimestamp(seconds, UTC)

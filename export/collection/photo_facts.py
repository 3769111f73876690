"""The facts of a photo that are stored with its descriptor, as column values of the index."""

import logging
from pathlib import Path

from keras_retrieval.pipelines.gps.records import DECIMALS, Record, read_record

from .changes import State

log = logging.getLogger("keras_retrieval")


def facts_of(folder: Path, name: str, state: State) -> dict[str, str]:
    """Reads when and where a photo was taken.

    Args:
        folder: the photo folder.
        name: the name of the photo.
        state: the state of its file.

    Returns:
        A dict with the columns of the index: "modified" (ns), "bytes", "time" (ISO 8601, with a Z if it is in UTC),
        "latitude" and "longitude" (decimal degrees, WGS84). Facts that the metadata lacks are empty.
    """
    try:
        record = read_record(folder, name)
    except Exception as error:  # metadata may be anything, and the photo can be found without it
        log.debug("%s: its metadata cannot be read: %s", name, error)
        record = Record()
    time = "" if record.time is None else f"{record.time.isoformat(timespec='seconds')}{'Z' if record.utc else ''}"
    return {
        "modified": str(state[1]),
        "bytes": str(state[0]),
        "time": time,
        "latitude": "" if record.latitude is None else f"{record.latitude:.{DECIMALS}f}",
        "longitude": "" if record.longitude is None else f"{record.longitude:.{DECIMALS}f}",
    }

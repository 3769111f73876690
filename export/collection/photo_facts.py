"""The facts of a photo that are stored with its descriptor, as column values of the index."""

import warnings
from pathlib import Path

from keras_retrieval.pipelines.gps.records import DECIMALS, read_record

from .changes import State


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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        record = read_record(folder / name)
    time = "" if record.time is None else f"{record.time.isoformat(timespec='seconds')}{'Z' if record.utc else ''}"
    return {
        "modified": str(state[1]),
        "bytes": str(state[0]),
        "time": time,
        "latitude": "" if record.latitude is None else f"{record.latitude:.{DECIMALS}f}",
        "longitude": "" if record.longitude is None else f"{record.longitude:.{DECIMALS}f}",
    }

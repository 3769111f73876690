"""Summaries of a listing: its folders, its time line, its map and the values of its columns."""

import heapq
from typing import Any

import numpy as np
from keras_retrieval.pipelines.files.stored_path import normal

from ..index_contract.column_types import NUMBER, TEXT, TEXTS, TIME, texts_of
from .catalogue import Catalogue
from .errors import BadRequestError
from .filters import inside
from .listings import sorted_rows

MOST_VALUES = 50  # values of a column
MOST_FOLDERS = 5_000
MOST_CELLS = 200  # cells of the map along each side
DAYS = 120  # longest time line in days; a longer one is in months
MONTHS = 120

Area = tuple[float, float, float, float]


def summary(
    catalogue: Catalogue, rows: np.ndarray, area: Area | None, cells: int, *, with_columns: bool = True
) -> dict[str, Any]:
    """Summarises photos.

    Args:
        catalogue: the photos.
        rows: ascending row numbers of the n photos.
        area: part of the map, south, west, north and east in degrees; None for all positions.
        cells: number of cells of the map along each side.
        with_columns: whether columns are described, which takes seconds for hundreds of them with 100,000 texts each.

    Returns:
        A dict for JSON with "version", "total", "folders", "times", "positions" and "columns".
    """
    return {
        "version": catalogue.version,
        "total": len(rows),
        "folders": folders(catalogue, rows),
        "times": times(catalogue, rows),
        "positions": positions(catalogue, rows, area, cells),
        **({"columns": columns(catalogue, rows)} if with_columns else {}),
    }


def folders(catalogue: Catalogue, rows: np.ndarray) -> list[dict[str, Any]]:
    """Counts photos by folder, sub-folders included, in natural order; photos beside the folders are not counted."""
    names, codes = catalogue.folders
    counts: dict[str, int] = {}
    for folder, count in zip(names, np.bincount(codes[rows], minlength=len(names)).tolist(), strict=True):
        parts = folder.split("/") if folder and count else []
        for depth in range(1, len(parts) + 1):
            path = "/".join(parts[:depth])
            counts[path] = counts.get(path, 0) + count
    return [{"path": path, "count": count} for path, count in list(counts.items())[:MOST_FOLDERS]]


def times(catalogue: Catalogue, rows: np.ndarray) -> dict[str, Any] | None:
    """Counts photos by day, month or year, whichever gives a time line of readable length.

    Returns:
        A dict with "unit" and "bins", the periods with photos: "start" (ISO date), "count", and "row", the place of the
        period's first photo in the listing by time. None if no photo has a time.
    """
    ordered = sorted_rows(catalogue, rows, "time")
    known = catalogue.times[ordered]
    known = known[np.isfinite(known)]
    if not len(known):
        return None
    days = known.astype("datetime64[s]").astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    if (days[-1] - days[0]).astype(int) < DAYS:
        unit, periods = "day", days
    elif (months[-1] - months[0]).astype(int) < MONTHS:
        unit, periods = "month", months
    else:
        unit, periods = "year", days.astype("datetime64[Y]")
    starts, places, counts = np.unique(periods, return_index=True, return_counts=True)
    bins = [
        {"start": str(start), "count": count, "row": place}
        for start, place, count in zip(starts.astype("datetime64[D]"), places.tolist(), counts.tolist(), strict=True)
    ]
    return {"unit": unit, "bins": bins}


def positions(catalogue: Catalogue, rows: np.ndarray, area: Area | None, cells: int) -> dict[str, Any] | None:
    """Counts photos by cells of a map.

    Returns:
        A dict with "count", "bounds" (south, west, north and east of the counted positions; west > east across the
        antimeridian), and "cells": "lat" and "lon" of the mean position, "count", and "name" of the first photo. None
        if no photo has a position.
    """
    rows = rows[np.isfinite(catalogue.latitude[rows])]
    if not len(rows):
        return None
    if area is not None:
        rows = rows[inside(area, catalogue.latitude[rows], catalogue.longitude[rows])]
    if not len(rows):
        return {"count": 0, "bounds": list(area or ()), "cells": []}
    latitude, longitude = catalogue.latitude[rows], catalogue.longitude[rows]
    bounds = bounds_of(latitude, longitude)
    south, west, north, east = area or bounds
    # Longitudes are counted eastwards from the western border, so that the antimeridian is no border.
    eastwards = np.mod(longitude - west, 360)
    width, height = max(np.mod(east - west, 360) or (360.0 if area else 0.0), 1e-9), max(north - south, 1e-9)
    across = np.minimum((eastwards / width * cells).astype(int), cells - 1)
    up = np.minimum(((latitude - south) / height * cells).astype(int), cells - 1)
    _, first, inverse, counts = np.unique(
        up * cells + across, return_index=True, return_inverse=True, return_counts=True
    )
    mean_latitude = np.bincount(inverse, latitude) / counts
    mean_longitude = np.mod(np.bincount(inverse, eastwards) / counts + west + 180, 360) - 180
    found = [
        {"lat": round(lat, 6), "lon": round(lon, 6), "count": count, "name": catalogue.names[row]}
        for lat, lon, count, row in zip(
            mean_latitude.tolist(), mean_longitude.tolist(), counts.tolist(), rows[first].tolist(), strict=True
        )
    ]
    return {"count": len(rows), "bounds": [round(side, 6) for side in bounds], "cells": found}


def bounds_of(latitude: np.ndarray, longitude: np.ndarray) -> Area:
    """Returns south, west, north and east of positions (n >= 1): of all ranges of longitude, the narrowest."""
    sides = np.unique(longitude)
    gaps = np.diff(sides, append=sides[0] + 360)
    widest = int(np.argmax(gaps))
    east, west = float(sides[widest]), float(sides[(widest + 1) % len(sides)])
    return float(latitude.min()), west, float(latitude.max()), east


def columns(catalogue: Catalogue, rows: np.ndarray) -> dict[str, dict[str, Any]]:
    """Describes the values of each column that can be filtered by.

    Returns:
        For each column a dict with "type"; "role": "time" for the column of the time line, "latitude" or "longitude"
        for those of the map, "" otherwise; "count" and "empty", the numbers of photos with and without a value; and

        - of texts and lists of texts "distinct", the number of distinct texts, and "values", the 50 most frequent ones
          with their "count" of photos;
        - of numbers and times "range", the least and the greatest value, or None.
    """
    return {column: _column(catalogue, column, rows) for column in catalogue.column_values}


def values(catalogue: Catalogue, column: str, rows: np.ndarray, part: str, most: int) -> dict[str, Any]:
    """Finds the values of a column of texts or of lists of texts that contain a part, without regard to case.

    Args:
        catalogue: the photos.
        column: name of the column.
        rows: row numbers of the photos whose values count.
        part: the part; "" for all values.
        most: maximum number of values in the answer.

    Returns:
        A dict with "total", the number of such values, and "values": those that begin with the part first, then by
        their "count" of photos.

    Raises:
        BadRequestError: there is no such column, or its values are numbers or times.
    """
    if column not in catalogue.column_values:
        listed = ", ".join(catalogue.column_values) or "none"
        raise BadRequestError(f"column: the photos have no column {column!r}; their columns: {listed}.")
    if catalogue.column_values[column].kind not in (TEXT, TEXTS):
        raise BadRequestError(f"column: {column!r} has numbers or times; only values of texts are listed.")
    wanted = normal(part).casefold()
    found = []
    for text, count in _counts(catalogue, column, rows):
        place = normal(text).casefold().find(wanted)
        if place >= 0:
            found.append((place > 0, -count, text))
    found.sort()
    return {"total": len(found), "values": [{"value": text, "count": -count} for _, count, text in found[:most]]}


def _column(catalogue: Catalogue, column: str, rows: np.ndarray) -> dict[str, Any]:
    known, role = catalogue.column_values[column], catalogue.roles.get(column, "")
    empty = int(known.empty[rows].sum())
    described = {
        "type": known.kind,
        "role": role,
        "count": len(rows) - empty,
        "empty": empty,
    }
    if known.kind in (NUMBER, TIME):
        parsed = {"time": catalogue.times, "latitude": catalogue.latitude, "longitude": catalogue.longitude}
        numbers = (parsed[role] if role else known.numbers)[rows]
        finite = np.flatnonzero(np.isfinite(numbers))
        ends = [rows[finite[find(numbers[finite])]] for find in (np.argmin, np.argmax)] if len(finite) else []
        return described | {"range": [known.texts[row] for row in ends] or None}
    counts = _counts(catalogue, column, rows)
    order = heapq.nsmallest(MOST_VALUES, counts, key=lambda one: -one[1])
    return described | {
        "distinct": len(counts), "values": [{"value": text, "count": count} for text, count in order]
    }  # fmt: skip


def _counts(catalogue: Catalogue, column: str, rows: np.ndarray) -> list[tuple[str, int]]:
    """The distinct texts of a column, in the order in which they come first, with their numbers of photos."""
    texts, codes = catalogue.codes(column)
    photos = np.bincount(codes[rows], minlength=len(texts)).tolist()
    kind, counts = catalogue.column_values[column].kind, dict[str, int]()
    for text, count in zip(texts, photos, strict=True):
        if count:
            for part in texts_of(kind, text):
                counts[part] = counts.get(part, 0) + count
    return list(counts.items())

"""Summaries of a listing: its folders, its time line, its map and the values of its columns."""

from typing import Any

import numpy as np

from .catalogue import Catalogue
from .filters import inside
from .listings import sorted_rows

MOST_VALUES = 50  # values of a column
MOST_FOLDERS = 5_000
MOST_CELLS = 200  # cells of the map along each side
DAYS = 120  # longest time line in days; a longer one is in months
MONTHS = 120

Area = tuple[float, float, float, float]


def summary(catalogue: Catalogue, rows: np.ndarray, area: Area | None, cells: int) -> dict[str, Any]:
    """Summarises photos.

    Args:
        catalogue: the photos.
        rows: ascending row numbers of the n photos.
        area: part of the map, south, west, north and east in degrees; None for all positions.
        cells: number of cells of the map along each side.

    Returns:
        A dict for JSON with "version", "total", "folders", "times", "positions" and "columns".
    """
    return {
        "version": catalogue.version,
        "total": len(rows),
        "folders": folders(catalogue, rows),
        "times": times(catalogue, rows),
        "positions": positions(catalogue, rows, area, cells),
        "columns": columns(catalogue, rows),
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


def columns(catalogue: Catalogue, rows: np.ndarray) -> dict[str, list[dict[str, Any]]]:
    """Counts photos by the values of each column, most frequent first, at most 50 values; empty values are left out."""
    counted = {}
    for column in catalogue.columns:
        texts, codes = catalogue.codes(column)
        counts = np.bincount(codes[rows], minlength=len(texts))
        order = [place for place in np.argsort(-counts, kind="stable").tolist() if counts[place] and texts[place]]
        counted[column] = [{"value": texts[place], "count": int(counts[place])} for place in order[:MOST_VALUES]]
    return counted

"""Training tuples from the archives of Mapillary SLS and GSV-Cities, as they are unpacked."""

import logging
from pathlib import Path

import numpy as np

from ..photos.intake import Intake
from ..photos.object_folders import Objects
from ..photos.positions import DEGREES, Position, checked_position, common_frame, within
from ..photos.street_archives import MSLS_VALIDATION, StreetPhotos, msls_cities, read_gsv_cities, read_msls
from .copies import CopyGroups, no_copies
from .data import Tuples, TuplesError
from .from_objects import from_objects
from .from_positions import from_spots
from .options import TuplesOptions

log = logging.getLogger("keras_retrieval")

_APART = 1e8  # metres between two cities, whose coordinates are in different zones and not compared


def from_msls(folder: Path, intake: Intake, options: TuplesOptions, copies: CopyGroups = no_copies) -> Tuples:
    """Makes training tuples of Mapillary Street-Level Sequences (Warburg et al. CVPR 2020). Panoramas are left out.

    Queries are photos in the folders query, and positives are photos in the folders database of the same city. The
    cities cph and sf, if there are others, are set aside for validation, as published.

    Args:
        folder: the folder that contains train_val, or train_val itself.
        intake: the photos in the folder; photos that the tables list and that are missing are left out and counted.
        options: the options of `tuples`; those of `from_positions` and `heading` are used.
        copies: finds copies of photos, which are not chosen as positives of each other where positives are chosen.

    Raises:
        PositionError: a table or a row of a table is missing, or a cell is not a number.
        TableError: a file is not a table.
        TuplesError: no listed photo exists.
    """
    present, images, where = set(intake.photos), [], []
    spots, headings, asked, cities = [], [], [], []
    count, without = 0, []
    for number, (city, place) in enumerate(msls_cities(folder).items()):
        if not (place / "query" / "postprocessed.csv").is_file():
            without.append(city)
            continue
        for part in ("query", "database"):
            listed: StreetPhotos = read_msls(folder, place / part, None)
            rows = [row for row, name in enumerate(listed.names) if name in present]
            count += len(listed.names)
            images += [listed.names[row] for row in rows]
            where += [listed.where[row] for row in rows]
            spots.append(np.column_stack([listed.spots[rows], np.full(len(rows), _APART * number)]))
            headings.append(listed.headings[rows])
            asked.append(np.full(len(rows), part == "query"))
            cities += [city] * len(rows)
    if not images:
        raise TuplesError(f"{folder} has none of the {count:,} photos that the tables of Mapillary SLS list")
    of_validation = np.array([city in MSLS_VALIDATION for city in cities], bool)
    account = f"{folder}: Mapillary SLS, {len(images):,} of {count:,} listed photos in {len(set(cities)):,} cities"
    account += f"; without {', '.join(without)}, whose positions are not published" if without else ""
    validation = of_validation if 0 < of_validation.sum() < len(images) else None
    aside = [city for city in MSLS_VALIDATION if city in cities]
    account += f"; {' and '.join(aside)} for validation" if validation is not None else ""
    log.info(account)
    is_query = np.concatenate(asked)
    return from_spots(
        images,
        np.concatenate(spots),
        where,
        options,
        (is_query, ~is_query),
        np.concatenate(headings),
        validation,
        copies,
    )


def from_gsv_cities(folder: Path, intake: Intake, options: TuplesOptions, copies: CopyGroups = no_copies) -> Tuples:
    """Makes training tuples of GSV-Cities (Ali-bey et al. Neurocomputing 2022), in which each place is a cluster.

    Places at a distance of at most `options.apart` are linked, so that they are not negatives of each other.

    Args:
        folder: the folder with the folders Images and Dataframes.
        intake: the photos in the folder; photos that the tables list and that are missing are left out and counted.
        options: the options of `tuples`; `positives`, `seed` and `apart` are used.
        copies: finds copies of photos, which are not chosen as positives of each other where positives are chosen.

    Raises:
        PositionError: a table lacks a column, a cell is not a number, or no listed photo exists.
        TableError: a file is not a table.
        TuplesError: `options.heading` is given.
    """
    if options.heading is not None:
        raise TuplesError(
            f"--heading {options.heading:g}: the places of GSV-Cities are already views one way: leave it out"
        )
    listed = read_gsv_cities(folder, intake.photos)
    places = sorted(set(listed.places))
    number = {place: row for row, place in enumerate(places)}
    photos: dict[str, list[str]] = {place: [] for place in places}
    sums = np.zeros((len(places), 3))
    for name, place, degrees in zip(listed.names, listed.places, listed.degrees, strict=True):
        photos[place].append(name)
        sums[number[place]] += [*degrees, 1]
    tuples = from_objects(Objects(photos, [], "places", f"{listed.account}; {len(places):,} places"), options, copies)
    middles = (sums[:, :2] / sums[:, 2:]).tolist()
    where = [f"{folder}, place {place}" for place in places]
    positions = [
        checked_position(Position(longitude, latitude, DEGREES), place)
        for (latitude, longitude), place in zip(middles, where, strict=True)
    ]
    spots = common_frame(positions, where)
    near = within(spots, spots, options.apart)
    links = [(one, other) for one, others in enumerate(near) for other in others.tolist() if one < other]
    return Tuples(tuples.images, tuples.cluster, tuples.qidxs, tuples.pidxs, np.array(links, np.int64).reshape(-1, 2))

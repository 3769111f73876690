"""Small copies of street-level archives, as they are unpacked."""

import csv

from tests.helpers.read_back import make_photos


def write_table(path, columns, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def make_msls(folder, city, queries, database, photos=True, subsets=True):
    """A city of Mapillary SLS; a photo is (key, east, north, heading, panorama, subsets that it is in)."""
    for part, listed in (("query", queries), ("database", database)):
        place = folder / "train_val" / city / part
        raw = [
            (n, key, 12.5, 55.6, heading, "2019-01-01", pano) for n, (key, _, _, heading, pano, _) in enumerate(listed)
        ]
        after = [(n, key, east, north, n, False, 0, "Forward") for n, (key, east, north, *_) in enumerate(listed)]
        write_table(place / "raw.csv", ("", "key", "lon", "lat", "ca", "captured_at", "pano"), raw)
        columns = ("", "key", "easting", "northing", "unique_cluster", "night", "control_panel", "view_direction")
        write_table(place / "postprocessed.csv", columns, after)
        if subsets:
            marks = [(n, one[0], "all" in one[5], "s2w" in one[5]) for n, one in enumerate(listed)]
            write_table(place / "subtask_index.csv", ("", "key", "all", "s2w"), marks)
        if photos:
            make_photos(place / "images", [f"{one[0]}.jpg" for one in listed])


def make_gsv_cities(folder, city, rows, offset=0):
    """A city of GSV-Cities; a photo is (place, year, month, heading, latitude, longitude, panorama)."""
    columns = ("place_id", "year", "month", "northdeg", "city_id", "lat", "lon", "panoid")
    listed = [
        (place + offset, year, month, angle, city, lat, lon, pano) for place, year, month, angle, lat, lon, pano in rows
    ]
    write_table(folder / "Dataframes" / f"{city}.csv", columns, listed)
    names = [
        f"{city}_{place:07}_{year}_{month:02}_{angle:03}_{lat}_{lon}_{pano}.JPG"
        for place, year, month, angle, lat, lon, pano in rows
    ]
    make_photos(folder / "Images" / city, names)
    return [f"Images/{city}/{name}" for name in names]

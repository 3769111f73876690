"""The step `positions`: photos of all formats, odd and damaged metadata, the table and the account."""

import csv
import random
import time
from datetime import datetime
from pathlib import Path

import pytest

from keras_retrieval.errors import ArgumentError
from pipelines.files.durable import FolderError
from pipelines.gps import coordinates, records
from pipelines.gps.metadata import Metadata
from pipelines.gps.photo_positions import read_places
from pipelines.gps.positions import positions
from pipelines.gps.records import read_record, read_records
from pipelines.photos.formats import PhotoFolderError, heif_is_installed
from pipelines.photos.positions import PositionError
from tests.helpers.faulty_storage import faulty_storage, upload
from tests.helpers.gps_photos import (
    ASCII,
    BYTE,
    DOUBLE,
    FORMATS,
    LONG,
    SRATIONAL,
    UNDEFINED,
    exif,
    gps,
    photo,
    png_with_late_metadata,
    png_with_profile,
    rational,
    xmp,
)

LATITUDE, LONGITUDE = 50.0861667, 14.425  # 50 + 5/60 + 10.2/3600 and 14 + 25/60 + 30/3600
XMP_POSITION = 'exif:GPSLatitude="50,5.17N" exif:GPSLongitude="14,25,30E"'


def record(tmp_path, content, hemispheres=""):
    path = tmp_path / "photo"
    path.write_bytes(content)
    return read_record(path.parent, path.name, hemispheres)


def position(tmp_path, content, hemispheres=""):
    found = record(tmp_path, content, hemispheres)
    return found.reason or (found.latitude, found.longitude)


def test_photos_at_an_address_have_the_positions_of_local_ones(tmp_path, monkeypatch):
    names = [form for form in FORMATS if form != "HEIF" or heif_is_installed()]
    for form in names:
        content = photo(exif(gps(), {}), form)
        (tmp_path / form).write_bytes(content + b"x" * (2**17 if form == "JPEG" else 0))
    (tmp_path / "late.png").write_bytes(png_with_late_metadata(exif(gps(), {})))
    (tmp_path / "text").write_text("no photo")
    names += ["late.png", "text"]
    local = read_records(tmp_path, names)
    assert [name for name in names if local[name].latitude is None] == ["text"]
    with faulty_storage(monkeypatch) as faults:
        upload(tmp_path, "bucket")
        faults.every, faults.outage = 5, (0.0, 60.0)
        assert read_records(Path("faulty://bucket"), [*names, "gone"]) == local | {
            "gone": records.Record(reason=records.UNREADABLE)
        }
        places = read_places("exif", Path("faulty://bucket"), names)
    assert places.where[0] == f"faulty://bucket/{names[0]}"
    assert len(places.rows) == len(names) - 1


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_has_the_position_of_its_exif_data(form, tmp_path):
    if form == "HEIF" and not heif_is_installed():
        pytest.skip("pillow-heif is not installed")
    camera = {0x9003: (ASCII, "2017:07:18 15:31:30"), 0x9011: (ASCII, "-07:00")}
    found = record(tmp_path, photo(exif(gps(), camera), form))
    assert (found.latitude, found.longitude, found.reason) == (LATITUDE, LONGITUDE, "")
    assert (found.time, found.utc, found.date) == (datetime(2017, 7, 18, 22, 31, 30), True, "2017-07-18")


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_has_the_position_of_its_xmp_data(form, tmp_path):
    if form == "HEIF" and not heif_is_installed():
        pytest.skip("pillow-heif is not installed")
    assert position(tmp_path, photo(None, form, xmp(XMP_POSITION))) == (LATITUDE, LONGITUDE)


@pytest.mark.parametrize(
    "content",
    [
        png_with_late_metadata(exif(gps())),
        png_with_late_metadata(xmp=xmp(XMP_POSITION)),
        png_with_late_metadata(xmp=xmp(XMP_POSITION), packed=True),
        png_with_profile(exif(gps())),
        photo(exif(gps(), order=">")),
        photo(exif(gps(), order=">"), "WebP"),
        photo(None, "JPEG", xmp(elements="<exif:GPSLatitude>50,5.17N</exif:GPSLatitude>"
                                         "<exif:GPSLongitude>14,25.5E</exif:GPSLongitude>")),
        photo(exif(gps(north=None, latitude=((0, 0), (0, 0), (0, 0)))), "JPEG", xmp(XMP_POSITION)),
    ],
    ids=["eXIf late", "XMP late", "XMP packed", "profile", "big-endian", "big-endian WebP", "elements", "EXIF 0/0"],
)  # fmt: skip
def test_metadata_is_found_wherever_programs_put_it(content, tmp_path):
    assert position(tmp_path, content) == (LATITUDE, LONGITUDE)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        # decimal minutes, with seconds that are 0 or not known
        (gps(((50, 1), (517, 100), (0, 1))), (LATITUDE, LONGITUDE)),
        (gps(((50, 1), (517, 100), (0, 0))), (LATITUDE, LONGITUDE)),
        (gps(((50, 1), (517, 100))), (LATITUDE, LONGITUDE)),
        # decimal degrees
        (gps(((500861667, 10**7), (0, 1), (0, 1))), (LATITUDE, LONGITUDE)),
        (gps(((500861667, 10**7), (0, 0), (0, 0))), (LATITUDE, LONGITUDE)),
        (gps(((500861667, 10**7),)), (LATITUDE, LONGITUDE)),
        (gps((DOUBLE, [LATITUDE])), (LATITUDE, LONGITUDE)),
        (gps((LONG, [50, 5, 10])), (50.0861111, LONGITUDE)),
        (gps(((50, 1),)), (50.0, LONGITUDE)),
        # 60 seconds, as rounding makes them
        (gps(((50, 1), (4, 1), (60, 1))), (50.0833333, LONGITUDE)),
        # hemispheres
        (gps(north="S", east="W"), (-LATITUDE, -LONGITUDE)),
        (gps(north="s", east="w"), (-LATITUDE, -LONGITUDE)),
        (gps(north="South", east="West"), (-LATITUDE, -LONGITUDE)),
        (gps(north="n ", east="east"), (LATITUDE, LONGITUDE)),
        (gps(north=None, _1=(BYTE, b"S")), (-LATITUDE, LONGITUDE)),
        (gps(north=None, _1=(UNDEFINED, b"S\0")), (-LATITUDE, LONGITUDE)),
        (gps((SRATIONAL, [(-50, 1), (5, 1), (1020, 100)]), north=None), (-LATITUDE, LONGITUDE)),
        (gps((SRATIONAL, [(-50, 1), (-5, 1), (-1020, 100)]), north="S"), (-LATITUDE, LONGITUDE)),
        (gps((SRATIONAL, [(0, 1), (-30, 1), (0, 1)]), north=None), (-0.5, LONGITUDE)),
        (gps(north=None), coordinates.MISSING_HEMISPHERE),
        (gps(north=""), coordinates.MISSING_HEMISPHERE),
        (gps(north="\0"), coordinates.MISSING_HEMISPHERE),
        (gps(north="E", east="N"), coordinates.WRONG_HEMISPHERE),
        (gps(north="X"), coordinates.WRONG_HEMISPHERE),
        (gps((SRATIONAL, [(-50, 1), (5, 1), (0, 1)])), coordinates.WRONG_HEMISPHERE),
        (gps((SRATIONAL, [(50, 1), (-5, 1), (0, 1)])), coordinates.WRONG_HEMISPHERE),
        # text instead of fractions
        (gps((ASCII, "50/1, 5/1, 1020/100")), (LATITUDE, LONGITUDE)),
        (gps((ASCII, "50.0861667")), (LATITUDE, LONGITUDE)),
        (gps((ASCII, "50 deg 5' 10.20\" N"), north=None), (LATITUDE, LONGITUDE)),
        (gps((ASCII, "[50, 5, 10.2]")), (LATITUDE, LONGITUDE)),
        (gps((ASCII, "N 50 5.17"), north=None), (LATITUDE, LONGITUDE)),
        (gps((ASCII, "50,5.17S"), north="N"), coordinates.WRONG_HEMISPHERE),
        (gps((ASCII, "unknown")), coordinates.NOT_READABLE),
        (gps((ASCII, "1e1")), coordinates.NOT_READABLE),
        (gps((ASCII, "1 2 3 4")), coordinates.NOT_READABLE),
        # numbers that are no position
        (gps(((0, 1), (0, 1), (0, 1)), ((0, 1), (0, 1), (0, 1))), records.NULL_ISLAND),
        (gps(((1, 10**9),), ((0, 1),)), records.NULL_ISLAND),
        (gps(((0, 1), (0, 1), (0, 1))), (0.0, LONGITUDE)),
        (gps(((0, 0), (0, 0), (0, 0))), coordinates.NOT_A_NUMBER),
        (gps(((50, 0), (5, 1), (10, 1))), coordinates.NOT_A_NUMBER),
        (gps(((50, 1), (5, 1), (0, 0))), coordinates.NOT_A_NUMBER),
        (gps((DOUBLE, [float("inf")])), coordinates.NOT_A_NUMBER),
        (gps(((91, 1), (0, 1), (0, 1))), coordinates.OUT_OF_RANGE),
        (gps(((90, 1), (0, 1), (0, 1))), (90.0, LONGITUDE)),
        (gps(((90, 1), (0, 1), (1, 1))), coordinates.OUT_OF_RANGE),
        (gps(longitude=((181, 1), (0, 1), (0, 1))), coordinates.OUT_OF_RANGE),
        (gps(((50, 1), (61, 1), (0, 1))), coordinates.OUT_OF_RANGE),
        (gps(((2**32 - 50, 1), (5, 1), (0, 1))), coordinates.OUT_OF_RANGE),
        (gps(((500861667, 10**7), (5, 1), (10, 1))), coordinates.CONTRADICTORY),
        (gps(((50, 1), (517, 100), (1020, 100))), coordinates.CONTRADICTORY),
        # nothing
        ({0: (BYTE, bytes([2, 3, 0, 0]))}, records.NO_GPS),
        ({}, records.NO_GPS),
        (None, records.NO_GPS),
        (gps(longitude=None), records.INCOMPLETE),
        (gps((ASCII, " "), (ASCII, "")), records.NO_GPS),
        # datums
        (gps(_18=(ASCII, "TOKYO")), records.DATUM),
        (gps(_18=(ASCII, "WGS-84")), (LATITUDE, LONGITUDE)),
    ],
)  # fmt: skip
def test_positions_as_cameras_write_them(entries, expected, tmp_path):
    assert position(tmp_path, photo(exif(entries))) == expected


def test_photos_without_metadata_and_files_that_are_no_photos_have_a_reason(tmp_path):
    assert position(tmp_path, photo()) == records.NO_METADATA
    assert position(tmp_path, photo(form="TIFF")) == records.NO_METADATA
    assert position(tmp_path, b"no photo") == records.UNREADABLE
    assert position(tmp_path, photo(b"XX*\0garbage of some length")) == records.DAMAGED
    assert position(tmp_path, photo(b"")) in (records.NO_METADATA, records.DAMAGED)
    assert position(tmp_path, photo(None, "JPEG", xmp('exif:GPSLatitude="50,5.17"'))) == records.INCOMPLETE
    assert position(tmp_path, photo(None, "JPEG", xmp("exif:GPSLatitude='5' exif:GPSLongitude='6'"))) == (
        coordinates.MISSING_HEMISPHERE
    )


def test_a_missing_hemisphere_is_taken_from_the_option_and_no_other_is(tmp_path):
    without = photo(exif(gps(north=None, east=None)))
    assert position(tmp_path, without, "SW") == (-LATITUDE, -LONGITUDE)
    assert position(tmp_path, photo(exif(gps())), "SW") == (LATITUDE, LONGITUDE)


def test_a_damaged_entry_does_not_hide_the_others(tmp_path):
    data = bytearray(exif(gps(_17=rational((3278, 10)), _27=(UNDEFINED, b"ASCII\0\0\0GPS"))))
    maker = data.index((0x010F).to_bytes(2, "little"))
    data[maker + 8 : maker + 12] = (10**6).to_bytes(4, "little")  # the first entry points outside the data
    assert position(tmp_path, photo(bytes(data))) == (LATITUDE, LONGITUDE)
    longitude = data.index((4).to_bytes(2, "little") + (5).to_bytes(2, "little"), 40)
    data[longitude + 8 : longitude + 12] = (10**6).to_bytes(4, "little")
    assert position(tmp_path, photo(bytes(data))) == records.DAMAGED
    assert position(tmp_path, photo(exif(gps())[:60])) == records.DAMAGED


def test_heading_altitude_and_accuracy(tmp_path):
    entries = gps(
        _5=(BYTE, b"\1"), _6=rational((125, 10)), _11=rational((28, 10)), _16=(ASCII, "M"), _17=rational((32781, 100)),
        _31=rational((16, 1)),
    )  # fmt: skip
    found = record(tmp_path, photo(exif(entries)))
    assert (found.altitude, found.heading, found.heading_reference) == (-12.5, 327.81, "magnetic")
    assert (found.accuracy, found.dop) == (16.0, 2.8)
    for heading, expected in (((360, 1), 0.0), ((361, 1), None), ((0, 0), None), ((0, 1), 0.0)):
        assert record(tmp_path, photo(exif(gps(_17=rational(heading))))).heading == expected
    assert record(tmp_path, photo(exif(gps(_6=rational((0, 0)), _31=rational((0, 0)))))).accuracy is None
    in_xmp = xmp(f'{XMP_POSITION} exif:GPSAltitude="125/10" exif:GPSAltitudeRef="1" exif:GPSImgDirection="9050/100"')
    found = record(tmp_path, photo(None, "JPEG", in_xmp))
    assert (found.altitude, found.heading, found.heading_reference) == (-12.5, 90.5, "")


@pytest.mark.parametrize(
    ("camera", "stamp", "expected"),
    [
        ({0x9003: "2017:07:18 15:31:30", 0x9011: "-07:00"}, None, ("2017-07-18T22:31:30", True, "2017-07-18")),
        ({0x9003: "2017:07:18 20:31:30", 0x9011: "-07:00"}, None, ("2017-07-19T03:31:30", True, "2017-07-18")),
        ({0x9003: "2017:07:18 15:31:30", 0x9011: "Z"}, None, ("2017-07-18T15:31:30", True, "2017-07-18")),
        ({0x9003: "2017:07:18 15:31:30", 0x9011: "   :  "}, None, ("2017-07-18T15:31:30", False, "2017-07-18")),
        ({0x9003: "2017:07:18 15:31:30", 0x9011: "+25:00"}, None, ("2017-07-18T15:31:30", False, "2017-07-18")),
        ({0x9003: "2017:07:18 15:31:30", 0x9012: "+02:00"}, None, ("2017-07-18T15:31:30", False, "2017-07-18")),
        ({0x9003: "2017:07:18 15:31:30"}, None, ("2017-07-18T15:31:30", False, "2017-07-18")),
        ({0x9003: "2017-07-18T15:31:30.25+02:00"}, None, ("2017-07-18T13:31:30", True, "2017-07-18")),
        ({0x9004: "2017:07:18 15:31:30", 0x9012: "+02:00"}, None, ("2017-07-18T13:31:30", True, "2017-07-18")),
        # GPS has the time in UTC, unless it is an old one
        ({0x9003: "2017:07:18 15:31:30"}, "2017:07:18", ("2017-07-18T22:31:29", True, "2017-07-18")),
        ({0x9003: "2017:07:19 00:31:30"}, "2017:07:18", ("2017-07-18T22:31:29", True, "2017-07-19")),
        ({0x9003: "2017:07:18 15:31:30"}, "1997:12:02", ("2017-07-18T15:31:30", False, "2017-07-18")),
        ({0x9003: "0000:00:00 00:00:00"}, "2017:07:18", ("2017-07-18T22:31:29", True, "2017-07-18")),
        ({}, "2017:07:18", ("2017-07-18T22:31:29", True, "2017-07-18")),
        # no time
        ({0x9003: "0000:00:00 00:00:00"}, None, (None, False, "")),
        ({0x9003: "    :  :     :  :  "}, None, (None, False, "")),
        ({0x9003: "2017:02:30 10:00:00"}, None, (None, False, "")),
        ({0x9003: ""}, "", (None, False, "")),
        ({0x9003: "9999:12:31 23:59:59", 0x9011: "-07:00"}, None, ("9999-12-31T23:59:59", False, "9999-12-31")),
    ],
)  # fmt: skip
def test_times_are_in_utc_if_the_metadata_tells_it(camera, stamp, expected, tmp_path):
    dated = {} if stamp is None else {"_29": (ASCII, stamp), "_7": rational(22, 31, (2950, 100))}
    entries = {tag: (ASCII, text) for tag, text in camera.items()}
    found = record(tmp_path, photo(exif(gps(**dated), entries)))
    assert (found.time and found.time.isoformat(), found.utc, found.date) == expected


def test_a_time_in_xmp(tmp_path):
    found = record(tmp_path, photo(None, "JPEG", xmp('exif:DateTimeOriginal="2017-07-18T15:31:30-07:00"')))
    assert (found.time, found.utc, found.reason) == (datetime(2017, 7, 18, 22, 31, 30), True, records.NO_GPS)
    found = record(tmp_path, photo(None, "JPEG", xmp('exif:GPSTimeStamp="2017-07-18T22:31:30Z"')))
    assert (found.time, found.utc) == (datetime(2017, 7, 18, 22, 31, 30), True)


def test_a_gps_time_with_an_unknown_hour_is_none(tmp_path):
    entries = gps(_29=(ASCII, "2017:07:18"), _7=rational((0, 0), 31, 29))
    assert record(tmp_path, photo(exif(entries))).time is None


def write(folder, photos):
    for name, content in photos.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


PHOTOS = {
    "b/two.jpg": photo(exif(gps(_16=(ASCII, "T"), _17=rational(90)), {0x9003: (ASCII, "2017:07:18 15:31:30")})),
    "a.heic.jpg": photo(exif(gps())),
    'quoted, "name".jpg': photo(exif(gps(north="S"))),
    "none.jpg": photo(),
    "plain.jpg": photo(exif(None, {0x9003: (ASCII, "2018:01:02 03:04:05")})),
    "plain2.jpg": photo(exif(None)),
    "zero.jpg": photo(exif(gps(((0, 1),), ((0, 1),)))),
}


def test_the_table_has_a_row_for_each_photo_with_a_position_and_the_account_the_others(tmp_path, capsys):
    folder = write(tmp_path / "photos", PHOTOS)
    path = positions(folder, tmp_path / "out" / "positions.csv", times=tmp_path / "out" / "times.csv")
    table = rows(path)
    assert [row["photo"] for row in table] == ["a.heic.jpg", "b/two.jpg", 'quoted, "name".jpg']
    assert table[1] == {
        "photo": "b/two.jpg", "latitude": "50.0861667", "longitude": "14.4250000", "altitude": "", "heading": "90.00",
        "heading_reference": "true", "time": "2017-07-18T15:31:30", "time_reference": "local", "date": "2017-07-18",
        "year": "2017", "accuracy": "", "dop": "",
    }  # fmt: skip
    assert table[2]["latitude"] == "-50.0861667"
    assert [row["photo"] for row in rows(tmp_path / "out" / "times.csv")] == ["b/two.jpg", "plain.jpg"]
    out = capsys.readouterr().out
    assert "3 photos with a position, 1 with a heading, 1 with a time (1 local)" in out
    assert f"4 photos without a position: 2 x {records.NO_GPS}, such as plain.jpg; " in out
    assert f"1 x {records.NO_METADATA}, such as none.jpg" in out
    assert f"1 x {records.NULL_ISLAND}, such as zero.jpg" in out
    before = path.read_bytes()
    with pytest.raises(FolderError, match=r"positions\.csv exists already"):
        positions(folder, path)
    positions(folder, path, replace=True)
    assert path.read_bytes() == before


def test_options_and_folders_without_positions_are_refused(tmp_path):
    folder = write(tmp_path / "photos", {"none.jpg": photo()})
    with pytest.raises(PositionError, match=f"none of 1 photos has a position: 1 x {records.NO_METADATA}"):
        positions(folder, tmp_path / "positions.csv")
    assert not (tmp_path / "positions.csv").exists()
    with pytest.raises(ArgumentError, match=r"must end in \.csv"):
        positions(folder, tmp_path / "positions.txt")
    with pytest.raises(ArgumentError, match="different files"):
        positions(folder, tmp_path / "positions.csv", times=tmp_path / "positions.csv")
    with pytest.raises(FolderError, match="is a folder"):
        positions(folder, (write(tmp_path / "x.csv", {"f": b""})))
    with pytest.raises(PhotoFolderError, match="does not exist"):
        positions(tmp_path / "missing", tmp_path / "positions.csv")


def test_the_rules_of_the_intake_apply(tmp_path):
    folder = write(tmp_path / "photos", PHOTOS)
    assert len(rows(positions(folder, tmp_path / "positions.csv", exclude=["b/"]))) == 2


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WebP", "TIFF"])
def test_random_damage_to_metadata_ends_no_run_and_makes_no_number_out_of_range(form, tmp_path):
    whole = exif(gps(_17=rational((3278, 10)), _7=rational(1, 2, 3), _29=(ASCII, "2017:07:18")), {0x9003: (ASCII, "x")})
    rng = random.Random(form)
    photos = {}
    for number in range(300):
        data = bytearray(whole[: rng.randrange(8, len(whole))] if number % 5 == 0 and form != "TIFF" else whole)
        content = bytearray(photo(bytes(data), form))
        start = max(content.find(b"II*\0"), 0)
        for _ in range(rng.randrange(1, 6)):
            place = rng.randrange(start, min(start + len(data), len(content)))
            content[place] = rng.choice([0, 255, rng.randrange(256)])
        photos[f"{number}.img"] = bytes(content)
    found = read_records(write(tmp_path, photos), list(photos))
    assert len(found) == 300
    located = [record for record in found.values() if not record.reason]
    assert all(abs(record.latitude) <= 90 and abs(record.longitude) <= 180 for record in located)
    assert all(record.latitude is None for record in found.values() if record.reason)


def test_real_photos_of_a_telephone(shared, tmp_path):
    table = rows(positions(shared / "data" / "photos", tmp_path / "positions.csv"))
    assert len(table) == 23
    row = next(row for row in table if row["photo"].endswith("IMG_1051.jpg"))
    # 37 43' 23.99" N, 119 36' 57.48" W, at 22:32:48 UTC on 18 July 2017
    assert (row["latitude"], row["longitude"], row["altitude"]) == ("37.7233306", "-119.6159667", "1225.56")
    assert (row["heading"], row["heading_reference"], row["accuracy"]) == ("327.82", "true", "16.00")
    assert (row["time"], row["time_reference"]) == ("2017-07-18T22:32:48Z", "UTC")


def test_names_of_photos_survive_the_table(tmp_path):
    names = [" lead.jpg", "trail.jpg ", "x\ny.jpg", 'q"x.jpg', "=1.jpg", "u\u0308.jpg", "sep=;.jpg", "a;b\tc|d.jpg"]
    folder = write(tmp_path / "photos", {name: photo(exif(gps(((row, 1),)))) for row, name in enumerate(names, 1)})
    places = read_places(str(positions(folder, tmp_path / "positions.csv")), folder, names)
    assert [place.north for place in places.positions] == list(range(1, 9))
    assert places.rows.tolist() == list(range(8))


@pytest.mark.parametrize(
    "text", ["exif:GPSLatitude" + " " * 10**6, "exif:GPSLatitude " * 30000, "exif:GPSLatitude='" * 30000]
)
def test_a_malicious_xmp_packet_is_read_in_little_time(text, tmp_path):
    png = png_with_late_metadata(xmp=f"<x:xmpmeta>{text}", packed=True)
    started = time.perf_counter()
    assert position(tmp_path, png) in (records.NO_GPS, records.INCOMPLETE)
    assert time.perf_counter() - started < 10  # 0.3 s; hours with unbounded repetitions


def test_random_values_give_a_position_in_range_or_a_reason():
    rng = random.Random(0)
    numbers = [0.0, 1.0, -1.0, 50.0, 5.17, float("nan"), float("inf"), 1e300, 2.0**32 - 1, 60.0, 90.0, 180.0]
    texts = [
        "N",
        "S",
        "E",
        "w",
        "2017:07:18",
        "2017:07:18 15:00:00",
        "22:31:30",
        "Z",
        "+02:00",
        "-99:99",
        "50,5.2N",
        "1/0",
    ]
    names = [
        "GPSLatitude", "GPSLatitudeRef", "GPSLongitude", "GPSLongitudeRef", "GPSAltitude", "GPSAltitudeRef", "GPSDOP",
        "GPSTimeStamp", "GPSDateStamp", "GPSImgDirection", "GPSMapDatum", "DateTimeOriginal", "OffsetTimeOriginal",
    ]  # fmt: skip

    def value():
        kind = rng.randrange(3)
        if kind == 0:
            return "".join(rng.choice("0123456789.,/ -+NSEWe°'\"dm²٣") for _ in range(rng.randrange(12)))
        return rng.choice(texts) if kind == 1 else tuple(rng.choice(numbers) for _ in range(rng.randrange(5)))

    located = 0
    for _ in range(20000):
        exif_entries, xmp_entries = ({name: value() for name in names if rng.random() < 0.8} for _ in range(2))
        found = records.record_of(Metadata(exif_entries, xmp_entries, True), rng.choice(["", "NE"]))
        if found.reason:
            assert found.latitude is None
            continue
        located += 1
        assert abs(found.latitude) <= 90
        assert abs(found.longitude) <= 180
        assert found.heading is None or 0 <= found.heading < 360
        assert found.altitude is None or abs(found.altitude) < float("inf")
    assert located > 10

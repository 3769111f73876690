"""Tables of positions as spreadsheets, GIS programs and people write them, each with its declared outcome."""

import codecs

import pytest

from pipelines.files.tables import read_csv
from pipelines.photos.position_table import has_positions, read_positions
from pipelines.photos.positions import DEGREES, Position, common_frame

PARIS = [("a.jpg", 48.8534, 2.3488, DEGREES), ("b.jpg", 48.8606, 2.3376, DEGREES)]
UTM = [("a.jpg", 5411000.25, 452000.5, "31N"), ("b.jpg", 5411900.0, 451200.0, "31N")]
PLANE = [("a.jpg", 5411000.25, 452000.5, ""), ("b.jpg", 5411900.0, 451200.0, "")]
POINT = "photo,latitude,longitude\na.jpg,48.8534,2.3488\nb.jpg,48.8606,2.3376\n"
COMMA = "photo;latitude;longitude\na.jpg;48,8534;2,3488\nb.jpg;48,8606;2,3376\n"
METRES = "photo;east;north\na.jpg;{};{}\nb.jpg;451200;5411900\n"


def in_rows(header, *rows):
    return "\n".join([header, *rows, ""])


READ = {
    "as documented": (POINT, PARIS),
    "byte order mark": (codecs.BOM_UTF8 + POINT.encode(), PARIS),
    "two byte order marks": (codecs.BOM_UTF8 * 2 + POINT.encode(), PARIS),
    "Excel's CSV UTF-8 in France": (codecs.BOM_UTF8 + COMMA.replace("\n", "\r\n").encode(), PARIS),
    "Excel's Unicode text": (POINT.replace(",", "\t").replace("\n", "\r\n").encode("utf-16"), PARIS),
    "UTF-16 with the high byte first": (codecs.BOM_UTF16_BE + COMMA.encode("utf-16-be"), PARIS),
    "UTF-16 without a mark": (POINT.encode("utf-16-le"), PARIS),
    "UTF-32": (POINT.encode("utf-32"), PARIS),
    "a line sep=;": ("sep=;\n" + COMMA, PARIS),
    "a quoted line sep=; after a mark": (codecs.BOM_UTF8 + b'"sep=;"\r\n' + COMMA.encode(), PARIS),
    "a line sep= with an unusual separator": ("SEP=#\n" + POINT.replace(",", "#"), PARIS),
    "tabs with decimal commas": (COMMA.replace(";", "\t"), PARIS),
    "vertical bars": (POINT.replace(",", "|"), PARIS),
    "old Macintosh lines": (POINT.replace("\n", "\r"), PARIS),
    "no line break at the end": (POINT.rstrip(), PARIS),
    "blanks around headers and cells": (POINT.replace(",", " , "), [(f"{n} ", *p) for n, *p in PARIS]),
    "hard blanks in headers": (POINT.replace("latitude", "\u00a0latitude\u00a0"), PARIS),
    "capital letters": (POINT.replace("photo,latitude,longitude", "Photo,LATITUDE,Longitude"), PARIS),
    "short names": (POINT.replace("photo,latitude,longitude", "Filename,Lat,Lng"), PARIS),
    "units in headers": (POINT.replace("latitude,longitude", "GPS Latitude [°],GPS_Longitude (deg)"), PARIS),
    "other columns, in another order": (
        in_rows("Lon.,taken,Image,LAT", '2.3488,"1,2",a.jpg,48.8534', "2.3376,,b.jpg,48.8606"), PARIS,
    ),
    "quoted line breaks": (
        in_rows('photo,note,"la\ntitude",longitude', 'a.jpg,"one\ntwo, three",48.8534,2.3488', "b.jpg,,48.8606,2.3376"),
        PARIS,
    ),
    "comments with commas between semicolons": (
        in_rows("photo;lat;lon;note, if any, of it", "a.jpg;48,8534;2,3488;one, two", "b.jpg;48,8606;2,3376;"), PARIS,
    ),
    "trailing empty columns and rows": (COMMA.replace("\n", ";;;\n") + ";;;;;\n ; ;\n\n\n", PARIS),
    "the index column of pandas": (
        in_rows(",photo,latitude,longitude", "0,a.jpg,48.8534,2.3488", "1,b.jpg,48.8606,2.3376"), PARIS,
    ),
    "letters for the side": (in_rows("photo,lat,lon", "a.jpg,48.8534° N,2.3488 E", "b.jpg,N 48.8606,e2.3376"), PARIS),
    "commas within the units of headers": (
        COMMA.replace("latitude;longitude", "Latitude (WGS84, °);Longitude (WGS84, °)"), PARIS,
    ),
    "quoted headers with blanks beside the quotation marks": (
        COMMA.replace("photo;latitude;longitude", '"photo" ; "latitude" ; "longitude"'), PARIS,
    ),
    "texts that Excel must not change": (POINT.replace("48.8534", '="48.8534"'), PARIS),
    "south and west": (
        in_rows("photo,lat,lon", "a.jpg,33.8568S,151.2153E", "b.jpg,22.9519° s,43.2105° w"),
        [("a.jpg", -33.8568, 151.2153, DEGREES), ("b.jpg", -22.9519, -43.2105, DEGREES)],
    ),
    "a typographic minus": (
        in_rows("photo,lat,lon", "a.jpg,\u221233.8568,151.2153"), [("a.jpg", -33.8568, 151.2153, DEGREES)],
    ),
    "three decimals are no thousands in degrees": (
        in_rows("photo;lat;lon", "a.jpg;48,853;2,348"), [("a.jpg", 48.853, 2.348, DEGREES)],
    ),
    "numpy's notation": (
        in_rows("photo,lat,lon", "a.jpg,4.885340000e+01,2.348800000e+00", "b.jpg,4.88606e+01,2.3376e+00"), PARIS,
    ),
    "metres": (METRES.format("452000.5", "5411000.25"), PLANE),
    "metres with decimal commas": (METRES.format("452000,5", "5411000,25"), PLANE),
    "thousands with points": (METRES.format("452.000,5", "5.411.000,25"), PLANE),
    "thousands with commas": (METRES.format("452,000.5", "5,411,000.25"), PLANE),
    "thousands with thin blanks": (METRES.format("452\u202f000,5", "5\u202f411\u202f000,25"), PLANE),
    "thousands in Switzerland": (METRES.format("452'000.5", "5'411'000.25"), PLANE),
    "a thousand that another cell explains": (
        in_rows("photo;east;north", "a.jpg;452.000;5.411.000"), [("a.jpg", 5411000, 452000, "")],
    ),
    "a decimal that another cell explains": (
        in_rows("photo;east;north", "a.jpg;12,125;40,5"), [("a.jpg", 40.5, 12.125, "")],
    ),
    "x and y in metres": (METRES.format("452000.5", "5411000.25").replace("east;north", "X;Y"), PLANE),
    "x and y in degrees": (
        in_rows("file,y,x", "a.jpg,48.8534,2.3488", "b.jpg,48.8606,2.3376"), PARIS,
    ),
    "zone and letter": (
        in_rows("photo,easting,northing,zone,letter", "a.jpg,452000.5,5411000.25,31,U", "b.jpg,451200,5411900,31,u"),
        UTM,
    ),
    "zone with its letter": (
        in_rows("photo,UTM_E,UTM_N,UTM zone", "a.jpg,452000.5,5411000.25,31U", "b.jpg,451200,5411900,UTM 31 N"), UTM,
    ),
    "EPSG codes": (
        in_rows("photo,east,north,EPSG", "a.jpg,452000.5,5411000.25,32631", "b.jpg,451200,5411900,EPSG:25831"), UTM,
    ),
    "hemisphere in words, zone as pandas writes it": (
        in_rows("photo,east,north,zone,hemisphere", "a.jpg,334786.5,6252080,56.0,south", "b.jpg,334786.5,6252080,56,S"),
        [("a.jpg", 6252080, 334786.5, "56S"), ("b.jpg", 6252080, 334786.5, "56S")],
    ),
    "degrees take precedence over metres without a zone": (
        in_rows("photo,east,north,lat,lon", "a.jpg,1,2,48.8534,2.3488", "b.jpg,1,2,48.8606,2.3376"), PARIS,
    ),
    "latitude tells the hemisphere": (
        in_rows("photo,east,north,zone,lat,lon", "a.jpg,334786.5,6252080,56,-33.857,151.215"),
        [("a.jpg", 6252080, 334786.5, "56S")],
    ),
    "a header only": ("photo,latitude,longitude\n", []),
}  # fmt: skip

REFUSED = {
    "not UTF-8": (
        b"photo,lat,lon\na.jpg,1.5,2.5\ncaf\xe9.jpg,1.5,2.5\n", "line 3: byte 0xe9 is not UTF-8: save .* CSV",
    ),
    "a workbook": (b"PK\x03\x04...", "is a spreadsheet: save it as CSV UTF-8"),
    "half of a UTF-16 file": (POINT.encode("utf-16")[:-1], "is not UTF-16-LE"),
    "zero bytes": ("photo,lat,lon\na\0.jpg,48.85,2.35\n", "line 2: it contains a zero byte"),
    "an open quotation mark": (
        in_rows("photo,lat,lon", "b.jpg,1.5,2", '"a.jpg,1.5,2', "c.jpg,1,2"), "line 3: a quotation mark opens",
    ),
    "an empty file": ("", "has the columns none: needed are photo"),
    "no header": ("a.jpg,48.8534,2.3488\n", "has the columns a.jpg, 48.8534, 2.3488: needed are photo, east, north"),
    "no longitude": ("photo,latitude\na.jpg,48\n", "has the columns photo, latitude: needed are"),
    "a name twice": ("photo,lat,lon,lat\na.jpg,1,2,3\n", "line 1: two columns are named lat"),
    "two names of one meaning": (
        "photo,Lat,GPS latitude,lon\na.jpg,1,2,3\n", "Lat and GPS latitude both mean latitude",
    ),
    "decimal commas between commas": (
        "photo,lat,lon\na.jpg,48,8534,2,3488\n", "line 2: it has 5 cells, and the heading 3",
    ),
    "a surplus cell": (COMMA + "c.jpg;48,1;2,1;;x\n", "line 4: it has 5 cells, and the heading 3"),
    "a surplus cell in a column without a name": (
        COMMA.replace("\n", ";\n", 1) + "c;1,5;2;x\n", "line 4: it has 4 cells",
    ),
    "either of two delimiters": (in_rows("photo;lat,lon", "a;1,2"), "semicolons and commas divide its lines alike"),
    "a cell that is missing": (POINT + "c.jpg,48.8\n", "line 4: longitude is empty"),
    "a word for a missing number": (POINT + "c.jpg,#N/A,2.3\n", "line 4: latitude must be decimal degrees: '#N/A'"),
    "not a number": (POINT + "c.jpg,nan,2.3\n", "line 4: latitude must be decimal degrees: 'nan' is not a number"),
    "infinite": (METRES.format("inf", "5"), "line 2: east must be a number of metres: 'inf' is not a number"),
    "Python's digits": (METRES.format("452_000", "5"), "line 2: east must be a number of metres: '452_000'"),
    "degrees and minutes": (POINT + "c.jpg,48°51'12\"N,2.3\n", "line 4: latitude .* is in degrees and minutes"),
    "degrees and minutes with blanks": (POINT + "c.jpg,48 51.2,2.3\n", "line 4: latitude '48 51.2' is in degrees and"),
    "degrees and minutes with colons": (POINT + "c.jpg,48:51:12,2.3\n", "line 4: latitude .* degrees and minutes"),
    "a sign and a letter": (POINT + "c.jpg,-48.8S,2.3\n", "line 4: latitude '-48.8S' has both a sign and a letter"),
    "two letters": (POINT + "c.jpg,N48.8S,2.3\n", "line 4: latitude must be decimal degrees"),
    "letters of the other axis": (POINT + "c.jpg,2.3E,48.8N\n", "line 4: longitude is '48.8N': are .* swapped"),
    "thousands or decimals": (METRES.format("452,125", "5411000"), "line 2: east .*: 452,125 may be 452.125 or 452125"),
    "Excel's rounding": (METRES.format("4.52E+05", "5411000"), "line 2: east .*: 4.52E\\+05 is rounded to 1000"),
    "larger than any number": (METRES.format("4.52E+400", "5411000"), "4.52E\\+400 is rounded to inf"),
    "degrees rounded by Excel": (POINT + "c.jpg,4.88E+01,2.3\n", "line 4: latitude .* is rounded to 0.1"),
    "the position 0, 0": (POINT + "c.jpg,0,0.0\n", "line 4: the position is 0, 0, which stands for a missing one"),
    "a latitude beyond the pole": (POINT + "c.jpg,90.5,2.3\n", "line 4: latitude must be in -90..90"),
    "swapped, and noticed by the range": (POINT + "c.jpg,139.7,35.6\n", "line 4: latitude must be .*swapped"),
    "longitudes from 0 to 360": (
        POINT + "c.jpg,48.8,357.7\n", "line 4: latitude .* and longitude in -180..180, got 48.8, 357.7$",
    ),
    "0, 0 in a zone": ("photo,east,north,zone\na.jpg,0,0,31N\n", "line 2: the position is 0, 0"),
    "metres out of their zone": (
        "photo,east,north,zone\na.jpg,2.35,48.85,31U\n", "line 2: east must be in 100000..999999",
    ),
    "metres swapped in a zone": ("photo,east,north,zone\na.jpg,5411000,452000,31U\n", "line 2: east .* swapped"),
    "no zone 61": ("photo,east,north,zone\na.jpg,452000,5411000,61\n", "line 2: the UTM zone must be in 1..60, got 61"),
    "another projection": ("photo,east,north,EPSG\na.jpg,452000,5411000,2154\n", "line 2: '2154' is not a UTM zone"),
    "not the letter of a zone": ("photo,east,north,zone\na.jpg,452000,5411000,31I\n", "line 2: 'I' is not the letter"),
    "S for south": (
        "photo,east,north,zone\na.jpg,334786,6252080,56S\n", "line 2: the letter S is the band .* write 'south'",
    ),
    "zone and hemisphere at odds": (
        "photo,east,north,zone,hemisphere\na,452000,5411000,31U,S\n", "line 2: zone 31U, .* differ",
    ),
    "a row without its zone": (
        "photo,east,north,zone\na,452000,5411000,31U\nb,452000,5411000,\n", "line 3: zone is empty",
    ),
    "x and y that may be either": (
        in_rows("photo,x,y", "a.jpg,1.5,2", "b.jpg,40,17"), "x and y may be degrees or metres",
    ),
    "larger than the earth": (METRES.format("45200000", "5411000"), "line 2: the position 4.52e\\+07, .* out of range"),
}  # fmt: skip


def read(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    table = read_csv(path)
    found = read_positions(table)
    names = [row.cells[table.column("photo", ("file", "image", "filename"))] for row in table.rows]
    return [(name, one.north, one.east, one.system) for name, one in zip(names, found, strict=True)]


@pytest.mark.parametrize("name", READ)
def test_an_odd_table_is_read(tmp_path, name):
    content, expected = READ[name]
    assert read(tmp_path / "table.csv", content) == expected


@pytest.mark.parametrize("name", REFUSED)
def test_a_doubtful_table_is_refused_by_row(tmp_path, name):
    content, message = REFUSED[name]
    with pytest.raises(ValueError, match=message) as refused:
        read(tmp_path / "table.csv", content)
    assert str(refused.value).startswith(str(tmp_path / "table.csv"))


TOGETHER = {
    "0, 0 among metres of a country": (METRES.format(0, "0.0"), "line 2: the position is 0, 0"),
    "only 0, 0": (in_rows("photo,east,north", "a,0,0", "b,0,0"), "line 2: the position is 0, 0"),
    "degrees named metres": (
        in_rows("photo,east,north", "a,2.3488,48.8534", "b,2.3376,48.8606"), "line 2: .* look like",
    ),
    "one row swapped": (POINT + "c.jpg,2.34,48.85\n", "line 4: latitude and longitude seem to be swapped"),
    "one row of metres swapped": (
        METRES.format("452000", "5411000") + "c.jpg;5411100;452100\n", "line 4: east and north seem to be swapped",
    ),
    "no hemisphere among others": (
        in_rows("photo,east,north,zone", "a,452000,5411000,31U", "b,452000,5411000,31"),
        "line 3: .* no hemisphere, .* zone 31N",
    ),
    "latitude and longitude swapped beside metres": (
        in_rows("photo,east,north,zone,lat,lon", "a,452000,5411000,31U,2.3488,48.8534"), "line 2: .* swapped.*correct",
    ),
    "another zone than latitude and longitude": (
        in_rows("photo,east,north,zone,lat,lon", "a,452000,5411000,53U,48.85,2.35"),
        "line 2: east and north in zone 53N are at",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TOGETHER)
def test_positions_that_do_not_fit_each_other_are_refused_by_row(tmp_path, name):
    content, message = TOGETHER[name]
    (tmp_path / "table.csv").write_text(content)
    table = read_csv(tmp_path / "table.csv")
    with pytest.raises(ValueError, match=message):
        common_frame(read_positions(table), [table.where(row.line) for row in table.rows])


def test_a_table_of_pairs_has_no_positions(tmp_path):
    (tmp_path / "table.csv").write_text("query,positive,lat\na,b,1\n")
    assert not has_positions(read_csv(tmp_path / "table.csv"))


def test_two_groups_of_positions_that_mirror_each_other_are_warned_of(caplog):
    """Half of the photos have latitude and longitude exchanged, which no single position shows."""
    paris = [Position(2.35 + 0.001 * row, 48.85, DEGREES) for row in range(5)]
    swapped = [Position(48.86, 2.34 + 0.001 * row, DEGREES) for row in range(5)]
    where = [f"line {row}" for row in range(10)]
    common_frame([*paris, *swapped], where)
    assert [record.getMessage() for record in caplog.records] == [
        "line 5: the position is where that of line 0 would be with latitude and longitude exchanged: "
        "is one of them swapped?"
    ]
    caplog.clear()
    common_frame([*paris, Position(139.7, 35.6, DEGREES)], where[:6])
    assert not caplog.records

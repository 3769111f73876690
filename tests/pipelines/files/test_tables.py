"""CSV tables: lines and cells by column, and errors for tables whose cells would be shifted."""

import pytest

from pipelines.files.tables import TableError, read_csv, read_lines


def write(tmp_path, content):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    return path


def test_rows_come_with_their_lines_and_cells(tmp_path):
    content = '\ufeffphoto,east\r\na.jpg,1\r\n\r\n"b, c\nd.jpg",2,\r\ne.jpg\r\n'.encode()
    table = read_csv(write(tmp_path, content))
    assert table.columns == ["photo", "east"]
    assert table.rows == [
        (2, {"photo": "a.jpg", "east": "1"}),
        (5, {"photo": "b, c\nd.jpg", "east": "2"}),
        (6, {"photo": "e.jpg", "east": ""}),
    ]
    empty = read_csv(write(tmp_path, b""))
    assert (empty.columns, empty.rows) == ([], [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"photo\n\xe9.jpg", r"table\.csv, line 2: byte 0xe9 is not UTF-8: save the table as CSV UTF-8"),
        (b"a,b,a\n", "line 1: two columns are named a: remove or rename one"),
        (b"a,b\n1,2\n1,5,2\n", "line 3: it has 3 cells, and the heading 2: put a cell that contains one of the commas"),
        (b"a,b\n1," + b"x" * 200_000, "cannot be read after line 1 .*field larger than field limit"),
    ],
)
def test_what_cannot_be_read_without_doubt_is_named(tmp_path, content, message):
    with pytest.raises(TableError, match=message):
        read_csv(write(tmp_path, content))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_list_has_one_name_a_line(tmp_path, encoding):
    path = write(tmp_path, "a.jpg\r\n\r\nb, c.jpg\n\u2028.jpg".encode(encoding))
    assert read_lines(path) == ["a.jpg", "b, c.jpg", "\u2028.jpg"]

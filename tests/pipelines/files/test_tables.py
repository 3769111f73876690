"""CSV tables: lines and cells by column, and errors for tables whose cells would be shifted."""

import pytest

from pipelines.files.tables import TableError, read_csv


def write(tmp_path, content):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    return path


def test_rows_come_with_their_lines_and_cells(tmp_path):
    content = '\ufeffphoto,east\r\na.jpg,1\r\n\r\n"b, c\nd.jpg",2,\r\ne.jpg\r\n'.encode()
    columns, rows = read_csv(write(tmp_path, content))
    assert columns == ["photo", "east"]
    assert rows == [
        (2, {"photo": "a.jpg", "east": "1"}),
        (5, {"photo": "b, c\nd.jpg", "east": "2"}),
        (6, {"photo": "e.jpg", "east": ""}),
    ]
    assert read_csv(write(tmp_path, b"")) == ([], [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"photo\n\xe9.jpg", r"table\.csv cannot be read .*: save it as a CSV file in UTF-8"),
        (b"a,b,a\n", "has two columns a: remove or rename one"),
        (b"a,b\n1,2\n1,5,2\n", "line 3: it has 3 cells, and the heading 2: put a name with a comma in quotes"),
    ],
)
def test_what_cannot_be_read_without_doubt_is_named(tmp_path, content, message):
    with pytest.raises(TableError, match=message):
        read_csv(write(tmp_path, content))

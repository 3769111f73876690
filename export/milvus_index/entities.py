"""Converts photos to entities of a Milvus collection, in messages of limited size.

An entity is one photo, or with crops one crop, with these fields:

- `key`: primary key, a hash of the photo's name, and of the number of the row if it is not the first of the photo,
  because a name may contain characters that Milvus' filters do not support;
- `name`: name of the photo;
- `vector`: descriptor of the photo;
- `tags`: one hash per column of the column's name and value, to which filters apply for the same reason;
- `columns`: the column values themselves as JSON, for other users of the collection;
- with crops `photo`, the key of the photo's first row; `crop`, the number of the row in its photo; and `box`, text:
  a JSON list of left, top, right and bottom of the crop, and width and height of the photo, in pixels.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_retrieval.errors import ArgumentError

from ..index_contract.checks import check_columns, check_lengths, check_names, check_strings
from ..index_contract.photo_crops import PhotoCrops

MAX_NAME_BYTES = 65_535  # the longest string that Milvus stores
MESSAGE_BYTES = 2**23  # approximate size of a message; Milvus accepts 64 MB, but the limit of a client may be lower
_OVERHEAD = 64  # bytes of an entity or a tag in addition to its content


def entities(
    names: Sequence[str],
    rows: np.ndarray,
    columns: Mapping[str, Sequence[str]],
    known: Sequence[str],
    crops: PhotoCrops | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """Yields photos as entities, in messages of about `MESSAGE_BYTES`.

    Args:
        names: names of the n photos.
        rows: descriptors of the photos, (n, D) float32, already checked.
        columns: n values for some or all columns of the index, by column name.
        known: names of all columns of the index.
        crops: the crops of the photos, whose `rows` are then (R, D); None for one row per photo.

    Raises:
        ArgumentError: lengths differ, a name is repeated or cannot be stored, or a column is unknown.
    """
    names = list(names)
    check_names(names)
    check_columns(columns, known)
    check_storable(names)
    check_lengths(names, rows[: len(names)] if crops is not None else rows, columns)
    if crops is not None:
        crops.check(names, rows)
    for column, values in columns.items():
        check_strings(values, f"a value of '{column}'")
    message: list[dict[str, Any]] = []
    size, starts = 0, [] if crops is None else crops.starts.tolist()
    for number, place, row in _numbered(names, rows, crops):
        name = names[number]
        texts = {column: columns[column][number] if column in columns else "" for column in known}
        crop = {} if crops is None else _crop(name, place, starts[number], crops.boxes)
        message.append(_entity(name, row, texts) | crop)
        size += row.nbytes + len(name.encode()) + len(json.dumps(texts)) + _OVERHEAD * (1 + len(texts))
        if size > MESSAGE_BYTES:
            yield message
            message, size = [], 0
    if message:
        yield message


def _numbered(
    names: Sequence[str], rows: np.ndarray, crops: PhotoCrops | None
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yields for each row the number of its photo, the number of the row in the photo, and the row."""
    counts = [1] * len(names) if crops is None else crops.counts.tolist()
    places = ((number, place) for number, count in enumerate(counts) for place in range(count))
    for (number, place), row in zip(places, rows, strict=True):
        yield number, place, row


def _crop(name: str, place: int, first: int, boxes: np.ndarray) -> dict[str, Any]:
    """The fields of row `place` of a photo whose first row is `first`."""
    box = [*boxes[first + place].tolist(), *boxes[first, 2:].tolist()]
    return {"key": row_key(name, place), "photo": key_of(name), "crop": place, "box": json.dumps(box)}


def _entity(name: str, row: np.ndarray, values: dict[str, str]) -> dict[str, Any]:
    tags = [tag_of(column, value) for column, value in values.items()]
    return {"key": key_of(name), "name": name, "vector": row, "tags": tags, "columns": values}


def check_storable(names: Sequence[str]) -> None:
    """Checks that Milvus can store the names of photos.

    Raises:
        ArgumentError: a name is not valid Unicode (as for a file whose name is not UTF-8), or is longer than 65,535
            bytes in UTF-8.
    """
    for row, name in enumerate(names):
        try:
            size = len(name.encode())
        except UnicodeEncodeError as error:
            raise ArgumentError(f"row {row}: the name {name!r} is not valid Unicode, which Milvus requires") from error
        if size > MAX_NAME_BYTES:
            raise ArgumentError(f"row {row}: a name has {size:,} bytes, and Milvus stores at most {MAX_NAME_BYTES:,}")


def key_of(name: str) -> str:
    """Returns the primary key of a photo: a hash of its name, 32 hexadecimal digits."""
    return hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def row_key(name: str, place: int) -> str:
    """Returns the primary key of row `place` of a photo, 32 hexadecimal digits; that of row 0 is the photo's."""
    return key_of(json.dumps([name, place])) if place else key_of(name)


def tag_of(column: str, value: str) -> str:
    """Returns the tag by which filters find a value of a column: a hash of both, 32 hexadecimal digits."""
    return key_of(json.dumps([column, value]))

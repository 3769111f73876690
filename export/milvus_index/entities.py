"""Converts photos to entities of a Milvus collection, in messages of limited size.

An entity is one photo, or with crops one crop, with these fields:

- `key`: primary key, a hash of the photo's name, and of the number of the row if it is not the first of the photo,
  because a name may contain characters that Milvus' filters do not support;
- `name`: name of the photo;
- `vector`: descriptor of the photo;
- `tags`: one hash per column of the column's name and value, to which filters apply for the same reason; of a list one
  hash per text;
- `numbers`: numbers, and times in seconds since 1970, by c and the place of the column; filters of ranges apply to it;
- `columns`: the column values themselves as JSON, for other users of the collection;
- with crops `photo`, the key of the photo's first row; `crop`, the number of the row in its photo; and `box`, text:
  a JSON list of left, top, right and bottom of the crop, and width and height of the photo, in pixels.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_retrieval.errors import ArgumentError

from ..index_contract.checks import check_columns, check_lengths, check_names
from ..index_contract.column_types import NUMBER, TEXTS, TIME, number_of, texts_of, type_of
from ..index_contract.photo_crops import PhotoCrops

ROOM = "tags"
"""Entry of the metadata: the number of tags of a photo for which a collection was made."""

LEAST_TAGS = 32  # of a photo for which a new collection is made
MAX_TAGS = 4_096  # the longest array that Milvus stores
MAX_NAME_BYTES = 65_535  # the longest string that Milvus stores
MESSAGE_BYTES = 2**23  # approximate size of a message; Milvus accepts 64 MB, but the limit of a client may be lower
_OVERHEAD = 64  # bytes of an entity or a tag in addition to its content


def entities(
    names: Sequence[str],
    rows: np.ndarray,
    columns: Mapping[str, Sequence[str]],
    facts: Mapping[str, Any],
    crops: PhotoCrops | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """Yields photos as entities, in messages of about `MESSAGE_BYTES`.

    Args:
        names: names of the n photos.
        rows: descriptors of the photos, (n, D) float32, already checked.
        columns: n values for some or all columns of the index, by column name, as an index stores them.
        facts: metadata of the index, `NeighbourIndex.facts`.
        crops: the crops of the photos, whose `rows` are then (R, D); None for one row per photo.

    Raises:
        ArgumentError: lengths differ, a name is repeated or cannot be stored, or a column is unknown.
    """
    names = list(names)
    check_names(names)
    known = facts["columns"]
    check_columns(columns, known)
    check_storable(names)
    check_lengths(names, rows[: len(names)] if crops is not None else rows, columns)
    if crops is not None:
        crops.check(names, rows)
    message: list[dict[str, Any]] = []
    size, starts = 0, [] if crops is None else crops.starts.tolist()
    for number, place, row in _numbered(names, rows, crops):
        name = names[number]
        texts = {column: columns[column][number] if column in columns else "" for column in known}
        crop = {} if crops is None else _crop(name, place, starts[number], crops.boxes)
        message.append({"key": key_of(name), "name": name, "vector": row} | fields_of(texts, facts, name) | crop)
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


def fields_of(texts: Mapping[str, str], facts: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Returns the fields of a photo that depend on its column values.

    Args:
        texts: the value of every column, as an index stores it.
        facts: metadata of the index.
        name: name of the photo, for messages.

    Raises:
        ArgumentError: the photo has more texts in lists than Milvus stores.
    """
    parts = {column: texts_of(type_of(facts, column), text) or [""] for column, text in texts.items()}
    tags = [tag_of(column, part) for column, some in parts.items() for part in some]
    if len(tags) > tag_capacity(facts):
        raise ArgumentError(f"{name!r} has {len(tags):,} texts in its columns, Milvus stores {tag_capacity(facts):,}")
    fields: dict[str, Any] = {"tags": tags, "columns": dict(texts)}
    ordered = ordered_columns(facts)
    if ordered or ROOM in facts:
        numbers = {number_field(facts, column): number_of(type_of(facts, column), texts[column]) for column in ordered}
        fields["numbers"] = {field: number for field, number in numbers.items() if not math.isnan(number)}
    return fields


def ordered_columns(facts: Mapping[str, Any]) -> list[str]:
    """Returns the columns of numbers and times of an index."""
    return [column for column in facts["columns"] if type_of(facts, column) in (NUMBER, TIME)]


def number_field(facts: Mapping[str, Any], column: str) -> str:
    """Returns the key of a column's number in the field `numbers`, which needs no escaping."""
    return f"c{list(facts['columns']).index(column)}"


def tag_capacity(facts: Mapping[str, Any]) -> int:
    """Returns the number of tags that a photo may have, for which its collection was made.

    A collection has room for further columns, and for many texts if it has lists of texts. Milvus plans its memory for
    the longest possible row, so that the room is not as large as it could be. Collections by earlier versions, whose
    metadata has no `ROOM`, have one tag a column.
    """
    if ROOM in facts:
        return int(facts[ROOM])
    lists = any(type_of(facts, column) == TEXTS for column in facts["columns"])
    return MAX_TAGS if lists else max(1, len(facts["columns"]))


def room_for_tags(facts: Mapping[str, Any]) -> int:
    """Returns the entry `ROOM` of the metadata of a new collection."""
    lists = any(type_of(facts, column) == TEXTS for column in facts["columns"])
    return MAX_TAGS if lists else max(LEAST_TAGS, 2 * len(facts["columns"]))


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

"""Converts photos to entities of a Milvus collection, in messages of limited size.

An entity is one photo, with these fields:

- `key`: primary key, a hash of the photo's name, because a name may contain characters that Milvus' filters do not
  support;
- `name`: name of the photo;
- `vector`: descriptor of the photo;
- `tags`: one hash per column of the column's name and value, to which filters apply for the same reason;
- `columns`: the column values themselves as JSON, for other users of the collection.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_retrieval.errors import ArgumentError

from ..index_contract.checks import check_columns, check_lengths, check_names, check_strings

MAX_NAME_BYTES = 65_535  # the longest string that Milvus stores
MESSAGE_BYTES = 2**23  # approximate size of a message; Milvus accepts 64 MB, but the limit of a client may be lower
_OVERHEAD = 64  # bytes of an entity or a tag in addition to its content


def entities(
    names: Sequence[str], rows: np.ndarray, columns: Mapping[str, Sequence[str]], known: Sequence[str]
) -> Iterator[list[dict[str, Any]]]:
    """Yields photos as entities, in messages of about `MESSAGE_BYTES`.

    Args:
        names: names of the n photos.
        rows: descriptors of the photos, (n, D) float32, already checked.
        columns: n values for some or all columns of the index, by column name.
        known: names of all columns of the index.

    Raises:
        ArgumentError: lengths differ, a name is repeated or cannot be stored, or a column is unknown.
    """
    names = list(names)
    check_names(names)
    check_columns(columns, known)
    check_storable(names)
    check_lengths(names, rows, columns)
    for column, values in columns.items():
        check_strings(values, f"a value of '{column}'")
    message: list[dict[str, Any]] = []
    size = 0
    for number, (name, row) in enumerate(zip(names, rows, strict=True)):
        texts = {column: columns[column][number] if column in columns else "" for column in known}
        message.append(_entity(name, row, texts))
        size += row.nbytes + len(name.encode()) + len(json.dumps(texts)) + _OVERHEAD * (1 + len(texts))
        if size > MESSAGE_BYTES:
            yield message
            message, size = [], 0
    if message:
        yield message


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


def tag_of(column: str, value: str) -> str:
    """Returns the tag by which filters find a value of a column: a hash of both, 32 hexadecimal digits."""
    return key_of(json.dumps([column, value]))

"""A `NeighbourIndex` in a Milvus collection, for more photos than one machine can search.

Milvus stores, distributes and searches the photos (`milvus_index.entities`). The metadata of the index, including its
search settings, is JSON in the property `keras_retrieval` of the collection.
"""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from keras_retrieval.errors import ArgumentError

from ..index_contract.checks import (
    NO_CROPS,
    check_crops,
    check_finite,
    check_k,
    check_lengths,
    check_names,
    check_shape,
    new_columns,
    stored_values,
)
from ..index_contract.column_types import NUMBER, TIME, TYPES, type_of
from ..index_contract.conditions import ALL, EMPTY, IN, PHOTO_COLUMN, Condition, span_of
from ..index_contract.contract import Filter, Hits, IndexState
from ..index_contract.errors import CollectionError, MilvusError
from ..index_contract.photo_crops import PhotoCrops
from .address import Address, parse_address
from .entities import MESSAGE_BYTES, ROOM, entities, fields_of, key_of, number_field, tag_capacity, tag_of

PROPERTY, VERSION = "keras_retrieval", 3
PHOTOS_VERSION, CROPS_VERSION = 2, 3  # of collections with one row per photo, and with one per crop
FIRST_ROWS = 4  # times the photos that are searched for: rows of crops that a first search asks for
MAX_NEIGHBOURS = 16_384  # maximum number of photos that Milvus returns for a query
NAMES_PER_ANSWER = 100_000
STALENESS = 5.0  # seconds that a search with Milvus' bounded consistency may lag behind writes
READS = ("search", "query", "get")
_ENTITY_BYTES = 1024  # size in bytes of a photo in a response, without its vector


class MilvusIndex:
    """An open Milvus collection; implements `NeighbourIndex`.

    Args:
        place: address of the collection; see `address.parse_address`.

    Raises:
        ArgumentError: the address is invalid.
        CollectionError: the collection does not exist, was not made by `keras-retrieval index`, or has an unsupported
            layout.
        MilvusConnectionError: no server answers, or it refuses the credentials.
        MissingExtraError: pymilvus or milvus-lite is not installed.
    """

    def __init__(self, place: str) -> None:
        self.address = parse_address(place)
        self._client = self.address.connect()
        self._last_change = -STALENESS
        self._open()

    def _open(self) -> None:
        """Opens the collection to which the address refers now, and reads its metadata."""
        self._facts, self._read_at = read_facts(self.address, self._client), time.monotonic()
        self._collection = self._client.describe_collection(self.address.collection)["collection_name"]
        self._client.load_collection(self._collection)
        self._opened_at = time.time()

    @property
    def facts(self) -> Mapping[str, Any]:
        """Metadata of the index; see `NeighbourIndex.facts`. Columns that others add are seen within 5 seconds."""
        if time.monotonic() - self._read_at > STALENESS:
            self._read_facts()
        return self._facts

    def _read_facts(self) -> None:
        """Reads the metadata again; keeps what is known where the server does not answer."""
        from pymilvus import MilvusException

        self._read_at = time.monotonic()
        with suppress(MilvusException, CollectionError):
            properties = self._client.describe_collection(self._collection)["properties"]
            self._facts = facts_in(properties, self.address)

    @property
    def names(self) -> list[str]:
        """The names of all photos, in the order of the rows that `vectors()` returns."""
        return [photo["name"] for photo in self._photos("name")]

    @property
    def version(self) -> str:
        """A text that differs after own changes, or if the number of photos differs; see `NeighbourIndex.version`."""
        return f"{self._collection}-{len(self)}-{self._last_change}-{len(self.facts['columns'])}"

    @property
    def state(self) -> IndexState:
        """The collection that is searched; see `NeighbourIndex.state`."""
        return IndexState(self._collection, len(self), self._opened_at)

    def __len__(self) -> int:
        return self._count(self._whole)

    @property
    def row_count(self) -> int:
        """The number of stored descriptors; see `NeighbourIndex.row_count`."""
        return self._count("")

    @property
    def _whole(self) -> str:
        """The condition that selects one row of each photo, that of the whole photo."""
        return "crop == 0" if self.facts.get("crops") else ""

    def search(
        self, queries: np.ndarray, k: int = 10, *, exact: bool = False, where: Filter | None = None
    ) -> list[Hits]:
        """Finds the photos with the largest inner products with each query; see `NeighbourIndex.search`.

        Raises:
            ArgumentError: as for `NeighbourIndex.search`, or both `k` and the number of photos exceed 16,384, the
                maximum number of neighbours that Milvus returns.
            MilvusError: the server reported an error.
        """
        check_k(k)
        queries = self._checked(queries, "queries")
        condition = self._condition(where)
        if condition is None or not len(queries):
            return [self._hits([]) for _ in queries]
        if self.facts.get("crops"):
            return self._search_crops(queries, k, condition, exact)
        k = self._limited(k)
        hits = self._nearest(queries, k, condition, exact)
        short = [row for row, hit in enumerate(hits) if len(hit.names) < k]
        # A tree may miss photos: fewer than k hits are a complete result only if no more photos match.
        if short and not exact:
            k = min(k, self._count(condition))
            short = [row for row in short if len(hits[row].names) < k]
            if short:
                for row, hit in zip(short, self._nearest(queries[short], k, condition, True), strict=True):
                    hits[row] = hit
        return hits

    def _search_crops(self, queries: np.ndarray, k: int, condition: str, exact: bool) -> list[Hits]:
        """Finds the photos with the best crops: the first row of a photo in a ranking of rows is its best."""
        whole = f"{condition} and {self._whole}" if condition else self._whole
        photos, rows = self._count(whole), self._count(condition)
        k = min(k, photos)
        hits = [self._hits([]) for _ in queries]
        left, limit = np.arange(len(queries)), min(FIRST_ROWS * k, rows, MAX_NEIGHBOURS)
        while k and len(left):
            for row, answer in zip(left, self._answers(queries[left], limit, condition, exact), strict=True):
                hits[row] = self._hits(answer, k)
            left = np.array([row for row in left if len(hits[row].names) < k], np.int64)
            if len(left) and limit == min(rows, MAX_NEIGHBOURS):
                if exact or not self.facts["configuration"]["leaves"]:
                    break
                exact = True
            else:
                limit = min(FIRST_ROWS * limit, rows, MAX_NEIGHBOURS)
        if len(left):
            found = min(len(hits[row].names) for row in left)
            raise ArgumentError(
                f"k must be at most {found:,}, the photos among the {MAX_NEIGHBOURS:,} crops that Milvus returns for a "
                f"query, got {k:,}"
            )
        return hits

    def add(
        self,
        names: Sequence[str],
        rows: np.ndarray,
        columns: Mapping[str, Sequence[Any]] | None = None,
        *,
        crops: PhotoCrops | None = None,
    ) -> None:
        """Adds or replaces photos; see `NeighbourIndex.add`.

        If the server fails midway, some of the photos may have been added; the call can be repeated with all of them.
        """
        self._read_facts()
        checked = self._checked(rows, "rows")
        check_crops(crops, self.facts)
        texts = stored_values(columns or {}, self.facts)
        check_lengths(names, checked[: len(names)] if crops is not None else checked, texts)
        check_names(names)
        for message in entities(names, checked, self._completed(names, texts), self.facts, crops):
            self._call("upsert", data=message)
            self._last_change = time.monotonic()
        if crops is not None:
            self._delete_surplus(list(names), crops)

    def add_columns(self, types: Mapping[str, str]) -> None:
        """Adds columns, which are empty for all photos; see `NeighbourIndex.add_columns`.

        A filter finds empty values by a tag of each photo, so that all photos are written again. The columns are known
        only after that: the call can be repeated if the server fails midway.
        """
        self._read_facts()
        before = self._facts
        new = new_columns(types, before)
        if not new:
            return
        columns = [*before["columns"], *new]
        if ROOM not in before or len(columns) > tag_capacity(before):
            raise ArgumentError(f"{self.address} has no room for the column '{next(iter(new))}': index again")
        facts = {**before, "columns": columns, TYPES: {**before.get(TYPES, {}), **new}}
        names, size = self.names, self._page_size
        self._facts, self._read_at = facts, math.inf  # nothing is read meanwhile
        try:
            for some in _batches(names, size):
                self._change_columns(some, {column: [""] * len(some) for column in new})
            self._call("alter_collection_properties", properties={PROPERTY: json.dumps(facts)})
        except BaseException:
            self._facts = before
            raise
        finally:
            self._read_at = time.monotonic()

    def change_columns(self, names: Sequence[str], columns: Mapping[str, Sequence[Any]]) -> int:
        """Changes column values of photos; returns how many are in the index. See `NeighbourIndex.change_columns`.

        Milvus stores a photo as a whole: its rows are read, and written again.
        """
        self._read_facts()
        texts = stored_values(columns, self.facts)
        check_names(names)
        for column, values in texts.items():
            if len(values) != len(names):
                raise ArgumentError(f"got {len(names)} names and {len(values)} values of '{column}'")
        changed = 0
        for start in range(0, len(names) if texts else 0, self._page_size):
            part = slice(start, start + self._page_size)
            changed += self._change_columns(names[part], {column: values[part] for column, values in texts.items()})
        return changed

    def _change_columns(self, names: Sequence[str], texts: Mapping[str, Sequence[str]]) -> int:
        place = {key_of(name): row for row, name in enumerate(names)}
        field = "photo" if self.facts.get("crops") else "key"
        fields = ["key", "name", "vector", "columns", *(["photo", "crop", "box"] if self.facts.get("crops") else [])]
        found = self._call("query", filter=_is_one_of(field, list(place)), output_fields=fields)
        for entity in found:
            values = {column: entity["columns"].get(column, "") for column in self.facts["columns"]}
            values |= {column: some[place[entity[field]]] for column, some in texts.items()}
            entity |= fields_of(values, self.facts, entity["name"])
        for message in _batches([dict(entity) for entity in found], self._page_size):
            self._call("upsert", data=message)
            self._last_change = time.monotonic()
        return len({entity[field] for entity in found})

    def _completed(self, names: Sequence[str], texts: dict[str, list[str]]) -> dict[str, list[str]]:
        """Adds the column values that replaced photos keep."""
        missing = [column for column in self.facts["columns"] if column not in texts]
        kept = {column: [""] * len(names) for column in missing}
        for start in range(0, len(names) if missing else 0, self._page_size):
            place = {key_of(name): row for row, name in enumerate(names[start : start + self._page_size], start)}
            for photo in self._call("get", ids=list(place), output_fields=["key", "columns"]):
                for column in missing:
                    kept[column][place[photo["key"]]] = photo["columns"].get(column, "")
        return texts | kept

    def _delete_surplus(self, names: Sequence[str], crops: PhotoCrops) -> None:
        """Deletes rows of photos that had more crops before they were replaced."""
        for count in np.unique(crops.counts).tolist():
            keys = [key_of(name) for name, rows in zip(names, crops.counts.tolist(), strict=True) if rows == count]
            for some in _batches(keys, MAX_NEIGHBOURS):
                condition = f"{_is_one_of('photo', some)} and crop >= {count}"
                if self._count(condition):
                    self._call("delete", filter=condition)
                    self._last_change = time.monotonic()

    def delete(self, names: Sequence[str]) -> int:
        """Deletes photos by name, ignoring unknown names; returns the number deleted. See `NeighbourIndex.delete`."""
        deleted = 0
        for keys in _batches([key_of(name) for name in dict.fromkeys(names)], MAX_NEIGHBOURS):
            deleted += self._count(_is_one_of("key", keys))
            if self.facts.get("crops"):
                self._call("delete", filter=_is_one_of("photo", keys))
            else:
                self._call("delete", ids=keys)
            self._last_change = time.monotonic()
        return deleted

    def vectors(self, names: Sequence[str] | None = None) -> np.ndarray:
        """Returns the stored descriptors of some or all photos; see `NeighbourIndex.vectors`.

        The descriptors are transferred from the server, and are not memory-mapped.
        """
        if names is None:
            rows = [photo["vector"] for photo in self._photos("vector")]
            return np.array(rows, "float32").reshape(-1, self.facts["dimensions"])
        return np.array(self._fields("vector", names), "float32").reshape(-1, self.facts["dimensions"])

    def crops(self, names: Sequence[str]) -> tuple[np.ndarray, PhotoCrops]:
        """Returns all stored descriptors of photos and their crops; see `NeighbourIndex.crops`."""
        if not self.facts.get("crops"):
            raise ArgumentError(NO_CROPS)
        found: dict[str, list[dict[str, Any]]] = {key_of(name): [] for name in names}
        for keys in _batches(list(found), max(1, self._page_size // sum(level**2 for level in self.facts["crops"]))):
            fields = ["photo", "crop", "vector", "box"]
            for row in self._call("query", filter=_is_one_of("photo", keys), output_fields=fields):
                found[row["photo"]].append(row)
        unknown = [name for name in names if not found[key_of(name)]]
        if unknown:
            raise ArgumentError(f"the index has no photo {unknown[0]!r}")
        rows = [sorted(found[key_of(name)], key=lambda row: row["crop"]) for name in names]
        vectors = np.array([row["vector"] for some in rows for row in some], "float32")
        boxes = np.array([json.loads(row["box"])[:4] for some in rows for row in some], "float32").reshape(-1, 4)
        counts = np.array([len(some) for some in rows], np.int64)
        return vectors.reshape(-1, self.facts["dimensions"]), PhotoCrops(counts, boxes)

    def to_stored(self, rows: np.ndarray) -> np.ndarray:
        """Returns checked descriptors, which Milvus stores as they are; see `NeighbourIndex.to_stored`."""
        return self._checked(rows, "rows")

    def columns(self, names: Sequence[str] | None = None) -> dict[str, list[str]]:
        """Returns the column values of some or all photos; see `NeighbourIndex.columns`."""
        if names is None:
            values = [photo["columns"] for photo in self._photos("columns")]
        else:
            values = self._fields("columns", names)
        return {column: [texts.get(column, "") for texts in values] for column in self.facts["columns"]}

    def close(self) -> None:
        """Closes the connection to the server."""
        self._client.close()

    @property
    def _page_size(self) -> int:
        """The number of photos per response that contains descriptors."""
        return max(1, MESSAGE_BYTES // (4 * self.facts["dimensions"] + _ENTITY_BYTES))

    def _call(self, method: str, **options: Any) -> Any:
        """Calls a method of the client on the collection; calls it again if the collection was replaced meanwhile."""
        from pymilvus import MilvusException

        if method in READS:
            # A process sees its own changes at once. Waiting for changes by others would cost each search 0.2 s.
            changed = time.monotonic() - self._last_change < STALENESS
            options["consistency_level"] = "Strong" if changed else "Bounded"
        try:
            return getattr(self._client, method)(self._collection, **options)
        except MilvusException as error:
            if self._was_replaced():
                return self._call(method, **options)
            raise MilvusError(f"{self.address}: Milvus could not {method}: {error.message}") from error

    def _was_replaced(self) -> bool:
        """Opens the collection to which the address now refers; returns whether it is another collection."""
        from pymilvus import MilvusException

        before = self._collection
        try:
            self._open()
        except (MilvusException, CollectionError):
            return False
        return self._collection != before

    def _checked(self, rows: np.ndarray, label: str) -> np.ndarray:
        rows = np.ascontiguousarray(rows, "float32")
        dimensions = self.facts["dimensions"]
        check_shape(rows, {dimensions}, dimensions, label)
        check_finite([rows], label)
        return rows

    def _limited(self, k: int) -> int:
        if k > MAX_NEIGHBOURS and (k := min(k, len(self))) > MAX_NEIGHBOURS:
            raise ArgumentError(
                f"k must be at most {MAX_NEIGHBOURS:,}, the neighbours that Milvus returns for a query, got {k:,}"
            )
        return max(k, 1)

    def _condition(self, where: Filter | None) -> str | None:
        """Makes a Milvus filter expression from hashes, which need no escaping; None if no photo can match."""
        where = where or Filter()
        where.check(self.facts)
        conditions = [] if where.names is None else [Condition(PHOTO_COLUMN, IN, tuple(where.names))]
        conditions += where.on_columns
        if any(condition.operator == IN and not condition.values and not condition.negated for condition in conditions):
            return None
        return " and ".join(filter(None, map(self._expression, conditions)))

    def _expression(self, condition: Condition) -> str:
        """Makes a Milvus filter expression of a condition; "" if all photos satisfy it."""
        expression = self._positive(condition)
        if not expression or not condition.negated:
            return expression
        if type_of(self.facts, condition.column) in (NUMBER, TIME) and condition.operator == IN:
            # Milvus finds a photo without a number neither by a condition nor by its negation.
            missing = "" if "" in condition.values else f" or {self._without(condition.column)}"
            return f"(not {expression}{missing})"
        return f"not ({expression})"

    def _without(self, column: str) -> str:
        return f"array_contains_any(tags, {json.dumps([tag_of(column, '')])})"

    def _positive(self, condition: Condition) -> str:
        """The expression of a condition without its negation; "" if it has no values."""
        column, values = condition.column, condition.values if condition.operator != EMPTY else ("",)
        if not values:
            return ""
        if column == PHOTO_COLUMN:
            return _is_one_of("photo" if self.facts.get("crops") else "key", [key_of(name) for name in values])
        kind = type_of(self.facts, column)
        if kind in (NUMBER, TIME) and condition.operator != EMPTY:
            return self._ordered(condition, kind)
        contains = "array_contains_all" if condition.operator == ALL else "array_contains_any"
        return f"{contains}(tags, {json.dumps([tag_of(column, value) for value in values])})"

    def _ordered(self, condition: Condition, kind: str) -> str:
        number, parts = f'numbers["{number_field(self.facts, condition.column)}"]', []
        for value in condition.values:
            if not value:
                parts.append(self._without(condition.column))
                continue
            with suppress(ValueError):  # a value of another type matches no photo
                parts.append(_in_span(number, condition.operator, *span_of(kind, value)))
        return "(" + " or ".join(parts) + ")" if parts else 'key == ""'

    def _nearest(self, queries: np.ndarray, k: int, condition: str, exact: bool) -> list[Hits]:
        return [self._hits(answer) for answer in self._answers(queries, k, condition, exact)]

    def _answers(self, queries: np.ndarray, k: int, condition: str, exact: bool) -> list[Any]:
        """The k nearest rows of each query, as Milvus returns them."""
        params = self._search_params(k, exact)
        found: list[Any] = []
        for batch in _batches(queries, max(1, min(1000, NAMES_PER_ANSWER // k))):
            found += self._call(
                "search",
                data=batch,
                limit=k,
                filter=condition,
                anns_field="vector",
                output_fields=["name", "box"] if self.facts.get("crops") else ["name"],
                search_params={"metric_type": "IP", "params": params},
            )
        return found

    def _hits(self, answer: Any, k: int | None = None) -> Hits:
        """The hits of a ranking of rows; with crops, the first row of each of the first k photos."""
        if not self.facts.get("crops"):
            names = [hit["entity"]["name"] for hit in answer]
            return Hits(names, np.array([hit["distance"] for hit in answer], "float32"))
        best = {hit["entity"]["name"]: hit for hit in reversed(answer)}
        rows = sorted(best.values(), key=lambda hit: -hit["distance"])[:k]
        places = np.array([json.loads(hit["entity"]["box"]) for hit in rows], "float32").reshape(-1, 6)
        scores = np.array([hit["distance"] for hit in rows], "float32")
        return Hits([hit["entity"]["name"] for hit in rows], scores, places[:, :4], places[:, 4:])

    def _search_params(self, k: int, exact: bool) -> dict[str, int]:
        """Returns Milvus' search parameters. Above the tuned k, candidates and leaves grow in proportion to k."""
        configuration = self.facts["configuration"]
        if not configuration["leaves"]:
            return {}
        times = max(1.0, k / configuration["k"])
        most, tuned = configuration["leaves"], round(times * configuration["leaves_to_search"])
        leaves = most if exact else min(most, tuned)
        return {"nprobe": leaves, "reorder_k": max(k, len(self) if exact else round(times * configuration["reorder"]))}

    def _count(self, condition: str) -> int:
        return self._call("query", filter=condition, output_fields=["count(*)"])[0]["count(*)"]

    def _fields(self, field: str, names: Sequence[str]) -> list[Any]:
        """Returns one field of each named photo."""
        found: dict[str, Any] = {}
        for keys in _batches([key_of(name) for name in names], self._page_size):
            photos = self._call("get", ids=keys, output_fields=["key", field])
            found |= {photo["key"]: photo[field] for photo in photos}
        unknown = [name for name in names if key_of(name) not in found]
        if unknown:
            raise ArgumentError(f"the index has no photo {unknown[0]!r}")
        return [found[key_of(name)] for name in names]

    def _photos(self, field: str) -> Iterator[dict[str, Any]]:
        """Yields all photos in the order of their keys, each with one field."""
        self._count("")  # waits for recent changes of this process, as Milvus' iterator does not
        pages = self._call("query_iterator", batch_size=self._page_size, output_fields=[field], filter=self._whole)
        while page := pages.next():
            yield from page


def read_facts(address: Address, client: Any, *, older: bool = False) -> dict[str, Any]:
    """Reads the metadata of the index from its Milvus collection.

    Args:
        address: address of the collection.
        client: client from `Address.connect`.
        older: whether older layouts are accepted, as for a collection that is to be replaced.

    Returns:
        The metadata, as in `NeighbourIndex.facts`, and "version", the number of the layout.

    Raises:
        CollectionError: the collection does not exist, was not made by `keras-retrieval index`, or has an unsupported
            layout.
    """
    if not client.has_collection(address.collection):
        raise CollectionError(f"{address}: there is no such collection: `keras-retrieval index DESCRIPTORS {address}`")
    return facts_in(client.describe_collection(address.collection)["properties"], address, older=older)


def facts_in(properties: Mapping[str, str], address: Address, *, older: bool = False) -> dict[str, Any]:
    """Reads the metadata of the index from the properties of its collection; see `read_facts`."""
    try:
        facts = json.loads(properties[PROPERTY])
        version = int(facts["version"])
    except (KeyError, ValueError, TypeError) as error:
        raise CollectionError(f"{address} was not made by `keras-retrieval index`: name another collection") from error
    if version > VERSION:
        raise CollectionError(
            f"{address} has layout {version}, and this version reads up to {VERSION}: "
            "update with pip install -U keras-retrieval"
        )
    if version < PHOTOS_VERSION and not older:
        raise CollectionError(
            f"{address} has layout {version}, which is no longer supported: index again with --replace"
        )
    return facts


def _in_span(number: str, operator: str, first: float, after: float) -> str:
    point = first == after
    if operator == IN:
        return f"{number} == {first!r}" if point else f"({number} >= {first!r} and {number} < {after!r})"
    if not point and operator in ("<=", ">"):
        return f"{number} {'<' if operator == '<=' else '>='} {after!r}"
    return f"{number} {operator} {first!r}"


def _is_one_of(field: str, texts: Sequence[str]) -> str:
    return f"{field} in {json.dumps(list(texts))}"


def _batches(values: Any, size: int) -> Iterator[Any]:
    for start in range(0, len(values), size):
        yield values[start : start + size]

"""An index that is a collection of Milvus, for more photos than one machine holds: a `NeighbourIndex`.

Milvus keeps the photos, spreads them and searches; nothing of that is done here. A photo is an entity with

- `key`: a hash of its name, by which it is found, replaced and deleted: names may hold what Milvus' filters do not;
- `name` and `vector`;
- `tags`: a hash of each column with its value, which filters look at, for the same reason;
- `columns`: the values themselves, as JSON, for those who look at the collection by other means.

What the descriptors were made with stands in the collection's property `keras_retrieval`.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..index_contract.checks import check_columns, check_names, check_rows
from ..index_contract.contract import Filter, Hits
from .address import Address, CollectionError, parse_address

PROPERTY, VERSION = "keras_retrieval", 1
MOST = 16_384  # neighbours that Milvus gives a query
NAME_BYTES = 65_535  # the longest text that Milvus keeps
MESSAGE = 2**23  # bytes of rows in a message: Milvus takes 64 MB, a client may ask for less
ANSWERS = 100_000  # names in a message
STALE = 5.0  # seconds that Milvus lets a quick search lag behind what others have written
READS = ("search", "query", "get")


class MilvusIndex:
    """A collection that is open.

    Args:
        place: its address, see address.

    Raises:
        CollectionError: there is none, it was not made by `keras-retrieval index`, or it is of a newer layout.
        ConnectionError: no server answers.
    """

    def __init__(self, place: str) -> None:
        self.address = parse_address(place)
        self._client = self.address.connect()
        self._changed = -STALE
        self._open()

    def _open(self) -> None:
        """Binds to the collection that the address stands for now, and to what it says of itself."""
        self.facts: Mapping[str, Any] = read_facts(self.address, self._client)
        self._collection = self._client.describe_collection(self.address.collection)["collection_name"]
        self._client.load_collection(self._collection)

    @property
    def names(self) -> list[str]:
        """See `NeighbourIndex.names`."""
        return [photo["name"] for photo in self._photos("name")]

    def __len__(self) -> int:
        return self._count("")

    def search(
        self, queries: np.ndarray, k: int = 10, *, exact: bool = False, where: Filter | None = None
    ) -> list[Hits]:
        """See `NeighbourIndex.search`.

        Raises:
            ValueError: also k above 16,384, which is Milvus' limit, in a collection of more photos.
        """
        if k < 1:
            raise ValueError(f"k is at least 1, not {k}")
        queries = self._checked(queries, "queries")
        passing = self._passing(where)
        if passing is None or not len(queries):
            return [Hits([], np.zeros(0, "float32")) for _ in queries]
        k = self._limit(k)
        hits = self._nearest(queries, k, passing, exact)
        short = [row for row, hit in enumerate(hits) if len(hit.names) < k]
        # A tree may miss some: fewer than k is an answer only if there are no more.
        if short and not exact:
            k = min(k, self._count(passing))
            short = [row for row in short if len(hits[row].names) < k]
            if short:
                for row, hit in zip(short, self._nearest(queries[short], k, passing, True), strict=True):
                    hits[row] = hit
        return hits

    def add(self, names: Sequence[str], rows: np.ndarray, columns: Mapping[str, Sequence[str]] | None = None) -> None:
        """See `NeighbourIndex.add`. Where the server fails midway, the first photos may be in: add all again."""
        checked = self._checked(rows, "rows")
        for photos in entities(names, checked, columns or {}, self.facts["columns"]):
            self._call("upsert", data=photos)
            self._changed = time.monotonic()

    def delete(self, names: Sequence[str]) -> int:
        """See `NeighbourIndex.delete`."""
        gone = 0
        for keys in _batches([key_of(name) for name in dict.fromkeys(names)], MOST):
            gone += self._count(_one_of("key", keys))
            self._call("delete", ids=keys)
            self._changed = time.monotonic()
        return gone

    def vectors(self, names: Sequence[str] | None = None) -> np.ndarray:
        """See `NeighbourIndex.vectors`; they come over the network."""
        if names is None:
            rows = [photo["vector"] for photo in self._photos("vector")]
            return np.array(rows, "float32").reshape(-1, self.facts["dimensions"])
        found: dict[str, list[float]] = {}
        for keys in _batches([key_of(name) for name in names], self._page):
            photos = self._call("get", ids=keys, output_fields=["key", "vector"])
            found |= {photo["key"]: photo["vector"] for photo in photos}
        unknown = [name for name in names if key_of(name) not in found]
        if unknown:
            raise ValueError(f"the index has no photo {unknown[0]!r}")
        rows = [found[key_of(name)] for name in names]
        return np.array(rows, "float32").reshape(-1, self.facts["dimensions"])

    def close(self) -> None:
        """See `NeighbourIndex.close`."""
        self._client.close()

    @property
    def _page(self) -> int:
        """Photos in an answer."""
        return max(1, MESSAGE // (4 * self.facts["dimensions"] + 1024))

    def _call(self, method: str, **options: Any) -> Any:
        from pymilvus import MilvusException

        if method in READS:
            # What this process has written, it sees at once; to wait for all others would cost each search 0.2 s.
            fresh = time.monotonic() - self._changed < STALE
            options["consistency_level"] = "Strong" if fresh else "Bounded"
        try:
            return getattr(self._client, method)(self._collection, **options)
        except MilvusException as error:
            if self._replaced():
                return self._call(method, **options)
            raise OSError(f"{self.address}: Milvus could not {method}: {error.message}") from error

    def _replaced(self) -> bool:
        """Whether another collection stands at the address now, which is opened."""
        from pymilvus import MilvusException

        before = self._collection
        try:
            self._open()
        except (MilvusException, CollectionError):
            return False
        return self._collection != before

    def _checked(self, rows: np.ndarray, what: str) -> np.ndarray:
        rows = np.ascontiguousarray(rows, "float32")
        if rows.ndim != 2:
            raise ValueError(f"{what} are an array (n, dimensions), not {rows.shape}")
        if rows.shape[1] != self.facts["dimensions"]:
            raise ValueError(f"{what} have {rows.shape[1]} dimensions, the index {self.facts['dimensions']}")
        check_rows([rows], what)
        return rows

    def _limit(self, k: int) -> int:
        if k > MOST and (k := min(k, len(self))) > MOST:
            raise ValueError(f"Milvus gives at most {MOST:,} neighbours a query: ask for fewer than {k:,}")
        return max(k, 1)

    def _passing(self, where: Filter | None) -> str | None:
        """A filter in Milvus' language, of hashes alone, so that no text can be misread; None if no photo can pass."""
        where = where or Filter()
        check_columns(where.columns, self.facts["columns"])
        keys = None if where.names is None else [key_of(name) for name in where.names]
        tags = [[tag_of(column, value) for value in values] for column, values in where.columns.items()]
        if [] in (keys, *tags):
            return None
        conditions = [] if keys is None else [_one_of("key", keys)]
        return " and ".join(conditions + [f"array_contains_any(tags, {json.dumps(some)})" for some in tags])

    def _nearest(self, queries: np.ndarray, k: int, passing: str, exact: bool) -> list[Hits]:
        effort = self._effort(k, exact)
        hits = []
        for some in _batches(queries, max(1, min(1000, ANSWERS // k))):
            found = self._call(
                "search",
                data=some,
                limit=k,
                filter=passing,
                anns_field="vector",
                output_fields=["name"],
                search_params={"metric_type": "IP", "params": effort},
            )
            hits += [_hits(answer) for answer in found]
        return hits

    def _effort(self, k: int, exact: bool) -> dict[str, int]:
        """Milvus' settings of a search, which looks as much farther as k is larger than what it was tuned for."""
        how = self.facts["configuration"]
        if not how["leaves"]:
            return {}
        times = max(1.0, k / how["k"])
        leaves = how["leaves"] if exact else min(how["leaves"], round(times * how["leaves_to_search"]))
        return {"nprobe": leaves, "reorder_k": max(k, len(self) if exact else round(times * how["reorder"]))}

    def _count(self, passing: str) -> int:
        return self._call("query", filter=passing, output_fields=["count(*)"])[0]["count(*)"]

    def _photos(self, field: str) -> Iterator[dict[str, Any]]:
        """All photos in the order of their keys."""
        self._count("")  # waits for what was just written, as Milvus' iterator does not
        pages = self._call("query_iterator", batch_size=self._page, output_fields=[field])
        while page := pages.next():
            yield from page


def read_facts(address: Address, client: Any) -> dict[str, Any]:
    """What a collection says of itself.

    Raises:
        CollectionError: see `MilvusIndex`.
    """
    if not client.has_collection(address.collection):
        raise CollectionError(f"{address}: there is no such collection: `keras-retrieval index DESCRIPTORS {address}`")
    properties = client.describe_collection(address.collection)["properties"]
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
    return facts


def entities(
    names: Sequence[str], rows: np.ndarray, columns: Mapping[str, Sequence[str]], known: Sequence[str]
) -> Iterator[list[dict[str, Any]]]:
    """Photos as Milvus takes them, in messages of a size that it takes.

    Args:
        names: (n,).
        rows: (n, D), checked.
        columns: column -> (n,) values.
        known: the index's columns.

    Raises:
        ValueError: shapes that do not fit, a name twice or too long, a column that the index has not.
    """
    names = list(names)
    check_names(names)
    check_columns(columns, known)
    check_texts(names)
    for what, many in {"rows": len(rows), **{f"values of '{key}'": len(columns[key]) for key in columns}}.items():
        if many != len(names):
            raise ValueError(f"{len(names)} names and {many} {what}")
    photos: list[dict[str, Any]] = []
    size = 0
    for number, (name, row) in enumerate(zip(names, rows, strict=True)):
        values = {column: columns[column][number] if column in columns else "" for column in known}
        photos.append(_entity(name, row, values))
        size += row.nbytes + len(name.encode()) + len(json.dumps(values)) + 64 * (1 + len(values))
        if size > MESSAGE:
            yield photos
            photos, size = [], 0
    if photos:
        yield photos


def _entity(name: str, row: np.ndarray, values: dict[str, str]) -> dict[str, Any]:
    tags = [tag_of(column, value) for column, value in values.items()]
    return {"key": key_of(name), "name": name, "vector": row, "tags": tags, "columns": values}


def check_texts(names: Sequence[str]) -> None:
    """Refuses names that Milvus does not keep.

    Raises:
        ValueError: no Unicode, as of a file whose name is no UTF-8, or longer than 65,535 bytes in UTF-8.
    """
    for row, name in enumerate(names):
        try:
            size = len(name.encode())
        except UnicodeEncodeError as error:
            raise ValueError(f"row {row}: the name {name!r} is no Unicode text, and Milvus keeps no other") from error
        if size > NAME_BYTES:
            raise ValueError(f"row {row}: a name of {size:,} bytes, and Milvus keeps {NAME_BYTES:,}")


def key_of(name: str) -> str:
    """A photo's primary key, 32 characters."""
    return hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def tag_of(column: str, value: str) -> str:
    """What filters know of a value in a column, 32 characters."""
    return key_of(json.dumps([column, value]))


def _one_of(field: str, texts: Sequence[str]) -> str:
    return f"{field} in {json.dumps(list(texts))}"


def _batches(values: Any, size: int) -> Iterator[Any]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _hits(answer: Any) -> Hits:
    return Hits([hit["entity"]["name"] for hit in answer], np.array([hit["distance"] for hit in answer], "float32"))

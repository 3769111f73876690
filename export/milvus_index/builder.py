"""Descriptors to a Milvus collection: `keras-retrieval index DESCRIPTORS milvus://HOST:19530/COLLECTION`.

The collection is built under another name, COLLECTION_ and eight characters; COLLECTION is an alias of it, moved there
when it is whole. So a reader finds the old collection or the new one, whenever the writer dies.
"""

import json
import math
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from keras_retrieval.pipelines.files.progress import progress

from ..index_contract.photos import PhotosToIndex
from ..index_contract.tuning import IndexSettings, hold_out, tune
from .address import Address, CollectionError, parse_address
from .milvus_index import NAME_BYTES, PROPERTY, VERSION, MilvusIndex, check_texts, entities, read_facts

BUILDING = f"{PROPERTY}_building_since"  # a property, empty when the collection is whole
ABANDONED = 24 * 3600  # seconds after which nobody is building it any more
TAKEN = ("recall", "k", "exact", "leaves", "leaves_to_search", "reorder")  # of IndexSettings
LEAVES = 4096  # at most; Milvus makes them for each of its segments


def write_collection(
    place: str, photos: PhotosToIndex, facts: Mapping[str, Any], settings: IndexSettings, *, may_replace: bool = False
) -> MilvusIndex:
    """Fills a collection and chooses how it is searched.

    Exact under 20,000 photos, and in milvus-lite. Above, a server builds its SCANN index, and how far a search looks is
    tuned to the recall that is asked, as in a folder.

    Args:
        place: its address.
        photos: to be indexed, as they are: nothing is shortened.
        facts: what the descriptors were made with.
        settings: of these recall, k, exact, leaves, leaves_to_search and reorder.
        may_replace: a collection of ours may be replaced.

    Returns:
        The collection, open.

    Raises:
        ValueError: names that Milvus does not keep, or settings of folders.
        CollectionError: the collection exists and may not be replaced, or was not made by `index`.
        OSError: no server answers, or it failed; what stood there before is untouched.
    """
    from pymilvus import MilvusException

    check_texts(photos.names)
    address = parse_address(place)
    _check_settings(photos, settings, address.local)
    started = time.monotonic()
    client = address.connect()
    old = _standing(address, client, may_replace)
    _drop_abandoned(address, client)
    building = Address(address.uri, f"{address.collection}_{secrets.token_hex(4)}")
    how = _configuration(len(photos.names), address.local, settings)
    told = dict(facts) | {"version": VERSION, "columns": list(photos.columns), "configuration": how}
    try:
        _create(client, building.collection, told)
        _fill(client, building.collection, photos, how)
        if how["leaves"]:
            told["configuration"] = how | _tuned(building, photos, settings)
        _tell(client, building.collection, told, building="")
        move = client.alter_alias if old else client.create_alias
        move(collection_name=building.collection, alias=address.collection)
    except BaseException as error:
        client.drop_collection(building.collection)
        if isinstance(error, MilvusException):
            raise OSError(f"{address}: Milvus could not build the collection: {error.message}") from error
        raise
    if old:
        client.drop_collection(old)
    opened = MilvusIndex(place)
    _report(opened, time.monotonic() - started)
    return opened


def _report(opened: MilvusIndex, seconds: float) -> None:
    how = opened.facts["configuration"]
    speed = f", {how['queries_per_second']:,.0f} queries/s" if "queries_per_second" in how else ""
    print(
        f"{opened.address}: {len(opened):,} photos, {how['kind']}, recall@{how['k']} {how['recall']:.3f}{speed}, "
        f"built in {seconds:.1f} s"
    )


def _check_settings(photos: PhotosToIndex, settings: IndexSettings, local: bool) -> None:
    """Refuses what only a folder can do, or only a server."""
    taken = TAKEN[:3] if local else TAKEN
    asked, usual = (asdict(each) | asdict(each.hashing) for each in (settings, IndexSettings()))
    others = [name for name in asked if name not in (*taken, "hashing") and asked[name] != usual[name]]
    others += [] if photos.projection is None else ["dim"]
    if others:
        raise ValueError(f"--{others[0].replace('_', '-')} is not for this collection, which takes {', '.join(taken)}")


def _standing(address: Address, client: Any, may_replace: bool) -> str | None:
    """The collection that an address stands for, which may be replaced, or None."""
    if not client.has_collection(address.collection):
        return None
    if not may_replace:
        raise CollectionError(f"{address} exists already: name another collection, or replace it")
    read_facts(address, client)
    return client.describe_collection(address.collection)["collection_name"]


def _drop_abandoned(address: Address, client: Any) -> None:
    for name in client.list_collections():
        if name.startswith(f"{address.collection}_"):
            since = client.describe_collection(name)["properties"].get(BUILDING)
            if since and float(since) < time.time() - ABANDONED:
                client.drop_collection(name)


def _configuration(count: int, local: bool, settings: IndexSettings) -> dict[str, Any]:
    """How the collection is searched; not yet tuned, a search looks at everything."""
    how: dict[str, Any] = {"k": settings.k, "asked": asdict(settings), "leaves": 0}
    if local or settings.tree(count) is None:
        return how | {"kind": "exact, by Milvus", "type": "FLAT", "recall": 1.0}
    leaves = min(settings.leaves or round(2 * math.sqrt(count)), LEAVES)
    how |= {"kind": "SCANN, by Milvus", "type": "SCANN", "leaves": leaves}
    return how | {"leaves_to_search": leaves, "reorder": count}


def _create(client: Any, name: str, facts: Mapping[str, Any]) -> None:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("key", DataType.VARCHAR, max_length=32, is_primary=True)
    schema.add_field("name", DataType.VARCHAR, max_length=NAME_BYTES)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=facts["dimensions"])
    capacity = max(1, len(facts["columns"]))
    schema.add_field("tags", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=capacity, max_length=32)
    schema.add_field("columns", DataType.JSON)
    client.create_collection(name, schema=schema)
    _tell(client, name, facts, building=f"{time.time():.0f}")


def _tell(client: Any, name: str, facts: Mapping[str, Any], building: str) -> None:
    client.alter_collection_properties(name, {PROPERTY: json.dumps(facts), BUILDING: building})


def _fill(client: Any, name: str, photos: PhotosToIndex, how: Mapping[str, Any]) -> None:
    start = 0
    with progress("Milvus", len(photos.names)) as advance:
        for rows in photos.rows:
            part = slice(start, start + len(rows))
            texts = {column: values[part] for column, values in photos.columns.items()}
            for some in entities(photos.names[part], rows, texts, list(photos.columns)):
                client.insert(name, some)
                advance(len(some))
            start += len(rows)
    client.flush(name)  # what is not flushed would not be in the index
    settings = client.prepare_index_params()
    params = {"nlist": how["leaves"]} if how["leaves"] else {}
    settings.add_index("vector", index_type=how["type"], metric_type="IP", params=params)
    client.create_index(name, settings)
    client.load_collection(name)


def _tuned(building: Address, photos: PhotosToIndex, settings: IndexSettings) -> dict[str, Any]:
    """How far a search looks, and the recall and speed of that, by searching what was built."""
    count = len(photos.names)
    held = hold_out(photos.rows, count, settings.k, photos.stored)
    assert held, "a collection that is no longer searched exactly has rows"
    row_of = {name: row for row, name in enumerate(photos.names)}
    opened = MilvusIndex(str(building))
    how = opened.facts["configuration"]

    def find(queries: np.ndarray, count: int, reorder: int, leaves: int) -> np.ndarray:
        how.update(leaves_to_search=leaves, reorder=reorder)
        found = np.full((len(queries), count), -1)
        for row, hits in zip(found, opened.search(queries, count), strict=True):
            row[: len(hits.names)] = [row_of[name] for name in hits.names]
        return found

    return tune(find, held, settings, how["leaves"])

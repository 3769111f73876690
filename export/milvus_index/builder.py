"""Builds an index in a Milvus collection: `keras-retrieval index DESCRIPTORS milvus://HOST:19530/COLLECTION`.

The new collection gets the name COLLECTION_ followed by eight characters. When it is complete, the alias COLLECTION is
moved to it, so that a reader finds either the old or the new collection even if the writer is killed.
"""

import json
import math
import secrets
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras_retrieval.pipelines.files.progress import progress

from keras_retrieval.errors import ArgumentError

from ..index_contract.errors import CollectionError, MilvusError
from ..index_contract.index_settings import IndexSettings
from ..index_contract.photo_crops import photo_blocks
from ..index_contract.photos_to_index import PhotosToIndex
from ..index_contract.recall_tuning import hold_out, tune
from .address import Address, parse_address
from .entities import MAX_NAME_BYTES, ROOM, check_storable, entities, room_for_tags, tag_capacity
from .milvus_index import CROPS_VERSION, PHOTOS_VERSION, PROPERTY, MilvusIndex, read_facts

BUILDING = f"{PROPERTY}_building_since"  # property of a collection: start of its build; empty when it is complete
ABANDONED = 24 * 3600  # seconds after which an incomplete collection is considered abandoned and is deleted
MAX_LEAVES = 4096  # per segment of Milvus
LOCAL_SETTINGS = ("recall", "k", "exact")
SERVER_SETTINGS = (*LOCAL_SETTINGS, "leaves", "leaves_to_search", "reorder")


def write_collection(
    place: str, photos: PhotosToIndex, facts: Mapping[str, Any], settings: IndexSettings, *, may_replace: bool = False
) -> MilvusIndex:
    """Writes photos to a new Milvus collection and tunes its search.

    The search is exact below 20,000 photos, and always in a milvus-lite file. Otherwise the server builds an index of
    its type SCANN, whose search is tuned to the required recall as that of an index folder is.

    Args:
        place: address of the collection, see `parse_address`.
        photos: photos to index, without a projection.
        facts: metadata of the descriptors, as in `NeighbourIndex.facts`: the settings of `extract` and the photo
            folder.
        settings: build settings; only those in `SERVER_SETTINGS`, or in `LOCAL_SETTINGS` for a milvus-lite file, may
            differ from their defaults.
        may_replace: whether an existing collection may be replaced.

    Returns:
        The open collection.

    Raises:
        ArgumentError: Milvus cannot store a name, or a setting is not supported for this collection.
        CollectionError: the collection exists and may not be replaced, or was not made by `keras-retrieval index`.
        MilvusConnectionError: no server answers, or it refuses the credentials.
        MilvusError: the server reported an error; an existing collection is unchanged.
    """
    check_storable(photos.names)
    address = parse_address(place)
    _check_settings(photos, settings, address.local)
    client = address.connect()
    from pymilvus import MilvusException

    old = _existing(address, client, may_replace)
    _drop_abandoned(address, client)
    building = Address(address.uri, f"{address.collection}_{secrets.token_hex(4)}")
    configuration = _configuration(photos.row_count, address.local, settings)
    version = PHOTOS_VERSION if photos.crops is None else CROPS_VERSION
    facts = dict(facts) | {"version": version, "columns": list(photos.columns), "configuration": configuration}
    facts |= {ROOM: room_for_tags(facts)}
    try:
        _create(client, building.collection, facts)
        _fill(client, building.collection, photos, facts)
        if configuration["leaves"]:
            facts["configuration"] = configuration | _tune(building, photos, settings)
        _write_facts(client, building.collection, facts, building="")
        move = client.alter_alias if old else client.create_alias
        move(collection_name=building.collection, alias=address.collection)
    except BaseException as error:
        client.drop_collection(building.collection)
        if isinstance(error, MilvusException):
            raise MilvusError(f"{address}: Milvus could not build the collection: {error.message}") from error
        raise
    if old:
        client.drop_collection(old)
    return MilvusIndex(place)


def _check_settings(photos: PhotosToIndex, settings: IndexSettings, local: bool) -> None:
    """Rejects settings that the collection does not support, such as those that only index folders have."""
    supported = LOCAL_SETTINGS if local else SERVER_SETTINGS
    given, defaults = settings.facts(), IndexSettings().facts()
    others = [name for name in given if name not in supported and given[name] != defaults[name]]
    others += [] if photos.projection is None else ["dim"]
    if others:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in supported)
        raise ArgumentError(
            f"--{others[0].replace('_', '-')} is not supported for this collection; supported are {flags}"
        )


def _existing(address: Address, client: Any, may_replace: bool) -> str | None:
    """Returns the name of the collection behind the alias, after checking that it may be replaced; None without one."""
    if not client.has_collection(address.collection):
        return None
    if not may_replace:
        raise CollectionError(f"{address} exists already: name another collection, or add --replace")
    read_facts(address, client, older=True)
    return client.describe_collection(address.collection)["collection_name"]


def _drop_abandoned(address: Address, client: Any) -> None:
    for name in client.list_collections():
        if name.startswith(f"{address.collection}_"):
            since = client.describe_collection(name)["properties"].get(BUILDING)
            if since and float(since) < time.time() - ABANDONED:
                client.drop_collection(name)


def _configuration(count: int, local: bool, settings: IndexSettings) -> dict[str, Any]:
    """Returns the initial search settings of the collection; with these, a search compares all photos."""
    common: dict[str, Any] = {"k": settings.k, "settings": settings.facts(), "leaves": 0}
    if local or settings.tree_leaves(count) is None:
        return common | {"kind": "exact, by Milvus", "type": "FLAT", "recall": 1.0}
    leaves = min(settings.leaves or round(2 * math.sqrt(count)), MAX_LEAVES)
    common |= {"kind": "SCANN, by Milvus", "type": "SCANN", "leaves": leaves}
    return common | {"leaves_to_search": leaves, "reorder": count}


def _create(client: Any, name: str, facts: Mapping[str, Any]) -> None:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("key", DataType.VARCHAR, max_length=32, is_primary=True)
    schema.add_field("name", DataType.VARCHAR, max_length=MAX_NAME_BYTES)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=facts["dimensions"])
    capacity = tag_capacity(facts)
    schema.add_field("tags", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=capacity, max_length=32)
    schema.add_field("columns", DataType.JSON)
    schema.add_field("numbers", DataType.JSON)
    if facts.get("crops"):
        schema.add_field("photo", DataType.VARCHAR, max_length=32)
        schema.add_field("crop", DataType.INT32)
        schema.add_field("box", DataType.VARCHAR, max_length=256)
    client.create_collection(name, schema=schema)
    _write_facts(client, name, facts, building=f"{time.time():.0f}")


def _write_facts(client: Any, name: str, facts: Mapping[str, Any], building: str) -> None:
    client.alter_collection_properties(name, {PROPERTY: json.dumps(facts), BUILDING: building})


def _fill(client: Any, name: str, photos: PhotosToIndex, facts: Mapping[str, Any]) -> None:
    configuration = facts["configuration"]
    with progress("Milvus", photos.row_count) as advance:
        for part, rows, crops in photo_blocks(photos.rows, photos.crops):
            texts = {column: values[part] for column, values in photos.columns.items()}
            for message in entities(photos.names[part], rows, texts, facts, crops):
                client.insert(name, message)
                advance(len(message))
    client.flush(name)  # rows that are not flushed would be missing from the index of Milvus
    index_params = client.prepare_index_params()
    params = {"nlist": configuration["leaves"]} if configuration["leaves"] else {}
    index_params.add_index("vector", index_type=configuration["type"], metric_type="IP", params=params)
    client.create_index(name, index_params)
    client.load_collection(name)


def _tune(building: Address, photos: PhotosToIndex, settings: IndexSettings) -> dict[str, Any]:
    """Tunes the search settings by searching the collection; returns them with the measured recall and speed."""
    held_out = hold_out(photos.rows, len(photos.names), settings.k, photos.to_stored, photos.crops)
    assert held_out, "a collection that is not searched exactly has at least 16 rows"
    row_of = {name: row for row, name in enumerate(photos.names)}
    opened = MilvusIndex(str(building))
    configuration = opened.facts["configuration"]

    def find(queries: np.ndarray, count: int, reorder: int, leaves: int) -> np.ndarray:
        configuration.update(leaves_to_search=leaves, reorder=reorder)
        found = np.full((len(queries), count), -1)
        for row, hits in zip(found, opened.search(queries, count), strict=True):
            row[: len(hits.names)] = [row_of[name] for name in hits.names]
        return found

    return tune(find, held_out, settings, configuration["leaves"])

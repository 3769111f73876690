"""Checks options that name an index or a table of columns, before it is opened; see `pipelines.command.kinds`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_retrieval.pipelines.command.kinds import Reads, Writes, require_package, takes_addresses
from keras_retrieval.pipelines.files.durable import FolderError, kind_of, read_manifest
from keras_retrieval.pipelines.files.remote import RemoteFolder, address_of, check_address
from keras_retrieval.pipelines.files.remote_errors import shown
from keras_retrieval.pipelines.photos.intake_options import PHOTO_PLACE

from keras_retrieval.errors import ArgumentError

from ..folder_index.index_at_address import has_index
from ..folder_index.layout import KIND, VERSION
from ..index_contract.errors import IndexFileNotFoundError
from ..milvus_index.address import is_milvus, parse_address

COLUMNS = Reads("file", IndexFileNotFoundError)
"""The kind of an option that names a table of columns."""


@takes_addresses
def index_to_change(label: str, value: Any) -> None:
    """The kind of an option that names an index of this machine: a folder that `index` wrote, or a collection.

    Raises:
        FolderError: the folder does not exist, is not an index, or lacks a file; or it is at an address.
        ArgumentError: the address of the collection is invalid.
        MissingExtraError: Milvus' client is needed but not installed.
    """
    if is_milvus(value):
        _check_address(value)
    elif address := remote_index(value):
        raise FolderError(
            f"{shown(address)} is an address, and this step takes an index of this machine, or milvus://..: name "
            "the folder in which it was made, or a copy (search, serve --index, groups, "
            "calibrate and localize read indexes at addresses)"
        )
    else:
        read_manifest(Path(value), kind=KIND, version=VERSION)


def remote_index(place: str | Path) -> str | None:
    """Returns the address of an index folder at an address; None for a folder of this machine and for a collection."""
    return None if is_milvus(place) else address_of(place)


@takes_addresses
def index_to_read(label: str, value: Any) -> None:
    """The kind of an option that names an index to read, which may be at an address; the storage is asked nothing.

    Raises:
        ArgumentError: there is no storage of this kind, or the address is invalid.
        MissingExtraError: the package for addresses of this kind is not installed.
        RetrievalError: of a folder or a collection, as for `index_to_change`.
    """
    if remote_index(value):
        check_address(label, value)
    else:
        index_to_change(label, value)


def is_index(value: str) -> bool:
    """Returns whether a text is the address of a collection, or the path of an index folder."""
    return is_milvus(value) or kind_of(Path(value)) == KIND


def is_index_there(place: str) -> bool:
    """Returns whether there is an index at an address, which is asked; False for a path of this machine.

    Raises:
        RemoteError: the storage does not answer, or refuses.
    """
    address = remote_index(place)
    return address is not None and has_index(RemoteFolder(address))


@takes_addresses
def index_or_photos(label: str, value: Any) -> None:
    """The kind of an option that names an index or a folder of photos.

    Raises:
        PhotoFolderError: there is no such folder.
        RetrievalError: of an index, as for `index_to_read`.
    """
    if is_index(value):
        index_to_read(label, value)
    else:
        PHOTO_PLACE(label, value)


@takes_addresses
def index_to_export(label: str, value: Any) -> None:
    """The kind of an option that names an index with one row per photo.

    Raises:
        ArgumentError: the index has crops.
        RetrievalError: as for `index_to_change`.
    """
    index_to_change(label, value)
    if not is_milvus(value):
        require_no_crops(value, read_manifest(Path(value), kind=KIND, version=VERSION))


def require_no_crops(place: str, facts: Mapping[str, Any]) -> None:
    """Checks that the index at `place`, of which `facts` is the metadata, has one row per photo.

    Raises:
        ArgumentError: the index has crops.
    """
    if facts.get("crops"):
        raise ArgumentError(
            f"{place} has several rows per photo, which a version cannot contain: serve it with `keras-retrieval serve "
            "--index`, or index descriptors without --crops"
        )


@takes_addresses
def index_to_write(label: str, value: Any) -> None:
    """The kind of an option that names an index to write: a folder, also at an address, or that of a collection.

    Raises:
        FolderError: the path is a file, or cannot be written.
        ArgumentError: the address of the collection is invalid.
        MissingExtraError: Milvus' client is needed but not installed.
    """
    if is_milvus(value):
        _check_address(value)
    else:
        Writes("folder", FolderError, addresses=True)(label, value)


def _check_address(place: str) -> None:
    address = parse_address(place)
    for module in ("pymilvus", "milvus_lite") if address.local else ("pymilvus",):
        require_package(module, "Milvus' client", "milvus")

"""Opens an index of any kind: an index folder, or a collection on a Milvus server."""

from pathlib import Path

from ..folder_index.following import Following
from ..index_contract.contract import NeighbourIndex
from ..milvus_index.address import is_milvus
from .kinds import remote_index


def follow_index(place: str | Path, following: Following, copy: Path | None = None) -> NeighbourIndex:
    """Opens an index for a server, which searches it while other processes change it.

    Args:
        place: an index as for `open_index`, or the address of an index folder, such as s3://BUCKET/INDEX, of which a
            read-only copy on this machine is searched.
        following: how changes of an index folder are followed.
        copy: folder of the copy; None for one in the user's cache folder.

    Returns:
        The open index.

    Raises:
        FolderError: at an address there is no index, or it is damaged.
        RemoteError: the storage of an address does not answer, or refuses.
        RetrievalError: as for `open_index`.
    """
    address = remote_index(place)
    if address is None:
        return open_index(place, following)
    from ..folder_index.copied_index import CopiedIndex

    return CopiedIndex(address, copy, following)


def place_to_read(place: str) -> str:
    """Returns where an index can be opened: at an address such as s3://BUCKET/INDEX its copy, brought up to date.

    The copy is in the user's cache folder, the same as that of a server of this machine.

    Args:
        place: an index as for `follow_index`.

    Raises:
        FolderError: there is no index at the address, it is damaged, or its copy cannot be written.
        RemoteError: the storage of the address does not answer, or refuses.
    """
    address = remote_index(place)
    if address is None:
        return place
    from ..folder_index.copied_index import IndexCopy

    copy = IndexCopy(address)
    copy.update(wait=True)
    return str(copy.folder)


def place_of(index: NeighbourIndex, place: str) -> str:
    """Returns the folder of an open index, or the address of a collection: of a copy, that of the copy."""
    return str(getattr(index, "folder", place))


def open_index(place: str | Path, following: Following | None = None) -> NeighbourIndex:
    """Opens an index for searches and changes.

    Args:
        place: folder of an index written by `keras-retrieval index`, or the address of a Milvus collection,
            `milvus://HOST:PORT/COLLECTION`.
        following: how an index folder follows changes by other processes; None for an index that is searched at once.

    Returns:
        The open index; `close` releases its files or its connection.

    Raises:
        FolderError: the folder does not exist, is not an index, has an unsupported layout, or one of its files is
            missing or was altered.
        ArgumentError: the address of the collection is invalid.
        CollectionError: the collection does not exist, was not made by `keras-retrieval index`, or has an unsupported
            layout.
        MilvusConnectionError: no Milvus server answers, or it refuses the credentials.
        MissingExtraError: ScaNN or Milvus' client is needed but not installed.
    """
    if is_milvus(place):
        from ..milvus_index.milvus_index import MilvusIndex

        return MilvusIndex(str(place))
    from ..folder_index.folder_index import FolderIndex

    return FolderIndex(Path(place), following)

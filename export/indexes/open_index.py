"""Opens an index of any kind: an index folder, or a collection on a Milvus server."""

from pathlib import Path

from ..folder_index.following import Following
from ..index_contract.contract import NeighbourIndex
from ..milvus_index.address import is_milvus


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

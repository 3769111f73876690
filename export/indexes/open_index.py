"""Opens an index of any kind: a folder, or a collection on a Milvus server."""

from pathlib import Path

from ..index_contract.contract import NeighbourIndex
from ..milvus_index.address import is_milvus


def open_index(place: str | Path) -> NeighbourIndex:
    """Opens an index.

    Args:
        place: folder of an index written by `keras-retrieval index`, or address `milvus://HOST:PORT/COLLECTION`.

    Raises:
        FolderError: the folder does not exist, is not an index or has another layout, or a file is missing or altered.
        CollectionError: the collection does not exist, or was not made by `keras-retrieval index`.
        MilvusConnectionError: no Milvus server answers.
        MissingExtraError: ScaNN or Milvus' client is needed but not installed.
    """
    if is_milvus(place):
        from ..milvus_index.milvus_index import MilvusIndex

        return MilvusIndex(str(place))
    from ..folder_index.folder_index import FolderIndex

    return FolderIndex(Path(place))

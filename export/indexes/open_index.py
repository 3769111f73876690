"""open_index."""

from pathlib import Path

from ..index_contract.contract import NeighbourIndex
from ..milvus_index.address import is_milvus


def open_index(place: str | Path) -> NeighbourIndex:
    """Opens an index: a folder that `keras-retrieval index` wrote, or `milvus://HOST:PORT/COLLECTION`.

    Raises:
        FolderError: the folder is no index, of a newer layout, or one of its files is missing or has changed.
        CollectionError: there is no such collection, or `keras-retrieval index` did not make it.
        ConnectionError: no Milvus server answers.
    """
    if is_milvus(place):
        from ..milvus_index.milvus_index import MilvusIndex

        return MilvusIndex(str(place))
    from ..folder_index.folder_index import FolderIndex

    return FolderIndex(Path(place))

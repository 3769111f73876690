"""Opens the described photos among which `localize` finds those that are most similar to a query."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from keras_retrieval.pipelines.command.kinds import takes_addresses
from keras_retrieval.pipelines.localization.descriptors import (
    DescribedPhotos,
    described_photos,
    read_photo_descriptors,
)

from ..index_contract.contract import Filter, NeighbourIndex
from ..indexes.kinds import index_to_read, is_index, is_index_there
from ..indexes.open_index import open_index, place_to_read


class IndexedPhotos:
    """The photos of an index, as `DescribedPhotos`.

    Args:
        index: the open index.
    """

    def __init__(self, index: NeighbourIndex) -> None:
        self._index = index
        self._names = list(index.names)

    @property
    def names(self) -> Sequence[str]:
        """The names of the photos."""
        return self._names

    @property
    def facts(self) -> Mapping[str, Any]:
        """How the descriptors were computed."""
        return self._index.facts

    def nearest(self, rows: np.ndarray, among: Collection[str], count: int) -> list[list[str]]:
        """Finds the photos that are most similar to queries by a search of the index, see `DescribedPhotos`."""
        where = Filter(names=[name for name in self._names if name in among])
        return [hits.names for hits in self._index.search(rows, count, where=where)]


def open_described(place: str) -> DescribedPhotos:
    """Opens described photos.

    Args:
        place: an index, a folder or the address of a collection, or a folder that `reconstruct` or `extract` wrote; or
            the address of an index or of descriptors.

    Raises:
        LocalizationError: `reconstruct` computed no descriptors.
        RemoteError: the storage of an address does not answer, or refuses.
        FolderError, CollectionError: it is damaged, or has several descriptors per photo without being an index.
    """
    if is_index(place) or is_index_there(place):
        return IndexedPhotos(open_index(place_to_read(place)))
    return read_photo_descriptors(Path(place))


@takes_addresses
def index_or_described(label: str, value: Any) -> None:
    """The kind of the argument INDEX: an index, or a folder that `reconstruct` or `extract` wrote.

    Raises:
        FolderError: it is none of these.
        ArgumentError: the address of the collection is invalid.
        MissingExtraError: Milvus' client is needed but not installed.
    """
    if is_index(value) or is_index_there(value):
        index_to_read(label, value)
    else:
        described_photos(label, value)

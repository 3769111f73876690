"""One index of a collection with the network that describes its photos. Another network or size needs another index."""

import contextlib
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from keras_retrieval.pipelines.files.durable import fingerprint
from keras_retrieval.pipelines.photos.reader import MAX_PIXELS
from keras_retrieval.pipelines.runtimes.options import RUNTIME

from ..folder_index.folder_index import FolderIndex
from ..folder_index.writer import write_index
from ..index_contract.answers import Answers
from ..index_contract.index_settings import IndexSettings
from ..index_contract.photo_crops import PhotoCrops
from ..index_contract.photos_to_index import PhotosToIndex, RowBlocks
from .changes import State
from .network import LoadedNetwork, load_network
from .network_choice import ChosenNetwork, recorded

if TYPE_CHECKING:
    from ..indexes.calibrated import LiveCalibration

COLUMNS = ("modified", "bytes", "time", "latitude", "longitude")
"""The columns of the index: the state of each photo's file when it was described, and its time and position."""


class Generation:
    """An index of a collection and its network.

    Args:
        folder: the index folder, which need not exist.
        photos: the photo folder.
        record: the network and the settings of the description, as `record_of` makes it.
        runtime: the value of the option `--runtime`.

    Attributes:
        folder: the index folder.
        record: the record.
        index: the open index; None until the first photos are in it.
        network: the network in memory; None until `load`.
    """

    def __init__(self, folder: Path, photos: Path, record: Mapping[str, Any], runtime: str = RUNTIME) -> None:
        self.folder, self.record = folder, dict(record)
        self.index: FolderIndex | None = None
        self.network: LoadedNetwork | None = None
        self._photos, self._runtime = photos, runtime
        self._loading = threading.Lock()
        self._judging = threading.Lock()
        self._calibration: LiveCalibration | None = None

    @property
    def name(self) -> str:
        """The name of the index folder."""
        return self.folder.name

    @property
    def chosen(self) -> ChosenNetwork | None:
        """The network; None if its file is gone."""
        return recorded(self.record)

    def open(self) -> None:
        """Opens the index, if there is one.

        Raises:
            FolderError: the index is damaged.
            MissingExtraError: the index needs ScaNN, which is not installed.
        """
        if self.index is None and self.folder.exists():
            self.index = FolderIndex(self.folder)

    def load(self) -> LoadedNetwork:
        """Loads the network, unless it is loaded; other threads wait meanwhile.

        Raises:
            RetrievalError: the network cannot be loaded.
        """
        with self._loading:
            if self.network is None:
                record = self.record
                self.network = load_network(record["model"], record["size"], record["bfloat16"], self._runtime)
            return self.network

    def states(self) -> dict[str, State]:
        """Returns the size and the modification time that the file of each photo had when it was described."""
        if self.index is None:
            return {}
        columns = self.index.columns()
        pairs = zip(columns["bytes"], columns["modified"], strict=True)
        return dict(zip(self.index.names, ((_number(size), _number(time)) for size, time in pairs), strict=True))

    def answers(self) -> Answers | None:
        """Returns the probabilities of neighbours by the calibration in the index folder as it is now.

        Returns:
            None without a calibration, or with one that does not fit, which is logged.
        """
        if self.index is None:
            return None
        from ..indexes.calibrated import LiveCalibration

        with self._judging:
            if self._calibration is None:
                self._calibration = LiveCalibration(self.index, self.folder, None)
        return self._calibration.answers()

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels of the crops of photos, see `grid_crops`; () for one descriptor per photo."""
        return tuple(self.record.get("crops", ()))

    def add(
        self,
        names: Sequence[str],
        rows: np.ndarray,
        columns: Mapping[str, Sequence[str]],
        crops: PhotoCrops | None = None,
    ) -> None:
        """Adds or replaces photos; searches that begin later find them.

        Args:
            names: names of the n photos.
            rows: their descriptors, (n, D), or with crops (R, D).
            columns: n values for each column.
            crops: the crops of the photos; None for one row per photo.

        Raises:
            OSError: the index cannot be written.
        """
        if self.index is not None:
            self.index.add(names, rows, columns, crops=crops)
            return
        for leftover in self.folder.parent.glob(f"{self.folder.name}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        photos = PhotosToIndex(list(names), RowBlocks(lambda: iter([rows])), rows.shape[1], columns, crops=crops)
        settings = IndexSettings(exact=not scann_is_installed(), grace=0)  # the state folder is of one machine
        write_index(self.folder, photos, self._facts(rows.shape[1]), settings)
        self.index = FolderIndex(self.folder)

    def delete(self, names: Sequence[str]) -> int:
        """Deletes photos; returns their number.

        Raises:
            OSError: the index cannot be written.
        """
        return self.index.delete(names) if self.index is not None and names else 0

    def close(self) -> None:
        """Closes the index."""
        if self.index is not None:
            with contextlib.suppress(OSError):
                self.index.close()

    def _facts(self, dimensions: int) -> dict[str, Any]:
        described = {
            "model": self.record["identity"], "size": self.record["size"], "scales": [1.0], "antialias": True,
            "mirror": False, "edges": "", "bfloat16": self.record["bfloat16"], "exif": True, "max_pixels": MAX_PIXELS,
        }  # fmt: skip
        described |= {"crops": list(self.levels)} if self.levels else {}
        facts = {**described, "photos": str(self._photos.resolve()), "dimensions": dimensions}
        return facts | {"fingerprint": fingerprint(described, str(self._photos.resolve()))}


def record_of(
    network: ChosenNetwork, identity: Mapping[str, str], size: int, bfloat16: bool, levels: Sequence[int] = ()
) -> dict[str, Any]:
    """Makes the record of an index, which is stored in the manifest of the state.

    Args:
        network: the network.
        identity: its identity, see `model_identity`.
        size: the longest side of a photo in pixels.
        bfloat16: whether the trunk runs in bfloat16.
        levels: levels of the crops of photos; () for one descriptor per photo.
    """
    described = {"identity": dict(identity), "size": size, "bfloat16": bfloat16, "crops": list(levels)}
    return network.record() | described


def same_descriptors(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Returns whether two records give the same descriptors of a photo."""
    ours, theirs = ({key: record["identity"].get(key) for key in ("sha256", "name")} for record in (one, other))
    same = ours == theirs and all(one[key] == other[key] for key in ("size", "bfloat16"))
    return same and list(one.get("crops", ())) == list(other.get("crops", ()))


def scann_is_installed() -> bool:
    """Returns whether ScaNN can be imported, without importing it."""
    from importlib.util import find_spec

    return find_spec("scann") is not None


def _number(text: str) -> int:
    return int(text) if text.removeprefix("-").isdigit() else 0  # times before 1970 are negative

"""A small collection with folders, times, positions and columns, for tests of the search page without TensorFlow."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from keras_retrieval.pipelines.photos.reader import PhotoError, photo_size

from export.index_contract.contract import NeighbourIndex
from export.indexes.open_index import open_index
from export.search_page.catalogue import Catalogue
from export.search_page.errors import NotReadyError
from export.search_page.source import Box, Status
from tests.helpers import small
from tests.helpers.small_index import indexed, random_rows

PHOTOS = {  # name -> time, latitude, longitude, camera
    "a/IMG_10.jpg": ("2020-05-01T10:00:00", "48.85", "2.35", "Canon"),
    "a/IMG_9.jpg": ("2020-05-02T10:00:00Z", "48.86", "2.36", "Canon"),
    "a/b/x.jpg": ("2021", "", "", "Pixel"),
    "b/ä & ?#%.jpg": ("", "-17.7", "179.5", ""),
    "b/y.jpg": ("not a time", "-17.8", "-179.5", "Pixel"),
    "top.jpg": ("1999-12-31T23:59:59", "91", "0", "Canon"),
}
NATURAL = ["top.jpg", "a/IMG_9.jpg", "a/IMG_10.jpg", "a/b/x.jpg", "b/ä & ?#%.jpg", "b/y.jpg"]
ROWS = dict(zip(PHOTOS, random_rows(len(PHOTOS)), strict=True))
NEW = "new.jpg"  # a photo that is not searchable yet


class SmallSource:
    """Implements `PhotoSource`; what its methods return can be replaced by tests.

    `describe` returns the descriptor that ROWS has for a photo of the folder, by the bytes of its file.
    """

    def __init__(self, work: Path) -> None:
        self.folder = work / "photos"
        for number, name in enumerate([*PHOTOS, NEW]):
            small.draw(self.folder / name, 60, 80, seed=number)
        table = work / "table.csv"
        quoted = [f'"{name}",{",".join(facts)}' for name, facts in PHOTOS.items()]
        table.write_text("\n".join(["photo,Time,lat,lng,camera", *quoted]), encoding="utf-8")
        rows = np.stack(list(ROWS.values()))
        self.searched: NeighbourIndex | None = open_index(indexed(work, rows, list(PHOTOS), columns=table))
        names = [*self.searched.names, NEW]
        columns = {column: [*texts, ""] for column, texts in self.searched.columns().items()}
        self.photos = Catalogue(names, columns, self.searched.names, version="1")
        self.progress = Status(photos=len(names), searchable=len(PHOTOS), network="small", size=64)
        self.reasons: dict[str, str] = {"broken.jpg": "truncated: the file ends too early"}
        self.described: list[Box | None] = []
        self.ready = True

    def index(self) -> NeighbourIndex | None:
        return self.searched

    def catalogue(self) -> Catalogue:
        return self.photos

    def describe(self, file: bytes, box: Box | None) -> np.ndarray:
        if not self.ready:
            raise NotReadyError("The network is being loaded. Try again in a few seconds.")
        height, width = photo_size(file)
        if box is not None and (box[2] <= box[0] or box[2] > width or box[3] > height):
            raise PhotoError("<bytes>", "its box is empty or extends beyond the photo")
        self.described.append(box)
        for name, row in ROWS.items():
            if (self.folder / name).read_bytes() == file:
                return row
        return np.eye(8, dtype=np.float32)[0]

    def status(self) -> Status:
        return self.progress

    def left_out(self) -> Mapping[str, str]:
        return self.reasons

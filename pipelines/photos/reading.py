"""Reads photos as a network needs them: resized, padded to the network's smallest input, or converted to edge maps."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from keras_retrieval.errors import ArgumentError

from ..files.remote import RemoteFolder, remote_folder
from .edges import MARGIN, edge_map
from .formats import Source
from .grid_crops import grid_boxes
from .reader import MAX_PIXELS, Crop, PhotoError, photo_size, read_crops, read_photo
from .remote_photos import header_at, photo_at, photo_readers

Pixels = TypeVar("Pixels")

Shape = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class Reading:
    """Reads the photos of a folder as a network needs them.

    Attributes:
        folder: the folder of the photos, or an address such as s3://BUCKET/FOLDER as a path.
        size: the longest side of a photo after resizing, in pixels; None for no resizing.
        exif: whether the EXIF orientation is applied to photos.
        max_pixels: the largest number of pixels that a photo's header may declare; a larger photo raises PhotoError.
        smallest: the smallest height and width, in pixels, of the arrays that `read` returns. Smaller photos are padded
            at the bottom and on the right by repeating their last row and column.
        edges: the kind of edge maps to compute instead of photos, such as "sobel"; "" for photos. See
            `edge_map` in the module `edges`.
        accept_truncated: whether a JPEG that lacks its last bytes is read, with grey in place of what is missing.
        truncated: the names of the photos that were accepted although they lack their last bytes.
    """

    folder: Path
    size: int | None
    exif: bool = True
    max_pixels: int = MAX_PIXELS
    smallest: int = 1
    edges: str = ""
    accept_truncated: bool = False
    truncated: set[str] = field(default_factory=set, compare=False)

    def shape(self, name: str, crop: Crop | None = None) -> Shape:
        """Computes the size of the array that `read` returns for the same arguments, from the photo's header.

        Args:
            name: the name of the photo, relative to `folder`.
            crop: the part of the photo, as for `read`.

        Returns:
            The (height, width) in pixels.

        Raises:
            PhotoError: the header cannot be read or declares too many pixels, or `crop` is empty or extends beyond the
                photo.
        """
        margins = 2 * MARGIN if self.edges else 0

        def size(source: Source) -> Shape:
            return photo_size(source, crop=crop, **self._options())

        found = header_at(self.remote, name, size) if self.remote else size(self.folder / name)
        height, width = (side + margins for side in found)
        return max(height, self.smallest), max(width, self.smallest)

    def read(self, name: str, crop: Crop | None = None) -> np.ndarray:
        """Reads a photo, or its edge map if `edges` is not empty.

        Args:
            name: the name of the photo, relative to `folder`.
            crop: the part of the photo to read, (left, top, right, bottom) in pixels of the photo before resizing; None
                for the whole photo.

        Returns:
            The pixels, (height, width, 3) uint8.

        Raises:
            PhotoError: the photo cannot be read or has no edge map, or `crop` is empty or extends beyond the photo.
        """
        pixels = self._pixels(name, crop)
        if self.edges:
            pixels = edge_map(self.edges, pixels, self.folder, name, crop)
        return self._padded(pixels)

    def read_crops(self, name: str, levels: tuple[int, ...]) -> list[tuple[Crop, np.ndarray]]:
        """Reads the crops of a photo in grids, see `grid_boxes`; the photo is decoded once.

        Args:
            name: the name of the photo, relative to `folder`.
            levels: the levels of the grids.

        Returns:
            For each crop its left, top, right and bottom in pixels of the upright photo, and its pixels, (height,
            width, 3) uint8, whose longest side is that of the whole photo.

        Raises:
            PhotoError: the photo cannot be read.
            ArgumentError: `edges` is not empty.
        """
        if self.edges:
            raise ArgumentError("crops are of photos, not of edge maps")

        def read(source: Source, accept_truncated: bool) -> list[tuple[Crop, np.ndarray]]:
            boxes, pixels = read_crops(
                source,
                lambda width, height: grid_boxes(width, height, levels),
                accept_truncated=accept_truncated,
                **self._options(),
            )
            return [(box, self._padded(one)) for box, one in zip(boxes, pixels, strict=True)]

        return self._accepting(name, read)

    def _padded(self, pixels: np.ndarray) -> np.ndarray:
        missing = [(0, max(0, self.smallest - side)) for side in pixels.shape[:2]]
        return np.pad(pixels, [*missing, (0, 0)], mode="edge") if any(after for _, after in missing) else pixels

    def _pixels(self, name: str, crop: Crop | None) -> np.ndarray:
        def read(source: Source, accept_truncated: bool) -> np.ndarray:
            return read_photo(source, crop=crop, accept_truncated=accept_truncated, **self._options())

        return self._accepting(name, read)

    def _accepting(self, name: str, read: Callable[[Source, bool], Pixels]) -> Pixels:
        """Reads a photo, which is noted in `truncated` if it can only be read by accepting that bytes are missing."""

        def accepting(source: Source) -> Pixels:
            try:
                return read(source, False)
            except PhotoError as error:
                if not (self.accept_truncated and error.truncated):
                    raise
            pixels = read(source, True)
            self.truncated.add(name)
            return pixels

        return photo_at(self.remote, name, accepting) if self.remote else accepting(self.folder / name)

    @property
    def readers(self) -> int:
        """How many photos are read at a time; see `remote_photos.photo_readers`."""
        return photo_readers(self.folder)

    @cached_property
    def remote(self) -> RemoteFolder | None:
        """The folder at the address that `folder` names; None for a folder of this machine."""
        return remote_folder(self.folder)

    def longest(self) -> int:
        """Returns the largest height or width that an array from `read` can have, in pixels.

        Raises:
            ArgumentError: `size` is None.
        """
        if self.size is None:
            raise ArgumentError("a reading without a size has no longest side")
        return max(self.size + (2 * MARGIN if self.edges else 0), self.smallest)

    def _options(self) -> dict[str, Any]:
        return {"size": self.size, "exif": self.exif, "max_pixels": self.max_pixels}

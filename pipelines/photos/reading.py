"""The photos of a folder, read as a network needs them: resized, padded to a smallest side, or as edge maps."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.errors import ArgumentError

from .edges import MARGIN, edge_map
from .reader import MAX_PIXELS, Crop, PhotoError, photo_size, read_photo

Shape = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class Reading:
    """Reads the photos of a folder for a network.

    Attributes:
        folder: the folder of the photos.
        size: the longest side after resizing, in pixels; None for no resizing.
        exif: whether the EXIF orientation is applied to photos.
        max_pixels: a photo whose header declares more pixels is refused.
        smallest: the smallest height and width; smaller photos are padded by repeating their last row and column.
        edges: the kind of edge maps to read instead of photos, see `edges.edge_map`; "" for photos.
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
        """The (height, width) of the result of `read` with the same arguments, from the photo's header.

        Raises:
            PhotoError: the photo cannot be read.
        """
        margins = 2 * MARGIN if self.edges else 0
        height, width = (side + margins for side in photo_size(self.folder / name, crop=crop, **self._options()))
        return max(height, self.smallest), max(width, self.smallest)

    def read(self, name: str, crop: Crop | None = None) -> np.ndarray:
        """Reads a photo or its edge map, (height, width, 3) uint8.

        Args:
            name: the name of the photo, relative to the folder.
            crop: the part to read, as for `reader.read_photo`.

        Raises:
            PhotoError: the photo cannot be read, or has no edge map.
        """
        pixels = self._pixels(name, crop)
        if self.edges:
            pixels = edge_map(self.edges, pixels, self.folder, name, crop)
        missing = [(0, max(0, self.smallest - side)) for side in pixels.shape[:2]]
        return np.pad(pixels, [*missing, (0, 0)], mode="edge") if any(after for _, after in missing) else pixels

    def _pixels(self, name: str, crop: Crop | None) -> np.ndarray:
        try:
            return read_photo(self.folder / name, crop=crop, **self._options())
        except PhotoError as error:
            if not (self.accept_truncated and error.truncated):
                raise
        pixels = read_photo(self.folder / name, crop=crop, accept_truncated=True, **self._options())
        self.truncated.add(name)
        return pixels

    def longest(self) -> int:
        """The largest height or width of a result of `read`, in pixels.

        Raises:
            ArgumentError: `size` is None.
        """
        if self.size is None:
            raise ArgumentError("a reading without a size has no longest side")
        return max(self.size + (2 * MARGIN if self.edges else 0), self.smallest)

    def _options(self) -> dict[str, Any]:
        return {"size": self.size, "exif": self.exif, "max_pixels": self.max_pixels}

"""reading."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .edges import MARGIN, edge_map
from .reader import MAX_PIXELS, Crop, photo_size, read_photo

Shape = tuple[int, int]


@dataclass(frozen=True)
class Reading:
    """How photos are read for a network.

    Attributes:
        folder: of the photos.
        size: the longest side after resizing, in pixels; None for no resizing.
        exif: turn photos as EXIF says.
        max_pixels: the most that a photo may declare.
        smallest: what the network needs on each side; a smaller photo gets its edge pixels repeated up to it.
        edges: the kind of edge maps that are read instead of photos, see `edges.edge_map`; "" for photos.
    """

    folder: Path
    size: int | None
    exif: bool = True
    max_pixels: int = MAX_PIXELS
    smallest: int = 1
    edges: str = ""

    def shape(self, name: str, crop: Crop | None = None) -> Shape:
        """(height, width) of what `read` returns, from the photo's header."""
        margins = 2 * MARGIN if self.edges else 0
        height, width = (side + margins for side in photo_size(self.folder / name, crop=crop, **self._options()))
        return max(height, self.smallest), max(width, self.smallest)

    def read(self, name: str, crop: Crop | None = None) -> np.ndarray:
        """The photo's pixels, (height, width, 3) uint8."""
        pixels = read_photo(self.folder / name, crop=crop, **self._options())
        if self.edges:
            pixels = edge_map(self.edges, pixels, self.folder, name, crop)
        missing = [(0, max(0, self.smallest - side)) for side in pixels.shape[:2]]
        return np.pad(pixels, [*missing, (0, 0)], mode="edge") if any(after for _, after in missing) else pixels

    def longest(self) -> int:
        """The most pixels on a side of what `read` returns.

        Raises:
            ValueError: no size is set.
        """
        if self.size is None:
            raise ValueError("photos that are not resized have any size")
        return max(self.size + (2 * MARGIN if self.edges else 0), self.smallest)

    def _options(self) -> dict[str, Any]:
        return {"size": self.size, "exif": self.exif, "max_pixels": self.max_pixels}

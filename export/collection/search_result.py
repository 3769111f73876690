"""The result of a search, which a notebook shows as a row of pictures."""

import base64
import html
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_retrieval.pipelines.photos.query_box import Box
from keras_retrieval.pipelines.photos.reader import PhotoError, photo_size, read_photo

from ..index_contract.calibration import probability_text

FRAME = "#ffb300"  # colour of the box of the best crop
SHOWN, SIDE, QUALITY = 24, 160, 75  # pictures in a notebook, their longer side in pixels, and their JPEG quality


@dataclass(frozen=True)
class Hit:
    """A photo that was found.

    Attributes:
        name: its name, relative to the photo folder.
        score: inner product of its descriptor with the query, at most 1 for one query.
        path: its file.
        box: with crops, the part of the photo that was found: left, top, right and bottom in pixels of the upright
            photo. None without crops.
        probability: of a calibrated collection, the probability that it shows the object of a query; else None.
    """

    name: str
    score: float
    path: Path
    box: Box | None = None
    probability: float | None = None

    @property
    def text(self) -> str:
        """The score, and the probability if it is known."""
        likely = "" if self.probability is None else f"  {probability_text(self.probability)}"
        return f"{self.score:.3f}{likely}"


class SearchResult(Sequence[Hit]):
    """The photos that a search found, sorted by descending score.

    Args:
        hits: the photos.
        compared: the number of photos that were searched.

    Attributes:
        compared: the number of photos that were searched.
    """

    def __init__(self, hits: Sequence[Hit], compared: int) -> None:
        self._hits, self.compared = list(hits), compared

    @property
    def names(self) -> list[str]:
        """The names of the photos."""
        return [hit.name for hit in self._hits]

    @property
    def scores(self) -> list[float]:
        """The scores of the photos."""
        return [hit.score for hit in self._hits]

    def __len__(self) -> int:
        return len(self._hits)

    def __getitem__(self, row):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN204
        return SearchResult(self._hits[row], self.compared) if isinstance(row, slice) else self._hits[row]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self._hits)

    def __repr__(self) -> str:
        rows = [f"{hit.text}  {hit.name}" for hit in self._hits[:SHOWN]]
        rest = len(self._hits) - len(rows)
        return "\n".join(
            [f"{len(self._hits)} of {self.compared:,} photos", *rows, *([f"and {rest} more"] * (rest > 0))]
        )

    def _repr_html_(self) -> str:
        """Returns the photos as small pictures with names and scores."""
        photos = [(hit.path, hit.text, hit.name, hit.box) for hit in self._hits]
        return gallery(photos, len(self._hits))


def gallery(photos: Sequence[tuple[Path, str, str, Box | None]], count: int) -> str:
    """Makes a row of pictures for a notebook.

    Args:
        photos: file, line of text and name of each photo, and the box to draw on it.
        count: the number of photos in all, of which `SHOWN` at most are shown.

    Returns:
        HTML with embedded pictures, which needs no files beside it.
    """
    cells = "".join(_cell(*photo) for photo in photos[:SHOWN])
    rest = count - min(count, SHOWN, len(photos))
    more = f'<p style="margin:4px 0">and {rest:,} more</p>' if rest > 0 else ""
    return f'<div style="display:flex;flex-wrap:wrap;gap:8px">{cells}</div>{more}'


def _cell(path: Path, text: str, name: str, box: Box | None) -> str:
    shown = html.escape(name)
    picture = _thumbnail(path, box)
    image = (
        f'<img src="data:image/jpeg;base64,{picture}" alt="{shown}" '
        f'style="max-width:{SIDE}px;max-height:{SIDE}px;display:block">'
        if picture
        else f'<span style="display:block;width:{SIDE}px">the photo cannot be read any more</span>'
    )
    short = html.escape(Path(name).name[-28:])
    return (
        f'<figure style="margin:0" title="{shown}">{image}'
        f'<figcaption style="font-size:11px;max-width:{SIDE}px;overflow-wrap:anywhere">{text} {short}</figcaption>'
        "</figure>"
    )


def _thumbnail(path: Path, box: Box | None) -> str:
    from PIL import Image, ImageDraw

    try:
        pixels = read_photo(path, size=SIDE, accept_truncated=True)
        width = photo_size(path)[1]
    except PhotoError:
        return ""
    file, thumbnail = io.BytesIO(), Image.fromarray(pixels)
    if box is not None:
        share = pixels.shape[1] / width
        left, top, right, bottom = (round(side * share) for side in box)
        frame = (left, top, max(left, right - 1), max(top, bottom - 1))
        if frame != (0, 0, thumbnail.width - 1, thumbnail.height - 1):
            ImageDraw.Draw(thumbnail).rectangle(frame, outline=FRAME, width=2)
    thumbnail.save(file, "JPEG", quality=QUALITY)
    return base64.b64encode(file.getvalue()).decode()

"""Finds files whose names are stored in another Unicode form than a list of names has.

macOS stores names decomposed (NFD), other systems as they were typed, mostly composed (NFC). Names in tuples, boxes and
lists of photos that were made on one machine find the same photos on another.
"""

import os
import unicodedata
from pathlib import Path


def normal(name: str) -> str:
    """Returns a name in Unicode's normal form NFC."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def stored_path(path: Path) -> Path:
    """Returns the path by which the system knows a file that is named in any Unicode form.

    Args:
        path: the path of the file.

    Returns:
        `path` if it exists; otherwise the path of the only file of the same text; `path` if there is none or several.
    """
    if str(path).isascii() or os.path.lexists(path):
        return path
    place = Path(path.anchor)
    for part in path.parts[bool(path.anchor) :]:
        step = place / part
        if not part.isascii() and not os.path.lexists(step):
            found = _alike(place, part)
            if len(found) != 1:
                return path
            step = place / found[0]
        place = step
    return place


def _alike(folder: Path, name: str) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir() if normal(entry.name) == normal(name)]
    except OSError:
        return []

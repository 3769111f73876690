"""Lists query photos: files, the photos of folders, and the lines of text files, which may state cameras."""

import re
from collections.abc import Sequence
from pathlib import Path

from keras_retrieval.errors import printable

from ..files.tables import read_lines
from ..photos.intake import list_photos
from .cameras import Camera, parse_camera
from .errors import LocalizationError

LIST = ".txt"
_LINE = re.compile(r"(.+?)\s+([A-Z][A-Z_0-9]*\s+\d+\s+\d+(?:\s+[-+.\deE]+)+)\s*")


def list_queries(queries: Sequence[Path]) -> dict[Path, Camera | None]:
    """Lists query photos.

    Args:
        queries: paths of photos, of folders, whose sub-folders are read too, and of text files with the ending .txt. A
            line of a text file has the path of a photo, relative to the folder of the file, and possibly its camera as
            hloc writes it: NAME CAMERA_MODEL WIDTH HEIGHT PARAMETERS. Lines that begin with # are ignored.

    Returns:
        A dict from the path of each photo, each once, to its camera; None without a camera.

    Raises:
        LocalizationError: there is no photo, or a line has a camera that COLMAP does not know.
        PhotoFolderError: a folder contains no photo.
        OSError, TableError: a text file cannot be read.
    """
    found: dict[Path, Camera | None] = {}
    for query in queries:
        if query.is_dir():
            found |= {query / name: None for name in list_photos(query)}
        elif query.suffix.lower() == LIST:
            found |= _listed(query)
        else:
            found.setdefault(query, None)
    if not found:
        raise LocalizationError(f"there is no photo in {', '.join(map(str, queries))}")
    return found


def _listed(path: Path) -> dict[Path, Camera | None]:
    found: dict[Path, Camera | None] = {}
    for line in read_lines(path):
        if line.startswith("#"):
            continue
        parts = _LINE.fullmatch(line)
        camera = parse_camera(parts[2]) if parts else None
        if parts and camera is None and not (path.parent / line.strip()).is_file():
            raise LocalizationError(
                f"{path}: {printable(parts[2])}, after {printable(parts[1])}, is no camera: write its COLMAP model, "
                "width, height and all parameters, such as SIMPLE_PINHOLE 1024 768 890 512 384"
            )
        found[path.parent / (parts[1] if parts and camera else line.strip())] = camera
    return found

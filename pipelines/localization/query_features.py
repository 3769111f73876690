"""Finds the local features of query photos as `reconstruct` finds those of the photos of a model."""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..local_features.extractors import XFEAT, extractor_identity
from ..photos.formats import photo_state
from ..sfm.brought_matches import BROUGHT
from ..sfm.colmap import Database, load_colmap
from ..sfm.feature_kinds import COUNTS, SIFT, extraction_settings, open_database
from ..sfm.options import ReconstructOptions
from ..sfm.photos import prepare_photo
from ..sfm.work_folder import OPTIONS, read_options
from .errors import LocalizationError

_DATABASE = "queries.db"

log = logging.getLogger("keras_retrieval")


@dataclass(frozen=True)
class QueryPhoto:
    """The local features and the camera of a query photo.

    Attributes:
        keypoints: the positions of the n features in pixels of the upright photo, (n, 2) float32; the centre of the
            first pixel is at 0.5.
        descriptors: L2-normalised descriptors, (n, D) float32.
        camera: a `pycolmap.Camera` with the focal length of the photo's metadata, or else COLMAP's guess.
    """

    keypoints: np.ndarray
    descriptors: np.ndarray
    camera: Any


def extraction_of(database: Path) -> dict[str, Any]:
    """Returns the options with which the features of a database were extracted: those of its run, or the defaults.

    Raises:
        FolderError: the file of the options is damaged.
        LocalizationError: the file of the extractor no longer exists or has changed, or the features were brought.
    """
    options = database.with_name(OPTIONS)
    if options.is_file():
        found = read_options(options)
        _check_extractor(extraction_settings(found)["kind"], found.get("sha256"), database)
        return found
    size = ReconstructOptions.__dataclass_fields__["size"].default
    default = {"features": SIFT, "feature_count": COUNTS[True], "size": size}
    log.warning(f"{options} does not exist: the queries' features are extracted with the defaults of `reconstruct`")
    return default


def _check_extractor(kind: str, expected: str | None, database: Path) -> None:
    if kind == BROUGHT:
        raise LocalizationError(
            f"the features of {database} were brought from another database, and are not known how to be made for a "
            "query: reconstruct with --features sift, xfeat or a file"
        )
    if kind not in (SIFT, XFEAT) and not Path(kind).is_file():
        raise LocalizationError(
            f"the features of {database} were made with {kind}, which no longer exists: put it back"
        )
    if kind != SIFT and expected is not None and extractor_identity(kind)["sha256"] != expected:
        raise LocalizationError(
            f"the features of {database} were made with another version of {kind}: put that file back, or reconstruct "
            "in a new folder"
        )


@contextmanager
def query_features(
    paths: Sequence[Path], extraction: dict[str, Any], accept_truncated: bool
) -> Iterator[tuple[dict[Path, str], "QueryFeatures"]]:
    """Context manager that finds the local features of query photos, in a temporary folder.

    Args:
        paths: the paths of the photos.
        extraction: the options of the extraction, see `extraction_of`.
        accept_truncated: whether a JPEG that lacks its last bytes is used.

    Yields:
        A dict from the path of each photo without features to the reason, and the features of the others.
    """
    with tempfile.TemporaryDirectory(prefix="localize-") as folder:
        images = Path(folder) / "images"
        names = {path: f"{number:08}" for number, path in enumerate(paths)}
        left_out = {}
        for path, name in names.items():
            note = prepare_photo(path.parent, path.name, photo_state(path), images / name, accept_truncated)
            if note["reason"]:
                left_out[path] = note["reason"]
        usable = {path: name for path, name in names.items() if path not in left_out}
        database = open_database(Path(folder) / _DATABASE, extraction)
        settings = extraction_settings(extraction)
        empty = database.extract_features(images, list(usable.values()), settings) if usable else {}
        left_out |= {path: empty[name] for path, name in usable.items() if name in empty}
        yield left_out, QueryFeatures(database, usable)


class QueryFeatures:
    """The local features of query photos in a temporary database."""

    def __init__(self, database: Database, names: dict[Path, str]) -> None:
        self._database, self._names = database, names

    def read(self, path: Path) -> QueryPhoto:
        """Reads the features of a photo."""
        name = self._names[path]
        features = self._database.read_features(name)
        assert features, f"the features of {path} were extracted"
        with load_colmap().Database.open(self._database.path) as opened:
            camera = opened.read_camera(opened.read_image_with_name(name).camera_id)
        return QueryPhoto(*features, camera)

"""The local features of a model's photos that are observations of 3D points."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..sfm.colmap import Database, colmap_name
from ..sfm.models import ColmapModel
from .errors import LocalizationError

_PHOTOS_IN_MEMORY = 256


@dataclass(frozen=True)
class MappedFeatures:
    """The n features of a photo of a model that are observations of 3D points.

    Attributes:
        descriptors: L2-normalised descriptors of the features, (n, D) float32.
        points: the IDs of their 3D points, (n,) int64.
        places: the positions of the points in the coordinates of the model, (n, 3) float64.
    """

    descriptors: np.ndarray
    points: np.ndarray
    places: np.ndarray


class MappedPhotos:
    """Reads the features of a model's photos. Those used last are kept in memory.

    Args:
        model: the model.
        database: the COLMAP database from which the model was reconstructed.
    """

    def __init__(self, model: ColmapModel, database: Database) -> None:
        self.model, self._database = model, database
        self.read = lru_cache(_PHOTOS_IN_MEMORY)(self._read)

    def _read(self, image: int) -> MappedFeatures:
        """Reads the features of an image.

        Args:
            image: the ID of the image in the model.

        Raises:
            LocalizationError: the database does not have the image, or its features are not those of the model.
        """
        name, found = self.model.names[image], self.model.colmap.images[image]
        rows = self._database.read_features(name)
        if rows is None:
            rows = self._database.read_features(colmap_name(name))
        if rows is None:
            raise LocalizationError(
                f"{self._database.path} does not contain the photo {name} of the model {self.model.folder}: give the "
                "database from which the model was reconstructed with --database"
            )
        keypoints, descriptors = rows
        observed = np.array(found.get_observation_point2D_idxs(), np.int64)
        if len(keypoints) != found.num_points2D():
            raise LocalizationError(
                f"{self._database.path} has {len(keypoints):,} features of the photo {name}, and the model "
                f"{self.model.folder} {found.num_points2D():,}: give the database from which the model was "
                "reconstructed with --database"
            )
        points = [found.points2D[row].point3D_id for row in observed.tolist()]
        places = [self.model.colmap.points3D[point].xyz for point in points]
        return MappedFeatures(
            descriptors[observed], np.array(points, np.int64), np.array(places, np.float64).reshape(-1, 3)
        )


def database_of(model: Path, given: Path | None, *others: Path) -> Path:
    """Finds the COLMAP database from which a model was reconstructed.

    Args:
        model: the folder of the model, or of several models.
        given: the value of the option --database.
        others: other folders in which a file database.db may be the database.

    Raises:
        LocalizationError: there is none.
    """
    if given is not None:
        return given
    for folder in (*model.absolute().parents, model.absolute(), *others):
        if (folder / "database.db").is_file():
            return folder / "database.db"
    raise LocalizationError(
        f"there is no database.db in {model} or in a folder above it: give the COLMAP database from which the model "
        "was reconstructed with --database"
    )

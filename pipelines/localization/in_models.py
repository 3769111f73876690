"""Localises query photos in one or several COLMAP models."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.errors import ArgumentError, first_line

from ..descriptors.query_descriptors import describe_queries
from ..files.progress import progress
from ..sfm.colmap import Database
from ..sfm.errors import ModelError
from ..sfm.feature_kinds import SIFT, extraction_settings, open_database
from ..sfm.learned_features import SMALLEST_COSINE
from ..sfm.models import ColmapModel, ImageNames, model_folders, read_model, usable_models, warn_of_empty
from .cameras import AUTO, OF_MODEL, Camera, camera_of_photos, parse_camera
from .descriptors import DescribedPhotos, require_described
from .mapped_features import MappedPhotos, database_of
from .pose import Pose, PoseSettings, estimate_pose, match_points
from .query_features import QueryFeatures, QueryPhoto, extraction_of
from .results import Localized

_LIMITS = {True: (0.75, 0.8), False: (SMALLEST_COSINE, None)}
"""Smallest cosine similarity, and largest ratio of angles, of matched features: COLMAP's for SIFT (an angle of 0.7
radians, and Lowe's ratio), and those of `reconstruct` for other features."""

_Place = tuple[int, int]  # the number of a model, and the ID of an image in it


@dataclass(frozen=True)
class LocalizerSettings:
    """How queries are localised; see the options of the command `localize`.

    Attributes:
        neighbours: number of photos of the model with which a query is matched.
        camera: the value of the option --camera.
        min_inliers: smallest number of inliers of a pose.
        error: largest reprojection error in pixels of a photo with a longest side of 1,024 pixels.
        seed: random seed of RANSAC.
        network: the network of the descriptors; None for the one that they name.
        runtime: the runtime of the network.
    """

    neighbours: int
    camera: str
    min_inliers: int
    error: float
    seed: int
    network: str | None
    runtime: str


@dataclass(frozen=True)
class OpenModels:
    """The models in which queries are localised.

    Attributes:
        models: the models with registered photos.
        database: the COLMAP database with their features.
        extraction: the settings with which these features were extracted; see `extraction_of`.
        photos: maps the name of each registered photo to its images in the models.
        described: the descriptors of the photos; None if queries are matched with all photos.
    """

    models: list[ColmapModel]
    database: Database
    extraction: dict[str, Any]
    photos: dict[str, list[_Place]]
    described: DescribedPhotos | None


def open_models(model: Path, database: Path | None, index: str, described: DescribedPhotos | None) -> OpenModels:
    """Opens models and their database.

    Args:
        model: the folder of a model, or of several.
        database: the value of the option --database.
        index: the folder or address of the described photos, in which the database is looked for, too.
        described: the described photos; None to match queries with all photos.

    Raises:
        ModelError: there is no model, a model is damaged, or has no registered photo.
        LocalizationError: no photo of the models is described, or there is no database.
        FolderError: the stored options of the extraction of features are damaged.
        ReconstructionError: the database is damaged.
    """
    folders = model_folders(model)
    if not folders:
        raise ModelError(
            f"{model} contains no COLMAP model: give a folder with cameras.bin, images.bin and points3D.bin, "
            "or the same as .txt"
        )
    warn_of_empty(folders, model)
    models = list(usable_models(map(read_model, folders)))
    if not models:
        raise ModelError(f"{model}: its models have no registered image: give another folder")
    path = database_of(model, database, Path(index))
    extraction = extraction_of(path)
    opened = open_database(path, extraction)
    names = ImageNames(None if described is None else described.names)
    photos: dict[str, list[_Place]] = defaultdict(list)
    for number, one in enumerate(models):
        for image, name in names.photos_of(one).items():
            photos[name].append((number, image))
    if described is not None:
        require_described(described, list(photos), index, model)
    return OpenModels(models, opened, extraction, dict(photos), described)


class Localizer:
    """Localises query photos in models.

    Args:
        models: the models.
        settings: how queries are localised.
    """

    def __init__(self, models: OpenModels, settings: LocalizerSettings) -> None:
        self._models, self._settings = models, settings
        self._mapped = [MappedPhotos(model, models.database) for model in models.models]
        self.extraction = models.extraction
        sift = extraction_settings(self.extraction)["kind"] == SIFT
        self._pose_settings = PoseSettings(*_LIMITS[sift], settings.error, settings.seed)

    def localize(
        self, queries: Mapping[Path, Camera | None], left_out: Mapping[Path, str], features: QueryFeatures
    ) -> list[Localized]:
        """Localises queries.

        Args:
            queries: maps the path of each query to its camera, if it is given.
            left_out: maps the path of each query without features to the reason.
            features: the features of the other queries.

        Raises:
            ArgumentError: no query can be read, or the network of the descriptors is missing.
        """
        usable = [path for path in queries if path not in left_out]
        if not usable:
            path, reason = next(iter(left_out.items()))
            raise ArgumentError(f"none of the {len(queries):,} queries can be used; the first is {path}: {reason}")
        neighbours, undescribed = self._neighbours(usable)
        reasons = {**left_out, **undescribed}
        found = []
        with progress("queries", len(queries)) as advance:
            for path, camera in queries.items():
                if path in reasons:
                    found.append(Localized(path, reason=reasons[path]))
                else:
                    found.append(self._one(path, camera, features, neighbours[path]))
                advance(1)
        return found

    def _neighbours(self, paths: Sequence[Path]) -> tuple[dict[Path, list[str]], dict[Path, str]]:
        """The photos with which each query is matched, and the reasons why queries have none."""
        described, photos = self._models.described, self._models.photos
        if described is None:
            return {path: sorted(photos) for path in paths}, {}
        rows, reasons = describe_queries(
            described.facts,
            paths,
            self._settings.network,
            None,
            None,
            self._settings.runtime,
            option="--network",
            described="descriptors",
            again="describe the photos again",
        )
        if not rows:
            return {}, reasons
        found = described.nearest(np.stack(list(rows.values())), photos.keys(), self._settings.neighbours)
        return dict(zip(rows, found, strict=True)), reasons

    def _one(self, path: Path, given: Camera | None, features: QueryFeatures, neighbours: Sequence[str]) -> Localized:
        """Localises one query; an error costs only this query."""
        shown = tuple(neighbours)
        try:
            query = features.read(path)
            poses = [
                (number, pose)
                for number, images in self._by_model(neighbours).items()
                if (pose := self._pose(query, given, number, images)) is not None
            ]
        except ArgumentError as error:
            return Localized(path, neighbours=shown, reason=first_line(error))
        if not poses:
            return Localized(path, neighbours=shown, reason="its features match no 3D points of the model")
        number, best = max(poses, key=lambda found: found[1].inliers)
        if best.inliers < self._settings.min_inliers:
            reason = (
                f"{best.inliers} 3D points agree with the best pose, and --min-inliers is {self._settings.min_inliers}"
            )
            return Localized(path, neighbours=shown, reason=reason)
        return Localized(path, best, self._models.models[number].folder, shown)

    def _by_model(self, neighbours: Sequence[str]) -> dict[int, list[int]]:
        """The images of photos, by the number of their model."""
        found: dict[int, list[int]] = defaultdict(list)
        for name in neighbours:
            for number, image in self._models.photos[name]:
                found[number].append(image)
        return found

    def _pose(self, query: QueryPhoto, given: Camera | None, number: int, images: Sequence[int]) -> Pose | None:
        photos = [self._mapped[number].read(image) for image in images]
        rows, points, places = match_points(query.descriptors, photos, self._pose_settings)
        best = None
        for camera, known in self._cameras(query, given, number, images):
            pose = estimate_pose(query.keypoints[rows], points, places, camera, self._pose_settings, known=known)
            if pose is not None and (best is None or pose.inliers > best.inliers):
                best = pose
            if best is not None and best.inliers >= self._settings.min_inliers:
                break
        return best

    def _cameras(
        self, query: QueryPhoto, given: Camera | None, number: int, images: Sequence[int]
    ) -> list[tuple[Any, bool]]:
        """The cameras that a query may have, and whether each is known exactly; the next counts if one does not fit.

        Raises:
            ArgumentError: the given camera is for photos of another size.
        """
        option = self._settings.camera
        if given is None and option not in (AUTO, OF_MODEL):
            given = parse_camera(option)
        if given is not None:
            size = query.camera.width, query.camera.height
            if (given.width, given.height) != size:
                raise ArgumentError(
                    f"its size is {size[0]} x {size[1]} pixels, and its camera is for {given.width} x {given.height}"
                )
            return [(given.to_colmap(), True)]
        model = self._models.models[number].colmap
        cameras = [model.cameras[model.images[image].camera_id] for image in images]
        typical = camera_of_photos(cameras, query.camera)
        return [(typical, False)] if option == OF_MODEL else [(query.camera, False), (typical, False)]

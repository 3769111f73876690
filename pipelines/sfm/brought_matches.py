"""Features and matches that a user brings in a COLMAP database, such as hloc writes, in place of those made here.

The database is read as it is, and never written: its images, cameras, keypoints and raw matches are copied into the
database of the run, where COLMAP verifies the geometry of each pair anew.
"""

import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Transpose

from keras_retrieval.errors import first_line, printable

from ..files.name_join import some_of
from ..files.progress import progress
from ..photos.formats import Source, open_photo
from ..photos.reader import MAX_PIXELS, photo_size, turn_to_upright
from ..photos.remote_photos import header_in
from .colmap import Database, Pair, colmap_name, load_colmap, ordered, photo_name
from .errors import ModelError, ReconstructionError
from .models import ImageNames

BROUGHT = "database"
"""The kind of the features in the stored options of a run, in place of the value of --features."""
_MOST_IMAGES = 2**31 - 1  # COLMAP's factor in the ID of a pair
_NO_FEATURES = "it has no keypoints in the database"
_TURNED = 2**30  # added to the ID of an image for that of the camera of a photo that is turned


@dataclass(frozen=True)
class _Image:
    number: int
    name: str
    camera: int


class BroughtMatches:
    """The content of a COLMAP database of the user.

    Args:
        path: the file.

    Raises:
        ReconstructionError: it is not a COLMAP database, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        found = [_Image(number, name, camera) for number, name, camera in self._read(_IMAGES)]
        numbers = set[int]()
        for image in found:
            if type(image.number) is not int or not 0 < image.number < _MOST_IMAGES or image.number in numbers:
                raise ReconstructionError(f"{path} is damaged: the ID of an image is {printable(str(image.number))}")
            numbers.add(image.number)
        self._images = {image.name: image for image in found if isinstance(image.name, str)}
        self._photos: dict[str, _Image] = {}

    def choose(self, photos: Sequence[str]) -> list[str]:
        """Finds the images of photos; see `models.ImageNames`.

        Args:
            photos: the names of all photos.

        Returns:
            The names of the images that are no photo.

        Raises:
            ReconstructionError: no image is a photo, or two images are the same photo.
        """
        names, unknown = ImageNames(photos), []
        self._photos = {}
        for image in self._images.values():
            try:
                photo = names.find(image.name)
            except ModelError as error:
                raise ReconstructionError(f"{self.path}: {error}") from None
            if photo is None:
                unknown.append(image.name)
            elif photo in self._photos:
                raise ReconstructionError(
                    f"{self.path}: its images '{printable(self._photos[photo].name)}' and '{printable(image.name)}' "
                    f"are both the photo {printable(photo)}: rename or remove one"
                )
            else:
                self._photos[photo] = image
        if not self._photos:
            raise ReconstructionError(
                f"{self.path}: none of its images is a photo of the folder: an image is "
                f"{some_of(list(self._images))}, a photo {some_of(photos)}"
            )
        return unknown

    def __contains__(self, photo: object) -> bool:
        return photo in self._photos

    def number(self, photo: str) -> int:
        """The ID of a photo's image."""
        return self._photos[photo].number

    def camera(self, photo: str) -> Any:
        """The `pycolmap.Camera` of a photo, with its ID in the database of the user."""
        number = self._photos[photo].camera
        rows = self._read(_CAMERA, number)
        if not rows:
            raise ReconstructionError(f"{self.path} is damaged: the camera {number} of {printable(photo)} is missing")
        model, width, height, params, prior = rows[0]
        try:
            camera = load_colmap().Camera(
                model=load_colmap().CameraModelId(model),
                width=width,
                height=height,
                params=np.frombuffer(params, np.float64),
                camera_id=number,
                has_prior_focal_length=bool(prior),
            )
            sound = camera.verify_params() and np.isfinite(camera.params).all() and width > 0 < height
        except (TypeError, ValueError, RuntimeError) as error:
            raise ReconstructionError(f"{self.path} is damaged: its camera {number} ({first_line(error)})") from error
        if not sound:
            raise ReconstructionError(f"{self.path} is damaged: its camera {number} has impossible parameters")
        return camera

    def keypoints(self, photo: str) -> np.ndarray:
        """The positions of the n features of a photo, (n, 2) float32, in pixels of the file as it is stored.

        Raises:
            ReconstructionError: they are damaged.
        """
        rows = self._read("SELECT rows, cols, data FROM keypoints WHERE image_id = ?", self._photos[photo].number)
        if not rows or not rows[0][0]:
            return np.zeros((0, 2), np.float32)
        found = self._array(rows[0], np.dtype(np.float32), 2, f"the keypoints of {printable(photo)}")
        if not np.isfinite(found[:, :2]).all():
            raise ReconstructionError(f"{self.path} is damaged: keypoints of {printable(photo)} are not finite numbers")
        return np.ascontiguousarray(found[:, :2])

    @cached_property
    def pairs(self) -> list[Pair]:
        """The pairs of photos with matches, in the order of the names."""
        photos = {image.number: photo for photo, image in self._photos.items()}
        numbers = {number for table in _MATCHES for (number,) in self._read(_PAIRS.format(table))}
        if other_types := [number for number in numbers if type(number) is not int]:
            raise ReconstructionError(
                f"{self.path} is damaged: the ID of a pair with matches is {printable(str(other_types[0]))}"
            )
        found = [(photos.get(one), photos.get(other)) for one, other in map(_images_of, numbers)]
        return sorted({ordered(one, other) for one, other in found if one and other and one != other})

    def pairs_of(self, photos: Sequence[str]) -> list[Pair]:
        """The pairs with matches of which both photos are among `photos`."""
        present = set(photos)
        return [pair for pair in self.pairs if present.issuperset(pair)]

    def matches(self, pair: Pair) -> np.ndarray:
        """The rows of the matched features of two photos, (p, 2) uint32: raw ones, or else inliers.

        Raises:
            ReconstructionError: they are damaged, or name features that do not exist.
        """
        one, other = (self._photos[name] for name in pair)
        turned = one.number > other.number
        key = _pair_id(*sorted((one.number, other.number)))
        for table in _MATCHES:
            rows = self._read(f"SELECT rows, cols, data FROM {table} WHERE pair_id = ?", key)
            if rows and rows[0][0]:
                found = self._array(rows[0], np.dtype(np.uint32), 2, f"the matches of {' and '.join(pair)}")
                return np.ascontiguousarray(found[:, ::-1] if turned else found)
        return np.zeros((0, 2), np.uint32)

    def _array(self, row: tuple[Any, ...], kind: np.dtype, least: int, what: str) -> np.ndarray:
        """Reads rows, columns and bytes as an array."""
        rows, columns, data = row
        numbers = type(rows) is int and type(columns) is int and isinstance(data, bytes)
        if not numbers or columns < least or len(data) != rows * columns * kind.itemsize:
            shown = " rows of ".join(printable(str(number)) for number in (rows, columns))
            raise ReconstructionError(f"{self.path} is damaged: {what} have {shown} numbers")
        return np.frombuffer(data, kind).reshape(rows, columns)

    @cached_property
    def _changes(self) -> list[str]:
        """The files of logs beside the database with changes that are not in it yet."""
        logs = [self.path.with_name(f"{self.path.name}{end}") for end in ("-wal", "-journal")]
        return [log.name for log in logs if log.exists() and log.stat().st_size]

    @cached_property
    def _opened(self) -> sqlite3.Connection:
        """A connection that writes nothing.

        COLMAP's databases have a write-ahead log, whose files SQLite makes even to read a database, beside it, where
        the user may not write. Without changes in a log, SQLite is told that there is none.
        """
        immutable = "" if self._changes else "&immutable=1"
        return sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro{immutable}", uri=True)

    def _read(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        try:
            return self._opened.execute(query, values).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:  # also a message of SQLite may not be UTF-8
            if self._changes and not os.access(self.path.parent, os.W_OK):
                raise ReconstructionError(
                    f"{self.path} has changes in {self._changes[0]}, which cannot be read in a folder without write "
                    f"permission ({error}): copy both files into another folder"
                ) from error
            raise ReconstructionError(f"{self.path} is not a COLMAP database, or is damaged ({error})") from error


def _sizes_and_turn(photo: Source) -> tuple[tuple[int, ...], tuple[int, ...], Transpose | None]:
    """The (width, height) of a photo, upright and as it is stored, and the transposition to the former."""
    upright, raw = (photo_size(photo, exif=exif)[::-1] for exif in (True, False))
    with open_photo(photo, MAX_PIXELS) as picture:
        return upright, raw, turn_to_upright(picture)


_IMAGES = "SELECT image_id, name, camera_id FROM images ORDER BY image_id"
_CAMERA = "SELECT model, width, height, params, prior_focal_length FROM cameras WHERE camera_id = ?"
_MATCHES = ("matches", "two_view_geometries")
_PAIRS = "SELECT pair_id FROM {} WHERE rows > 0"


def _pair_id(one: int, other: int) -> int:
    return one * _MOST_IMAGES + other


def _images_of(pair: int) -> tuple[int, int]:
    return divmod(pair, _MOST_IMAGES)


class BroughtDatabase(Database):
    """The COLMAP database of a run whose features and matches are those of a database of the user.

    Images and cameras keep their IDs.

    Args:
        path: the path of the file database.db of the run, as for `Database`.
        brought: the content of the database of the user, of which the photos have been chosen.
        photos: the folder of the photos, or an address such as s3://BUCKET/FOLDER as a path.

    Raises:
        ReconstructionError: the file exists and is damaged, or is not a COLMAP database.
        MissingExtraError: pycolmap is not installed.
    """

    def __init__(self, path: Path, brought: BroughtMatches, photos: Path) -> None:
        super().__init__(path)
        self._brought, self._photos = brought, photos

    def features(self) -> dict[str, int]:
        """Returns the number of features of each photo whose features have been copied."""
        query = "SELECT name, keypoints.rows FROM images JOIN keypoints USING (image_id)"
        return {photo_name(name): rows for name, rows in self._read(query)}

    def extract_features(self, images: Path, names: Sequence[str], options: dict[str, Any]) -> dict[str, str]:
        """Copies the cameras and features of the photos that have not been copied yet, and compares the others.

        Raises:
            ReconstructionError: the features of a photo are damaged, or are not those of an earlier run.
        """
        left_out = {}
        with self._colmap.Database.open(self.path) as opened, progress("features", len(names)) as advance:
            for name in names:
                if name not in self._brought:
                    left_out[name] = f"the database {self._brought.path.name} does not have it"
                elif reason := self._copy(opened, images / colmap_name(name), name):
                    left_out[name] = reason
                advance(1)
        return left_out

    def _copy(self, opened: Any, image: Path, name: str) -> str:
        """Writes the image, the camera and the keypoints of a photo; returns why the photo cannot be used."""
        camera, keypoints = self._brought.camera(name), self._brought.keypoints(name)
        if not len(keypoints):
            return _NO_FEATURES
        stored = camera.width, camera.height
        upright, raw, turn = header_in(self._photos, name, _sizes_and_turn)
        if turn is not None and stored == raw:  # COLMAP and hloc do not turn photos
            keypoints = turned(keypoints, turn, *raw)
            camera = self._colmap.infer_camera_from_image(image)
            camera.camera_id = _TURNED + self._brought.number(name)
        elif stored != upright:
            return "it has {:,} x {:,} pixels, and {:,} x {:,} in the database".format(*upright, *stored)
        self._write(opened, name, camera, keypoints)
        return ""

    def _write(self, opened: Any, name: str, camera: Any, keypoints: np.ndarray) -> None:
        number, known = self._brought.number(name), opened.read_image_with_name(colmap_name(name))
        if known is not None and known.image_id != number:
            raise ReconstructionError(self._changed(f"the ID of the image {printable(name)}"))
        if known is None:
            self._write_image(opened, name, number, camera)
        if not opened.exists_keypoints(number):
            opened.write_keypoints(number, keypoints)
        elif not np.array_equal(opened.read_keypoints(number), keypoints):
            raise ReconstructionError(self._changed(f"the keypoints of {printable(name)}"))

    def _write_image(self, opened: Any, name: str, number: int, camera: Any) -> None:
        colmap = self._colmap
        rig = colmap.Rig(rig_id=camera.camera_id)
        rig.add_ref_sensor(camera.sensor_id)
        if not opened.exists_camera(camera.camera_id):
            opened.write_camera(camera, use_camera_id=True)
        if not opened.exists_rig(camera.camera_id):
            opened.write_rig(rig, use_rig_id=True)
        image = colmap.Image(name=colmap_name(name), camera_id=camera.camera_id, image_id=number)
        frame = colmap.Frame(frame_id=number, rig_id=camera.camera_id)
        frame.add_data_id(image.data_id)
        if not opened.exists_frame(number):
            opened.write_frame(frame, use_frame_id=True)
        opened.write_image(image, use_image_id=True)

    def match(self, pairs: Sequence[Pair], seed: int) -> int:
        """Copies the matches of pairs of photos and verifies them by RANSAC, for pairs not tried yet.

        Raises:
            ReconstructionError: the matches of a pair are damaged, or are not those of an earlier run.
        """
        numbers = {name: self._brought.number(name) for name in {name for pair in pairs for name in pair}}
        with self._colmap.Database.open(self.path) as opened:
            for pair in pairs:
                one, other = (numbers[name] for name in pair)
                found = self._matches(opened, pair)
                if not opened.exists_matches(one, other):
                    opened.write_matches(one, other, found)
                elif not np.array_equal(opened.read_matches(one, other), found):
                    raise ReconstructionError(self._changed(f"the matches of {' and '.join(map(printable, pair))}"))
        return super().match(pairs, seed)

    def _matches(self, opened: Any, pair: Pair) -> np.ndarray:
        found = self._brought.matches(pair)
        for side, name in enumerate(pair):
            count = opened.num_keypoints_for_image(self._brought.number(name))
            if len(found) and found[:, side].max() >= count:
                raise ReconstructionError(
                    f"{self._brought.path} is damaged: the matches of {' and '.join(map(printable, pair))} name the "
                    f"feature {found[:, side].max():,} of {printable(name)}, which has {count:,}"
                )
        return found

    def _match_batch(self, pairs: Sequence[Pair], lists: Path, verification: Any) -> None:
        self._colmap.verify_matches(self.path, lists, verification)

    def _changed(self, what: str) -> str:
        return (
            f"{self._brought.path} has changed since {self.path.parent} was started ({what}): put the earlier one "
            "back, or name another folder"
        )


def turned(points: np.ndarray, turn: Transpose, width: int, height: int) -> np.ndarray:
    """Returns where points of a photo are after the photo is transposed.

    Args:
        points: x and y in pixels of the photo, (n, 2) float32.
        turn: the transposition.
        width: width of the photo before it, in pixels.
        height: height of the photo before it.
    """
    x, y = points.T
    right, bottom = width - x, height - y
    places = {
        Transpose.FLIP_LEFT_RIGHT: (right, y),
        Transpose.FLIP_TOP_BOTTOM: (x, bottom),
        Transpose.ROTATE_90: (y, right),
        Transpose.ROTATE_180: (right, bottom),
        Transpose.ROTATE_270: (bottom, x),
        Transpose.TRANSPOSE: (y, x),
        Transpose.TRANSVERSE: (bottom, right),
    }
    return np.stack(places[turn], axis=1)

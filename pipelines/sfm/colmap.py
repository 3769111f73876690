"""Runs COLMAP's feature extraction and matching in interruptible batches, and reads its database by photo name."""

import os
import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote, unquote

import numpy as np

from ..files.progress import progress
from ..local_features.colmap import load_colmap as load_colmap
from .errors import ReconstructionError

Pair: TypeAlias = tuple[str, str]
Item = TypeVar("Item")

FEATURES_AT_ONCE = 16  # photos per call of COLMAP; an interrupt takes effect after the call
PAIRS_AT_ONCE = 100
LOCKED_SECONDS = 3.0  # how long a database that another process has locked is opened again and again
_SQLITE = b"SQLite format 3\0"
_RESERVED = re.compile(r"[\s%#]")


def colmap_name(name: str) -> str:
    """Encodes the name of a photo for COLMAP, whose lists of pairs cannot contain spaces or #.

    White space, # and % are percent-encoded, so that a space becomes %20. `photo_name` decodes the result.
    """
    return _RESERVED.sub(lambda found: quote(found[0], safe=""), name)


def photo_name(name: str) -> str:
    """Decodes a name that `colmap_name` encoded."""
    return unquote(name)


def ordered(one: str, other: str) -> Pair:
    """Returns two names as a sorted pair, so that equal pairs compare equal in either order."""
    return (one, other) if one < other else (other, one)


def batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Splits a sequence into consecutive batches of `size` items; the last batch may be shorter."""
    return (items[start : start + size] for start in range(0, len(items), size))


def l2_normalised(rows: np.ndarray) -> np.ndarray:
    """Returns rows (n, D) divided by their norms; rows of zeros stay."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


class Database:
    """A COLMAP database, in which photos are identified by their names.

    Args:
        path: the path of the file database.db. If the file does not exist, `extract_features` creates it.

    Raises:
        ReconstructionError: the file exists and is damaged, or is not a COLMAP database.
        MissingExtraError: pycolmap is not installed.

    Attributes:
        path: the path of the file.
        no_features: the reason why a photo without features is left out.
    """

    no_features = "COLMAP finds no features in it"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._colmap = load_colmap()
        if path.exists():
            # A run that is killed while it creates the file may leave it without tables. COLMAP adds missing tables.
            try:
                self._open()
            except RuntimeError as error:
                if not all(os.access(place, os.W_OK) for place in (path, path.parent)):
                    raise ReconstructionError(
                        f"{path} cannot be opened, because COLMAP writes to a database and its folder even to read it, "
                        "and there is no permission: copy it to a folder of your own"
                    ) from error
                raise ReconstructionError(
                    f"{path} is not a COLMAP database or is damaged: remove it, and it will be created again"
                ) from error

    def _open(self) -> None:
        """Opens the database once, and waits while another process recovers it.

        The first process that opens a database in WAL mode rebuilds the index of the log, and locks out other processes
        meanwhile (SQLITE_BUSY_RECOVERY). After a kill, the rebuilding can last long enough for another process that
        watches the database to cause this lock. COLMAP sets no busy timeout, so that it would fail at once.
        """
        with self.path.open("rb") as file:
            is_sqlite = file.read(len(_SQLITE)) == _SQLITE
        end = time.monotonic() + (LOCKED_SECONDS if is_sqlite else 0)
        while True:
            try:
                self._colmap.Database.open(self.path).close()
            except RuntimeError:
                if time.monotonic() >= end:
                    raise
                time.sleep(0.05)
            else:
                return

    def features(self) -> dict[str, int]:
        """Returns the number of features of each photo whose features have been extracted.

        Returns:
            A dict from the name of each processed photo to its number of features, which may be 0.
        """
        query = "SELECT name, descriptors.rows FROM images JOIN descriptors USING (image_id)"
        return {photo_name(name): rows for name, rows in self._read(query)}

    def inliers(self) -> dict[Pair, int]:
        """Returns the number of inliers of each pair of photos that has been matched.

        Inliers are the matches that are consistent with one geometry of the two views.

        Returns:
            A dict from each matched pair to its number of inliers. The number is 0 for a pair that COLMAP rejected, and
            for a pair that only shares a watermark.
        """
        names = {number: photo_name(name) for number, name in self._read("SELECT image_id, name FROM images")}
        watermark = int(self._colmap.TwoViewGeometryConfiguration.WATERMARK)
        found = {}
        for number, rows, kind in self._read("SELECT pair_id, rows, config FROM two_view_geometries"):
            one, other = self._colmap.pair_id_to_image_pair(number)
            found[ordered(names[one], names[other])] = 0 if kind == watermark else rows
        return found

    def matched_points(self, pairs: Sequence[Pair]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Reads the inlier matches of pairs of photos.

        Args:
            pairs: pairs of names of photos that `match` has matched.

        Yields:
            For each pair, in order, the positions of its n inliers in the first and in the second photo: two arrays
            (n, 2) float64, x and y in pixels of the images that COLMAP read.
        """
        with self._colmap.Database.open(self.path) as opened:
            number = {photo_name(image.name): image.image_id for image in opened.read_all_images()}
            for pair in pairs:
                matches = opened.read_two_view_geometry(*(number[name] for name in pair)).inlier_matches
                yield tuple(
                    opened.read_keypoints(number[name])[matches[:, side], :2].astype(np.float64)
                    for side, name in enumerate(pair)
                )

    def read_features(self, name: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Reads the features of a photo.

        Args:
            name: the name of the photo's image in the database; see `colmap_name`.

        Returns:
            The positions of the n features, (n, 2) float32, in pixels of the image that COLMAP read, and their
            L2-normalised descriptors, (n, D) float32; None if the database does not have the image.
        """
        with self._colmap.Database.open(self.path) as opened:
            image = opened.read_image_with_name(name)
            if image is None:
                return None
            rows = self._unit_rows(opened.read_descriptors(image.image_id).data)
            return opened.read_keypoints(image.image_id)[:, :2], rows

    def _unit_rows(self, descriptors: np.ndarray) -> np.ndarray:
        """Returns stored descriptors, (n, D) uint8, as L2-normalised rows, (n, D) float32."""
        return l2_normalised(descriptors.astype(np.float32))

    def _read(self, query: str) -> list[tuple[Any, ...]]:
        """Runs an SQL query on the database file and returns its rows.

        pycolmap is not used because it does not distinguish rejected pairs from pairs that were never tried.
        """
        if not self.path.exists():
            return []
        with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            return database.execute(query).fetchall()

    def extract_features(self, images: Path, names: Sequence[str], options: dict[str, Any]) -> dict[str, str]:
        """Extracts SIFT features of the photos that have not been processed yet.

        Each photo gets its own camera, because the photos may be from different cameras.

        Args:
            images: the folder of images that `prepare` in the module `sfm.photos` wrote.
            names: the names of the photos.
            options: a dict with the entries "size", the longest side in pixels at which features are detected, and
                "features", the maximum number of features per photo.

        Returns:
            A dict from the name of each photo in which COLMAP finds no features to the reason.
        """
        colmap = self._colmap
        extraction = colmap.FeatureExtractionOptions(max_image_size=options["size"])
        extraction.sift.max_num_features = options["features"]
        done = self.features()
        todo = [name for name in names if name not in done]
        with progress("features", len(todo)) as advance:
            for batch in batches(todo, FEATURES_AT_ONCE):
                colmap.extract_features(
                    self.path,
                    images,
                    [colmap_name(name) for name in batch],
                    camera_mode=colmap.CameraMode.PER_IMAGE,
                    extraction_options=extraction,
                )
                advance(len(batch))
        if todo:
            done = self.features()
        return {name: self.no_features for name in names if not done.get(name)}

    def match(self, pairs: Sequence[Pair], seed: int) -> int:
        """Matches the features of pairs of photos and verifies the matches by RANSAC, for pairs not tried yet.

        Args:
            pairs: pairs of names of photos that have features; each pair must be sorted, see `ordered`.
            seed: the random seed of RANSAC.

        Returns:
            The number of pairs that this call matched.
        """
        verification = self._verification()
        verification.ransac.random_seed = seed
        tried = self.inliers()
        todo = [pair for pair in pairs if pair not in tried]
        file = self.path.with_name(".pairs.txt")
        with progress("matches", len(todo), "pairs") as advance:
            for batch in batches(todo, PAIRS_AT_ONCE):
                lines = (f"{colmap_name(one)} {colmap_name(other)}\n" for one, other in batch)
                file.write_text("".join(lines), encoding="utf-8")
                self._match_batch(batch, file, verification)
                advance(len(batch))
        file.unlink(missing_ok=True)
        return len(todo)

    def _verification(self) -> Any:
        """The `pycolmap.TwoViewGeometryOptions` by which pairs are verified."""
        return self._colmap.TwoViewGeometryOptions()

    def _match_batch(self, pairs: Sequence[Pair], lists: Path, verification: Any) -> None:
        """Matches and verifies pairs of photos, which the file `lists` lists for COLMAP."""
        self._colmap.match_image_pairs(
            self.path,
            pairing_options=self._colmap.ImportedPairingOptions(match_list_path=lists),
            verification_options=verification,
        )

"""How COLMAP is spoken to: its features, its matches and their verification, in pieces that can be stopped."""

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote, unquote

import numpy as np

from ..files.progress import progress

Pair: TypeAlias = tuple[str, str]
Item = TypeVar("Item")

FEATURES_AT_ONCE = 16  # photos between two looks at the clock; a stop waits for them
PAIRS_AT_ONCE = 100
_RESERVED = re.compile(r"[\s%#]")
_NO_FEATURES = "COLMAP finds no features in it"


def load_colmap() -> Any:
    """Imports pycolmap, with its log held to errors.

    Raises:
        ImportError: it is not installed; the message has the pip command.
    """
    # Pillow's zlib must be in the process before pycolmap's own, or saving a PNG ends the process.
    import PIL.Image  # noqa: F401

    try:
        import pycolmap
    except ImportError as error:
        raise ImportError('structure from motion needs COLMAP: pip install "keras-retrieval[sfm]"') from error
    pycolmap.logging.minloglevel = int(pycolmap.logging.Level.FATAL)
    return pycolmap


def colmap_name(name: str) -> str:
    """A photo's name as COLMAP knows it: its lists of pairs cannot hold spaces or #, so these become %20, %23."""
    return _RESERVED.sub(lambda found: quote(found[0], safe=""), name)


def photo_name(name: str) -> str:
    """What `colmap_name` was given."""
    return unquote(name)


def ordered(one: str, other: str) -> Pair:
    """A pair has no direction: its names are kept in order."""
    return (one, other) if one < other else (other, one)


def pieces(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Cuts a sequence into pieces of `size`, the last one shorter."""
    return (items[start : start + size] for start in range(0, len(items), size))


def check_seed(seed: int) -> None:
    """Refuses a seed that COLMAP cannot hold, or takes for another one at each run, as it does -1.

    Raises:
        ValueError: it is below 0 or has more than 31 bits.
    """
    if not 0 <= seed < 2**31:
        raise ValueError(f"--seed {seed}: it lies in 0..{2**31 - 1}")


class Database:
    """A COLMAP database seen by the names of photos.

    Args:
        path: of database.db; made by `extract_features` where it is missing.

    Raises:
        ValueError: the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._colmap = load_colmap()
        if path.exists():
            # A run that was killed while it made the file left it without tables: COLMAP adds those that are missing.
            try:
                self._colmap.Database.open(path).close()
            except RuntimeError as error:
                raise ValueError(
                    f"{path} is no database of COLMAP, or damaged: remove it, and it is made anew"
                ) from error

    def features(self) -> dict[str, int]:
        """The number of SIFT features of each photo that was looked at; 0 where none were found."""
        asked = "SELECT name, descriptors.rows FROM images JOIN descriptors USING (image_id)"
        return {photo_name(name): rows for name, rows in self._read(asked)}

    def inliers(self) -> dict[Pair, int]:
        """The matches of each pair that was tried which agree on one geometry; 0 where it was not verified.

        Pairs that only have a watermark in common are not verified.
        """
        names = {number: photo_name(name) for number, name in self._read("SELECT image_id, name FROM images")}
        watermark = int(self._colmap.TwoViewGeometryConfiguration.WATERMARK)
        found = {}
        for number, rows, kind in self._read("SELECT pair_id, rows, config FROM two_view_geometries"):
            one, other = self._colmap.pair_id_to_image_pair(number)
            found[ordered(names[one], names[other])] = 0 if kind == watermark else rows
        return found

    def matched_points(self, pairs: Sequence[Pair]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Where each pair's verified matches lie: (n, 2) in its first photo and (n, 2) in its second, in pixels."""
        with self._colmap.Database.open(self.path) as opened:
            number = {photo_name(image.name): image.image_id for image in opened.read_all_images()}
            for pair in pairs:
                matches = opened.read_two_view_geometry(*(number[name] for name in pair)).inlier_matches
                yield tuple(
                    opened.read_keypoints(number[name])[matches[:, side], :2].astype(np.float64)
                    for side, name in enumerate(pair)
                )

    def _read(self, query: str) -> list[tuple[Any, ...]]:
        """Asks the file itself: pycolmap does not tell pairs that were tried in vain from those never tried."""
        if not self.path.exists():
            return []
        with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            return database.execute(query).fetchall()

    def extract_features(self, images: Path, names: Sequence[str], options: dict[str, Any]) -> dict[str, str]:
        """Finds SIFT features in photos that have none yet; each photo gets a camera of its own.

        Args:
            images: the folder made by `sfm_photos.prepare`.
            names: the photos.
            options: `size`, the longest side at which features are looked for; `features`, the most of a photo.

        Returns:
            The reason for each photo that COLMAP leaves without features.
        """
        colmap = self._colmap
        extraction = colmap.FeatureExtractionOptions(max_image_size=options["size"])
        extraction.sift.max_num_features = options["features"]
        done = self.features()
        todo = [name for name in names if name not in done]
        with progress("features", len(todo)) as advance:
            for some in pieces(todo, FEATURES_AT_ONCE):
                colmap.extract_features(
                    self.path,
                    images,
                    [colmap_name(name) for name in some],
                    camera_mode=colmap.CameraMode.PER_IMAGE,
                    extraction_options=extraction,
                )
                advance(len(some))
        if todo:
            done = self.features()
        return {name: _NO_FEATURES for name in names if not done.get(name)}

    def match(self, pairs: Sequence[Pair], seed: int) -> int:
        """Matches and verifies the pairs that were not tried yet.

        Args:
            pairs: of photos with features.
            seed: of the random samples.

        Returns:
            How many pairs were tried now.
        """
        colmap = self._colmap
        verification = colmap.TwoViewGeometryOptions()
        verification.ransac.random_seed = seed
        tried = self.inliers()
        todo = [pair for pair in pairs if pair not in tried]
        file = self.path.with_name(".pairs.txt")
        with progress("matches", len(todo), "pairs") as advance:
            for some in pieces(todo, PAIRS_AT_ONCE):
                lines = (f"{colmap_name(one)} {colmap_name(other)}\n" for one, other in some)
                file.write_text("".join(lines), encoding="utf-8")
                colmap.match_image_pairs(
                    self.path,
                    pairing_options=colmap.ImportedPairingOptions(match_list_path=file),
                    verification_options=verification,
                )
                advance(len(some))
        file.unlink(missing_ok=True)
        return len(todo)

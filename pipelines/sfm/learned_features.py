"""A COLMAP database with the features of a network, such as XFeat, in place of SIFT.

COLMAP's own matcher is made for SIFT. Here two features match if each is the other's nearest neighbour and their cosine
similarity is above a threshold; COLMAP verifies these matches as it verifies its own.
"""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.local_features.matching import mutual_nearest

from ..files.machine import cores
from ..files.progress import progress
from ..local_features.errors import LocalFeaturesError
from ..local_features.extraction import NO_FEATURES
from ..local_features.extractors import Extractor, open_extractor
from ..photos.reader import MAX_PIXELS, PhotoError
from .colmap import FEATURES_AT_ONCE, Database, Pair, batches, colmap_name, l2_normalised, photo_name
from .descriptor_bytes import MOST_DIMENSIONS, from_bytes, to_bytes

SMALLEST_COSINE = 0.82
LEAST_INLIERS, LEAST_SHARE = 50, 0.25
"""Fewest matches, and smallest share of the matches, that must be inliers. So many features of unrelated photos agree
on a fundamental matrix by chance: of 160 such pairs of XFeat with 4,096 features, 99 % had at most 41 inliers, and one
had 59; of 90 pairs of one scene, 90 % had at least 57. With a cosine of 0.75, unrelated photos had 56 in the median."""
_PHOTOS_IN_MEMORY = 64


class LearnedDatabase(Database):
    """A COLMAP database with the features of a network.

    Args:
        path: the path of the file database.db, as for `Database`.
        extractor: the value of the option --features: "xfeat", or a file; see `local_features.extractors`.
        opened: the extractor, if it is loaded already; see `open_features`.

    Raises:
        ReconstructionError: the file exists and is damaged, or is not a COLMAP database.
        MissingExtraError: pycolmap is not installed.
    """

    no_features = NO_FEATURES

    def __init__(self, path: Path, extractor: str, opened: Extractor | None = None) -> None:
        super().__init__(path)
        self._extractor, self._opened = extractor, opened
        self._space = threading.local()
        self._rows = lru_cache(_PHOTOS_IN_MEMORY)(self._read_rows)

    def extract_features(self, images: Path, names: Sequence[str], options: dict[str, Any]) -> dict[str, str]:
        """Extracts the features of the photos that have not been processed yet; see `Database.extract_features`.

        Raises:
            LocalFeaturesError: the extractor cannot be loaded, or its descriptors have more than 128 dimensions.
        """
        done = self.features()
        todo = [name for name in names if name not in done]
        left_out: dict[str, str] = {}
        if todo:
            extractor = self._opened or open_features(self._extractor, options)
            with progress("features", len(todo)) as advance:
                for batch in batches(todo, FEATURES_AT_ONCE):
                    left_out |= self._extract_batch(images, batch, extractor)
                    advance(len(batch))
            done = self.features()
        return {name: left_out.get(name, self.no_features) for name in names if not done.get(name)}

    def _extract_batch(self, images: Path, names: Sequence[str], extractor: Extractor) -> dict[str, str]:
        """Writes the images and features of some photos; returns why some cannot be processed."""
        colmap = self._colmap
        colmap.Database.open(self.path).close()  # `import_images` does not create it
        known = {name for (name,) in self._read("SELECT name FROM images")}
        if new := [colmap_name(name) for name in names if colmap_name(name) not in known]:
            colmap.import_images(self.path, images, colmap.CameraMode.PER_IMAGE, new)
        left_out = {}
        with colmap.Database.open(self.path) as opened:
            for name in names:
                try:
                    found = extractor.features(*extractor.read(images / colmap_name(name)))
                except PhotoError as error:
                    left_out[name] = error.reason
                    continue
                if found.descriptors.shape[1] > MOST_DIMENSIONS:
                    raise LocalFeaturesError(
                        f"{self._extractor} has descriptors of {found.descriptors.shape[1]} dimensions, and COLMAP's "
                        f"database takes up to {MOST_DIMENSIONS}: give another extractor"
                    )
                number = opened.read_image_with_name(colmap_name(name)).image_id
                if not opened.exists_keypoints(number):
                    opened.write_keypoints(number, found.keypoints)
                # COLMAP's visual words know no other features of one byte for a number than SIFT's.
                kind = colmap.FeatureExtractorType.SIFT
                opened.write_descriptors(number, colmap.FeatureDescriptors(kind, to_bytes(found.descriptors)))
        return left_out

    def _unit_rows(self, descriptors: np.ndarray) -> np.ndarray:
        return l2_normalised(from_bytes(descriptors))

    def _verification(self) -> Any:
        return self._colmap.TwoViewGeometryOptions(min_num_inliers=LEAST_INLIERS, min_inlier_ratio=LEAST_SHARE)

    def _match_batch(self, pairs: Sequence[Pair], lists: Path, verification: Any) -> None:
        with ThreadPoolExecutor(cores()) as pool:
            matches = list(pool.map(self._matched, pairs))
        with self._colmap.Database.open(self.path) as opened:
            number = self._numbers
            for (one, other), found in zip(pairs, matches, strict=True):
                if not opened.exists_matches(number[one], number[other]):
                    opened.write_matches(number[one], number[other], found)
        self._colmap.verify_matches(self.path, lists, verification)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {photo_name(name): number for number, name in self._read("SELECT image_id, name FROM images")}

    def _matched(self, pair: Pair) -> np.ndarray:
        """The rows of the matched features of two photos, (p, 2) uint32."""
        one, other = (self._rows(name) for name in pair)
        size = len(one) * len(other)
        space: np.ndarray | None = getattr(self._space, "array", None)
        if space is None or len(space) < size:
            space = self._space.array = np.empty(size, np.float32)
        return np.stack(mutual_nearest(one, other, SMALLEST_COSINE, space), axis=1).astype(np.uint32)

    def _read_rows(self, name: str) -> np.ndarray:
        features = self.read_features(colmap_name(name))
        assert features is not None, f"the features of {name} were extracted"
        return features[1]


def open_features(extractor: str, options: Mapping[str, Any]) -> Extractor:
    """Loads an extractor with the options of `LearnedDatabase.extract_features`; raises LocalFeaturesError."""
    return open_extractor(extractor, top_k=options["features"], size=options["size"], max_pixels=MAX_PIXELS)

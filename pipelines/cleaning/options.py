"""The options of the step `clean`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from ..command.colmap import ColmapOptions
from ..command.kinds import Writes
from ..command.options import Argument, Option
from ..files.durable import FolderError
from ..files.finished_folders import CLEANED
from ..photos.intake_options import PHOTO_PLACE, IntakeOptions
from ..photos.object_options import ObjectOptions
from ..sfm.clusters import LEAST_INLIERS
from ..sfm.options import MAX_SEED


@dataclass(frozen=True, kw_only=True)
class CleanOptions(ColmapOptions, IntakeOptions, ObjectOptions):
    """The options of the step `clean`, which removes unrelated photos from folders of landmarks."""

    photos: Annotated[
        Path,
        Argument(
            "Folder with one sub-folder of photos for each landmark. Or an address: s3://, gs://, hf:// or http(s):// "
            "(extra cloud), from which the photos are copied to OUT.",
            kind=PHOTO_PLACE,
        ),
    ] = field(kw_only=False)
    out: Annotated[
        Path,
        Argument(
            "Folder to write the lists, the boxes, the page and COLMAP's files to; an existing one is continued.",
            kind=Writes("folder", FolderError, made=(CLEANED,)),
        ),
    ] = field(kw_only=False)
    neighbours: Annotated[
        int,
        Option(
            "Photos of its landmark with which each photo is matched, those with most visual words in common; 0 "
            "matches all pairs.",
            at_least=0,
        ),
    ] = 0
    min_inliers: Annotated[
        int,
        Option(
            "Minimum number of inliers, which are matches that agree on one geometry, for a pair of photos to count as "
            f"verified. Values below {LEAST_INLIERS} are not allowed, because COLMAP itself discards such pairs.",
            at_least=LEAST_INLIERS,
        ),
    ] = 20
    min_photos: Annotated[
        int, Option("Minimum size of a landmark's largest group; landmarks with a smaller one are dropped.", at_least=2)
    ] = 3
    features: Annotated[int, Option("Maximum number of SIFT features per photo.", at_least=1, resumed=True)] = 8192
    size: Annotated[
        int,
        Option("Longest side, in pixels, to which photos are reduced to detect features.", at_least=1, resumed=True),
    ] = 1024
    seed: Annotated[int, Option("Random seed of RANSAC.", at_least=0, at_most=MAX_SEED)] = 0

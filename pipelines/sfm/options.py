"""The options of the command `reconstruct`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from keras_retrieval.errors import ArgumentError

from ..command.colmap import ColmapOptions
from ..command.kinds import Reads, Writes
from ..command.options import Argument, Option
from ..engines.options import EngineOptions
from ..files.durable import FolderError
from ..files.finished_folders import RECONSTRUCTION
from ..local_features.extractors import EXTRACTOR_HELP, XFEAT
from ..networks.custom_layers import CustomLayers
from ..networks.kinds import NETWORK
from ..photos.intake_options import PHOTO_PLACE, IntakeOptions
from ..runtimes.options import RuntimeOption
from .clusters import LEAST_INLIERS
from .errors import ReconstructionError, VocabularyNotFoundError
from .feature_kinds import COUNTS, SIFT, check_features
from .near_photos import NearOptions
from .work_folder import DATABASE

PAIRS = ("retrieval", "vocabulary-tree", "exhaustive")
MAPPERS = ("incremental", "hierarchical", "global")
_OF_OWN_FEATURES = (
    "features", "feature_count", "size", "pairs", "vocabulary", "neighbours", "model", "descriptor_size",
)  # fmt: skip
MAX_SEED = 2**31 - 1  # the largest seed that COLMAP accepts; it reads -1 as a new seed for each run


@dataclass(frozen=True, kw_only=True)
class ReconstructOptions(ColmapOptions, EngineOptions, CustomLayers, RuntimeOption, IntakeOptions, NearOptions):
    """Options of the command `keras-retrieval reconstruct`."""

    photos: Annotated[
        Path,
        Argument(
            "Folder of photos of any objects; sub-folders are read, and their names do not matter. Or an address: "
            "s3://, gs://, hf:// or http(s):// (extra cloud), from which the photos are copied to WORK.",
            kind=PHOTO_PLACE,
        ),
    ] = field(kw_only=False)
    work: Annotated[
        Path,
        Argument(
            "Folder to write the database, the models, the report and the page to; an existing one is continued.",
            kind=Writes("folder", FolderError, made=(RECONSTRUCTION,)),
        ),
    ] = field(kw_only=False)
    model: Annotated[
        str,
        Option(
            "Network whose descriptors choose candidate pairs: a .keras or .onnx file, or a name such as vgg16_gem "
            "(ImageNet weights) or megaloc (see the step weights).",
            kind=NETWORK,
        ),
    ] = "vgg16_gem"
    descriptor_size: Annotated[
        int, Option("Longest side, in pixels, of the photos that the network describes.", at_least=1)
    ] = 320
    pairs: Annotated[
        str,
        Option(
            "How candidate pairs are chosen: retrieval by descriptors, vocabulary-tree by visual words, or exhaustive "
            "for all pairs.",
            choices=PAIRS,
        ),
    ] = "retrieval"
    neighbours: Annotated[
        int,
        Option(
            "Photos with which each photo is paired in the first round; mutual nearest neighbours are preferred.",
            at_least=1,
        ),
    ] = 8
    vocabulary: Annotated[
        Path | None,
        Option(
            "COLMAP vocabulary tree file. Without it, a vocabulary is learned from the photos' own features.",
            kind=Reads("file", VocabularyNotFoundError),
        ),
    ] = None
    database: Annotated[
        Path | None,
        Option(
            "COLMAP database with keypoints and matches of the photos, as hloc writes it, which are used in place of "
            "features and matches made here. Its pairs are verified, and no others are tried. With --engine, they are "
            "copied and verified in this process, and workers map the groups of photos.",
            kind=Reads("file", ReconstructionError),
        ),
    ] = None
    features: Annotated[
        str,
        Option(f"Local features that are matched: sift, {EXTRACTOR_HELP}.", kind=check_features, resumed=True),
    ] = SIFT
    feature_count: Annotated[
        int | None,
        Option(
            f"Maximum number of features per photo. By default {COUNTS[True]} of SIFT, {COUNTS[False]} of a network.",
            at_least=1,
            resumed=True,
        ),
    ] = None
    size: Annotated[
        int,
        Option("Longest side, in pixels, to which photos are reduced to detect features.", at_least=1, resumed=True),
    ] = 1600
    min_inliers: Annotated[
        int,
        Option(
            "Minimum number of inliers, which are matches that agree on one geometry, for a pair of photos to count as "
            f"verified. Values below {LEAST_INLIERS} are not allowed, because COLMAP itself discards such pairs.",
            at_least=LEAST_INLIERS,
        ),
    ] = 15
    mapper: Annotated[
        str,
        Option(
            "COLMAP's mapper: incremental adds photo after photo, hierarchical maps parts of a large group "
            "incrementally and joins them, global solves all at once.",
            choices=MAPPERS,
        ),
    ] = "incremental"
    leaf_photos: Annotated[
        int, Option("Maximum number of photos of a part, for --mapper hierarchical.", at_least=2)
    ] = 500
    group_minutes: Annotated[
        float | None,
        Option(
            "Time limit for the model of a group of photos in minutes; photos that are not registered by then are left "
            "out. For --mapper incremental and hierarchical.",
            above=0,
        ),
    ] = None
    min_photos: Annotated[
        int, Option("Minimum number of photos of a model; smaller models are dropped.", at_least=1)
    ] = 5
    seed: Annotated[int, Option("Random seed of COLMAP's RANSAC and mapper.", at_least=0, at_most=MAX_SEED)] = 0

    def complete(self) -> None:
        """Chooses the number of features for their kind, and makes the path of an extractor absolute."""
        super().complete()
        if self.features not in (SIFT, XFEAT) and Path(self.features).is_file():  # `localize` may run elsewhere
            object.__setattr__(self, "features", str(Path(self.features).resolve()))
        if self.feature_count is None:
            object.__setattr__(self, "feature_count", COUNTS[self.features == SIFT])

    def check(self) -> None:
        """Checks the range of every option, and that the file `vocabulary` exists if it is given.

        Raises:
            ArgumentError: an option is out of range.
            VocabularyNotFoundError: the file `vocabulary` does not exist.
        """
        super().check()
        if self.group_minutes is not None and self.mapper == "global":
            raise ArgumentError("--group-minutes needs --mapper incremental or hierarchical: global has no time limit")
        if self.database is not None:
            if self.database.resolve() == (self.work / DATABASE).resolve():
                raise ArgumentError(f"--database {self.database} is the database of WORK itself: name another folder")
            for name in _OF_OWN_FEATURES:
                default = type(self).__dataclass_fields__[name].default
                if getattr(self, name) != (COUNTS[self.features == SIFT] if name == "feature_count" else default):
                    raise ArgumentError(
                        f"--{name.replace('_', '-')} has no effect with --database, whose features and pairs are used: "
                        "leave one out"
                    )
        if self.vocabulary and not self.vocabulary.is_file():
            raise VocabularyNotFoundError(f"--vocabulary {self.vocabulary} does not exist")

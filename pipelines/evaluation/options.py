"""The options of the step `evaluate`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from keras_retrieval.errors import ArgumentError
from keras_retrieval.ranking.methods import describe_methods, parse

from ..command.colmap import require_colmap
from ..command.kinds import Reads, Writes
from ..command.options import Argument, Option
from ..descriptors.options import DescriptionOptions, ExtractOptions
from ..engines.options import EngineOptions
from ..files.durable import FolderError
from ..files.finished_folders import EVALUATION
from ..local_features.extraction import LocalSettings
from ..local_features.extractors import EXTRACTOR_HELP, XFEAT, check_extractor
from ..local_features.features import STORAGES
from ..local_features.matchers import MATCHER_HELP, MUTUAL, check_matcher
from ..networks.kinds import NETWORK
from ..networks.precision import PRECISION, PRECISION_HELP, PRECISIONS
from ..photos.edges import HELP as EDGES_HELP
from ..photos.edges import check_edges
from ..photos.grid_crops import parse_levels
from ..photos.intake_options import PHOTO_FOLDER, PHOTO_PLACE, IntakeOptions
from ..runtimes.options import RUNTIME, RuntimeOption, check_runtime_precision
from .datasets import DATASETS, check_dataset
from .errors import GroundTruthError
from .verified import Verification


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(DescriptionOptions, RuntimeOption, EngineOptions, IntakeOptions):
    """The options of the step `evaluate`, which scores a network or visual words on a dataset."""

    model: Annotated[
        str | None,
        Argument(
            "Network to score: a .keras or .onnx file, or a name such as vgg16_gem (ImageNet weights) or "
            "megaloc (see the step weights). Leave it out "
            "with --bow.",
            kind=NETWORK,
        ),
    ] = field(default=None, kw_only=False)
    dataset: Annotated[
        str,
        Option(
            f"Dataset: {', '.join(DATASETS)}, a variant such as msls:s2w, nordland:10 or sfxl:v2, or a ground truth of "
            "your own, NAME.json.",
            kind=check_dataset,
        ),
    ]
    photos: Annotated[Path, Option("Folder of the dataset's photos, in any sub-folders.", kind=PHOTO_FOLDER)]
    output: Annotated[
        Path,
        Option(
            "Folder to write descriptors, results.json and page.html to.",
            kind=Writes("folder", FolderError, made=(EVALUATION,)),
        ),
    ]
    gnd: Annotated[
        Path | None,
        Option(
            "File or folder of the ground truth. Without it, the published file name is looked for in and beside "
            "--photos.",
            kind=Reads("any", GroundTruthError),
        ),
    ] = None
    distractors: Annotated[
        Path | None,
        Option(
            "Folder of photos, or of their descriptors made by `extract`, to add to the database as distractors, which "
            "are not relevant to any query. Or the address of one.",
            kind=PHOTO_PLACE,
        ),
    ] = None
    edges: Annotated[str, Option(EDGES_HELP, kind=check_edges)] = ""
    precision: Annotated[
        str,
        Option(
            f"{PRECISION_HELP} With bfloat16, the cosine similarity to float32 on a few photos is reported.",
            choices=PRECISIONS,
        ),
    ] = PRECISION
    crops: Annotated[
        str,
        Option(
            "Levels of crops of the photos of the database, such as 1,2,3, as for `extract`: the best crop counts. "
            "Queries are described as a whole."
        ),
    ] = ""
    exif: Annotated[bool, Option("Turn photos by their EXIF orientation.")] = True
    rerank: Annotated[
        str, Option(f"Methods at query time, applied in order, separated by commas. {describe_methods()}.")
    ] = ""
    whole_queries: Annotated[
        bool, Option("Search for the whole photo of each query instead of the part in its box, unlike the protocol.")
    ] = False
    box_side: Annotated[
        int | None,
        Option(
            "Longer side, in pixels, of the photos to which the boxes of queries refer; 0 if they refer to the photos "
            "as they are in --photos. Without it 1024 for Oxford and Paris, whose photos may thus be reduced, and 0 "
            "for other datasets.",
            at_least=0,
        ),
    ] = None
    bow: Annotated[bool, Option("Rank by visual words instead of a network, as a baseline (extra sfm).")] = False
    verify: Annotated[
        int | None,
        Option(
            "Number of photos at the top of each ranking that are reranked by geometric verification, with --bow by "
            "SIFT features, else by those of --local; 0 for none. If not given: 100 with --bow, else 0.",
            at_least=0,
        ),
    ] = None
    local: Annotated[str, Option(f"With --verify and a network: extractor of local features: {EXTRACTOR_HELP}.")] = (
        XFEAT
    )
    matcher: Annotated[str, Option(f"{MATCHER_HELP}.")] = MUTUAL
    local_size: Annotated[
        int,
        Option("With --verify and a network: longest side in pixels of the photos for local features.", at_least=32),
    ] = LocalSettings.size
    local_storage: Annotated[
        str, Option("With --verify and a network: type of the stored numbers of local features.", choices=STORAGES)
    ] = LocalSettings.storage
    features: Annotated[
        int | None,
        Option(
            "Maximum number of local features per photo. If not given: 8,192 SIFT features with --bow, else 1,000.",
            at_least=1,
            at_most=65536,
        ),
    ] = None
    copies: Annotated[
        bool, Option("Count the queries of which the database contains copies, as `duplicates` finds them.")
    ] = True
    replace: Annotated[
        bool, Option("Replace the descriptors in --output if they were made of other photos or with other options.")
    ] = False

    def check_packages(self) -> None:
        """Checks that COLMAP and the weights of XFeat are installed if the options need them.

        Raises:
            MissingExtraError: pycolmap, XFeat's weights, or the runtime that is named, is not installed.
            LocalFeaturesError: the file of the extractor or of the matcher does not exist.
        """
        super().check_packages()
        if self.bow or self.verify:
            require_colmap()
        if self.verify and not self.bow:
            check_extractor("--local", self.local)
            check_matcher("--matcher", self.matcher)

    def check(self) -> None:
        """Checks every option, and that `bow` is not combined with a network or with options of networks.

        Raises:
            ArgumentError: an option is out of range; MODEL and --bow are both given, or neither is; or --bow is given
                together with an option of networks, such as --scales.
            MethodError: `rerank` names an unknown method or has an invalid parameter.
        """
        parse(self.rerank)
        super().check()
        check_runtime_precision(self.runtime, self.precision)
        self.refuse_engine(self.bow, "a network, whose descriptors are computed on workers")
        if self.bow == (self.model is not None):
            raise ArgumentError(
                "--bow does not take a MODEL" if self.bow else "give a MODEL, or --bow to rank by visual words"
            )
        plain = self.exif and self.antialias and (self.scales, self.precision) in (("1", "auto"), ("1", "float32"))
        if self.verify and self.edges and not self.bow:
            raise ArgumentError("--verify is for photos: leave --edges out")
        if self.matcher != MUTUAL and (self.bow or not self.verify):
            raise ArgumentError("--matcher is for --verify with a network: give --verify 100, or leave --matcher out")
        if parse_levels(self.crops) and (self.edges or self.rerank):
            raise ArgumentError(
                "--crops is for photos: leave --edges out"
                if self.edges
                else "--rerank needs one descriptor per photo: leave --crops or --rerank out"
            )
        others = (self.mirror, self.edges, self.rerank, self.distractors, self.crops, self.runtime != RUNTIME)
        if self.bow and (not plain or any(others)):
            raise ArgumentError("--bow takes --size, --verify and --features, not the options of networks")

    @property
    def words_features(self) -> int:
        """The maximum number of SIFT features per photo, with --bow."""
        return 8192 if self.features is None else self.features

    @property
    def words_verified(self) -> int:
        """The number of photos that are verified by SIFT features, with --bow."""
        return 100 if self.verify is None else self.verify

    def verification(self) -> Verification | None:
        """Returns how rankings by descriptors are verified; None for not at all."""
        if not self.verify:
            return None
        features = LocalSettings.features if self.features is None else self.features
        settings = LocalSettings(
            self.local,
            features,
            self.local_size,
            self.local_storage,
            exif=self.exif,
            accept_truncated=self.accept_truncated,
        )
        return Verification(self.verify, settings, self.matcher)

    def extraction(self) -> ExtractOptions:
        """Returns the options of extraction for the dataset's photos, with the folder `output` of this evaluation."""
        return ExtractOptions(
            self.model or "",
            self.photos,
            self.output,
            size=self.size,
            scales=self.scales,
            antialias=self.antialias,
            mirror=self.mirror,
            edges=self.edges,
            precision=self.precision,
            crops=self.crops,
            runtime=self.runtime,
            exif=self.exif,
            replace=self.replace,
            **self.passed_on,
            **self.engine_passed_on,
        )

"""The options of the command `extract`, and those that all commands with descriptors have in common."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from keras_retrieval.errors import ArgumentError
from keras_retrieval.whitening.covariance import PHOTOS_PER_DIMENSION

from ..command.kinds import Writes, require_package
from ..command.options import Argument, Option
from ..engines.options import EngineOptions
from ..files.durable import FolderError, check_outside
from ..files.remote import address_of
from ..local_features.extraction import LocalSettings
from ..local_features.extractors import EXTRACTOR_HELP, check_extractor
from ..local_features.features import STORAGES
from ..networks.custom_layers import CustomLayers
from ..networks.kinds import NETWORK
from ..networks.precision import PRECISION, PRECISION_HELP, PRECISIONS
from ..photos.edges import HELP as EDGES_HELP
from ..photos.edges import check_edges
from ..photos.grid_crops import CROPS_HELP, parse_levels
from ..photos.intake_options import PHOTO_PLACE, PHOTOS_HELP, IntakeOptions
from ..photos.reader import MAX_PIXELS
from ..runtimes.options import PACKAGES, RuntimeOption, check_runtime_precision
from .multi_scale import ANTIALIAS_HELP, MIRROR_HELP, SCALES_HELP, parse_scales
from .padded_batches import AUTO, BATCH_SHAPES, BATCH_SHAPES_HELP, BUCKETS
from .shard_files import EXTRA, FORMATS, NPY, NUMBERS, PARQUET, ShardFormat

SHRINKAGE_DEFAULT = (
    f"If not given: where the pairs have fewer than {PHOTOS_PER_DIMENSION} photos per dimension, that of 1, 3, 10, 30 "
    "and 100 with the highest mAP of objects that are held out, or 1 with fewer than 5 objects; else 0, as published."
)
"""The end of the help text of the option --shrinkage, for every command that learns Lw."""

SHIFT_HELP = (
    "share of the mean of the queries that is subtracted; less than 1 often does better on other photos than those "
    "that the pairs show. If not given: that of 1, 0.75 and 0.5 that is best together with the shrinkage, where this "
    "is chosen by objects that are held out; else 1, as published."
)
"""The end of the help text of the option --shift, for every command that learns Lw."""


@dataclass(frozen=True, kw_only=True)
class DescriptionOptions(CustomLayers):
    """Options of every command that computes descriptors: the photos' size, and the scales that are combined."""

    size: Annotated[
        int, Option("Longest side of a photo in pixels; photos are never enlarged.", at_least=1, resumed=True)
    ] = 1024
    scales: Annotated[str, Option(SCALES_HELP, resumed=True)] = "1"
    antialias: Annotated[bool, Option(ANTIALIAS_HELP, resumed=True)] = True
    mirror: Annotated[bool, Option(MIRROR_HELP, resumed=True)] = False

    def check(self) -> None:
        """Checks the ranges of all options, and that `scales` is a list of numbers.

        Raises:
            ArgumentError: an option is out of range.
        """
        super().check()
        parse_scales(self.scales)

    @property
    def factors(self) -> tuple[float, ...]:
        """The option `scales` as numbers."""
        return parse_scales(self.scales)


@dataclass(frozen=True, kw_only=True)
class ExtractOptions(DescriptionOptions, RuntimeOption, EngineOptions, IntakeOptions):
    """Options of the command `keras-retrieval extract`.

    Options that change descriptors are declared with `resumed=True`, because a killed run can be continued only with
    the same values.
    """

    model: Annotated[
        str,
        Argument(
            "A .keras or .onnx file, or a name such as vgg16_gem (ImageNet weights) or megaloc (see the step weights).",
            kind=NETWORK,
        ),
    ] = field(kw_only=False)
    photos: Annotated[
        Path,
        Argument(PHOTOS_HELP, kind=PHOTO_PLACE),
    ] = field(kw_only=False)
    output: Annotated[
        Path,
        Argument(
            "Folder of descriptors to write, or an address: s3:// or gs:// (extra cloud).",
            kind=Writes("folder", FolderError, addresses=True),
        ),
    ] = field(kw_only=False)
    edges: Annotated[str, Option(EDGES_HELP, resumed=True, kind=check_edges)] = ""
    precision: Annotated[
        str,
        Option(
            f"{PRECISION_HELP} With bfloat16, the cosine similarity to float32 on a few photos is reported.",
            choices=PRECISIONS,
        ),
    ] = PRECISION
    batch_shapes: Annotated[str, Option(BATCH_SHAPES_HELP, choices=BATCH_SHAPES)] = AUTO
    crops: Annotated[str, Option(CROPS_HELP)] = ""
    exif: Annotated[bool, Option("Turn photos by their EXIF orientation.", resumed=True)] = True
    max_pixels: Annotated[
        int, Option("Leave out photos whose header declares more pixels.", at_least=1, resumed=True)
    ] = MAX_PIXELS
    local: Annotated[
        str,
        Option(
            f"Also extract local features, into OUTPUT/local, for the verification of searches: {EXTRACTOR_HELP}.",
            kind=check_extractor,
        ),
    ] = ""
    local_features: Annotated[
        int, Option("With --local: maximum number of local features of a photo.", at_least=1, at_most=65536)
    ] = 1000
    local_size: Annotated[
        int,
        Option(
            "With --local: longest side in pixels of the photos in which features are found; smaller photos are "
            "enlarged, at most twice.",
            at_least=32,
        ),
    ] = 1024
    local_storage: Annotated[
        str,
        Option(
            "With --local: type of the stored numbers. Of XFeat, float16 takes 132 bytes for a feature and int8 68.",
            choices=STORAGES,
        ),
    ] = "float16"
    shard: Annotated[
        int, Option("Photos per shard; a killed run loses at most the shard it was writing.", at_least=1)
    ] = 1000
    format: Annotated[
        str,
        Option(
            "Files of the descriptors: .npy, or Parquet (extra parquet), which DuckDB, polars, Spark and LanceDB read; "
            "steps that take descriptors read both.",
            choices=FORMATS,
        ),
    ] = NPY
    storage: Annotated[str, Option("Type of the numbers; float16 with --format parquet only.", choices=NUMBERS)] = (
        "float32"
    )
    replace: Annotated[
        bool, Option("Replace OUTPUT if it contains descriptors of other photos or of other options.")
    ] = False

    def check(self) -> None:
        """Checks the range of each option, that crops and local features are not of edge maps, and the runtime.

        Raises:
            ArgumentError: an option is out of range, `crops` is not a list of levels, or it or `local` is combined with
                `edges`; `storage` is not of `format`; or --runtime onnxruntime is given with --precision bfloat16.
        """
        super().check()
        check_runtime_precision(self.runtime, self.precision)
        if self.batch_shapes == BUCKETS and self.runtime in PACKAGES:
            raise ArgumentError(f"--batch-shapes buckets is computed by Keras: leave --runtime {self.runtime} out")
        if self.batch_shapes == BUCKETS and Path(self.model).suffix == ".onnx":
            raise ArgumentError(f"--batch-shapes buckets needs a .keras file: {self.model} takes photos of equal size")
        if self.storage != "float32" and self.format != PARQUET:
            raise ArgumentError(f"--storage {self.storage} needs --format parquet")
        if parse_levels(self.crops) and self.edges:
            raise ArgumentError("--crops is for photos: leave --edges out")
        if self.local and self.edges:
            raise ArgumentError("--local is for photos: leave --edges out")
        if address_of(self.output):
            check_outside(self.output, self.photos)  # at an address every file is taken for a photo

    def check_packages(self) -> None:
        """Checks that the packages of the runtime and of the format are installed.

        Raises:
            MissingExtraError: a package is not installed.
        """
        super().check_packages()
        if self.format == PARQUET:
            require_package("pyarrow", "PyArrow", EXTRA)

    @property
    def shard_format(self) -> ShardFormat:
        """How the rows are stored."""
        return ShardFormat(self.format, self.storage)

    def local_settings(self) -> LocalSettings | None:
        """Returns how local features are extracted; None without --local."""
        if not self.local:
            return None
        return LocalSettings(
            self.local, self.local_features, self.local_size, self.local_storage, self.exif, self.max_pixels,
            self.accept_truncated,
        )  # fmt: skip

    @property
    def levels(self) -> tuple[int, ...]:
        """The option `crops` as numbers; () for one descriptor per photo."""
        return parse_levels(self.crops)

    def resumed(self) -> dict[str, Any]:
        """Returns the options that change descriptors, for the manifest and the fingerprint of the output folder.

        The precision "auto" is treated as float32, so that the caller must replace "auto" first.

        Returns:
            A dict from the names of options to values, serialisable as JSON.
        """
        options = super().resumed() | {"scales": list(self.factors), "bfloat16": self.precision == "bfloat16"}
        # Not stated otherwise, so that folders of earlier versions are recognised.
        options |= {"crops": list(self.levels)} if self.levels else {}
        options |= {"format": self.format, "storage": self.storage} if self.format != NPY else {}
        return options | {"accept_truncated": True} if self.accept_truncated else options

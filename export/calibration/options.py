"""The options of the step `calibrate`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from keras_retrieval.pipelines.command.colmap import require_colmap
from keras_retrieval.pipelines.command.kinds import Reads, Writes, require_package
from keras_retrieval.pipelines.command.options import Argument, Option, Options
from keras_retrieval.pipelines.descriptors.folder import described_folder
from keras_retrieval.pipelines.files.durable import FolderError
from keras_retrieval.pipelines.files.finished_folders import CALIBRATIONS
from keras_retrieval.pipelines.files.remote import check_writable_address
from keras_retrieval.pipelines.local_features.matchers import MATCHER_HELP, MUTUAL, check_matcher
from keras_retrieval.pipelines.training_tuples.data import TuplesError

from keras_retrieval.errors import ArgumentError

from ..index_contract.calibration import FILE
from ..indexes.kinds import index_to_read, remote_index
from ..indexes.verified_search import LOCAL_FEATURES_HELP
from ..milvus_index.address import is_milvus


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions(Options):
    """The options of the step `calibrate`."""

    index: Annotated[
        str,
        Argument(
            "Index, a folder, its address such as s3://BUCKET/INDEX (extra cloud), or milvus://.. collection written "
            "by `keras-retrieval index`.",
            kind=index_to_read,
        ),
    ] = field(kw_only=False)
    tuples: Annotated[
        Path,
        Argument(
            "tuples.npz of photos of the index, made by `keras-retrieval tuples`: photos of one cluster show the same "
            "object.",
            kind=Reads("file", TuplesError, "`keras-retrieval tuples SOURCE tuples.npz` makes it"),
        ),
    ] = field(kw_only=False)
    output: Annotated[
        Path | None,
        Option(
            f"File to write, for the option --calibration of other steps. By default INDEX/{FILE}, or another name "
            "with --matcher, which they find.",
            kind=Writes("file", FolderError, made=(CALIBRATIONS,)),
        ),
    ] = None
    local: Annotated[Path | None, Option(LOCAL_FEATURES_HELP, kind=described_folder)] = None
    matcher: Annotated[
        str,
        Option(f"{MATCHER_HELP}. Each matcher has a calibration of its own in the index.", kind=check_matcher),
    ] = MUTUAL
    verify: Annotated[
        bool,
        Option(
            "Compare local features, too, where the index has them, so that the probabilities of `search --verify` are "
            "learned.",
            flags="--verify/--no-verify",
        ),
    ] = True
    queries: Annotated[int, Option("Maximum number of queries, which are chosen at random.", at_least=20)] = 300
    candidates: Annotated[
        int, Option("Number of photos at the beginning of each query's ranking that are compared with it.", at_least=5)
    ] = 20
    without_match: Annotated[
        float,
        Option("Share of the future queries that have no match in the index.", above=0, below=1),
    ] = 0.5
    validation_only: Annotated[
        bool,
        Option(
            "Only photos that TUPLES sets aside for validation are queries: for a network that was trained on the "
            "others, whose probabilities would be too large.",
        ),
    ] = False
    unlabelled: Annotated[
        str,
        Option(
            "Photos of the index that are not in TUPLES: others counts them as photos of other objects, so that an "
            "unknown photo of a query's object makes probabilities smaller, never larger; ignored leaves them out.",
            choices=("others", "ignored"),
        ),
    ] = "others"
    seed: Annotated[int, Option("Random seed of the queries.", at_least=0, at_most=2**32 - 1)] = 0

    def check_packages(self) -> None:
        """Checks that scikit-learn is installed, and COLMAP if local features are named.

        Raises:
            MissingExtraError: one of them is not installed.
        """
        require_package("sklearn", "scikit-learn", "calibrate")
        if self.local is not None:
            require_colmap()

    def check(self) -> None:
        """Checks ranges, and that there is a place for the calibration.

        Raises:
            ArgumentError: an option is out of range, a Milvus collection or an address to which nothing can be written
                is given without --output, or --local with
                --no-verify, or --matcher.
            FolderError: the index folder cannot be written.
        """
        super().check()
        if self.output is None and is_milvus(self.index):
            raise ArgumentError(f"{self.index} has no folder for a calibration: name a file with --output")
        if self.output is None and remote_index(self.index):
            check_writable_address("INDEX", self.index)
        elif self.output is None:
            Writes("file", FolderError, made=(CALIBRATIONS,))("calibration", str(Path(self.index) / FILE))
        if self.local is not None and not self.verify:
            raise ArgumentError("--local is for the comparison of local features: leave --no-verify out")
        if self.matcher != MUTUAL and not self.verify:
            raise ArgumentError("--matcher is for the comparison of local features: leave --no-verify out")

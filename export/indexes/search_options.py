"""The options of the step `search`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from keras_retrieval.pipelines.command.colmap import require_colmap
from keras_retrieval.pipelines.command.kinds import Reads, Writes
from keras_retrieval.pipelines.command.options import Argument, Option
from keras_retrieval.pipelines.descriptors.folder import described_folder
from keras_retrieval.pipelines.files.durable import FolderError
from keras_retrieval.pipelines.local_features.matchers import MATCHER_HELP, MUTUAL, check_matcher
from keras_retrieval.pipelines.networks.custom_layers import CustomLayers
from keras_retrieval.pipelines.networks.kinds import NETWORK
from keras_retrieval.pipelines.photos.intake_options import PHOTO_PLACE
from keras_retrieval.pipelines.photos.object_options import ObjectOptions
from keras_retrieval.pipelines.photos.query_box import BOX_HELP
from keras_retrieval.pipelines.runtimes.options import RuntimeOption

from keras_retrieval.errors import ArgumentError
from keras_retrieval.ranking.methods import Step, describe_methods, parse

from ..index_contract.calibration import CALIBRATION_HELP, MIN_PROBABILITY_HELP
from ..index_contract.contract import Filter, parse_where
from ..index_contract.errors import CalibrationError, IndexFileNotFoundError
from .kinds import index_to_read
from .verified_search import LOCAL_HELP, VERIFY_HELP, check_matching


@dataclass(frozen=True, kw_only=True)
class SearchOptions(CustomLayers, RuntimeOption, ObjectOptions):
    """The options of the step `search`."""

    index: Annotated[
        str,
        Argument(
            "Index, a folder, its address such as s3://BUCKET/INDEX (extra cloud), or milvus://.. collection written "
            "by `keras-retrieval index`.",
            kind=index_to_read,
        ),
    ] = field(kw_only=False)
    queries: Annotated[
        list[Path], Argument("Query photos, or folders of them.", kind=Reads("any", IndexFileNotFoundError))
    ] = field(kw_only=False)
    k: Annotated[int, Option("Number of neighbours to show for each query.", at_least=1, flags="--k -k")] = 10
    box: Annotated[str | None, Option(BOX_HELP)] = None
    sketch: Annotated[
        bool | None,
        Option(
            "Whether queries are sketches or photos, for an index of edge maps. By default recognised for each query.",
            flags="--sketch/--photo",
        ),
    ] = None
    html: Annotated[
        Path | None,
        Option(
            "HTML file to write, a page that shows each query photo with its neighbours.",
            kind=Writes("file", FolderError),
        ),
    ] = None
    model: Annotated[
        str | None,
        Option("Network that the index was made with. By default at the path that the index states.", kind=NETWORK),
    ] = None
    photos: Annotated[
        Path | None,
        Option(
            "Folder of the index's photos, or its address (extra cloud). By default the one that the index states.",
            kind=PHOTO_PLACE,
        ),
    ] = None
    rerank: Annotated[
        str,
        Option(
            "Query-time methods, applied in turn and separated by commas; they rank all photos exactly."
            f" {describe_methods()}."
        ),
    ] = ""
    where: Annotated[
        list[str] | None,
        Option(
            "Condition that photos must satisfy: 'city = Paris', 'year >= 2010' (also < <= > !=), 'city in Paris,"
            " Rome', 'tags all red, round', 'city empty', also with `not` before in, all and empty. The column photo is"
            " the name. May be given several times: all must hold, but several with = on one column are alternatives."
        ),
    ] = None
    exact: Annotated[bool, Option("Compare every photo, even if the index is approximate.")] = False
    verify: Annotated[int, Option(VERIFY_HELP, at_least=0)] = 0
    local: Annotated[Path | None, Option(LOCAL_HELP, kind=described_folder)] = None
    min_probability: Annotated[float, Option(MIN_PROBABILITY_HELP, at_least=0, below=1)] = 0.0
    calibration: Annotated[Path | None, Option(CALIBRATION_HELP, kind=Reads("file", CalibrationError))] = None
    matcher: Annotated[str, Option(f"{MATCHER_HELP}.", kind=check_matcher)] = MUTUAL
    score: Annotated[
        bool,
        Option(
            "Print the mAP over all queries, not their neighbours. Folders say which photos are of one object; see "
            "--objects."
        ),
    ] = False

    def check_packages(self) -> None:
        """Checks that COLMAP is installed if rankings are to be verified.

        Raises:
            MissingExtraError: pycolmap, or the runtime that is named, is not installed.
        """
        super().check_packages()
        if self.verify:
            require_colmap()

    def check(self) -> None:
        """Checks the range of each option, and that --rerank is not combined with --where or --exact.

        Raises:
            ArgumentError: an option is out of range, a text of --where is not a condition, --rerank is combined with
                --where or --exact, --min-probability with --score, or --local or --matcher is given without
                --verify.
            MethodError: --rerank contains an unknown query-time method, or an invalid value of a method.
        """
        super().check()
        if self.filter() is not None and self.methods():
            raise ArgumentError("--rerank ranks all photos: leave --where out")
        if self.exact and self.methods():
            raise ArgumentError("--rerank is always exact: leave --exact out")
        if self.local is not None and not self.verify:
            raise ArgumentError("--local is for --verify: give --verify 100, or leave --local out")
        if self.score and self.min_probability:
            raise ArgumentError("--score rates rankings of all photos: leave --min-probability out")
        check_matching(self.matcher, self.verify)

    def methods(self) -> list[Step]:
        """Parses the query-time methods of --rerank, in the order in which they are applied.

        Returns:
            The methods with their values; see `keras_retrieval.ranking.methods.parse`.

        Raises:
            MethodError: a method is unknown, or one of its values is invalid.
        """
        return parse(self.rerank)

    def filter(self) -> Filter | None:
        """Parses the conditions of --where as a filter.

        Returns:
            The filter; None if there are no conditions, so that all photos are searched.

        Raises:
            ArgumentError: a text is not a condition.
        """
        return parse_where(self.where or [])

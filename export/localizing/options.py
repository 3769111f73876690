"""The options of the command `localize`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from keras_retrieval.pipelines.command.colmap import ColmapOptions
from keras_retrieval.pipelines.command.kinds import Reads
from keras_retrieval.pipelines.command.options import Argument, Option
from keras_retrieval.pipelines.localization.cameras import AUTO, CAMERA_HELP, check_camera
from keras_retrieval.pipelines.localization.errors import LocalizationError
from keras_retrieval.pipelines.localization.results import check_output
from keras_retrieval.pipelines.networks.custom_layers import CustomLayers
from keras_retrieval.pipelines.networks.kinds import NETWORK
from keras_retrieval.pipelines.photos.intake_options import ACCEPT_TRUNCATED_HELP
from keras_retrieval.pipelines.runtimes.options import RuntimeOption
from keras_retrieval.pipelines.sfm.errors import ModelError
from keras_retrieval.pipelines.sfm.options import MAX_SEED

from keras_retrieval.errors import ArgumentError

from .described import index_or_described


@dataclass(frozen=True, kw_only=True)
class LocalizeOptions(ColmapOptions, CustomLayers, RuntimeOption):
    """The options of the command `keras-retrieval localize`."""

    index: Annotated[
        str,
        Argument(
            "Index of the photos of the model, a folder or milvus://.. collection, which may have other photos, too; "
            "or their descriptors, a folder that `reconstruct` or `extract` wrote. An index and descriptors may be at "
            "an address (extra cloud).",
            kind=index_or_described,
        ),
    ] = field(kw_only=False)
    model: Annotated[
        Path,
        Argument(
            "COLMAP model, or a folder with models in sub-folders, such as one that `reconstruct` wrote.",
            kind=Reads("folder", ModelError),
        ),
    ] = field(kw_only=False)
    queries: Annotated[
        list[Path],
        Argument(
            "Query photos, folders of them, or text files with the path of a photo in each line and, as in hloc's "
            "lists, its camera.",
            kind=Reads("any", LocalizationError),
        ),
    ] = field(kw_only=False)
    output: Annotated[
        Path | None,
        Option(
            "File to write the poses to: .json, .csv, or .txt as hloc writes them (name, rotation, translation).",
            kind=check_output,
        ),
    ] = None
    neighbours: Annotated[
        int,
        Option(
            "Number of photos of the model with which a query is matched, the most similar ones first; 0 for all of "
            "them, for which no descriptors are needed.",
            at_least=0,
        ),
    ] = 20
    camera: Annotated[str, Option(CAMERA_HELP, kind=check_camera)] = AUTO
    min_inliers: Annotated[
        int,
        Option(
            "Minimum number of 3D points that must agree with a pose; a query with fewer is not localised.", at_least=4
        ),
    ] = 30
    error: Annotated[
        float,
        Option(
            "Largest reprojection error of a matched point, in pixels of a photo with a longest side of 1,024 pixels; "
            "in proportion to the side for other photos.",
            above=0,
        ),
    ] = 6.0
    database: Annotated[
        Path | None,
        Option(
            "COLMAP database from which the model was reconstructed. By default the file database.db in the folder of "
            "the model or one above it, or in INDEX.",
            kind=Reads("file", LocalizationError),
        ),
    ] = None
    network: Annotated[
        str | None,
        Option(
            "Network that the descriptors were computed with. By default at the path that INDEX states.", kind=NETWORK
        ),
    ] = None
    accept_truncated: Annotated[bool, Option(ACCEPT_TRUNCATED_HELP)] = False
    seed: Annotated[int, Option("Random seed of COLMAP's RANSAC.", at_least=0, at_most=MAX_SEED)] = 0

    def check(self) -> None:
        """Checks the range of every option, and that there is a query.

        Raises:
            ArgumentError: an option is out of range, there is no query, or --output is one of them.
        """
        super().check()
        if not self.queries:
            raise ArgumentError("QUERIES is empty: name a photo, a folder or a list")
        if self.output is not None and self.output.resolve() in [query.resolve() for query in self.queries]:
            raise ArgumentError(f"--output {self.output} is one of QUERIES, which would be lost: name another file")

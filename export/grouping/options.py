"""The options of the step `groups`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from keras_retrieval.pipelines.command.colmap import require_colmap
from keras_retrieval.pipelines.command.kinds import Reads, Writes
from keras_retrieval.pipelines.command.options import Argument, Option
from keras_retrieval.pipelines.descriptors.folder import described_folder
from keras_retrieval.pipelines.engines.options import EngineOptions
from keras_retrieval.pipelines.files.durable import MANIFEST, FolderError
from keras_retrieval.pipelines.files.finished_folders import GROUPS
from keras_retrieval.pipelines.files.remote import address_of
from keras_retrieval.pipelines.files.remote_errors import shown
from keras_retrieval.pipelines.networks.custom_layers import CustomLayers
from keras_retrieval.pipelines.networks.kinds import NETWORK
from keras_retrieval.pipelines.photos.intake_options import PHOTO_PLACE
from keras_retrieval.pipelines.runtimes.options import RuntimeOption

from keras_retrieval.errors import ArgumentError

from ..index_contract.calibration import CALIBRATION_HELP
from ..index_contract.errors import CalibrationError
from ..indexes.kinds import index_or_photos, index_to_read, is_index, remote_index
from ..indexes.verified_search import LOCAL_FEATURES_HELP
from .result import CSV, JSON, PAGE, check_links


@dataclass(frozen=True, kw_only=True)
class GroupsOptions(CustomLayers, RuntimeOption, EngineOptions):
    """The options of the step `groups`."""

    collection: Annotated[
        str,
        Argument(
            "Index with a calibration, a folder, its address such as s3://BUCKET/INDEX (extra cloud), or milvus://.. "
            "collection; or with --like a folder of photos, or its address.",
            kind=index_or_photos,
        ),
    ] = field(kw_only=False)
    output: Annotated[
        Path,
        Argument(
            "Folder to write; files of an earlier run are replaced.", kind=Writes("folder", FolderError, made=(GROUPS,))
        ),
    ] = field(kw_only=False)
    min_probability: Annotated[
        float,
        Option(
            "Probability that a pair of photos must have at least to link them, and so the promised share of pairs "
            "that show the same object.",
            above=0,
            below=1,
        ),
    ] = 0.99
    like: Annotated[
        str | None,
        Option(
            "For a folder of photos: index with a calibration, whose network, settings and calibration are used.",
            kind=index_to_read,
        ),
    ] = None
    model: Annotated[
        str | None,
        Option(
            "With --like: network that the index was made with. By default at the path that the index states.",
            kind=NETWORK,
        ),
    ] = None
    calibration: Annotated[Path | None, Option(CALIBRATION_HELP, kind=Reads("file", CalibrationError))] = None
    local: Annotated[Path | None, Option(LOCAL_FEATURES_HELP, kind=described_folder)] = None
    verify: Annotated[
        bool,
        Option("Compare local features where the index has them.", flags="--verify/--no-verify"),
    ] = True
    neighbours: Annotated[
        int, Option("Number of nearest photos with which each photo is compared.", at_least=1, at_most=1000)
    ] = 20
    photos: Annotated[
        Path | None,
        Option(
            "Folder of the index's photos, or its address (extra cloud). By default the one that the index states.",
            kind=PHOTO_PLACE,
        ),
    ] = None
    links: Annotated[bool, Option("Also make OUTPUT/objects, a folder of links to the photos for each group.")] = False

    def check_packages(self) -> None:
        """Checks that COLMAP is installed if local features are named.

        Raises:
            MissingExtraError: it, or the runtime that is named, is not installed.
        """
        super().check_packages()
        if self.local is not None:
            require_colmap()

    def check(self) -> None:
        """Checks ranges, and that a folder of photos is given together with --like.

        Raises:
            ArgumentError: an option is out of range, or two do not fit together.
            FolderError: the index is missing or damaged, or OUTPUT has something in the place of a file of this step.
        """
        super().check()
        self.refuse_engine(self.like is None, "--like, with which photos are described on workers")
        # Of an address --like says what it is, because the storage is not asked yet.
        index = self.like is None if remote_index(self.collection) else is_index(self.collection)
        if self.like is None and not index:
            self._check_no_index()
        if index == (self.like is not None):
            raise ArgumentError(
                f"{self.collection} is an index, which has its own network: leave --like {self.like} out"
                if self.like is not None
                else f"{self.collection} is no index: name a calibrated index with --like, whose network describes the "
                "photos"
            )
        for name in (JSON, CSV, PAGE):
            Writes("file", FolderError, made=(GROUPS,))("OUTPUT", str(self.output / name))
        if self.links:
            check_links(self.output)
            if address := address_of(self.photos or (self.collection if self.like is not None else "")):
                raise ArgumentError(
                    f"--links needs the photos, and {shown(address)} is an address: name their folder on this machine"
                )
        if self.model is not None and self.like is None:
            raise ArgumentError(f"--model {self.model} is the network of --like: give both")
        if self.photos is not None and self.like is not None:
            raise ArgumentError("--photos is the folder of an index's photos: leave it out, with --like")
        if self.local is not None and (not self.verify or self.like is not None):
            raise ArgumentError(
                "--local is for an index whose local features are compared: leave --no-verify and --like out"
            )

    def _check_no_index(self) -> None:
        """Raises the error of an index that does not exist or whose manifest is damaged."""
        folder = Path(self.collection)
        if not folder.is_dir() or (folder / MANIFEST).is_file():
            index_to_read("COLLECTION", self.collection)

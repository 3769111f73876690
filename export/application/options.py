"""The options of the step `app`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from keras_retrieval.pipelines.command.colmap import require_colmap
from keras_retrieval.pipelines.command.kinds import Writes
from keras_retrieval.pipelines.command.options import Argument, Option
from keras_retrieval.pipelines.files.durable import FolderError
from keras_retrieval.pipelines.files.finished_folders import COLLECTION
from keras_retrieval.pipelines.networks.custom_layers import CustomLayers
from keras_retrieval.pipelines.networks.precision import PRECISION_HELP, PRECISIONS
from keras_retrieval.pipelines.photos.grid_crops import parse_levels
from keras_retrieval.pipelines.photos.intake_options import PHOTO_FOLDER, IntakeOptions
from keras_retrieval.pipelines.runtimes.options import RuntimeOption, check_runtime_precision

from ..collection.network_choice import network_of_collection
from ..http.access_options import AccessOptions
from ..http.base_path import checked_base_path
from ..http.hosts import address_to_listen_on


@dataclass(frozen=True, kw_only=True)
class AppOptions(CustomLayers, RuntimeOption, IntakeOptions, AccessOptions):
    """The options of the step `app`."""

    photos: Annotated[
        Path,
        Argument("Folder of photos; its sub-folders are read, too. Nothing is written into it.", kind=PHOTO_FOLDER),
    ] = field(kw_only=False)
    state: Annotated[
        Path | None,
        Option(
            "Folder for the index and all else that is remembered; in the user's cache folder if not given.",
            kind=Writes("folder", FolderError, made=(COLLECTION,)),
        ),
    ] = None
    model: Annotated[
        str | None,
        Option(
            "Network: a .keras or .onnx file, a published network (.pth, .safetensors, .ckpt, .mat), weights of a "
            "trunk (.h5, .npz), or a name such as vgg16_gem. auto is the best one in the weights folder, else ImageNet "
            "weights, else a random network. If not given, the network that the state has, or auto.",
            kind=network_of_collection,
        ),
    ] = None
    size: Annotated[
        int | None,
        Option("Longest side of a photo in pixels; if not given, that of the state, or 362.", at_least=1),
    ] = None
    crops: Annotated[
        str | None,
        Option(
            "Levels of crops, such as 1,2,3, to find small objects: each photo is also described by an l x l grid of "
            "crops, and its best crop counts. 1 for whole photos only; if not given, those of the state, or 1."
        ),
    ] = None
    precision: Annotated[str, Option(PRECISION_HELP, choices=PRECISIONS)] = "auto"
    host: Annotated[
        str,
        Option(
            "Address to listen on; 0.0.0.0 for all, so that other machines can see the photos.",
            kind=address_to_listen_on,
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int | None,
        Option("Port of the page; if not given, 8000 or the next free one.", at_least=0, at_most=65535),
    ] = None
    base_path: Annotated[str, Option("Path of the page behind a reverse proxy, such as /photos.")] = "/"
    watch: Annotated[bool, Option("Watch the folder for new, changed and deleted photos.")] = True
    train: Annotated[
        bool,
        Option(
            "Train a network on the photos behind the page (hours without a GPU), and use it if its measured result is "
            "better. Needs the extra sfm."
        ),
    ] = False
    open: Annotated[bool, Option("Open the page in the browser, where there is a graphical session.")] = True

    def check(self) -> None:
        """Checks the ranges of the options, the levels of crops, and the base path.

        Raises:
            ArgumentError: an option is out of range.
        """
        super().check()
        parse_levels(self.crops or "")
        check_runtime_precision(self.runtime, self.precision)
        checked_base_path(self.base_path)

    def check_packages(self) -> None:
        """Checks that COLMAP is installed if a network is to be trained.

        Raises:
            MissingExtraError: pycolmap, or the runtime that is named, is not installed.
        """
        super().check_packages()
        if self.train:
            require_colmap()

    @property
    def intake(self) -> IntakeOptions:
        """The options of the intake alone."""
        return IntakeOptions(**self.passed_on)

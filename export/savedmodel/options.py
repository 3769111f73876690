"""The options of the step export-saved-model."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from keras_retrieval.pipelines.command.kinds import Writes, require_package
from keras_retrieval.pipelines.command.options import Argument, Option
from keras_retrieval.pipelines.descriptors.options import DescriptionOptions
from keras_retrieval.pipelines.files.durable import FolderError
from keras_retrieval.pipelines.networks.kinds import KERAS_NETWORK, KERAS_NETWORK_HELP
from keras_retrieval.pipelines.photos.intake_options import PHOTO_FOLDER
from keras_retrieval.pipelines.photos.reader import MAX_PIXELS

from keras_retrieval.errors import ArgumentError

from ..indexes.kinds import index_to_export


@dataclass(frozen=True, kw_only=True)
class GraphOptions(DescriptionOptions):
    """The options with which an exported graph reads and describes photos; they are fixed at the time of the export."""

    max_pixels: Annotated[int, Option("The server refuses photos whose header declares more pixels.", at_least=1)] = (
        MAX_PIXELS
    )
    webp: Annotated[
        bool,
        Option("Read WebP. TensorFlow 2.19 and earlier, and servers built on them, load versions with --no-webp only."),
    ] = True


@dataclass(frozen=True, kw_only=True)
class ExportSavedModelOptions(GraphOptions):
    """The options of the step `export-saved-model`."""

    model: Annotated[
        str,
        Argument(
            KERAS_NETWORK_HELP,
            kind=KERAS_NETWORK,
        ),
    ] = field(kw_only=False)
    output: Annotated[
        Path,
        Argument(
            "Folder of the model's versions; its name is the name that the model is served under.",
            kind=Writes("folder", FolderError),
        ),
    ] = field(kw_only=False)
    version: Annotated[int | None, Option("Number of the version; the newest plus one if not given.", at_least=1)] = (
        None
    )
    check_photos: Annotated[
        Path | None,
        Option(
            "Folder of photos to compare the version with Keras on; a few synthetic photos if not given.",
            flags="--check",
            kind=PHOTO_FOLDER,
        ),
    ] = None
    training_set: Annotated[str, Option("What the network was trained on, for README.txt.")] = ""
    index: Annotated[
        str | None,
        Option(
            "Index to put into the version, as the signature `search`: a folder or milvus://HOST:PORT/COLLECTION. Only "
            "servers with ScaNN's operations load such a version.",
            kind=index_to_export,
        ),
    ] = None

    def check_packages(self) -> None:
        """Checks that TensorFlow Serving's message types, and ScaNN for an index, are installed.

        Raises:
            MissingExtraError: one of them is not installed.
        """
        require_package("tensorflow_serving", "tensorflow-serving-api", "serving")
        if self.index is not None:
            require_package("scann", "ScaNN", "index")

    def check(self) -> None:
        """Checks ranges, and that MODEL can be exported.

        Raises:
            ArgumentError: an option is out of range, or MODEL is an .onnx file.
        """
        super().check()
        if Path(self.model).suffix == ".onnx":
            raise ArgumentError(f"MODEL must be a .keras file or a network's name, got {self.model}")

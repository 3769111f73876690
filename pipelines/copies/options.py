"""The options of the step `duplicates`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from keras_retrieval.errors import ArgumentError

from ..command.kinds import Writes
from ..command.options import Argument, Option
from ..engines.options import EngineOptions
from ..files.durable import FolderError
from ..files.finished_folders import COPIES
from ..networks.kinds import NETWORK
from ..photos.intake_options import PHOTO_PLACE, PHOTOS_HELP, IntakeOptions
from ..runtimes.options import RuntimeOption


@dataclass(frozen=True, kw_only=True)
class DuplicatesOptions(RuntimeOption, EngineOptions, IntakeOptions):
    """The options of the step `duplicates`, which finds copies of photos."""

    photos: Annotated[
        Path,
        Argument(PHOTOS_HELP, kind=PHOTO_PLACE),
    ] = field(kw_only=False)
    output: Annotated[
        Path,
        Option(
            "Folder to write duplicates.json, left_out.json and index.html to.",
            kind=Writes("folder", FolderError, made=(COPIES,)),
        ),
    ] = Path("duplicates")
    near: Annotated[
        bool,
        Option(
            "Also find copies that were re-compressed, resized, cropped, turned or mirrored; with --no-near only files "
            "with the same bytes."
        ),
    ] = True
    model: Annotated[
        str | None,
        Option(
            "Also compare the pixels of photos whose descriptors by this network are similar: a .keras or .onnx file, "
            "or a name such as vgg16_gem. It finds copies that were cropped by up to 30 %.",
            kind=NETWORK,
        ),
    ] = None
    size: Annotated[int, Option("With --model: longest side of a photo in pixels for the network.", at_least=1)] = 362
    neighbours: Annotated[
        int, Option("With --model: number of the most similar photos that each photo is compared with.", at_least=1)
    ] = 10

    def check(self) -> None:
        """Checks the range of each option, and that a network is not combined with a comparison of bytes only.

        Raises:
            ArgumentError: an option is out of range, or two options cannot be combined.
        """
        super().check()
        if self.model is not None and not self.near:
            raise ArgumentError("--model compares pixels: leave out --no-near")
        self.refuse_engine(self.model is None, "--model, whose descriptors are computed on workers")

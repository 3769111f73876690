"""The options of the step export-onnx."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from keras_retrieval.pipelines.command.kinds import Writes, require_package
from keras_retrieval.pipelines.command.options import Argument, Option
from keras_retrieval.pipelines.descriptors.options import DescriptionOptions
from keras_retrieval.pipelines.networks.kinds import KERAS_NETWORK, KERAS_NETWORK_HELP
from keras_retrieval.pipelines.photos.intake_options import PHOTO_FOLDER
from keras_retrieval.pipelines.photos.object_options import ObjectOptions

from keras_retrieval.errors import ArgumentError


@dataclass(frozen=True, kw_only=True)
class ExportOnnxOptions(DescriptionOptions, ObjectOptions):
    """The options of the step `export-onnx`; `size` is stored in the file's metadata as the size of its photos."""

    model: Annotated[
        str,
        Argument(
            KERAS_NETWORK_HELP,
            kind=KERAS_NETWORK,
        ),
    ] = field(kw_only=False)
    output: Annotated[Path, Argument("The .onnx file to write.", kind=Writes("file"))] = field(kw_only=False)
    fp16: Annotated[
        bool, Option("Store and compute the trunk in float16: half the size. Pooling and whitening stay float32.")
    ] = False
    int8: Annotated[
        bool,
        Option("Quantize the trunk's convolutions or blocks to int8: a quarter of the size; needs --calibrate."),
    ] = False
    least_cosine: Annotated[
        float,
        Option(
            "Write no --int8 file if a photo that is compared has a descriptor of lower cosine similarity to float32.",
            at_least=-1,
            at_most=1,
        ),
    ] = 0.99
    calibrate: Annotated[
        Path | None,
        Option(
            "Folder of photos like those that will be described, 64 or more. --int8, which needs 16, is calibrated on "
            "one half of them (up to 64) and measured on the other; --fp16 is measured on all.",
            kind=PHOTO_FOLDER,
        ),
    ] = None
    score: Annotated[
        bool,
        Option(
            "Measure the mAP of --fp16 or --int8 and that of float32 on the photos of --calibrate, which must be in "
            "sub-folders for objects; see --objects."
        ),
    ] = False
    training_set: Annotated[str, Option("What the network was trained on, for the file's metadata.")] = ""

    def check_packages(self) -> None:
        """Checks that the packages for ONNX files are installed.

        Raises:
            MissingExtraError: one of them is not installed.
        """
        for module in ("tf2onnx", "onnx", "onnxruntime"):
            require_package(module, module, "onnx")

    def check(self) -> None:
        """Checks the range of each option, the names of MODEL and OUTPUT, and the combination of options.

        Raises:
            ArgumentError: an option is out of range; MODEL is an .onnx file; the name of OUTPUT does not end in .onnx;
                --int8 and --fp16 are both given; --int8 is given without --calibrate; or --score is given without
                --calibrate, or with neither --fp16 nor --int8.
        """
        super().check()
        if Path(self.model).suffix == ".onnx":
            raise ArgumentError(f"MODEL must be a .keras file or a network's name, got {self.model}")
        if self.output.suffix != ".onnx":
            raise ArgumentError(f"OUTPUT must end in .onnx, got {self.output}")
        if self.int8 and self.fp16:
            raise ArgumentError("--int8 and --fp16 exclude each other: give one of them")
        if self.int8 and self.calibrate is None:
            raise ArgumentError("--int8 needs --calibrate, a folder of photos like those that will be described")
        if self.score and not (self.fp16 or self.int8):
            raise ArgumentError("--score compares --fp16 or --int8 with float32: give one of them")
        if self.score and self.calibrate is None:
            raise ArgumentError("--score needs --calibrate, a folder of photos with sub-folders for objects")

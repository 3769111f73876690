"""The step `convert`: converts a published network, `keras-retrieval convert vgg16-gem.pth model.keras`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from keras_retrieval.errors import ArgumentError
from keras_retrieval.inert_files.torch_file import read_torch
from keras_retrieval.networks.published_files import named_file

from ..command.kinds import Reads, require_package
from ..command.options import Argument, Option, takes
from . import cirtorch
from .custom_layers import CustomLayers
from .descriptor_check import check_descriptors, with_unit_rows
from .errors import ConversionError
from .files import check_keras_path, load_keras, save_model
from .kinds import KERAS_FILE, published_network
from .published_file import read_published


@dataclass(frozen=True, kw_only=True)
class ConvertOptions(CustomLayers):
    """The options of the step `convert`, which converts a published network to a .keras file."""

    network: Annotated[
        Path,
        Argument(
            "A published network: a file of torch or .safetensors of a family that is recognised by its tensors "
            "(DINOv2, DINOv3, SALAD, CliqueMining, MegaLoc, BoQ, MixVPR, CosPlace, EigenPlaces, SuperGlobal, "
            "pytorch-NetVlad, dirtorch, cirtorch), or a .mat file of NetVLAD; the name of a file in the weights "
            "folder, or a name that the step weights lists; or a .keras file, with --normalise.",
            kind=published_network,
        ),
    ] = field(kw_only=False)
    output: Annotated[Path, Argument("The .keras file to write.", kind=KERAS_FILE)] = field(kw_only=False)
    whitening: Annotated[
        Path | None,
        Option("A .pth file with a learned whitening to add to the network.", kind=Reads("file")),
    ] = None
    lw: Annotated[
        str | None,
        Option(
            "Add the whitening that the network's file contains for this dataset, such as retrieval-SfM-120k "
            "(cirtorch) or Landmarks_clean (dirtorch)."
        ),
    ] = None
    lw_scales: Annotated[
        str, Option("Which whitening to add: that of a single scale (ss) or of several (ms).", choices=("ss", "ms"))
    ] = "ss"
    dim: Annotated[int | None, Option("Dimensions that the whitening keeps; all if not given.", at_least=1)] = None
    normalise: Annotated[
        bool, Option("Append L2 normalisation to a .keras network whose descriptors do not have unit length.")
    ] = False

    def check_packages(self) -> None:
        """Checks that SciPy is installed if a MATLAB file is read.

        Raises:
            MissingExtraError: SciPy is not installed.
        """
        if self.network.suffix == ".mat":
            require_package("scipy", "SciPy, which reads MATLAB files,", "matlab")

    def check(self) -> None:
        """Checks the range of each option, and the combination of the options of the whitening.

        Raises:
            ArgumentError: an option is out of range; --whitening and --lw are both given; or --dim is given without a
                whitening that it could cut, which only --whitening, --lw or a .mat file provides.
        """
        super().check()
        if self.whitening is not None and self.lw is not None:
            raise ArgumentError("--whitening and --lw both give a whitening: leave out one of them")
        if self.normalise != (self.network.suffix == ".keras"):
            raise ArgumentError(
                f"--normalise is for .keras files, which need no other conversion; NETWORK is {self.network}"
            )
        if self.normalise and (self.lw is not None or self.whitening is not None or self.dim is not None):
            raise ArgumentError("--normalise goes without a whitening: the step whiten adds one afterwards")
        if self.dim is not None and self.whitening is None and self.lw is None and self.network.suffix != ".mat":
            raise ArgumentError("--dim needs a whitening, whose dimensions it cuts: give --whitening or --lw, too")


@takes(ConvertOptions)
def convert(options: ConvertOptions) -> Path:
    """Converts a published network to a .keras file, from which all other steps load it.

    Code that the published file may contain is not executed. With --normalise, the file is a .keras file, and L2
    normalisation is appended to its network.

    Returns:
        The path of the .keras file, `output`.

    Raises:
        ArgumentError: an option is out of range, or the options of the whitening cannot be combined, see
            `ConvertOptions.check`.
        TorchFileError: a file of cirtorch is damaged, or contains something other than data.
        ConversionError: a file does not contain a supported network or whitening.
        MissingExtraError: SciPy is not installed, which reads .mat files.
        OSError: a file cannot be read or written.
    """
    network = named_file(options.network) or options.network
    output, whitening, dim = options.output, options.whitening, options.dim
    check_keras_path(output)
    try:
        model = _converted(network, options.lw, options.lw_scales, dim if whitening is None else None)
    except (ConversionError, ArgumentError) as error:
        raise ConversionError(f"{network} cannot be converted: {error}") from error
    if whitening is not None:
        try:
            from keras_retrieval.networks.regional import with_whitening

            model = with_whitening(model, *cirtorch.whitening_of(read_torch(whitening), options.lw_scales), dim)
        except (ConversionError, ArgumentError) as error:
            raise ConversionError(f"the whitening of {whitening} cannot be added: {error}") from error
    save_model(model, output)
    print(f"{output}: {model.name}, {model.output_shape[-1]} dimensions, {output.stat().st_size / 1e6:.1f} MB")
    return output


def _converted(network: Path, lw: str | None, lw_scales: str, dim: int | None) -> Any:
    if network.suffix == ".keras":
        model = load_keras(network)
        check_descriptors(model, network, unit=False)
        return with_unit_rows(model)
    return read_published(network, lw, lw_scales, dim)

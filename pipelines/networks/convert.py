"""Published networks to .keras files: `keras-retrieval convert retrievalSfM120k-vgg16-gem.pth model.keras`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from keras_retrieval.errors import ArgumentError

from . import cirtorch, matconvnet
from .errors import ConversionError
from .files import check_keras_path, save_model
from .torch_file import read_torch


def convert(
    network: Annotated[
        Path, typer.Argument(help="A published network: a .pth file of cirtorch, or a .mat file of NetVLAD.")
    ],
    output: Annotated[Path, typer.Argument(help="The .keras file to write.")],
    *,
    whitening: Annotated[
        Path | None, typer.Option(help="A .pth file with a learned whitening to add to the network.")
    ] = None,
    lw: Annotated[
        str | None,
        typer.Option(
            help="Add the whitening in the network's file that was learned on this dataset, such as retrieval-SfM-120k."
        ),
    ] = None,
    lw_scales: Annotated[
        str, typer.Option(help="Which learned whitening: ss, of a single scale, or ms, multi-scale.")
    ] = "ss",
    dim: Annotated[int | None, typer.Option(help="Dimensions that the whitening keeps; all if not given.")] = None,
) -> Path:
    """Converts a published network to a .keras file, which all other steps read.

    Nothing in the published file is executed.

    Returns:
        `output`.
    """
    check_keras_path(output)
    if whitening is not None and lw is not None:
        raise ArgumentError("--whitening and --lw both give a whitening: leave out one of them")
    if dim is not None and whitening is None and lw is None and network.suffix != ".mat":
        raise ArgumentError("--dim needs a whitening, whose dimensions it cuts: give --whitening or --lw, too")
    try:
        model = _converted(network, lw, lw_scales, dim if whitening is None else None)
    except (ConversionError, ArgumentError) as error:
        raise ConversionError(f"{network} cannot be converted: {error}") from error
    if whitening is not None:
        try:
            from keras_retrieval.networks.regional import with_whitening

            model = with_whitening(model, *cirtorch.whitening_of(read_torch(whitening), lw_scales), dim)
        except (ConversionError, ArgumentError) as error:
            raise ConversionError(f"the whitening of {whitening} cannot be added: {error}") from error
    save_model(model, output)
    print(f"{output}: {model.name}, {model.output_shape[-1]} dimensions, {output.stat().st_size / 1e6:.1f} MB")
    return output


def _converted(network: Path, lw: str | None, lw_scales: str, dim: int | None) -> Any:
    if network.suffix == ".mat":
        if lw is not None:
            raise ConversionError("--lw is for networks of cirtorch; a NetVLAD file has its whitening inside")
        return matconvnet.to_keras(matconvnet.read_matlab(network), dim)
    checkpoint = read_torch(network)
    model = cirtorch.to_keras(checkpoint)
    if lw is None:
        return model
    from keras_retrieval.networks.regional import with_whitening

    return with_whitening(model, *cirtorch.whitening_in(checkpoint, lw, lw_scales), dim)

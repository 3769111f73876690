"""A published network as one file of ours: `keras-retrieval convert retrievalSfM120k-vgg16-gem.pth model.keras`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from keras_retrieval.errors import ArgumentError

from . import cirtorch, matconvnet
from .cirtorch import ConversionError
from .files import save_model
from .torch_file import read_torch


def convert(
    network: Annotated[Path, typer.Argument(help="A published network: .pth of cirtorch, or .mat of NetVLAD.")],
    output: Annotated[Path, typer.Argument(help="The .keras file to write.")],
    *,
    whitening: Annotated[Path | None, typer.Option(help="A .pth file with a learned whitening to put in.")] = None,
    lw: Annotated[
        str | None, typer.Option(help="Put in the whitening that the network holds for this dataset.")
    ] = None,
    lw_scales: Annotated[str, typer.Option(help="Whitening learned at one scale, ss, or several, ms.")] = "ss",
    dim: Annotated[int | None, typer.Option(help="Dimensions that the whitening keeps; all if not given.")] = None,
) -> Path:
    """Converts a published network, without executing anything in it, to a .keras file that every other step takes."""
    if output.suffix != ".keras":
        raise ValueError(f"{output}: a network is saved with the ending .keras")
    if whitening is not None and lw is not None:
        raise ValueError("--whitening and --lw are two whitenings: give one of them")
    if dim is not None and whitening is None and lw is None and network.suffix != ".mat":
        raise ValueError("--dim shortens what a whitening makes: give --whitening or --lw too")
    try:
        model = _converted(network, lw, lw_scales, dim if whitening is None else None)
    except (ConversionError, ArgumentError) as error:
        raise ConversionError(f"{network} is not converted: {error}") from error
    if whitening is not None:
        try:
            from keras_retrieval.networks.regional import with_whitening

            model = with_whitening(model, *cirtorch.whitening_of(read_torch(whitening), lw_scales), dim)
        except (ConversionError, ArgumentError) as error:
            raise ConversionError(f"{whitening} is not put in: {error}") from error
    save_model(model, output)
    print(f"{output}: {model.name}, {model.output_shape[-1]} dimensions, {output.stat().st_size / 1e6:.1f} MB")
    return output


def _converted(network: Path, lw: str | None, lw_scales: str, dim: int | None) -> Any:
    if network.suffix == ".mat":
        if lw is not None:
            raise ConversionError("--lw is for networks of cirtorch; NetVLAD's whitening is a part of it")
        return matconvnet.network(matconvnet.read_matlab(network), dim)
    checkpoint = read_torch(network)
    model = cirtorch.network(checkpoint)
    if lw is None:
        return model
    from keras_retrieval.networks.regional import with_whitening

    return with_whitening(model, *cirtorch.whitening_in(checkpoint, lw, lw_scales), dim)

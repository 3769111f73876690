"""A network by name, saved as one file: `keras-retrieval build vgg16_gem model.keras`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .files import save_model


def build(
    name: Annotated[str, typer.Argument(help="<backbone>_<pooling>, such as vgg16_gem; a wrong name lists them.")],
    output: Annotated[Path, typer.Argument(help="The .keras file to write.")],
    *,
    weights: Annotated[
        str, typer.Option(help="imagenet (downloaded), none (random), or a .h5, .npz or .keras file.")
    ] = "imagenet",
    normalization: Annotated[
        str | None, typer.Option(help="Pixels that a weights file expects: torch, caffe or none.")
    ] = None,
    dim: Annotated[int | None, typer.Option(help="Add a whitening that keeps so many dimensions.")] = None,
    p: Annotated[float | None, typer.Option(help="GeM's exponent at the start; 3 if not given.")] = None,
    levels: Annotated[int | None, typer.Option(help="Scales of R-MAC's grid; 3 if not given.")] = None,
    clusters: Annotated[int | None, typer.Option(help="NetVLAD's clusters; 64 if not given.")] = None,
    seed: Annotated[int, typer.Option(help="Of random weights.")] = 0,
) -> Path:
    """Builds a network and saves it as a .keras file that every other step takes."""
    if output.suffix != ".keras":
        raise ValueError(f"{output}: a network is saved with the ending .keras")
    import keras

    import keras_retrieval

    options: dict[str, Any] = {"p": p, "levels": levels, "clusters": clusters}
    given = {key: value for key, value in options.items() if value is not None}
    keras.utils.set_random_seed(seed)
    source = None if weights == "none" else weights
    model = keras_retrieval.build(name, weights=source, normalization=normalization, dim=dim, **given)
    save_model(model, output)
    print(f"{output}: {name}, {model.output_shape[-1]} dimensions, {output.stat().st_size / 1e6:.1f} MB")
    return output

"""A network by name, saved as one file: `keras-retrieval build vgg16_gem model.keras`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .files import check_keras_path, save_model


def build(
    name: Annotated[
        str, typer.Argument(help="<backbone>_<pooling>, such as vgg16_gem; an unknown name prints all names.")
    ],
    output: Annotated[Path, typer.Argument(help="The .keras file to write.")],
    *,
    weights: Annotated[
        str,
        typer.Option(help="imagenet (downloaded), none (random), or the path of a .h5, .npz or .keras file."),
    ] = "imagenet",
    normalization: Annotated[
        str | None,
        typer.Option(
            help="Pixel normalisation that the weights expect: torch, caffe or none. If not given, the one stated in "
            "the weights file, else that of the backbone's ImageNet weights."
        ),
    ] = None,
    dim: Annotated[
        int | None, typer.Option(help="Add a whitening layer with this many output dimensions; none if not given.")
    ] = None,
    p: Annotated[float | None, typer.Option(help="Initial exponent of GeM pooling; 3 if not given.")] = None,
    levels: Annotated[int | None, typer.Option(help="Scales of R-MAC's region grid; 3 if not given.")] = None,
    clusters: Annotated[int | None, typer.Option(help="Clusters of NetVLAD; 64 if not given.")] = None,
    seed: Annotated[int, typer.Option(help="Random seed of weights that are not loaded.")] = 0,
) -> Path:
    """Builds a network and saves it as a .keras file, which all other steps read.

    Returns:
        `output`.
    """
    check_keras_path(output)
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

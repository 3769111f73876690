"""The step `build`: builds a network by name and saves it, `keras-retrieval build vgg16_gem model.keras`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from keras_retrieval.errors import ArgumentError
from keras_retrieval.networks.names import POOLING_OPTIONS, published_file, require_published, split_name
from keras_retrieval.networks.published_files import FILES

from ..command.options import Argument, Option, Options, takes
from .files import check_keras_path, save_model
from .kinds import KERAS_FILE
from .kinds import weights as weights_kind


@dataclass(frozen=True, kw_only=True)
class BuildOptions(Options):
    """The options of the step `build`, which builds a network and saves it."""

    name: Annotated[str, Argument("<backbone>_<pooling>, such as vgg16_gem; an unknown name prints all names.")] = (
        field(kw_only=False)
    )
    output: Annotated[Path, Argument("The .keras file to write.", kind=KERAS_FILE)] = field(kw_only=False)
    weights: Annotated[
        str | None,
        Option(
            "auto (the published file in the weights folder, see the step weights, or ImageNet weights), imagenet "
            "(downloaded), none (random), or a file: of torch (.pth, .pt, .ckpt), .safetensors, of Keras (.h5, "
            ".weights.h5, .keras), or .npz.",
            kind=weights_kind,
        ),
    ] = "auto"
    weights_prefix: Annotated[
        str,
        Option("Beginning of the weights' names, such as teacher., for a file that contains the trunk more than once."),
    ] = ""
    normalization: Annotated[
        str | None,
        Option(
            "Pixel normalisation that the weights expect: torch, caffe, none or torch-bgr. If not given, the one "
            "stated in the weights file, else that of the backbone's ImageNet weights.",
            choices=("torch", "caffe", "none", "torch-bgr"),
        ),
    ] = None
    dim: Annotated[
        int | None, Option("Add a whitening layer with this many output dimensions; none if not given.", at_least=1)
    ] = None
    p: Annotated[float | None, Option("Initial exponent of GeM pooling; 3 if not given.", above=0)] = None
    levels: Annotated[int | None, Option("Scales of R-MAC's region grid; 3 if not given.", at_least=1)] = None
    clusters: Annotated[int | None, Option("Clusters of NetVLAD; 64 if not given.", at_least=1)] = None
    seed: Annotated[int, Option("Random seed of weights that are not loaded.", at_least=0, at_most=2**32 - 1)] = 0

    def check(self) -> None:
        """Checks the network's name, that its pooling has each option that is given, and the values of the options.

        Raises:
            ArgumentError: the name is unknown, an option does not apply to the network or is out of range, OUTPUT does
                not end in .keras, or no weights of the network are published.
            WeightsNotFoundError: the weights folder does not have the published file of the network.
        """
        if self.name in FILES and FILES[self.name].publisher.convert:
            raise ArgumentError(f"{self.name} is made by `keras-retrieval convert {self.name} {self.output}`")
        backbone, pooling = split_name(self.name)
        accepted = POOLING_OPTIONS[pooling]
        wrong = [key for key in self.pooling() if key not in accepted]
        if wrong:
            others = " and ".join(f"--{key}" for key in ("p", "levels", "clusters") if key in accepted)
            reason = f"its pooling '{pooling}' takes {others or 'no such option'}"
            raise ArgumentError(f"--{wrong[0]} does not apply to {self.name}: {reason}")
        super().check()
        check_keras_path(self.output)
        if self.weights == "imagenet":
            require_published(backbone)
        if self.weights == "auto":
            published_file(self.name)

    def pooling(self) -> dict[str, Any]:
        """Returns the options of the pooling that are given."""
        options = {"p": self.p, "levels": self.levels, "clusters": self.clusters}
        return {key: value for key, value in options.items() if value is not None}


@takes(BuildOptions)
def build(options: BuildOptions) -> Path:
    """Builds a network by name and saves it as a .keras file, from which all other steps load it.

    Returns:
        The path of the file, `output`.

    Raises:
        ArgumentError: the name is unknown, or an option is out of range or cannot be applied to the network.
        WeightsNotFoundError: the file of weights does not exist.
        WeightsError: the file of weights cannot be read, or its layers do not match those of the network.
        DownloadError: the ImageNet weights cannot be downloaded.
        OSError: the .keras file cannot be written.
    """
    import keras

    import keras_retrieval

    keras.utils.set_random_seed(options.seed)
    weights = None if options.weights == "none" else options.weights
    model = keras_retrieval.build(
        options.name,
        weights=weights,
        weights_prefix=options.weights_prefix,
        normalization=options.normalization,
        dim=options.dim,
        **options.pooling(),
    )
    save_model(model, options.output)
    size = options.output.stat().st_size / 1e6
    print(f"{options.output}: {options.name}, {model.output_shape[-1]} dimensions, {size:.1f} MB")
    return options.output

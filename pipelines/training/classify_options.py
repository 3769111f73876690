"""The options of the step `classify`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from ..command.kinds import Writes
from ..command.options import Argument, Option
from ..engines.options import EngineOption, check_engine, engine_help
from ..engines.work import LOCAL
from ..files.durable import FolderError, fingerprint
from ..files.finished_folders import TRAINED, TRAINING
from ..networks.custom_layers import CustomLayers
from ..networks.files import model_identity
from ..networks.kinds import KERAS_NETWORK
from ..networks.precision import PRECISION, PRECISIONS, TRAINING_PRECISION_HELP
from ..photos.intake_options import PHOTO_PLACE, IntakeOptions
from ..photos.object_options import ObjectOptions


@dataclass(frozen=True, kw_only=True)
class ClassifyOptions(EngineOption, CustomLayers, IntakeOptions, ObjectOptions):
    """The options of the step `classify`, which trains the trunk of a network to classify landmarks."""

    photos: Annotated[
        Path,
        Argument(
            "Folder with one sub-folder per landmark, or its address: s3://, gs://, hf:// or http(s):// (extra cloud). "
            "Or a folder that `clean` made.",
            kind=PHOTO_PLACE,
        ),
    ] = field(kw_only=False)
    output: Annotated[
        Path,
        Option("Folder of the run, called RUN below.", kind=Writes("folder", FolderError, made=(TRAINED, TRAINING))),
    ]
    model: Annotated[
        str,
        Option(
            "Network to begin with: a .keras file, or a name such as vgg16_rmac (ImageNet weights) or dinov2vits14_gem "
            "(see the step weights).",
            kind=KERAS_NETWORK,
        ),
    ] = "vgg16_rmac"
    epochs: Annotated[int, Option("Number of epochs, those of a resumed run included.", at_least=1)] = 10
    batch: Annotated[int, Option("Photos per step (batch size).", at_least=1, resumed=True)] = 32
    lr: Annotated[
        float, Option("Learning rate of the first epoch, of SGD with momentum 0.9.", above=0, resumed=True)
    ] = 1e-3
    decay: Annotated[
        float,
        Option("Decay of the learning rate, which is lr * exp(-decay * i) in epoch i.", at_least=0, resumed=True),
    ] = 0.1
    weight_decay: Annotated[
        float,
        Option("Weight decay d: a step multiplies the weights by 1 - d * learning rate.", at_least=0, resumed=True),
    ] = 5e-5
    freeze: Annotated[
        int,
        Option(
            "Number of layers of the trunk, from the first, to freeze; BatchNormalization is always frozen.",
            at_least=0,
            resumed=True,
        ),
    ] = 0
    size: Annotated[
        int,
        Option("Longest side of the photos that squares are cut from, in pixels.", at_least=1, resumed=True),
    ] = 362
    side: Annotated[int, Option("Side of the squares, in pixels.", at_least=32, resumed=True)] = 224
    zoom: Annotated[
        float,
        Option(
            "Smallest side of a random square before it is resized, as a share of the photo's shorter side.",
            at_least=0.1,
            at_most=1,
            resumed=True,
        ),
    ] = 0.5
    flip: Annotated[bool, Option("Mirror half of the squares.", resumed=True)] = True
    augment: Annotated[
        float,
        Option(
            "Strength of random changes of brightness, contrast and saturation.", at_least=0, at_most=1, resumed=True
        ),
    ] = 0.0
    validation: Annotated[
        float,
        Option(
            "Share of each landmark's photos that is set aside for validation; at least one photo is trained on.",
            at_least=0,
            below=1,
            resumed=True,
        ),
    ] = 0.1
    min_photos: Annotated[int, Option("Landmarks with fewer photos that can be read are left out.", at_least=1)] = 2
    precision: Annotated[str, Option(TRAINING_PRECISION_HELP, choices=PRECISIONS, resumed=True)] = PRECISION
    seed: Annotated[int, Option("Random seed.", at_least=0, resumed=True)] = 0
    checkpoint_steps: Annotated[
        int,
        Option(
            "Steps between two checkpoints, the most that a killed run loses; 0 for one checkpoint per epoch.",
            at_least=0,
        ),
    ] = 100
    engine: Annotated[str, Option(engine_help("the photos are read and resized"), kind=check_engine)] = LOCAL
    resume: Annotated[
        bool, Option("Resume the run in RUN with the same options; --epochs may be higher than before.")
    ] = False

    def fingerprint(self, landmarks: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Returns a dict, serialisable as JSON, of the options, network and photos on which the trained weights depend.

        A run can be resumed only if this dict equals the one in the checkpoint of the run.

        Args:
            landmarks: dict from the name of each landmark to the names of its photos.
        """
        return self.resumed() | {
            "model": model_identity(self.model).get("sha256", self.model),
            "photos": fingerprint(landmarks),
        }

"""The options of the step `train-proposals`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from keras_retrieval.errors import ArgumentError

from ..command.kinds import Reads, Writes
from ..command.options import Argument, Option
from ..engines.options import EngineOption, check_engine, engine_help
from ..engines.work import LOCAL
from ..files.durable import FolderError, fingerprint
from ..files.finished_folders import TRAINED, TRAINING
from ..networks.custom_layers import CustomLayers
from ..networks.files import model_identity
from ..networks.kinds import KERAS_NETWORK
from ..photos.intake_options import PHOTO_PLACE
from ..photos.object_boxes import BoxesError

MOST_PROPOSALS = 10_000
"""Maximum of --proposals: more would need over 400 MB for the overlaps of all proposals with each other."""


@dataclass(frozen=True, kw_only=True)
class TrainProposalsOptions(EngineOption, CustomLayers):
    """The options of the step `train-proposals`, which trains a network to propose the regions that it pools."""

    boxes: Annotated[
        Path,
        Argument("boxes.json that `clean` made, or a folder that `sample-photos` made.", kind=Reads("any", BoxesError)),
    ] = field(kw_only=False)
    photos: Annotated[
        Path,
        Option(
            "Folder of the photos to which the boxes belong, or its address: s3://, gs://, hf:// or http(s):// (extra "
            "cloud).",
            kind=PHOTO_PLACE,
        ),
    ]
    output: Annotated[
        Path,
        Option("Folder of the run, called RUN below.", kind=Writes("folder", FolderError, made=(TRAINED, TRAINING))),
    ]
    model: Annotated[
        str,
        Option(
            "Network to begin with, which pools regions: a .keras file, or a name such as vgg16_rmac.",
            kind=KERAS_NETWORK,
        ),
    ] = "vgg16_rmac"
    proposals: Annotated[
        int, Option("Maximum number of regions per photo.", at_least=1, at_most=MOST_PROPOSALS, resumed=True)
    ] = 256
    anchors: Annotated[
        str,
        Option(
            "Sizes of the anchor boxes, which proposals shift and scale, separated by commas: sides of squares of the "
            "same area, in cells of the feature map (16 pixels for VGG).",
            resumed=True,
        ),
    ] = "8,16,32"
    epochs: Annotated[int, Option("Number of epochs.", at_least=1, resumed=True)] = 10
    batch: Annotated[int, Option("Photos per step (batch size).", at_least=1, resumed=True)] = 4
    lr: Annotated[
        float,
        Option(
            "Learning rate of Adam at the beginning; it decreases along a cosine to 0 at the end of the last epoch.",
            above=0,
            resumed=True,
        ),
    ] = 1e-3
    size: Annotated[int, Option("Longest side of the photos, in pixels.", at_least=1, resumed=True)] = 512
    trunk: Annotated[
        bool, Option("Train the trunk as well, or the proposals only.", flags="--trunk/--frozen", resumed=True)
    ] = False
    flip: Annotated[bool, Option("Mirror half of the photos, at random.", resumed=True)] = True
    held_out: Annotated[
        float,
        Option(
            "Share of sub-folders that is held out to measure the recall; without sub-folders, share of the photos.",
            at_least=0,
            below=1,
            resumed=True,
        ),
    ] = 0.2
    seed: Annotated[int, Option("Random seed.", at_least=0, resumed=True)] = 0
    cache: Annotated[
        Path | None,
        Option(
            "Folder for the resized photos, which several runs may share. If not given: RUN/photos.",
            kind=Writes("folder", FolderError),
        ),
    ] = None
    engine: Annotated[str, Option(engine_help("the photos are read and resized"), kind=check_engine)] = LOCAL
    resume: Annotated[bool, Option("Resume the run in RUN with the same options.")] = False

    def check(self) -> None:
        """Checks each option, including the sides of the anchors.

        Raises:
            ArgumentError: an option is out of range.
        """
        super().check()
        self.sides()

    def sides(self) -> list[float]:
        """Returns the sides of the anchor boxes, in cells of the feature map, from the text of the option `anchors`.

        Raises:
            ArgumentError: a side is not a number above 0.
        """
        try:
            sides = [float(side) for side in self.anchors.split(",")]
        except ValueError:
            sides = []
        if not sides or not all(0 < side < math.inf for side in sides):
            raise ArgumentError(
                f"--anchors must be numbers of cells above 0, separated by commas, such as 8,16,32, got {self.anchors}"
            )
        return sides

    def fingerprint(self, boxes: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Returns a dict, serialisable as JSON, of the options, network and boxes on which the trained weights depend.

        A run can be resumed only if this dict equals the one in the checkpoint of the run.

        Args:
            boxes: dict from the name of each photo to the (R, 4) boxes of its objects in pixels.
        """
        return self.resumed() | {
            "model": model_identity(self.model).get("sha256", self.model),
            "boxes": fingerprint({name: rows.tolist() for name, rows in boxes.items()}),
        }

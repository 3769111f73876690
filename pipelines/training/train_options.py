"""The options of the step `train`."""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from keras_retrieval.errors import ArgumentError

from ..command.kinds import Reads, Writes, checked_by_the_step, takes_addresses
from ..command.options import Argument, Option
from ..descriptors.multi_scale import MIRROR_HELP, parse_scales
from ..descriptors.options import SHIFT_HELP, SHRINKAGE_DEFAULT
from ..engines.options import EngineOption, check_engine, engine_help
from ..engines.work import LOCAL
from ..evaluation.datasets import DATASETS, check_dataset
from ..evaluation.errors import GroundTruthError
from ..files.durable import FolderError
from ..files.finished_folders import TRAINED, TRAINING
from ..files.remote import address_of, check_address
from ..files.remote_errors import shown
from ..networks.custom_layers import CustomLayers
from ..networks.files import model_identity
from ..networks.kinds import KERAS_NETWORK
from ..networks.precision import PRECISION, PRECISIONS, TRAINING_PRECISION_HELP
from ..photos.augmentation import Augmentation
from ..photos.edges import HELP as EDGES_HELP
from ..photos.edges import check_edges, edges_state
from ..photos.intake_options import ACCEPT_TRUNCATED_HELP, PHOTO_FOLDER
from ..photos.object_options import ObjectOptions
from ..training_tuples.options import MISSING
from ..training_tuples.sources import photos_of
from .class_draw import ClassOptions, classes_and_photos
from .initialization import VERSIONS
from .interpolation_share import check_share
from .mining_options import POSITIVES, MiningOptions
from .recipe import GIVEN_BY_RECIPE, MARGIN, MARGINS, RecipeOption, published_margin, recipe_of
from .workers import worker_place

ON_CLASSES = ("cosface", "arcface")
ON_LABELS = ("batch-hard", "semi-hard", "average-precision", "multi-similarity", "info-nce")
_WITHOUT_MARGIN = ("average-precision", "info-nce")
LOSSES = ("contrastive", "triplet", "ranking", *ON_LABELS, *ON_CLASSES)
_OF_TUPLES = {"refresh": 0, "remember": False, "sample": 0}
_OF_EACH_WORKER = {
    "custom", "tuples", "photos", "model", "output", "cache", "edges", "dataset", "dataset_photos", "gnd", "resume",
    "tensorboard",
}  # fmt: skip
WHITENINGS = ("lw", "pca", "none")
SMALL_CLASSES = ("drop", "repeat")
BESTS = ("loss", "score", "last")
OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("exponential", "linear", "steps", "constant")
INITIALIZATIONS = ("auto", *VERSIONS, "none")
_MARGINS = ", ".join(f"{margin} for {backbone}" for backbone, margin in MARGINS.items())
_FROM_TUPLES: Any = None


def epochs_of(text: str) -> list[int]:
    """Reads increasing numbers of epochs, such as [10, 20] of "10,20"; none of "".

    Raises:
        ArgumentError: the text has another form.
    """
    parts = [part.strip() for part in text.split(",")] if text else []
    found = [int(part) if re.fullmatch("[0-9]{1,9}", part) else 0 for part in parts]
    if any(epoch < 1 for epoch in found) or found != sorted(set(found)):
        raise ArgumentError(f"--lr-epochs must be increasing numbers such as 10,20, got {text!r}")
    return found


@takes_addresses
def photos_of_tuples(label: str, value: Any) -> None:
    """The kind of the folder of the photos: the step checks that they exist, and here an address is checked."""
    check_address(label, value)


@dataclass(frozen=True, kw_only=True)
class TrainOptions(EngineOption, CustomLayers, ObjectOptions):
    """The options of the step `train`, which trains a network on tuples.

    Options with the default None that a published training recipe contains get their values from the recipe for the
    network's pooling, see the module `recipe`.
    """

    tuples: Annotated[
        Path,
        Argument(
            "tuples.npz, or a source that `keras-retrieval tuples` takes: a folder, a .csv or a .pkl file.",
            kind=checked_by_the_step,
        ),
    ] = field(kw_only=False)
    photos: Annotated[
        Path,
        Option(
            "Folder of the photos, or with a tuples.npz its address: s3://, gs://, hf:// or http(s):// (extra cloud). "
            "If not given: TUPLES if it is a folder of photos, else the folder from which it was made if that is "
            "known, else the folder that contains TUPLES.",
            kind=photos_of_tuples,
        ),
    ] = _FROM_TUPLES
    missing: Annotated[
        str,
        Option(
            "Photos of the tuples that do not exist: skip lists them and leaves their tuples out; error ends the run.",
            choices=MISSING,
        ),
    ] = "skip"
    accept_truncated: Annotated[bool, Option(ACCEPT_TRUNCATED_HELP, resumed=True)] = False
    output: Annotated[
        Path,
        Option("Folder of the run, called RUN below.", kind=Writes("folder", FolderError, made=(TRAINED, TRAINING))),
    ] = Path("run")
    model: Annotated[
        str,
        Option(
            "Network to begin with: a .keras file, or a name such as vgg16_gem (ImageNet weights) or megaloc (see "
            "the step weights).",
            kind=KERAS_NETWORK,
        ),
    ] = "vgg16_gem"
    epochs: Annotated[int, RecipeOption("Number of epochs, those of a resumed run included.", at_least=1)] = (
        GIVEN_BY_RECIPE
    )
    queries: Annotated[
        int, Option("Training pairs (query, positive) drawn at random for each epoch.", at_least=1, resumed=True)
    ] = MiningOptions.queries
    pool: Annotated[
        int,
        Option(
            "Photos drawn at random for each epoch, among which hard negatives are found.", at_least=1, resumed=True
        ),
    ] = MiningOptions.pool
    negatives: Annotated[
        int,
        RecipeOption("Hard negatives for each query, each from another cluster.", at_least=1, resumed=True),
    ] = GIVEN_BY_RECIPE
    positive: Annotated[
        str,
        RecipeOption(
            "Positive of each query: drawn at random, or the one whose descriptor is nearest or farthest.",
            choices=POSITIVES,
            resumed=True,
        ),
    ] = GIVEN_BY_RECIPE
    sample: Annotated[
        int,
        RecipeOption(
            "Photos of the pool drawn for each query, among which its negatives are chosen; 0 for the whole pool.",
            at_least=0,
            resumed=True,
        ),
    ] = GIVEN_BY_RECIPE
    remember: Annotated[
        bool,
        RecipeOption(
            "Keep the previous negatives of each query as candidates (Arandjelovic et al. CVPR 2016).",
            resumed=True,
        ),
    ] = GIVEN_BY_RECIPE
    batch: Annotated[
        int, RecipeOption("Tuples per step (batch size), over which gradients are summed.", at_least=1, resumed=True)
    ] = GIVEN_BY_RECIPE
    refresh: Annotated[
        int,
        RecipeOption(
            "Steps after which negatives are chosen again within an epoch; 0 for once at the beginning of each epoch.",
            at_least=0,
            resumed=True,
        ),
    ] = GIVEN_BY_RECIPE
    loss: Annotated[
        str,
        RecipeOption(
            "Loss: of tuples; of all photos of a step by the object that they show (batch-hard to info-nce); "
            "or of classes with trainable centres (cosface, arcface), which need --batch-classes.",
            choices=LOSSES,
            resumed=True,
        ),
    ] = GIVEN_BY_RECIPE
    batch_classes: Annotated[
        str,
        RecipeOption(
            "Train on batches of classes instead of tuples: CLASSESxPHOTOS, such as 60x4 for 60 clusters with 4 photos "
            'each, none of which may show the same object; "" for tuples. See --small-classes for clusters with fewer '
            "photos.",
            resumed=True,
        ),
    ] = GIVEN_BY_RECIPE
    small_classes: Annotated[
        str,
        Option(
            "--batch-classes: what is done with classes of fewer photos: they are left out (drop), or their photos are "
            "repeated (repeat), which --zoom or --augment makes different, as for the photos of `tuples --singletons`.",
            choices=SMALL_CLASSES,
            resumed=True,
        ),
    ] = "drop"
    steps: Annotated[
        int | None,
        RecipeOption(
            "--batch-classes: steps of an epoch; none for as many as make the photos of an epoch as many as there are.",
            at_least=1,
            resumed=True,
        ),
    ] = GIVEN_BY_RECIPE
    memory: Annotated[
        int,
        Option(
            "--loss multi-similarity with --batch-classes: descriptors of earlier photos that each photo is compared "
            "with as well (cross-batch memory, Wang et al. CVPR 2020), the batch included; 0 for none.",
            at_least=0,
            resumed=True,
        ),
    ] = 0
    scale: Annotated[
        float | None,
        Option("cosface, arcface: factor of the cosines. If not given: 30, 64.", above=0, resumed=True),
    ] = None
    sub_centres: Annotated[
        int, Option("cosface, arcface: centres of each class (Deng et al. ECCV 2020).", at_least=1, resumed=True)
    ] = 1
    centre_lr: Annotated[
        float | None,
        Option(
            "cosface, arcface: learning rate of the class centres in the first epoch. If not given: 1,000 times --lr, "
            "as CosPlace has it.",
            above=0,
            resumed=True,
        ),
    ] = None
    margin: Annotated[
        float | None,
        Option(
            f"Margin of the loss. If not given: for the contrastive loss {_MARGINS}, {MARGIN} for others (Radenovic et "
            "al. TPAMI 2018); else the default of the loss. Of multi-similarity, the margin of its miner (0.1).",
            above=0,
            resumed=True,
        ),
    ] = None
    temperature: Annotated[
        float | None,
        Option("info-nce: temperature of the softmax. If not given: 0.05.", above=0, resumed=True),
    ] = None
    keep: Annotated[
        float,
        Option(
            "Weight of a penalty that keeps the descriptors of the training photos, and their similarities, near those "
            "before training, so that a network that learns from few objects forgets less; 0 for none.",
            at_least=0,
            resumed=True,
        ),
    ] = 0.0
    keep_size: Annotated[
        int | None,
        Option(
            "--keep: longest side, in pixels, of the photos that are described before training. Larger than --size, "
            "the network learns to see in small photos what it saw in large ones. If not given: --size.",
            at_least=1,
            resumed=True,
        ),
    ] = None
    initialize: Annotated[
        str,
        Option(
            "Initialization of NetVLAD's clusters before the first epoch: v1 or v2 (the two published formulas) by "
            "k-means of local descriptors of training photos, none to keep the network's clusters. auto is v1 if "
            "--model is a name such as vgg16_netvlad, and none if it is a file.",
            choices=INITIALIZATIONS,
            resumed=True,
        ),
    ] = "auto"
    optimizer: Annotated[
        str, RecipeOption("Optimizer; sgd has the momentum 0.9.", choices=OPTIMIZERS, resumed=True)
    ] = GIVEN_BY_RECIPE
    lr: Annotated[float, RecipeOption("Learning rate of the first epoch.", above=0, resumed=True)] = GIVEN_BY_RECIPE
    schedule: Annotated[
        str,
        RecipeOption(
            "Schedule of the learning rate: exponential, lr * exp(-decay * i) in epoch i; linear, step by step to the "
            "share --lr-end of it at the end of the last epoch; steps, times --lr-factor after the epochs --lr-epochs; "
            "or constant.",
            choices=SCHEDULES,
            resumed=True,
        ),
    ] = GIVEN_BY_RECIPE
    decay: Annotated[float, Option("Schedule exponential: decay.", at_least=0, resumed=True)] = 0.01
    lr_end: Annotated[
        float,
        RecipeOption("Schedule linear: last learning rate, as a share of --lr.", at_least=0, at_most=1, resumed=True),
    ] = GIVEN_BY_RECIPE
    lr_epochs: Annotated[
        str,
        RecipeOption(
            "Schedule steps: epochs after which the learning rate changes, separated by commas.",
            resumed=True,
        ),
    ] = GIVEN_BY_RECIPE
    lr_factor: Annotated[float, RecipeOption("Schedule steps: factor on the learning rate.", above=0, resumed=True)] = (
        GIVEN_BY_RECIPE
    )
    warm_up: Annotated[
        float,
        RecipeOption(
            "Epochs, or a part of one, in whose steps the learning rate grows linearly to that of the schedule.",
            at_least=0,
            resumed=True,
        ),
    ] = GIVEN_BY_RECIPE
    weight_decay: Annotated[
        float,
        RecipeOption(
            "Factor of the L2 penalty (adam, sgd), or of the weight decay apart from the gradient (adamw), of all "
            "trainable weights except GeM's exponent p and class centres.",
            at_least=0,
            resumed=True,
        ),
    ] = GIVEN_BY_RECIPE
    p_speed: Annotated[
        float | None,
        Option(
            "Factor on the learning rate of GeM's exponent p. If not given: 10, and 100 for one p per channel.",
            above=0,
            resumed=True,
        ),
    ] = None
    freeze: Annotated[
        int, Option("Number of layers of the trunk, from the first, to freeze.", at_least=0, resumed=True)
    ] = 0
    train_last: Annotated[
        int | None,
        RecipeOption(
            "Freeze the trunk but for its last blocks (of a vision transformer) or stages (of a CNN), so many, and the "
            "layers after them; none to train all.",
            at_least=0,
            resumed=True,
        ),
    ] = GIVEN_BY_RECIPE
    checkpoint_blocks: Annotated[
        bool,
        Option(
            "Vision transformers: compute each block again in the backward pass instead of storing its activations "
            "(gradient checkpointing), which takes less memory and more time.",
            resumed=True,
        ),
    ] = False
    size: Annotated[int, RecipeOption("Longest side of the training photos, in pixels.", at_least=1, resumed=True)] = (
        GIVEN_BY_RECIPE
    )
    padded: Annotated[
        bool,
        Option(
            "Pad photos to one square size, or train on each at its exact size.", flags="--padded/--exact", resumed=True
        ),
    ] = True
    augment: Annotated[
        float,
        RecipeOption(
            "Strength of random changes of brightness, contrast and saturation.", at_least=0, at_most=1, resumed=True
        ),
    ] = GIVEN_BY_RECIPE
    zoom: Annotated[
        float,
        RecipeOption(
            "Crop or shrink training photos at random, to at least this share of their sides; 1 for no change.",
            at_least=0.1,
            at_most=1,
            resumed=True,
        ),
    ] = GIVEN_BY_RECIPE
    flip: Annotated[bool, Option("Mirror half of the tuples, all photos of a tuple alike.", resumed=True)] = False
    binarize: Annotated[
        float,
        Option(
            "Edge maps only: binarise half of the queries, each at a random threshold of at most this value; 0 for "
            "never.",
            at_least=0,
            at_most=1,
            resumed=True,
        ),
    ] = 0.0
    edges: Annotated[str, Option(EDGES_HELP, resumed=True, kind=check_edges)] = ""
    chunk: Annotated[
        int | None,
        Option(
            "Maximum number of photos in the network at once, which bounds the memory of a step at the cost of another "
            "forward pass. If not given: all photos of a step.",
            at_least=1,
            resumed=True,
        ),
    ] = None
    devices: Annotated[
        int,
        Option(
            "Devices of this machine to train on: GPUs, or parts of the CPU where there is none. Each gets an equal "
            "part of the tuples of a step, and the result is that of one device.",
            at_least=1,
        ),
    ] = 1
    workers: Annotated[
        bool,
        Option(
            "Train together with the same command on other machines, with --devices on each. The environment variable "
            "TF_CONFIG lists the workers; RUN, --photos and --cache must be folders that all of them share."
        ),
    ] = False
    precision: Annotated[str, Option(TRAINING_PRECISION_HELP, choices=PRECISIONS, resumed=True)] = PRECISION
    jit: Annotated[bool, Option("Compile the training step with XLA.", resumed=True)] = False
    seed: Annotated[int, Option("Random seed.", at_least=0, resumed=True)] = 0
    cache: Annotated[
        Path | None,
        Option(
            "Folder for the resized photos, which several runs may share. If not given: RUN/photos.",
            kind=Writes("folder", FolderError),
        ),
    ] = None
    engine: Annotated[
        str, Option(engine_help("the photos are read and resized, and described for the whitening"), kind=check_engine)
    ] = LOCAL
    dataset: Annotated[
        str | None,
        Option(
            f"Collection to score the network on: {', '.join(DATASETS)}, or a ground truth NAME.json.",
            kind=check_dataset,
        ),
    ] = None
    dataset_photos: Annotated[Path | None, Option("Folder of the collection's photos.", kind=PHOTO_FOLDER)] = None
    gnd: Annotated[
        Path | None,
        Option(
            "The collection's ground truth. If not given: the file beside the collection's photos.",
            kind=Reads("any", GroundTruthError),
        ),
    ] = None
    every: Annotated[int, Option("Number of epochs between two scorings on --dataset.", at_least=1)] = 1
    score_validation: Annotated[
        bool,
        Option(
            "Compute the mAP before and after training over the photos that are set aside for validation, in a search "
            "among all photos of the tuples. The whitening is then learned without them, for this score only."
        ),
    ] = False
    best: Annotated[
        str | None,
        Option(
            "Epoch whose weights are kept: loss (lowest loss on the validation pairs), score (highest score on "
            "--dataset) or last. If not given: loss if tuples.npz sets pairs aside for validation, else last.",
            choices=BESTS,
            resumed=True,
        ),
    ] = None
    interpolate: Annotated[
        str,
        Option(
            "Share of the trained weights in the network that is kept; the others are those before training (Wortsman "
            "et al. CVPR 2022). A number from 0 to 1, or auto: of 0, 0.25, 0.5, 0.75 and 1 the share with the highest "
            "mAP for the photos that are set aside; 1 if none are.",
            kind=check_share,
        ),
    ] = "1"
    whiten: Annotated[
        str,
        RecipeOption("Whitening that is learned from all pairs after the last epoch.", choices=WHITENINGS),
    ] = GIVEN_BY_RECIPE
    dim: Annotated[int | None, Option("Dimensions that the whitening keeps. If not given: all.", at_least=1)] = None
    shrinkage: Annotated[
        float | None,
        Option(f"Lw only: shrinkage of the covariance of matching pairs. {SHRINKAGE_DEFAULT}", at_least=0),
    ] = None
    shift: Annotated[float | None, Option(f"Lw only: {SHIFT_HELP}", at_least=0, at_most=1)] = None
    test_size: Annotated[
        int, RecipeOption("Longest side of the photos for the whitening and for scores, in pixels.", at_least=1)
    ] = GIVEN_BY_RECIPE
    scales: Annotated[str, RecipeOption("Scales of the photos for the whitening and for scores.")] = GIVEN_BY_RECIPE
    mirror: Annotated[bool, Option(f"{MIRROR_HELP} Applies to the whitening and to scores.")] = False
    checkpoint_steps: Annotated[
        int,
        Option(
            "Steps between two checkpoints, the most that a killed run loses; 0 for one checkpoint per epoch.",
            at_least=0,
        ),
    ] = 100
    tensorboard: Annotated[bool, Option("Write the metrics of each epoch, and tuples, to RUN/tensorboard.")] = False
    resume: Annotated[
        bool, Option("Resume the run in RUN with the same options; --epochs may be higher than before.")
    ] = False

    def complete(self) -> None:
        """Sets options that were not given to the values of the recipe for the network's pooling.

        If the folder of the photos was not given, it is the folder that the source of tuples names, or else the folder
        that contains the source.
        """
        given = {name for name in recipe_of(self.model) if getattr(self, name) is not None}
        for name, value in recipe_of(self.model).items():
            if name not in given:
                object.__setattr__(self, name, value)
        if self.loss not in ON_LABELS + ON_CLASSES and "batch_classes" not in given:
            object.__setattr__(self, "batch_classes", "")
        if not self.batch_classes and "steps" not in given:
            object.__setattr__(self, "steps", None)
        if self.freeze and "train_last" not in given:
            object.__setattr__(self, "train_last", None)
        if self.batch_classes:  # the recipe's way to choose negatives is of tuples
            for name, value in _OF_TUPLES.items():
                if name not in given:
                    object.__setattr__(self, name, value)
        if self.photos is None:
            object.__setattr__(self, "photos", photos_of(self.tuples) or self.tuples.parent)

    def check(self) -> None:
        """Checks the range of each option, and the combination of options.

        Raises:
            ArgumentError: an option is out of range; an option is given without another that it needs, such as
                --dataset without --dataset-photos; or two options are given that cannot be combined, such as --jit and
                --chunk. The message names the options.
        """
        super().check()
        parse_scales(self.scales)
        if 0 < self.sample < self.negatives:
            raise ArgumentError(f"--sample must be 0 or at least --negatives {self.negatives}, got {self.sample}")
        if (self.dataset is None) != (self.dataset_photos is None):
            raise ArgumentError("--dataset needs --dataset-photos, the folder of its photos, and vice versa")
        if self.best == "score" and self.dataset is None:
            raise ArgumentError("--best score needs a collection to score on: give --dataset and --dataset-photos")
        if self.binarize and not self.edges:
            raise ArgumentError("--binarize needs edge maps: give --edges")
        if (address := address_of(self.photos)) and self.tuples.suffix != ".npz":
            raise ArgumentError(
                f"--photos {shown(address)} needs a file of tuples, which the step tuples makes: {self.tuples} is none"
            )
        if self.jit and (self.chunk is not None or self.refresh or not self.padded):
            raise ArgumentError("--jit cannot be combined with --exact, --chunk or --refresh: XLA needs fixed shapes")
        self._check_devices()
        self._check_classes()
        if not epochs_of(self.lr_epochs) and self.schedule == "steps":
            raise ArgumentError("--schedule steps needs --lr-epochs, such as --lr-epochs 10,20")
        if self.train_last is not None and self.freeze:
            raise ArgumentError("--train-last and --freeze both freeze layers: give one")
        if self.margin is not None and self.loss in _WITHOUT_MARGIN:
            raise ArgumentError(f"--margin cannot be combined with --loss {self.loss}, which has no margin")
        if self.temperature is not None and self.loss != "info-nce":
            raise ArgumentError(f"--temperature needs --loss info-nce, got --loss {self.loss}")
        if self.keep_size is not None and not self.keep:
            raise ArgumentError("--keep-size needs --keep, such as --keep 3")
        if self.shrinkage is not None and self.whiten != "lw":
            raise ArgumentError(f"--shrinkage needs --whiten lw, got --whiten {self.whiten}")
        if self.shift is not None and self.whiten != "lw":
            raise ArgumentError(f"--shift needs --whiten lw, got --whiten {self.whiten}")
        if self.dim is not None and self.whiten == "none":
            raise ArgumentError("--dim needs a whitening: give --whiten lw or pca")

    def _check_devices(self) -> None:
        self.refuse_engine(self.workers, "a command without --workers, whose processes read their own photos")
        count = self.devices * (worker_place().count if self.workers else 1)
        if self.devices == 1 and not self.workers:
            return
        if self.jit:
            raise ArgumentError("--jit cannot be combined with --devices and --workers: XLA compiles for one device")
        if self.memory:
            raise ArgumentError("--memory cannot be combined with --devices and --workers: it is on one device")
        if self.keep:
            raise ArgumentError("--keep cannot be combined with --devices and --workers: it is on one device")
        name, tuples = ("batch-classes", classes_and_photos(self.batch_classes)[0]) if self.batch_classes else (
            "batch", self.batch)  # fmt: skip
        if tuples % count:
            raise ArgumentError(
                f"--{name} must be a multiple of the {count} devices, which get equal parts of a step, got {tuples}"
            )

    def _check_classes(self) -> None:
        if self.batch_classes:
            classes, photos = classes_and_photos(self.batch_classes)
            if self.loss not in ON_LABELS + ON_CLASSES:
                raise ArgumentError(
                    f"--batch-classes cannot be combined with --loss {self.loss}, a loss of tuples: give --loss "
                    f"{', '.join(ON_LABELS + ON_CLASSES)}"
                )
            if self.loss in ON_LABELS and min(classes, photos) < 2:
                raise ArgumentError(
                    f"--loss {self.loss} compares photos of a class with each other and with other classes: "
                    f"--batch-classes must be at least 2x2, got {self.batch_classes}"
                )
            for name, value in _OF_TUPLES.items():
                if getattr(self, name) != value:
                    raise ArgumentError(f"--batch-classes cannot be combined with --{name}, which is of tuples")
            if 0 < self.memory < classes * photos:
                raise ArgumentError(
                    f"--memory must be 0 or at least {classes * photos}, the photos of a step, got {self.memory}"
                )
        elif self.loss in ON_CLASSES:
            raise ArgumentError(f"--loss {self.loss} needs --batch-classes, such as --batch-classes 32x1")
        if self.memory and (self.loss != "multi-similarity" or not self.batch_classes):
            raise ArgumentError("--memory needs --loss multi-similarity and --batch-classes")
        if self.small_classes == "repeat":
            if not self.batch_classes or classes_and_photos(self.batch_classes)[1] < 2:
                raise ArgumentError(
                    "--small-classes repeat needs --batch-classes with two photos or more of a class, such as 32x2, "
                    f"got {self.batch_classes or 'none'}"
                )
            if not self.augment and self.zoom == 1:
                raise ArgumentError(
                    "--small-classes repeat needs --zoom or --augment, which make repeated photos different, such as "
                    "--zoom 0.7 --augment 0.3"
                )
        if self.steps is not None and not self.batch_classes:
            raise ArgumentError("--steps needs --batch-classes: for tuples, give --queries and --batch")
        of_centres: dict[str, float | None] = {
            "scale": self.scale,
            "sub-centres": self.sub_centres - 1,
            "centre-lr": self.centre_lr,
        }
        for name, given in of_centres.items():
            if given and self.loss not in ON_CLASSES:
                raise ArgumentError(f"--{name} needs --loss {' or '.join(ON_CLASSES)}, got --loss {self.loss}")

    def fingerprint(self) -> dict[str, Any]:
        """Returns the options and files on which the trained weights depend, as a dict that is serialisable as JSON.

        A run can be resumed only if this dict equals the one in the checkpoint of the run.
        """
        # A linear schedule ends with the run, so that the number of epochs decides on each step.
        last = {"epochs": self.epochs} if self.schedule == "linear" else {}
        edges = {"edges": edges_state(self.edges)} if self.edges.startswith("structured:") else {}
        return (
            self.resumed()
            | last
            | edges
            | {
                "tuples": hashlib.sha256(self.tuples.read_bytes()).hexdigest()[:16],
                "model": model_identity(self.model).get("sha256", self.model),
            }
        )

    def in_common(self) -> dict[str, Any]:
        """Returns the options and files that processes that train together must have in common.

        These are all options but for paths, which may differ between machines, and those without an effect on the
        others; files are compared by their content.
        """
        options = {name: value for name, value in self.facts().items() if name not in _OF_EACH_WORKER}
        return options | self.fingerprint()

    def mining(self) -> MiningOptions:
        """Returns the subset of these options that determines how training tuples are drawn and mined."""
        return MiningOptions(
            queries=self.queries, pool=self.pool, negatives=self.negatives, positive=self.positive, sample=self.sample,
            remember=self.remember, refresh=self.refresh, batch=self.batch, seed=self.seed,
        )  # fmt: skip

    def class_batches(self) -> ClassOptions | None:
        """Returns how batches of classes are drawn; None if the run trains on tuples."""
        if not self.batch_classes:
            return None
        classes, each = classes_and_photos(self.batch_classes)
        excluded = self.loss in ("multi-similarity", "info-nce", *ON_CLASSES)
        return ClassOptions(
            classes=classes, each=each, steps=self.steps, repeat=self.small_classes == "repeat", excluded=excluded,
            seed=self.seed,
        )  # fmt: skip

    def augmentation(self) -> Augmentation | None:
        """Returns the augmentation of the training photos; None for no augmentation."""
        augmentation = Augmentation(self.augment, self.zoom, self.flip, self.binarize)
        return None if augmentation == Augmentation() else augmentation

    def margin_for(self, network: str) -> float | None:
        """Returns the margin of the loss: the option `margin` if it is given, else the published margin of the network.

        Args:
            network: name of the network, such as "vgg16_gem", whose backbone determines the published margin. Margins
                are published only for the contrastive loss.

        Returns:
            The margin. None if the option is not given and the loss is not the contrastive loss, so that the default
            of the loss is used, or the loss has no margin.
        """
        if self.margin is not None or self.loss != "contrastive":
            return self.margin
        return published_margin(network)

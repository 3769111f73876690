"""The options of a training run, checked, with the published recipe's values where none is given."""

import hashlib
import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keras_retrieval.errors import ArgumentError

from ..descriptors.describer import parse_scales
from ..networks.files import model_identity
from ..networks.precision import PRECISIONS
from ..photos.augmentation import Augmentation
from ..photos.edges import resolve_edges
from .hard_positives import POSITIVES
from .initialization import VERSIONS

LOSSES = ("contrastive", "triplet", "ranking", "batch-hard", "semi-hard", "average-precision")
WHITENINGS = ("lw", "pca", "none")
BESTS = ("loss", "score", "last")
INITIALIZATIONS = ("auto", *VERSIONS, "none")
RECIPE: dict[str, Any] = {
    "loss": "contrastive", "negatives": 5, "positive": "drawn", "sample": 0, "remember": False, "batch": 5,
    "refresh": 0, "lr": 1e-6, "whiten": "lw",
}  # fmt: skip
"""What holds where nothing else is given or published for the pooling (Radenovic et al. TPAMI 2018)."""

RECIPES: dict[str, dict[str, Any]] = {
    # Arandjelovic et al. CVPR 2016: 1,000 queries from refresh to refresh. The rate is for Adam, in place of their SGD.
    "netvlad": {
        "loss": "ranking", "negatives": 10, "positive": "nearest", "sample": 1000, "remember": True, "batch": 4,
        "refresh": 250, "lr": 1e-5, "whiten": "pca",
    },
}  # fmt: skip
"""By pooling: what was published for it and differs from RECIPE."""

MARGINS = {"vgg": 0.75, "resnet": 0.85, "torchresnet": 0.85, "alexnet": 0.7}
"""Of the contrastive loss by backbone (Radenovic et al. TPAMI 2018); 0.75 for others."""

PHOTOS_PER_DIMENSION = 4  # from so many on, Lw is learned as published, without shrinkage

_LEARNING = (
    "loss", "margin", "lr", "decay", "weight_decay", "p_speed", "negatives", "queries", "pool", "batch", "size",
    "padded", "chunk", "augment", "zoom", "flip", "binarize", "edges", "freeze", "precision", "jit", "refresh",
    "seed", "best", "positive", "sample", "remember", "initialize",
)  # fmt: skip


def published(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `train`, those that are None and in RECIPE as they were published for the network's pooling."""
    recipe = RECIPE | RECIPES.get(_name(arguments["model"]).rpartition("_")[2], {})
    return {key: recipe.get(key) if value is None else value for key, value in arguments.items()}


def help_of(option: str) -> str:
    """The end of an option's help: what it is if it is not given."""
    others = [f"{pooling} {recipe[option]}" for pooling, recipe in RECIPES.items() if option in recipe]
    return f"{', '.join([f'{RECIPE[option]}', *others])} if not given."


def _name(model: str) -> str:
    """The name under which a network was built; empty for a file that does not tell."""
    if Path(model).suffix != ".keras":
        return model
    try:
        with zipfile.ZipFile(model) as file:
            return str(json.loads(file.read("config.json"))["config"]["name"])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return ""  # whoever loads it says what is wrong with it


@dataclass(frozen=True)
class Options:
    """The options of `train` of the same names, which documents them."""

    tuples: Path
    photos: Path
    model: str
    output: Path
    cache: Path | None
    epochs: int
    queries: int
    pool: int
    negatives: int
    positive: str
    sample: int
    remember: bool
    batch: int
    refresh: int
    loss: str
    margin: float | None
    initialize: str
    lr: float
    decay: float
    weight_decay: float
    p_speed: float | None
    freeze: int
    size: int
    padded: bool
    augment: float
    zoom: float
    flip: bool
    binarize: float
    edges: str
    chunk: int | None
    precision: str
    jit: bool
    seed: int
    best: str | None
    dataset: str | None
    dataset_photos: Path | None
    gnd: Path | None
    every: int
    whiten: str
    dim: int | None
    shrinkage: float | None
    test_size: int
    scales: str
    mirror: bool
    checkpoint_steps: int
    tensorboard: bool
    resume: bool

    def check(self) -> None:
        """Refuses what cannot be meant, before anything is read.

        Raises:
            ValueError: with the option and what it takes.
        """
        self._check_choices()
        self._check_numbers()
        parse_scales(self.scales)
        resolve_edges(self.edges)
        self.augmentation()
        if (self.dataset is None) != (self.dataset_photos is None):
            raise ValueError("--dataset and --dataset-photos go together: which collection, and where its photos are")
        if self.best == "score" and self.dataset is None:
            raise ValueError("--best score needs a collection to score on: give --dataset and --dataset-photos")
        if self.binarize and not self.edges:
            raise ValueError("--binarize is for edge maps: give --edges")
        if self.jit and (self.chunk is not None or self.refresh or not self.padded):
            raise ValueError("--jit compiles whole steps of one shape: it takes no --exact, --chunk or --refresh")
        if self.margin is not None and self.loss == "average-precision":
            raise ValueError("--margin: the loss average-precision has none")
        if self.shrinkage is not None and self.whiten != "lw":
            raise ValueError(f"--shrinkage is of --whiten lw, not of --whiten {self.whiten}")
        if self.dim is not None and self.whiten == "none":
            raise ValueError("--dim shortens what a whitening makes: --whiten lw or pca")

    def augmentation(self) -> Augmentation | None:
        """What is done to the photos to train on; None for nothing."""
        augmentation = Augmentation(self.augment, self.zoom, self.flip, self.binarize)
        return None if augmentation == Augmentation() else augmentation

    def learning(self) -> dict[str, Any]:
        """What decides the weights, JSON-able: a run that goes on must have the same."""
        chosen = {name: getattr(self, name) for name in _LEARNING}
        return chosen | {
            "tuples": hashlib.sha256(self.tuples.read_bytes()).hexdigest()[:16],
            "model": model_identity(self.model).get("sha256", self.model),
        }

    def facts(self) -> dict[str, Any]:
        """All options, JSON-able."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}

    def margin_for(self, network: str) -> float | None:
        """The margin of the loss; None where the loss has none, or its own default holds."""
        if self.margin is not None or self.loss != "contrastive":
            return self.margin
        return next((margin for family, margin in MARGINS.items() if network.startswith(family)), 0.75)

    def shrinkage_for(self, photos: int, dimensions: int) -> float:
        """Lw's shrinkage: as given, else 1 where the photos are few for the dimensions, and 0, as published."""
        if self.shrinkage is not None:
            return self.shrinkage
        return 1.0 if photos < PHOTOS_PER_DIMENSION * dimensions else 0.0

    def _check_choices(self) -> None:
        choices = {"loss": LOSSES, "positive": POSITIVES, "whiten": WHITENINGS, "best": BESTS}
        choices |= {"initialize": INITIALIZATIONS, "precision": PRECISIONS}
        for name, known in choices.items():
            value = getattr(self, name)
            if value not in known and not (name == "best" and value is None):
                raise ArgumentError(f"--{name} must be one of {', '.join(known)}, got {value}")

    def _check_numbers(self) -> None:
        at_least = {
            "epochs": 1, "queries": 1, "pool": 1, "negatives": 1, "sample": 0, "batch": 1, "refresh": 0, "decay": 0,
            "weight_decay": 0, "freeze": 0, "size": 1, "chunk": 1, "seed": 0, "every": 1, "dim": 1, "shrinkage": 0,
            "test_size": 1, "checkpoint_steps": 0,
        }  # fmt: skip
        above_0 = ("margin", "lr", "p_speed")
        if 0 < self.sample < self.negatives:
            raise ValueError(f"--sample {self.sample}: it has fewer photos than --negatives {self.negatives} of them")
        for name in ("augment", "binarize"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"--{name} {getattr(self, name)}: it lies in 0..1")
        for name in (*at_least, *above_0):
            value = getattr(self, name)
            if value is None:
                continue
            least = at_least.get(name)
            if not math.isfinite(value) or (value <= 0 if least is None else value < least):
                wanted = "above 0" if least is None else f"{least} or more"
                raise ValueError(f"--{name.replace('_', '-')} {value}: it is {wanted}")

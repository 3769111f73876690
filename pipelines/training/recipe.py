"""The published training recipes, from which options of `train` take their default values."""

import json
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..command.options import Option
from .mining_options import MiningOptions

RECIPE: dict[str, Any] = {
    "loss": "contrastive", "negatives": MiningOptions.negatives, "positive": MiningOptions.positive,
    "sample": MiningOptions.sample, "remember": MiningOptions.remember, "batch": MiningOptions.batch,
    "refresh": MiningOptions.refresh, "lr": 1e-6, "whiten": "lw", "batch_classes": "", "steps": None, "epochs": 30,
    "optimizer": "adam", "schedule": "exponential", "lr_end": 0.0, "lr_epochs": "", "lr_factor": 0.1, "warm_up": 0.0,
    "weight_decay": 1e-6, "train_last": None, "size": 362, "augment": 0.0, "zoom": 1.0, "test_size": 1024,
    "scales": "1,0.7071,0.5",
}  # fmt: skip
"""Dict from option to default value, for all networks whose pooling is not in RECIPES (Radenovic et al. TPAMI 2018)."""

_SALAD: dict[str, Any] = {
    "loss": "multi-similarity", "batch_classes": "60x4", "optimizer": "adamw", "lr": 6e-5, "weight_decay": 9.5e-9,
    "schedule": "linear", "lr_end": 0.2, "epochs": 4, "train_last": 4, "size": 224, "test_size": 322, "scales": "1",
    "whiten": "none",
}  # fmt: skip
"""Izquierdo, Civera: CVPR 2024, and the published training code. It trains on squares, with dropout in the aggregator,
and lets the learning rate fall for 4,000 steps, which is 4 epochs of GSV-Cities less 4 %."""

RECIPES: dict[str, dict[str, Any]] = {
    # Arandjelovic et al. CVPR 2016: negatives are chosen again every 1,000 queries. The learning rate is for Adam; the
    # authors use SGD.
    "netvlad": {
        "loss": "ranking", "negatives": 10, "positive": "nearest", "sample": 1000, "remember": True, "batch": 4,
        "refresh": 250, "lr": 1e-5, "whiten": "pca",
    },
    "salad": _SALAD,
    # No training code of MegaLoc is published; its descriptor is SALAD's with a linear layer.
    "megaloc": _SALAD,
    # The published training code, for DINOv2-B. It trains on squares.
    "boq": {
        "loss": "multi-similarity", "batch_classes": "128x4", "optimizer": "adamw", "lr": 1e-4, "weight_decay": 1e-4,
        "schedule": "steps", "lr_epochs": "10,20", "lr_factor": 0.1, "warm_up": 10.0, "epochs": 40, "train_last": 2,
        "size": 224, "test_size": 322, "scales": "1", "whiten": "none",
    },
    # The published training code, for a ResNet50. Its warm-up has 650 steps, and its weight decay is an L2 penalty.
    "mixvpr": {
        "loss": "multi-similarity", "batch_classes": "120x4", "optimizer": "sgd", "lr": 0.05, "weight_decay": 1e-3,
        "schedule": "steps", "lr_epochs": "5,10,15", "lr_factor": 1 / 3, "warm_up": 1.2, "epochs": 25, "train_last": 1,
        "size": 320, "test_size": 320, "scales": "1", "whiten": "none",
    },
    # Berton et al. CVPR 2022 and the published training code, for ResNets: layer3 and layer4 are trained, on squares of
    # 512 px that show at least half of the area, with random changes of hue as well, one group of classes an epoch.
    "cosplace": {
        "loss": "cosface", "batch_classes": "32x1", "steps": 10_000, "lr": 1e-5, "weight_decay": 0.0,
        "schedule": "constant", "epochs": 50, "train_last": 2, "size": 512, "augment": 0.7, "zoom": 0.71, "scales": "1",
        "whiten": "none",
    },
}  # fmt: skip
"""Dict from pooling to the options whose default values differ from RECIPE."""

MARGINS = {"vgg": 0.75, "resnet": 0.85, "torchresnet": 0.85, "alexnet": 0.7}
"""Dict from the beginning of a backbone's name to the margin of the contrastive loss (Radenovic et al. TPAMI 2018)."""

MARGIN = 0.75  # margin of the contrastive loss for other backbones

GIVEN_BY_RECIPE: Any = None
"""Default of an option whose value is taken from the network's recipe when the options object is made."""


@dataclass(frozen=True)
class RecipeOption(Option):
    """An option with the default value of the network's recipe; its help text ends with the value of each recipe."""

    def parameter(self, name: str) -> Any:
        """Returns the option as a Typer parameter.

        Args:
            name: the name of the option's field, which must have a value in RECIPE.
        """
        by_value: dict[str, list[str]] = {}
        for pooling, recipe in RECIPES.items():
            if name in recipe and recipe[name] != RECIPE[name]:
                by_value.setdefault(_shown(recipe[name]), []).append(pooling)
        others = [f"{value} for {', '.join(poolings)}" for value, poolings in by_value.items()]
        values = "; ".join([_shown(RECIPE[name]), *others])
        return super(RecipeOption, replace(self, help=f"{self.help} If not given: {values}.")).parameter(name)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value) if value not in (None, "") else "none"


def recipe_of(model: str) -> dict[str, Any]:
    """Returns the published training recipe for a network, which its pooling determines.

    Args:
        model: the name of a network, such as "vgg16_netvlad", or the path of a .keras file, which contains the name.

    Returns:
        A dict from the name of each option of `train` that the recipe defines to its value.
    """
    return RECIPE | RECIPES.get(_network_name(model).rpartition("_")[2], {})


def published_margin(network: str) -> float:
    """Returns the published margin of the contrastive loss for the backbone of a network.

    Args:
        network: name of the network, such as "vgg16_gem", which begins with the name of the backbone.
    """
    return next((margin for backbone, margin in MARGINS.items() if network.startswith(backbone)), MARGIN)


def _network_name(model: str) -> str:
    """Returns the name with which a network was built, "" if a .keras file does not contain it."""
    if Path(model).suffix != ".keras":
        return model
    try:
        with zipfile.ZipFile(model) as file:
            return str(json.loads(file.read("config.json"))["config"]["name"])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return ""  # loading the network raises the error that names the file

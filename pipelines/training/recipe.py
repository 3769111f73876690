"""The published training recipes: the default values of options of `train`."""

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
    "refresh": MiningOptions.refresh, "lr": 1e-6, "whiten": "lw",
}  # fmt: skip
"""Option -> value, for all networks without a recipe of their own (Radenovic et al. TPAMI 2018)."""

RECIPES: dict[str, dict[str, Any]] = {
    # Arandjelovic et al. CVPR 2016: a refresh every 1,000 queries. The rate is for Adam, in place of their SGD.
    "netvlad": {
        "loss": "ranking", "negatives": 10, "positive": "nearest", "sample": 1000, "remember": True, "batch": 4,
        "refresh": 250, "lr": 1e-5, "whiten": "pca",
    },
}  # fmt: skip
"""Pooling -> option -> value, where it differs from RECIPE."""

MARGINS = {"vgg": 0.75, "resnet": 0.85, "torchresnet": 0.85, "alexnet": 0.7}
"""Backbone -> margin of the contrastive loss (Radenovic et al. TPAMI 2018)."""

MARGIN = 0.75  # for other backbones

PHOTOS_PER_DIMENSION = 4
"""From this many photos per dimension on, Lw is learned without shrinkage, as published."""

GIVEN_BY_RECIPE: Any = None
"""The default of an option whose value is filled in when the options object is made."""


@dataclass(frozen=True)
class RecipeOption(Option):
    """An option whose default comes from the recipe; its help text ends with the default values."""

    def parameter(self, name: str) -> Any:
        """Returns the option as a Typer parameter."""
        others = [f"{recipe[name]} for {pooling}" for pooling, recipe in RECIPES.items() if name in recipe]
        values = ", ".join([str(RECIPE[name]), *others])
        return super(RecipeOption, replace(self, help=f"{self.help} If not given: {values}.")).parameter(name)


def recipe_of(model: str) -> dict[str, Any]:
    """Returns the published values of the options for a network's pooling.

    Args:
        model: the name of a network, such as "vgg16_netvlad", or the path of a .keras file.
    """
    return RECIPE | RECIPES.get(_network_name(model).rpartition("_")[2], {})


def published_margin(network: str) -> float:
    """Returns the margin of the contrastive loss for the backbone in a network's name."""
    return next((margin for backbone, margin in MARGINS.items() if network.startswith(backbone)), MARGIN)


def published_shrinkage(photos: int, dimensions: int) -> float:
    """Returns the published shrinkage of Lw: 1 if there are few photos for the number of dimensions, else 0."""
    return 1.0 if photos < PHOTOS_PER_DIMENSION * dimensions else 0.0


def _network_name(model: str) -> str:
    """The name that a network was built with; "" if the file does not contain one."""
    if Path(model).suffix != ".keras":
        return model
    try:
        with zipfile.ZipFile(model) as file:
            return str(json.loads(file.read("config.json"))["config"]["name"])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return ""  # loading the network raises the error that names the file

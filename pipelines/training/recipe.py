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
    "refresh": MiningOptions.refresh, "lr": 1e-6, "whiten": "lw",
}  # fmt: skip
"""Dict from option to default value, for all networks whose pooling is not in RECIPES (Radenovic et al. TPAMI 2018)."""

RECIPES: dict[str, dict[str, Any]] = {
    # Arandjelovic et al. CVPR 2016: negatives are chosen again every 1,000 queries. The learning rate is for Adam; the
    # authors use SGD.
    "netvlad": {
        "loss": "ranking", "negatives": 10, "positive": "nearest", "sample": 1000, "remember": True, "batch": 4,
        "refresh": 250, "lr": 1e-5, "whiten": "pca",
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
        others = [f"{recipe[name]} for {pooling}" for pooling, recipe in RECIPES.items() if name in recipe]
        values = ", ".join([str(RECIPE[name]), *others])
        return super(RecipeOption, replace(self, help=f"{self.help} If not given: {values}.")).parameter(name)


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

"""The designs of invented buildings. Sizes, colours, openings and ornaments are drawn from a random generator.

A design adds the faces of a building to a model, around the origin, with the front towards -y.
"""

from collections.abc import Callable

import numpy as np

from .houses import canal_houses, cinema, palazzo, timbered_inn
from .monuments import castle, cathedral, temple, town_hall
from .solids import Model

Design = Callable[[Model], None]
DESIGNS: dict[str, Design] = {
    "town-hall": town_hall,
    "canal-houses": canal_houses,
    "cathedral": cathedral,
    "temple": temple,
    "timbered-inn": timbered_inn,
    "palazzo": palazzo,
    "castle": castle,
    "cinema": cinema,
}


def building_names(count: int) -> list[str]:
    """The names of `count` buildings: the designs in turn, with a number from the second round on."""
    names = list(DESIGNS)
    rounds = [(i // len(names) + 1, names[i % len(names)]) for i in range(count)]
    return [name if turn == 1 else f"{name}-{turn}" for turn, name in rounds]


def make_building(number: int, seed: int) -> Model:
    """Makes building `number` (from 0) of the collection with a random seed."""
    model = Model(np.random.default_rng([seed, number]))
    design = list(DESIGNS.values())[number % len(DESIGNS)]
    design(model)
    return model

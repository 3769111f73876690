"""Generates the 3D models of invented buildings.

A design is a function that adds the faces of one kind of building, such as a cathedral, to a model. The building stands
at the origin and its front faces -y. Sizes, colours, windows and ornaments are drawn from the model's random generator,
so that two buildings of one design differ.
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
    """Returns the names of the buildings of a collection.

    The designs are used in turn, so that building 8 has the same design as building 0 and is named "town-hall-2".

    Args:
        count: the number of buildings.
    """
    names = list(DESIGNS)
    rounds = [(i // len(names) + 1, names[i % len(names)]) for i in range(count)]
    return [name if turn == 1 else f"{name}-{turn}" for turn, name in rounds]


def make_building(number: int, seed: int) -> Model:
    """Generates one building of a collection.

    Args:
        number: the number of the building, from 0, which determines its design.
        seed: the random seed of the collection.

    Returns:
        The 3D model of the building.
    """
    model = Model(np.random.default_rng([seed, number]))
    design = list(DESIGNS.values())[number % len(DESIGNS)]
    design(model)
    return model

"""Commands that turn photos into descriptors, 3D models, training tuples and trained networks.

Each command of the shell, such as `keras-retrieval extract`, is also a function here, such as `pipelines.extract(...)`,
with dashes replaced by underscores. The commands, called steps, exchange data only through files.
"""

import importlib
from typing import TYPE_CHECKING, Any

from keras_retrieval.steps import steps_of

if TYPE_CHECKING:
    from .cleaning.clean import clean as clean
    from .copies.duplicates import duplicates as duplicates
    from .descriptors.extract import extract as extract
    from .evaluation.evaluate import evaluate as evaluate
    from .gps.positions import positions as positions
    from .networks.build import build as build
    from .networks.convert import convert as convert
    from .networks.weights import weights as weights
    from .photos.edge_maps import edge_maps as edge_maps
    from .samples.sample_photos import sample_photos as sample_photos
    from .sfm.pairs import pairs as pairs
    from .sfm.reconstruct import reconstruct as reconstruct
    from .training.classify import classify as classify
    from .training.train import train as train
    from .training.train_proposals import train_proposals as train_proposals
    from .training_tuples.tuples import tuples as tuples
    from .whitening.whiten import whiten as whiten

_STEPS = steps_of("pipelines")
__all__ = [*_STEPS]


def __getattr__(name: str) -> Any:
    if name in _STEPS:
        return getattr(importlib.import_module(_STEPS[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*_STEPS]
